"""Makes a run the shipped model of that name: half-precision weights with a card that says what it is and scores.

python benchmarks/ship.py runs/digits digits --data digits --licence "..." --note "..." --clips 100
python benchmarks/ship.py runs/hadcm3 hadcm3 --said "..." --licence "..."     # fields: scored by `framefill evaluate`
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path

import torch

import framefill
from framefill import checkpoint, codecs
from framefill.recipes import RECIPES
from framefill.recipes.recipe import from_fields, override, to_fields
from framefill.video.report import scores

NEEDED = ("fields", "classes")  # what a model must know of its data


def verified(folder):
    """What `framefill evaluate` found of a model of fields: scores with their 95 % intervals, by method and lead."""
    found = json.loads((folder / "result.json").read_text())
    methods = found["verification"]["methods"]
    table = {
        name: {
            str(score["lead"]): {kind: score[kind] for kind in ("crps", "energy", "spread_skill")}
            for score in method["scores"]
        }
        for name, method in methods.items()
    }
    return {"what": f"fair CRPS and energy score, adjusted spread over skill, by lead: {found['card']}", **table}


def made(path):
    """What benchmarks/interpolation.py found of frames between two: scores with 95 % intervals, by clip and method."""
    table = {
        clip["clip"]: {
            name: {"seconds": round(row["seconds"], 4), **{s: row["scores"][s] for s in ("PSNR", "SSIM", "EffLite0")}}
            for name, row in clip["methods"].items()
        }
        for clip in json.loads(path.read_text())
    }
    return {"what": "every second frame made again: CPU-seconds per frame, PSNR in dB, SSIM, EffLite0", **table}


def coded(path):
    """What benchmarks/rate_distortion.py found of a codec beside others: where their curves pass marks."""
    found = json.loads(path.read_text())
    return {"what": f"bits per pixel at marks, {len(found['pictures'])} pictures", **found["marks"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument(
        "--data", help="digits, or the folder it was trained on: scored on its val split; nothing: not scored here"
    )
    parser.add_argument("--said", required=True, help="what the card says of the data")
    parser.add_argument("--licence", required=True)
    parser.add_argument("--note", default="")
    parser.add_argument("--verified", type=Path, help="a folder of `framefill evaluate`, for a model of fields")
    parser.add_argument("--made", type=Path, help="what benchmarks/interpolation.py --json wrote")
    parser.add_argument("--coded", type=Path, help="what benchmarks/rate_distortion.py -o wrote: points.json")
    parser.add_argument("--scores", type=Path, help="a JSON object of scores, with `what` to say how they were found")
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--set", nargs="*", default=[], help="fields of use, not of training, such as calls=2")
    words = parser.parse_args()
    tensors, card = checkpoint.read(words.run / "model.safetensors")
    recipe = override(from_fields(RECIPES[card.recipe], card.fields), words.set)
    card = dataclasses.replace(card, fields=to_fields(recipe))
    target = Path(framefill.__file__).parent / "weights" / f"{words.name}.safetensors"
    target.parent.mkdir(exist_ok=True)
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    checkpoint.write(target, halves, card)
    lines = [json.loads(line) for line in (words.run / "metrics.jsonl").read_text().splitlines()]
    spent = sum(
        a["seconds"] for a, b in zip(lines, [*lines[1:], {"seconds": 0}], strict=True) if b["seconds"] < a["seconds"]
    )
    about = {
        **{name: card.about[name] for name in NEEDED if name in card.about},
        "data": words.said, "licence": words.licence, "note": words.note, "seconds": round(spent),
        "machine": f"CPU, {os.cpu_count()} cores shared with other work, torch {torch.__version__}",
    }  # fmt: skip
    if words.data:
        source = recipe.source(words.data, "test" if words.data == "digits" else "val")
        about["scores"] = {
            "what": f"PSNR in dB, SSIM, CRPS in levels: mean and 95 % half-width over {words.clips} held-out clips, "
            f"{words.samples} samples each",
            **scores(framefill.load(target), source, clips=words.clips, samples=words.samples),
        }
    if words.made:
        about["scores"] = made(words.made)
    if words.coded:
        about["scores"] = coded(words.coded)
    if words.scores:
        about["scores"] = json.loads(words.scores.read_text())
    if card.recipe in codecs.RECIPES:
        about[codecs.FINGERPRINTS] = [mark.hex() for mark in framefill.load(target).marks]
    if words.verified:
        about["scores"] = verified(words.verified)
    checkpoint.write(target, halves, dataclasses.replace(card, about=about))
    print(target, target.stat().st_size)
    print(json.dumps(about, indent=1))


if __name__ == "__main__":
    main()
