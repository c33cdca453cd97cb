"""Golden streams of format version 1. They are never written again: `python codec_golden.py` was run once.

model.npz has the weights of one Contextual per number of layers (as 64ths and 64 u-ths) and counts of one Factorised;
streams NAME.ffc; symbols.npz what each decodes to, (parts, C, h, w) int32; index.json sha256 of both, and the sizes.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import codec_models
from framefill.codec.container import Extra, pack, truncated, unpack
from framefill.codec.context import Contextual
from framefill.codec.entropy import EntropyModel, Factorised
from framefill.codec.header import Colour, Depth, Header, Kind, Sampler

FOLDER = Path(__file__).parent / "golden" / "codec"
CHANNELS, GROUPS, HIDDEN, REACH = 4, 2, 8, 6


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def load(kind: str) -> EntropyModel:
    """The model whose arrays are called kind/..."""
    arrays = np.load(FOLDER / "model.npz")
    if kind == "factorised":
        model: EntropyModel = Factorised(CHANNELS, REACH)
        values = {"counts": torch.from_numpy(arrays["factorised/counts"].astype(np.float32))}
    else:
        model = Contextual(CHANNELS, groups=GROUPS, hidden=HIDDEN, layers=int(kind[-1]))
        units = {name: (16 if ".last." in name or ".second." in name else 1) for name, _ in model.named_parameters()}
        values = {}
        for name, _ in model.named_parameters():
            unit = 64 * (units[name] if name.endswith("bias") else 1)
            values[name] = torch.from_numpy(arrays[f"{kind}/{name}"].astype(np.float64) / unit).float()
    model.load_state_dict(values)
    return model


def whole(kind: str) -> dict[str, np.ndarray]:
    """A model's arrays as whole numbers."""
    if kind == "factorised":
        return {"factorised/counts": codec_models.factorised(CHANNELS, REACH).counts.detach().numpy().astype(np.int32)}
    model = codec_models.contextual(CHANNELS, int(kind[-1]), groups=GROUPS, hidden=HIDDEN, layers=int(kind[-1]))
    found = {}
    for path, layer in model.named_modules():
        if hasattr(layer, "integers"):
            for part, values in zip(("weight", "bias"), layer.integers(torch.float64), strict=True):
                found[f"{kind}/{path}.{part}"] = values.detach().numpy().astype(np.int16)
    return found


def plan() -> list[tuple[str, str, tuple[int, int], int, Header, list[Extra]]]:
    """Name, model, latent size, parts, header, extras."""
    image = Header(Kind.IMAGE, b"gold", 320, 200, seed=7, sampler=Sampler.DDIM, steps=4)
    film = Header(Kind.VIDEO, b"gold", 64, 48, pictures=3, rate=(30000, 1001), colour=Colour.BT709, full_range=False)
    field = Header(
        Kind.FIELD, b"gold", 73, 96, pictures=2, channels=3, depth=Depth.FLOAT_32, colour=Colour.NONE, seed=2**63 - 1
    )
    exif = [Extra(1, b"Exif\0\0"), Extra(77, b"of a later version")]
    found = []
    for base, parts, more in ((image, 1, []), (film, 3, []), (field, 2, exif)):
        for kind in ("factorised", "context1", "context2", "context3"):
            layers = 1 if kind == "factorised" else int(kind[-1])
            for size in ((7, 9), (1, 2)) if base.kind == Kind.IMAGE else ((4, 6),):
                name = f"{base.kind.name.lower()}_{kind}_{size[0]}x{size[1]}"
                found.append((name, kind, size, parts, replace(base, layers=layers), more))
    deep = replace(image, layers=3, depth=Depth.BITS_16, colour=Colour.RGBA)
    return [*found, ("tiles_context3_5x5", "context3", (5, 5), 4, deep, exif[:1])]


def decode(data: bytes, kind: str, size: tuple[int, int]) -> np.ndarray:
    """The symbols (parts, C, h, w) of a stream."""
    found = unpack(data)
    messages = [found.part(i) for i in range(found.parts)]
    return load(kind).decode(messages, size).symbols.numpy().astype(np.int32)


def main() -> None:
    if (FOLDER / "index.json").exists():
        sys.exit("golden streams are never written again; a new version of the format has a folder of its own")
    FOLDER.mkdir(parents=True, exist_ok=True)
    kinds = ("factorised", "context1", "context2", "context3")
    np.savez_compressed(FOLDER / "model.npz", **{k: v for kind in kinds for k, v in whole(kind).items()})
    index, held = {}, {}
    for seed, (name, kind, size, parts, header, extras) in enumerate(plan()):
        symbols = codec_models.symbols(parts, CHANNELS, *size, seed=seed)
        data = pack(header, load(kind).encode(symbols), extras)
        streams = {name: data}
        if header.layers == 3 and header.kind != Kind.VIDEO:
            streams |= {f"{name}_cut{k}": truncated(data, k) for k in (1, 2)}
        for stream, content in streams.items():
            held[stream] = decode(content, kind, size)
            (FOLDER / f"{stream}.ffc").write_bytes(content)
            index[stream] = {
                "model": kind, "size": size, "file": digest(content),
                "symbols": digest(held[stream].astype("<i4").tobytes()),
            }  # fmt: skip
        assert np.array_equal(held[name], symbols.numpy())
    np.savez_compressed(FOLDER / "symbols.npz", **held)
    (FOLDER / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
