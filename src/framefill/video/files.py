"""Clips out of files and into them, one frame at a time.

Whatever holds frames (a video, a GIF, a folder of numbered pictures, a NumPy array) is read as a stream of
uint8 (H, W, C) frames and written as one, so memory does not grow with the length of a clip. Whatever PyAV,
Pillow or NumPy raise on a bad file comes out as one MediaError. A file that is written appears only when it
is whole.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

import numpy as np

from framefill.errors import BadInput, FramefillError, MediaError
from framefill.video import sources
from framefill.video.clip import Clip, check_frames
from framefill.video.sinks import SINKS, Sink


@dataclass(frozen=True)
class Info:
    """What a file holds: size in pixels, `channels` 1 or 3, `fps` in frames per second, `name` of its coding.

    `frames` is what the header claims, None where it says nothing: good for a progress bar, never for an
    allocation. Pictures and arrays have no rate of their own and are given 25 frames per second.
    """

    width: int
    height: int
    channels: int
    fps: Fraction
    frames: int | None
    name: str


def probe(path: Path | str) -> Info:
    """Describe `path`, after decoding its first frame; errors as in `read`."""
    height, width, channels = next(read(path, stop=1)).shape
    with _reading(Path(path)):
        fps, frames, name = sources.header(Path(path))
    return Info(width, height, channels, fps, frames, name)


def read(path: Path | str, *, start: int = 0, stop: int | None = None, stride: int = 1) -> Iterator[np.ndarray]:
    """Frames `start`, `start + stride`, ... before `stop` (None: the end), each uint8 (H, W, C), C = 1 or 3.

    `path` is a video or GIF (turned upright; grey pixel formats have C = 1; a varying rate is read frame by
    frame), a folder of pictures in natural order (2 before 10), one picture, or a .npy array (T, H, W) or
    (T, H, W, C) of uint8 or of floats in [0, 1]. What lies before `start` is decoded and dropped; nothing
    after `stop` is touched.

    Raises BadInput for an impossible range; MediaError for a file that is missing, foreign, empty or damaged
    (when the stream comes to the damage), frames of different shapes or of more than 64 million pixels,
    values outside [0, 1].
    """
    if start < 0 or stride < 1 or (stop is not None and stop <= start):
        raise BadInput(f"frames {start}:{stop}:{stride} are none; give 0 <= start < stop and stride >= 1")
    with _reading(Path(path)):
        return _stream(Path(path), islice(sources.frames(Path(path)), start, stop, stride), start)


def read_clip(
    path: Path | str, *, limit: int | None, start: int = 0, stride: int = 1, fps: Fraction | None = None
) -> Clip:
    """Clip of every `stride`-th frame of `path` from `start` on, at most `limit` of them (None: all).

    The rate is `fps` in frames per second, or that of the file divided by `stride`. Errors as in `read`.
    """
    if limit is not None and limit < 1:
        raise BadInput(f"limit is {limit} frames; give at least 1, or None for all")
    frames = read(path, start=start, stop=None if limit is None else start + limit * stride, stride=stride)
    with _reading(Path(path)):
        pixels = np.stack(list(frames))
        return Clip(pixels, fps or sources.header(Path(path))[0] / stride)


class Writer:
    """Context manager that writes frames to `path` at `fps` frames per second, in constant memory.

    The suffix chooses the format: .mp4, .mov, .mkv (H.264, near lossless; 4:2:0, or 4:4:4 where a side is
    odd), .webm (VP9), .gif (256 colours a frame, exact if it has no more; loops; time in 1/100 s, at most 50
    frames per second), .npy (uint8 (T, H, W, C), exact), none (a folder of exact pictures 000000.png). Video
    stores grey frames as colour.

    After an exception in the with-block nothing is left. Raises MediaError if `path` exists (before any
    work, unless `overwrite`; a folder is replaced only if it holds nothing but numbered PNGs), has another
    suffix or cannot be written, and if no frame came; BadInput for an `fps` that is not positive.
    """

    def __init__(self, path: Path | str, fps: Fraction, *, overwrite: bool = False) -> None:
        if not isinstance(fps, Fraction | int) or fps <= 0:
            raise BadInput(f"fps is {fps!r}; give a positive Fraction, frames per second")
        self.path, self.fps = Path(path), Fraction(fps).limit_denominator(100_000)
        self._sink: Sink | None = None
        self._shape: tuple[int, ...] = ()
        self._unwanted = False
        _check_target(self.path, overwrite)

    def __enter__(self) -> Self:
        with _writing(self.path):
            self._folder = Path(mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append `frame`, uint8 (H, W, C) with C = 1 or 3; all of one shape, otherwise BadInput."""
        frame = np.asarray(frame)
        check_frames(frame[None])
        with _writing(self.path):
            if self._sink is None:
                make = SINKS[self.path.suffix.lower()]
                self._sink, self._shape = make(self._unfinished, self.fps, frame.shape), frame.shape
            if frame.shape != self._shape:
                raise BadInput(f"{self.path}: a frame {frame.shape} after {self._shape}; give one shape")
            self._sink.write(frame)

    def discard(self) -> None:
        """Let the frames go: at the end of the with-block nothing is written, and what was at `path` stays."""
        self._unwanted = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and not self._unwanted:
                self._finish()
            elif self._sink:
                with suppress(Exception):  # the error that is under way is the one to report
                    self._sink.close()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _unfinished(self) -> Path:
        return self._folder / self.path.name

    def _finish(self) -> None:
        if self._sink is None:
            raise MediaError(f"{self.path}: no frames were written; a clip has at least one")
        with _writing(self.path):
            self._sink.close()
            if self.path.is_dir() or (self._unfinished.is_dir() and self.path.exists()):
                os.replace(self.path, self._folder / ".replaced")  # a rename overwrites a file by a file only
            os.replace(self._unfinished, self.path)


