"""Triplets from still pictures: pieces of them before one another, everything moving in a way that is made up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput
from framefill.video.triplets.staging import Stage
from framefill.video.triplets.triplet import Triplet
from framefill.video.windows import Run

TIMES = (1 / 4, 1 / 3, 2 / 3, 3 / 4)  # besides 1/2, which is as frequent as in film
HALF = 0.7


@dataclass(frozen=True)
class Stills:
    """Triplets of `size` (height, width) from the colour pictures in `runs`, all of them equally likely.

    `context` known frames are given on either side. `difficulty` in [0, 1] is as in `Stage`, and drawn for each triplet
    if None. BadInput for another one, or no pictures.
    """

    runs: Sequence[Run]
    size: tuple[int, int]
    context: int = 1
    difficulty: float | None = None

    def __post_init__(self) -> None:
        if self.difficulty is not None and not 0 <= self.difficulty <= 1:
            raise BadInput(f"difficulty {self.difficulty}; give 0 (easy) to 1 (hard), or None for all of them")
        if not len(self) or min(self.size) < 1 or self.context < 1:
            raise BadInput(
                f"{len(self)} pictures for triplets of {self.size} with {self.context} known frames on either side; "
                "give at least 1 of each"
            )

    def __len__(self) -> int:
        """The number of pictures."""
        return sum(map(len, self.runs))

    def triplet(self, seed: int) -> Triplet:
        """One, a pure function of `seed`."""
        rng = np.random.default_rng(seed)
        difficulty = float(rng.random()) if self.difficulty is None else self.difficulty
        scene = Stage(self._picture, self.size, self.context, difficulty).scene(rng)
        time = 0.5 if rng.random() < HALF else TIMES[int(rng.integers(len(TIMES)))]
        times = [*range(1 - self.context, 1), time, *range(1, self.context + 1)]
        return Triplet(np.stack([scene.frame(float(t), rng) for t in times]), time)

    def _picture(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """One, memory-mapped (H, W, 3)."""
        ends = np.cumsum([len(run) for run in self.runs])
        place = int(rng.integers(ends[-1]))
        chosen = int(np.searchsorted(ends, place, side="right"))
        return self.runs[chosen].frames()[place - ends[chosen]]
