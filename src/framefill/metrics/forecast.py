"""Scores of several guesses of one truth: how good is a distribution of answers, not one of them."""

import numpy as np
from numpy.typing import NDArray


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
