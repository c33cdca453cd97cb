"""Scores of several guesses of one truth: how good is a distribution of answers, not one of them.

`weights` are areas of cells, or anything else that counts places: their axes are the last ones of the truth, only their
proportions matter, and where a value is NaN it is left out. Without them all elements count the same.
"""

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput


def crps(samples: NDArray, truth: NDArray) -> NDArray[np.float64]:
    """Continuous ranked probability score per element, in the units of the data; the fair estimator.

    For `samples` (N, ...) and `truth` (...): mean |x_i - y| - sum_ij |x_i - x_j| / (2 N (N - 1)). It is proper: in
    expectation nothing beats drawing from the true distribution. With one sample it is the absolute error.
    """
    x, y = samples.astype(np.float64), truth.astype(np.float64)
    N = len(x)
    error = np.abs(x - y).mean(axis=0)
    if N == 1:
        return error
    # sum_ij |x_i - x_j| = 2 sum_i (2 i - N + 1) x_(i) over the sorted samples.
    rank = (2 * np.arange(N) - N + 1).reshape(-1, *[1] * y.ndim)
    return error - (rank * np.sort(x, axis=0)).sum(axis=0) / (N * (N - 1))


def spread_and_error(samples: NDArray, truth: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance of `samples` (N, ...) and squared error of their mean against `truth` (...), per element.

    The variance is the unbiased one times (N + 1) / N: what the squared error of a mean of N is in expectation when the
    truth is one more draw from the same distribution (Fortin et al. 2014). N = 1 raises BadInput.
    """
    N = len(samples)
    if N < 2:
        raise BadInput(f"{N} sample(s) have no spread; draw 2 or more")
    x, y = samples.astype(np.float64), truth.astype(np.float64)
    return x.var(axis=0, ddof=1) * (N + 1) / N, np.square(x.mean(axis=0) - y)


def average(values: NDArray, weights: NDArray | None = None) -> NDArray[np.float64]:
    """Mean over the axes of `weights` (the last ones of `values`), or over all; NaN is left out, only NaN gives NaN."""
    v = np.asarray(values, np.float64)
    w = np.ones(v.shape) if weights is None else _checked(weights, v)
    there = ~np.isnan(v)
    axes = tuple(range(v.ndim - w.ndim, v.ndim))
    total = (w * there).sum(axis=axes)
    with np.errstate(invalid="ignore"):
        return np.asarray((w * np.where(there, v, 0)).sum(axis=axes) / total)


def spread_skill(samples: NDArray, truth: NDArray, weights: NDArray | None = None) -> float:
    """Root of mean spread over root of mean squared error of the ensemble mean, over all elements.

    1 for draws from the true distribution, below 1 for an ensemble that is too sure of itself. Means are taken before
    roots, as Fortin et al. 2014 show they must be. A mean that is exact gives infinity, or NaN without spread.
    """
    variance, error = (average(part, weights).mean() for part in spread_and_error(samples, truth))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.sqrt(variance / error))


def bias(samples: NDArray, truth: NDArray, weights: NDArray | None = None) -> NDArray[np.float64]:
    """Mean of the ensemble mean of `samples` (N, ...) minus `truth` (...), over the axes of `weights` or over all."""
    return average(samples.mean(axis=0, dtype=np.float64) - truth, weights)


def rmse(samples: NDArray, truth: NDArray, weights: NDArray | None = None) -> NDArray[np.float64]:
    """Root of the mean squared error of the ensemble mean, over the axes of `weights` or over all."""
    return np.sqrt(average(np.square(samples.mean(axis=0, dtype=np.float64) - truth), weights))


def energy_score(samples: NDArray, truth: NDArray, weights: NDArray | None = None) -> float:
    """mean |x_i - y| - sum_ij |x_i - x_j| / (2 N (N - 1)) of whole fields: CRPS for vectors, the fair estimator.

    |x| is the root of the mean of squares over the places by `weights`, so the score has the units of the data and,
    unlike a mean of CRPS, sees whether places vary together (Gneiting and Raftery 2007, eq. 22). `samples` (N, ...),
    N >= 2, else BadInput; places where anything is NaN are left out.
    """
    N = len(samples)
    if N < 2:
        raise BadInput(f"{N} sample(s) have no spread; draw 2 or more")
    x, y = samples.astype(np.float64), truth.astype(np.float64)
    w = np.broadcast_to(np.ones(y.shape) if weights is None else _checked(weights, y), y.shape)
    there = np.isfinite(y) & np.isfinite(x).all(axis=0)
    root = np.sqrt(w[there] / w[there].sum())
    x, y = x[:, there] * root, y[there] * root
    apart = sum(np.linalg.norm(x[i + 1 :] - x[i], axis=1).sum() for i in range(N - 1))
    return float(np.linalg.norm(x - y, axis=1).mean() - apart / (N * (N - 1)))


def rank_histogram(
    samples: NDArray, truth: NDArray, weights: NDArray | None = None, *, seed: int = 0
) -> NDArray[np.float64]:
    """Share of elements at which `truth` (...) has rank 0..N among `samples` (N, ...): (N + 1,), equal if calibrated.

    A U says too little spread, a hill too much, a slope bias (Hamill 2001). Among equals the rank is drawn by lot,
    which dry rain fields need.
    """
    N = len(samples)
    there = ~(np.isnan(truth) | np.isnan(samples).any(axis=0))
    below, equal = (samples < truth).sum(axis=0)[there], (samples == truth).sum(axis=0)[there]
    rank = below + np.random.default_rng(seed).integers(equal + 1)
    w = np.ones(truth.shape) if weights is None else np.broadcast_to(_checked(weights, truth), truth.shape)
    counts = np.bincount(rank, w[there], minlength=N + 1)
    return counts / counts.sum()


def extreme_levels(decades: int = 6) -> NDArray[np.float64]:
    """1 - 10^-n + m 10^-(n+1) for n = 1..decades, m = 0..8: nine steps in each decade of rarity, as in seed 003."""
    return np.array([1 - 10.0**-n + m * 10.0 ** -(n + 1) for n in range(1, decades + 1) for m in range(9)])


def quantile_pairs(made: NDArray, truth: NDArray, levels: NDArray | None = None) -> NDArray[np.float64]:
    """Quantiles of all values of `made` and of `truth` at `levels` (L,), shape (2, L); NaN left out.

    Levels that are rarer than one value in the smaller set, at either end, say nothing and are NaN. Linear between
    order statistics.
    """
    level = extreme_levels() if levels is None else np.asarray(levels, np.float64)
    sets = [np.asarray(z, np.float64)[~np.isnan(z)] for z in (made, truth)]
    fewest = min(map(len, sets))
    if not fewest:
        raise BadInput("one of the two sets has no values; quantiles need some")
    pairs = np.stack([np.quantile(z, level) for z in sets])
    pairs[:, np.minimum(level, 1 - level) * fewest < 1 - 1e-9] = np.nan
    return pairs


def _checked(weights: NDArray, values: NDArray) -> NDArray[np.float64]:
    w = np.asarray(weights, np.float64)
    if values.shape[values.ndim - w.ndim :] != w.shape or not (w >= 0).all() or not w.sum() > 0:
        raise BadInput(
            f"weights of shape {w.shape} for values of {values.shape}; give areas >= 0 of the last axes, not all 0"
        )
    return w
