"""Files that were written by this version, with the shipped codec or without one: they are read for ever.

`python tests/test_golden_files.py` writes them; it adds, and never replaces.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from framefill import codecs
from framefill.codec.bounded import decode_field, encode_field
from framefill.codec.pictures import Picture
from framefill.codec.planes import Axis, _packed, decode_planes, encode_planes

FOLDER = Path(__file__).parent / "golden" / "files"
SYMBOLS = {
    "photo-2.ffc": "225f808679e29d7a31fc755b8572004a1b73bdccda4c8df5c2aaa73e7371241a",
    "photo-6.ffc": "50086ef99076f8dd13d8ba926bb42045102d9aa67d69a6d18fee359fe36ab7dd",
    "grey-alpha.ffc": "308611f9a293748df0d8411f16bf2c3248cd1e3ae2af3fee3031ba9f03694c86",
    "joined-2.ffc": "225f808679e29d7a31fc755b8572004a1b73bdccda4c8df5c2aaa73e7371241a",
    "lossless.ffc": "bd5d38ff5ec73e75fa1040e18c45a5e1cc7be938473d8a182d44159904d920c8",
    "near.ffc": "bd5d38ff5ec73e75fa1040e18c45a5e1cc7be938473d8a182d44159904d920c8",
}


def scene(height: int = 40, width: int = 56, channels: int = 3) -> np.ndarray:
    """Waves in whole numbers, the same on every machine."""
    y, x, c = np.ogrid[:height, :width, :channels]
    wave = (3 * y * y + 5 * x * (c + 1) + (x - 20) * (y - 30)) % 256
    return np.where((x // 9 + y // 7) % 2 == 0, wave, 255 - (wave + 40 * c) % 256).astype(np.uint8)


def field() -> np.ndarray:
    t, y, x = np.ogrid[:5, :11, :13]
    values = ((7 * t + y * y - 3 * x * t) / 8).astype(np.float32)
    values[1, 2, 3] = np.nan
    return values


def land() -> np.ndarray:
    """What stays is rough, and times differ by little; for series (version 2), turned or not."""
    t, y, x = np.ogrid[:20, :24, :4]
    return (
        (37 * y * y + 91 * x * x + 53 * x * y) % 401 + (31 * t * t + t * y + x) % 97 // 3 + (x + 17 * y + 13 * t) % 11
    )


def written() -> dict[str, bytes]:
    """Every file by its name."""
    together, grey = codecs.codec("photos"), Picture(scene(channels=2))
    codec = replace(together, joined=0)
    return {
        "photo-2.ffc": codec.compress(Picture(scene(), icc=b"a profile"), quality=2),
        "photo-6.ffc": codec.compress(Picture(scene()), quality=6, steps=4, seed=300),
        "grey-alpha.ffc": codec.compress(grey, quality=3),
        "joined-2.ffc": together.compress(Picture(scene()), quality=2),
        "lossless.ffc": codec.compress(Picture(scene()), max_error=0),
        "near.ffc": codec.compress(Picture(scene()), quality=4, max_error=3),
        "field.bin": encode_field(field(), 0.05),
        "exact.bin": encode_field(field()),
        "planes.bin": encode_planes(scene().astype(np.int64).transpose(2, 0, 1), axis=Axis.CHANNELS),
        "series.bin": _packed(land(), None, Axis.TIMES, 0),
        "turned.bin": _packed(land(), None, Axis.TIMES, 2),
    }


def digest(data: bytes) -> str:
    codec = codecs.codec("photos")
    return hashlib.sha256(codec._decoded(codec._opened(data, None)).numpy().astype("<i4").tobytes()).hexdigest()


@pytest.mark.parametrize("name", SYMBOLS)
def test_pictures_of_this_version_are_read(name):
    data = (FOLDER / name).read_bytes()
    assert digest(data) == SYMBOLS[name]
    picture = codecs.codec("photos").decompress(data)
    truth = scene(channels=2 if "alpha" in name else 3)
    apart = np.abs(picture.pixels.astype(int) - truth)
    assert picture.pixels.shape == truth.shape
    assert apart.mean() < 60
    if name == "lossless.ffc":
        assert apart.max() == 0
    if name == "near.ffc":
        assert apart.max() <= 3
    if name == "grey-alpha.ffc":
        assert (apart[..., 1] == 0).all()
    assert picture.icc == (b"a profile" if name == "photo-2.ffc" else b"")


def test_fields_and_planes_of_this_version_are_read():
    near = decode_field((FOLDER / "field.bin").read_bytes(), np.float32)
    assert np.nanmax(np.abs(near - field())) <= 0.05
    assert np.array_equal(np.isnan(near), np.isnan(field()))
    assert decode_field((FOLDER / "exact.bin").read_bytes(), np.float32).tobytes() == field().tobytes()
    assert np.array_equal(decode_planes((FOLDER / "planes.bin").read_bytes()), scene().transpose(2, 0, 1))
    for name, turn in (("series.bin", 0), ("turned.bin", 2)):
        data = (FOLDER / name).read_bytes()
        assert data[:2] == bytes([2, turn])
        assert np.array_equal(decode_planes(data), land())


def test_none_is_lost():
    assert {path.name for path in FOLDER.iterdir()} == {
        *SYMBOLS,
        "field.bin",
        "exact.bin",
        "planes.bin",
        "series.bin",
        "turned.bin",
    }


if __name__ == "__main__":
    for name, data in written().items():
        if not (FOLDER / name).exists():
            (FOLDER / name).write_bytes(data)
        if name in SYMBOLS:
            print(name, digest((FOLDER / name).read_bytes()))
