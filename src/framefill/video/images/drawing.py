"""Pictures from nothing, `batch` at a time, and those that are the last frames of films.

Every picture has a random stream of its own: same seed, same pictures, alone or among many.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from framefill.arrays import Rng, derive
from framefill.errors import BadInput

Pictures = NDArray[np.uint8]
"""uint8 (N, H, W, C)."""
Films = NDArray[np.uint8]
"""uint8 (N, T, H, W, C)."""


def streams(seed: int, count: int, batch: int) -> Iterator[Rng]:
    """The random streams of `count` pictures, `batch` at a time: picture i has the one derived from (seed, i)."""
    if count < 1 or batch < 1:
        raise BadInput(f"{count} pictures, {batch} at a time; give at least 1 of each")
    for start in range(0, count, batch):
        yield Rng([derive(seed, i) for i in range(start, min(start + batch, count))])


class LastFrames(ABC):
    """What draws films from nothing, of one of `classes` if there are any; a picture is the last frame of one."""

    @property
    def classes(self) -> int:
        """How many there are, 0 for none."""
        return 0

    @abstractmethod
    def _drawn(self, rng: Rng, label: int | None) -> Films:
        """One film for every stream."""

    def generate(self, count: int = 1, *, seed: int = 0, batch: int = 64, label: int | None = None) -> Pictures:
        """`count` pictures (count, H, W, C): the last frames of films from nothing, of the class `label` if any."""
        return np.concatenate(list(self.stream(count, seed=seed, batch=batch, label=label)))

    def stream(self, count: int, *, seed: int = 0, batch: int = 64, label: int | None = None) -> Iterator[Pictures]:
        """The same, `batch` after batch (n, H, W, C)."""
        yield from (films[:, -1] for films in self.films(count, seed=seed, batch=batch, label=label))

    def films(self, count: int, *, seed: int = 0, batch: int = 64, label: int | None = None) -> Iterator[Films]:
        """Whole films from nothing, `batch` after batch (n, T, H, W, C)."""
        if label is not None and not 0 <= label < self.classes:
            raise BadInput(f"label {label} for a model of {self.classes} classes; give one below, or none")
        yield from (self._drawn(rng, label) for rng in streams(seed, count, batch))
