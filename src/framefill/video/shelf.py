"""The cache of training data: what was decoded once is kept as a memory-mapped array.

An `Entry` says where the frames of one array come from. The first time it is taken from the shelf its frames are
written there as a stream, so memory does not grow with their number, and beside them a note of their length, rate and
cuts that says the array is whole. A damaged array is made again.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from framefill.atomic import replacing
from framefill.errors import MediaError
from framefill.video.files import Writer
from framefill.video.windows import Run

_VERSION = 2  # of what a cached array holds: a new number makes every older one unused


class Entry(Protocol):
    """The frames of one array: a clip, or several one after another with a cut between them."""

    @property
    def name(self) -> str:
        """What the runs of it are called."""
        ...

    @property
    def identity(self) -> tuple[str, list[Any], Any]:
        """Path, stamps of the files and wishes, as JSON values: when one differs, the frames may differ."""
        ...

    @property
    def fps(self) -> Fraction:
        """Frames per second."""
        ...

    def frames(self, height: int, width: int, channels: int) -> Iterator[np.ndarray]:
        """The frames, each uint8 (height, width, channels)."""
        ...

    def cuts(self, frames: np.ndarray) -> list[int]:
        """Numbers of the frames that begin a new run, given all of them, uint8 (T, H, W, C)."""
        ...


@dataclass(frozen=True)
class Source:
    """One clip: its `name` in the folder, the array file `path` of `length` frames, the `fps` and `cuts`."""

    name: str
    path: Path
    length: int
    fps: Fraction
    cuts: tuple[int, ...]

    def runs(self, start: int = 0, stop: int | None = None) -> list[Run]:
        """The runs between cuts, of the frames `start` to `stop` (exclusive; None: the end)."""
        stop = self.length if stop is None else stop
        edges = [start, *(cut for cut in self.cuts if start < cut < stop), stop]
        return [Run(self.name, self.path, a, b) for a, b in pairwise(edges) if a < b]


@dataclass(frozen=True)
class Shelf:
    """The arrays in the folder `cache` whose frames have the `shape` (height, width, channels)."""

    cache: Path
    shape: tuple[int, int, int]

    @classmethod
    def at(cls, cache: Path | str | None, shape: tuple[int, int, int]) -> "Shelf":
        """The shelf in `cache` (default: framefill in $XDG_CACHE_HOME or ~/.cache); MediaError if it cannot be made."""
        place = Path(cache or default_cache())
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MediaError(f"{place}: no cache can be made there: {error.strerror}; name another") from error
        return cls(place, shape)

    def take(self, entry: Entry) -> Source:
        """The array of an entry, from the cache if it is there and whole."""
        array = self.cache / f"{self._key(entry)}.npy"
        with suppress(Exception):  # whatever is wrong with an array, it is made again
            return self._kept(array, entry.name)
        self._make(entry, array)
        return self._kept(array, entry.name)

    def _key(self, entry: Entry) -> str:
        path, stamps, wishes = entry.identity
        return hashlib.sha256(json.dumps([_VERSION, path, stamps, self.shape, wishes]).encode()).hexdigest()

    def _kept(self, array: Path, name: str) -> Source:
        note = json.loads(array.with_suffix(".json").read_text())
        frames = np.load(array, mmap_mode="r", allow_pickle=False)
        if frames.shape != (note["length"], *self.shape) or frames.dtype != np.uint8:
            raise MediaError(f"{array}: is not the array of its note; delete both")
        return Source(name, array, note["length"], Fraction(note["fps"]), tuple(note["cuts"]))

    def _make(self, entry: Entry, array: Path) -> None:
        fps = entry.fps
        with Writer(array, fps, overwrite=True) as writer:
            for frame in entry.frames(*self.shape):
                writer.write(frame)
        frames = np.load(array, mmap_mode="r", allow_pickle=False)
        note = {"length": len(frames), "fps": str(fps), "cuts": entry.cuts(frames)}
        with replacing(array.with_suffix(".json")) as part:
            part.write_text(json.dumps(note))


def default_cache() -> Path:
    """The folder of the cache where none is named."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "framefill"


def stamps(files: Iterable[Path]) -> list[Any]:
    """Name, size and time of change of each file: they differ when its content does."""
    return [(file.name, status.st_size, status.st_mtime_ns) for file in files for status in [file.stat()]]
