"""Hostile files, all the way to symbols: typed errors only, nothing silent, in bounded time and memory."""

import json
import resource
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codec_golden
from framefill.codec.container import pack, unpack
from framefill.codec.header import MAGIC, Limits
from framefill.errors import BadInput, CodecError

INDEX = json.loads((codec_golden.FOLDER / "index.json").read_text())
SYMBOLS = np.load(codec_golden.FOLDER / "symbols.npz")
FILES = {name: (codec_golden.FOLDER / f"{name}.ffc").read_bytes() for name in INDEX}
MODELS = {kind: codec_golden.load(kind) for kind in {entry["model"] for entry in INDEX.values()}}
LIMITS = Limits(pixels=10**6, pictures=1000, channels=100, samples=10**8)


def changed(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes overwritten, cut out, put in, doubled, or the end lost."""
    bad = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        place, span = int(rng.integers(0, len(bad) + 1)), int(rng.integers(1, 9))
        match int(rng.integers(6)):
            case 0:
                bad[place : place + span] = rng.bytes(span)
            case 1:
                del bad[place : place + span]
            case 2:
                bad[place:place] = rng.bytes(span)
            case 3:
                bad[place:place] = bad[place : place + span]
            case 4:
                bad[place : place + 1] = bytes([1 << int(rng.integers(8))])
            case _:
                del bad[place:]
    return bytes(bad)


def symbols_of(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and which were sent, as a reader of this golden file would take them."""
    found = unpack(data, limits=LIMITS, known={b"gold"})
    model = MODELS[INDEX[name]["model"]]
    if found.header.layers != model.layers:
        raise CodecError("the file has other layers than its model")
    decoded = model.decode([found.part(i) for i in range(found.parts)], tuple(INDEX[name]["size"]))
    return decoded.symbols.numpy(), decoded.sent.numpy()


@pytest.mark.parametrize("count", [300, pytest.param(10000, marks=pytest.mark.slow)])
def test_mutated_files_never_give_a_wrong_symbol(count):
    names, before, refused, slowest = list(FILES), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0, 0.0
    for seed in range(count):
        rng = np.random.default_rng(seed)
        name = names[seed % len(names)]
        start = time.process_time()
        try:
            symbols, sent = symbols_of(changed(FILES[name], rng), name)
        except CodecError:
            refused += 1
        else:
            assert symbols.shape == SYMBOLS[name].shape
            assert np.array_equal(symbols[sent], SYMBOLS[name][sent])
        slowest = max(slowest, time.process_time() - start)
    print(f"{count} files: {refused} refused, slowest {slowest:.3f} s")
    assert refused > count / 4
    assert slowest < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18, "kilobytes"


@pytest.mark.parametrize("count", [100, pytest.param(10000, marks=pytest.mark.slow)])
def test_messages_mutated_under_sound_checksums_do_no_harm(count):
    """Someone who can compute a CRC gets wrong symbols or a CodecError, and nothing else."""
    names, before, slowest = list(FILES), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0.0
    for seed in range(count):
        rng = np.random.default_rng(seed)
        name = names[seed % len(names)]
        found = unpack(FILES[name])
        parts = [[None if m is None else changed(m, rng) for m in found.part(i)] for i in range(found.parts)]
        forged = pack(found.header, [[m or b"" for m in part] for part in parts], found.extras)
        start = time.process_time()
        try:
            symbols, _ = symbols_of(forged, name)
            assert np.abs(symbols).max() < 2**32
        except CodecError:
            pass
        slowest = max(slowest, time.process_time() - start)
    assert slowest < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18, "kilobytes"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_bytes_at_random_are_refused(data, marked):
    with pytest.raises(CodecError):
        unpack((MAGIC + b"\x10\x0c\x00" if marked else b"") + data)


def test_headers_of_absurd_size_are_refused_before_anything_is_made():
    found = unpack(FILES["image_context1_7x9"])
    parts, start = [found.part(0)], time.process_time()
    for width, height in ((2**62, 2**62), (2**31, 2), (1, 10**9), (20000, 20000)):
        with pytest.raises(CodecError, match="raise Limits"):
            unpack(pack(replace(found.header, width=width, height=height), parts))
    assert time.process_time() - start < 0.5
    assert issubclass(CodecError, BadInput), "the command line says it in one line and exits with 2"
