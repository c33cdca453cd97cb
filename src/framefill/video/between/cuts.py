"""Where a film begins a new shot: found while it streams by, or read from a list. Nothing is made across a cut."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Frame = NDArray[Any]
Cuts = Callable[[Iterable[Frame]], Iterator[tuple[Frame, bool]]]
"""Frames (H, W, C) in, each out with whether it begins a new shot."""


@dataclass(frozen=True)
class OneShot:
    """No cuts, whatever the film shows."""

    def __call__(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
        """See `Cuts`."""
        return ((frame, False) for frame in frames)


@dataclass(frozen=True)
class Listed:
    """The shots that begin with the frames of these numbers."""

    numbers: frozenset[int]

    def __call__(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
        """See `Cuts`."""
        return ((frame, number in self.numbers) for number, frame in enumerate(frames))
