"""Fitting laws to a stack: one walk through what is known for the weights, one, with their errors, for the rest."""

import numpy as np
from numpy.typing import NDArray

from framefill.codec import fitting, laws, order
from framefill.codec.laws import Law
from framefill.codec.order import Batch, Floats, Pass, Sight
from framefill.codec.tables import Ints
from framefill.codec.walk import Key, Missing, Visitor, walk


class Fill(Visitor):
    """Gives the known values, and predictions under plain laws where there are none."""

    def __init__(self, values: Ints, missing: NDArray[np.bool_], reach: int):
        self.values, self.missing, self.reach = values, missing, reach

    def seeds(self, batch: Batch, base: Floats) -> Floats:
        """Known ones, or those of the first known slice, or the middle."""
        own, gone = order.seeds(self.values[batch.slices]), order.seeds(self.missing[batch.slices])
        return np.where(gone, base if len(batch.seen) else self.reach // 2, own)

    def visit(self, batch: Batch, own: Pass, sight: Sight) -> tuple[Floats, Floats]:
        """Known ones, or the base."""
        gone = order.sites(self.missing[batch.slices], own).ravel()
        found = np.where(gone, sight.base, order.sites(self.values[batch.slices], own).ravel())
        return found, 16 * found


class Fit(Visitor):
    """Finds laws. `values` are whole; samples of the same law are gathered, and its law made when all have been."""

    def __init__(self, values: Floats, missing: Missing, weights: dict[Key, Ints], reach: int):
        self.values, self.missing, self.weights, self.reach = values, missing, weights, reach
        self.held: dict[Key, list[tuple[Sight, Floats, Floats]]] = {}

    def seeds(self, batch: Batch, base: Floats) -> Floats:
        """Known ones."""
        return order.seeds(self.values[batch.slices])

    def visit(self, batch: Batch, own: Pass, sight: Sight) -> tuple[Floats, Floats]:
        """Known ones, and the means of the weights so far; keeps a sample of what was seen."""
        key = batch.kind, own.kind
        values = order.sites(self.values[batch.slices], own).ravel()
        sizes = np.zeros(len(sight.sizes), np.int64)
        flat = np.zeros(laws.OCTAVES, np.int64)
        means = (
            Law(self.weights[key], sizes, flat, flat).means(sight, self.reach) if key in self.weights else 16 * values
        )
        there = np.arange(len(values))
        if self.missing is not None:
            there = np.flatnonzero(~order.sites(self.missing[batch.slices], own).ravel())
        picked = there[fitting.chosen(len(there))]
        small = Sight(sight.base[picked], sight.differences[:, picked], sight.sizes[:, picked], sight.direction[picked])
        self.held.setdefault(key, []).append((small, values[picked], means[picked]))
        return values, means

    def gathered(self, key: Key) -> tuple[Sight, Floats, Floats]:
        """All samples of a law."""
        parts = self.held.pop(key)
        sights = [sight for sight, _, _ in parts]
        return (
            Sight(
                np.concatenate([s.base for s in sights]),
                np.concatenate([s.differences for s in sights], 1),
                np.concatenate([s.sizes for s in sights], 1),
                np.concatenate([s.direction for s in sights]),
            ),
            np.concatenate([values for _, values, _ in parts]),
            np.concatenate([means for _, _, means in parts]),
        )


def fit(values: Ints, batches: list[Batch], reach: int, missing: Missing = None) -> dict[Key, Law]:
    """Laws for values (N, H, W) in 0..reach, one for every key of the walk through `batches`."""
    dtype = np.dtype(np.float64 if reach > 4095 else np.float32)
    depth, height, width = values.shape
    shape = depth, height, width
    held = values.astype(dtype)
    if missing is not None and missing.any():
        held = walk(shape, batches, Fill(held, missing, reach), dtype)
    first = Fit(held, missing, {}, reach)
    walk(shape, batches, first, dtype)
    weights = {}
    for key in list(first.held):
        sight, own, _ = first.gathered(key)
        weights[key] = fitting.weights(sight, own, len(own))
    second = Fit(held, missing, weights, reach)
    walk(shape, batches, second, dtype)
    found = {}
    for key in list(second.held):
        sight, own, means = second.gathered(key)
        law = laws.plain(len(sight.differences), len(sight.sizes))
        scales = fitting.scales(sight.sizes, np.abs(16 * own - means)) if len(own) > fitting.SOME else law.scales
        law = Law(weights[key], scales, law.shapes, law.shifts)
        found[key] = fitting.shaped(law, sight, means, own)
    return found
