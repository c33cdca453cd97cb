"""How far apart two distributions are, judged by features of samples of both; and how sure one may be of a score.

Features are arrays (..., D); all leading axes are samples, so frames (N, T, D) need no flattening. Everything is in
float64. `bootstrap` and `half_samples` put an interval around any statistic of samples along the first axis.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], NDArray[np.int64]]
BLOCK = 1024  # rows of a table of distances that are in memory at once


def frechet_distance(real: NDArray, made: NDArray) -> float:
    """Squared Frechet distance |m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of Gaussians with these moments.

    Dowson and Landau 1982; FID and FVD are this on features of Inception and logits of I3D. S are unbiased covariances.
    With centred samples A (n, D) and B (m, D), S_1 = A'A / (n - 1), the eigenvalues of S_1 S_2 are the squared singular
    values of A B' over (n - 1) (m - 1). So the last trace is their sum: no root of a matrix, exact for n < D, and small
    values lose no digits. From few samples the result is too large: see `too_small`. BadInput for other shapes, NaN,
    or fewer than two samples.
    """
    x, y = _pair(real, made)
    a, b = _root(x), _root(y)
    shift = x.mean(axis=0) - y.mean(axis=0)
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    # rounding may leave a little less than zero
    return max(float(shift @ shift + np.square(a).sum() + np.square(b).sum() - 2 * shared), 0.0)


def _root(x: Floats) -> Floats:
    """R (min(n, D), D) with R'R the covariance of x (n, D)."""
    centred = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"), np.float64) if len(x) > x.shape[1] else centred


def too_small(samples: int, dimension: int) -> str | None:
    """A warning for a Frechet distance from so few samples of features of this dimension; None from 10 D on.

    Its bias falls as 1 / samples and grows as the square of the dimension: for two samples of n from one Gaussian with
    unit covariance it is about (D^2 + 5 D) / (2 n), where the truth is 0.
    """
    if samples > 10 * dimension:
        return None
    start = f"{samples} samples are few for {dimension} features"
    if samples <= dimension:
        start += f" (their covariance has rank {max(samples - 1, 0)})"
    return f"{start}: the Frechet distance is too large; compare it only with others from as many samples"


def inception_score(shares: NDArray) -> float:
    """exp of the mean KL(p(y | x) | p(y)) for a classifier's `shares` (N, classes) of pictures (Salimans et al. 2016).

    From 1, where all pictures look alike to it, to the number of classes, where it is sure of each and sees all alike
    often. Named by the classifier: only with Inception-v3 is it the Inception score. BadInput for what are no shares.
    """
    rows = np.asarray(shares, dtype=np.float64)
    if rows.ndim != 2 or not len(rows) or not (rows >= 0).all() or not np.allclose(rows.sum(1), 1, atol=1e-3):
        raise BadInput(f"shares are (N, classes), none negative, with sum 1 per picture, got shape {rows.shape}")
    mean = rows.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = np.where(rows > 0, rows * (np.log(rows) - np.log(mean)), 0)
    return float(np.exp(gains.sum(1).mean()))


