"""Do the forecasts look like the truth: as much variance at every scale of space and time, the same rare values.

Spectra are those of single members, never of the ensemble mean, which is smooth where the ensemble is unsure. Regions
take the cosine transform, the whole globe the Fourier transform along the circles of latitude. Missing cells take the
mean of their field, in forecast and truth alike, so a ratio compares both with the same holes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framefill.climate.grid import Grid
from framefill.climate.scores import Floats
from framefill.metrics.distribution import Band, bootstrap_band
from framefill.metrics.forecast import average, extreme_levels, quantile_pairs
from framefill.metrics.spectra import cosine_spectrum, temporal_spectrum, zonal_spectrum

FINEST = 0.5 + 1e-9  # cycles per cell; the corners of the plane beyond it hold a few diagonal waves
LEVELS = np.unique(np.round(np.concatenate([1 - extreme_levels(), np.arange(0.1, 0.91, 0.1), extreme_levels()]), 9))
FINE = np.concatenate([np.logspace(-6, -1, 200), np.linspace(0.1, 0.9, 400), 1 - np.logspace(-1, -6, 200)])


@dataclass(frozen=True, eq=False)
class Spectra:
    """Mean power of single members and of the truth at `frequency` (K,), which rises from 0; and made over truth.

    Frequencies are in cycles per cell, or per unit of time. Where the truth has no power the ratio is NaN.
    """

    frequency: Floats
    made: Floats
    truth: Floats
    ratio: Band


@dataclass(frozen=True, eq=False)
class Quantiles:
    """Values of all cells, members, starts and leads together at `levels` (L,), in units of the data.

    `levels` are deciles and nine steps in each decade of rarity at both ends; NaN where the truth has too few values.
    Cells count alike, whatever their area.
    """

    levels: Floats
    made: Floats
    truth: Floats
    difference: Band


def spatial_spectra(made: NDArray, truth: NDArray, grid: Grid, rounds: int, block: int) -> Spectra:
    """Of forecasts (starts, members, H, W) of `truth` (starts, H, W)."""
    frequency, own = _power_in_space(made, grid)
    _, its = _power_in_space(truth[:, None], grid)
    return _compared(frequency, own, its, rounds, block)


def temporal_spectra(
    made: NDArray, truth: NDArray, leads: Sequence[int], weights: Floats, rounds: int, block: int
) -> Spectra | None:
    """Of forecasts (starts, members, leads, H, W) over their leads, mean over cells that are there at all of them."""
    whole = ~np.isnan(truth).any(axis=1)
    if len(leads) < 4 or len(set(np.diff(leads))) > 1 or not whole.any(axis=(1, 2)).all():
        return None
    pairs = [
        [temporal_spectrum(np.moveaxis(np.where(there, z, 0), -3, 0), weights * there) for z in (x, y[None])]
        for x, y, there in zip(made, truth, whole, strict=True)
    ]
    own, its = (np.stack([pair[i].power for pair in pairs]) for i in (0, 1))
    return _compared(pairs[0][0].frequency / (leads[1] - leads[0]), own, its, rounds, block)


def quantiles_of(made: NDArray, truth: NDArray, rounds: int, block: int) -> Quantiles:
    """Of forecasts (starts, members, ...) of `truth` (starts, ...). The interval draws both with the same starts."""
    own, its = quantile_pairs(made, truth, LEVELS)
    support = np.unique(np.concatenate([np.nanquantile(z, FINE) for z in (made, truth)]))
    counts = [np.stack([_below(part, support) for part in z]) for z in (made, truth)]

    def apart(ours: Floats, theirs: Floats) -> Floats:
        return _quantiles(ours, support) - _quantiles(theirs, support)

    # between the points of the support it is interpolated, so only its spread is used, around the exact difference
    band = bootstrap_band(apart, *counts, rounds=rounds, block=block)
    exact = own - its
    return Quantiles(LEVELS, own, its, Band(exact, exact + band.low - band.value, exact + band.high - band.value))


def _power_in_space(fields: NDArray, grid: Grid) -> tuple[Floats, Floats]:
    """Frequencies (K,) and the mean power over the members of every start, (starts, K)."""
    rows = grid.weights.sum(axis=1)
    found = [
        zonal_spectrum(x, rows) if grid.periodic else cosine_spectrum(x) for x in (_filled(f, grid) for f in fields)
    ]
    resolved = found[0].frequency <= FINEST
    return found[0].frequency[resolved], np.stack([f.power[resolved] for f in found])


def _filled(fields: NDArray, grid: Grid) -> Floats:
    return np.where(np.isnan(fields), average(fields, grid.weights)[..., None, None], fields)


def _compared(frequency: Floats, made: Floats, truth: Floats, rounds: int, block: int) -> Spectra:
    ratio = bootstrap_band(_ratio, made, truth, rounds=rounds, block=block)
    return Spectra(frequency, made.mean(axis=0), truth.mean(axis=0), ratio)


def _ratio(made: Floats, truth: Floats) -> Floats:
    own, its = made.mean(axis=0), truth.mean(axis=0)
    return np.asarray(own / np.where(its > 1e-24 * its.sum(), its, np.nan))


def _below(values: NDArray, support: Floats) -> Floats:
    """How many values are not above each point of the support, and how many there are, (n + 1,)."""
    ordered = np.sort(values[~np.isnan(values)])
    return np.append(np.searchsorted(ordered, support, side="right"), len(ordered)).astype(np.float64)


def _quantiles(counts: Floats, support: Floats) -> Floats:
    total = counts.sum(axis=0)
    return np.interp(LEVELS, total[:-1] / total[-1], support)
