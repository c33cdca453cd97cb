"""Where frames come from: videos, pictures, arrays, each as a stream.

A frame that is not asked for should cost nothing more than it must, so a source yields functions: calling
one makes the pixels, uint8 or uint16 (H, W, C). A file is input from a stranger: only the formats named here are
opened, nothing is fetched over a network, and no size or count in a header is believed. The errors of the
libraries pass through; `files` gives them words.
"""

import os
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import count
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from PIL import Image

from framefill.errors import MediaError
from framefill.video import colour, stacks, tags
from framefill.video.stacks import MAX_PIXELS, Frame, check_size
from framefill.video.tags import BT709, Tags

_MOVING = "mp4 m4v mov 3gp mkv webm avi mpg mpeg ts m2ts mts ogv flv wmv y4m gif"
VIDEOS = frozenset(f".{name}" for name in _MOVING.split())
PICTURES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm", ".ppm", *stacks.TIFF))
READABLE = "mp4, mov, mkv, webm, avi, mpg, gif, .npy, .npz, .h5, TIFF stacks, folders of pictures (png, jpg, bmp, tif)"
# What one stream may decode to: 16 hours of 4K at 30 frames per second. Compressed nothing can claim any length.
MAX_TOTAL_PIXELS = 16 * 10**12
DEFAULT_FPS = Fraction(25)  # of what has no rate of its own: arrays and pictures

# A closed list keeps out formats that name other files (HLS, concat, SDP) and those that take any text for a
# film.
_DEMUXERS = "mov,matroska,avi,mpeg,mpegvideo,mpegts,m4v,ogg,flv,asf,gif,yuv4mpegpipe,mjpeg,h264,hevc,ivf,mxf"


def frames(path: Path, *, deep: bool = False, own: bool = False) -> Iterator[Frame]:
    """The frames of whatever `path` is, 16 bits each if `deep`; MediaError at once for what is not there.

    Those of a film are brought to the colours of BT.709, unless its `own` are asked for.
    """
    if os.path.isdir(path) or is_picture(path):
        return _pictures(path, deep)
    if not os.path.isfile(stacks.split_name(path)[0]):
        raise MediaError(f"{path}: no such file or folder; framefill reads {READABLE}")
    return stacks.array_frames(path, deep=deep) if stacks.is_stack(path) else _video_frames(path, deep, own)


def header(path: Path) -> tuple[Fraction, int | None, str, int]:
    """Frames per second, number of frames as claimed (None: not said), name of the coding, bits of a level."""
    if os.path.isdir(path) or is_picture(path):
        found = pictures(path)
        length = len(found) if len(found) > 1 else stacks.pages(found[0])
        with Image.open(found[0]) as picture:
            bits = 16 if picture.mode.startswith("I;16") else 8
        return DEFAULT_FPS, length, found[0].suffix.lower()[1:], bits
    if stacks.is_stack(path):
        with stacks.opened(path) as stack:
            suffix = stacks.split_name(path)[0].suffix.lower()[1:]
            return DEFAULT_FPS, stack.shape[0], suffix, 8 if stack.dtype.itemsize == 1 else 16
    with opened(path) as container:
        stream = track(path, container)
        form = stream.codec_context.format
        bits = max((part.bits for part in form.components), default=8) if form else 8
        return rate(stream), stream.frames or None, stream.codec_context.name, bits


def colour_tags(path: Path) -> Tags:
    """What the first frame of a film says of its colours; `BT709` of what is no film, or empty."""
    if os.path.isdir(path) or is_picture(path) or stacks.is_stack(path):
        return BT709
    with opened(path) as container:
        first = next(container.decode(track(path, container)), None)
        return tags.of(first) if first else BT709


def has_alpha(path: Path) -> bool:
    """Whether a film, a picture or the first one of a folder has transparency, which is not read."""
    if os.path.isdir(path) or is_picture(path):
        with Image.open(pictures(path)[0]) as picture:
            return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    if stacks.is_stack(path):
        return False
    with opened(path) as container:
        form = track(path, container).codec_context.format
        return form is not None and any(part.is_alpha for part in form.components)


