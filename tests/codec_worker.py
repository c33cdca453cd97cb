"""Run as a program under other settings of the machine: decodes reference files and encodes the same symbols again.

`python codec_worker.py FOLDER`: FOLDER has reference.json with the messages that another process wrote. Prints JSON:
how many samples were the same both ways, and a digest of an ordinary float network, which is to differ somewhere.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch

import codec_models

CHANNELS, SIDES = 16, ((16, 16), (24, 20), (9, 21), (32, 32))


def model():
    return codec_models.contextual(CHANNELS, hidden=64)


def batch(seed: int, samples: int) -> torch.Tensor:
    return codec_models.symbols(samples, CHANNELS, *SIDES[seed % len(SIDES)], seed=seed)


def reference(folder: Path, batches: int, samples: int) -> None:
    """Writes messages[batch][sample][layer] in hexadecimal."""
    made = [[[m.hex() for m in one] for one in model().encode(batch(seed, samples))] for seed in range(batches)]
    (folder / "reference.json").write_text(json.dumps(made))


def floats() -> str:
    """A digest of an ordinary network: what a codec with float laws would rely on."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(8, 16, 32, 32, generator=g)
    for outputs in (64, 64, 32):
        x = torch.nn.functional.conv2d(x, torch.randn(outputs, x.shape[1], 3, 3, generator=g) * 0.1).sigmoid()
    return hashlib.sha256(x.numpy().tobytes()).hexdigest()


def main(folder: Path) -> None:
    torch.backends.mkldnn.set_flags(os.environ.get("FRAMEFILL_TEST_ONEDNN", "1") == "1")
    same = total = 0
    for seed, samples in enumerate(json.loads((folder / "reference.json").read_text())):
        messages = [[bytes.fromhex(m) for m in one] for one in samples]
        symbols = batch(seed, len(messages))
        dtype = (torch.float64, torch.float32)[seed % 2]
        parts = len(messages) if seed % 3 else 1  # one batch, or one by one
        found = [
            s for part in range(0, len(messages), parts) for s in decoded(messages[part : part + parts], symbols, dtype)
        ]
        again = [m for part in symbols.split(parts) for m in model().encode(part, dtype=dtype)]
        same += sum(bool((a == b).all()) and m == n for a, b, m, n in zip(found, symbols, again, messages, strict=True))
        total += len(messages)
    capability = torch.backends.cpu.get_cpu_capability()
    print(json.dumps({"same": same, "total": total, "floats": floats(), "capability": capability}))


def decoded(messages: list[list[bytes]], like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return model().decode(messages, (like.shape[2], like.shape[3]), dtype=dtype).symbols


if __name__ == "__main__":
    main(Path(sys.argv[1]))
