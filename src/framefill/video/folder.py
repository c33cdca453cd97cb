"""Training data from a folder of clips.

Each file is decoded once, as a stream, fitted to one size and kept as a memory-mapped array in a cache, so
that a window of frames costs one small read. Files are split, never their frames: neighbours are nearly
equal, and a model that has learnt from one of them is not tested by the other. No window crosses a cut,
where what came before says nothing of what comes after.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from framefill.errors import BadInput, MediaError
from framefill.video import sources
from framefill.video.clip import fit, with_channels
from framefill.video.files import probe, read
from framefill.video.shelf import Shelf, Source, default_cache, stamps
from framefill.video.shots import cuts, distinct
from framefill.video.windows import Run, Windows

__all__ = ["SPLITS", "Clips", "Run", "Source", "Tell", "Windows", "cuts", "split"]

SPLITS = ("train", "val", "test")
Tell = Callable[[int, int, str], None]
"""How long work reports: (done, total, what of)."""


@dataclass(frozen=True)
class Clips:
    """The clips of a folder, decoded and fitted.

    `sources` are in the order of their names; `skipped` are the files that could not be read, each with the
    reason.
    """

    sources: list[Source]
    skipped: list[tuple[Path, str]]

    @property
    def warning(self) -> str | None:
        """What a user of `split` should know: of fewer than three clips each one is divided by time."""
        if len(self.sources) >= 3:
            return None
        return f"{len(self.sources)} clips only: each is divided by time, so scores say little about others"

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        height: int,
        width: int,
        channels: int,
        cache: Path | None = None,
        progress: Tell | None = None,
        drop_duplicates: bool = True,
    ) -> "Clips":
        """Every clip under `folder`, resized to cover `height` x `width` pixels and cropped to that.

        Clips are videos, GIFs, .npy arrays and folders of two or more pictures without a video beside them,
        at any depth, hidden ones passed over; `folder` may itself be one. Unless `drop_duplicates` is off,
        frames that repeat the one before are left out. The arrays are kept in `cache` (default: framefill in
        $XDG_CACHE_HOME or ~/.cache) and used again as long as the file is unchanged. After each clip
        `progress(done, total, name)` is called.

        Raises MediaError if no clip is there, or none can be read, or the cache cannot be written; BadInput
        for an impossible size.
        """
        _check(height, width, channels)
        return cls._opened(
            Path(folder), lambda _: (height, width), channels, Path(cache or default_cache()), progress, drop_duplicates
        )

    @classmethod
    def open_unfitted(
        cls,
        folder: Path | str,
        *,
        lines: int,
        smallest: tuple[int, int],
        channels: int,
        cache: Path | None = None,
        progress: Tell | None = None,
    ) -> "Clips":
        """As `open`, each clip in a size of its own: that of the file, or shrunk to `lines` pixels on its shorter side.

        A clip smaller than `smallest` (height, width) is enlarged to cover that.
        """
        _check(*smallest, channels)
        if lines < 1:
            raise BadInput(f"frames of at most {lines} lines; give at least 1")
        shape = partial(_own_shape, lines=lines, smallest=smallest)
        return cls._opened(Path(folder), shape, channels, Path(cache or default_cache()), progress, True)

    @classmethod
    def _opened(
        cls,
        folder: Path,
        shape: Callable[[Path], tuple[int, int]],
        channels: int,
        cache: Path,
        progress: Tell | None,
        drop_duplicates: bool,
    ) -> "Clips":
        clips = cls([], [])
        found = [folder] if folder.is_file() else sources.clips_in(folder, but=cache)
        if not found:
            raise MediaError(f"{folder}: no such folder, or no clips in it; framefill reads {sources.READABLE}")
        Shelf.at(cache, (0, 0, channels))  # one place that cannot be made is one error, not one per clip
        for done, path in enumerate(found, 1):
            name = path.name if path == folder else path.relative_to(folder).as_posix()
            try:
                shelf = Shelf(cache, (*shape(path), channels))
                clips.sources.append(shelf.take(_File(path, name, drop_duplicates)))
            except (MediaError, OSError) as error:
                clips.skipped.append((path, str(error)))
            if progress:
                progress(done, len(found), name)
        if not clips.sources:
            raise MediaError(f"{folder}: none of {len(found)} clips can be used: {clips.skipped[0][1]}")
        return clips


def _check(height: int, width: int, channels: int) -> None:
    if height < 1 or width < 1 or channels not in (1, 3):
        raise BadInput(f"{width}x{height} pixels in {channels} channels; give at least 1x1, and 1 or 3")


def _own_shape(path: Path, *, lines: int, smallest: tuple[int, int]) -> tuple[int, int]:
    """Height and width at which a clip is kept."""
    info = probe(path)
    scale = min(1.0, lines / min(info.height, info.width))
    scale = max(scale, smallest[0] / info.height, smallest[1] / info.width)
    return round(info.height * scale), round(info.width * scale)


def split(clips: Clips, *, seed: int = 0, fractions: Sequence[float] = (0.8, 0.1, 0.1)) -> dict[str, list[Run]]:
    """Runs for "train", "val" and "test", about in these `fractions`, which sum to 1.

    Clips are divided, never their frames; which goes where depends on the names and `seed` alone, and every
    split of a positive fraction gets one. Of one or two clips each is divided by time instead, the training
    frames first, and `clips.warning` says so. Raises BadInput for other fractions.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise BadInput(f"fractions {tuple(fractions)}; give three for {SPLITS}, not negative, that sum to 1")
    if len(clips.sources) < 3:
        return _by_time(clips.sources, fractions)
    drawn = iter(sorted(clips.sources, key=lambda source: _draw(seed, source.name)))
    parts: dict[str, list[Run]] = {}
    for part, size in zip(SPLITS, _sizes(len(clips.sources), fractions), strict=True):
        chosen = sorted((next(drawn) for _ in range(size)), key=lambda source: source.name)
        parts[part] = [run for source in chosen for run in source.runs()]
    return parts


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest()


def _by_time(clips: list[Source], fractions: Sequence[float]) -> dict[str, list[Run]]:
    edges = pairwise(np.cumsum([0, *fractions]))
    return {
        part: [run for clip in clips for run in clip.runs(round(a * clip.length), round(b * clip.length))]
        for part, (a, b) in zip(SPLITS, edges, strict=True)
    }


def _sizes(count: int, fractions: Sequence[float]) -> list[int]:
    """One for each positive fraction, then each further one to the split that is furthest below its share."""
    sizes = [int(fraction > 0) for fraction in fractions]
    while sum(sizes) < count:
        lacking = [fraction * count - size for fraction, size in zip(fractions, sizes, strict=True)]
        sizes[lacking.index(max(lacking))] += 1
    return sizes


@dataclass(frozen=True)
class _File:
    """An entry of the cache: a video, an array or a folder of pictures."""

    path: Path
    name: str
    drop_duplicates: bool

    @property
    def identity(self) -> tuple[str, list[Any], bool]:
        # A folder does not change when a picture in it does, so its pictures are named one by one.
        files = sources.pictures(self.path) if self.path.is_dir() else [self.path]
        return os.path.abspath(self.path), stamps(files), self.drop_duplicates

    @property
    def fps(self) -> Fraction:
        return probe(self.path).fps

    def frames(self, height: int, width: int, channels: int) -> Iterator[np.ndarray]:
        fitted = (fit(with_channels(frame, channels)[None], height, width)[0] for frame in read(self.path))
        return distinct(fitted) if self.drop_duplicates else fitted

    def cuts(self, frames: np.ndarray) -> list[int]:
        return cuts(frames)
