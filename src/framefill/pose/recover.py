"""Which few handles tell a pose: greedy recovery, one at a time, and how the error falls with each.

Thesis 001, section 5.5: of all handles, places and rotations of every joint, take the one that, added to those so far,
leaves the solved pose nearest to the true one; go on from there. The curve says how many handles a pose is worth, and
its next entry which joint to take hold of. What was right to take first is often wrong at the end: so each handle is
finally exchanged for a better one while that helps.
"""

from dataclasses import dataclass, field

from torch import Tensor

from framefill.errors import BadInput
from framefill.pose import kinematics
from framefill.pose.effectors import Effector, Place, Turn
from framefill.pose.habits import Manner
from framefill.pose.skeleton import Skeleton
from framefill.pose.solve import Solution, solve

MOST = 6
FEW = 12  # steps for a candidate; the one that is taken is solved to the end
ROUNDS = 5  # how often every handle may be exchanged


@dataclass(frozen=True)
class Recovered:
    """Handles in the order in which they were found, the error after each in mm (MPJPE), and the last pose."""

    handles: tuple[Effector, ...]
    errors: tuple[float, ...]
    pose: Solution = field(compare=False)

    def enough(self, error: float) -> int | None:
        """How many handles bring the error to `error` mm or below; None where all do not."""
        return next((n for n, e in enumerate(self.errors, 1) if e <= error), None)


def recover(
    skeleton: Skeleton, local: Tensor, root: Tensor, manner: Manner, *, most: int = MOST, enough: float = 0.0
) -> Recovered:
    """Up to `most` handles of the pose local (J, 3, 3), root (3,); none more once the error is `enough` mm.

    Raises BadInput for fewer than one handle, more than the skeleton has joints, or an `enough` below 0.
    """
    if not 1 <= most <= len(skeleton):
        raise BadInput(f"{most} handles of a skeleton of {len(skeleton)} joints; ask for 1 to {len(skeleton)}")
    if not enough >= 0:
        raise BadInput(f"an error of {enough} mm is enough; give 0 or more")
    search = _Search(skeleton, kinematics.forward(skeleton, local.double(), root.double()), manner)
    chosen: list[Effector] = []
    errors: list[float] = []
    found: Solution | None = None
    while len(chosen) < most and (not errors or errors[-1] > enough):
        chosen.append(search.best(chosen, found))
        found, error = search.solved(chosen)
        errors.append(error)
    assert found is not None
    for turn in range(ROUNDS * len(chosen)):
        if errors[-1] <= enough:
            break
        place = turn % len(chosen)
        others = [*chosen[:place], *chosen[place + 1 :]]
        tried = [*others, search.best(others, found)]
        other, error = search.solved(tried)
        if error < errors[-1]:
            chosen, found, errors[-1] = [*tried[:place], tried[-1], *tried[place:-1]], other, error
    curve = [search.solved(chosen[:count])[1] for count in range(1, len(chosen))]  # of these, in this order
    return Recovered(tuple(chosen), (*curve, errors[-1]), found)


class _Search:
    """Handles of one true pose, and how well they tell it."""

    def __init__(self, skeleton: Skeleton, world: tuple[Tensor, Tensor], manner: Manner):
        self.skeleton, self.manner = skeleton, manner
        self.truth, turned = world
        joints = range(len(skeleton))
        self.places: list[Effector] = [Place(skeleton.names[j], self.truth[j]) for j in joints]
        bearing = [j for j in joints if skeleton.children(j)]  # how others are turned moves no joint
        self.turns: list[Effector] = [Turn(skeleton.names[j], turned[j]) for j in bearing]

    def best(self, chosen: list[Effector], found: Solution | None) -> Effector:
        """The handle whose addition leaves the least error after a few steps."""
        if not chosen:
            return self.places[self.skeleton.root]
        taken = {id(effector) for effector in chosen}
        left = [handle for handle in (*self.places, *self.turns) if id(handle) not in taken]
        start = (found.local[0], found.root[0]) if found is not None else None
        return min(left, key=lambda handle: self.solved([*chosen, handle], start=start, steps=FEW)[1])

    def solved(
        self, handles: list[Effector], *, start: tuple[Tensor, Tensor] | None = None, steps: int = 80
    ) -> tuple[Solution, float]:
        """The pose that handles give, and its MPJPE in mm."""
        manner = self.manner
        found = solve(self.skeleton, handles, limits=manner.limits, habit=manner.habit, start=start, steps=steps)
        return found, 1000 * (found.positions[0] - self.truth).norm(dim=-1).mean().item()
