"""Windows of frames for training: drawn uniformly from runs, which never cross a cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from framefill.errors import BadInput


@dataclass(frozen=True)
class Run:
    """Frames `start` to `stop` (exclusive) of the clip `name` in the array file `path`, no cut among them."""

    name: str
    path: Path
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def frames(self) -> np.ndarray:
        """Memory-mapped uint8 (T, H, W, C), opened anew each time: a thousand runs hold no file open."""
        return np.load(self.path, mmap_mode="r", allow_pickle=False)[self.start : self.stop]


class Windows:
    """All windows of frames in `runs`; BadInput if there are no runs."""

    def __init__(self, runs: Sequence[Run]) -> None:
        if not runs:
            raise BadInput("there are no frames to take windows from; give more clips, or longer ones")
        self.runs = list(runs)
        self._lengths = np.array([len(run) for run in runs])

    def count(self, *, length: int, strides: Sequence[int] = (1,)) -> int:
        """How many windows of `length` frames there are, each of `strides` frames apart."""
        return int(self._starts(length, strides).sum())

    def sample(
        self,
        index_seed: int,
        *,
        length: int,
        strides: Sequence[int] = (1,),
        size: tuple[int, int] | None = None,
        flip: bool = False,
    ) -> np.ndarray:
        """One window, uint8 (length, H, W, C): a pure function of the arguments.

        `length` frames, one of `strides` frames apart, anywhere in a run: every such window is equally
        likely. It is cropped to `size` (height, width) at a random place and, if `flip`, mirrored left to
        right half of the time. Raises BadInput if no run is long enough or the frames are smaller than
        `size`.
        """
        starts = self._starts(length, strides)
        if not starts.any():
            needed, longest = (length - 1) * min(strides) + 1, self._lengths.max()
            raise BadInput(f"a window takes {needed} frames and the longest run has {longest}; ask for fewer")
        rng = np.random.default_rng(index_seed)
        ends = np.cumsum(starts)
        place = int(rng.integers(ends[-1]))
        chosen = int(np.searchsorted(ends, place, side="right"))
        stride, run = strides[chosen // len(self.runs)], self.runs[chosen % len(self.runs)]
        first = place - int(ends[chosen] - starts.flat[chosen])
        frames = run.frames()[first : first + (length - 1) * stride + 1 : stride]
        return _varied(frames, size or frames.shape[1:3], flip, rng)

    def _starts(self, length: int, strides: Sequence[int]) -> np.ndarray:
        """The number of windows, (strides, runs)."""
        if length < 1 or not strides or min(strides) < 1:
            raise BadInput(f"windows of {length} frames, {tuple(strides)} apart; give numbers of at least 1")
        return np.maximum(self._lengths - (length - 1) * np.array(strides)[:, None], 0)


def _varied(frames: np.ndarray, size: tuple[int, ...], flip: bool, rng: np.random.Generator) -> np.ndarray:
    room = np.subtract(frames.shape[1:3], size)
    if min(size) < 1 or min(room) < 0:
        raise BadInput(f"cannot crop {size} from frames of {frames.shape[1:3]}; give a smaller height and width")
    top, left = rng.integers(room + 1)
    window = frames[:, top : top + size[0], left : left + size[1]]
    return np.array(window[:, :, ::-1] if flip and rng.random() < 0.5 else window)
