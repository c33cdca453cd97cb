"""How an ensemble opens over time: bands of an area mean, or of one cell, with what happened in them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from framefill.climate.canvas import MODEL, TRUTH, canvas, finish, label_axis, legend_below
from framefill.climate.scores import Floats
from framefill.climate.tables import lead_name, some
from framefill.climate.verification import Hindcasts
from framefill.metrics.forecast import average, crps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = ((0.05, 0.95, "5 to 95 %", 0.22), (0.25, 0.75, "25 to 75 %", 0.38))


def fans(hindcasts: Hindcasts, *, cell: tuple[int, int] | None = None, other: str | None = None) -> "Figure":
    """Over lead, from up to six starts; bands of the model, and the 5 to 95 % of the method `other` as broken lines."""
    truth, made = _lines(hindcasts, cell)
    shown = some(len(hindcasts.starts), 6)
    rows, columns = -(-len(shown) // 3), min(len(shown), 3)
    figure = canvas(0.8 + 2.5 * rows)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    x = np.asarray(hindcasts.leads)
    for axis, start in zip(axes.flat, shown, strict=False):
        bands(axis, x, made[hindcasts.model][start], hindcasts.model)
        if other is not None:
            _edges(axis, x, made[other][start], other)
        axis.plot(x, truth[start], color=TRUTH, marker="o", markersize=4, label="truth")
        finish(axis, f"from {hindcasts.starts[start]}", "")
    _same_span(axes.flat[: len(shown)], from_zero=hindcasts.amounts)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel(f"lead ({hindcasts.time_unit})")
    figure.supylabel(_said(hindcasts, cell), fontsize=10)
    legend_below(figure, axes[0, 0], 3)
    return figure


def series(hindcasts: Hindcasts, *, cell: tuple[int, int] | None = None, other: str | None = None) -> "Figure":
    """Over starts, one panel for each of up to three leads: how often the truth lies in the bands."""
    truth, made = _lines(hindcasts, cell)
    shown = some(len(hindcasts.leads), 3)
    figure = canvas(0.9 + 2.3 * len(shown))
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    x = np.arange(len(hindcasts.starts))
    for axis, lead in zip(axes, shown, strict=True):
        bands(axis, x, made[hindcasts.model][:, :, lead].T, hindcasts.model)
        if other is not None:
            _edges(axis, x, made[other][:, :, lead].T, other)
        axis.plot(x, truth[:, lead], color=TRUTH, marker="o", markersize=3, linewidth=1, label="truth")
        finish(axis, f"{lead_name(hindcasts.leads[lead], hindcasts.time_unit)} ahead", "")
        label_axis(axis, hindcasts.starts, "" if lead != shown[-1] else "start", most=8)
    figure.supylabel(_said(hindcasts, cell), fontsize=10)
    legend_below(figure, axes[0], 3)
    return figure


def best_baseline(hindcasts: Hindcasts) -> str | None:
    """The baseline of the lowest fair CRPS of the area mean, over all starts and leads; None without any."""
    truth, made = _lines(hindcasts, None)
    return min(hindcasts.baselines, key=lambda name: crps(np.moveaxis(made[name], 1, 0), truth).mean(), default=None)


def _lines(h: Hindcasts, cell: tuple[int, int] | None) -> tuple[Floats, Mapping[str, Floats]]:
    """The truth (starts, leads) and every method (starts, members, leads)."""
    h = h.common()

    def line(values: NDArray) -> Floats:
        return np.asarray(values[..., *cell] if cell else average(values, h.grid.weights), np.float64)

    return line(h.happened), {name: line(made) for name, made in h.made.items()}


def _said(h: Hindcasts, cell: tuple[int, int] | None) -> str:
    if cell is None:
        return f"{h.name}, mean over the area ({h.unit})"
    return f"{h.name} at {h.grid.latitude[cell[0]]:g}°N {h.grid.longitude[cell[1]]:g}°E ({h.unit})"


def bands(axis: Any, x: NDArray, members: Floats, name: str) -> None:
    """Quantiles of `members` (members, n) and their median."""
    for low, high, label, strength in SHARES:
        axis.fill_between(x, *np.quantile(members, (low, high), axis=0), color=MODEL, alpha=strength, linewidth=0,
                          label=f"{name}: {label}")  # fmt: skip
    axis.plot(x, np.median(members, axis=0), color=MODEL, linewidth=1.5, label="median")


def _same_span(axes: NDArray, *, from_zero: bool) -> None:
    """Scales that differ by a shift alone, so that bands compare although the starts may be far apart."""
    limits = np.array([axis.get_ylim() for axis in axes])
    if from_zero:
        limits[:] = 0, limits.max()
    half = (limits[:, 1] - limits[:, 0]).max() / 2
    for axis, middle in zip(axes, limits.mean(axis=1), strict=True):
        axis.set_ylim(middle - half, middle + half)


def _edges(axis: Any, x: NDArray, members: Floats, name: str) -> None:
    for i, level in enumerate((0.05, 0.95)):
        axis.plot(x, np.quantile(members, level, axis=0), color="#d55e00", linestyle="--", linewidth=1,
                  label=None if i else f"{name}: 5 to 95 %")  # fmt: skip
