"""A motion worn by another skeleton: joints matched by role, turns carried over in the world, lengths by proportion.

A joint's turn in the world since the rest pose is the source's, after both rest poses face the same way and each limb
is first brought from its rest direction to the source's (arms that hang, arms stretched out):

    G_target = G_source Q A      Q: facing, A: the limb's direction

What the target has between matched joints of the trunk shares the bend; fingers and the like stay as they are at rest.
Proportions: the pelvis moves as far as the target's legs are longer, and then feet are put where the source's are in
that measure, by a few solver steps that stay near: so feet that stand do not slide.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose import kinematics
from framefill.pose.axes import Axes
from framefill.pose.effectors import Place
from framefill.pose.limits import Habit
from framefill.pose.motion import Motion
from framefill.pose.roles import frame, roles
from framefill.pose.skeleton import Skeleton
from framefill.pose.solve import solve
from framefill.pose.turning import Floats, exponential, logarithm, unit

# Bones whose direction at rest differs from rig to rig; wrists and hands turn as forearms do.
DIRECTIONS = {"shoulder": "elbow", "elbow": "wrist", "hip": "knee", "knee": "ankle"}
FOLLOWS = {"wrist": "elbow", "hand": "elbow"}
TRUNK = ("spine3", "neck", "head")
ENDS = ("left_ankle", "right_ankle")
SPREAD, STANDS = 0.3, 2e-3  # radians around the carried turns; metres by which feet are put
SPREADS, EASE = (0.3, 0.05), 3  # radians around what is eased so far; frames over which changes are eased
LEAST = 5  # roles that two skeletons must share


@dataclass(frozen=True)
class Rig:
    """A skeleton at rest, no joint turned, which joint plays which role, and where joints are (J, 3)."""

    skeleton: Skeleton
    roles: dict[str, int] = field(compare=False)
    positions: Floats = field(compare=False)

    @classmethod
    def of(cls, skeleton: Skeleton, local: Tensor | None = None) -> "Rig":
        """Of a skeleton whose joints `local` (J, 3, 3) turns at rest, if anything: the rig's own is that at rest.

        `Axes.of(skeleton, local)` takes motions of the given skeleton to the rig's and back.
        """
        lying = skeleton if local is None else Axes.of(skeleton, local).lying(skeleton)
        return cls(lying, roles(lying), kinematics.rest(lying).double().numpy())

    def length(self) -> float:
        """Metres from hip to ankle along the leg; from lowest to highest joint without legs."""
        way = [f"left_{part}" for part in ("hip", "knee", "ankle")]
        if not all(role in self.roles for role in way):
            return float(np.ptp(self.positions[:, 1]))
        leg = self.positions[[self.roles[role] for role in way]]
        return float(np.linalg.norm(np.diff(leg, axis=0), axis=1).sum())


def retarget(motion: Motion, source: Rig, target: Rig, *, feet: bool = True) -> Motion:
    """The motion of `source` as the target's, float64; `feet`: put them where the source's are, in proportion.

    Raises BadInput where fewer than five joints correspond.
    """
    carried = carry(motion, source, target)
    ends = [role for role in ENDS if role in source.roles and role in target.roles]
    if not feet or not ends:
        return carried
    scale = target.length() / source.length()
    there = scale * motion.world()[0].double()
    names = target.skeleton.names
    handles = [Place(names[target.roles[role]], there[:, source.roles[role]], STANDS) for role in ends]
    pelvis = target.roles["pelvis"]
    handles.append(Place(names[pelvis], carried.world()[0][:, pelvis], 0.03))
    begin = carried
    for spread in SPREADS:
        habit = Habit.near(begin.local, spread=spread)
        found = solve(target.skeleton, handles, start=(begin.local, begin.root), habit=habit)
        begin = _eased(carried, Motion(target.skeleton, found.local, found.root, motion.seconds))
    return Motion(target.skeleton, found.local, found.root, motion.seconds)


def _eased(carried: Motion, found: Motion) -> Motion:
    """What the solver changed, smoothed over time: a leg that just reaches its foot snaps straight otherwise."""
    change = logarithm((carried.local.mT @ found.local).numpy())
    shift = (found.root - carried.root).numpy()
    reach = np.arange(-3 * EASE, 3 * EASE + 1)
    weight = np.exp(-0.5 * np.square(reach / EASE))
    weight /= weight.sum()

    def smooth(values: Floats) -> Floats:
        around = np.arange(len(values))[:, None] + reach
        return np.einsum("k,tk...->t...", weight, values[around.clip(0, len(values) - 1)])

    turns = carried.local @ torch.from_numpy(exponential(smooth(change))[0])
    return Motion(carried.skeleton, turns, carried.root + torch.from_numpy(smooth(shift)), carried.seconds)


def carry(motion: Motion, source: Rig, target: Rig) -> Motion:
    """Turns alone, in closed form: every pose is a continuous function of the source's."""
    if not motion.skeleton.same(source.skeleton):
        raise BadInput("the motion is of another skeleton than the rig it comes from; give that rig, at rest as it is")
    shared = matched(source, target)
    face = frame(source.positions, source.roles) @ frame(target.positions, target.roles).T
    positions, turned = (part.double().numpy() for part in motion.world())
    deltas = {
        target.roles[role]: turned[:, source.roles[role]] @ face @ _aligning(role, source, target, face)
        for role in shared
    }
    world = _spread(target, deltas)
    local = kinematics.local_from_global(target.skeleton, torch.from_numpy(world))
    place = torch.from_numpy(positions[:, source.roles["pelvis"]] * (target.length() / source.length()))
    root = torch.zeros_like(place)
    reached = kinematics.forward(target.skeleton, local, root)[0][:, target.roles["pelvis"]]
    return Motion(target.skeleton, local, place - reached, motion.seconds)


