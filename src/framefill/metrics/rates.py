"""Curves of rate and quality: what a codec spends where its quality passes a mark, and how two codecs compare.

A codec at several settings gives points (bits per pixel, quality). Between neighbours the logarithm of the rate is
taken to be linear in the quality; beyond the outermost points nothing is claimed.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput

Floats = NDArray[np.float64]


def bits_per_pixel(size: int, pixels: int) -> float:
    """Bits that a file of `size` bytes spends on each of its `pixels` (width times height, times frames)."""
    if size < 0 or pixels < 1:
        raise BadInput(f"a file of {size} bytes for {pixels} pixels; give 0 bytes or more and 1 pixel or more")
    return 8 * size / pixels


def rate_at(rates: Sequence[float], qualities: Sequence[float], mark: float, *, rising: bool = True) -> float:
    """The least rate at which the curve passes `mark`, NaN where it does not.

    Neighbours are by rate. `rising` is False for distances, which fall with the rate. A curve that starts on the good
    side of the mark says nothing of the rate there: NaN too. BadInput as in `_curve`.
    """
    logs, good = _curve(rates, qualities)
    if not rising:
        good, mark = -good, -mark
    for i in range(len(logs) - 1):
        if good[i] <= mark <= good[i + 1]:
            share = (mark - good[i]) / (good[i + 1] - good[i]) if good[i + 1] > good[i] else 0.0
            return float(np.exp2(logs[i] + share * (logs[i + 1] - logs[i])))
    return float("nan")


def rate_saved(
    rates: Sequence[float], qualities: Sequence[float], other: Sequence[float], other_qualities: Sequence[float]
) -> float:
    """How much less the first codec spends than the other at equal quality: 0.5 is half the rate, negative is more.

    Bjontegaard's mean over the qualities that both reach, of the difference of log rates, here with straight lines
    where his are cubic: 1 - exp2(mean(log2 rate - log2 other)). Qualities rise with the rate. NaN where the two share
    no quality, BadInput for a curve that falls.
    """
    mine, theirs = (_rising(*curve) for curve in ((rates, qualities), (other, other_qualities)))
    low, high = max(mine[1][0], theirs[1][0]), min(mine[1][-1], theirs[1][-1])
    if not low < high:
        return float("nan")
    knots = np.unique(np.concatenate([[low, high], *(q[(q > low) & (q < high)] for _, q in (mine, theirs))]))
    gap = np.interp(knots, mine[1], mine[0]) - np.interp(knots, theirs[1], theirs[0])
    return float(1 - np.exp2(np.trapezoid(gap, knots) / (high - low)))


def _rising(rates: Sequence[float], qualities: Sequence[float]) -> tuple[Floats, Floats]:
    logs, good = _curve(rates, qualities)
    if np.any(np.diff(good) <= 0):
        raise BadInput("quality does not rise with the rate everywhere; leave out the points that another one beats")
    return logs, good


def _curve(rates: Sequence[float], qualities: Sequence[float]) -> tuple[Floats, Floats]:
    """Log2 of the rates and the qualities, by rising rate; BadInput for fewer than 2 points, or none above zero."""
    x, y = np.asarray(rates, np.float64), np.asarray(qualities, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2 or not (np.isfinite(y).all() and (x > 0).all()):
        raise BadInput(f"{x.shape} rates and {y.shape} qualities; give 2 or more of each, finite, rates above 0")
    order = np.argsort(x, kind="stable")
    return np.log2(x[order]), y[order]
