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
    for batch in batches:
        seen = [(values[slices], errors[slices]) for slices in batch.seen]
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
    return values


def keys(shape: tuple[int, int, int], batches: list[Batch]) -> dict[Key, tuple[Pass, int]]:
    """The laws that a walk needs, in the order in which it needs them first: a pass, and how many slices it sees."""
    found: dict[Key, tuple[Pass, int]] = {}
    for batch in batches:
        for own in order.passes(*shape[1:]):
            found.setdefault((batch.kind, own.kind), (own, len(batch.seen)))
    return found
