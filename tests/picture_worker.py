"""Run as a program under other settings of the machine: reads reference files of pictures and writes them again.

`python picture_worker.py FOLDER` prints JSON: how many files and symbols were the same, and how far the faithful and
the drawn decode are from the reference's, in shares of full range.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from codec_double import codec
from framefill.codec.container import unpack
from framefill.codec.pictures import Picture

SIZES = ((64, 64), (33, 70), (130, 90))


def pictures() -> list[Picture]:
    made = []
    for seed, (height, width) in enumerate(SIZES):
        for dtype in (np.uint8, np.uint16):
            whole = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype)
            made.append(Picture(whole))
    return made


def reference(folder: Path) -> None:
    there = codec()
    for index, picture in enumerate(pictures()):
        data = there.compress(picture, quality=2, steps=2, seed=index)
        (folder / f"{index}.ffc").write_bytes(data)
        np.savez(
            folder / f"{index}.npz", symbols=there._decoded(unpack(data)).numpy(), drawn=there.decompress(data).pixels,
            mean=there.decompress(data, steps=0).pixels,
        )  # fmt: skip


def main(folder: Path) -> None:
    torch.backends.mkldnn.set_flags(os.environ.get("FRAMEFILL_TEST_ONEDNN", "1") == "1")
    there, found = codec(), {"files": 0, "symbols": 0, "total": 0, "apart": 0.0}
    for index, picture in enumerate(pictures()):
        data, held = (folder / f"{index}.ffc").read_bytes(), np.load(folder / f"{index}.npz")
        found["files"] += there.compress(picture, quality=2, steps=2, seed=index) == data
        found["symbols"] += bool((there._decoded(unpack(data)).numpy() == held["symbols"]).all())
        found["total"] += 1
        for name, options in (("drawn", {}), ("mean", {"steps": 0})):
            apart = np.abs(there.decompress(data, **options).pixels.astype(float) - held[name]).max() / picture.top
            found["apart"] = max(found["apart"], float(apart))
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
