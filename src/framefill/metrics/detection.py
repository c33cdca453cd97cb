"""How well a score tells two sets apart: the area under the ROC curve with its interval, and typicality.

The area is the chance that a stranger scores higher than one of the known set, ties counting half; its variance is
that of DeLong et al. (1988), of both sets' placements. A likelihood alone is a poor such score: smooth strangers are
likelier than what the model learnt (Nalisnick et al. 2019). Typicality asks how far from usual it is, either way.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput

Z = 1.959964
"""Standard deviations of a 95 % interval."""


class Area(NamedTuple):
    """An area under a ROC curve, 0.5 for a score that tells nothing, and its 95 % interval."""

    value: float
    low: float
    high: float


def auroc(known: NDArray, strange: NDArray) -> Area:
    """The area for scores of known things (N,) and of strangers (M,), who should score higher; N, M >= 2.

    The interval is made on the logit scale, so that it stays within 0 and 1. Where the sets are wholly apart there is
    no scatter to see; then 3 / min(N, M) is the end of the interval (the rule of three). BadInput for fewer scores, or
    such as are not numbers.
    """
    inside, outside = _scores(known), _scores(strange)
    order = np.sort(inside)
    below = np.searchsorted(order, outside, "left") + np.searchsorted(order, outside, "right")
    strangers = below / (2 * len(inside))
    order = np.sort(outside)
    below = np.searchsorted(order, inside, "left") + np.searchsorted(order, inside, "right")
    knowns = 1 - below / (2 * len(outside))
    area = float(strangers.mean())
    error = math.sqrt(strangers.var(ddof=1) / len(outside) + knowns.var(ddof=1) / len(inside))
    rest = min(3 / min(len(inside), len(outside)), 1.0)
    if area in (0.0, 1.0):
        return Area(area, max(area - rest, 0.0), min(area + rest, 1.0))
    reach = Z * error / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-(math.log(area / (1 - area)) + side * reach))) for side in (-1, 1))
    return Area(area, low, high)


def untypical(bits: NDArray, usual: NDArray) -> NDArray[np.float64]:
    """How far `bits` (N,) are from the mean of `usual` (M,), either way: the typicality test of Nalisnick et al. 2019.

    In the units of `bits`. Where `bits` is `usual` itself, see `untypical_of_itself`.
    """
    return np.abs(np.asarray(bits, np.float64) - _scores(usual).mean())


def untypical_of_itself(usual: NDArray) -> NDArray[np.float64]:
    """The same for each of `usual` (M,) against the mean of the others, so that none is measured by itself."""
    values = _scores(usual)
    return np.abs(values - values.mean()) * len(values) / (len(values) - 1)


def _scores(values: NDArray) -> NDArray[np.float64]:
    scores = np.asarray(values, np.float64).ravel()
    if len(scores) < 2 or not np.isfinite(scores).all():
        raise BadInput(f"comparing scores needs 2 finite ones or more on each side, got {scores[:4].tolist()}")
    return scores
