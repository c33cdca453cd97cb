"""Everything a forecaster asks of an ensemble, for one variable, against the forecasts that need no network.

What goes in is arrays: what happened, and what each method made of the same starts. Methods are compared on the same
cells: one where the truth or any member of any method is missing counts for none of them. Every figure has a 95 %
interval over starts; those that lie closer together than the lead are resampled in blocks (`climate.scores`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from framefill.climate.grid import Grid
from framefill.climate.scores import Floats, Score, block_of, crps_of_starts, score
from framefill.climate.shape import Quantiles, Spectra, quantiles_of, spatial_spectra, temporal_spectra
from framefill.errors import BadInput
from framefill.metrics.distribution import Band, Interval, bootstrap, bootstrap_band
from framefill.metrics.forecast import rank_histogram


@dataclass(frozen=True, eq=False)
class Hindcasts:
    """Forecasts of one variable, and what happened.

    `happened` is (starts, leads, H, W), NaN where missing; `made` has for every method (starts, members, leads, H, W).
    The first method is the model, the others are what it has to beat. `leads` and `spacing`, the distance between
    starts, count in `time_unit`. `normal` broadcasts to `happened`: a mean field, such as the climatology of training,
    that is taken away before spectra, which would else show mountains and coasts. Raises BadInput where these do not
    fit together, for infinite values, and for a start without a cell that all have.
    """

    name: str
    unit: str
    grid: Grid
    starts: tuple[str, ...]
    leads: tuple[int, ...]
    time_unit: str
    happened: NDArray
    made: Mapping[str, NDArray]
    spacing: int = 1
    normal: NDArray | None = None

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_values(self)

    @property
    def model(self) -> str:
        """The method that is judged."""
        return next(iter(self.made))

    @property
    def baselines(self) -> tuple[str, ...]:
        """The methods that it is judged against."""
        return tuple(self.made)[1:]

    @cached_property
    def amounts(self) -> bool:
        """Whether the truth is never below 0 and sometimes exactly that, as rain is."""
        return bool(np.nanmin(self.happened) == 0)

    @cached_property
    def there(self) -> NDArray[np.bool_]:
        """Where the truth and all members of all methods have a value: (starts, leads, H, W)."""
        there = ~np.isnan(self.happened)
        for made in self.made.values():
            there = there & ~np.isnan(made).any(axis=1)
        return there

    def common(self) -> "Hindcasts":
        """The same with NaN wherever anything is missing."""
        if self.there.all():
            return self
        made = {name: np.where(self.there[:, None], m, np.nan) for name, m in self.made.items()}
        return replace(self, happened=np.where(self.there, self.happened, np.nan), made=made)

    def anomalies(self, values: NDArray) -> NDArray:
        """`values` (starts, ..., leads, H, W) less the normal."""
        if self.normal is None:
            return values
        normal = np.broadcast_to(self.normal, self.happened.shape)
        return values - (normal if values.ndim == 4 else normal[:, None])


@dataclass(frozen=True, eq=False)
class Found:
    """What was found of one method, lead by lead: scores, ranks and spatial spectra; the others are over all leads.

    `ranks` are shares (members + 1,), all equal to 1 / (members + 1) if calibrated. `temporal` is None for fewer than
    four leads, leads that are not evenly spaced, or where no cell is there at all of them.
    """

    members: int
    scores: tuple[Score, ...]
    ranks: tuple[Band, ...]
    spatial: tuple[Spectra, ...]
    temporal: Spectra | None
    quantiles: Quantiles


@dataclass(frozen=True)
class Difference:
    """Fair CRPS of the model less that of a baseline at one lead, in units of the data and in percent of the latter."""

    baseline: str
    lead: int
    crps: Interval
    percent: Interval

    @property
    def verdict(self) -> str:
        """Which is better, where the interval leaves no doubt."""
        return "better" if self.crps.high < 0 else "worse" if self.crps.low > 0 else "no clear difference"


@dataclass(frozen=True, eq=False)
class Verification:
    """All that was found; `tables.as_text` and `tables.as_json` say it, `plots.draw` shows it.

    `missing` is the share of cells, starts and leads that were left out.
    """

    name: str
    unit: str
    starts: tuple[str, ...]
    leads: tuple[int, ...]
    time_unit: str
    missing: float
    methods: dict[str, Found]
    differences: tuple[Difference, ...]

    @property
    def model(self) -> str:
        """The method that was judged."""
        return next(iter(self.methods))


def verify(hindcasts: Hindcasts, *, rounds: int = 1000) -> Verification:
    """Verifies every method; `rounds` resamplings for scores, a fifth of that for curves. Equal input, equal output."""
    h = hindcasts.common()
    methods = {name: _found(h, made, rounds) for name, made in h.made.items()}
    return Verification(
        h.name, h.unit, h.starts, h.leads, h.time_unit, float(1 - h.there.mean()), methods, _differences(h, rounds)
    )


def bias_map(hindcasts: Hindcasts, method: str, lead: int) -> Floats:
    """Mean over starts of the ensemble mean less the truth, (H, W) in units of the data; `lead` is an index."""
    made, happened = hindcasts.made[method][:, :, lead], hindcasts.happened[:, lead]
    return over_starts(made.mean(axis=1, dtype=np.float64) - happened)


def over_starts(values: NDArray) -> Floats:
    """Mean over the first axis without what is missing; NaN where all is."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0).sum(axis=0) / there.sum(axis=0), np.float64)


