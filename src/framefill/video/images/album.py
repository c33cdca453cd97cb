"""Training data from pictures: a folder of any depth, or a .zip of one, decoded once into one array of the cache.

A picture's split follows from its own name: pictures under a folder `train`, `val` or `test` belong there, all others
are dealt out by a digest of their path. So no picture is ever in two splits, and adding pictures moves none. What an
archive calls its members is a name and nothing else: nothing is unpacked, and no size it states is believed.
"""

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from framefill.errors import BadInput, MediaError
from framefill.video import sources, stacks
from framefill.video.clip import fit, with_channels
from framefill.video.folder import SPLITS, Tell
from framefill.video.shelf import Shelf, stamps
from framefill.video.windows import Run, Windows

MOST_BYTES = 2**28  # of one compressed picture; 64 million pixels take no more
VALIDATION = 0.02  # of pictures under `train`, where no folder `val` is
SHARES = (0.8, 0.9)  # below: train, val; above: test
TELL_EVERY = 1000


@dataclass(frozen=True)
class Album:
    """The pictures of one split, in one array; half of those drawn are mirrored if `flip`."""

    run: Run
    flip: bool = False

    @classmethod
    def open(
        cls,
        data: Path | str,
        split: str,
        *,
        height: int,
        width: int,
        channels: int,
        flip: bool = False,
        cache: Path | None = None,
        progress: Tell | None = None,
    ) -> "Album":
        """The pictures of a `split` ("train", "val", "test") of a folder or .zip, resized to cover the size, cropped.

        Pictures are png, jpg, bmp, webp, pgm, ppm and tif; hidden ones are passed over; those that cannot be read are
        left out, and `progress` is told which. The array is kept in `cache` (see video/shelf.py) while the files are
        unchanged.

        Raises MediaError if there is no such folder or .zip, or no picture in the split that can be read; BadInput for
        an impossible size or split.
        """
        if height < 1 or width < 1 or channels not in (1, 3) or split not in SPLITS:
            raise BadInput(
                f"{width}x{height} pixels in {channels} channels of split {split!r}; give at least 1x1, 1 or 3 "
                f"channels, and one of {', '.join(SPLITS)}"
            )
        tell = progress or (lambda *_: None)
        path = Path(data)
        names = _split(_names(path, tell))[split]
        if not names:
            raise MediaError(
                f"{path}: no picture of it belongs to the split {split!r}; give more pictures (30 or so), or put some "
                "in folders train, val and test"
            )
        shelf = Shelf.at(cache, (height, width, channels))
        kept = shelf.take(_Pictures(path, split, tuple(names), tell))
        if kept.length < len(names):
            tell(kept.length, len(names), f"{len(names) - kept.length} pictures cannot be read and are left out")
        return cls(Run(kept.name, kept.path, 0, kept.length), flip)

    def __len__(self) -> int:
        return len(self.run)

    def sample(self, seed: int, *, length: int = 1, strides: tuple[int, ...] = (1,)) -> np.ndarray:
        """One picture, every one equally likely, as a clip uint8 (1, H, W, C): a pure function of `seed`."""
        return Windows([self.run]).sample(seed, length=1, flip=self.flip)

    def pictures(self) -> np.ndarray:
        """All of them, memory-mapped uint8 (N, H, W, C), in the order of their names."""
        return self.run.frames()


