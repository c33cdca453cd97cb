"""Strangers' files: cut anywhere, every byte flipped, mutated at random. A typed error, or a picture with a warning."""

import json
import os
import resource
import subprocess
import sys
import time
import warnings
import zlib
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import picture_worker
from codec_double import codec
from framefill.codec import header
from framefill.codec.container import Extra, PartLost, pack, unpack
from framefill.codec.header import Colour, Depth, Header, Kind, Limits
from framefill.codec.pictures import Picture
from framefill.errors import CodecError, FramefillError
from test_picture_codec import scene

HERE = Path(__file__).parent
SMALL = Limits(pixels=10_000)


def decoded(there, data: bytes) -> tuple[Picture | None, bool]:
    """The picture (none: a typed error) and whether it came with a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = there.decompress(data, limits=SMALL)
        except FramefillError:
            return None, False
    assert all(issubclass(w.category, PartLost) for w in caught), [str(w.message) for w in caught]
    return found, bool(caught)


def sample_file(there, **options) -> bytes:
    picture = scene(9, 12, 4)
    return there.compress(Picture(picture.pixels, exif=b"II*\0more"), quality=2, **options)


@pytest.fixture(scope="module")
def there():
    return codec()


def test_every_truncation_is_an_error_or_a_part(there):
    data = sample_file(there)
    kinds = [decoded(there, data[:size]) for size in range(len(data))]
    assert all(warned for found, warned in kinds if found is not None)
    first = next(i for i, (found, _) in enumerate(kinds) if found is not None)
    assert all(found is not None for found, _ in kinds[first:])  # once there is a picture, more bytes keep it
    assert first < len(data) - 3
    assert all(found.size == (9, 12) for found, _ in kinds[first:])


@pytest.mark.parametrize("options", [{}, pytest.param({"max_error": 0}, marks=pytest.mark.slow)])
def test_every_flipped_byte_is_an_error_or_a_warning(there, options):
    data = sample_file(there, **options)
    front = header.read(data, SMALL)[2]
    whole = there.decompress(data)
    for place in range(len(data)):
        bad = bytearray(data)
        bad[place] ^= 0xFF if place % 2 else 1
        found, warned = decoded(there, bytes(bad))
        assert (found is None) == (place < front), place
        if found is not None:
            assert warned
            assert found.pixels.shape == whole.pixels.shape


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, taken out, put in or doubled; half of the files get sound checksums again."""
    bad = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        place, kind = int(rng.integers(len(bad) + 1)), int(rng.integers(5))
        more = rng.bytes(int(rng.integers(1, 5)))
        if kind == 0:
            bad[place : place + len(more)] = more
        elif kind == 1:
            del bad[place : place + len(more)]
        elif kind == 2:
            bad[place:place] = more
        elif kind == 3:
            bad[place:place] = bad[place : place + 40]
        elif bad and place < len(bad):
            bad[place] ^= 1 << int(rng.integers(8))
    return bytes(bad)


def forged(data: bytes, rng: np.random.Generator) -> bytes:
    """Nonsense under sound checksums: payloads changed, then packed as the format wants it."""
    contents = unpack(data)
    parts = [[mutated(layer, rng) if rng.random() < 0.4 else layer for layer in contents.part(0)]]
    extras = [Extra(e.kind, mutated(e.data, rng) if rng.random() < 0.4 else e.data) for e in contents.extras]
    head = contents.header
    if rng.random() < 0.3:
        head = replace(head, width=int(rng.integers(1, 90)), height=int(rng.integers(1, 90)))
    if rng.random() < 0.3:
        head = replace(head, colour=Colour(int(rng.integers(8))), depth=Depth(int(rng.integers(6))))
    return pack(head, parts, extras)


def attack(there, count: int, seed: int) -> dict[str, float]:
    """Outcomes of so many files, and the seconds of the slowest."""
    rng = np.random.default_rng(seed)
    files = [sample_file(there), sample_file(there, max_error=0), sample_file(there, max_error=3, seed=9)]
    found: dict[str, float] = {"error": 0, "part": 0, "whole": 0, "slowest": 0.0}
    for index in range(count):
        data = (forged if index % 2 else mutated)(files[index % 3], rng)
        start = time.monotonic()
        picture, warned = decoded(there, data)
        found["slowest"] = max(found["slowest"], time.monotonic() - start)
        found["error" if picture is None else "part" if warned else "whole"] += 1
    return found


