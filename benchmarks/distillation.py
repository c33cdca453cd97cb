"""What few steps give: a codec and the one distilled from it, at 1, 2, 4, 8 and 30 steps, on the same pictures.

    python benchmarks/distillation.py runs/codec runs/few --pictures kodak -o distillation

A model is a run folder or a model file. All pictures are coded by the teacher's symbols (the student has the same),
cut to `--side` pixels around their middle, and drawn from the same noise. Columns: PSNR and SSIMULACRA2, means over
pictures with 95 % intervals (bootstrap over pictures); FD-EffLite0, the Frechet distance on EfficientNet-Lite0 of
squares of `--patch` pixels (not FID; too large for few squares, compare it within this table only); gap, in PSNR from
what the teacher draws in 30 steps from the same noise; seconds of processor time for a megapixel, one thread. The row
of 0 steps is the faithful decode, which distillation must not change.
"""

import argparse
import json
import math
import platform
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import framefill
from framefill.features import efficientnet_lite0
from framefill.metrics.distribution import bootstrap, frechet_distance, too_small
from framefill.metrics.image import psnr
from framefill.metrics.ssimulacra2 import ssimulacra2
from framefill.recipes.distilled import noise
from framefill.video.clip import levels, tensor

STEPS = (0, 1, 2, 4, 8, 30)
SUFFIXES = (".png", ".jpg", ".webp", ".bmp", ".tif")
ROUNDS = 1000
STRIDE = 64  # draws that a picture may take


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("teacher")
    words.add_argument("student")
    words.add_argument("--pictures", type=Path, required=True)
    words.add_argument("--quality", type=int, help="by default a middle one")
    words.add_argument("--side", type=int, default=512, help="a multiple of 8")
    words.add_argument("--patch", type=int, default=64)
    words.add_argument("--limit", type=int, help="the first so many pictures only")
    words.add_argument("--steps", type=int, nargs="*", default=STEPS)
    words.add_argument("-o", "--output", type=Path)
    given = words.parse_args()
    torch.set_num_threads(1)
    paths = sorted(p for p in given.pictures.iterdir() if p.suffix.lower() in SUFFIXES)[: given.limit]
    truth = [middle(np.asarray(Image.open(p).convert("RGB")), given.side) for p in paths]
    models = {"teacher": framefill.load(given.teacher).model, "student": framefill.load(given.student).model}
    check(models)
    quality = models["teacher"].qualities // 2 if given.quality is None else given.quality
    drawn, seconds = {}, {}
    for name, model in models.items():
        for steps in given.steps:
            start = time.process_time()
            drawn[name, steps] = [made(model, picture, quality, steps, seed) for seed, picture in enumerate(truth)]
            pixels = sum(picture.shape[0] * picture.shape[1] for picture in truth)
            seconds[name, steps] = (time.process_time() - start) / pixels * 1e6
    seen = efficientnet_lite0()
    real = seen(patches(truth, given.patch))
    best = drawn["teacher", max(given.steps)]
    rows = {}
    for key, pictures in drawn.items():
        rows[f"{key[0]}, {key[1]}"] = scores(pictures, truth, best) | {
            "frechet": frechet_distance(real, seen(patches(pictures, given.patch))), "seconds": seconds[key],
        }  # fmt: skip
    print(f"{platform.machine()}, 1 thread, torch {torch.__version__}; {len(truth)} pictures of {given.pictures}, "
          f"quality {quality}; FD of {len(real)} squares ({too_small(*real.shape) or 'enough'})\n")  # fmt: skip
    print(table(rows))
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
        (given.output / "table.json").write_text(json.dumps(rows, indent=1))
        sheet(truth, drawn, given.steps).save(given.output / "distillation.png", optimize=True)


def check(models):
    """A student that codes otherwise than its teacher is not one of it."""
    teacher, student = (
        {n: t for n, t in m.state_dict().items() if not n.startswith("denoiser.")} for m in models.values()
    )
    if teacher.keys() != student.keys() or any(not torch.equal(t, student[n]) for n, t in teacher.items()):
        raise SystemExit("the student's analysis, steps or entropy model are not the teacher's; give its own teacher")


def middle(picture, side):
    """At most `side` pixels of each, in multiples of 8."""
    H, W = (min(n, side) // 8 * 8 for n in picture.shape[:2])
    top, left = (picture.shape[0] - H) // 2, (picture.shape[1] - W) // 2
    return picture[top : top + H, left : left + W]


@torch.inference_mode()
def made(model, picture, quality, steps, seed):
    """The decoded picture (H, W, 3), 8 bits; encoding is cheap beside it, and counted."""
    x, told = tensor(picture[None]), torch.tensor([quality])
    values = model.values(model.symbols(x, told), told)
    if not steps:
        return levels(model.mean(values, told))[0]

    def own(draw: int) -> Tensor:
        return noise(STRIDE * seed + draw, x)

    return levels(model.sample(values, told, own, steps))[0]


def patches(pictures, side):
    """Squares that tile the pictures (N, side, side, 3)."""
    return np.stack([
        picture[top : top + side, left : left + side]
        for picture in pictures
        for top in range(0, picture.shape[0] - side + 1, side)
        for left in range(0, picture.shape[1] - side + 1, side)
    ])  # fmt: skip


@torch.inference_mode()
def scores(pictures, truth, best):
    pairs = list(zip(pictures, truth, strict=True))
    near = [psnr(a, b) for a, b in zip(pictures, best, strict=True)]
    return {
        "psnr": interval([psnr(a, b) for a, b in pairs]),
        "ssimulacra2": interval([float(ssimulacra2(tensor(a[None]), tensor(b[None]))[0]) for a, b in pairs]),
        "gap": float(np.mean(near)),
    }


def interval(values):
    found = bootstrap(np.mean, np.array(values), rounds=ROUNDS)
    return [found.value, found.low, found.high]


def table(rows):
    lines = ["| steps | PSNR, dB | SSIMULACRA2 | FD-EffLite0 | gap, dB | CPU-s/Mpx |", "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        gap = f"{row['gap']:.2f}" if math.isfinite(row["gap"]) else "same"
        lines.append(
            f"| {name} | {spread(row['psnr'], 2)} | {spread(row['ssimulacra2'], 2)} | {row['frechet']:.3f} | {gap} | "
            f"{row['seconds']:.2f} |"
        )
    return "\n".join(lines)


def spread(values, digits):
    value, low, high = (f"{v:.{digits}f}" for v in values)
    return f"{value} [{low}, {high}]"


def sheet(truth, drawn, steps, *, count=4, side=192):
    """The middle of some pictures: the truth, and both models at every number of steps, one row each."""
    rows = [truth[:count], *(drawn[name, n][:count] for name in ("teacher", "student") for n in steps)]
    lines = [np.concatenate([middle(picture, side) for picture in row], axis=1) for row in rows]
    return Image.fromarray(np.concatenate(lines))


if __name__ == "__main__":
    main()
