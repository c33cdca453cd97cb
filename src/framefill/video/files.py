"""Clips out of files and into them, one frame at a time.

Whatever holds frames (a video, a GIF, a folder of numbered pictures, an array) is read as a stream of uint8 or uint16
(H, W, C) frames and written as one, so memory does not grow with the length of a clip. Whatever PyAV, Pillow, NumPy or
HDF5 raise on a bad file comes out as one MediaError. A file that is written appears only when it is whole.
"""

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

import numpy as np

from framefill.errors import BadInput, FramefillError, MediaError, NotWritten
from framefill.video import sources
from framefill.video.clip import Clip, check_frames
from framefill.video.clock import Clock, film_clock
from framefill.video.passengers import Passengers
from framefill.video.sinks import SINKS, Plan, Sink, check_plan

__all__ = ["Info", "Plan", "Writer", "clock", "probe", "read", "read_clip"]

MAX_CLIP_PIXELS = 10**9  # pixels that are read into memory at once: 3 GB of colour


@dataclass(frozen=True)
class Info:
    """What a file holds: size in pixels, `channels`, `fps` in frames per second, `name` of its coding, `bits` a level.

    `frames` is what the header claims, None where it says nothing: good for a progress bar, never for an
    allocation. Pictures and arrays have no rate of their own and are given 25 frames per second.
    """

    width: int
    height: int
    channels: int
    fps: Fraction
    frames: int | None
    name: str
    bits: int = 8


def probe(path: Path | str) -> Info:
    """Describe `path`, after decoding its first frame; errors as in `read`."""
    height, width, channels = next(read(path, stop=1)).shape
    with _reading(Path(path)):
        fps, frames, name, bits = sources.header(Path(path))
    return Info(width, height, channels, fps, frames, name, bits)


def clock(path: Path | str, *, fps: Fraction | None = None, keep_start: bool = False) -> Clock:
    """When the frames of `path` are shown, see `video.clock`; errors as in `read`."""
    with _reading(Path(path)):
        return film_clock(Path(path), fps=fps, keep_start=keep_start)


def read(
    path: Path | str,
    *,
    start: int = 0,
    stop: int | None = None,
    stride: int = 1,
    deep: bool = False,
    own: bool = False,
    most: int = sources.MAX_TOTAL_PIXELS,
) -> Iterator[np.ndarray]:
    """Frames `start`, `start + stride`, ... before `stop` (None: the end), each uint8 (H, W, C), uint16 if `deep`.

    `path` is a video or GIF (turned upright; grey pixel formats have C = 1, others 3; a varying rate is read frame by
    frame), a folder of pictures in natural order (2 before 10), one picture or TIFF stack, or an array (T, H, W) or
    (T, H, W, C) with any number of channels of uint8, uint16 or floats in [0, 1]: .npy, .npz, .h5, with `::name` where
    a file holds several. A film is brought to the colours of BT.709, or left in its
    `own`. What lies before `start` is decoded and dropped; nothing after `stop` is touched.

    Raises BadInput for an impossible range; MediaError for a file that is missing, foreign, empty or damaged (when the
    stream comes to the damage), frames of different shapes or of more than 64 million pixels, more than `most` pixels
    in all, values outside [0, 1].
    """
    if start < 0 or stride < 1 or (stop is not None and stop <= start):
        raise BadInput(f"frames {start}:{stop}:{stride} are none; give 0 <= start < stop and stride >= 1")
    with _reading(Path(path)):
        return _stream(
            Path(path), islice(sources.frames(Path(path), deep=deep, own=own), start, stop, stride), start, most
        )


def read_clip(
    path: Path | str,
    *,
    limit: int | None,
    start: int = 0,
    stride: int = 1,
    fps: Fraction | None = None,
    deep: bool = False,
    most: int = MAX_CLIP_PIXELS,
) -> Clip:
    """Clip of every `stride`-th frame of `path` from `start` on, at most `limit` of them (None: all), in memory.

    The rate is `fps` in frames per second, or that of the file divided by `stride`. Errors as in `read`.
    """
    if limit is not None and limit < 1:
        raise BadInput(f"limit is {limit} frames; give at least 1, or None for all")
    stop = None if limit is None else start + limit * stride
    frames = read(path, start=start, stop=stop, stride=stride, deep=deep, most=most)
    with _reading(Path(path)):
        pixels = np.stack(list(frames))
        return Clip(pixels, fps or sources.header(Path(path))[0] / stride)


