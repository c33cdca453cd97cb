"""Multi-resolution flows at equal time, as tables 4.2 and 4.4 are laid out: python benchmarks/flow_scales.py DATA 20m.

DATA is a folder or .zip of pictures (`shared/data/cifar10_jpeg.zip`, whose pictures are lossy: compare the rows with
each other, never with published figures). Trains the rows below, each for the time given, on one thread, and prints
bits per dimension of held-out pictures with the 95 % interval over pictures, parameters, steps, seconds, and the
evaluations of the fields per solve at the tolerance of training and of 1e-5. A run that is there is gone on with.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import framefill
from framefill import recipes
from framefill.checkpoint import Card
from framefill.recipes.mrcnf import TINY
from framefill.recipes.recipe import to_fields
from framefill.training import train

UNITS = {"s": 1, "m": 60, "h": 3600}
# 35, 35 and 28 thousand parameters: blocks are whole.
ROWS = {
    "1 scale": replace(TINY, scales=1, blocks=5),
    "1 scale, unregularised": replace(TINY, scales=1, blocks=5, kinetic=0.0, jacobian=0.0),
    "2 scales": TINY,
    "2 scales, Haar": replace(TINY, kind="haar"),
    "3 scales": replace(TINY, scales=3, blocks=1),
    "3 scales, Haar": replace(TINY, scales=3, blocks=1, kind="haar"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("time", help="for each row, such as 90s, 20m or 1h")
    parser.add_argument("--output", type=Path, default=Path("runs/flow_scales"))
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=200)
    told = parser.parse_args()
    torch.set_num_threads(1)
    seconds = float(told.time[:-1]) * UNITS[told.time[-1]]
    for name, recipe in ROWS.items():
        recipe = replace(recipe, height=told.size, width=told.size)
        print(json.dumps({"row": name} | row(recipe, name, told, seconds)), flush=True)


def row(recipe, name, told, seconds):
    place = told.output / f"{told.size}-{name.replace(' ', '-').replace(',', '')}"
    source = recipe.source(told.data, "train")
    card = Card("mrcnf", "tiny", to_fields(recipe), about={"data": told.data})
    list(train(recipe, source, place, card=card, budget=seconds, save_every=500))
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    held = recipe.source(told.data, "test").pictures()
    chosen = held[np.random.default_rng(0).permutation(len(held))[: told.pictures]]
    found = framefill.load(place).bits(chosen, probes=4)
    half = 1.96 * found.bits.std(ddof=1) / len(chosen) ** 0.5
    return {
        "bits": round(float(found.bits.mean()), 3),
        "95%": round(float(half), 3),
        "probe error": round(float(np.median(found.error)), 4),
        "parameters": recipes.parameters(recipe),
        "steps": lines[-1]["step"],
        "seconds": round(lines[-1]["seconds"]),
        "evaluations, training": float(np.mean([line["evaluations"] for line in lines[-20:]])),
        "evaluations, 1e-5": found.evaluations,
    }


if __name__ == "__main__":
    main()
