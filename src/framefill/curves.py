"""Curves as pictures, from the logs of a run."""

import json
from pathlib import Path

import numpy as np

from framefill.atomic import replacing


def draw_losses(log: Path, target: Path) -> None:
    """Draws the loss and the gradient norm of a metrics.jsonl over steps; does nothing without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    # A continued run repeats the steps since its checkpoint: the last word counts.
    said = {line["step"]: line for line in map(json.loads, log.read_text().splitlines())}
    lines = [said[step] for step in sorted(said)]
    steps = np.array([line["step"] for line in lines])
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, key in zip(axes, ("loss", "gradient"), strict=True):
        values = np.array([line[key] for line in lines])
        axis.plot(steps, values, color="#9aa4b2", linewidth=0.8)
        span = max(len(values) // 20, 1)
        axis.plot(steps[span - 1 :], np.convolve(values, np.ones(span) / span, "valid"), color="#2ecc71")
        axis.set(xlabel="step", title=key, yscale="log")
        axis.grid(alpha=0.3)
    with replacing(target) as part:
        figure.savefig(part, format="png", dpi=110)