@contextmanager
def _as_media_error(path: Path, failed: str, advice: str) -> Iterator[None]:
    # The list of what the libraries raise is open: av.error.*, IndexError, SyntaxError, UnicodeError, MemoryError ...
    try:
        yield
    except FramefillError:
        raise
    except Exception as error:
        reason = str(getattr(error, "strerror", None) or error or type(error).__name__)
        reason = " ".join(reason.split()).rstrip(".") or type(error).__name__
        raise MediaError(f"{path}: {failed}: {reason}; {advice}") from error


def _reading(path: Path, count: int = 0) -> AbstractContextManager[None]:
    if count:
        return _as_media_error(path, f"is damaged after frame {count - 1}", "stop there, or save it again")
    return _as_media_error(path, "cannot be read", f"framefill reads {sources.READABLE}")


def _writing(path: Path) -> AbstractContextManager[None]:
    advice = "check that its folder can be written to, and that the format takes frames of this size"
    return _as_media_error(path, "cannot be written", advice)


def _stream(path: Path, frames: Iterator[sources.Frame], start: int) -> Iterator[np.ndarray]:
    shape, count = None, 0
    while True:
        with _reading(path, count):
            frame = next(frames, None)
            pixels = frame() if frame else None
        if pixels is None:
            break
        if shape not in (None, pixels.shape):
            raise MediaError(f"{path}: a frame {pixels.shape} after {shape}; a clip has frames of one shape")
        yield pixels
        shape, count = pixels.shape, count + 1
    if not count:
        raise MediaError(f"{path}: there is no frame {start}; the file is empty or shorter")


def _check_target(path: Path, overwrite: bool) -> None:
    if path.suffix.lower() not in SINKS:
        allowed = ", ".join(suffix for suffix in SINKS if suffix)
        raise MediaError(f"{path}: cannot write {path.suffix}; give {allowed}, or no suffix for pictures")
    if os.path.lexists(path) and not overwrite:
        raise MediaError(f"{path} exists already; choose another name, or ask to overwrite it")
    if os.path.isdir(path) and (path.suffix or not all(map(_is_numbered, path.iterdir()))):
        raise MediaError(f"{path} is a folder that holds more than numbered PNGs; choose another name")
    if not os.path.isdir(path.parent):
        raise MediaError(f"{path}: there is no folder {path.parent}; create it first")


def _is_numbered(path: Path) -> bool:
    return path.suffix == ".png" and path.stem.isdecimal() and path.is_file()
