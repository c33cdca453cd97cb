"""Several poses that meet the same handles, and how sure each joint is.

Around the solution x* the posterior of the angles is nearly Gaussian with the inverse of the cost's Gauss-Newton
Hessian as covariance (Laplace); through the joints' Jacobian it says how far each joint may be from its place:

    C = (J' W J + F' F)^-1,     uncertainty of joint j = sqrt(trace(J_j C J_j'))

Samples come from moving the habit's mean by its own noise and solving again ("randomise, then optimise", Bardsley et
al. 2014): for a linear body that is the posterior exactly, and every sample meets its handles. Eight times as many are
drawn as are asked for, and the middles of their groups are given: a few poses that stand for what is possible.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose.effectors import Effector, Place, Turn
from framefill.pose.habits import Manner
from framefill.pose.problem import Problem
from framefill.pose.skeleton import Skeleton
from framefill.pose.solve import Solution, solve
from framefill.pose.turning import Floats, logarithm

MOST = 64
DRAWS, ROUNDS = 8, 8  # draws for each sample, and steps of k-means over them
SMALL = 1e-9  # keeps a Hessian invertible where neither handles nor habit say anything


def several(
    skeleton: Skeleton, effectors: Sequence[Effector], manner: Manner, count: int, rng: np.random.Generator
) -> Solution:
    """`count` poses that meet the same handles, from what handles and habit leave open; the first is the likeliest.

    Raises BadInput for handles with several targets, or a count out of range.
    """
    if not 1 <= count <= MOST:
        raise BadInput(f"{count} samples; ask for 1 to {MOST}")
    best = solve(skeleton, effectors, limits=manner.limits, habit=manner.habit)
    if len(best.root) > 1:
        raise BadInput(f"samples of {len(best.root)} poses at once; give every handle one target")
    mean, factor = manner.habit.mean.double(), manner.habit.factor.double().numpy()
    noise = rng.standard_normal((DRAWS * count if count > 1 else 1, factor.shape[0]))
    noise[0] = 0
    shifts = (np.linalg.pinv(factor) @ noise.T).T

    def moved(by: Floats) -> Solution:
        habit = replace(manner.habit, mean=mean + torch.from_numpy(by))
        start = best.local.expand(len(by), -1, -1, -1), best.root.expand(len(by), -1)
        return solve(skeleton, effectors, limits=manner.limits, habit=habit, start=start)

    group = _groups(moved(shifts).positions.flatten(1).numpy(), count)
    middles = np.stack([shifts[group == number].mean(0) for number in range(count)])
    middles[group[0]] = 0  # the best one is among them, and comes first
    return moved(np.roll(middles, -group[0], 0))


def _groups(points: Floats, count: int) -> NDArray[np.int64]:
    """K-means: which of `count` groups (N,) each point (N, D) is in; groups begin at points far from each other."""
    centres = points[:1]
    for _ in range(count - 1):
        far = np.square(points[:, None] - centres).sum(-1).min(1).argmax()
        centres = np.concatenate([centres, points[far][None]])
    group = np.zeros(len(points), np.int64)
    for _ in range(ROUNDS):
        distance = np.square(points[:, None] - centres).sum(-1)
        group = distance.argmin(1)
        for number in range(count):
            if not (group == number).any():  # from groups that have others: equal poses would empty one for the next
                spare = np.flatnonzero(np.bincount(group, minlength=count)[group] > 1)
                group[spare[distance[spare, number].argmin()]] = number
        centres = np.stack([points[group == number].mean(0) for number in range(count)])
    return group


def uncertainty(skeleton: Skeleton, found: Solution, manner: Manner, sample: int = 0) -> Tensor:
    """Metres (J,): one standard deviation of where each joint is, by the Laplace approximation at a solution."""
    effectors = [_single(effector, sample) for effector in found.effectors]
    pose = found.local[sample], found.root[sample]
    problem = Problem(skeleton, effectors, manner.limits, manner.habit, pose)
    x = logarithm(problem.local)[:, problem.joint, problem.axis].clip(problem.low, problem.high)
    state = problem.state(x, problem.local[:, problem.root], problem.place)
    hessian, _ = problem.normal(state, problem.weight()[None])
    everywhere = Problem(
        skeleton, [Place(name, torch.zeros(3)) for name in skeleton.names], manner.limits, manner.habit, pose
    )
    rows = everywhere.targets.jacobian(state.positions, state.turned, *everywhere.axes(state))[0].T
    within = (x > problem.low + 1e-6)[0] & (x < problem.high - 1e-6)[0]  # limits hold the others
    free = np.append(np.ones(6, bool), within)
    inner = hessian[0][np.ix_(free, free)]
    covariance = np.linalg.inv(inner + SMALL * np.eye(len(inner)))
    spread = np.einsum("ra,ab,rb->r", rows[:, free], covariance, rows[:, free])
    return torch.from_numpy(np.sqrt(spread.reshape(-1, 3).sum(1)))


def _single(effector: Effector, sample: int) -> Effector:
    """A handle with the target of one pose."""
    alone = 2 if isinstance(effector, Turn) else 1
    return replace(effector, target=effector.target[sample]) if effector.target.ndim > alone else effector
