"""Poses that are frames of one motion, without the tremble of the points that they come from.

Frames are solved one by one. Where handles move evenly, poses do; where they tremble within their tolerance, as an
estimator's keypoints do, every frame is made the mean of its neighbours with Gaussian weights: of the root's place,
and of every joint's turn (the rotation nearest to the mean of matrices). Near the ends, where neighbours lack on one
side, it is the value there of the line through those there are, with the same weights, of turns as axis times angle
from the frame's own. So even motion is kept, and nothing lags. Pinned handles are then met again, by a solve that stays
near.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose import kinematics
from framefill.pose.effectors import Effector
from framefill.pose.limits import Habit, Limits
from framefill.pose.skeleton import Skeleton
from framefill.pose.solve import Solution, solve
from framefill.pose.targets import Targets
from framefill.pose.turning import Floats, exponential, logarithm, nearest

MOST = 1000.0  # frames
SPREAD = 0.1  # radians by which joints may leave the mean to meet what is pinned


def averaged(local: Tensor, root: Tensor, frames: float) -> tuple[Tensor, Tensor]:
    """Rotations (T, J, 3, 3) and root (T, 3), averaged over a Gaussian of `frames` standard deviation.

    Raises BadInput unless frames is above 0 and at most 1000.
    """
    if not 0 < frames <= MOST:
        raise BadInput(f"steadied over {frames:g} frames; give more than 0 and at most {MOST:g}, such as 2")
    given, place = local.double().numpy(), root.double().numpy()
    turns, places = nearest(_mean(given, frames)), _mean(place, frames)
    for frame, near, weights in _ends(len(place), frames):
        change = logarithm(given[frame].swapaxes(-1, -2) @ given[near])
        turns[frame] = given[frame] @ exponential(np.tensordot(weights, change, 1))[0]
        places[frame] = weights @ place[near]
    return torch.from_numpy(turns), torch.from_numpy(places)


def held(
    skeleton: Skeleton, effectors: Sequence[Effector], local: Tensor, root: Tensor, limits: Limits | None = None
) -> Solution:
    """The poses, or those near them that meet the handles whose tolerance is 0; and how far every handle is missed."""
    pinned, steps = [effector for effector in effectors if not effector.tolerance], 0
    if pinned:
        near = solve(skeleton, pinned, limits=limits, habit=Habit.near(local, spread=SPREAD), start=(local, root))
        local, root, steps = near.local, near.root, near.steps
    positions, turned = kinematics.forward(skeleton, local, root)
    misses = Targets(skeleton, tuple(effectors), len(root)).misses(positions.numpy(), turned.numpy())
    return Solution(tuple(effectors), local, root, positions, turned, torch.from_numpy(misses), steps)


def _mean(values: Floats, frames: float) -> Floats:
    """The weighted mean over neighbours along the first axis; as many of them before a frame as behind it."""
    room = np.minimum(np.arange(len(values)), np.arange(len(values))[::-1])
    total, weight = values.copy(), np.ones(len(values))
    for step in range(1, min(int(3 * frames), int(room.max())) + 1):
        inside = np.flatnonzero(room >= step)
        share = float(np.exp(-((step / frames) ** 2) / 2))
        total[inside] += share * (values[inside - step] + values[inside + step])
        weight[inside] += 2 * share
    return total / weight.reshape(-1, *[1] * (values.ndim - 1))


def _ends(count: int, frames: float) -> Iterator[tuple[int, slice, Floats]]:
    """Every frame that lacks neighbours on one side, those it has, and what they weigh in a line's value there."""
    reach = int(3 * frames)
    for frame in range(count if min(reach, count - 1) else 0):
        if min(frame, count - 1 - frame) < reach:
            near = slice(max(0, frame - reach), min(count, frame + reach + 1))
            step = np.arange(near.start, near.stop, dtype=np.float64) - frame
            share = np.exp(-np.square(step / frames) / 2)
            first, second = share @ step, share @ np.square(step)
            yield frame, near, share * (second - first * step) / (share.sum() * second - first**2)
