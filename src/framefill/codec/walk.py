"""Going through a stack of planes in coding order: the same steps for an encoder, a decoder and a fit.

At every pass a visitor is shown what is known and gives the values there, and means in sixteenths; the walk keeps them
and the sizes of the errors. Nothing is known that was not given before, so both ends see the same by construction.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from framefill.codec import order
from framefill.codec.order import Batch, Floats, Pass, Sight

Missing = NDArray[np.bool_] | None
Key = tuple[int, int]  # kind of the batch, kind of the pass


class Visitor(ABC):
    """What is done at the seeds and passes."""

    @abstractmethod
    def seeds(self, batch: Batch, base: Floats) -> Floats:
        """Values (B, h, w) of the seeds, of which `base` is the first known slice, or zeros."""

    @abstractmethod
    def visit(self, batch: Batch, own: Pass, sight: Sight) -> tuple[Floats, Floats]:
        """Values (N,) at a pass and their means in sixteenths."""


def walk(shape: tuple[int, int, int], batches: list[Batch], visitor: Visitor, dtype: np.dtype) -> NDArray[np.floating]:
    """The values (N, H, W) that a visitor gave, whole numbers in floats."""
    values, errors = np.zeros(shape, dtype), np.zeros(shape, dtype)
    known = Mean(shape)
    for batch in batches:
        seen = [(values[slices], errors[slices]) for slices in batch.seen]
        if batch.mean:
            seen.append(known.slices(len(batch.slices), dtype))
        here = np.zeros((len(batch.slices), *shape[1:]), dtype)
        missed = np.zeros_like(here)
        base = order.seeds(seen[0][0] if seen else here)
        order.seeds(here)[...] = visitor.seeds(batch, base)
        order.seeds(missed)[...] = 16 * np.abs(order.seeds(here) - base) if seen else 0
        for own in order.passes(*shape[1:]):
            found, means = visitor.visit(batch, own, order.look(own, here, missed, seen))
            place = order.sites(here, own)
            place[...] = found.reshape(place.shape)
            order.sites(missed, own)[...] = np.abs(16 * found - means).reshape(place.shape)
        values[batch.slices], errors[batch.slices] = here, missed
        known.add(here, missed)
    return values


class Mean:
    """The mean of the known slices and of their errors, rounded to whole numbers; sums are exact in int64."""

    def __init__(self, shape: tuple[int, int, int]):
        self.count = 0
        self.values, self.errors = np.zeros(shape[1:], np.int64), np.zeros(shape[1:], np.int64)

    def add(self, values: Floats, errors: Floats) -> None:
        """Slices (B, H, W) that are now known."""
        self.count += len(values)
        self.values += values.astype(np.int64).sum(0)
        self.errors += errors.astype(np.int64).sum(0)

    def slices(self, count: int, dtype: np.dtype) -> tuple[Floats, Floats]:
        """Values and errors as they are seen by `count` slices, (count, H, W)."""
        made = ((2 * total + self.count) // (2 * self.count) for total in (self.values, self.errors))
        values, errors = (np.broadcast_to(mean.astype(dtype), (count, *mean.shape)) for mean in made)
        return values, errors


def keys(shape: tuple[int, int, int], batches: list[Batch]) -> dict[Key, tuple[Pass, int]]:
    """The laws that a walk needs, in the order in which it needs them first: a pass, and how many slices it sees."""
    found: dict[Key, tuple[Pass, int]] = {}
    for batch in batches:
        for own in order.passes(*shape[1:]):
            found.setdefault((batch.kind, own.kind), (own, batch.sees))
    return found
