"""`ImageModel`: pictures from nothing, and pictures of which a part is known. Verbs, no mathematics."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.arrays import Rng
from framefill.device import bf16_pays
from framefill.diffusion.denoiser import Model
from framefill.diffusion.guide import Clipped
from framefill.diffusion.observe import Observation, Replacement
from framefill.diffusion.sample import DDPM, Sampler
from framefill.errors import BadInput
from framefill.video.clip import fit, levels, tensor, with_channels
from framefill.video.images.drawing import Pictures, streams


@dataclass(frozen=True)
class ImageModel:
    """A trained model of pictures of `height` x `width` pixels, and how to draw from it.

    Same seed, same pictures: picture i is the same alone or among many, but for rounding.
    """

    model: Model
    channels: int
    height: int
    width: int
    sampler: Sampler = field(default_factory=lambda: DDPM(100))
    device: str = "cpu"
    card: Any = None

    def generate(self, count: int = 1, *, seed: int = 0, batch: int = 64) -> Pictures:
        """`count` pictures (count, H, W, C) from nothing, drawn `batch` at a time."""
        return np.concatenate(list(self.stream(count, seed=seed, batch=batch)))

    def stream(self, count: int, *, seed: int = 0, batch: int = 64) -> Iterator[Pictures]:
        """The same, `batch` after batch (n, H, W, C), so that any number fits into memory."""
        model = Clipped(self.model)
        yield from (self._drawn(model, rng) for rng in streams(seed, count, batch))

    def complete(
        self, picture: Pictures, known: NDArray[np.bool_], *, samples: int = 1, seed: int = 0, batch: int = 64
    ) -> Pictures:
        """`picture` (H, W, C) with the pixels drawn anew where `known` (H, W) is False: (samples, H, W, C).

        By replacement: at every step the estimate of the known pixels is what they are. They come back untouched. Their
        influence on the others is an approximation, the more so the fewer they are. BadInput for another size.
        """
        given, flags = np.asarray(picture), np.asarray(known, bool)
        shape = (self.height, self.width)
        if given.dtype != np.uint8 or given.ndim != 3 or given.shape[:2] != shape or flags.shape != shape:
            raise BadInput(
                f"a {given.dtype} picture {given.shape} with marks {flags.shape}; this model completes uint8 pictures "
                f"({self.height}, {self.width}, C) with marks ({self.height}, {self.width}); see `fitted`"
            )
        given = with_channels(given, self.channels)
        seen = tensor(given).where(torch.from_numpy(flags), torch.nan)[None]
        parts = []
        for rng in streams(seed, samples, batch):
            y = seen.expand(len(rng), *seen.shape[1:]).to(self.device)
            model = Clipped(self.model)
            parts.append(self._drawn(Replacement(model, Observation(y)) if flags.any() else model, rng))
        made = np.concatenate(parts)
        made[:, flags] = given[flags]
        return made

    def fitted(self, picture: Pictures) -> Pictures:
        """A picture (H', W', C') as the model takes it: resized to cover its size, cropped, its channels."""
        return fit(with_channels(picture, self.channels)[None], self.height, self.width)[0]

    def _drawn(self, model: Model, rng: Rng) -> Pictures:
        like = torch.empty(len(rng), self.channels, self.height, self.width, device=self.device)
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=bf16_pays(self.device)):
            return levels(self._sample(model, like, rng))

    def _sample(self, model: Model, like: Tensor, rng: Rng) -> Tensor:
        with torch.inference_mode():
            return self.sampler(model, like, None, rng)
