"""Curves as pictures, from the logs of a run."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from framefill.atomic import replacing


def draw_losses(log: Path, target: Path) -> None:
    """Draws the loss and the gradient norm of a metrics.jsonl over steps; does nothing without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    # A continued run repeats the steps since its checkpoint: the last word counts.
    said = {line["step"]: line for line in _whole_lines(log)}
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


def _whole_lines(log: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log but for those that a full disk or a kill has cut off."""
    for text in log.read_text().splitlines():
        with suppress(ValueError):
            yield json.loads(text)
