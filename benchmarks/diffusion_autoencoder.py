"""The ablations of seed 002 at a reduced scale, in one run and one table: what its Tables 1, 2, 3 and 6 ask.

    python benchmarks/diffusion_autoencoder.py --first runs/ae-f8 --pictures photos --clips clips -o ablation \
        --set steps=2000

Arms: target and weight (x, x with min-SNR, eps with P2, v with sech), encoder pretrained or from scratch, calls of the
network (1, 10, 30; of the arm "x, min-SNR", nothing is trained again), and of clips the factor of time (2, 4, 8). Each
arm is the preset `tiny` (or `tiny-video`) with what its name says; `--set` changes all of them. Every arm sees the same
pictures in the same order. Run it again and it goes on where it stopped: runs continue, rows that are there stay.

Columns: PSNR and SSIM of held-out pictures, means with 95 % intervals (bootstrap over pictures; over clips), and the
Frechet distance on EfficientNet-Lite0 (not FID: see docs/evaluation.md), of the codec and, as the bound that it cannot
pass, of its first stage alone. Bits: per pixel, float16 codes. PSNR rewards blur, the Frechet distance sharpness; the
paper's own MSE and PSNR are of mismatched pairs (facts, section 0.11) and no target.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import framefill
from framefill import checkpoint
from framefill.atomic import replacing
from framefill.checkpoint import Card
from framefill.diffusion.sample import DPMSolver
from framefill.features.imagenet import efficientnet_lite0
from framefill.metrics.distribution import bootstrap, frechet_distance, too_small
from framefill.metrics.image import psnr, ssim
from framefill.recipes.diffusion_autoencoder import PRESETS
from framefill.recipes.recipe import override, to_fields
from framefill.training import train

SEED = 6
DEFAULT = "x, min-SNR"
PICTURES = {
    DEFAULT: {"target": "x", "weight": "min-snr"},
    "x, constant": {"target": "x", "weight": "constant"},
    "eps, P2": {"target": "eps", "weight": "p2"},
    "v, sech": {"target": "v", "weight": "sech"},
    "encoder from scratch": {"target": "x", "weight": "min-snr", "pretrained": False},
}
CLIPS = {f"clips, time / {factor}": {"shortened": factor} for factor in (2, 4, 8)}
CALLS = (1, 10, 30)


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--first", type=Path, required=True, help="run or model file of the recipe autoencoder")
    words.add_argument("--pictures", type=Path)
    words.add_argument("--clips", type=Path)
    words.add_argument("-o", "--output", type=Path, required=True)
    words.add_argument("--held-out", type=int, default=200, help="pictures that are scored; of clips an eighth")
    words.add_argument("--set", action="append", default=[], dest="fields", metavar="NAME=VALUE")
    given = words.parse_args()
    torch.set_num_threads(1)
    given.output.mkdir(parents=True, exist_ok=True)
    tensors, card = checkpoint.read(checkpoint.locate(given.first))
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    for data, preset, arms, count in (
        (given.pictures, "tiny", PICTURES, given.held_out),
        (given.clips, "tiny-video", CLIPS, max(given.held_out // 8, 2)),
    ):
        for name, changes in arms.items() if data else ():
            recipe = override(replace(PRESETS[preset][0], **changes), given.fields).after(card.fields)
            arm(name, recipe, data, count, given.output, tensors)
    rows = known(given.output)
    print(table(rows))
    if rows and (scarce := too_small(given.held_out, 1280)):
        print(f"\n{scarce}")


def arm(name, recipe, data, count, output, tensors):
    """Trains one arm and adds its rows, where they are missing."""
    calls = CALLS if name == DEFAULT else (recipe.calls,)
    wanted = {f"{name}, {n} calls" if name == DEFAULT else name: n for n in calls}
    if set(wanted) <= set(known(output)):
        return
    folder = output / name.translate(str.maketrans(", /", "---"))
    cache = output / "cache"
    card = Card("diffusion-autoencoder", "tiny", to_fields(recipe), seed=SEED)
    source = recipe.source(data, "train", cache=cache)
    for progress in train(recipe, source, folder, card=card, start=recipe.taken(tensors)):
        if progress.step % 100 == 0 or progress.step == progress.steps:
            print(f"{name}: step {progress.step} of {progress.steps}, loss {progress.loss:.4f}", flush=True)
    product, real = framefill.load(folder), held_out(recipe, data, count, cache)
    rows = {name: scores(replace(product, sampler=DPMSolver(n)), real) for name, n in wanted.items()}
    note(output, rows)
    kind = "clips" if recipe.frames else "pictures"
    staged = product.staged(real.reshape(-1, *real.shape[-3:])).reshape(real.shape)
    note(output, {f"first stage alone, {kind}": compared(staged, real, float("nan"))})


def held_out(recipe, data, count, cache):
    """Pictures (N, H, W, C) or clips (N, T, H, W, C) that no arm has learned from."""
    source = recipe.source(data, "val", cache=cache)
    windows = [source.sample(seed, length=recipe.frames or 1, strides=recipe.strides) for seed in range(count)]
    return np.stack(windows) if recipe.frames else np.concatenate(windows)


def scores(product, real):
    coded = product.encode(real)
    pixels = real.size / real.shape[-1]
    return compared(product.decode(coded, seed=SEED), real, product.bits(coded) / pixels)


def compared(made, real, bits):
    places = tuple(range(1, real.ndim - 3))
    lite0 = efficientnet_lite0()
    features = [lite0(frames.reshape(-1, *frames.shape[-3:])) for frames in (real, made)]
    return {
        "bits": bits,
        "psnr": interval(np.minimum(psnr(made, real), 99).mean(axis=places)),
        "ssim": interval(ssim(made, real).mean(axis=places)),
        "frechet": frechet_distance(*features),
        "count": len(real),
    }


def interval(values):
    found = bootstrap(np.mean, values, rounds=1000)
    return [found.value, found.low, found.high]


def known(output):
    place = output / "table.json"
    return json.loads(place.read_text()) if place.is_file() else {}


def note(output, rows):
    with replacing(output / "table.json") as temporary:
        temporary.write_text(json.dumps(known(output) | rows, indent=1))


def table(rows):
    lines = ["| | bits/px | PSNR, dB | SSIM | FD-EffLite0 | scored |", "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        bits = "" if np.isnan(row["bits"]) else f"{row['bits']:.3f}"
        spread = [
            f"{v:.{d}f} [{low:.{d}f}, {high:.{d}f}]" for (v, low, high), d in ((row["psnr"], 2), (row["ssim"], 3))
        ]
        lines.append(f"| {name} | {bits} | {' | '.join(spread)} | {row['frechet']:.4f} | {row['count']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
