"""Scores of several guesses of one truth: how good is a distribution of answers, not one of them."""

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


def spread_skill(samples: NDArray, truth: NDArray) -> float:
    """Root of mean spread over root of mean squared error of the ensemble mean, over all elements.

    1 for draws from the true distribution, below 1 for an ensemble that is too sure of itself. Means are taken before
    roots, as Fortin et al. 2014 show they must be. A mean that is exact gives infinity, or NaN without spread.
    """
    variance, error = spread_and_error(samples, truth)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.sqrt(variance.mean() / error.mean()))
