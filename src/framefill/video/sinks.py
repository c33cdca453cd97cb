"""Where frames go: video, GIF, array, pictures, each written as a stream.

A sink is made with a path, a rate in frames per second and the shape (H, W, C) of its frames; `write` takes
one frame and forgets it; `close` completes the file. Video is converted and tagged as BT.709, luma 0.2126 R
+ 0.7152 G + 0.0722 B in 16..235, so that every player shows the colours that were given.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream
from PIL import Image

from framefill.video.clip import with_channels

_BT709 = 1  # in each table of ITU-T H.273: primaries, transfer and matrix
_TO_YUV = int(Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP)


class Sink(Protocol):
    """Takes the frames of one clip: `write` each uint8 (H, W, C), then `close`."""

    def write(self, frame: np.ndarray) -> None:
        """Append one frame."""

    def close(self) -> None:
        """Complete the file and let go of it."""


class _Coding(NamedTuple):
    codec: str
    options: dict[str, str]
    muxing: dict[str, str]


# swscale takes chroma from the middle of four pixels. Without the tag H.264 means the left edge of them,
# and colours come back moved by half a pixel. With mbtree the same frames now and then make another file, where a
# side is no multiple of 16.
_H264 = {"crf": "14", "preset": "medium", "chroma_sample_location": "center", "mbtree": "0"}
_CODINGS = {
    ".mp4": _Coding("libx264", _H264, {"movflags": "+faststart"}),
    ".mov": _Coding("libx264", _H264, {"movflags": "+faststart"}),
    ".mkv": _Coding("libx264", _H264, {}),
    ".webm": _Coding("libvpx-vp9", {"crf": "16", "b:v": "0", "cpu-used": "4", "row-mt": "1"}, {}),
    ".gif": _Coding("gif", {}, {"loop": "0"}),
}


class _Video:
    """A file that FFmpeg writes."""

    def __init__(self, path: Path, fps: Fraction, shape: tuple[int, ...]) -> None:
        coding = _CODINGS[path.suffix.lower()]
        self._gif = coding.codec == "gif"
        # GIF counts hundredths of a second, and players slow down a frame that lasts less than two of them.
        self._fps = min(fps, Fraction(50)) if self._gif else fps
        self._count = 0
        self._container = av.open(str(path), "w", options=coding.muxing)
        stream = self._container.add_stream(coding.codec, rate=self._fps, options=coding.options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = shape[:2]
        stream.pix_fmt = "pal8" if self._gif else _pixel_format(coding.codec, shape)
        stream.codec_context.time_base = 1 / self._fps
        self._stream = stream
        if not self._gif:
            _tag(stream)

    def write(self, frame: np.ndarray) -> None:
        picture = _paletted(frame) if self._gif else _yuv(frame, str(self._stream.pix_fmt))
        picture.pts, picture.time_base = self._count, 1 / self._fps
        self._container.mux(self._stream.encode(picture))
        self._count += 1

    def close(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


def _pixel_format(codec: str, shape: tuple[int, ...]) -> str:
    # H.264 with halved chroma takes even sizes only; a cropped or padded file would not be the clip that was
    # given.
    odd = shape[0] % 2 or shape[1] % 2
    return "yuv444p" if odd and codec == "libx264" else "yuv420p"


def _tag(stream: VideoStream) -> None:
    context = stream.codec_context
    context.color_range = ColorRange.MPEG
    context.colorspace = context.color_primaries = context.color_trc = _BT709


def _yuv(frame: np.ndarray, pixel_format: str) -> av.VideoFrame:
    colour = np.ascontiguousarray(with_channels(frame, 3))
    return av.VideoFrame.from_ndarray(colour, format="rgb24").reformat(
        format=pixel_format,
        interpolation=_TO_YUV,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
    )


def _paletted(frame: np.ndarray) -> av.VideoFrame:
    colours, indices = _few_colours(np.ascontiguousarray(frame))
    palette = np.full((256, 4), 255, np.uint8)  # rows of opacity, red, green, blue
    palette[: len(colours), 1:] = colours
    return av.VideoFrame.from_ndarray((indices, palette), format="pal8")  # type: ignore[arg-type]


def _few_colours(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 256 colours (N, 1 or 3) and the index (H, W) of each pixel's; exact if that is all it has."""
    if frame.shape[-1] == 1:
        return np.arange(256, dtype=np.uint8)[:, None], frame[..., 0]
    # Refining the palette gains 2 dB and costs 0.1 s per 100,000 pixels; large frames go without.
    few = Image.fromarray(frame).quantize(256, kmeans=int(frame.size < 500_000))
    return np.array(few.getpalette("RGB"), np.uint8).reshape(-1, 3), np.asarray(few)


class _Array:
    """A .npy file, whose header is written again when the number of frames is known."""

    def __init__(self, path: Path, _: Fraction, shape: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        self._shape, self._count = shape, 0
        self._header()

    def write(self, frame: np.ndarray) -> None:
        self._file.write(frame.tobytes())
        self._count += 1

    def close(self) -> None:
        with self._file:
            self._file.seek(0)
            self._header()

    def _header(self) -> None:
        # NumPy pads a header so that its first axis can grow to any length in place.
        fields = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, fields)


class _Pictures:
    """A folder of PNG files named 000000.png, 000001.png, ..."""

    def __init__(self, path: Path, _: Fraction, __: tuple[int, ...]) -> None:
        path.mkdir()
        self._folder, self._count = path, 0

    def write(self, frame: np.ndarray) -> None:
        pixels = frame[..., 0] if frame.shape[-1] == 1 else frame
        Image.fromarray(pixels).save(self._folder / f"{self._count:06d}.png")
        self._count += 1

    def close(self) -> None:
        """Every picture is closed already."""


SINKS: dict[str, Callable[[Path, Fraction, tuple[int, ...]], Sink]] = {
    **dict.fromkeys(_CODINGS, _Video),
    ".npy": _Array,
    "": _Pictures,
}
