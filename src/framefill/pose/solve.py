"""The pose that meets its handles, by Levenberg-Marquardt over joint angles within their limits.

    minimise  sum_e |r_e / max(tolerance_e, PINNED)|^2 + |F (x - m)|^2   over  low <= x <= high

x are axis-angle vectors, m and F a habit (`limits`), r the misses of the handles (`targets`), whose Jacobian is exact.
Tolerances begin wide and shrink as they are met, so that the habit chooses among poses before the pins bind. Where a
step would cross a limit it goes to the limit there, and the other components are solved for again. What misses its
handles is tried a second time, from the middle of the limits, and goes on from the better pose with a weak habit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose import kinematics, rotations
from framefill.pose.effectors import Effector, Place, Turn
from framefill.pose.limits import Habit, Limits
from framefill.pose.skeleton import Skeleton
from framefill.pose.targets import Targets

PINNED = 3e-4  # metres or radians: tolerances below this pin
WIDE, SHRINK = 0.1, 0.2  # the tolerance at first, and its factor whenever a sample is ready for the next
CLOSE, SLOW = 3.0, 0.1  # ready: every handle is within CLOSE tolerances, or the step is smaller than SLOW
LONGEST = 0.6  # radians that any component turns in one step
DAMPING = (1e-4, 1e-9, 1e9)  # at first, least, most
STILL = 1e-4  # a step this small is the last
CROSSINGS = 3  # how often a step is solved for again because it crosses limits
INSIDE = 0.05  # of the range of a joint: how far from its limits it starts
LOOSE = 0.1  # by how much a habit is weakened where handles are missed
IDENTITY = torch.eye(3, dtype=torch.float64)
NEAR, BEYOND = 1e-3, 1e-2  # metres and radians: a handle is met; a handle is worth a warning


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

    def report(self, sample: int = 0) -> list[str]:
        """One line for every handle that is missed by more than its tolerance and a centimetre or 0.01 radians."""
        lines = []
        for effector, miss in zip(self.effectors, self.misses[sample].tolist(), strict=True):
            if miss > max(effector.tolerance, BEYOND):
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
    problem = _Problem(skeleton, tuple(effectors), limits, habit, start)
    state, taken = _descend(problem, problem.start(), steps)
    if not bool(problem.met(state).all()):
        other, more = _descend(problem, problem.second(), steps)
        weight = 1 / problem.targets.tolerance.clamp_min(PINNED)
        state, taken = state.where(problem.cost(other, weight) < problem.cost(state, weight), other), taken + more
    missed = ~problem.met(state)
    if bool(missed.any()):  # a strong habit can hold a pose away from its handles: they come first
        problem.loosen()
        other, more = _descend(problem, state, steps)
        state, taken = state.where(missed & (problem.gap(other) < problem.gap(state)), other), taken + more
    misses = problem.targets.misses(state.positions, state.turned)
    return Solution(problem.targets.given, state.local, state.place, state.positions, state.turned, misses, taken)


def _descend(problem: "_Problem", state: "_State", steps: int) -> tuple["_State", int]:
    """The state after up to `steps` steps, and how many were taken."""
    damping = torch.full((problem.batch, 1), DAMPING[0], dtype=torch.float64)
    tolerance = torch.full((problem.batch, 1), WIDE, dtype=torch.float64)
    for number in range(1, steps + 1):
        weight = 1 / torch.maximum(problem.targets.tolerance, tolerance)
        tried, length = problem.step(state, weight, damping)
        better = problem.cost(tried, weight) < problem.cost(state, weight)
        state = state.where(better, tried)
        damping = torch.where(better[:, None], damping / 5, damping * 5).clamp(*DAMPING[1:])
        if bool(((tolerance[:, 0] == PINNED) & (length < STILL)).all()):
            return state, number
        ready = ((state.residual * weight).abs().amax(1) < CLOSE) | (length < SLOW)
        tolerance = torch.where(ready[:, None], (tolerance * SHRINK).clamp_min(PINNED), tolerance)
    return state, steps


@dataclass(frozen=True)
class _State:
    """x (B, n), the root's place (B, 3), and what follows from them and the root's turn, with unweighted residuals."""

    x: Tensor
    place: Tensor
    bend: Tensor  # (B, J, 3, 3): the left Jacobians of axis-angle vectors
    local: Tensor
    positions: Tensor
    turned: Tensor
    residual: Tensor

    def where(self, better: Tensor, other: "_State") -> "_State":
        """`other` for the samples that are better, this for the rest."""
        if bool(better.all()):
            return other
        if not bool(better.any()):
            return self
        pick = lambda a, b: torch.where(better.reshape(-1, *[1] * (a.ndim - 1)), b, a)  # noqa: E731
        return _State(*(pick(getattr(self, name), getattr(other, name)) for name in _State.__dataclass_fields__))


class _Problem:
    """What stays the same while a solve runs: targets, limits, habit, and which joint each variable turns."""

    def __init__(
        self,
        skeleton: Skeleton,
        effectors: tuple[Effector, ...],
        limits: Limits | None,
        habit: Habit | None,
        start: tuple[Tensor, Tensor] | None,
    ):
        self.skeleton = Skeleton(skeleton.names, skeleton.parents, skeleton.offsets.double())
        self.batch = _batch(effectors, start, habit)
        self.targets = Targets(skeleton, effectors, self.batch)
        self._choose_variables(Limits.none(len(skeleton)) if limits is None else limits)
        self.targets.bind(skeleton, self.pivot)
        self.local, self.root = self._begin(start, habit)
        self._keep_habit(Habit.near(self.local) if habit is None else habit)

    def _choose_variables(self, limits: Limits) -> None:
        """Components that may move, apart from the root's; those that may not keep the middle of their box."""
        if len(limits.low) != len(self.skeleton):
            raise BadInput(f"limits of {len(limits.low)} joints; this skeleton has {len(self.skeleton)}")
        low, high = limits.low.double(), limits.high.double()
        free = high - low > STILL
        free[self.skeleton.root] = False
        self.joint, self.axis = free.nonzero(as_tuple=True)
        self.column = 3 * self.joint + self.axis
        self.low, self.high = low[free], high[free]
        middle = (low + high) / 2
        middle[self.skeleton.root] = 0
        self.middle = middle.expand(self.batch, -1, 3)
        self.pivot = torch.cat([torch.full((3,), self.skeleton.root), self.joint])
        self.above = torch.tensor([max(parent, 0) for parent in self.skeleton.parents])[self.joint]

    def _begin(self, start: tuple[Tensor, Tensor] | None, habit: Habit | None) -> tuple[Tensor, Tensor]:
        joints = len(self.skeleton)
        if start is None:
            vectors = torch.zeros(self.batch, 3 * joints, dtype=torch.float64)
            if habit is not None and habit.mean.shape[-1] == 3 * joints:
                vectors = habit.mean.double().expand(self.batch, -1).clone()
            vectors[:, 3 * self.skeleton.root : 3 * self.skeleton.root + 3] = 0
            return self._aligned(self._inside(rotations.from_axis_angle(vectors.unflatten(1, (-1, 3)))))
        local, root = (part.double() for part in start)
        if local.shape[-3:] != (joints, 3, 3) or root.shape[-1:] != (3,):
            raise BadInput(
                f"a start of rotations {tuple(local.shape)}, root {tuple(root.shape)}; give ({joints}, 3, 3) and (3,)"
            )
        return local.expand(self.batch, joints, 3, 3), root.expand(self.batch, 3)

    def met(self, state: _State) -> Tensor:
        """Bool (B,): whether every residual is within its tolerance, or NEAR."""
        return (state.residual.abs() <= self.targets.tolerance.clamp_min(NEAR)).all(1)

    def gap(self, state: _State) -> Tensor:
        """What handles alone cost (B,) at their own tolerances."""
        return (state.residual / self.targets.tolerance.clamp_min(PINNED)).square().sum(1)

    def second(self) -> _State:
        """Another state to begin from: the middle of the limits, turned and moved as a whole to the places."""
        local, place = self._aligned(rotations.from_axis_angle(self.middle))
        x = self.middle.flatten(1)[:, self.column]
        return self.state(x, local[:, self.skeleton.root], place)

    def _inside(self, local: Tensor) -> Tensor:
        """Rotations (B, J, 3, 3) moved into the limits; the root's stays.

        A little inside: a straight knee is a limit and a dead point, where no small turn brings the foot nearer.
        """
        vectors = self.middle.clone()
        given, room = rotations.to_axis_angle(local), INSIDE * (self.high - self.low)
        vectors[:, self.joint, self.axis] = given[:, self.joint, self.axis].clamp(self.low + room, self.high - room)
        inside = rotations.from_axis_angle(vectors)
        inside[:, self.skeleton.root] = local[:, self.skeleton.root]
        return inside

    def _aligned(self, local: Tensor) -> tuple[Tensor, Tensor]:
        """A pose turned and moved as a whole so that the handled places fit best (Kabsch); without places, as it is."""
        root = torch.zeros(self.batch, 3, dtype=torch.float64)
        there = self.targets.place
        if not there.shape[1]:
            return local, root
        here = kinematics.forward(self.skeleton, local, root)[0][:, self.targets.places]
        middle, goal = here.mean(1, keepdim=True), there.mean(1, keepdim=True)
        turn = IDENTITY.expand(self.batch, 3, 3)
        if there.shape[1] > 2:
            turn = rotations.nearest((there - goal).mT @ (here - middle))
        local = local.clone()
        local[:, self.skeleton.root] = turn @ local[:, self.skeleton.root]
        return local, goal[:, 0] - (turn @ middle.mT)[..., 0]

    def _keep_habit(self, habit: Habit) -> None:
        """The habit as factor x + pull. The root turns freely: nothing is said of it."""
        angles = 3 * len(self.skeleton)
        if habit.factor.shape[1] != angles:
            raise BadInput(f"a habit of {habit.factor.shape[1]} angles; this skeleton has {angles}")
        place, root = self.column, 3 * self.skeleton.root
        factor, mean = habit.factor.double(), habit.mean.double().expand(self.batch, angles)
        others = self.middle.flatten(1) - mean
        others[:, place], others[:, root : root + 3] = -mean[:, place], 0
        self.factor = factor[:, place]
        self.pull = others @ factor.T
        self.precision = self.factor.T @ self.factor

    def loosen(self) -> None:
        """Let the habit weigh little from here on."""
        self.factor, self.pull = LOOSE * self.factor, LOOSE * self.pull
        self.precision = LOOSE**2 * self.precision

    def start(self) -> _State:
        """The first state: the start, moved into the limits."""
        x = rotations.to_axis_angle(self._inside(self.local))[:, self.joint, self.axis]
        return self.state(x, self.local[:, self.skeleton.root], self.root)

    def state(self, x: Tensor, turn: Tensor, place: Tensor) -> _State:
        """Everything that follows from the variables."""
        vectors = self.middle.flatten(1).index_copy(1, self.column, x).unflatten(1, (-1, 3))
        local, bend = _exponential(vectors)
        local[:, self.skeleton.root] = turn
        positions, turned = kinematics.forward(self.skeleton, local, place)
        return _State(x, place, bend, local, positions, turned, self.targets.residual(positions, turned))

    def cost(self, state: _State, weight: Tensor) -> Tensor:
        """The objective (B,) under these weights."""
        return (state.residual * weight).square().sum(1) + (state.x @ self.factor.T + self.pull).square().sum(1)

    def step(self, state: _State, weight: Tensor, damping: Tensor) -> tuple[_State, Tensor]:
        """One damped Gauss-Newton step within the limits, and the greatest component (B,) of each."""
        own = state.turned.index_select(1, self.above) @ state.bend.mT.flatten(1, 2)[:, self.column, :, None]
        axes = torch.cat([IDENTITY.expand(self.batch, 3, 3), own[..., 0]], 1)
        pivots = state.positions.index_select(1, self.pivot)
        columns = self.targets.jacobian(state.positions, state.turned, axes, pivots) * weight[:, None]
        hessian = columns @ columns.mT
        gradient = (columns @ (state.residual * weight)[..., None])[..., 0]
        hessian[:, 6:, 6:] += self.precision
        gradient[:, 6:] += (state.x @ self.factor.T + self.pull) @ self.factor
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        diagonal += damping * (diagonal + 1)
        change = self._within(state.x, hessian, gradient)
        change = change * (LONGEST / change[:, 3:].abs().amax(1, keepdim=True).clamp_min(LONGEST))
        turn = _exponential(change[:, 3:6])[0] @ state.local[:, self.skeleton.root]
        x = (state.x + change[:, 6:]).clamp(self.low, self.high)
        return self.state(x, turn, state.place + change[:, :3]), change.abs().amax(1)

    def _within(self, x: Tensor, hessian: Tensor, gradient: Tensor) -> Tensor:
        """-hessian^-1 gradient (B, 6 + n), with components that would cross a limit set to reach it."""
        change = _solved(hessian, gradient)
        held = torch.zeros_like(gradient, dtype=torch.bool)
        for _ in range(CROSSINGS):
            reached = x + change[:, 6:]
            crossed = (reached < self.low - STILL) | (reached > self.high + STILL)
            if not bool(crossed.any()):
                break
            held[:, 6:] |= crossed
            known = torch.zeros_like(gradient)
            known[:, 6:] = reached.clamp(self.low, self.high) - x
            known = known * held
            free = (~held).double()
            moved = gradient + (hessian @ known[..., None])[..., 0]
            reduced = hessian * free[:, :, None] * free[:, None, :] + torch.diag_embed(1 - free)
            change = _solved(reduced, moved * free) + known
        return change


