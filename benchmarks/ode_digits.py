"""A latent ODE on moving digits that training never saw: python benchmarks/ode_digits.py RUN [--other digits].

Prediction of as many frames as the model sees, and every second frame made from the others, beside holding, blending
and carrying along motion; with --other, beside a model of windows (MCVD). Prints PSNR, SSIM and CRPS with 95 %
intervals over clips, writes a sheet and the paths through the latent space.
"""

import argparse
import json
from fractions import Fraction
from pathlib import Path

import numpy as np

import framefill
from framefill.curves import draw_trajectories
from framefill.video.clip import Clip
from framefill.video.digits import MovingDigits
from framefill.video.ode_model import sample_sheet
from framefill.video.report import guesses, measured

RATE = Fraction(10)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--other")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("ode_digits"))
    told = parser.parse_args()
    model = framefill.load(told.run)
    other = framefill.load(told.other) if told.other else None
    source = MovingDigits("test", count=model.card.fields["digits"])
    rows = {"prediction": {}, "between": {}}
    for i in range(told.clips):
        truth = source.sample(1_000_000 + i, length=2 * model.past)
        for task, known in tasks(model.past).items():
            made = {name: guess[None] for name, guess in guesses(truth, known).items()}
            made["hold"] = truth[np.maximum.accumulate(np.where(known, np.arange(len(truth)), 0))][None]
            made["latent ODE"] = answer(model, truth, known, told.samples, i)
            if other:
                made["windows"] = other.complete(Clip(truth, RATE), known, samples=told.samples, seed=i).frames
            for name, videos in made.items():
                rows[task].setdefault(name, []).append(measured(videos[:, ~known], truth[~known]))
    for task, methods in rows.items():
        for name, found in methods.items():
            print(json.dumps({"task": task, "method": name} | interval(found)))
    told.output.mkdir(exist_ok=True)
    sample_sheet(model, source).save(told.output / "sheet.png")
    clips = {f"clip {i}": source.sample(i, length=model.past) for i in range(4)}
    times = np.arange(0, 2 * model.past, 0.25).tolist()
    paths = {name: model.trajectory(Clip(frames, RATE), times) for name, frames in clips.items()}
    draw_trajectories(paths, told.output / "paths.png")


def tasks(past):
    index = np.arange(2 * past)
    return {"prediction": index < past, "between": index % 2 == 0}


def answer(model, truth, known, samples, seed):
    """Samples (N, T, H, W, C): in time of the frames that are known, which stand at 0, 1, 2 and so on."""
    spacing = int(np.diff(np.flatnonzero(known)).min())
    made = model.at(
        Clip(truth[known], RATE), (np.arange(len(truth)) / spacing).tolist(), samples=samples,
        seed=seed if samples > 1 else None,
    )  # fmt: skip
    return np.where(known[:, None, None, None], truth, made)


def interval(found):
    table = {metric: np.array([row[metric] for row in found]) for metric in found[0]}
    half = {metric: 1.96 * v.std(ddof=1) / len(v) ** 0.5 for metric, v in table.items()}
    return {metric: [round(float(v.mean()), 3), round(float(half[metric]), 3)] for metric, v in table.items()}


if __name__ == "__main__":
    main()
