"""Maps of one forecast beside what happened, and of the bias over all: cells as they are, without coastlines.

Maps that share units share one scale. Where the hindcasts have a normal, fields are shown as departures from it: the
pattern of the climate hides everything else. Missing cells are grey.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from framefill.climate.canvas import canvas
from framefill.climate.grid import Grid
from framefill.climate.scores import Floats
from framefill.climate.tables import lead_name
from framefill.climate.verification import Hindcasts, bias_map, over_starts
from framefill.metrics.forecast import average

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIELD, AMOUNT, DEPARTURE, SPREAD = "viridis", "YlGnBu", "RdBu_r", "magma_r"
DEGREES = (1, 1.5, 2, 3, 6, 9, 10)
MOST = 100.0  # percent; nothing falls short by more
RARE = 0.1  # of the area mean: where it is drier, a relative bias is noise


def maps(hindcasts: Hindcasts, start: int, lead: int) -> "Figure":
    """Of the model: truth, mean and one member; below error of the mean, spread, and bias over all starts.

    `start` and `lead` are indices. For amounts, which have an exact zero, the bias is in percent of the mean truth.
    """
    h = hindcasts.common()
    truth, made = h.happened[start, lead], h.made[h.model][start, :, lead]
    own = h.anomalies(h.happened)[start, lead], h.anomalies(h.made[h.model])[start, :, lead]
    figure = canvas(height_of(h.grid, 2))
    top, below = figure.subplots(2, 3, sharex=True, sharey=True)
    shown = [own[0], own[1].mean(axis=0), own[1][0]]
    what = h.name if h.normal is None else f"{h.name}, departure from normal"
    names = ["truth", f"mean of {len(made)} members", "member 1"]
    kind = DEPARTURE if h.normal is not None else AMOUNT if h.amounts else FIELD
    row(figure, list(top), shown, names, h.grid, f"{what} ({h.unit})", kind)
    error = made.mean(axis=0) - truth
    row(figure, [below[0]], [error], ["error of the mean"], h.grid, f"mean - truth ({h.unit})", DEPARTURE)
    spread = made.std(axis=0, ddof=1) if len(made) > 1 else np.where(np.isnan(truth), np.nan, 0)
    row(figure, [below[1]], [spread], ["spread"], h.grid, f"standard deviation ({h.unit})", SPREAD)
    bias, unit = _bias(h, lead)
    row(figure, [below[2]], [bias], [f"bias over {len(h.starts)} starts"], h.grid, f"mean - truth ({unit})", DEPARTURE)
    for axis in below:
        axis.set_xlabel("longitude")
    for axis in (top[0], below[0]):
        axis.set_ylabel("latitude")
    figure.suptitle(f"{h.model} from {h.starts[start]}, {lead_name(h.leads[lead], h.time_unit)} ahead", fontsize=12)
    return figure


def relative_bias_map(hindcasts: Hindcasts, method: str, lead: int) -> Floats:
    """`bias_map` over the mean truth in percent, (H, W); NaN where that is below a tenth of its mean over the area.

    The bias map of paper 003.
    """
    mean = over_starts(hindcasts.happened[:, lead])
    enough = mean > RARE * average(mean, hindcasts.grid.weights)
    return 100 * bias_map(hindcasts, method, lead) / np.where(enough, mean, np.nan)


def _bias(h: Hindcasts, lead: int) -> tuple[Floats, str]:
    return (relative_bias_map(h, h.model, lead), "%") if h.amounts else (bias_map(h, h.model, lead), h.unit)


def row(
    figure: "Figure", axes: list[Any], fields: list[NDArray], names: list[str], grid: Grid, label: str, colours: str
) -> None:
    """Maps on one scale: symmetric about 0 for departures, from 0 for spread; the rarest hundredth is cut."""
    values = np.concatenate([f[np.isfinite(f)] for f in fields])
    low, high = np.quantile(values, (0.005, 0.995)) if len(values) else (0.0, 1.0)
    if colours == DEPARTURE:
        high = min(max(abs(low), abs(high)) or 1.0, MOST if label.endswith("(%)") else np.inf)
        low = -high
    elif colours in (AMOUNT, SPREAD):
        low = 0.0
    high = high if high > low else low + 1
    for axis, field, name in zip(axes, fields, names, strict=True):
        drawn = axis.pcolormesh(
            grid.longitude_edges, grid.latitude_edges, np.ma.masked_invalid(field), vmin=low, vmax=high,
            cmap=colours, rasterized=True,
        )  # fmt: skip
        _ground(axis, grid, name)
    cut = (float(values.min(initial=low)) < low, float(values.max(initial=high)) > high)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[cut]
    figure.colorbar(drawn, ax=axes, label=label, location="bottom", extend=extend, shrink=0.9 / len(axes) ** 0.5,
                    aspect=20 * len(axes) ** 0.5, pad=0.02)  # fmt: skip


def _ground(axis: Any, grid: Grid, name: str) -> None:
    axis.set_title(name, fontsize=10, loc="left")
    axis.set_facecolor("#d0d0d0")
    axis.set_aspect(_stretch(grid))
    axis.xaxis.set_major_formatter(lambda x, _: _east(x))
    axis.yaxis.set_major_formatter(lambda y, _: f"{abs(y):g}°{'N' if y > 0 else 'S' if y < 0 else ''}")
    axis.locator_params(axis="x", nbins=4, steps=DEGREES)
    axis.locator_params(axis="y", nbins=5, steps=DEGREES)


def _stretch(grid: Grid) -> float:
    """How many times longer a degree of latitude is than one of longitude in the middle of the map."""
    middle = (grid.latitude_edges[0] + grid.latitude_edges[-1]) / 2
    return float(1 / max(np.cos(np.deg2rad(middle)), 0.2))


def height_of(grid: Grid, rows: int) -> float:
    """Inches that so many rows of three maps take."""
    north = grid.latitude_edges[-1] - grid.latitude_edges[0]
    east = grid.longitude_edges[-1] - grid.longitude_edges[0]
    return float(np.clip(rows * (3.0 * north / east * _stretch(grid) + 1.1) + 0.5, 2.25 * rows, 5.5 * rows))


def _east(degrees: float) -> str:
    turned = (degrees + 180) % 360 - 180
    return f"{abs(turned):g}°{'E' if 0 < turned < 180 else 'W' if -180 < turned < 0 else ''}"
