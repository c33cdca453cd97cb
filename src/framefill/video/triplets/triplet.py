"""What a network that fills the gap between two frames learns from, and how several supplies of it are mixed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from framefill.errors import BadInput


@dataclass(frozen=True, eq=False)
class Triplet:
    """The frames around a gap and one within it, at `time` in (0, 1) of the gap.

    `frames` is uint8 (2 * context + 1, H, W, C), in order, the wanted one in the middle. With a context of 1 they are
    first, wanted, last; with more, further frames before and after, a gap apart.
    """

    frames: np.ndarray
    time: float


class Source(Protocol):
    """An endless supply of triplets of one shape."""

    def triplet(self, seed: int) -> Triplet:
        """One, a pure function of `seed`."""
        ...


@dataclass(frozen=True)
class Mixture:
    """Several supplies, each drawn from in proportion to its share; BadInput for shares that say no proportions."""

    sources: Sequence[Source]
    shares: Sequence[float]

    def __post_init__(self) -> None:
        shares = np.array(self.shares, float)
        if len(shares) != len(self.sources) or not len(shares) or not (shares >= 0).all() or not 0 < shares.sum() < 1e9:
            raise BadInput(
                f"shares {tuple(self.shares)} of {len(self.sources)} sources; give one each, not negative, not all 0"
            )

    def triplet(self, seed: int) -> Triplet:
        """One of one of them, a pure function of `seed`."""
        edges = np.cumsum(self.shares)
        # The choice and the triplet are drawn from different streams: no source sees only some of its seeds' draws.
        place = np.random.default_rng([seed, 1]).random() * edges[-1]
        return self.sources[int(np.searchsorted(edges, place, side="right"))].triplet(seed)
