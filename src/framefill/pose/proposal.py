"""A learned proposal: the habit of one call, from a network that has seen the call's handles.

A Gaussian habit has one mean whatever the hands do. A network (`nets.protores`) says what joints do under these very
handles, but meets them badly; so its turns are half of the habit's mean, and the solver does the rest:

    1. solve with the habit        2. head the handles along z, as the solution heads, and ask the network
    3. mean' = (mean + network) / 2        4. solve again from there

The second pose is kept where it meets the handles as well as the first does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from framefill.nets.protores import LOOK_AT, POSITION, ROTATION, Handles, ProtoRes
from framefill.pose import handling, rotations
from framefill.pose.body import COMPONENTS, GENDERS, NAMES
from framefill.pose.effectors import Effector, Look, Place, Turn
from framefill.pose.habits import Manner
from framefill.pose.practice import UP, heading
from framefill.pose.skeleton import Skeleton
from framefill.pose.solve import Solution, solve
from framefill.pose.turning import exponential, logarithm

SHARE = 0.5  # of the network in the mean: less follows the habit, more follows the network's mistakes
WORSE = 1.0001  # by what factor a second pose may miss its handles more


@dataclass(frozen=True)
class Poser:
    """A trained network for bodies of SMPL's joints, of some shape (up to 10 numbers) and gender."""

    network: ProtoRes = field(compare=False)
    card: Any = field(default=None, compare=False)

    def solve(
        self, skeleton: Skeleton, effectors: Sequence[Effector], manner: Manner, *, shape: Sequence[float] = (),
        gender: str = "neutral",
    ) -> Solution:  # fmt: skip
        """As `solve.solve` with the manner, asked again where the network has three handles or more to go by."""
        first = solve(skeleton, effectors, limits=manner.limits, habit=manner.habit)
        if not asks(effectors):
            return first
        turns = self.turns(first, shape, gender)
        mean = (1 - SHARE) * manner.habit.mean + SHARE * torch.from_numpy(logarithm(turns.numpy())).flatten(1)
        habit = replace(manner.habit, mean=mean)
        second = solve(skeleton, effectors, limits=manner.limits, habit=habit, start=(first.local, first.root))
        return kept(first, second)

    @torch.no_grad()
    def turns(self, found: Solution, shape: Sequence[float] = (), gender: str = "neutral") -> Tensor:
        """Local rotations (B, 24, 3, 3) that the network makes of a solution's handles; the root's are in the world."""
        way = exponential(heading(found.local[:, 0].numpy())[:, None] * UP)[0]
        handles = encoded(found, torch.from_numpy(way))
        numbers = torch.zeros(len(way), COMPONENTS)
        numbers[:, : len(shape)] = torch.tensor(list(shape))
        kind = torch.full((len(way),), GENDERS.index(gender))
        made = rotations.from_six(self.network(handles, numbers, kind)[1].double())
        made[:, 0] = torch.from_numpy(way) @ made[:, 0]
        return made


def asks(effectors: Sequence[Effector]) -> bool:
    """Whether handles are as many as the network has learned from at least, a place among them."""
    return len(effectors) >= handling.FEWEST and any(isinstance(effector, Place) for effector in effectors)


def encoded(found: Solution, way: Tensor) -> Handles:
    """A solution's handles (B, E) as the network takes them, seen by whoever is turned by `way` (B, 3, 3)."""
    back, effectors = way.mT, found.effectors
    values = torch.stack([_values(effector, back) for effector in effectors], 1).float()
    tolerance = torch.tensor([min(effector.tolerance, handling.WIDEST) for effector in effectors])
    tolerance = tolerance.expand(len(way), -1)
    kinds = {Place: POSITION, Turn: ROTATION, Look: LOOK_AT}
    joint = torch.tensor([NAMES.index(effector.joint) for effector in effectors]).expand(len(way), -1)
    kind = torch.tensor([kinds[type(effector)] for effector in effectors]).expand(len(way), -1)
    return Handles(values, tolerance, handling.weights(tolerance), joint, kind)


def _values(effector: Effector, back: Tensor) -> Tensor:
    """The six numbers (B, 6) of one handle, turned by `back` (B, 3, 3) about the origin."""
    target = effector.target.double()
    if isinstance(effector, Turn):
        return rotations.to_six(back @ target)
    place = (back @ target[..., None])[..., 0]
    axis = (
        torch.nn.functional.normalize(effector.axis.double(), dim=0) if isinstance(effector, Look) else torch.zeros(3)
    )
    return torch.cat([place, axis.to(place).expand(len(place), 3)], 1)


def kept(first: Solution, second: Solution) -> Solution:
    """The second solution's poses where they meet the handles as the first's do, the first's elsewhere."""
    scale = torch.tensor([max(effector.tolerance, handling.FINEST) for effector in first.effectors])
    gaps = [(found.misses / scale).clamp_min(1).square().sum(1) for found in (first, second)]
    better = gaps[1] <= WORSE * gaps[0]
    parts = {}
    for name in ("local", "root", "positions", "rotations", "misses"):
        one, other = getattr(first, name), getattr(second, name)
        parts[name] = torch.where(better.reshape(-1, *[1] * (one.ndim - 1)), other, one)
    return Solution(first.effectors, **parts, steps=first.steps + second.steps)
