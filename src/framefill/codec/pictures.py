"""Pictures as users have them: pixels of 8 or 16 bits, grey or RGB, with or without alpha, and what travels with them.

A file is input from a stranger: only the formats named here are opened, the size is compared with a limit before any
pixel is decoded, and whatever the libraries raise becomes one line. Pillow cuts 16-bit colour down to 8 bits, so such
PNG and TIFF files are decoded by FFmpeg (PyAV). Orientation is metadata: it is kept with the EXIF, never applied.
"""

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from framefill.atomic import replacing
from framefill.codec.header import Colour, Depth
from framefill.errors import BadInput, MediaError, NotWritten

MOST_PIXELS = 100_000_000
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM", "GIF", "TGA", "JPEG2000", "AVIF")
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm", ".gif", ".tga", ".jp2", ".avif")
)
COLOURS = {1: Colour.GREY, 2: Colour.GREY_ALPHA, 3: Colour.RGB, 4: Colour.RGBA}
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
PLAIN = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA", "RGBa": "RGBA",
         "P": "RGB", "PA": "RGBA", "YCbCr": "RGB"}  # fmt: skip
CLEAR = {"L": "LA", "RGB": "RGBA"}
EXIF_START = b"Exif\0\0"
BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, MemoryError,
          ArithmeticError, AttributeError, RuntimeError, struct.error, zlib.error)  # fmt: skip
# Of a TIFF's first directory: how the pixels are stored, and the colour profile. The rest describes the picture.
STRUCTURE = frozenset((*range(254, 260), 262, 266, *range(273, 274), *range(277, 280), 284, 317, *range(320, 326),
                       338, 339, 347, *range(512, 522), 530, 531, 532, 34675))  # fmt: skip
ORIENTATION = 274
SIDEWAYS = (5, 6, 7, 8)
_turns = Image.Transpose
BACK = {2: _turns.FLIP_LEFT_RIGHT, 3: _turns.ROTATE_180, 4: _turns.FLIP_TOP_BOTTOM, 5: _turns.TRANSPOSE,
        6: _turns.ROTATE_90, 7: _turns.TRANSVERSE, 8: _turns.ROTATE_270}  # fmt: skip
_bombs = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """`pixels` uint8 or uint16 (H, W, C): grey, grey and alpha, RGB or RGBA. `exif` is a TIFF block, `icc` a profile.

    BadInput for other types, channels, or nothing at all.
    """

    pixels: NDArray[Any]
    exif: bytes = b""
    icc: bytes = b""

    def __post_init__(self) -> None:
        p = self.pixels
        if p.dtype not in (np.uint8, np.uint16) or p.ndim != 3 or p.shape[2] not in COLOURS or p.size == 0:
            raise BadInput(f"pixels are {p.dtype} {p.shape}; give uint8 or uint16 (H, W, 1 to 4), nothing empty")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def colour(self) -> Colour:
        """What the channels are."""
        return COLOURS[self.pixels.shape[2]]

    @property
    def depth(self) -> Depth:
        """Bits of a level."""
        return Depth.BITS_8 if self.pixels.dtype == np.uint8 else Depth.BITS_16

    @property
    def top(self) -> int:
        """The largest level."""
        return int(np.iinfo(self.pixels.dtype).max)

    @property
    def colours(self) -> NDArray[Any]:
        """The pixels (H, W, 1 or 3) without alpha."""
        return self.pixels[..., : 3 if self.pixels.shape[2] > 2 else 1]

    @property
    def alpha(self) -> NDArray[Any] | None:
        """Alpha (H, W), if there is one."""
        return self.pixels[..., -1] if self.pixels.shape[2] in (2, 4) else None


