"""Where frames go: video, GIF, array, pictures, each written as a stream.

A sink is made with a path, a `Plan` and the shape (H, W, C) of its frames; `write` takes one frame and forgets it;
`close` completes the file. Video is tagged as planned, usually as BT.709, luma 0.2126 R + 0.7152 G + 0.0722 B in
16..235, so that every player shows the colours that were given; FFV1 stores red, green and blue, without loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from av.video.stream import VideoStream
from PIL import Image

from framefill.errors import MediaError
from framefill.video import luma
from framefill.video.clip import to_bytes, to_words, with_channels
from framefill.video.passengers import Passengers
from framefill.video.tags import BT709, MATRICES, Tags

_TO_YUV = int(Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP)
BITS = (8, 10, 16)


@dataclass(frozen=True)
class Plan:
    """How a file is to be written.

    `fps` is the rate in frames per second; `base` the unit of the times that frames are given, in seconds (None: they
    are even); `codec` one of `CODECS` (empty: what suits the suffix); `bits` of a level, 8, 10 or 16; `carry` a file
    whose sound and subtitles are copied into this one, with `until` only as far as the pictures go; `tags` what video
    says of its colours, which frames must have already.
    """

    fps: Fraction
    base: Fraction | None = None
    codec: str = ""
    bits: int = 8
    carry: Path | None = None
    until: bool = False
    tags: Tags = BT709


class Sink(Protocol):
    """Takes the frames of one clip: `write` each uint8 or uint16 (H, W, C), shown at `time` seconds, then `close`."""

    def write(self, frame: np.ndarray, time: Fraction | None = None) -> None:
        """Append one frame."""

    def close(self) -> None:
        """Complete the file and let go of it."""


class _Codec(NamedTuple):
    """An encoder: its options, the files that may hold it, and its pixel formats for even and odd sizes by bits."""

    encoder: str
    options: dict[str, str]
    suffixes: tuple[str, ...]
    even: dict[int, str]
    odd: dict[int, str]


# swscale takes chroma from the middle of four pixels. Without the tag H.264 means the left edge of them,
# and colours come back moved by half a pixel. With mbtree the same frames now and then make another file, where a
# side is no multiple of 16.
_H264 = {"crf": "14", "preset": "medium", "chroma_sample_location": "center", "mbtree": "0"}
_VP9 = {"crf": "16", "b:v": "0", "cpu-used": "4", "row-mt": "1"}
_HALVED = {8: "yuv420p", 10: "yuv420p10le"}
_WHOLE = {8: "yuv444p", 10: "yuv444p10le"}
_RGB = {8: "bgr0", 10: "gbrp10le", 16: "gbrp16le"}
CODECS = {
    # H.264 with halved chroma takes even sizes only; a cropped or padded file would not be the clip that was given.
    "h264": _Codec("libx264", _H264, (".mp4", ".mov", ".mkv"), _HALVED, _WHOLE),
    "av1": _Codec("libsvtav1", {"crf": "20", "preset": "8"}, (".mp4", ".mkv", ".webm"), _HALVED, _HALVED),
    "vp9": _Codec("libvpx-vp9", _VP9, (".webm", ".mkv", ".mp4"), {8: "yuv420p"}, {8: "yuv420p"}),
    "ffv1": _Codec("ffv1", {"level": "3", "slicecrc": "1"}, (".mkv",), _RGB, _RGB),
    "gif": _Codec("gif", {}, (".gif",), {8: "pal8"}, {8: "pal8"}),
}
USUAL = {".mp4": "h264", ".mov": "h264", ".mkv": "h264", ".webm": "vp9", ".gif": "gif"}
MUXING = {".mp4": {"movflags": "+faststart"}, ".mov": {"movflags": "+faststart"}, ".gif": {"loop": "0"}}


def is_film(suffix: str) -> bool:
    """Whether files with this suffix hold a film whose frames have any time stamps: not a GIF, an array, pictures."""
    return suffix.lower() in USUAL and suffix.lower() != ".gif"


def check_plan(path: Path, plan: Plan) -> None:
    """MediaError if a file with this suffix cannot be written as planned."""
    suffix = path.suffix.lower()
    if plan.bits not in BITS:
        raise MediaError(f"{path}: cannot write {plan.bits} bits; give {', '.join(map(str, BITS))}")
    if suffix not in USUAL:
        if plan.codec:
            raise MediaError(f"{path}: {suffix or 'a folder of pictures'} has no codec {plan.codec}; leave it away")
        return
    codec = CODECS.get(plan.codec or USUAL[suffix])
    if codec is None or suffix not in codec.suffixes:
        able = [name for name, other in CODECS.items() if suffix in other.suffixes]
        raise MediaError(f"{path}: cannot hold {plan.codec}; for {suffix} give {', '.join(able)}")
    if plan.bits not in codec.even:
        raise MediaError(
            f"{path}: {plan.codec or USUAL[suffix]} stores {' or '.join(map(str, codec.even))} bits here, "
            f"not {plan.bits}; choose ffv1 in .mkv, .npy, .h5 or numbered pictures"
        )


class _Video:
    """A file that FFmpeg writes."""

    def __init__(self, path: Path, plan: Plan, shape: tuple[int, ...]) -> None:
        _check_channels(path, shape, (1, 3))
        suffix = path.suffix.lower()
        codec = CODECS[plan.codec or USUAL[suffix]]
        self._gif, self._bits, self._tags = codec.encoder == "gif", plan.bits, plan.tags
        # GIF counts hundredths of a second, and players slow down a frame that lasts less than two of them.
        fps = min(plan.fps, Fraction(50)) if self._gif else plan.fps
        self._base = plan.base if plan.base and not self._gif else 1 / fps
        self._count, self._last = 0, -1
        self._container = av.open(str(path), "w", options=MUXING.get(suffix, {}))
        stream = self._container.add_stream(codec.encoder, rate=fps, options=codec.options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = shape[:2]
        stream.pix_fmt = (codec.odd if shape[0] % 2 or shape[1] % 2 else codec.even)[plan.bits]
        stream.codec_context.time_base = self._base
        self._stream, self._even = stream, plan.base is None or self._gif
        self.passengers = Passengers(plan.carry, self._container) if plan.carry else None
        if not self._gif:
            _tag(stream, plan.tags)

    def write(self, frame: np.ndarray, time: Fraction | None = None) -> None:
        picture = _paletted(to_bytes(frame)) if self._gif else self._converted(frame)
        place = self._count if self._even or time is None else round(time / self._base)
        # Times nearer than one unit of the file would stop the player's clock.
        self._last = picture.pts = max(place, self._last + 1)
        picture.time_base = self._base
        if self.passengers:
            self.passengers.until(picture.pts * self._base)
        self._container.mux(self._stream.encode(picture))
        self._count += 1

    def _converted(self, frame: np.ndarray) -> av.VideoFrame:
        return _converted(frame, str(self._stream.pix_fmt), self._bits, self._tags)

    def close(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
            if self.passengers:
                self.passengers.finish()
        finally:
            self._container.close()


def _check_channels(path: Path, shape: tuple[int, ...], able: tuple[int, ...]) -> None:
    if shape[2] not in able:
        raise MediaError(f"{path}: holds {' or '.join(map(str, able))} channels, not {shape[2]}; give .npy or .h5")


def _tag(stream: VideoStream, tags: Tags) -> None:
    context = stream.codec_context
    rgb = is_rgb(str(stream.pix_fmt))
    context.color_range = ColorRange.JPEG if rgb or tags.full else ColorRange.MPEG
    context.color_primaries, context.color_trc = tags.primaries, tags.transfer
    if not rgb:
        context.colorspace = tags.matrix


def is_rgb(pixel_format: str) -> bool:
    """Whether pixels are stored as red, green and blue."""
    return pixel_format.startswith(("bgr", "gbr"))


def _converted(frame: np.ndarray, pixel_format: str, bits: int, tags: Tags) -> av.VideoFrame:
    colour = np.ascontiguousarray(with_channels(to_bytes(frame) if bits == 8 else to_words(frame), 3))
    if not is_rgb(pixel_format) and (bits > 8 or tags.full):
        return luma.stored(colour, pixel_format, tags)
    picture = av.VideoFrame.from_ndarray(colour, format="rgb24" if bits == 8 else "rgb48le")
    if is_rgb(pixel_format):
        return picture.reformat(format=pixel_format, interpolation=_TO_YUV)
    return picture.reformat(
        format=pixel_format,
        interpolation=_TO_YUV,
        dst_colorspace=MATRICES[tags.matrix],
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

    def __init__(self, path: Path, plan: Plan, shape: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        self._deepen = to_bytes if plan.bits == 8 else to_words
        self._kind = "|u1" if plan.bits == 8 else "<u2"
        self._shape, self._count = shape, 0
        self._header()

    def write(self, frame: np.ndarray, _: Fraction | None = None) -> None:
        self._file.write(self._deepen(frame).astype(self._kind).tobytes())
        self._count += 1

    def close(self) -> None:
        with self._file:
            self._file.seek(0)
            self._header()

    def _header(self) -> None:
        # NumPy pads a header so that its first axis can grow to any length in place.
        fields = {"descr": self._kind, "fortran_order": False, "shape": (self._count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, fields)


class _Hdf5:
    """A .h5 file with one data set "frames", compressed without loss frame by frame."""

    def __init__(self, path: Path, plan: Plan, shape: tuple[int, ...]) -> None:
        try:
            import h5py
        except ImportError as error:
            raise MediaError(f"{path}: writing HDF5 needs h5py: pip install 'framefill[arrays]'") from error
        self._deepen = to_bytes if plan.bits == 8 else to_words
        self._file = h5py.File(path, "w")
        self._frames: Any = self._file.create_dataset(
            "frames", (0, *shape), "u1" if plan.bits == 8 else "<u2", maxshape=(None, *shape), chunks=(1, *shape),
            compression="gzip", shuffle=True, track_times=False,
        )  # fmt: skip
        self._frames.attrs["fps"] = str(plan.fps)

    def write(self, frame: np.ndarray, _: Fraction | None = None) -> None:
        self._frames.resize(len(self._frames) + 1, axis=0)
        self._frames[-1] = self._deepen(frame)

    def close(self) -> None:
        self._file.close()


class _Pictures:
    """A folder of PNG files named 000000.png, 000001.png, ..."""

    def __init__(self, path: Path, plan: Plan, shape: tuple[int, ...]) -> None:
        _check_channels(path, shape, (1, 3))
        path.mkdir()
        self._folder, self._count, self._deep = path, 0, plan.bits > 8

    def write(self, frame: np.ndarray, _: Fraction | None = None) -> None:
        picture = self._folder / f"{self._count:06d}.png"
        if self._deep:
            _write_deep(picture, to_words(frame))
        else:
            pixels = to_bytes(frame)
            Image.fromarray(pixels[..., 0] if frame.shape[-1] == 1 else pixels).save(picture)
        self._count += 1

    def close(self) -> None:
        """Every picture is closed already."""


def _write_deep(path: Path, frame: np.ndarray) -> None:
    """A PNG of 16 bits, which Pillow knows for grey only."""
    grey = frame.shape[-1] == 1
    picture = av.VideoFrame.from_ndarray(frame[..., 0] if grey else frame, format="gray16le" if grey else "rgb48le")
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.time_base = frame.shape[1], frame.shape[0], Fraction(1)
    encoder.pix_fmt = "gray16be" if grey else "rgb48be"
    packets = encoder.encode(picture.reformat(format=encoder.pix_fmt)) + encoder.encode(None)
    path.write_bytes(b"".join(bytes(packet) for packet in packets))


SINKS: dict[str, Callable[[Path, Plan, tuple[int, ...]], Sink]] = {
    **dict.fromkeys(USUAL, _Video),
    ".npy": _Array,
    ".h5": _Hdf5,
    "": _Pictures,
}