def _solved(hessian: Tensor, gradient: Tensor) -> Tensor:
    """-hessian^-1 gradient; nothing where a hessian has no inverse."""
    return -torch.linalg.solve_ex(hessian, gradient[..., None])[0][..., 0].nan_to_num(0, 0, 0)


def _exponential(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (..., 3, 3) of axis-angle vectors (..., 3), and the left Jacobians: exp(v + d) = exp(J d) exp(v)."""
    cross = rotations.cross_matrix(vector)
    square = cross @ cross
    size = vector.square().sum(-1)[..., None, None].clamp_min(1e-8)  # series of order 2 are exact to 1e-16 below
    angle = size.sqrt()
    sine, rest = angle.sin() / angle, (1 - angle.cos()) / size
    return IDENTITY + sine * cross + rest * square, IDENTITY + rest * cross + (1 - sine) / size * square


def _batch(effectors: Sequence[Effector], start: tuple[Tensor, Tensor] | None, habit: Habit | None) -> int:
    """How many poses there are, from whichever has more than one."""
    sizes = {len(e.target) for e in effectors if e.target.ndim > (2 if isinstance(e, Turn) else 1)}
    if start is not None and start[0].ndim == 4:
        sizes.add(len(start[0]))
    if habit is not None and habit.mean.ndim == 2:
        sizes.add(len(habit.mean))
    if len(sizes) > 1:
        raise BadInput(f"batches of {', '.join(map(str, sorted(sizes)))} poses; give the same number everywhere")
    return sizes.pop() if sizes else 1
