"""Table 1 of paper 000 at a reduced scale: a hierarchy with the heat equation's states beside one with learned states.

    python benchmarks/hierarchies.py -o hierarchies                 # about 20 minutes a run on one core
    python benchmarks/hierarchies.py -o quick --steps 20 --samples 64 --seeds 1

Both have the same decoder, levels, digits and steps, or with --budget the same time: the learned encoder's steps take
longer. The score is the Inception score of a digit classifier that is trained here, `DS` for short: between 1 and
10, and not comparable with the paper's, whose classifier is not said. Every run has a 95 % interval over its pictures;
shown is from the least end to the largest over the seeds, and an ordering is claimed only where these do not overlap,
after as many steps as are printed beside it: of a quick run it says nothing about longer ones.

Runs are kept in the output folder; the same command goes on where it stopped.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

import framefill
from framefill import recipes, training
from framefill.checkpoint import Card
from framefill.metrics.distribution import bootstrap, inception_score
from framefill.recipes.recipe import override, to_fields
from framefill.video.images.stills import Stills
from framefill.video.sheet import contact_sheet

PRESETS = ("tiny", "tiny-learned")


def main(asked=None):
    words = arguments(asked)
    words.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(words.threads)
    judge, accuracy = classifier(words)
    print(f"the classifier is right on {100 * accuracy:.1f} % of held-out binary digits")
    real = inked(Stills.open("digits", "test", height=32, width=32, channels=1, classes=10).pixels, 1)
    rows, sheet, steps = {"held-out digits": [score(judge, real)]}, {}, set()
    for preset in PRESETS:
        for seed in range(words.seeds):
            made = drawn(words, preset, seed)
            rows.setdefault(preset, []).append(score(judge, made))
            steps.add(now_step(words.output / f"{preset}-{seed}"))
            sheet.setdefault(preset, made[:16])
            print(preset, seed, rows[preset][-1], flush=True)
    (words.output / "table.json").write_text(json.dumps({"accuracy": accuracy, "rows": rows}, indent=1))
    print(f"{table(rows)}, after {min(steps)} to {max(steps)} steps and with {words.seeds} seeds")
    contact_sheet([("held out", real[:16]), *sheet.items()]).save(words.output / "hierarchies.png")


def arguments(asked):
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("-o", "--output", type=Path, default=Path("hierarchies"))
    words.add_argument("--steps", type=int, help="training steps; by default the preset's")
    words.add_argument("--budget", type=float, help="seconds of training instead, the same for both")
    words.add_argument("--samples", type=int, default=1000)
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--set", action="append", default=[], help="override a field of both, such as features=16")
    words.add_argument("--threads", type=int, default=1)
    return words.parse_args(asked)


# ---- models --------------------------------------------------------------------------------------------------------


def drawn(words, preset, seed):
    """Pictures (N, 32, 32, 1) of a run, trained and drawn once."""
    out = words.output / f"{preset}-{seed}"
    recipe = override(recipes.find("hierarchical", preset).recipe, words.set)
    card = Card("hierarchical", preset, to_fields(recipe), seed=seed, about={"data": "digits"})
    source = recipe.source("digits", "train")
    for now in training.train(recipe, source, out, card=card, steps=words.steps, budget=words.budget):
        if now.step % 200 == 0:
            print(f"{preset} {seed}: step {now.step} of {now.steps}, loss {now.loss:.4g}", flush=True)
    place = out / f"drawn-{now_step(out)}-{words.samples}.npy"
    if not place.exists():
        np.save(place, framefill.load(out).generate(words.samples, seed=seed))
    return np.load(place)


def now_step(out):
    return framefill.load(out).card.step


# ---- the judge -----------------------------------------------------------------------------------------------------


class Judge(nn.Sequential):
    """Binary digits (N, 1, 32, 32) to 10 logits."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 32, 3, 2, 1), nn.GELU(), nn.Conv2d(32, 64, 3, 2, 1), nn.GELU(), nn.Conv2d(64, 64, 3, 2, 1),
            nn.GELU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(1024, 10),
        )  # fmt: skip


def inked(pixels, seed):
    """Every pixel black or white, with its level as the chance of white."""
    chance = np.random.default_rng(seed).random(pixels.shape)
    return np.where(chance < pixels / 255, 255, 0).astype(np.uint8)


def tensors(pixels):
    return torch.from_numpy(pixels).movedim(-1, 1).float() / 127.5 - 1


def classifier(words, epochs=12, batch=64):
    """The judge, trained on the training digits, and its accuracy on the held-out ones."""
    torch.manual_seed(0)
    judge, place = Judge(), words.output / "judge.safetensors"
    train = Stills.open("digits", "train", height=32, width=32, channels=1, classes=10)
    if place.exists():
        judge.load_state_dict(load_file(place))
    else:
        adam = torch.optim.AdamW(judge.parameters(), lr=2e-3)
        for epoch in range(epochs):
            order = torch.randperm(len(train))
            x, y = tensors(inked(train.pixels, epoch)), torch.from_numpy(train.labels)
            for part in order.split(batch):
                adam.zero_grad()
                shift = torch.randint(-2, 3, (2,)).tolist()  # digits do not all stand in the same place
                F.cross_entropy(judge(x[part].roll(shift, (2, 3))), y[part]).backward()
                adam.step()
        save_file(judge.state_dict(), place)
    judge.eval()
    test = Stills.open("digits", "test", height=32, width=32, channels=1, classes=10)
    return judge, float((shares(judge, inked(test.pixels, 1)).argmax(1) == test.labels).mean())


@torch.no_grad()
def shares(judge, pixels):
    return judge(tensors(pixels)).softmax(1).numpy()


def score(judge, pixels):
    """DS and its interval, of pictures whose pixels are taken as the nearest of black and white."""
    found = shares(judge, np.where(pixels > 127, 255, 0).astype(np.uint8))
    interval = bootstrap(inception_score, found, rounds=200)
    return {"DS": interval.value, "low": interval.low, "high": interval.high, "classes": len(set(found.argmax(1)))}


def table(rows):
    """Means over seeds with the least and largest end of their intervals."""
    lines = ["| states | DS | interval over pictures and seeds | classes seen |", "|---|---|---|---|"]
    ends = {}
    for name, found in rows.items():
        low, high = min(f["low"] for f in found), max(f["high"] for f in found)
        ends[name] = low, high
        mean = np.mean([f["DS"] for f in found])
        lines.append(f"| {name} | {mean:.2f} | {low:.2f} to {high:.2f} | {min(f['classes'] for f in found)} |")
    heat, learned = (ends[preset] for preset in PRESETS)
    verdict = "reproduced" if heat[0] > learned[1] else "not reproduced" if heat[1] < learned[0] else "undecided"
    return "\n".join([*lines, "", f"heat above learned states (table 1): {verdict}"])


if __name__ == "__main__":
    main()