def is_picture(path: Path) -> bool:
    """Whether `path` is a file with the name of a picture, and not hidden."""
    return path.suffix.lower() in PICTURES and not path.name.startswith(".") and os.path.isfile(path)


def is_clip(path: Path) -> bool:
    """Whether `path` is a file with the name of a video or an array, and not hidden."""
    return _named_as_clip(path) and os.path.isfile(path)


def _named_as_clip(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS.union(stacks.ARRAYS) and not path.name.startswith(".")


def clips_in(folder: Path, *, but: Path | None = None) -> list[Path]:
    """The clips under `folder`, at any depth, in order: files, and folders of two or more pictures with no file beside.

    What is hidden is passed over, and the folder `but`. A name that leads nowhere is found too: opening it says so.
    """
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = [n for n in folders if n[0] != "." and not (but and _same(Path(root, n), but))]
        files = [Path(root, name) for name in names]
        clips = list(filter(_named_as_clip, files))
        found += clips or ([Path(root)] if sum(map(is_picture, files)) > 1 else [])
    return sorted(found)


def _same(one: Path, other: Path) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)


def pictures(path: Path) -> list[Path]:
    """The picture `path`, or those in the folder `path` in natural order, where 2 comes before 10."""
    found = filter(is_picture, [path] if os.path.isfile(path) else path.iterdir())
    ordered = sorted(found, key=lambda picture: natural(picture.name))
    if not ordered:
        raise MediaError(f"{path}: there are no pictures in this folder; framefill reads {READABLE}")
    return ordered


def natural(name: str) -> list[str | int]:
    """A key that sorts 2 before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def opened(path: Path) -> InputContainer:
    """The media file `path`; only the formats above, and nothing but this file is read."""
    # An absolute path cannot be taken for the address of another protocol; titles in odd encodings do not
    # matter.
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}
    return av.open(os.path.abspath(path), options=options, metadata_errors="ignore")


def track(path: Path, container: InputContainer) -> VideoStream:
    """The film in a container, rather than its cover."""
    if not container.streams.video:
        raise MediaError(f"{path}: there are no pictures in it, only sound or data; give a video")
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) else container.streams.video[0]
    check_size(path, stream.codec_context.width, stream.codec_context.height)
    return stream


def rate(stream: VideoStream) -> Fraction:
    """Mean frames per second."""
    if stream.codec_context.name == "gif" and stream.frames and stream.duration and stream.time_base:
        return _gif_rate(stream.frames, stream.duration * stream.time_base)
    return _nominal(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)


def _nominal(mean: Fraction) -> Fraction:
    """The rate of television that was meant, where a file counts in units too coarse to say 60000/1001."""
    meant = Fraction(round(mean * Fraction(1001, 1000)) * 1000, 1001)
    return meant if abs(mean - meant) < mean / 10**6 else mean


def _gif_rate(frames: int, seconds: Fraction) -> Fraction:
    # Delays are whole hundredths of a second, which alternate for a rate such as 30. The simplest rate that
    # explains the length of the file to half a hundredth is the one that was meant.
    mean = frames / seconds
    rates = (mean.limit_denominator(size) for size in count(1))
    return next(rate for rate in rates if rate and abs(frames / rate - seconds) <= Fraction(1, 200))


def _pictures(path: Path, deep: bool) -> Iterator[Frame]:
    found = pictures(path)
    if len(found) > 1 or os.path.isdir(path):
        return (partial(stacks.picture, picture, deep=deep) for picture in found)
    return (partial(stacks.picture, path, deep=deep, page=page) for page in range(stacks.pages(path)))


def _video_frames(path: Path, deep: bool, own: bool) -> Iterator[Frame]:
    with opened(path) as container:
        stream = track(path, container)
        stream.thread_type = "SLICE"  # frames in parallel are faster, but lose errors
        stream.codec_context.options = {"max_pixels": str(2 * MAX_PIXELS)}  # it counts its own padding too
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise ValueError("the picture is incomplete")
            check_size(path, frame.width, frame.height)
            yield partial(_pixels, frame, deep, own)


def _pixels(frame: av.VideoFrame, deep: bool, own: bool) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(colour.rgb(frame, deep=deep, own=own), round(frame.rotation / 90)))
