"""Score against number of network calls for every sampler, on held-out digits; draws docs/images/samplers.png.

    python benchmarks/samplers.py --clips 12 --samples 4

The score is the fair CRPS of prediction (5 given, 5 made), in grey levels: it is proper, so neither blur nor
overconfidence pays. PSNR of single samples is printed beside it. Intervals are 1.96 standard errors over clips.
"""

import argparse
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

import framefill
from framefill.diffusion.sample import DDIM, DDPM, DPMSolver, Heun
from framefill.metrics.forecast import crps
from framefill.metrics.image import psnr
from framefill.video.clip import Clip
from framefill.video.digits import MovingDigits
from framefill.video.report import guesses

SAMPLERS = {
    "DPM-Solver++(2M)": DPMSolver,
    "DDIM / Euler": DDIM,
    "Heun": lambda calls: Heun((calls + 1) // 2),
    "DDPM small variance": DDPM,
    "DDPM large variance": lambda calls: DDPM(calls, variance=1.0),
}
CALLS = (4, 10, 25, 50, 100)


def score(model, clips, samples):
    errors, ratios = [], []
    for i in range(clips):
        truth = MovingDigits("test").sample(2_000_000 + i, length=10)
        made = model.predict(Clip(truth[:5], Fraction(10)), 5, samples=samples, seed=i).frames[:, 5:]
        errors.append(crps(made, truth[5:]).mean())
        ratios.append(psnr(made, truth[5:], axes=4).mean())
    half = 1.96 * np.std(errors, ddof=1) / np.sqrt(clips)
    return {"crps": float(np.mean(errors)), "half": float(half), "psnr": float(np.mean(ratios))}


def simple(model, clips):
    """The same score, which for a single guess is its mean absolute error, of what needs no model."""
    rows = []
    for i in range(clips):
        truth = MovingDigits("test").sample(2_000_000 + i, length=10)
        made = guesses(truth, np.arange(10) < 5)
        rows.append([np.abs(frames[5:].astype(float) - truth[5:]).mean() for frames in made.values()])
    return dict(zip(made, np.mean(rows, axis=0), strict=True))


def draw(table, plain, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for name, row in table.items():
        calls, values = zip(*sorted(row.items()), strict=True)
        axis.plot(calls, [v["crps"] for v in values], marker="o", label=name)
    for name, shade in (("hold", "0.2"), ("carried", "0.6")):
        axis.axhline(plain[name], color=shade, linestyle="--", label=f"{name}, no model")
    axis.set(
        xscale="log", xlabel="network calls per block", ylabel="CRPS, grey levels (lower is better)", ylim=(0, None)
    )
    axis.set_xticks(CALLS, [str(c) for c in CALLS])
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="digits")
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--strength", type=float, help="by default the model's own")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    model = framefill.load(words.model)
    strength = words.strength or model.sampler.strength
    print(
        f"{words.model}, step {model.card.step}, strength {strength}; {words.clips} clips, {words.samples} samples each"
    )
    plain = simple(model, words.clips)
    print(", ".join(f"{name} {value:.2f}" for name, value in plain.items()))
    print(f"{'sampler':22s}" + "".join(f"{c:>20d}" for c in CALLS) + "   calls: CRPS ± 95 % (PSNR dB)")
    table = {}
    for name, make in SAMPLERS.items():
        table[name] = {}
        for calls in CALLS:
            sampler = replace(make(calls), strength=strength)
            table[name][calls] = score(replace(model, sampler=sampler), words.clips, words.samples)
        cells = [f"{v['crps']:.2f} ± {v['half']:.2f} ({v['psnr']:.1f})" for v in table[name].values()]
        print(f"{name:22s}" + "".join(f"{c:>20s}" for c in cells), flush=True)
    if words.json:
        words.json.write_text(json.dumps(table, indent=1))
    if words.plot:
        draw(table, plain, words.plot)


if __name__ == "__main__":
    main()
