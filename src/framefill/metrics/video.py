"""Scores of clips that a picture alone cannot show."""

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput

Floats = NDArray[np.float64]


def flicker(made: NDArray, truth: NDArray) -> Floats:
    """How differently from the truth every inner frame stands out from its two neighbours: (T - 2,), in grey levels.

          mean over pixels of |d_t|,    d = (x_{t-1} - 2 x_t + x_{t+1}) of made minus that of truth

    Frames are uint8 or float (T, H, W, C) in 0..255. An error e in every second frame, the others being exact, gives
    2 |e| where it stays the same from made frame to made frame (a tint, a blurred edge: what pulses at half the frame
    rate), less where it changes its sign; an error that all frames share, or that grows evenly, gives 0. Raises
    BadInput for clips of different shapes, or of fewer than 3 frames.
    """
    if made.shape != truth.shape or made.ndim != 4 or len(made) < 3:
        raise BadInput(f"clips of shapes {made.shape} and {truth.shape}; give two of one (T, H, W, C), T at least 3")
    return np.array([_bend(made[t : t + 3], truth[t : t + 3]) for t in range(len(made) - 2)])


def _bend(made: NDArray, truth: NDArray) -> float:
    before, here, after = made.astype(np.float64) - truth
    return float(np.abs(before - 2 * here + after).mean())