def matched(source: Rig, target: Rig) -> list[str]:
    """The roles that both play. Raises BadInput where they are too few."""
    shared = [role for role in source.roles if role in target.roles]
    if len(shared) < LEAST:
        raise BadInput(
            f"only {len(shared)} joints correspond ({', '.join(shared)}); name them by side and limb, as in left_knee"
        )
    return shared


def _aligning(role: str, source: Rig, target: Rig, face: Floats) -> Floats:
    """The rotation (3, 3) from the target's limb at rest to the source's, seen from the target."""
    side, _, part = role.partition("_")
    part = FOLLOWS.get(part, part)
    ends = [f"{side}_{part}", f"{side}_{DIRECTIONS.get(part, '')}"]
    if not all(end in rig.roles for rig in (source, target) for end in ends):
        return np.eye(3)
    theirs, ours = (
        unit(rig.positions[rig.roles[ends[1]]] - rig.positions[rig.roles[ends[0]]]) for rig in (source, target)
    )
    return between(ours, face.T @ theirs)


def between(a: Floats, b: Floats) -> Floats:
    """The smallest rotation (3, 3) that takes the direction a (3,) to b."""
    axis, cosine = np.cross(a, b), float(a @ b)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-9:
        axis, sine = (np.cross(a, np.eye(3)[np.abs(a).argmin()]), 0.0)
    return exponential(unit(axis) * np.arctan2(sine, cosine))[0]


def _spread(target: Rig, deltas: dict[int, Floats]) -> Floats:
    """World rotations (T, J, 3, 3) of all joints from those of the matched ones."""
    frames = len(next(iter(deltas.values())))
    whole: dict[int, Floats] = {}
    order = sorted(range(len(target.skeleton)), key=lambda joint: len(target.skeleton.above(joint)))
    for joint in order:
        parent = target.skeleton.parents[joint]
        whole[joint] = deltas[joint] if joint in deltas else _shared(target, deltas, whole, joint, parent)
    world = np.stack([whole[joint] for joint in range(len(order))], 1)
    return world.reshape(frames, len(order), 3, 3)


def _shared(target: Rig, deltas: dict[int, Floats], whole: dict[int, Floats], joint: int, parent: int) -> Floats:
    """The turn of a joint that nothing corresponds to: its share of the way to the trunk joint above it."""
    if parent < 0:
        return deltas[target.roles["pelvis"]]
    for role in TRUNK:
        end = target.roles.get(role, -1)
        if end in deltas and joint in (above := target.skeleton.above(end)):
            steps = above.index(joint) + 2  # this joint, those between, and the end
            rest = logarithm(whole[parent].swapaxes(-1, -2) @ deltas[end])
            return whole[parent] @ exponential(rest / steps)[0]
    return whole[parent]
