"""The pose that meets its handles, by Levenberg-Marquardt over joint angles within their limits.

    minimise  sum_e |r_e / max(tolerance_e, PINNED)|^2 + |F (x - m)|^2   over  low <= x <= high

x are axis-angle vectors, m and F a habit (`limits`), r the misses of the handles (`targets`), whose Jacobian is exact.
Tolerances begin wide and shrink as they are met, so that the habit chooses among poses before the pins bind. Where a
step would cross a limit it goes to the limit there, and the other components are solved for again. What misses its
handles is tried a second time, from the middle of the limits, and goes on from the better pose with a weak habit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose.effectors import Effector, Place
from framefill.pose.limits import Habit, Limits
from framefill.pose.problem import NEAR, PINNED, Problem, State
from framefill.pose.skeleton import Skeleton

WIDE, SHRINK = 0.1, 0.2  # the tolerance at first, and its factor whenever a sample is ready for the next
CLOSE, SLOW = 3.0, 0.1  # ready: every handle is within CLOSE tolerances, or the step is smaller than SLOW
STILL, GAIN = 1e-4, 1e-5  # a step this small is the last; so is one that gains this little where handles are met
DAMPING = (1e-4, 1e-9, 1e9)  # at first, least, most
BEYOND = 1e-2  # metres and radians: a handle missed by more is worth a warning


@dataclass(frozen=True)
class Solution:
    """Local rotations (B, J, 3, 3), root (B, 3), the world they make, and how far each handle is missed.

    misses (B, E): metres for places, radians for rotations and directions; steps: how many were taken.
    """

    effectors: tuple[Effector, ...]
    local: Tensor = field(compare=False)
    root: Tensor = field(compare=False)
    positions: Tensor = field(compare=False)
    rotations: Tensor = field(compare=False)
    misses: Tensor = field(compare=False)
    steps: int

    def met(self, *, within: float = NEAR) -> Tensor:
        """Bool (B,): every handle within its tolerance, or `within` metres or radians."""
        tolerance = torch.tensor([max(effector.tolerance, within) for effector in self.effectors])
        return (self.misses <= tolerance).all(1)

    def report(self, sample: int = 0, *, only: int | None = None) -> list[str]:
        """One line for every handle (of the first `only`) missed by over three tolerances and 1 cm or 0.01 radians."""
        lines = []
        for effector, miss in zip(self.effectors[:only], self.misses[sample, :only].tolist(), strict=True):
            if miss > max(3 * effector.tolerance, BEYOND):
                what = f"{1000 * miss:.0f} mm from its place" if isinstance(effector, Place) else f"{miss:.2f} rad off"
                lines.append(f"{effector.joint} came no closer than {what}; move the handle or give it a tolerance")
        return lines


@torch.no_grad()
def solve(
    skeleton: Skeleton,
    effectors: Sequence[Effector],
    *,
    limits: Limits | None = None,
    habit: Habit | None = None,
    start: tuple[Tensor, Tensor] | None = None,
    steps: int = 80,
) -> Solution:
    """The pose (or a batch of B, where targets are) that meets the handles as their tolerances say. Float64, CPU.

    start: local rotations ([B,] J, 3, 3) and root ([B,] 3); without one the mean of the habit, or the rest pose, turned
    and moved as a whole so that places fit best. habit: what decides what handles leave open; without one, staying near
    the start. An impossible target is no error: the nearest pose found comes back, and `Solution.report` says what is
    missed and by how much.
    Raises BadInput for no handles, an unknown joint, or sizes that do not fit each other.
    """
    if not effectors or steps < 1:
        raise BadInput(f"{len(effectors)} handles and {steps} steps; give one of each at least")
    problem = Problem(skeleton, tuple(effectors), limits, habit, start)
    state, taken = _descend(problem, problem.start(), steps)
    if not problem.met(state).all():
        other, more = _descend(problem, problem.second(), steps)
        weight = problem.weight()
        state, taken = state.where(problem.cost(other, weight) < problem.cost(state, weight), other), taken + more
    missed = ~problem.met(state)
    if missed.any():  # a strong habit can hold a pose away from its handles: they come first
        problem.loosen()
        state = problem.state(state.x, state.local[:, problem.root], state.place)
        other, more = _descend(problem, state, steps)
        state, taken = state.where(missed & (problem.gap(other) < problem.gap(state)), other), taken + more
    misses = problem.targets.misses(state.positions, state.turned)
    parts = (state.local, state.place, state.positions, state.turned, misses)
    local, root, positions, turned, missed_by = (torch.from_numpy(np.array(part, order="C")) for part in parts)
    return Solution(problem.targets.given, local, root, positions, turned, missed_by, taken)


def _descend(problem: Problem, state: State, steps: int) -> tuple[State, int]:
    """The state after up to `steps` steps, and how many were taken."""
    damping = np.full((problem.batch, 1), DAMPING[0])
    tolerance = np.full((problem.batch, 1), WIDE)
    for number in range(1, steps + 1):
        weight = 1 / np.maximum(problem.targets.tolerance, tolerance)
        tried, length = problem.step(state, weight, damping)
        before, after = problem.cost(state, weight), problem.cost(tried, weight)
        better = after < before
        state = state.where(better, tried)
        damping = np.where(better[:, None], damping / 5, damping * 5).clip(*DAMPING[1:])
        idle = (np.abs(after - before) < GAIN * (1 + before)) & problem.met(state)
        if ((tolerance[:, 0] == PINNED) & ((length < STILL) | idle)).all():
            return state, number
        ready = (np.abs(state.residual * weight).max(1) < CLOSE) | (length < SLOW)
        tolerance = np.where(ready[:, None], np.maximum(tolerance * SHRINK, PINNED), tolerance)
    return state, steps
