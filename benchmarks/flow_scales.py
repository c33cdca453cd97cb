"""Multi-resolution flows at equal time, as tables 4.2 and 4.4: python benchmarks/flow_scales.py DATA --budget 20m.

DATA is a folder or .zip of pictures (`shared/data/cifar10_jpeg.zip`, whose pictures are lossy: compare the rows with
each other, never with published figures). With `--crops` they are cut at their own resolution into squares of `--size`
pixels, not resized: photographs, under folders train and val. Trains the rows below, each for the processor time given
(so a busy machine is as fair as an idle one) at a constant learning rate, on one thread, and prints bits per dimension
of held-out pictures with the 95 % interval over pictures, the difference from the first row on the same pictures,
parameters, steps, seconds, and the evaluations of the fields per solve. What is found is kept beside the runs: the same
command after an interruption goes on with the next row. A row that was interrupted itself must begin again: remove it.

All pictures are scored at the tolerance of training, 1e-3; `--checked` of them at 1e-5 too, and "1e-3 off" is the
largest difference between the two for one picture. A step learns from 4 pictures of 32 x 32, or as many pixels.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import framefill
from framefill import recipes
from framefill.atomic import replacing
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
    parser.add_argument("--budget", default="20m", help="of processor time for each row, such as 90s, 20m or 1h")
    parser.add_argument("--crops", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("runs/flow_scales"))
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=64, help="scored at 1e-3")
    parser.add_argument("--checked", type=int, default=8, help="of these, scored at 1e-5 too")
    told = parser.parse_args()
    torch.set_num_threads(1)
    seconds = float(told.budget[:-1]) * UNITS[told.budget[-1]]
    if told.crops:
        told.data = str(crops(Path(told.data), told.size, told.output / f"crops-{told.size}"))
    rows, first, batch = [], None, max(4 * 32**2 // told.size**2, 1)
    for name, recipe in ROWS.items():
        recipe = replace(recipe, height=told.size, width=told.size, batch_size=batch, warmup=20, cooldown=0.0)
        figures, bits = kept(recipe, name, told, seconds)
        first = bits if first is None else first
        rows.append({"row": name, "bits": interval(bits), "less the first": interval(bits - first)} | figures)
        print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


def interval(values):
    return f"{values.mean():.3f} ± {1.96 * values.std(ddof=1) / len(values) ** 0.5:.3f}"


def crops(data, size, place):
    """The pictures under train and val of a folder, cut into squares side by side; val is kept for the figures."""
    if place.exists():
        return place
    part = place.with_name(f".{place.name}.part")
    for old, new in (("train", "train"), ("val", "test")):
        (part / new).mkdir(parents=True, exist_ok=True)
        for path in sorted((data / old).glob("*.*")):
            with Image.open(path) as picture:
                whole = picture.convert("RGB")
            for y in range(0, whole.height - size + 1, size):
                for x in range(0, whole.width - size + 1, size):
                    whole.crop((x, y, x + size, y + size)).save(part / new / f"{path.stem}-{y}-{x}.png")
    part.rename(place)
    return place


def table(rows):
    lines = [list(rows[0]), ["---"] * len(rows[0]), *[[str(value) for value in row.values()] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def kept(recipe, name, told, seconds):
    """What `row` found, now or before."""
    place = told.output / f"{told.size}-{name.replace(' ', '-').replace(',', '')}"
    found = place.with_suffix(f".{told.pictures}.json")
    if not found.exists():
        figures, bits = row(recipe, place, told, seconds)
        with replacing(found) as part:
            part.write_text(json.dumps([figures, bits.tolist()]))
    figures, bits = json.loads(found.read_text())
    return figures, np.array(bits)


def row(recipe, place, told, seconds):
    if (place / "model.safetensors").exists() or (place / "metrics.jsonl").exists():
        raise SystemExit(f"{place} was interrupted, and how much work it had is not known: remove it to begin again")
    source = recipe.source(told.data, "train")
    card = Card("mrcnf", "tiny", to_fields(recipe), about={"data": told.data})
    began = time.process_time()
    list(
        train(
            recipe,
            source,
            place,
            card=card,
            steps=10**6,
            save_every=10**6,
            stop=lambda: time.process_time() - began > seconds,
        )
    )
    used = time.process_time() - began
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    held = recipe.source(told.data, "test").pictures()
    chosen = held[np.random.default_rng(0).permutation(len(held))[: told.pictures]]
    start, model = time.monotonic(), framefill.load(place)
    found = replace(model, tolerance=1e-3).bits(chosen, probes=2)
    exact = model.bits(chosen[: told.checked], probes=2)
    return {
        "1e-3 off": round(float(np.abs(exact.bits - found.bits[: told.checked]).max()), 4),
        "probe error": round(float(np.median(found.error)), 4),
        "parameters": recipes.parameters(recipe),
        "steps": lines[-1]["step"],
        "seconds": round(lines[-1]["seconds"]),
        "of the CPU": round(used),
        "to score": round(time.monotonic() - start),
        "evaluations, training": float(np.mean([line["evaluations"] for line in lines[-20:]])),
        "evaluations, 1e-5": exact.evaluations,
    }, found.bits


if __name__ == "__main__":
    main()
