"""Picture files in and out: every kind of pixels, what travels along, and what is refused with one line."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from framefill.codec import pictures
from framefill.codec.header import Colour, Depth
from framefill.codec.pictures import Picture, encode, read, write
from framefill.errors import BadInput, MediaError, NotWritten

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif_block(orientation: int = 6) -> bytes:
    tags = Image.Exif()
    tags[274], tags[271] = orientation, "Maker"
    tags.get_ifd(34665)[37386] = 35.0
    return tags.tobytes().removeprefix(b"Exif\0\0")


def noise(height: int, width: int, channels: int, dtype=np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_8_and_16_bits_come_back_with_what_travels_along(tmp_path, channels, dtype, suffix):
    picture = Picture(noise(9, 14, channels, dtype), exif_block(), ICC)
    path = tmp_path / f"a{suffix}"
    write(picture, path)
    found = read(path)
    expected = picture.pixels
    if (suffix, channels, dtype) == (".tif", 2, np.uint16):
        expected = expected[..., [0, 0, 0, 1]]  # as promised
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.pixels.dtype == dtype
    assert found.icc == ICC
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + found.exif)
    assert (tags[274], tags[271], float(tags.get_ifd(34665)[37386])) == (6, "Maker", 35)
    assert set(tags) == {274, 271, 34665}  # nothing of how the TIFF stored its pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_orientation_is_kept_not_applied_whatever_pillow_does(orientation, dtype):
    for suffix in (".png", ".tif"):
        picture = Picture(noise(5, 8, 3, dtype), exif_block(orientation))
        found = read(io.BytesIO(encode(picture, suffix)))
        np.testing.assert_array_equal(found.pixels, picture.pixels)
        tags = Image.Exif()
        tags.load(b"Exif\0\0" + found.exif)
        assert tags[274] == orientation


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".jp2", ".bmp", ".ppm"])
def test_other_formats_take_8_bits_rounded(suffix):
    y, x = np.mgrid[:40, :48]
    words = np.stack([800 * x, 1000 * y, 20000 + 300 * x + 200 * y], -1).astype(np.uint16)
    found = read(io.BytesIO(encode(Picture(words, exif_block(), ICC), suffix)))
    expected = np.round(words / 257)
    assert np.abs(found.pixels - expected).max() <= (0 if suffix in (".webp", ".jp2", ".bmp", ".ppm") else 12)
    assert (found.depth, found.colour) == (Depth.BITS_8, Colour.RGB)
    if suffix in (".jpg", ".webp", ".avif"):
        assert (found.exif, found.icc) == (exif_block(), ICC)


def saved(image: Image.Image, kind: str = "PNG", **options) -> io.BytesIO:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return io.BytesIO(target.getvalue())


def test_palettes_bits_and_clear_colours_become_pixels():
    colours = Image.fromarray(noise(8, 8, 3) // 128 * 255)
    palette = colours.quantize(8)
    np.testing.assert_array_equal(read(saved(palette)).pixels, np.asarray(palette.convert("RGB")))
    clear = read(saved(palette, transparency=0))
    assert clear.colour == Colour.RGBA
    assert set(np.unique(clear.alpha)) == {0, 255}
    assert read(saved(colours, transparency=(255, 255, 255))).colour == Colour.RGBA
    bits = Image.fromarray(noise(8, 8, 1)[..., 0] > 99)
    np.testing.assert_array_equal(read(saved(bits)).pixels[..., 0], 255 * np.asarray(bits))
    assert read(saved(palette, "GIF")).colour == Colour.RGB


def test_what_is_no_single_picture_of_grey_or_rgb_is_refused(tmp_path):
    frames = [Image.fromarray(noise(4, 4, 3)) for _ in range(3)]
    moving = {"save_all": True, "append_images": [Image.fromarray(255 - np.asarray(frames[0]))]}
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        with pytest.raises(MediaError, match="holds 2 pictures"):
            read(saved(frames[0], kind, **moving))
    with pytest.raises(MediaError, match="is CMYK, colours of ink"):
        read(saved(Image.fromarray(noise(4, 4, 4), "RGBA").convert("RGB").convert("CMYK"), "JPEG"))
    with pytest.raises(MediaError, match="pixels of kind F"):
        read(saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))
    (tmp_path / "text.png").write_text("hello")
    for path in (tmp_path / "text.png", tmp_path / "absent.png", tmp_path):
        with pytest.raises(MediaError) as told:
            read(path)
        assert "\n" not in str(told.value)
        assert str(path) in str(told.value)
        assert "BytesIO" not in str(told.value)


def test_a_bomb_is_refused_before_it_is_decoded():
    bomb = bytearray(saved(Image.new("L", (64, 64))).getvalue())
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(MediaError, match=r"60000x60000 pixels, at most 100000000.*--limit-pixels 3600000000"):
        read(io.BytesIO(bytes(bomb)))
    assert before == Image.MAX_IMAGE_PIXELS
    with pytest.raises(MediaError, match="at most 15 are read"):
        read(saved(Image.new("L", (4, 4))), most=15)
    assert read(saved(Image.new("L", (4, 4))), most=16).size == (4, 4)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_damaged_files_are_one_line_or_a_picture(suffix):
    data = encode(
        Picture(noise(12, 12, 3, np.uint16 if suffix in (".png", ".tif") else np.uint8), exif_block(), ICC), suffix
    )
    rng = np.random.default_rng(1)
    refused = []
    for _ in range(150):
        bad = bytearray(data[: int(rng.integers(len(data)))] if rng.random() < 0.3 else data)
        for place in rng.integers(0, max(len(bad), 1), 3) if bad else ():
            bad[place] = rng.integers(256)
        try:
            assert read(io.BytesIO(bytes(bad)), most=10**6).pixels.size
        except MediaError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert not any("\n" in line for line in refused)


def test_what_cannot_be_written_is_refused_and_nothing_is_left(tmp_path):
    clear = Picture(noise(4, 4, 4))
    for path, words in (
        ("a.jpg", "does not take this RGBA"),
        ("a.xyz", r"cannot write pictures as \.xyz"),
        ("a", "without suffix"),
    ):
        with pytest.raises(NotWritten, match=words):
            write(clear, tmp_path / path)
    with pytest.raises(NotWritten, match="does not take this RGB"):
        write(Picture(noise(4, 4, 3), exif=bytes(70000)), tmp_path / "a.jpg")
    with pytest.raises(NotWritten, match="TIFF does not take this EXIF"):
        write(Picture(noise(4, 4, 3, np.uint16), exif=b"nonsense"), tmp_path / "a.tif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 5), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3))],
)
def test_pixels_of_another_kind_are_refused(pixels):
    with pytest.raises(BadInput, match="give uint8 or uint16"):
        Picture(pixels)


def test_the_suffixes_named_can_all_be_read():
    for suffix in pictures.SUFFIXES - {".pgm"}:
        assert read(io.BytesIO(encode(Picture(noise(8, 8, 3)), suffix))).size == (8, 8)