@dataclass(frozen=True)
class Manifolds:
    """Scores of `precision_recall`, each in [0, 1] but for density, whose mean for equal distributions is 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(real: NDArray, made: NDArray, *, k: int = 3) -> Manifolds:
    """How much of what was made lies among the real, and how much of the real among the made.

    A set covers the balls around its points that reach to their k-th neighbour. Precision is the share of `made` that
    `real` covers, recall the share of `real` that `made` covers (Kynkaanniemi et al. 2019). Density counts the real
    balls around a made point, over k; coverage is the share of real balls with a made point inside (Naeem et al. 2020).
    Raises BadInput for other shapes, NaN, or k outside 1..samples - 1.
    """
    x, y = _pair(real, made)
    if not 1 <= k < min(len(x), len(y)):
        raise BadInput(f"k is {k}; with {len(x)} and {len(y)} samples it is 1..{min(len(x), len(y)) - 1}")
    centre = x.mean(axis=0)  # distances are differences of squares: the smaller these, the more digits remain
    x, y = x - centre, y - centre
    reach_x, reach_y = _reach(x, k), _reach(y, k)
    around, recalled, covered = np.zeros(len(y)), np.zeros(len(x), bool), np.zeros(len(x), bool)
    for rows, distance in _distances(x, y):
        inside = distance <= reach_x[rows, None]
        around += inside.sum(axis=0)
        covered[rows] = inside.any(axis=1)
        recalled[rows] = (distance <= reach_y).any(axis=1)
    return Manifolds(
        float((around > 0).mean()), float(recalled.mean()), float(around.mean() / k), float(covered.mean())
    )


def _distances(x: Floats, y: Floats) -> Iterator[tuple[slice, Floats]]:
    """Squared distances from x[rows] to all of y, block by block."""
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        squares = np.square(x[rows]).sum(axis=1)[:, None] + np.square(y).sum(axis=1)
        yield rows, np.maximum(squares - 2 * x[rows] @ y.T, 0.0)


def _reach(x: Floats, k: int) -> Floats:
    """Squared distance of every point to its k-th neighbour, itself not counted."""
    return np.concatenate([np.partition(distance, k, axis=1)[:, k] for _, distance in _distances(x, x)])


@dataclass(frozen=True)
class Interval:
    """A statistic and how far it varies from sample to sample.

    `value` is that of the samples themselves; `mean`, `low` and `high` are the mean, the 2.5th and the 97.5th
    percentile over `rounds` resamplings.
    """

    value: float
    mean: float
    low: float
    high: float
    rounds: int

    def reflected(self) -> "Interval":
        """The same about twice the value: the interval for a statistic with a bias, such as a Frechet distance.

        Resampling adds the bias a second time; reflecting takes it away twice, and to first order `mean` is then an
        estimate without bias (the basic bootstrap of Davison and Hinkley 1997, chapter 5).
        """
        twice = 2 * self.value
        return Interval(self.value, twice - self.mean, twice - self.high, twice - self.low, self.rounds)


def bootstrap(
    statistic: Callable[..., float], *samples: NDArray, rounds: int = 1000, seed: int = 0, paired: bool = False,
    block: int = 1,
) -> Interval:  # fmt: skip
    """The interval of `statistic(*samples)` when every sample is drawn anew from itself, with replacement.

    Samples are drawn along their first axis (clips), each by itself or, `paired`, with the same indices. For means; not
    for neighbours, which a point drawn twice breaks: for those see `half_samples`. Items that follow each other in time
    and resemble their neighbours are drawn in runs of `block` around a circle (Politis and Romano 1992). Raises
    BadInput for fewer than two items, pairs of unequal length, no rounds, or a block of none.
    """
    return _interval(statistic, samples, rounds, seed, paired, _in_blocks(block))


@dataclass(frozen=True, eq=False)
class Band:
    """A statistic that is an array, and its 95 % interval place by place, in arrays of its shape; see `Interval`."""

    value: Floats
    low: Floats
    high: Floats


def bootstrap_band(
    statistic: Callable[..., Floats], *samples: NDArray, rounds: int = 1000, seed: int = 0, block: int = 1
) -> Band:
    """`bootstrap` of a statistic that is an array, for paired samples; NaN in any draw gives an interval of NaN."""
    _check_lengths(samples, rounds, True)
    rng, draw, n = np.random.default_rng(seed), _in_blocks(block), len(samples[0])
    values = []
    for _ in range(rounds):
        index = draw(rng, n)
        values.append(statistic(*(sample[index] for sample in samples)))
    low, high = np.percentile(values, (2.5, 97.5), axis=0)
    return Band(np.asarray(statistic(*samples), np.float64), low, high)


def _in_blocks(block: int) -> Draw:
    if block < 1:
        raise BadInput(f"blocks of {block}; give 1 for items that are independent, more for neighbours in time")
    return lambda rng, n: _blocks(rng, n, block)


def _blocks(rng: np.random.Generator, n: int, block: int) -> NDArray[np.int64]:
    starts = rng.integers(n, size=-(-n // block))
    return ((starts[:, None] + np.arange(block)).ravel()[:n]) % n


def half_samples(
    statistic: Callable[..., float], *samples: NDArray, rounds: int = 1000, seed: int = 0, paired: bool = False
) -> Interval:
    """`bootstrap` with halves in the place of draws with replacement: no item comes twice.

    The mean of half of n items varies about that of all as much as that of all about the truth. Arguments as there.
    """
    return _interval(statistic, samples, rounds, seed, paired, lambda rng, n: rng.permutation(n)[: n // 2])


def _interval(
    statistic: Callable[..., float], samples: tuple[NDArray, ...], rounds: int, seed: int, paired: bool, draw: Draw
) -> Interval:
    lengths = _check_lengths(samples, rounds, paired)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        index = [draw(rng, lengths[0])] * len(samples) if paired else [draw(rng, n) for n in lengths]
        values.append(statistic(*(sample[i] for sample, i in zip(samples, index, strict=True))))
    with np.errstate(invalid="ignore"):  # between infinite values there is nothing
        low, high = np.percentile(values, (2.5, 97.5))
    return Interval(float(statistic(*samples)), float(np.mean(values)), float(low), float(high), rounds)


def _check_lengths(samples: tuple[NDArray, ...], rounds: int, paired: bool) -> list[int]:
    lengths = [len(sample) for sample in samples]
    if not lengths or min(lengths) < 2 or rounds < 1 or (paired and len(set(lengths)) > 1):
        kind = "paired " if paired else ""
        raise BadInput(
            f"{kind}samples of {lengths} items, {rounds} rounds; give 2 items or more, and pairs of one length"
        )
    return lengths


def _pair(real: NDArray, made: NDArray) -> tuple[Floats, Floats]:
    x, y = (np.asarray(z, np.float64) for z in (real, made))
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1]:
        raise BadInput(f"features have shapes {x.shape} and {y.shape}; give (..., D) with one D")
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    if min(len(x), len(y)) < 2:
        raise BadInput(f"{len(x)} and {len(y)} samples; a distribution needs 2 or more")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise BadInput("features hold NaN or infinite values; give finite numbers")
    return x, y
