"""What a solve works on: the variables of a pose, its cost under handles and a habit, and one Gauss-Newton step.

The variables are the root's place and turn, and those components of the joints' axis-angle vectors that limits leave
free. A step that would cross a limit goes to it there, and the other components are solved for again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose.effectors import Effector, Turn
from framefill.pose.limits import Habit, Limits
from framefill.pose.skeleton import Skeleton
from framefill.pose.targets import Targets
from framefill.pose.turning import IDENTITY, Floats, chain, cross_matrix, exponential, logarithm, nearest

PINNED = 3e-4  # metres or radians: tolerances below this pin
LONGEST = 0.6  # radians that any component turns in one step
STILL = 1e-4  # a range this small is none
CROSSINGS = 3  # how often a step is solved for again because it crosses limits
INSIDE = 0.05  # of the range of a joint: how far from its limits it starts
LOOSE = 0.1  # by how much a habit is weakened where handles are missed
NEAR = 1e-3  # metres and radians: a handle is met


@dataclass(frozen=True)
class State:
    """x (B, n), the root's place (B, 3), and what follows from them and the root's turn, with unweighted residuals."""

    x: Floats
    place: Floats
    bend: Floats  # (B, J, 3, 3): the left Jacobians of axis-angle vectors
    local: Floats
    positions: Floats
    turned: Floats
    residual: Floats
    habit: Floats  # (B, K + 9): how far from the habit and its stance, in standard deviations

    def where(self, better: NDArray[np.bool_], other: "State") -> "State":
        """`other` for the samples that are better, this for the rest."""
        if better.all():
            return other
        if not better.any():
            return self
        pick: Callable[[Floats, Floats], Floats] = lambda a, b: np.where(better.reshape(-1, *[1] * (a.ndim - 1)), b, a)  # noqa: E731
        names = State.__dataclass_fields__
        return State(**{name: pick(getattr(self, name), getattr(other, name)) for name in names})


class Problem:
    """What stays the same while a solve runs: targets, limits, habit, and which joint each variable turns."""

    def __init__(
        self,
        skeleton: Skeleton,
        effectors: Sequence[Effector],
        limits: Limits | None,
        habit: Habit | None,
        start: tuple[Tensor, Tensor] | None,
    ):
        self.skeleton, self.root = skeleton, skeleton.root
        self.offsets = skeleton.offsets.double().numpy()
        self.jumps = tuple(jump.numpy() for jump in skeleton.jumps)
        self.batch = _batch(effectors, start, habit)
        self.targets = Targets(skeleton, effectors, self.batch)
        self._choose_variables(Limits.none(len(skeleton)) if limits is None else limits)
        self.targets.bind(skeleton, self.pivot)
        self.local, self.place = self._begin(start, habit)
        self._keep_habit(habit)

    def _choose_variables(self, limits: Limits) -> None:
        """Components that may move, apart from the root's; those that may not keep the middle of their box."""
        if len(limits.low) != len(self.skeleton):
            raise BadInput(f"limits of {len(limits.low)} joints; this skeleton has {len(self.skeleton)}")
        low, high = limits.low.double().numpy(), limits.high.double().numpy()
        free = high - low > STILL
        free[self.root] = False
        self.joint, self.axis = free.nonzero()
        self.column = 3 * self.joint + self.axis
        self.low, self.high = low[free], high[free]
        self.middle = np.where(np.arange(len(low))[:, None] == self.root, 0, (low + high) / 2)
        self.pivot = np.concatenate([np.full(3, self.root), self.joint])
        self.above = np.array([max(parent, 0) for parent in self.skeleton.parents])[self.joint]

    def _begin(self, start: tuple[Tensor, Tensor] | None, habit: Habit | None) -> tuple[Floats, Floats]:
        joints = len(self.skeleton)
        if start is None:
            vectors = np.zeros((self.batch, joints, 3))
            if habit is not None and habit.mean.shape[-1] == 3 * joints:
                vectors[:] = habit.mean.double().numpy().reshape(-1, joints, 3)
            vectors[:, self.root] = 0
            return self.aligned(self._inside(exponential(vectors)[0]))
        local, root = (part.double().numpy() for part in start)
        if local.shape[-3:] != (joints, 3, 3) or root.shape[-1:] != (3,):
            raise BadInput(f"a start of rotations {local.shape}, root {root.shape}; give ({joints}, 3, 3) and (3,)")
        return np.broadcast_to(local, (self.batch, joints, 3, 3)), np.broadcast_to(root, (self.batch, 3))

    def _keep_habit(self, habit: Habit | None) -> None:
        """The habit as factor x + pull; without one, near the start. The root turns freely: nothing is said of it."""
        angles = 3 * len(self.skeleton)
        mean = logarithm(self.local).reshape(self.batch, -1) if habit is None else habit.mean.double().numpy()
        factor = np.eye(angles) if habit is None else habit.factor.double().numpy()
        if factor.shape[1] != angles:
            raise BadInput(f"a habit of {factor.shape[1]} angles; this skeleton has {angles}")
        place, root = self.column, 3 * self.root
        mean = np.broadcast_to(mean, (self.batch, angles))
        others = self.middle.reshape(-1) - mean
        others[:, place], others[:, root : root + 3] = -mean[:, place], 0
        self.factor, self.pull = factor[:, place], others @ factor.T
        self.precision = self.factor.T @ self.factor
        stance = None if habit is None else habit.stance
        self.leaning = np.zeros((3, 3)) if stance is None else stance.axes.double().numpy()
        self.stands = self.leaning if stance is None else stance.there.double().numpy()

    def loosen(self) -> None:
        """Let the habit weigh little from here on."""
        self.factor, self.pull = LOOSE * self.factor, LOOSE * self.pull
        self.precision = LOOSE**2 * self.precision
        self.leaning, self.stands = LOOSE * self.leaning, LOOSE * self.stands

    def met(self, state: State) -> NDArray[np.bool_]:
        """Bool (B,): whether every residual is within its tolerance, or NEAR."""
        return (np.abs(state.residual) <= np.maximum(self.targets.tolerance, NEAR)).all(1)

    def weight(self) -> Floats:
        """What residuals (R,) weigh at their own tolerances."""
        return 1 / np.maximum(self.targets.tolerance, PINNED)

    def gap(self, state: State) -> Floats:
        """What handles alone cost (B,) at their own tolerances."""
        return np.square(state.residual * self.weight()).sum(1)

    def second(self) -> State:
        """Another state to begin from: the middle of the limits, turned and moved as a whole to the places."""
        middle = np.broadcast_to(self.middle, (self.batch, *self.middle.shape))
        local, place = self.aligned(exponential(middle)[0])
        return self.state(middle.reshape(self.batch, -1)[:, self.column], local[:, self.root], place)

    def start(self) -> State:
        """The first state: the start, moved into the limits."""
        x = logarithm(self._inside(self.local))[:, self.joint, self.axis]
        return self.state(x, self.local[:, self.root], self.place)

    def _inside(self, local: Floats) -> Floats:
        """Rotations (B, J, 3, 3) moved into the limits; the root's stays.

        A little inside: a straight knee is a limit and a dead point, where no small turn brings the foot nearer.
        """
        vectors = np.repeat(self.middle[None], self.batch, 0)
        given, room = logarithm(local), INSIDE * (self.high - self.low)
        vectors[:, self.joint, self.axis] = given[:, self.joint, self.axis].clip(self.low + room, self.high - room)
        inside = exponential(vectors)[0]
        inside[:, self.root] = local[:, self.root]
        return inside

    def world(self, local: Floats, place: Floats) -> tuple[Floats, Floats]:
        """World positions (B, J, 3) and rotations (B, J, 3, 3)."""
        shift = np.repeat(self.offsets[None], len(local), 0)
        shift[:, self.root] = place
        return chain(self.jumps, local, shift)

    def aligned(self, local: Floats) -> tuple[Floats, Floats]:
        """A pose turned and moved as a whole so that the handled places fit best (Kabsch); without places, as it is."""
        there, root = self.targets.place, np.zeros((self.batch, 3))
        if not there.shape[1]:
            return local, root
        here = self.world(local, root)[0][:, self.targets.places]
        middle, goal = here.mean(1, keepdims=True), there.mean(1, keepdims=True)
        turn = np.repeat(IDENTITY[None], self.batch, 0)
        if there.shape[1] > 2:
            turn = nearest((there - goal).swapaxes(-1, -2) @ (here - middle))
        local = local.copy()
        local[:, self.root] = turn @ local[:, self.root]
        return local, goal[:, 0] - (turn @ middle.swapaxes(-1, -2))[..., 0]

    def state(self, x: Floats, turn: Floats, place: Floats) -> State:
        """Everything that follows from the variables."""
        vectors = np.repeat(self.middle.reshape(1, -1), len(x), 0)
        vectors[:, self.column] = x
        local, bend = exponential(vectors.reshape(len(x), -1, 3))
        local[:, self.root] = turn
        positions, turned = self.world(local, place)
        leans = (turn @ self.leaning - self.stands).reshape(len(x), 9)
        habit = np.concatenate([x @ self.factor.T + self.pull, leans], 1)
        return State(x, place, bend, local, positions, turned, self.targets.residual(positions, turned), habit)

    def cost(self, state: State, weight: Floats) -> Floats:
        """The objective (B,) under these weights."""
        return np.square(state.residual * weight).sum(1) + np.square(state.habit).sum(1)

    def axes(self, state: State) -> tuple[Floats, Floats]:
        """World axes (B, 3 + n, 3) about which variables turn, the root's first, and the points they turn about."""
        own = state.turned[:, self.above] @ state.bend[:, self.joint, :, self.axis].swapaxes(0, 1)[..., None]
        root = np.broadcast_to(IDENTITY, (len(state.x), 3, 3))
        return np.concatenate([root, own[..., 0]], 1), state.positions[:, self.pivot]

    def normal(self, state: State, weight: Floats) -> tuple[Floats, Floats]:
        """Half the Gauss-Newton Hessian (B, 6 + n, 6 + n) and half the gradient (B, 6 + n) of the cost."""
        rows = self.targets.jacobian(state.positions, state.turned, *self.axes(state)) * weight[:, None]
        hessian = rows @ rows.swapaxes(-1, -2)
        gradient = (rows @ (state.residual * weight)[..., None])[..., 0]
        hessian[:, 6:, 6:] += self.precision
        gradient[:, 6:] += state.habit[:, :-9] @ self.factor
        if self.stands.any():
            self._add_stance(state, hessian[:, 3:6, 3:6], gradient[:, 3:6])
        return hessian, gradient

    def _add_stance(self, state: State, hessian: Floats, gradient: Floats) -> None:
        """What the root's turn adds, into both: turning by w moves every axis a by w x a."""
        axes = state.local[:, self.root] @ self.leaning
        across = cross_matrix(axes.swapaxes(-1, -2)).reshape(len(axes), 9, 3)
        leans = state.habit[:, -9:].reshape(-1, 3, 3).swapaxes(-1, -2).reshape(-1, 9, 1)
        hessian += across.swapaxes(-1, -2) @ across
        gradient -= (across.swapaxes(-1, -2) @ leans)[..., 0]

    def step(self, state: State, weight: Floats, damping: Floats) -> tuple[State, Floats]:
        """One damped Gauss-Newton step within the limits, and the greatest component (B,) of each."""
        hessian, gradient = self.normal(state, weight)
        along = np.arange(hessian.shape[1])
        hessian[:, along, along] += damping * (hessian[:, along, along] + 1)
        change = self._within(state.x, hessian, gradient)
        change = change * (LONGEST / np.maximum(np.abs(change[:, 3:]).max(1, keepdims=True), LONGEST))
        turn = exponential(change[:, 3:6])[0] @ state.local[:, self.root]
        x = (state.x + change[:, 6:]).clip(self.low, self.high)
        return self.state(x, turn, state.place + change[:, :3]), np.abs(change).max(1)

    def _within(self, x: Floats, hessian: Floats, gradient: Floats) -> Floats:
        """-hessian^-1 gradient (B, 6 + n), with components that would cross a limit set to reach it."""
        change = _solved(hessian, gradient)
        held: NDArray[np.bool_] = np.zeros(gradient.shape, dtype=bool)
        for _ in range(CROSSINGS):
            reached = x + change[:, 6:]
            crossed = (reached < self.low - STILL) | (reached > self.high + STILL)
            if not crossed.any():
                break
            held[:, 6:] |= crossed
            known = np.zeros_like(gradient)
            known[:, 6:] = np.where(held[:, 6:], reached.clip(self.low, self.high) - x, 0)
            moved = gradient + (hessian @ known[..., None])[..., 0]
            both = held[:, :, np.newaxis] | held[:, np.newaxis]
            reduced = np.where(both, np.eye(held.shape[-1]), hessian)
            change = _solved(reduced, np.where(held, 0, moved)) + known
        return change


def _solved(hessian: Floats, gradient: Floats) -> Floats:
    """-hessian^-1 gradient; nothing where a hessian has no inverse."""
    try:
        found: Floats = np.asarray(np.linalg.solve(hessian, gradient[..., None]), np.float64)
        return -found[..., 0]
    except np.linalg.LinAlgError:
        found = np.asarray(np.linalg.pinv(hessian) @ gradient[..., None], np.float64)
        return -np.nan_to_num(found[..., 0], posinf=0, neginf=0)


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
