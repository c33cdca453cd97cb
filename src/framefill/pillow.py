"""Pillow reads and writes .ffc after `import framefill.pillow`: Image.open("a.ffc"), image.save("a.ffc", quality=2).

The header alone gives size and mode; the networks run when pixels are asked for.
"""

import io
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

from framefill import codecs
from framefill.codec.header import MAGIC, Colour, Depth, Kind, Limits, read
from framefill.codec.pictures import MODES, MOST_PIXELS, Picture
from framefill.codec.pictures import read as read_picture
from framefill.errors import FramefillError

FORMAT, SUFFIX = "FFC", ".ffc"
_modes = {Colour.GREY: "L", Colour.GREY_ALPHA: "LA", Colour.RGB: "RGB", Colour.RGBA: "RGBA"}


class CompressedImage(ImageFile.ImageFile):
    """A .ffc file. Pillow has no 16-bit colour: such pictures come with 8 bits, 16-bit grey as it is."""

    format, format_description = FORMAT, "framefill compressed picture"

    def _open(self) -> None:
        assert self.fp is not None
        data = self.fp.read()
        try:
            header, _, _ = read(data, Limits(pixels=Image.MAX_IMAGE_PIXELS or 2**62))
        except FramefillError as error:
            raise SyntaxError(str(error)) from error
        if header.kind != Kind.IMAGE or header.colour not in _modes:
            raise SyntaxError(f"this .ffc file holds a {header.kind.name.lower()}, not a picture")
        self._data: bytes | None = data
        self._size = (header.width, header.height)
        deep = header.depth == Depth.BITS_16 and header.colour == Colour.GREY
        self._mode = "I;16" if deep else _modes[header.colour]

    def load(self) -> Any:
        """Decodes the pixels, once; OSError where that cannot be done."""
        if self._data is not None:
            try:
                picture = codecs.codec().decompress(self._data, limits=Limits(pixels=2**62))
            except FramefillError as error:
                raise OSError(str(error)) from error
            self._data = None
            self.im = _image(picture).im
            self.info |= {"exif": b"Exif\0\0" + picture.exif} if picture.exif else {}
            self.info |= {"icc_profile": picture.icc} if picture.icc else {}
        return Image.Image.load(self)


def _image(picture: Picture) -> Image.Image:
    pixels = picture.pixels
    if pixels.dtype == np.uint16 and pixels.shape[2] > 1:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.shape[2] == 1:
        return Image.fromarray(pixels[..., 0])
    return Image.fromarray(pixels, MODES[pixels.shape[2]])


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Options of Image.save: quality, size (bytes), steps, seed, max_error, exif, icc_profile, model."""
    options = dict(image.encoderinfo)
    exif = options.pop("exif", image.info.get("exif") or b"")
    exif = exif.tobytes() if isinstance(exif, Image.Exif) else exif
    icc = options.pop("icc_profile", image.info.get("icc_profile")) or b""
    model, size = options.pop("model", ""), options.pop("size", None)
    known = {key: options[key] for key in ("quality", "steps", "seed", "max_error") if key in options}
    try:
        codec = codecs.codec(model)
        picture = Picture(_pixels(image), exif.removeprefix(b"Exif\0\0"), icc)
        data = codec.compress(picture, **known) if size is None else codec.fitted(picture, size, **known)
    except FramefillError as error:
        raise ValueError(str(error)) from error
    file.write(data)


def _pixels(image: Image.Image) -> Any:
    """Through a PNG, which knows all that a picture in memory can be; what it cannot hold, Pillow refuses."""
    held = io.BytesIO()
    image.save(held, "PNG", compress_level=0)
    held.seek(0)
    return read_picture(held, most=max(MOST_PIXELS, image.size[0] * image.size[1])).pixels


Image.register_open(FORMAT, CompressedImage, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, SUFFIX)
Image.register_mime(FORMAT, "image/x-framefill")
