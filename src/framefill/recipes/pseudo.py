"""What the recipes of paper 000 share: pictures that become pseudo-videos as they are read, or real clips.

`pseudo` names how: still, blur-8, high-order-4, blur-8+blocks-8 or the like (see video/pseudo/presets.py), or clips-8
for windows of 8 frames of real clips. With `classes`, a picture is of the class that its folder names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framefill.arrays import Rng, derive
from framefill.errors import BadInput
from framefill.recipes.mcvd import Crops
from framefill.recipes.recipe import stacked
from framefill.video.digits import MovingDigits
from framefill.video.folder import Clips, Tell, Windows
from framefill.video.folder import split as split_clips
from framefill.video.images.stills import Stills
from framefill.video.pseudo.kind import PseudoVideo
from framefill.video.pseudo.presets import named

CORRUPTION = 7  # a key: what a picture is corrupted by must not follow what chose it
CLIPS = "clips-"


@dataclass(frozen=True)
class Pseudo:
    """The fields of what is learnt from. Pictures are cut to the size, and mirrored in training if `flip`."""

    channels: int = 3
    height: int = 32
    width: int = 32
    flip: bool = True
    pseudo: str = "blur-8"
    classes: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.frames < 1 or self.classes < 0 or self.classes == 1:
            raise BadInput(
                f"{self.pseudo} with {self.classes} classes; give 1 frame or more, and 0 or 2 classes or more"
            )
        if self.classes and self.kind is None:
            raise BadInput("clips have no classes; set classes=0, or learn from pictures")

    @property
    def kind(self) -> PseudoVideo | None:
        """How a picture becomes a clip; None where the data are clips."""
        return None if self.pseudo.startswith(CLIPS) else named(self.pseudo)

    @property
    def frames(self) -> int:
        """Of a clip."""
        count = self.pseudo.removeprefix(CLIPS)
        if self.kind is None and not (count.isdecimal() and len(count) < 4):
            raise BadInput(f"cannot read {self.pseudo!r}; write clips-FRAMES, such as clips-8")
        return int(count) if self.kind is None else self.kind.frames

    def source(self, data: str | Path, split: str, *, cache: Path | None = None, progress: Tell | None = None) -> Any:
        """Pictures, or windows of clips, of a split of `data`: a folder, a .zip of pictures, or "digits"."""
        flip = self.flip and split == "train"
        if self.kind is not None:
            pictures = Stills.open(
                data, split, height=self.height, width=self.width, channels=self.channels, flip=flip,
                classes=self.classes, cache=cache, progress=progress,
            )  # fmt: skip
            if split == "train" and len(pictures) < self.batch_size:
                raise BadInput(
                    f"{data}: {len(pictures)} pictures to learn from are fewer than a batch of {self.batch_size}; give "
                    "more pictures, or set a smaller batch_size"
                )
            return pictures
        if str(data) == "digits":
            return MovingDigits(split)
        clips = Clips.open(
            Path(data), height=self.height, width=self.width, channels=self.channels, cache=cache, progress=progress
        )
        return Crops(Windows(split_clips(clips)[split]), (self.height, self.width), flip)

    def batch(self, source: Any, seeds: Sequence[int]) -> Tensor:
        """Clips (B, T, C, H, W) in [-1, 1], one per seed; with classes flat, and the label behind: (B, T C H W + 1)."""
        clips = self.clips(source, seeds)
        if not self.classes:
            return clips
        labels = torch.tensor([[source.label(seed)] for seed in seeds], dtype=clips.dtype)
        return torch.cat([clips.flatten(1), labels], 1)

    def clips(self, source: Any, seeds: Sequence[int]) -> Tensor:
        """The clips of a batch."""
        size = self.channels, self.height, self.width
        if self.kind is None:
            return stacked(source, seeds, size, length=self.frames)
        images = stacked(source, seeds, size)[:, 0]
        return self.kind(images, Rng([derive(seed, CORRUPTION) for seed in seeds]))

    def unpacked(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """The clips and the labels (B,) of a batch."""
        if not self.classes:
            return batch, None
        shape = self.frames, self.channels, self.height, self.width
        return batch[:, :-1].unflatten(1, shape), batch[:, -1].round().long()

    def about(self, source: Any) -> dict[str, Any]:
        """What must be known of the data to use the model: the names of the classes."""
        return {"classes": list(source.names)} if self.classes else {}
