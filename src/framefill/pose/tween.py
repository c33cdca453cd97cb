"""Frames between keyframes: smooth through every key, feet that stand in two keys stand between them.

The root's place and every joint's turn go through the keys as cubic Hermite curves with the slopes of Catmull and Rom
for uneven times; turns as rotation vectors relative to the key before, so that the way is the short one. A foot that
two neighbouring keys have in the same place is then held there by the solver, near the curve.
"""

from collections.abc import Sequence

import numpy as np
import torch

from framefill.errors import BadInput
from framefill.pose.effectors import Place
from framefill.pose.limits import Habit
from framefill.pose.motion import Motion
from framefill.pose.retarget import ENDS, SPREAD, STANDS
from framefill.pose.roles import roles
from framefill.pose.solve import solve
from framefill.pose.turning import Floats, exponential, logarithm

MOST_FRAMES = 100_000
SAME = 0.02  # metres that a standing foot may differ between keys
EASY = 0.03  # metres by which the pelvis may leave its curve for it


def between(keys: Motion, times: Sequence[float], rate: float, *, feet: bool = True) -> Motion:
    """The motion through keys (K frames) at `times` (K,) in seconds, `rate` frames per second, float64.

    Raises BadInput for fewer than two keys, times that do not rise, one for each key, or too many frames.
    """
    moments = np.asarray(times, np.float64)
    if (
        len(keys) < 2
        or moments.shape != (len(keys),)
        or not np.isfinite(moments).all()
        or (np.diff(moments) <= 0).any()
    ):
        raise BadInput(f"{len(keys)} keys and {moments.size} times; give two keys or more, and a rising time for each")
    if not 0 < rate < 1e6 or (moments[-1] - moments[0]) * rate > MOST_FRAMES:
        raise BadInput(f"{rate:g} frames per second over {moments[-1] - moments[0]:g} s; up to {MOST_FRAMES} frames")
    asked = moments[0] + np.arange(round((moments[-1] - moments[0]) * rate) + 1) / rate
    gap = np.clip(np.searchsorted(moments, asked, "right") - 1, 0, len(keys) - 2)
    part = ((asked - moments[gap]) / np.diff(moments)[gap]).clip(0, 1)
    root = _curve(keys.root.double().numpy(), moments, gap, part)
    turns = _turns(keys.local.double().numpy(), moments, gap, part)
    smooth = Motion(keys.skeleton, torch.from_numpy(turns), torch.from_numpy(root), 1 / rate)
    return _standing(keys, smooth, gap, part) if feet else smooth


def _curve(points: Floats, times: Floats, gap: np.ndarray, part: Floats) -> Floats:
    """Hermite curves (N, ...) through points (K, ...)."""
    steps = np.diff(times).reshape(-1, *[1] * (points.ndim - 1))
    slopes = _slopes(np.diff(points, axis=0) / steps, steps)
    t = part.reshape(-1, *[1] * (points.ndim - 1))
    return _hermite(points[gap], points[gap + 1], slopes[gap] * steps[gap], slopes[gap + 1] * steps[gap], t)


def _turns(local: Floats, times: Floats, gap: np.ndarray, part: Floats) -> Floats:
    """The same for rotations (K, J, 3, 3): each gap's curve is in rotation vectors relative to its first key."""
    steps = np.diff(times)[:, None, None]
    way = logarithm(local[:-1].swapaxes(-1, -2) @ local[1:])  # in the frame of the key before, and of the one after
    slopes = _slopes(way / steps, steps)
    t = part[:, None, None]
    vectors = _hermite(np.zeros_like(way)[gap], way[gap], slopes[gap] * steps[gap], slopes[gap + 1] * steps[gap], t)
    return local[gap] @ exponential(vectors)[0]


def _slopes(speeds: Floats, steps: Floats) -> Floats:
    """Speeds (K, ...) at keys from those of the gaps (K - 1, ...): the nearer gap weighs more; at rest at the ends."""
    inner = (speeds[:-1] * steps[1:] + speeds[1:] * steps[:-1]) / (steps[1:] + steps[:-1])
    return np.concatenate([np.zeros_like(speeds[:1]), inner, np.zeros_like(speeds[:1])])


def _hermite(a: Floats, b: Floats, begin: Floats, end: Floats, t: Floats) -> Floats:
    rise = t * t * (3 - 2 * t)
    return a + (b - a) * rise + begin * t * (1 - t) ** 2 - end * t * t * (1 - t)


def _standing(keys: Motion, smooth: Motion, gap: np.ndarray, part: Floats) -> Motion:
    """Feet that stay between two keys, held; where neither does, the curve as it is."""
    found, skeleton = roles(keys.skeleton), keys.skeleton
    places, _ = keys.world()
    now, _ = smooth.world()
    ends = [found[role] for role in ENDS if role in found]
    local, root = smooth.local.clone(), smooth.root.clone()
    still = {foot: ((places[1:, foot] - places[:-1, foot]).norm(dim=-1) < SAME).numpy() for foot in ends}
    held = np.array([[still[foot][g] for foot in ends] for g in gap], bool).reshape(len(gap), len(ends))
    for pattern in {tuple(row) for row in held.tolist() if any(row)}:
        frames = torch.from_numpy((held == pattern).all(1).nonzero()[0])
        before = torch.from_numpy(gap)[frames]
        t = torch.from_numpy(part)[frames, None]
        handles = [Place(skeleton.names[skeleton.root], now[frames, skeleton.root], EASY)]
        for foot, holds in zip(ends, pattern, strict=True):
            if holds:
                target = (1 - t) * places[before, foot] + t * places[before + 1, foot]
                handles.append(Place(skeleton.names[foot], target, STANDS))
        start = local[frames], root[frames]
        solved = solve(skeleton, handles, start=start, habit=Habit.near(start[0], spread=SPREAD))
        local[frames], root[frames] = solved.local, solved.root
    return Motion(skeleton, local, root, smooth.seconds)
