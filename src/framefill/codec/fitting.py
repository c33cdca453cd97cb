"""What an encoder does to find laws: least squares, scales by likelihood, widths by trying. No decoder needs it.

Floats may be as inexact as they like here: what is sent is whole.
"""

import numpy as np
from numpy.typing import NDArray

from framefill.codec import laws, residues
from framefill.codec.laws import DIRECTIONS, OCTAVES, SCALES, UNIT, Law
from framefill.codec.order import INNER, Floats, Sight
from framefill.codec.tables import Ints

SOME = 600  # samples from which scales and shapes are fitted
WEIGHT = 8  # bits that a weight costs
MOST = 60_000  # samples that are looked at
ROUNDS = 24
TRIED = (-6, -4, -2, 0, 2, 4, 6)


def weights(sight: Sight, values: Floats, total: int) -> Ints:
    """Weights (1 or 5, F) for samples of `total` positions whose values are known: as many as they earn back."""
    features = len(sight.differences)
    nothing = np.zeros((1, features), np.int64)
    if total < features:
        return nothing
    x, y = sight.differences.astype(np.float64), (values - sight.base).astype(np.float64)
    calm = 1 / (1 + np.abs(x[:INNER]).sum(0) / INNER) ** 1.5
    whole = _solve(x, y, calm, np.zeros(features), 1e-6)
    each = np.tile(whole, (DIRECTIONS, 1))
    for direction in range(DIRECTIONS):
        own = sight.direction == direction
        if own.sum() > 4 * features:
            each[direction] = _solve(x[:, own], y[own], calm[own], whole, 1e-3)
    tried = [nothing, _whole(whole[None]), _whole(each)]
    return min(tried, key=lambda w: _worth(w, sight, x, y) * total / len(y) + WEIGHT * w.size * bool(w.any()))


def _worth(found: Ints, sight: Sight, x: Floats, y: Floats) -> float:
    """Bits that residues take, but for a constant: Laplace's law with a width that follows the inner four."""
    drift = found @ x / UNIT
    error = np.abs(y - (drift[sight.direction, np.arange(len(y))] if len(found) > 1 else drift[0]))
    octave = np.clip(np.log2(1 + np.abs(x[:INNER]).sum(0)).astype(int), 0, OCTAVES - 1)
    counts = np.bincount(octave, minlength=OCTAVES)
    means = np.bincount(octave, error, OCTAVES) / np.maximum(counts, 1)
    return float((counts * np.log2(means + 0.15)).sum())


def _solve(x: Floats, y: Floats, calm: Floats, near: Floats, pull: float) -> Floats:
    """Least squares with a pull towards `near`, as strong as a share of every square."""
    weighted = x * calm
    square, side = weighted @ x.T, weighted @ y
    held = np.diag(np.diag(square) * pull + 1e-9)
    return np.linalg.solve(square + held, side + held @ near)


def _whole(found: Floats) -> Ints:
    return np.clip(np.round(found * UNIT), -4 * UNIT, 4 * UNIT).astype(np.int64)


def scales(sizes: Floats, errors: Floats) -> Ints:
    """Places in SCALES so that their product with sizes (G, n) suits errors (n,) in sixteenths.

    The likelihood of Laplace's law, log m + |e| / m, by steps that multiply (Itakura and Saito's divergence).
    """
    x, y = sizes.astype(np.float64), 4.0 * errors + 4
    own = y.mean() / np.maximum(x.mean(1), 1e-9) / len(x)
    for _ in range(ROUNDS):
        mean = own @ x + 1e-9
        own *= np.sqrt((x @ (y / mean**2) + 1e-12) / (x @ (1 / mean) + 1e-12))
    own[own * x.mean(1) < 0.003 * y.mean()] = 0
    return np.abs(np.log(np.maximum(SCALES, 0.1))[:, None] - np.log(np.maximum(own * 32, 0.1))).argmin(0)


def shaped(law: Law, sight: Sight, means: Floats, values: Floats) -> Law:
    """The law with the shape and the shift that cost least, octave by octave."""
    raw = laws.indices((SCALES[law.scales].astype(sight.sizes.dtype) @ sight.sizes) / 32)
    shapes, shifts = np.full(OCTAVES, 2), np.zeros(OCTAVES, np.int64)
    held = np.zeros(OCTAVES, bool)
    for o in range(OCTAVES):
        own = np.flatnonzero(raw >> 3 == o)[:3000]
        if len(own) >= 8:
            shapes[o], shifts[o] = _cheapest(raw[own] - 24, means[own].astype(np.int64), values[own].astype(np.int64))
            held[o] = True
    near = np.flatnonzero(held)
    if len(near):
        at = near[np.abs(np.arange(OCTAVES)[:, None] - near).argmin(1)]
        shapes, shifts = shapes[at], shifts[at]
    return Law(law.weights, law.scales, shapes, shifts)


def _cheapest(raw: Ints, means: Ints, values: Ints) -> tuple[int, int]:
    error = np.abs(16 * values - means) * 4 + 8.0
    level = 8 * np.log2(8.0 * np.exp(np.log(error).mean()) / 8) - 24  # of the typical error
    middle = int(np.round(level - raw.mean()))
    shapes = range(len(residues.SHAPES)) if len(raw) > SOME else (2,)
    tried = [(bits(raw + middle + d, shape, means, values), shape, middle + d) for shape in shapes for d in TRIED]
    return min(tried)[1:]


def bits(widths: Ints, shape: int, means: Ints, values: Ints) -> float:
    """What values cost."""
    rows, base, low = residues.law(np.full(len(widths), shape), np.clip(widths, 0, laws.WIDEST), means)
    return float((residues.tables().bits((values - base) >> low, rows) + low).sum())


def chosen(count: int) -> NDArray[np.intp]:
    """Which of so many samples are looked at."""
    step = max(-(-count // MOST), 1)
    return np.arange(0, count, step)
