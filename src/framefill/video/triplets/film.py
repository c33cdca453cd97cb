"""Triplets from film: frames i, i + k and i + s of a run of frames without a cut, the middle one at time k / s.

Mostly s = 2, as when every second frame of a clip is made; sometimes 3 or 4, so that a network learns other times and
larger motion. Much of film stands still, and teaches little: where a piece does, another one is looked at.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from framefill.errors import BadInput
from framefill.video.triplets.triplet import Triplet
from framefill.video.triplets.variation import drawn, plain
from framefill.video.windows import Run

Box = tuple[int, int, int, int]
"""Top, bottom, left and right of the part of a frame that is used, in pixels; bottom and right are exclusive."""

STRIDES = {2: 0.7, 3: 0.15, 4: 0.15}  # share of each, where runs are long enough
MOVING = 3.0  # mean grey levels between first and last of a piece that is taken at once
TRIES = 3  # pieces looked at where all stand still; then the one that moves most is taken


class Film:
    """Triplets of `size` (height, width) from `runs`, every place of them equally likely.

    They are varied (see `variation.drawn`) and played backwards half of the time if `varied`, else only cropped.
    `context` known frames are given on either side; `boxes` are the parts of the frames that are used, of some arrays.
    Raises BadInput if no run is long enough, and `triplet` does if frames are too small.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        size: tuple[int, int],
        *,
        context: int = 1,
        varied: bool = True,
        boxes: Mapping[Path, Box] | None = None,
    ) -> None:
        if context < 1:
            raise BadInput(f"{context} known frames on either side; give at least 1")
        self.runs, self.size, self.context, self.varied = list(runs), size, context, varied
        self.boxes = boxes or {}
        lengths = np.array([len(run) for run in self.runs], np.int64)
        spans = {stride: (2 * context - 1) * stride + 1 for stride in STRIDES}
        self._ends = {stride: np.cumsum(np.maximum(lengths - span + 1, 0)) for stride, span in spans.items()}
        self._shares = {s: STRIDES[s] for s, ends in self._ends.items() if len(ends) and ends[-1]}
        if not self._shares:
            longest = max(lengths, default=0)
            raise BadInput(
                f"a triplet takes {min(spans.values())} frames and the longest run has {longest}; give longer clips"
            )

    def __len__(self) -> int:
        """The number of places where the shortest gaps begin."""
        return int(self._ends[min(self._shares)][-1])

    def triplet(self, seed: int) -> Triplet:
        """One, a pure function of `seed`."""
        best, most = None, -1.0
        for number in range(TRIES):
            found = self._looked_at(np.random.default_rng([seed, number]))
            motion = _motion(found.frames[self.context - 1], found.frames[self.context + 1])
            if motion > most:
                best, most = found, motion
            if most >= MOVING:
                break
        assert best is not None
        return best

    def _looked_at(self, rng: np.random.Generator) -> Triplet:
        frames, time = self._window(rng)
        variation = (drawn if self.varied else plain)(frames[0].shape, self.size, rng)
        backwards = self.varied and rng.random() < 0.5
        seen = variation(frames[::-1] if backwards else frames)
        return Triplet(seen, 1 - time if backwards else time)

    def _window(self, rng: np.random.Generator) -> tuple[list[np.ndarray], float]:
        """The frames (H, W, C), memory-mapped, and the time of the one in the middle."""
        shares = np.array(list(self._shares.values()))
        stride = list(self._shares)[int(np.searchsorted(np.cumsum(shares), rng.random() * shares.sum(), side="right"))]
        ends, step = self._ends[stride], int(rng.integers(1, stride))
        place = int(rng.integers(ends[-1]))
        chosen = int(np.searchsorted(ends, place, side="right"))
        start = place - (int(ends[chosen - 1]) if chosen else 0)
        known = start + stride * np.arange(2 * self.context)
        numbers = np.insert(known, self.context, known[self.context - 1] + step)
        frames, box = self.runs[chosen].frames(), self.boxes.get(self.runs[chosen].path)
        top, bottom, left, right = box or (None, None, None, None)
        return [frames[number, top:bottom, left:right] for number in numbers], step / stride


def _motion(first: np.ndarray, last: np.ndarray) -> float:
    """Mean absolute difference in grey levels, of every fourth row and column."""
    return float(np.abs(np.subtract(first[::4, ::4], last[::4, ::4], dtype=np.int16)).mean())