def test_300_mutated_files(there):
    found = attack(there, 300, seed=0)
    assert found["error"] > 50
    assert found["part"] > 20
    assert found["slowest"] < 20


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_10_000_mutated_files_in_a_limited_memory():
    """In a process of its own: 0 crashes, 0 hangs, and not more than 3 GB of addresses beyond those it begins with."""
    words = (
        "import resource, json; import test_picture_fuzz as t; from codec_double import codec; there = codec();"
        "t.attack(there, 5, 1); now = int(open('/proc/self/statm').read().split()[0]) * 4096;"
        "resource.setrlimit(resource.RLIMIT_AS, (now + 3 * 10**9,) * 2);"
        "print(json.dumps(t.attack(there, 10_000, 2)))"
    )
    made = subprocess.run([sys.executable, "-c", words], env=environment(), capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    found = json.loads(made.stdout)
    print(found)
    assert found["error"] + found["part"] + found["whole"] == 10_000
    assert found["slowest"] < 20


def environment(**settings: str) -> dict[str, str]:
    import framefill

    paths = [str(Path(framefill.__file__).parents[1]), str(HERE)]
    return os.environ | settings | {"PYTHONPATH": os.pathsep.join(paths)}


def test_absurd_claims_are_refused_before_anything_is_made(there):
    part = list(unpack(sample_file(there)).part(0))
    mark = unpack(sample_file(there)).header.fingerprint
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for width, height in ((2**40, 2**20), (2**62, 1), (1, 2**62), (10**5, 10**5)):
        start = time.monotonic()
        with pytest.raises(CodecError, match="pixels, over"):
            there.decompress(pack(Header(Kind.IMAGE, mark, width, height, layers=3), [part]))
        assert time.monotonic() - start < 5
    with pytest.raises(CodecError, match="1 parts of 3 layers, a picture of its size 64"):
        there.decompress(
            pack(Header(Kind.IMAGE, mark, 8192, 8192, layers=3), [part])
        )  # within limits, but too few parts
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_foreign_files_later_versions_and_unknown_models(there):
    data = bytearray(sample_file(there))
    later, model = bytearray(data), bytearray(data)
    later[3] += 16
    model[6:10] = b"????"
    for bad, words in (
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "not a framefill codec file"), (b"", "begins with"),
        (bytes(later), "format version 2"), (bytes(model), "which is not here"),
        (zlib.compress(bytes(data)), "codec file"),
    ):  # fmt: skip
        with pytest.raises(CodecError, match=words):
            there.decompress(bad)


def under(folder: Path, capability: str, threads: int, onednn: int) -> dict:
    isa = {"default": "SSE41", "avx2": "AVX2", "avx512": "DEFAULT"}[capability]
    made = subprocess.run(
        [sys.executable, str(HERE / "picture_worker.py"), str(folder)],
        env=environment(
            ATEN_CPU_CAPABILITY=capability, ONEDNN_MAX_CPU_ISA=isa, FRAMEFILL_TEST_ONEDNN=str(onednn),
            OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), OMP_WAIT_POLICY="PASSIVE",
        ),
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-2000:]
    return json.loads(made.stdout)


def same(found: dict) -> None:
    assert found["symbols"] == found["files"] == found["total"] == 6
    assert found["apart"] <= 1 / 255 + 1e-9


def test_another_machine_reads_the_same_symbols_and_writes_the_same_bytes(tmp_path):
    picture_worker.reference(tmp_path)
    same(under(tmp_path, "default", 2, 0))


@pytest.mark.slow
def test_18_settings_of_the_machine_agree(tmp_path):
    picture_worker.reference(tmp_path)
    for setting in product(("default", "avx2", "avx512"), (1, 2, 4), (0, 1)):
        same(under(tmp_path, *setting))
