"""What comes back from a video model: several completions of one clip, and what can be read from their differences."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput
from framefill.metrics.image import mean_colour, sharpness
from framefill.video.clip import Clip


@dataclass(frozen=True, eq=False)
class Filled:
    """`frames` uint8 (N, T, H, W, C): N samples of one clip; `known` (T,) bool: which frames were given."""

    frames: NDArray[np.uint8]
    known: NDArray[np.bool_]
    fps: Fraction

    def clip(self, sample: int = 0) -> Clip:
        """One sample as a clip."""
        return Clip(self.frames[sample], self.fps)

    def spread(self) -> NDArray[np.float64]:
        """Standard deviation over the samples per pixel, (T, H, W) in grey levels; zero where frames were given.

        It is what the model does not know: needs at least two samples, else BadInput.
        """
        if len(self.frames) < 2:
            raise BadInput("the spread needs at least 2 samples; ask for more with samples=")
        return self.frames.std(axis=0, ddof=1, dtype=np.float64).mean(axis=-1)

    def most_different(self, count: int) -> list[int]:
        """Indices of `count` samples that differ most: the first, then each the farthest from those chosen."""
        if not 1 <= count <= len(self.frames):
            raise BadInput(f"count must lie between 1 and the {len(self.frames)} samples, got {count}")
        flat = self.frames[:, ~self.known].reshape(len(self.frames), -1).astype(np.float32)
        chosen, nearest = [0], np.full(len(flat), np.inf)
        while len(chosen) < count:
            nearest = np.minimum(nearest, np.square(flat - flat[chosen[-1]]).mean(axis=1))
            nearest[chosen] = -1
            chosen.append(int(nearest.argmax()))
        return chosen

    def drift(self) -> dict[str, Any]:
        """How far the made frames wander from the given ones: see `drift`."""
        return drift(mean_colour(self.frames), sharpness(self.frames), self.known)


def drift(colour: NDArray[np.float64], crisp: NDArray[np.float64], known: NDArray[np.bool_]) -> dict[str, Any]:
    """Guards a rollout: how far the last made frames are from the given ones, the worst of the samples.

    From the mean colour (N, T, C) and the sharpness (N, T) of every frame. "colour" is the largest change of a
    channel's mean in grey levels, "sharpness" the ratio of the mean absolute Laplacian, both of the last quarter of the
    made frames against the given ones (against the first quarter of the made ones when nothing was given). "drifting"
    is set beyond 16 levels or a factor of 2.
    """
    made = np.flatnonzero(~known)
    if not len(made):
        return {"colour": 0.0, "sharpness": 1.0, "drifting": False}
    quarter = max(len(made) // 4, 1)
    start, end = np.flatnonzero(known) if known.any() else made[:quarter], made[-quarter:]
    change = float(np.abs(colour[:, end].mean(axis=1) - colour[:, start].mean(axis=1)).max())
    ratios = (crisp[:, end].mean(axis=1) + 1e-3) / (crisp[:, start].mean(axis=1) + 1e-3)
    ratio = float(ratios[np.abs(np.log(ratios)).argmax()])
    return {
        "colour": round(change, 2),
        "sharpness": round(ratio, 3),
        "drifting": change > 16 or not 0.5 < ratio < 2,
    }
