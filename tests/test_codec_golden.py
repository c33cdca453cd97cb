"""Streams of version 1 decode for ever, with our decoder and with one written from the specification alone."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import codec_golden
import codec_models
import second_decoder
from framefill.codec import gaussian
from framefill.codec.container import Extra, pack, unpack
from framefill.codec.header import Header, Kind

INDEX = json.loads((codec_golden.FOLDER / "index.json").read_text())
SYMBOLS = np.load(codec_golden.FOLDER / "symbols.npz")


def networks(arrays, kind: str) -> list:
    """Layers of whole numbers in the order of the specification."""
    count = 5 * codec_golden.GROUPS
    names = [[f"{kind}/networks.{i}.{layer}" for layer in ("first", "second", "last", "line")] for i in range(count)]
    return [[(arrays[f"{n}.weight"].tolist(), arrays[f"{n}.bias"].tolist()) for n in one] for one in names]


def second(data: bytes, kind: str, size: tuple[int, int], arrays) -> np.ndarray:
    """The symbols by the second decoder."""
    head, payloads = second_decoder.split(data)
    parts = [second_decoder.part(head, payloads, i) for i in range(len(payloads) // head["layers"])]
    if kind == "factorised":
        counts = arrays["factorised/counts"].tolist()
        found = [second_decoder.factorised(counts, payload, *size) for [payload] in parts]
    else:
        weights = networks(arrays, kind)
        found = [
            second_decoder.contextual(weights, codec_golden.CHANNELS, codec_golden.GROUPS, p, *size) for p in parts
        ]
    return np.array(found).reshape(len(parts), codec_golden.CHANNELS, *size)


def test_there_are_twenty_streams_and_none_is_lost():
    assert len(INDEX) >= 20
    assert {path.stem for path in codec_golden.FOLDER.glob("*.ffc")} == set(INDEX) == set(SYMBOLS.files)


@pytest.mark.parametrize("name", INDEX)
def test_golden_streams_decode(name):
    entry, data = INDEX[name], (codec_golden.FOLDER / f"{name}.ffc").read_bytes()
    assert codec_golden.digest(data) == entry["file"]
    found = codec_golden.decode(data, entry["model"], tuple(entry["size"]))
    assert np.array_equal(found, SYMBOLS[name])
    assert codec_golden.digest(found.astype("<i4").tobytes()) == entry["symbols"]
    arrays = np.load(codec_golden.FOLDER / "model.npz")
    assert np.array_equal(second(data, entry["model"], tuple(entry["size"]), arrays), SYMBOLS[name])


@pytest.mark.parametrize("name", INDEX)
def test_golden_streams_are_what_is_written(name):
    """Within a version the encoder keeps its bytes too."""
    if "_cut" in name:
        pytest.skip("cut from another")
    data = (codec_golden.FOLDER / f"{name}.ffc").read_bytes()
    found = unpack(data)
    parts = [found.part(i) for i in range(found.parts)]
    model, symbols = codec_golden.load(INDEX[name]["model"]), torch.from_numpy(SYMBOLS[name].astype(np.int64))
    assert model.encode(symbols) == [list(p) for p in parts]
    assert pack(found.header, parts, found.extras) == data


def test_the_second_decoder_is_independent():
    tree = ast.parse(Path(second_decoder.__file__).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"zlib", "decimal", "functools", "itertools"}


def test_both_decoders_have_the_same_gaussian_rows():
    assert second_decoder.normal_grid() == gaussian.distribution().tolist()
    for number in range(0, 1024, 7):
        assert second_decoder.gaussian_row(number) == (
            gaussian.tables().row(number).tolist(), int(gaussian.tables().lows[number])
        )  # fmt: skip


@pytest.mark.parametrize("settings", [0, 4])
def test_the_second_decoder_reads_new_streams_too(settings):
    """Not only those it was tried on: other weights, sizes, settings and damage."""
    model = codec_models.contextual(5, 9, groups=3, hidden=6, settings=settings)
    symbols, chosen = codec_models.symbols(2, 5, 6, 11, seed=77), torch.tensor([2, 0]) if settings else None
    arrays = {}
    for path, layer in model.named_modules():
        if hasattr(layer, "integers"):
            for part, values in zip(("weight", "bias"), layer.integers(symbols.double().dtype), strict=True):
                arrays[f"new/{path}.{part}"] = values.detach().numpy().astype(np.int64)
    data = bytearray(
        pack(Header(Kind.IMAGE, b"mark", 8, 8, layers=3), model.encode(symbols, chosen), [Extra(2, b"profile")])
    )
    data[-1] ^= 1
    head, payloads = second_decoder.split(bytes(data))
    assert head["extras"] == [(2, None)]
    count = 5 * 3
    weights = [
        [
            (arrays[f"new/networks.{i}.{layer}.weight"].tolist(), arrays[f"new/networks.{i}.{layer}.bias"].tolist())
            for layer in ("first", "second", "last", "line")
        ]
        for i in range(count)
    ]
    told = [tuple(k == choice for k in range(settings)) for choice in (2, 0)]
    parts = [second_decoder.part(head, payloads, i) for i in range(2)]
    found = [second_decoder.contextual(weights, 5, 3, parts[i], 6, 11, told[i]) for i in range(2)]
    assert np.array_equal(np.array(found).reshape(2, 5, 6, 11), symbols.numpy())
