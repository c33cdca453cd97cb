"""The contract of pseudo-videos: images to clips whose last frame is the image, and whose first is the most corrupted.

      x_T = image,   x_{T-t} = corruption t of it,   t = 1..T-1          frame i of the clip is x_{i+1}

A clip is a pure function of its image and of its own stream of random numbers, made where it is needed and never
stored. A corruption builds on what is there already: on the latest frame, which makes the frames a first-order Markov
chain, or on the mean of all of them (section 4.2 of the paper, "high-order").
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput

History = Callable[[Sequence[Tensor]], Tensor]
"""What the next corruption starts from, given the frames so far, the image first."""


def first_order(frames: Sequence[Tensor]) -> Tensor:
    """The latest frame."""
    return frames[-1]


def high_order(frames: Sequence[Tensor]) -> Tensor:
    """The mean of all frames so far, the image among them."""
    return torch.stack(list(frames)).mean(0)


@dataclass(frozen=True)
class PseudoVideo(ABC):
    """Clips of `frames` frames from images; a video needs at least 2, and `Still` makes 1."""

    frames: int

    def __post_init__(self) -> None:
        if self.frames < self.fewest():
            raise BadInput(
                f"this pseudo-video takes at least {self.fewest()} frames, got {self.frames}; for the image alone take "
                "still"
            )

    def __call__(self, images: Tensor, rng: Rng) -> Tensor:
        """Images (B, C, H, W) to clips (B, frames, C, H, W); the last frame is the image, to the bit.

        `rng` has one stream per image. BadInput for images that are not such a batch.
        """
        if images.ndim != 4 or not images.is_floating_point() or 0 in images.shape[1:]:
            kind = str(images.dtype).removeprefix("torch.")
            raise BadInput(f"pseudo-videos are made of floating-point images (B, C, H, W), got {kind} {images.shape}")
        if len(rng) != len(images):
            raise BadInput(f"{len(images)} images with {len(rng)} random streams; give one each")
        return torch.stack([*reversed(self.corrupted(images, rng)), images], 1)

    @classmethod
    def fewest(cls) -> int:
        """The least number of frames that this kind is defined for."""
        return 2

    @abstractmethod
    def corrupted(self, images: Tensor, rng: Rng) -> list[Tensor]:
        """The `frames` - 1 other frames (B, C, H, W), the least corrupted first."""


@dataclass(frozen=True)
class Still(PseudoVideo):
    """The image as a clip of one frame: what the others are compared with."""

    frames: int = 1

    def __post_init__(self) -> None:
        if self.frames != 1:
            raise BadInput(f"a still image is a clip of 1 frame, got {self.frames}; choose another pseudo-video")

    def corrupted(self, images: Tensor, rng: Rng) -> list[Tensor]:
        """None."""
        return []
