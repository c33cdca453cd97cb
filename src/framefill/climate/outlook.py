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

    Maps are of the last time, as the change since the last known field; where nothing is known, as they are. Below, the
    area mean over time.
    """
    figure = canvas(height_of(grid, 1) + 2.8)
    parts: Any = figure.subfigures(2, 1, height_ratios=[height_of(grid, 1), 2.8])
    above, below = parts
    last = made[:, -1]
    whole = known[~np.isnan(known).all((1, 2))]
    since = whole[-1] if len(whole) and not np.isnan(whole[-1]).all() else None
    shown = [last.mean(0), last[0]] if since is None else [last.mean(0) - since, last[0] - since]
    what = variable.name if since is None else f"{variable.name}, change since the last known"
    axes = above.subplots(1, 3, sharex=True, sharey=True)
    names = [f"mean of {len(made)} members", "member 1"]
    row(above, list(axes[:2]), shown, names, grid, f"{what} ({variable.unit})", FIELD if since is None else DEPARTURE)
    spread = last.std(axis=0, ddof=1) if len(made) > 1 else np.where(np.isnan(last[0]), np.nan, 0)
    row(above, [axes[2]], [spread], ["spread"], grid, f"standard deviation ({variable.unit})", SPREAD)
    above.suptitle(f"{variable.name} at {times[1][-1]}", fontsize=12)
    _fan(below, variable, grid, known, made, times)
    return figure


def _fan(
    figure: "Figure", variable: Variable, grid: Grid, known: NDArray, made: NDArray, times: tuple[list[str], list[str]]
) -> None:
    """The area mean of the last known fields, where those are whole, and of the members."""
    axis = figure.subplots()
    place = {label: i for i, label in enumerate(sorted({*times[0][-BEFORE:], *times[1]}))}
    cells = np.isfinite(made[0, -1])
    whole = [
        (place[t], average(np.where(cells, f, np.nan), grid.weights))
        for t, f in zip(times[0], known, strict=True)
        if t in place and np.isfinite(f)[cells].all()
    ]
    if whole:
        axis.plot(*zip(*whole, strict=True), color=TRUTH, marker="o", markersize=3, label="known")
    means = average(made, grid.weights)
    bands(axis, np.array([place[t] for t in times[1]]), means, "members")
    labels = list(place)
    ticks = range(0, len(labels), max(len(labels) // 8, 1))
    axis.set_xticks(ticks, [labels[i] for i in ticks])
    finish(axis, "mean over the area", f"{variable.name} ({variable.unit})")
    legend_below(figure, axis, 4)