def shortest_side(data: Path | str, *, most: int = 200) -> int:
    """The shortest side, in pixels, of the pictures of a folder or .zip, by the headers of up to `most` of them.

    Those that cannot be read are passed over. MediaError where there are none.
    """
    from PIL import Image

    path, sides = Path(data), []
    names = _names(path, lambda *_: None)
    with ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(path)) if path.is_file() else None
        for name in names[:: -(-len(names) // most)]:
            with suppress(Exception):  # the list of what Pillow and zipfile raise is open
                content = archive.open(name) if archive else (path / name).open("rb")
                with content, Image.open(content) as picture:
                    sides.append(min(picture.size))
    if not sides:
        raise MediaError(f"{path}: none of its pictures can be read")
    return min(sides)


def listed(data: Path | str, split: str) -> list[str]:
    """The paths within `data` of the pictures of a split, as an album has them; MediaError as there."""
    return _split(_names(Path(data), lambda *_: None))[split]


def _names(path: Path, tell: Tell) -> list[str]:
    """The paths of all pictures under a folder or in a .zip, relative to it, sorted; MediaError if there are none."""
    if path.is_dir():
        found = _in_folder(path)
    elif path.suffix.lower() == ".zip" and path.is_file():
        found = _in_archive(path, tell)
    else:
        raise MediaError(f"{path}: no such folder or .zip; give one that holds pictures")
    if not found:
        raise MediaError(f"{path}: there are no pictures in it; framefill reads png, jpg, bmp, webp, pgm, ppm and tif")
    return sorted(found)


def pictures_in(place: Path) -> list[str]:
    """The pictures under a folder, sorted paths relative to it; of a picture the name "" alone, MediaError if none."""
    found = [""] if place.is_file() else sorted(_in_folder(place)) if place.is_dir() else []
    if not found:
        raise MediaError(
            f"{place}: there are no pictures here; give a folder of png, jpg, bmp, webp, pgm or tif, or one"
        )
    return found


def _in_folder(folder: Path) -> set[str]:
    found = set()
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        found |= {Path(root, name).relative_to(folder).as_posix() for name in names if _is_picture(name)}
    return found


def _in_archive(path: Path, tell: Tell) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            listed = [member.filename for member in archive.infolist() if not member.is_dir()]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise MediaError(f"{path} cannot be read as a .zip: {error}; take another copy") from error
    found = {name for name in listed if _is_picture(PurePosixPath(name).name)}
    hidden = {name for name in found if any(part[0] == "." for part in PurePosixPath(name).parts if part != "..")}
    strange = {name for name in found if name[0] == "/" or "\\" in name or ".." in PurePosixPath(name).parts}
    for name in sorted(strange):
        tell(0, len(found), f"{name} is left out: its name leads out of the archive")
    return found - hidden - strange


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in sources.PICTURES and name[0] != "."


def _split(names: list[str]) -> dict[str, list[str]]:
    """The names of each split, in their order."""
    given = {name: _folder(name) for name in names}
    whole = "val" in given.values()
    parts: dict[str, list[str]] = {part: [] for part in SPLITS}
    for name in names:
        parts[_part(name, given[name], whole)].append(name)
    return parts


def _folder(name: str) -> str:
    """The first folder on the way to a picture that is called like a split, or nothing."""
    return next((part for part in map(str.lower, PurePosixPath(name).parts[:-1]) if part in SPLITS), "")


def _part(name: str, folder: str, whole: bool) -> str:
    place = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") / 2**64
    if folder == "train" and not whole:
        return "val" if place < VALIDATION else "train"
    return folder or ("train" if place < SHARES[0] else "val" if place < SHARES[1] else "test")


@dataclass(frozen=True)
class _Pictures:
    """An entry of the cache: the pictures `names` of a folder or archive, one after another."""

    path: Path
    name: str
    names: tuple[str, ...]
    tell: Tell

    @property
    def identity(self) -> tuple[str, list[Any], Any]:
        files = [self.path] if self.path.is_file() else [self.path / name for name in self.names]
        return os.path.abspath(self.path), stamps(filter(Path.exists, files)), ["pictures", self.names]

    @property
    def fps(self) -> Fraction:
        return Fraction(1)  # pictures have no rate

    def frames(self, height: int, width: int, channels: int) -> Iterator[np.ndarray]:
        good, first = 0, ""
        with ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(self.path)) if self.path.is_file() else None
            for done, name in enumerate(self.names, 1):
                try:
                    frame = with_channels(self._pixels(name, archive), channels)
                except Exception as error:  # the list of what Pillow and zipfile raise is open
                    reason = " ".join(str(error).split()) or type(error).__name__
                    first = first or f"{name}: {reason}"
                    self.tell(done, len(self.names), f"{name} is left out: {reason}")
                    continue
                yield fit(frame[None], height, width)[0]
                good += 1
                if done % TELL_EVERY == 0 or done == len(self.names):
                    self.tell(done, len(self.names), name)
        if not good:
            raise MediaError(f"{self.path}: none of {len(self.names)} pictures can be used: {first}")

    def cuts(self, frames: np.ndarray) -> list[int]:
        return []

    def _pixels(self, name: str, archive: zipfile.ZipFile | None) -> np.ndarray:
        if archive is None:
            return stacks.picture(self.path / name)
        with archive.open(name) as member:
            content = member.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise MediaError(f"it is larger than {MOST_BYTES} bytes")
        return stacks.picture(Path(name), content=io.BytesIO(content))
