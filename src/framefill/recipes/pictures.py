"""What recipes that learn from single pictures of one size share: where these come from, and how they are given."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from framefill.recipes.recipe import Source, stacked
from framefill.video.folder import Tell
from framefill.video.images.album import Album


@dataclass(frozen=True)
class OfPictures:
    """The pictures: of `channels` x `height` x `width`, half of those learnt from mirrored if `flip`."""

    channels: int = 3
    height: int = 32
    width: int = 32
    flip: bool = True

    def source(
        self, data: str | Path, split: str, *, cache: Path | None = None, progress: Tell | None = None
    ) -> Source:
        """Pictures of a split of `data`, a folder or .zip of them; mirrored for training only."""
        return Album.open(
            data, split, height=self.height, width=self.width, channels=self.channels,
            flip=self.flip and split == "train", cache=cache, progress=progress,
        )  # fmt: skip

    def batch(self, source: Source, seeds: Sequence[int]) -> Tensor:
        """Training pictures (B, C, H, W) in [-1, 1], one per seed."""
        return stacked(source, seeds, (self.channels, self.height, self.width))[:, 0]

    def suited(self, data: str | Path) -> Self:
        """The recipe for `data`: this one, pictures are cut to its size."""
        return self

    def about(self, source: Any) -> dict[str, Any]:
        """What must be known of the data to use the model: nothing, pixels are pixels."""
        return {}