def read(source: Path | BinaryIO, *, most: int = MOST_PIXELS) -> Picture:
    """The picture in a file or a stream. MediaError for what is none, animated, CMYK, or of more than `most` pixels."""
    name = str(source) if isinstance(source, Path) else "the picture"
    try:
        data = source.read_bytes() if isinstance(source, Path) else source.read()
    except OSError as error:
        raise MediaError(f"cannot read {name}: {error.strerror or error}") from error
    with _unlimited(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check(name, image, most)
                return _tiff(name, data, image) if image.format == "TIFF" else _usual(name, data, image)
        except UnidentifiedImageError as error:
            kinds = ", ".join(FORMATS)
            raise MediaError(f"{name} is not a picture that can be read; give one of {kinds}, not empty") from error
        except BROKEN as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise MediaError(f"{name} is not a picture that can be read ({reason}); save it as PNG or JPEG") from error


@contextmanager
def _unlimited() -> Iterator[None]:
    """Without Pillow's own limit, which is one for the whole process; ours is checked before pixels are decoded."""
    with _bombs:
        held, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = held


def _check(name: str, image: Image.Image, most: int) -> None:
    width, height = image.size
    if width * height > most:
        raise MediaError(
            f"{name} has {width}x{height} pixels, at most {most} are read; if you trust it, give --limit-pixels "
            f"{width * height}"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # of a stereo or phone picture the first is the picture
        raise MediaError(f"{name} holds {frames} pictures; give a single one, such as its first frame as PNG")
    if image.mode == "CMYK":
        raise MediaError(f"{name} is CMYK, colours of ink; convert it to RGB first")
    if image.mode not in PLAIN and not image.mode.startswith("I;16"):
        raise MediaError(f"{name} has pixels of kind {image.mode}; give grey or RGB of 8 or 16 bits")


def _usual(name: str, data: bytes, image: Image.Image) -> Picture:
    pixels = _deep(name, data, image.size, "png") if _is_deep(image) else _pixels(image)
    image.load()  # what stands behind the pixels, too
    exif = image.info.get("exif") or b""
    return Picture(pixels, exif.removeprefix(EXIF_START), image.info.get("icc_profile") or b"")


def _tiff(name: str, data: bytes, image: Image.Image) -> Picture:
    """Pillow turns a TIFF as its orientation says, and forgets that; here it stays as it is stored."""
    exif, icc = _tags(image), image.info.get("icc_profile") or b""
    orientation = image.getexif().get(ORIENTATION, 1)
    if _is_deep(image):
        width, height = image.size
        stored = (height, width) if orientation in SIDEWAYS else (width, height)
        return Picture(_deep(name, data, stored, "tiff"), exif, icc)
    image.load()
    if orientation in BACK:
        turned = image.transpose(BACK[orientation])
        turned.info = image.info
        return Picture(_pixels(turned), exif, icc)
    return Picture(_pixels(image), exif, icc)


def _is_deep(image: Any) -> bool:
    """16 bits of colour that Pillow would cut down to 8."""
    return image.format in ("PNG", "TIFF") and not image.mode.startswith("I;16") and ";16" in str(image.tile)


def _pixels(image: Image.Image) -> NDArray[Any]:
    if image.mode.startswith("I;16"):
        return np.array(image).astype(np.uint16)[..., None]
    mode = PLAIN[image.mode]
    if "transparency" in image.info:
        mode = CLEAR.get(mode, mode)
    pixels = np.array(image.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _deep(name: str, data: bytes, size: tuple[int, int], coding: str) -> NDArray[np.uint16]:
    """Colour of 16 bits, of a picture of (width, height)."""
    import av

    decoder: Any = av.CodecContext.create(coding, "r")
    try:
        frame = [*decoder.decode(av.Packet(data)), *decoder.decode(None)][0]
    except av.FFmpegError as error:
        raise ValueError(str(error)) from error
    channels = {"gray16": 1, "ya16": 2, "rgb48": 3, "rgba64": 4}.get(frame.format.name[:-2])
    if channels is None or (frame.width, frame.height) != size:
        raise MediaError(f"{name} stores its 16 bits as {frame.format.name}; save it as a plain 16-bit PNG")
    plane = frame.planes[0]
    rows = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height]
    words = np.ascontiguousarray(rows[:, : 2 * channels * frame.width]).view(
        ">u2" if frame.format.name[-2:] == "be" else "<u2"
    )
    return words.astype(np.uint16).reshape(frame.height, frame.width, channels)


def _tags(image: Image.Image) -> bytes:
    """The tags of a TIFF that do not say how its pixels are stored, as a block of their own."""
    tags = Image.Exif()
    tags.load(image.getexif().tobytes())
    for tag in STRUCTURE.intersection(tags):
        del tags[tag]
    return tags.tobytes().removeprefix(EXIF_START) if len(tags) else b""


def write(picture: Picture, path: Path) -> None:
    """Writes the format that the suffix names, atomically, with EXIF and ICC.

    PNG and TIFF keep 16 bits, others take 8, rounded. JPEG and AVIF are written finely, GIF keeps 256 colours, the
    others lose nothing.
    NotWritten where the format is unknown or does not take the picture.
    """
    data = encode(picture, path.suffix)
    with replacing(path) as part:
        part.write_bytes(data)


def encode(picture: Picture, suffix: str) -> bytes:
    """The file's bytes; see `write`."""
    kind = kind_of(suffix)
    if picture.depth == Depth.BITS_16 and kind in ("PNG", "TIFF"):
        return _deep_png(picture) if kind == "PNG" else _deep_tiff(picture)
    pixels = picture.pixels
    if picture.depth == Depth.BITS_16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels, MODES[pixels.shape[2]])
    return _saved(image, kind, picture)


def kind_of(suffix: str) -> str:
    """Pillow's name of the format that a suffix names; NotWritten where pictures cannot be written so."""
    Image.init()
    kind = Image.registered_extensions().get(suffix.lower(), "")
    if kind not in Image.SAVE or kind not in FORMATS:
        raise NotWritten(
            f"cannot write pictures as {suffix or 'a file without suffix'}; name it .png, .jpg, .tif or .webp"
        )
    return kind


def _saved(image: Image.Image, kind: str, picture: Picture) -> bytes:
    options: dict[str, Any] = {"icc_profile": picture.icc} if picture.icc else {}
    if picture.exif:
        options["exif"] = EXIF_START + picture.exif
    more: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True}, "AVIF": {"quality": 95},
    }  # fmt: skip
    target = io.BytesIO()
    try:
        image.save(target, kind, **options, **more.get(kind, {}))
    except BROKEN as error:
        reason = " ".join(str(error).split())[:100]
        raise NotWritten(f"{kind} does not take this {image.mode} picture ({reason}); name the file .png") from error
    return target.getvalue()