class Writer:
    """Context manager that writes frames to `path` as planned (or, given a Fraction, at that rate), in constant memory.

    The suffix chooses the format: .mp4, .mov, .mkv (H.264, near lossless; 4:2:0, or 4:4:4 where a side is odd; or AV1,
    VP9, in .mkv also lossless FFV1), .webm (VP9 or AV1), .gif (256 colours a frame, exact if it has no more; loops;
    time in 1/100 s, at most 50 frames per second), .npy and .h5 (T, H, W, C), exact, any number of channels; none (a
    folder of exact pictures 000000.png). Video stores grey frames as colour.

    After an exception in the with-block nothing is left; what a killed process left is removed by the next Writer to
    the same path. Raises MediaError if `path` exists (before any work, unless `overwrite`; a folder is replaced only if
    it holds nothing but numbered PNGs), cannot hold what is planned or cannot be written, and if no frame came;
    BadInput for a rate that is not positive.
    """

    def __init__(self, path: Path | str, plan: Plan | Fraction, *, overwrite: bool = False) -> None:
        plan = plan if isinstance(plan, Plan) else Plan(plan)
        if not isinstance(plan.fps, Fraction | int) or plan.fps <= 0:
            raise BadInput(f"fps is {plan.fps!r}; give a positive Fraction, frames per second")
        self.path, self.plan = Path(path), replace(plan, fps=Fraction(plan.fps).limit_denominator(100_000))
        self._sink: Sink | None = None
        self._shape: tuple[int, ...] = ()
        self._unwanted = False
        _check_target(self.path, overwrite)
        check_plan(self.path, self.plan)

    def __enter__(self) -> Self:
        with writing(self.path):
            _remove_leftovers(self.path)
            mine = f".{self.path.name}.{os.getpid()}."
            self._folder = Path(mkdtemp(prefix=mine, suffix=".part", dir=self.path.parent))
        return self

    def write(self, frame: np.ndarray, time: Fraction | None = None) -> None:
        """Append `frame`, uint8 or uint16 (H, W, C), all of one shape, otherwise BadInput.

        `time` in seconds is when it is shown, for plans with a `base`.
        """
        frame = np.asarray(frame)
        check_frames(frame[None])
        with writing(self.path):
            if self._sink is None:
                make = SINKS[self.path.suffix.lower()]
                self._sink, self._shape = make(self._unfinished, self.plan, frame.shape), frame.shape
            if frame.shape != self._shape:
                raise BadInput(f"{self.path}: a frame {frame.shape} after {self._shape}; give one shape")
            self._sink.write(frame, time)

    @property
    def passengers(self) -> Passengers | None:
        """Sound and subtitles on board, if any."""
        return getattr(self._sink, "passengers", None)

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
        with writing(self.path):
            self._sink.close()
            if self.path.is_dir() or (self._unfinished.is_dir() and self.path.exists()):
                os.replace(self.path, self._folder / ".replaced")  # a rename overwrites a file by a file only
            os.replace(self._unfinished, self.path)


@contextmanager
def _as_media_error(path: Path, failed: str, advice: str, kind: type[MediaError] = MediaError) -> Iterator[None]:
    # The list of what the libraries raise is open: av.error.*, IndexError, SyntaxError, UnicodeError, MemoryError ...
    try:
        yield
    except FramefillError:
        raise
    except Exception as error:
        reason = str(getattr(error, "strerror", None) or error or type(error).__name__)
        reason = " ".join(reason.split()).rstrip(".") or type(error).__name__
        raise kind(f"{path}: {failed}: {reason}; {advice}") from error


def _reading(path: Path, count: int = 0) -> AbstractContextManager[None]:
    if count:
        return _as_media_error(path, f"is damaged after frame {count - 1}", "stop there, or save it again")
    return _as_media_error(path, "cannot be read", f"framefill reads {sources.READABLE}")


def writing(path: Path) -> AbstractContextManager[None]:
    """A with-block in which whatever the libraries raise becomes a NotWritten that names `path`."""
    advice = "check that its folder can be written to, and that the format takes frames of this size"
    return _as_media_error(path, "cannot be written", advice, NotWritten)


def _stream(path: Path, frames: Iterator[sources.Frame], start: int, most: int) -> Iterator[np.ndarray]:
    shape, count, total = None, 0, 0
    while True:
        with _reading(path, count):
            frame = next(frames, None)
            pixels = frame() if frame else None
        if pixels is None:
            break
        if shape not in (None, pixels.shape):
            raise MediaError(f"{path}: a frame {pixels.shape} after {shape}; a clip has frames of one shape")
        total += pixels.shape[0] * pixels.shape[1]
        if total > most:
            raise MediaError(
                f"{path}: has more than {most} pixels in {count + 1} frames; read fewer, or raise the limit (--most)"
            )
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


def _remove_leftovers(path: Path) -> None:
    """Unfinished work of processes that are gone."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        process = folder.name.split(".")[-3]
        if process.isdecimal() and not _alive(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def _is_numbered(path: Path) -> bool:
    return path.suffix == ".png" and path.stem.isdecimal() and path.is_file()
