"""Stochastic Moving MNIST from real handwritten digits: endless clips of digits that bounce at random.

The dynamics are those of the SVG / MCVD data set (facts, section 1.3): a digit of 32x32 moves on a 64x64 canvas with an
integer velocity in -4..4 per axis; at a wall it is clamped, its velocity away from the wall is redrawn in 1..4 and the
other component in -4..4; digits are added and clipped. The digits are 5,000 MNIST images shipped with framefill
(`data/digits.png`, 28x28 each, sorted by class), or the user's full MNIST; train, validation and test never share one.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from framefill.arrays import derive
from framefill.errors import BadInput
from framefill.video.datasets.mnist import SMMNIST
from framefill.video.folder import SPLITS

Bytes = NDArray[np.uint8]
CANVAS, DIGIT, FASTEST = 64, 32, 4


@cache
def digits(split: str, mnist: SMMNIST | None = None) -> Bytes:
    """The handwritten digits (n, 32, 32) of a split: of `mnist`, or of those shipped with framefill."""
    if split not in SPLITS:
        raise BadInput(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    tiles = mnist.digits(split) if mnist else _shipped(split)
    resized = [Image.fromarray(tile).resize((DIGIT, DIGIT), Image.Resampling.BILINEAR) for tile in tiles]
    return np.stack([np.asarray(tile) for tile in resized])


def _shipped(split: str) -> Bytes:
    """The digits (n, 28, 28) of `data/digits.png`: of every 10 neighbours 8 train, 1 validation, 1 test."""
    with files("framefill").joinpath("data/digits.png").open("rb") as file:
        sheet = np.asarray(Image.open(file))
    tiles = sheet.reshape(100, 28, 50, 28).transpose(0, 2, 1, 3).reshape(-1, 28, 28)
    place = np.arange(len(tiles)) % 10
    return tiles[{"train": place < 8, "val": place == 8, "test": place == 9}[split]]


def bounce(draw: np.random.RandomState, length: int, position: list[int], velocity: list[int]) -> NDArray[np.int64]:
    """The places (length, 2) of a digit's corner, x then y, drawing new velocities from `draw` at every wall."""
    limit = CANVAS - DIGIT - 1
    path = np.empty((length, 2), np.int64)
    for step in range(length):
        # Order of axes and of draws as in the published generator, so that its trajectories come out the same.
        for axis in (1, 0):
            if position[axis] < 0:
                position[axis] = 0
                velocity[axis] = draw.randint(1, FASTEST + 1)
                velocity[1 - axis] = draw.randint(-FASTEST, FASTEST + 1)
            elif position[axis] > limit:
                position[axis] = limit
                velocity[axis] = draw.randint(-FASTEST, 0)
                velocity[1 - axis] = draw.randint(-FASTEST, FASTEST + 1)
        path[step] = position
        position = [p + v for p, v in zip(position, velocity, strict=True)]
    return path


def moving_digits(draw: np.random.RandomState, shapes: Bytes, *, length: int, count: int = 2) -> Bytes:
    """A clip (length, 64, 64, 1) of `count` of the `shapes` (n, 32, 32) in motion."""
    frames = np.zeros((length, CANVAS, CANVAS), np.int64)
    for _ in range(count):
        shape = shapes[draw.randint(len(shapes))]
        start = [draw.randint(CANVAS - DIGIT), draw.randint(CANVAS - DIGIT)]
        velocity = [draw.randint(-FASTEST, FASTEST + 1), draw.randint(-FASTEST, FASTEST + 1)]
        for frame, (x, y) in zip(frames, bounce(draw, length, start, velocity), strict=True):
            frame[y : y + DIGIT, x : x + DIGIT] += shape
    return np.minimum(frames, 255).astype(np.uint8)[..., None]


@dataclass(frozen=True)
class MovingDigits:
    """Moving digits of one split as a source of training windows: clip i is a pure function of (split, i)."""

    split: str = "train"
    count: int = 2
    mnist: SMMNIST | None = None

    def sample(self, seed: int, *, length: int, strides: tuple[int, ...] = (1,)) -> Bytes:
        """A window (length, 64, 64, 1), every s-th frame of a clip with s drawn from `strides`."""
        draw = np.random.RandomState(derive(seed, SPLITS.index(self.split)) % 2**32)
        stride = strides[draw.randint(len(strides))]
        frames = moving_digits(draw, digits(self.split, self.mnist), length=(length - 1) * stride + 1, count=self.count)
        return frames[::stride]
