"""What is known of a frame in a gap, as a network sees it: every known frame carried to the time wanted, along motion.

Known frames come in pairs around the gap: the two beside it, the two around those, and so on. Pair k is 2 k + 1 gaps
apart, and time t of the gap is (t + k) / (2 k + 1) of the way between its frames. Each pair gives two guesses of the
motion (see warp.py), and each guess both frames carried along it: four views, of which reversing time only changes the
order. The guess is what the innermost pair makes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.latents.repairer import Seen
from framefill.video.between.flow import Floats
from framefill.video.between.warp import Guess, Motion, fused, resized


@dataclass(frozen=True, eq=False)
class Gap:
    """The gap between two known frames: the motion of each pair of known frames around it, the innermost first."""

    pairs: Sequence[Motion]

    @classmethod
    def around(cls, frames: Tensor) -> "Gap":
        """The gap in the middle of an even number of `frames` (2 context, C, H, W) with pixels in [-1, 1]."""
        if frames.ndim != 4 or len(frames) % 2 or not len(frames):
            raise BadInput(f"known frames have shape {tuple(frames.shape)}; give (2 * context, C, H, W)")
        known = list(frames.detach().float().cpu().movedim(1, -1).contiguous().numpy())
        half = len(known) // 2
        around = [(known[half - 1 - k], known[half + k]) for k in range(half)]
        return cls([Motion.between(first, last) for first, last in around])

    def at(self, time: float) -> Seen:
        """What is known of the frame at `time` in (0, 1) of the gap, as a batch of one; BadInput for another time."""
        if not 0 < time < 1:
            raise BadInput(f"a frame at {time} of the gap; give a time between 0 and 1")
        views, guess = [], None
        for k, motion in enumerate(self.pairs):
            place = (time + k) / (2 * k + 1)
            guesses = motion.guesses(place)
            guess = fused(guesses, place) if guess is None else guess
            for one in guesses:
                views += [_view(one.before, one, time + k), _view(one.after, one, 1 - time + k)]
        assert guess is not None
        return Seen(torch.from_numpy(guess).movedim(-1, 0)[None], torch.from_numpy(np.stack(views))[None])


def _view(carried: Floats, guess: Guess, distance: float) -> Floats:
    """Planes (C + 2, H, W): the carried frame, how far it is trusted, and the distance in gaps it came from."""
    size = carried.shape[:2]
    trust, away = resized(guess.trust, size)[None], np.full((1, *size), distance, np.float32)
    return np.concatenate([carried.transpose(2, 0, 1), trust, away])
