"""Where frames come from: videos, pictures, arrays, each as a stream.

A frame that is not asked for should cost nothing more than it must, so a source yields functions: calling
one makes the pixels, uint8 (H, W, C). A file is input from a stranger: only the formats named here are
opened, nothing is fetched over a network, and no size or count in a header is believed. The errors of the
libraries pass through; `files` gives them words.
"""

import os
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import count
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import ColorRange, Interpolation
from av.video.stream import VideoStream
from PIL import Image

from framefill.errors import MediaError

Frame = Callable[[], np.ndarray]

_MOVING = "mp4 m4v mov 3gp mkv webm avi mpg mpeg ts m2ts mts ogv flv wmv y4m gif"
VIDEOS = frozenset(f".{name}" for name in _MOVING.split())
PICTURES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"))
READABLE = "mp4, mov, mkv, webm, avi, mpg, gif, .npy and folders of pictures (png, jpg, bmp, tif, webp)"
# A header may claim any size, and one frame of it has to fit in memory: this is twice 8K.
MAX_PIXELS = 64_000_000
DEFAULT_FPS = Fraction(25)  # of what has no rate of its own: arrays and pictures

# A closed list keeps out formats that name other files (HLS, concat, SDP) and those that take any text for a
# film.
_DEMUXERS = "mov,matroska,avi,mpeg,mpegvideo,mpegts,m4v,ogg,flv,asf,gif,yuv4mpegpipe,mjpeg,h264,hevc,ivf,mxf"
# Without the flags swscale takes half a level of light from every frame, and up to eight from coloured edges.
_TO_RGB = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)


def frames(path: Path) -> Iterator[Frame]:
    """The frames of whatever `path` is; MediaError at once if it is missing or a folder without pictures."""
    if os.path.isdir(path) or is_picture(path):
        return (partial(_picture, picture) for picture in pictures(path))
    if not os.path.isfile(path):
        raise MediaError(f"{path}: no such file or folder; framefill reads {READABLE}")
    return _array_frames(path) if path.suffix.lower() == ".npy" else _video_frames(path)


def header(path: Path) -> tuple[Fraction, int | None, str]:
    """Frames per second, number of frames as claimed (None: not said), name of the coding."""
    if os.path.isdir(path) or is_picture(path):
        found = pictures(path)
        return DEFAULT_FPS, len(found), found[0].suffix.lower()[1:]
    if path.suffix.lower() == ".npy":
        return DEFAULT_FPS, len(_array(path)), "npy"
    with _opened(path) as container:
        stream = _track(path, container)
        return _rate(stream), stream.frames or None, stream.codec_context.name


def is_picture(path: Path) -> bool:
    """Whether `path` is a file with the name of a picture, and not hidden."""
    return path.suffix.lower() in PICTURES and not path.name.startswith(".") and os.path.isfile(path)


def pictures(path: Path) -> list[Path]:
    """The picture `path`, or those in the folder `path` in natural order, where 2 comes before 10."""
    found = filter(is_picture, [path] if os.path.isfile(path) else path.iterdir())
    ordered = sorted(found, key=lambda picture: _natural(picture.name))
    if not ordered:
        raise MediaError(f"{path}: there are no pictures in this folder; framefill reads {READABLE}")
    return ordered


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise MediaError(f"{path}: a frame of {width}x{height} pixels; at most {MAX_PIXELS} pixels are read")


def _opened(path: Path) -> InputContainer:
    # An absolute path cannot be taken for the address of another protocol; titles in odd encodings do not
    # matter.
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}
    return av.open(os.path.abspath(path), options=options, metadata_errors="ignore")


def _track(path: Path, container: InputContainer) -> VideoStream:
    if not container.streams.video:
        raise MediaError(f"{path}: there are no pictures in it, only sound or data; give a video")
    best = container.streams.best("video")  # a film rather than its cover
    stream = best if isinstance(best, VideoStream) else container.streams.video[0]
    _check_size(path, stream.codec_context.width, stream.codec_context.height)
    return stream


def _rate(stream: VideoStream) -> Fraction:
    if stream.codec_context.name == "gif" and stream.frames and stream.duration and stream.time_base:
        return _gif_rate(stream.frames, stream.duration * stream.time_base)
    return stream.average_rate or stream.guessed_rate or DEFAULT_FPS


def _gif_rate(frames: int, seconds: Fraction) -> Fraction:
    # Delays are whole hundredths of a second, which alternate for a rate such as 30. The simplest rate that
    # explains the length of the file to half a hundredth is the one that was meant.
    mean = frames / seconds
    rates = (mean.limit_denominator(size) for size in count(1))
    return next(rate for rate in rates if rate and abs(frames / rate - seconds) <= Fraction(1, 200))


def _video_frames(path: Path) -> Iterator[Frame]:
    with _opened(path) as container:
        stream = _track(path, container)
        stream.thread_type = "SLICE"  # frames in parallel are faster, but lose errors
        stream.codec_context.options = {"max_pixels": str(2 * MAX_PIXELS)}  # it counts its own padding too
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise ValueError("the picture is incomplete")
            _check_size(path, frame.width, frame.height)
            yield partial(_pixels, frame)


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    if frame.format.name.startswith("gray"):
        pixels = _full_range(frame.to_ndarray(format="gray"), frame.color_range)[..., None]
    else:
        pixels = frame.to_ndarray(format="rgb24", interpolation=_TO_RGB)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def _full_range(grey: np.ndarray, color_range: int) -> np.ndarray:
    if color_range != ColorRange.MPEG:
        return grey
    return np.clip((grey - 16.0) * (255 / 219), 0, 255).round().astype(np.uint8)  # swscale leaves it in 16..235


def _picture(path: Path) -> np.ndarray:
    with Image.open(path, formats=("PNG", "JPEG", "BMP", "TIFF", "WEBP")) as picture:
        _check_size(path, *picture.size)
        if picture.mode.startswith("I;16"):  # Pillow's own conversion would cut off above 255
            return ((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8)[..., None]
        if picture.mode in ("I", "F"):
            raise MediaError(f"{path}: 32-bit pictures have no fixed range; save it with 8 or 16 bits")
        if picture.mode in ("1", "L", "LA"):
            return np.array(picture.convert("L"))[..., None]
        return np.array(picture.convert("RGB"))


def _array(path: Path) -> np.ndarray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or (array.dtype != np.uint8 and array.dtype.kind != "f"):
        given = getattr(array, "dtype", "several arrays")
        raise MediaError(f"{path}: holds {given}; give uint8, or floats in [0, 1]")
    if array.ndim not in (3, 4) or 0 in array.shape or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise MediaError(f"{path}: has shape {array.shape}; give (T, H, W) or (T, H, W, C) with C = 1 or 3")
    _check_size(path, array.shape[2], array.shape[1])
    return array if array.ndim == 4 else array[..., None]


def _array_frames(path: Path) -> Iterator[Frame]:
    for frame in _array(path):
        yield partial(_levels, path, frame)


def _levels(path: Path, frame: np.ndarray) -> np.ndarray:
    if frame.dtype == np.uint8:
        return np.array(frame)
    if not ((frame >= 0) & (frame <= 1)).all():  # false for NaN too
        raise MediaError(f"{path}: holds NaN or values outside [0, 1]; give floats in [0, 1], or uint8")
    return (np.asarray(frame, np.float64) * 255).round().astype(np.uint8)
