"""Pictures to learn from, with or without what they show: the folder a picture lies in names its class.

`train/cat/1.png`, `cat/1.png` and `test/cat/7.png` are all of the class `cat`. Classes are those of all splits, in the
order of their names, so a label means the same in each.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from framefill.arrays import derive
from framefill.errors import BadInput
from framefill.video.digits import digits
from framefill.video.folder import SPLITS
from framefill.video.images.album import Album, Tell, listed

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Stills:
    """The pictures of a split, uint8 (N, H, W, C), half of those drawn mirrored if `flip`; `labels` (N,) of `names`."""

    pixels: NDArray[np.uint8]
    flip: bool = False
    labels: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()

    @classmethod
    def open(
        cls, data: str | Path, split: str, *, height: int, width: int, channels: int, flip: bool = False,
        classes: int = 0, cache: Path | None = None, progress: Tell | None = None,
    ) -> "Stills":  # fmt: skip
        """Of a folder or .zip of pictures, or "digits"; with `classes`, so many, and each is in the split.

        Errors as of `Album.open`, and BadInput for another number of classes, or a class without pictures.
        """
        if str(data) == "digits":
            return _digits(split, (height, width, channels), classes)
        album = Album.open(
            data, split, height=height, width=width, channels=channels, cache=cache, progress=progress
        )  # fmt: skip
        if not classes:
            return cls(album.pictures(), flip)
        labels, names = _labels(data, split, classes)
        if len(labels) != len(album):
            raise BadInput(
                f"{data}: {len(labels) - len(album)} pictures of {split!r} cannot be read, so it is not known which "
                f"label belongs to which; take them out, or learn without classes"
            )
        return cls(album.pictures(), flip, labels, names)

    def __len__(self) -> int:
        return len(self.pixels)

    def sample(self, seed: int, *, length: int = 1, strides: tuple[int, ...] = (1,)) -> NDArray[np.uint8]:
        """One picture, every one equally likely, as a clip uint8 (1, H, W, C): a pure function of `seed`."""
        picture = self.pixels[self._index(seed)][None]
        mirrored = self.flip and derive(seed, 1) % 2 == 1
        return np.ascontiguousarray(picture[:, :, ::-1] if mirrored else picture)

    def label(self, seed: int) -> int:
        """The class of the picture that `sample` gives for the same seed; BadInput where none are known."""
        if self.labels is None:
            raise BadInput("these pictures have no classes; open them with classes=...")
        return int(self.labels[self._index(seed)])

    def _index(self, seed: int) -> int:
        return derive(seed, 0) % len(self.pixels)


def _labels(data: str | Path, split: str, classes: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    folders = {part: [_class(name) for name in listed(data, part)] for part in SPLITS}
    names = tuple(sorted({name for found in folders.values() for name in found}))
    if len(names) != classes or "" in names:
        shown = ", ".join(name or "(none)" for name in names[:12])
        raise BadInput(f"{data} has the classes {shown}: {len(names)}, not {classes}; put every picture in a folder")
    missing = set(names) - set(folders[split])
    if missing:
        raise BadInput(f"{data}: no picture of the class {sorted(missing)[0]!r} is in the split {split!r}; add some")
    return np.array([names.index(name) for name in folders[split]]), names


def _class(name: str) -> str:
    """The folder of a picture, below one called like a split."""
    parts = PurePosixPath(name).parts[:-1]
    return "/".join(part for part in parts if part.lower() not in SPLITS)


def _digits(split: str, size: tuple[int, int, int], classes: int) -> Stills:
    """The digits that are shipped, 32x32 and grey; there are as many of each."""
    pixels = digits(split)[..., None]
    if size != pixels.shape[1:] or classes not in (0, len(DIGITS)):
        raise BadInput(
            f"the digits are 32x32x1 of {len(DIGITS)} classes, not {'x'.join(map(str, size))} of {classes}; set "
            "height=32 width=32 channels=1, and classes=10 or 0"
        )
    labels = np.repeat(np.arange(len(DIGITS)), len(pixels) // len(DIGITS))
    return Stills(pixels, False, labels if classes else None, DIGITS if classes else ())