def _found(h: Hindcasts, made: NDArray, rounds: int) -> Found:
    weights, curves = h.grid.weights, max(rounds // 5, 20)
    slices = [(made[:, :, i], h.happened[:, i], lead) for i, lead in enumerate(h.leads)]
    blocks = [block_of(lead, h.spacing, len(h.starts)) for lead in h.leads]
    x, y = h.anomalies(made), h.anomalies(h.happened)
    return Found(
        made.shape[1],
        tuple(score(m, z, lead, weights, spacing=h.spacing, rounds=rounds) for m, z, lead in slices),
        tuple(_ranks(m, z, weights, curves, b) for (m, z, _), b in zip(slices, blocks, strict=True)),
        tuple(spatial_spectra(x[:, :, i], y[:, i], h.grid, curves, b) for i, b in enumerate(blocks)),
        temporal_spectra(x, y, h.leads, weights, curves, blocks[-1]),
        quantiles_of(made, h.happened, curves, blocks[-1]),
    )


def _ranks(made: NDArray, happened: NDArray, weights: NDArray, rounds: int, block: int) -> Band:
    shares = [rank_histogram(x, y, weights, seed=i) for i, (x, y) in enumerate(zip(made, happened, strict=True))]
    return bootstrap_band(lambda s: s.mean(axis=0), np.stack(shares), rounds=rounds, block=block)


def _differences(h: Hindcasts, rounds: int) -> tuple[Difference, ...]:
    """Paired: start by start, so what makes a start hard for all does not count as doubt."""
    found = []
    for i, lead in enumerate(h.leads):
        own, *others = (crps_of_starts(m[:, :, i], h.happened[:, i], h.grid.weights) for m in h.made.values())
        block = block_of(lead, h.spacing, len(h.starts))
        for baseline, other in zip(h.baselines, others, strict=True):
            pair = [
                bootstrap(statistic, own, other, rounds=rounds, paired=True, block=block)
                for statistic in (_apart, _percent)
            ]
            found.append(Difference(baseline, lead, *pair))
    return tuple(found)


def _apart(own: Floats, other: Floats) -> float:
    return float(own.mean() - other.mean())


def _percent(own: Floats, other: Floats) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(100 * (own.mean() / other.mean() - 1))


def _check_shapes(h: Hindcasts) -> None:
    shape = (len(h.starts), len(h.leads), *h.grid.shape)
    if len(h.starts) < 2 or not h.leads:
        raise BadInput(
            f"{len(h.starts)} starts and {len(h.leads)} leads; an interval needs 2 starts and a lead or more"
        )
    if h.spacing < 1 or min(h.leads) < 1 or (np.diff(h.leads) <= 0).any():
        raise BadInput(
            f"leads {list(h.leads)} with starts {h.spacing} apart; leads rise from 1 on, starts lie 1 apart or more"
        )
    if h.happened.shape != shape:
        raise BadInput(f"what happened has shape {h.happened.shape}; starts, leads and the grid make it {shape}")
    if not h.made:
        raise BadInput("no method was given; name one and its forecasts")
    for name, made in h.made.items():
        if made.ndim != 5 or made.shape[1] < 1 or made.shape[:1] + made.shape[2:] != shape:
            raise BadInput(
                f"{name} made {made.shape}; it is (starts, members, leads, H, W) with members between {shape}"
            )
    if h.normal is not None and not _broadcasts(h.normal.shape, shape):
        raise BadInput(f"the normal has shape {h.normal.shape}, which does not broadcast to {shape}; give (H, W)")


def _check_values(h: Hindcasts) -> None:
    for name, values in {"what happened": h.happened, **h.made}.items():
        if np.isinf(values).any():
            raise BadInput(f"{name} holds infinite values; mark them as missing (NaN), or leave the method out")
    empty = np.argwhere(~h.there.any(axis=(2, 3)))
    if len(empty):
        start, lead = empty[0]
        raise BadInput(
            f"no cell has a value of all methods and of the truth from {h.starts[start]} at {h.leads[lead]} "
            f"{h.time_unit}; leave that start out"
        )
    if h.normal is not None and np.isnan(np.broadcast_to(h.normal, h.there.shape)[h.there]).any():
        raise BadInput("the normal is missing at cells that have a forecast; fill it in, or give none")


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False
