"""The figures of a verification as pictures: scores by lead, calibration, spectra, quantiles."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from framefill.climate.canvas import MODEL, TRUTH, canvas, colours, finish, label_axis, legend_below, squared
from framefill.climate.shape import Spectra
from framefill.climate.tables import lead_name, some
from framefill.climate.verification import Hindcasts, Verification
from framefill.metrics.distribution import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEADS = ("#0072b2", "#e69f00", "#009e73")
NEAR = (0.9, 1.1)


def scores(verification: Verification) -> "Figure":
    """Fair CRPS of every method by lead, and by how many percent the model's differs from each baseline's."""
    v = verification
    figure = canvas(4.3)
    axes = figure.subplots(1, 2 if v.differences else 1, squeeze=False)[0]
    for i, (name, found) in enumerate(v.methods.items()):
        values = [s.crps for s in found.scores]
        _bars(axes[0], values, i, len(v.methods), colours(list(v.methods))[name], name)
    _by_lead(axes[0], v, "fair CRPS, lower is better", v.unit)
    if v.differences:
        baselines = list(v.methods)[1:]
        for i, name in enumerate(baselines):
            values = [d.percent for d in v.differences if d.baseline == name]
            _bars(axes[1], values, i, len(baselines), colours(list(v.methods))[name], name)
        axes[1].axhline(0, color=TRUTH, linewidth=1)
        _by_lead(axes[1], v, "CRPS of the model against each: below 0 is better", "difference (%)")
    legend_below(figure, axes[0], 3)
    return figure


def calibration(verification: Verification) -> "Figure":
    """Spread over skill of every method by lead, and the rank histograms of the model at up to three leads."""
    v = verification
    figure = canvas(4.5)
    left, right = figure.subplots(1, 2)
    left.axhline(1, color=TRUTH, linewidth=1)
    for i, (name, found) in enumerate(v.methods.items()):
        values = [s.spread_skill for s in found.scores]
        _bars(left, values, i, len(v.methods), colours(list(v.methods))[name], name)
    _by_lead(left, v, "spread over skill: below 1 is too sure", "adjusted spread / RMSE of the mean")
    own = v.methods[v.model]
    edges = np.arange(own.members + 2) - 0.5
    right.axhline(1 / (own.members + 1), color=TRUTH, linewidth=1)
    for i, colour in zip(some(len(v.leads), 3), LEADS, strict=False):
        band = own.ranks[i]
        right.stairs(
            band.value, edges, baseline=None, color=colour, linewidth=1.6, label=lead_name(v.leads[i], v.time_unit)
        )
        right.stairs(band.high, edges, baseline=band.low, color=colour, fill=True, alpha=0.15)
    right.set_ylim(bottom=0)
    right.set_xlabel(f"rank of the truth among {own.members} members")
    right.legend(frameon=False, fontsize=9, title="95 % over starts shaded", title_fontsize=8)
    finish(right, "ranks of the model: flat if calibrated", "share of cells")
    legend_below(figure, left, 3)
    return figure


def spatial(verification: Verification) -> "Figure":
    """Power of single members and of the truth by wavelength at the first and the last lead, and their ratio."""
    v = verification
    shown = some(len(v.leads), 2)
    columns = [{name: f.spatial[i] for name, f in v.methods.items()} for i in shown]
    return _spectra(v, columns, [f"{lead_name(v.leads[i], v.time_unit)} ahead" for i in shown], "wavelength (cells)")


def temporal(verification: Verification) -> "Figure | None":
    """The same over leads; None where there are too few."""
    found = {name: f.temporal for name, f in verification.methods.items()}
    there = {name: s for name, s in found.items() if s is not None}
    if not there:
        return None
    title = f"over {len(verification.leads)} leads, mean over cells"
    return _spectra(verification, [there], [title], f"period ({verification.time_unit})")


def quantiles(hindcasts: Hindcasts, verification: Verification) -> "Figure":
    """Distribution of all values, quantiles of the model against the truth's, and every method's less the truth's."""
    v, h = verification, hindcasts.common()
    figure = canvas(4.4)
    shape, pairs, apart = figure.subplots(1, 3)
    values = [z[np.isfinite(z)] for z in (h.happened, h.made[h.model])]
    least, most = min(z.min() for z in values), max(z.max() for z in values)
    bins = np.linspace(least, most if most > least else least + 1, 61)
    for z, colour, name in zip(values, (TRUTH, MODEL), ("truth", v.model), strict=True):
        shape.stairs(np.histogram(z, bins, density=True)[0], bins, color=colour, label=name, linewidth=1.4)
    shape.set_yscale("log")
    shape.set_xlabel(f"{v.name} ({v.unit})")
    finish(shape, "distribution of all values", f"density per {v.unit}")
    own = v.methods[v.model].quantiles
    ends = [
        f([np.nanmin(own.truth), np.nanmin(own.made), np.nanmax(own.truth), np.nanmax(own.made)]) for f in (min, max)
    ]
    pairs.plot(ends, ends, color=TRUTH, linewidth=1)
    pairs.plot(own.truth, own.made, "o", markersize=3, color=MODEL)
    pairs.set_xlabel(f"quantile of the truth ({v.unit})")
    finish(pairs, "quantiles of the model", f"quantile of the members ({v.unit})")
    for name, found in v.methods.items():
        q, colour = found.quantiles, colours(list(v.methods))[name]
        first = name == v.model
        apart.plot(q.truth, q.made - q.truth, color=colour, linewidth=1.8 if first else 1, label=name, zorder=2 + first)
    apart.fill_between(own.truth, own.difference.low, own.difference.high, color=MODEL, alpha=0.2, linewidth=0)
    apart.axhline(0, color=TRUTH, linewidth=1, label="truth")
    apart.set_xlabel(f"quantile of the truth ({v.unit})")
    finish(apart, "members' quantile less the truth's", v.unit)
    legend_below(figure, apart, 3)
    return figure


