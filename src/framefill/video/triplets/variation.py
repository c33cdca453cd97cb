"""One way of looking at frames, the same for all frames of a triplet: what is between them does not change.

A frame is cropped, perhaps from a larger piece shrunk to the size, mirrored, transposed, its colours exchanged and its
levels bent a little. Shrinking brings slower and faster motion out of one clip; the rest keeps a network from learning
which way things fall.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from framefill.errors import BadInput

MOST_SHRUNK = 3.0
UNSHRUNK = 0.5  # share of crops whose pixels are those of the clip
GAMMA, GAIN = 0.2, 0.15  # largest logarithms of exponent and factor of the levels


@dataclass(frozen=True, eq=False)
class Variation:
    """A piece of `box` (top, left, height, width) in pixels, shrunk to `size`, then turned about and recoloured.

    `size` is (height, width) before `transposed`; `mirrored` says of rows and of columns whether their order is
    reversed; `channels` is the new order of the channels; `levels` (256,) the new value of every level.
    """

    box: tuple[int, int, int, int]
    size: tuple[int, int]
    transposed: bool
    mirrored: tuple[bool, bool]
    channels: tuple[int, ...]
    levels: np.ndarray

    def __call__(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """Frames, each uint8 (H, W, C), as they look then, (T, H, W, C): of the size, or that transposed."""
        top, left, height, width = self.box
        seen = np.stack([_shrunk(f[top : top + height, left : left + width], self.size) for f in frames])
        rows, columns = (slice(None, None, -1 if m else 1) for m in self.mirrored)
        seen = seen[:, rows, columns, list(self.channels)]
        return np.ascontiguousarray(self.levels[seen.swapaxes(1, 2) if self.transposed else seen])


def plain(shape: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator) -> Variation:
    """A crop of `size` (height, width) at a random place in frames of `shape` (height, width, channels), no more."""
    same = np.arange(256, dtype=np.uint8)
    box = _placed(shape, size, rng)
    return Variation(box, size, False, (False, False), tuple(range(shape[2])), same)


def drawn(shape: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator) -> Variation:
    """Any variation that gives frames of `size` (height, width) from frames of `shape` (height, width, channels)."""
    crossed = size[::-1]
    transposed = bool(rng.random() < 0.5) and crossed[0] <= shape[0] and crossed[1] <= shape[1]
    before = crossed if transposed else size
    scale = _scale(shape, before, rng)
    box = _placed(shape, (round(before[0] * scale), round(before[1] * scale)), rng)
    mirrored = (bool(rng.random() < 0.5), bool(rng.random() < 0.5))
    natural = rng.random() < 0.5
    channels = tuple(range(shape[2])) if natural else tuple(int(c) for c in rng.permutation(shape[2]))
    return Variation(box, before, transposed, mirrored, channels, _levels(rng))


def _scale(shape: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator) -> float:
    most = min(MOST_SHRUNK, shape[0] / size[0], shape[1] / size[1])
    return float(rng.uniform(1, most)) if most > 1 and rng.random() >= UNSHRUNK else 1.0


def _placed(shape: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    room = (shape[0] - size[0], shape[1] - size[1])
    if min(size) < 1 or min(room) < 0:
        raise BadInput(f"cannot crop {size} from frames of {shape[:2]}; give a smaller height and width")
    return int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1)), *size


def _levels(rng: np.random.Generator) -> np.ndarray:
    gamma, gain = np.exp(rng.uniform(-GAMMA, GAMMA)), np.exp(rng.uniform(-GAIN, GAIN))
    bent = 255 * gain * (np.arange(256) / 255) ** gamma
    return bent.round().clip(0, 255).astype(np.uint8)


def _shrunk(piece: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if piece.shape[:2] == size:
        return piece
    # Hamming's window covers the same area as a box, but its pixels do not jump where the scale is no whole number.
    grey = piece.shape[2] == 1
    image = Image.fromarray(np.ascontiguousarray(piece[..., 0] if grey else piece))
    return np.asarray(image.resize(size[::-1], Image.Resampling.HAMMING)).reshape(*size, -1)
