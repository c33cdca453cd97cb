"""What `PictureCodec` asks of its learned part, and the noise that it is given to draw from."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from framefill.codec import counter, cut
from framefill.codec.entropy import EntropyModel

COLOURS = 3  # planes of noise of one draw


class Learned(Protocol):
    """As codec/model.py has it: pictures are (B, 3, H, W) in [-1, 1], sides multiples of `stride`."""

    stride: int
    entropy: EntropyModel

    @property
    def qualities(self) -> int:
        """How many there are, 0 the smallest files."""
        ...

    def symbols(self, x: Tensor, quality: Tensor) -> Tensor:
        """Whole numbers (B, S, h, w) int64."""
        ...

    def values(self, symbols: Tensor, quality: Tensor) -> Tensor:
        """What the decoder sees of them, float32 (B, C, h, w)."""
        ...

    def mean(self, values: Tensor, quality: Tensor) -> Tensor:
        """The faithful picture."""
        ...

    def sample(self, values: Tensor, quality: Tensor, noise: Callable[[int], Tensor], steps: int) -> Tensor:
        """A realistic picture from noise (B, 3, H, W), draw 0, 1, ... as it needs them."""
        ...

    def fingerprint(self, quality: int) -> bytes:
        """Four bytes that a file names model and quality by."""
        ...


def fingerprints(model: Learned) -> list[bytes]:
    """Of every quality."""
    return [model.fingerprint(quality) for quality in range(model.qualities)]


def noise_at(rows: slice, columns: slice, stride: int, seed: int, device: Any) -> Callable[[int], Tensor]:
    """The draws (1, 3, H, W) of noise over latents at these rows and columns of a picture: functions of the place."""
    place = cut.times(rows, stride), cut.times(columns, stride)

    def draw(number: int) -> Tensor:
        found = counter.field(*place, seed=seed, first=COLOURS * number, channels=COLOURS)
        return torch.from_numpy(found)[None].to(device)

    return draw