def _bars(axis: Any, values: Sequence[Interval], i: int, count: int, colour: str, name: str) -> None:
    """Points with their intervals, methods side by side at each lead."""
    x = np.arange(len(values)) + (i - (count - 1) / 2) * 0.6 / max(count, 1)
    middle = np.array([v.value for v in values])
    ends = np.abs(np.array([[v.value - v.low for v in values], [v.high - v.value for v in values]]))
    axis.errorbar(x, middle, ends, fmt="o", markersize=4, color=colour, elinewidth=1.4, capsize=2, label=name)


def _by_lead(axis: Any, v: Verification, title: str, y: str) -> None:
    label_axis(axis, [str(lead) for lead in v.leads], f"lead ({v.time_unit})", most=10)
    finish(axis, title, y)


def _spectra(v: Verification, columns: list[dict[str, Spectra]], titles: list[str], x: str) -> "Figure":
    figure = canvas(6.2)
    axes = figure.subplots(2, len(columns), sharex="col", sharey="row", squeeze=False, height_ratios=(3, 2))
    for (power, ratio), found, title in zip(axes.T, columns, titles, strict=True):
        _column(power, ratio, found, list(v.methods))
        finish(power, title, "")
        finish(ratio, "members over truth", "")
        ratio.set_xlabel(x)
    axes[0, 0].set_ylabel(f"power of single fields, {squared(v.unit)}")
    axes[1, 0].set_ylabel("ratio, 10 % shaded")
    legend_below(figure, axes[0, 0], 3)
    return figure


def _column(power: Any, ratio: Any, found: dict[str, Spectra], methods: list[str]) -> None:
    own = next(iter(found.values()))
    power.loglog(own.frequency[1:], own.truth[1:], color=TRUTH, linewidth=2, label="truth")
    _scale_of_ratios(ratio, own)
    ratio.axhspan(*NEAR, color="#d8d8d8", zorder=0)
    ratio.axhline(1, color=TRUTH, linewidth=1)
    for name, s in found.items():
        first = name == methods[0]
        style = {"color": colours(methods)[name], "linewidth": 1.8 if first else 1.0, "zorder": 2 + first}
        power.plot(s.frequency[1:], s.made[1:], label=name, **style)
        ratio.plot(s.frequency[1:], s.ratio.value[1:], **style)
    ratio.fill_between(own.frequency[1:], own.ratio.low[1:], own.ratio.high[1:], color=MODEL, alpha=0.2, linewidth=0)
    _wavelengths(ratio, own.frequency[1:])


def _scale_of_ratios(ratio: Any, own: Spectra) -> None:
    """A factor of two either way, or as far as the interval goes."""
    ratio.set_yscale("log")
    low, high = own.ratio.low[1:], own.ratio.high[1:]
    ratio.set_ylim(max(0.05, 0.9 * np.nanmin(low, initial=0.5)), min(20, 1.1 * np.nanmax(high, initial=2)))
    lowest, highest = ratio.get_ylim()
    ticks = [r for r in (0.05, 0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 5, 10, 20) if lowest <= r <= highest]
    ratio.set_yticks(ticks, [f"{r:g}" for r in ticks])


def _wavelengths(axis: Any, frequency: NDArray) -> None:
    """Ticks at round wavelengths, long to the left."""
    longest, shortest = 1.001 / frequency[0], 0.999 / frequency[-1]
    round_ones = [w for w in (1000, 500, 200, 100, 50, 20, 10, 5, 4, 3, 2) if shortest <= w <= longest]
    if len(round_ones) > 1:
        axis.set_xticks([1 / w for w in round_ones], [f"{w:g}" for w in round_ones])
    axis.minorticks_off()
