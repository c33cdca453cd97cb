"""Curves as pictures, from the logs of a run."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from framefill.atomic import replacing

LOSSES = ("loss", "gradient")
CODES = ("perplexity", "codes_in_use", "codes_revived")  # of a tokenizer's last batch


def draw_losses(log: Path, target: Path) -> None:
    """Draws the loss and the gradient norm of a metrics.jsonl over steps, and the health of codes where there are any.

    Does nothing without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    # A continued run repeats the steps since its checkpoint: the last word counts.
    said = {line["step"]: line for line in _whole_lines(log)}
    lines = [said[step] for step in sorted(said)]
    steps = np.array([line["step"] for line in lines])
    keys = [*LOSSES, *(key for key in CODES if key in lines[-1])]
    figure = Figure(figsize=(4 * len(keys), 4), layout="constrained")
    axes = figure.subplots(1, len(keys))
    for axis, key in zip(axes, keys, strict=True):
        values = np.array([line.get(key, np.nan) for line in lines])
        axis.plot(steps, values, color="#9aa4b2", linewidth=0.8)
        span = max(len(values) // 20, 1)
        axis.plot(steps[span - 1 :], np.convolve(values, np.ones(span) / span, "valid"), color="#2ecc71")
        axis.set(xlabel="step", title=key.replace("_", " "), yscale="log" if key in LOSSES else "linear")
        axis.grid(alpha=0.3)
    with replacing(target) as part:
        figure.savefig(part, format="png", dpi=110)


def _whole_lines(log: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log but for those that a full disk or a kill has cut off."""
    for text in log.read_text().splitlines():
        with suppress(ValueError):
            yield json.loads(text)


def draw_histograms(values: dict[str, Any], target: Path, *, title: str, bins: int = 40) -> bool:
    """Draws the shares of several sets of numbers over the same bins; False, and nothing drawn, without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    everything = np.concatenate([np.asarray(numbers, float) for numbers in values.values()])
    edges = np.linspace(everything.min(), everything.max() + 1e-9, bins + 1)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for label, numbers in values.items():
        weights = np.full(len(numbers), 1 / len(numbers))
        axes.hist(numbers, edges.tolist(), weights=weights, histtype="stepfilled", alpha=0.5, label=label)
    axes.set(xlabel=title, ylabel="share of pictures")
    axes.legend()
    with replacing(target) as part:
        figure.savefig(part, format="png", dpi=110, metadata={"Software": None})
    return True


def draw_trajectories(paths: dict[str, Any], target: str | Path) -> bool:
    """Draws paths (T, D) through a latent space, seen along the two directions in which they vary most together.

    A dot is an instant, a ring the first one. False, and nothing drawn, without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    everything = np.concatenate([np.asarray(path, float) for path in paths.values()])
    centre = everything.mean(0)
    axes_of = np.linalg.svd(everything - centre, full_matrices=False)[2][:2]
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    for label, path in paths.items():
        seen = (np.asarray(path, float) - centre) @ axes_of.T
        (line,) = axes.plot(seen[:, 0], seen[:, -1], ".-", label=label)
        axes.plot(seen[:1, 0], seen[:1, -1], "o", fillstyle="none", markersize=12, color=line.get_color())
    axes.set(xlabel="first component", ylabel="second component")
    axes.legend()
    with replacing(Path(target)) as part:
        figure.savefig(part, format="png", dpi=110, metadata={"Software": None})
    return True
