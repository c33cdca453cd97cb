"""Do encoder and decoder agree whatever the machine? Files written under every setting, read under every other.

    python benchmarks/determinism.py --codec photos --pictures kodak

Settings: 1, 2 and 4 threads, ATen's kernels (default, avx2, avx512), oneDNN on and off, float32 and float64 sums in the
entropy networks. Each writes the same crops at every quality in a process of its own; then each reads what the setting
before it wrote. Wanted: all symbols equal, and all bytes.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from framefill import codecs

CROP = 256
SETTINGS = [
    {"OMP_NUM_THREADS": threads, "ATEN_CPU_CAPABILITY": kernels, "DNN": dnn, "SUMS": sums}
    for threads, (kernels, dnn), sums in product(
        ("1", "2", "4"), (("default", "0"), ("avx2", "1"), ("avx512", "1")), ("float32", "float64")
    )
]


def crops(folder, limit):
    """The middles of pictures as (3, CROP, CROP) in [-1, 1]."""
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".png", ".jpg"))[:limit]
    found = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    middles = [p[(p.shape[0] - CROP) // 2 :, (p.shape[1] - CROP) // 2 :][:CROP, :CROP] for p in found]
    return torch.from_numpy(np.stack(middles)).movedim(-1, 1).float() / 127.5 - 1


def worker(words):
    """Writes crops at every quality into `own`, or reads those in `other`; tells digests."""
    torch.backends.mkldnn.enabled = os.environ["DNN"] == "1"
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    sums = getattr(torch, os.environ["SUMS"])
    model, pictures, told = codecs.codec(words.codec).model, crops(words.pictures, words.limit), {}
    for index, picture in enumerate(pictures):
        for q in range(model.qualities):
            quality, name = torch.tensor([q]), f"{index}-{q}"
            with torch.inference_mode():
                if words.read:
                    layers = json.loads((Path(words.read) / name).read_text())
                    symbols = model.entropy.decode(
                        [[bytes.fromhex(layer) for layer in layers]], (CROP // 8, CROP // 8), quality, dtype=sums
                    ).symbols
                else:
                    symbols = model.symbols(picture[None], quality)
                    layers = model.entropy.encode(symbols, quality, dtype=sums)[0]
                    (Path(words.write) / name).write_text(json.dumps([layer.hex() for layer in layers]))
            told[name] = hashlib.sha256(symbols.numpy().tobytes()).hexdigest()
    print(json.dumps(told))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--codec", default="photos")
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--limit", type=int, default=4, help="pictures")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.write or words.read:
        worker(words)
        return
    with TemporaryDirectory() as root:
        written = [run(words, setting, "--write", folder(root, i)) for i, setting in enumerate(SETTINGS)]
        read = [run(words, s, "--read", folder(root, i - 1)) for i, s in enumerate(SETTINGS)]
        files = [
            {p.name: p.read_bytes() for p in sorted(Path(folder(root, i)).iterdir())} for i in range(len(SETTINGS))
        ]
    pairs = [(written[i - 1][name], read[i][name]) for i in range(len(SETTINGS)) for name in read[i]]
    other = sum(files[i][name] != files[0][name] for i in range(len(SETTINGS)) for name in files[0])
    print(f"{len(pairs)} files read under another setting: {sum(a != b for a, b in pairs)} with other symbols")
    print(f"{sum(map(len, files))} files written: {other} with other bytes than under the first setting")


def folder(root, index):
    place = Path(root) / str(index % len(SETTINGS))
    place.mkdir(exist_ok=True)
    return str(place)


def run(words, setting, flag, place):
    """One process under a setting; its digests."""
    command = [sys.executable, __file__, "--codec", words.codec, "--pictures", words.pictures]
    command += ["--limit", str(words.limit), flag, place]
    done = subprocess.run(command, env=os.environ | setting, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
