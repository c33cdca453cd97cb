"""What drawing gives and costs a codec: the faithful decode beside 1, 2, 4, 16 and 30 steps, quality by quality.

    python benchmarks/drawing.py --codec photos runs/distilled --pictures kodak runs/photos/val
    python benchmarks/drawing.py --codec photos --pictures kodak --side 256 --qualities 1             # about a minute

Every picture, cut to `--side` pixels about its middle, is compressed and decompressed as users do it, picture k with
seed k, so that all rows share their files and all steps their noise. A folder is a table of its own; `val` beside the
`train` of a codec's own pictures are its held-out ones, squares of few photographs, so that intervals are too narrow
there. Means over pictures with 95 % intervals (bootstrap over pictures):

PSNR in dB; SSIMULACRA2 (libjxl's). FD: the squared Frechet distance of EfficientNet-Lite0 features of squares of 128
pixels that tile the pictures, originals against decoded (not FID; too large for few squares, so compare it within a
table only). Against most: FD over that of the row with the most steps, less 1, with the middle 95 % of halves of the
squares, paired: "4 steps are within 5 %" is its row of 4 steps between -5 and 5. CPU-s/Mpx: of the decode, one thread.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from distillation import SUFFIXES, interval, middle, spread
from PIL import Image
from rate_distortion import features_of, signed

from framefill import codecs
from framefill.atomic import replacing
from framefill.codec.pictures import Picture
from framefill.metrics.distribution import frechet_distance, half_samples, too_small
from framefill.metrics.image import psnr
from framefill.metrics.rates import bits_per_pixel
from framefill.metrics.ssimulacra2 import ssimulacra2

STEPS = (0, 1, 2, 4, 16, 30)
QUALITIES = (1, 4)
HALVES = 100


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--codec", nargs="+", default=["photos"], help="shipped names, runs, model files")
    words.add_argument("--pictures", type=Path, nargs="+", required=True, help="folders")
    words.add_argument("--qualities", type=int, nargs="+", default=QUALITIES)
    words.add_argument("--steps", type=int, nargs="+", default=STEPS, help="0 is the faithful decode")
    words.add_argument("--side", type=int, default=384, help="at most so many pixels, a multiple of 8")
    words.add_argument("--limit", type=int, help="the first so many pictures of a folder only")
    words.add_argument("-o", "--output", type=Path, help="a JSON file of all rows")
    given = words.parse_args()
    torch.set_num_threads(1)
    every = []
    for folder in given.pictures:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)[: given.limit]
        truth = [middle(np.asarray(Image.open(path).convert("RGB")), given.side) for path in paths]
        real = features_of(truth)
        print(f"{platform.machine()}, 1 thread, torch {torch.__version__}; {len(truth)} pictures of {folder}, at most "
              f"{given.side} pixels a side, seeds 0 to {len(truth) - 1}; FD of {len(real)} squares "
              f"({too_small(*real.shape) or 'enough'})\n")  # fmt: skip
        print("| codec, quality | bits/px | steps | PSNR, dB | SSIMULACRA2 | FD-EffLite0 | against most | CPU-s/Mpx |")
        print("|---" * 8 + "|", flush=True)
        for name in given.codec:
            for quality in given.qualities:
                rows = measured(codecs.codec(name), truth, real, quality, sorted(given.steps))
                print("\n".join(line(Path(name).name, quality, row) for row in rows), flush=True)
                every += [row | {"codec": name, "quality": quality, "pictures": str(folder)} for row in rows]
        print()
    if given.output:
        with replacing(given.output) as part:
            part.write_text(json.dumps(every, indent=1))


def measured(codec, truth, real, quality, steps):
    """A row for each number of steps, ascending."""
    files = [codec.compress(Picture(picture), quality=quality) for picture in truth]
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in truth)
    rows, seen = [], []
    for count in steps:
        start = time.process_time()
        made = [codec.decompress(file, steps=count, seed=seed).pixels for seed, file in enumerate(files)]
        spent = (time.process_time() - start) / pixels * 1e6
        seen.append(features_of(made))
        rows.append(
            scores(made, truth) | {"steps": count, "seconds": spent, "frechet": frechet_distance(real, seen[-1])}
        )
    rate = bits_per_pixel(sum(map(len, files)), pixels)
    return [row | {"rate": rate, "excess": excess(real, own, seen[-1])} for row, own in zip(rows, seen, strict=True)]


@torch.inference_mode()
def scores(made, truth):
    pairs = list(zip(made, truth, strict=True))
    return {
        "psnr": interval([float(psnr(a, b)) for a, b in pairs]),
        "ssimulacra2": interval([float(ssimulacra2(signed(a), signed(b))[0]) for a, b in pairs]),
    }


def excess(real, own, best):
    """How far in per cent the Frechet distance of `own` is above that of `best`: [value, low, high]."""

    def share(x, y, z):
        return 100 * (frechet_distance(x, y) / frechet_distance(x, z) - 1)

    if own is best:
        return [0.0, 0.0, 0.0]
    found = half_samples(share, real, own, best, rounds=HALVES, paired=True)
    return [found.value, found.low, found.high]


def line(name, quality, row):
    cells = [f"{name}, {quality}", f"{row['rate']:.3f}", str(row["steps"]) if row["steps"] else "faithful"]
    cells += [spread(row["psnr"], 2), spread(row["ssimulacra2"], 1), f"{row['frechet']:.1f}"]
    return "| " + " | ".join([*cells, spread(row["excess"], 1) + " %", f"{row['seconds']:.2f}"]) + " |"


if __name__ == "__main__":
    main()
