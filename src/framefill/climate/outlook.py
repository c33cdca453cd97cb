"""What an ensemble says, on one page: maps of what is known, its mean, a member and its spread, and fans of area means.

There is no truth here yet; for that see `verification`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from framefill.climate.canvas import TRUTH, canvas, finish, legend_below
from framefill.climate.fans import bands
from framefill.climate.fields import Variable
from framefill.climate.grid import Grid
from framefill.climate.maps import DEPARTURE, FIELD, SPREAD, height_of, row
from framefill.metrics.forecast import average

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEFORE = 30  # known fields that a fan shows at most


def outlook(
    variable: Variable, grid: Grid, known: NDArray, made: NDArray, times: tuple[list[str], list[str]]
) -> "Figure":
    """Of `made` (members, T, H, W) after, or between, the `known` fields (N, H, W), whose labels are in `times`.

    Maps are of the last time that was drawn, as the change since the last whole known field before it; where there is
    none, as they are. Below, the area mean over time.
    """
    cells = np.isfinite(made[0, -1])
    whole = {t: f for t, f in zip(times[0], known, strict=True) if np.isfinite(f)[cells].all()}
    drawn = [i for i, t in enumerate(times[1]) if t not in whole] or [len(times[1]) - 1]
    before = [t for t in whole if t < times[1][drawn[-1]]]
    since = whole[before[-1]] if before else None
    figure = canvas(height_of(grid, 1) + 2.8)
    parts: Any = figure.subfigures(2, 1, height_ratios=[height_of(grid, 1), 2.8])
    above, below = parts
    _maps(above, variable, grid, made[:, drawn[-1]], since)
    above.suptitle(f"{variable.name} at {times[1][drawn[-1]]}", fontsize=12)
    earlier = [t for t in whole if t < times[1][drawn[0]]][-BEFORE:]
    known_means = {t: average(np.where(cells, f, np.nan), grid.weights) for t, f in whole.items()}
    _fan(below.subplots(), earlier, known_means, times[1][drawn[0] :], average(made[:, drawn[0] :], grid.weights))
    below.axes[0].set_ylabel(f"{variable.name} ({variable.unit})")
    legend_below(below, below.axes[0], 4)
    return figure


def _fan(axis: Any, earlier: list[str], known: dict[str, Any], times: list[str], members: NDArray) -> None:
    """Area means of the `earlier` known fields, and of `members` (members, T) from the first that was drawn on."""
    labels = [*earlier, *times]
    dots = [(i, known[t]) for i, t in enumerate(labels) if t in known]
    if dots:
        axis.plot(*zip(*dots, strict=True), color=TRUTH, marker="o", markersize=3, label="known",
                  linestyle="-" if len(dots) == len(earlier) else "")  # fmt: skip
    bands(axis, np.arange(len(earlier), len(labels)), members, "members")
    ticks = range(0, len(labels), max(len(labels) // 8, 1))
    axis.set_xticks(ticks, [labels[i] for i in ticks])
    finish(axis, "mean over the area", "")


def _maps(figure: Any, variable: Variable, grid: Grid, made: NDArray, since: NDArray | None) -> None:
    """Mean, one member and spread of fields (members, H, W)."""
    shown = [made.mean(0), made[0]] if since is None else [made.mean(0) - since, made[0] - since]
    what = variable.name if since is None else f"{variable.name}, change since the last known"
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    names = [f"mean of {len(made)} members", "member 1"]
    row(figure, list(axes[:2]), shown, names, grid, f"{what} ({variable.unit})", FIELD if since is None else DEPARTURE)
    spread = made.std(axis=0, ddof=1) if len(made) > 1 else np.where(np.isnan(made[0]), np.nan, 0)
    row(figure, [axes[2]], [spread], ["spread"], grid, f"standard deviation ({variable.unit})", SPREAD)