def _deep_png(picture: Picture) -> bytes:
    import av

    height, width = picture.size
    channels = picture.pixels.shape[2]
    form = {1: "gray16be", 2: "ya16be", 3: "rgb48be", 4: "rgba64be"}[channels]
    frame = av.VideoFrame(width, height, form)
    plane: Any = frame.planes[0]
    rows = np.zeros((height, plane.line_size), np.uint8)
    rows[:, : 2 * channels * width] = picture.pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    plane.update(rows.tobytes())
    encoder: Any = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, form, 1
    data = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    more = _chunk(b"iCCP", b"ICC\0\0" + zlib.compress(picture.icc)) if picture.icc else b""
    more += _chunk(b"eXIf", picture.exif) if picture.exif else b""
    head = 8 + 12 + 13  # signature and IHDR
    return data[:head] + more + data[head:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _deep_tiff(picture: Picture) -> bytes:
    """One strip without compression. Grey with alpha becomes RGBA, which more programs read."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    pixels = picture.pixels
    if pixels.shape[2] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    height, width, channels = pixels.shape
    body = pixels.astype("<u2").tobytes()
    tags = ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
    _describe(tags, picture)
    tags[256], tags[257], tags[258], tags[259] = width, height, (16,) * channels, 1
    tags[262], tags[273], tags[277], tags[278], tags[279] = (1 if channels == 1 else 2), 0, channels, height, len(body)
    if channels == 4:
        tags[338] = 2
    target = io.BytesIO()
    tags.save(target)  # Pillow moves the strip behind what it writes
    return target.getvalue() + body


def _describe(tags: Any, picture: Picture) -> None:
    """EXIF and profile as tags of a TIFF; EXIF that cannot be read is left out, as Pillow does."""
    described = Image.Exif()
    try:
        described.load(EXIF_START + picture.exif if picture.exif else b"")
        for tag, value in described.items():
            tags[tag] = described.get_ifd(tag) if tag in (34665, 34853) else value
    except BROKEN as error:
        raise NotWritten(f"TIFF does not take this EXIF ({error}); name the file .png") from error
    if picture.icc:
        tags[34675] = picture.icc
