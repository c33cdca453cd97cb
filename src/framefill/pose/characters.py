"""Whoever is posed: framefill's body of some shape, the user's SMPL body, or the skeleton of a BVH or GLB file.

A character stands at rest with its lowest joint (framefill's and SMPL's bodies: their soles) on the ground, y = 0, and
has a manner of moving; joints answer to their own names and to their roles, so that `left_wrist` means LeftHand in a
rig that calls it so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose import anny, habits, inversion
from framefill.pose.body import GENDERS, Body
from framefill.pose.effectors import Effector, Place, Turn
from framefill.pose.files import asf, bvh, glb, smpl
from framefill.pose.human import human
from framefill.pose.motion import Motion
from framefill.pose.retarget import Rig
from framefill.pose.skeleton import Skeleton
from framefill.pose.solve import Solution, solve

FEET = ("left_ankle", "right_ankle")
LOWER = ("pelvis", "hip", "knee", "ankle", "foot")
WIDEST = 8.0  # standard deviations of shape: beyond, bones can vanish, or point the other way
SIZES = 1e-3, 1e4  # metres: the least and greatest extent of a rig
STANDING, FLAT = 0.03, 0.2  # metres and radians: how exactly feet stay where nobody asked for them


@dataclass(frozen=True)
class Character:
    """A rig, where its joints stand at rest (J, 3), and, of bodies with a skin, body, shape and gender.

    file: the .glb that a rig is from, whose meshes are written back with its motion.
    """

    rig: Rig
    stands: Tensor = field(compare=False)
    body: Body | None = None
    shape: tuple[float, ...] = ()
    gender: str = "neutral"
    file: Path | None = None

    @cached_property
    def manner(self) -> habits.Manner:
        """What it likes to do and can do: the shipped habit, worn by it."""
        return habits.worn(self.rig)

    def note(self) -> str:
        """A line where the habit of people cannot be put on it; else nothing."""
        return habits.note(self.rig)

    def joint(self, word: str) -> str:
        """The joint a word means: a name, or a role. Raises BadInput that lists the nearest names."""
        skeleton = self.rig.skeleton
        if word not in skeleton.names and word in self.rig.roles:
            return skeleton.names[self.rig.roles[word]]
        return skeleton.names[skeleton.index(word)]

    def rest(self, joint: str) -> Tensor:
        """Where a joint stands at rest (3,)."""
        return self.stands[self.rig.skeleton.index(joint)]

    def standing(self, effectors: Sequence[Effector]) -> list[Effector]:
        """The handles, and the feet where they stand if no handle is on pelvis, hips, legs or feet.

        What has no feet stands on its root.
        """
        names, roles = self.rig.skeleton.names, self.rig.roles
        feet = [names[roles[role]] for role in FEET if role in roles] or [names[self.rig.skeleton.root]]
        lower = {names[joint] for role, joint in roles.items() if role.endswith(LOWER)}
        if any(effector.joint in lower.union(feet) for effector in effectors):
            return list(effectors)
        flat = [Turn(foot, torch.eye(3).double(), FLAT) for foot in feet]
        return [*effectors, *(Place(foot, self.rest(foot), STANDING) for foot in feet), *flat]

    def solve(self, effectors: Sequence[Effector], *, start: tuple[Tensor, Tensor] | None = None) -> Solution:
        """The pose that meets the handles, within this character's limits and near its habit."""
        manner = self.manner
        return solve(self.rig.skeleton, effectors, limits=manner.limits, habit=manner.habit, start=start)

    def motion(self, found: Solution, seconds: float = 1 / 30) -> Motion:
        """What was solved, frame by frame."""
        return Motion(self.rig.skeleton, found.local, found.root, seconds)


def lifted(found: Solution, asked: int, sample: int = 0) -> tuple[str, float]:
    """What stood, of the handles after the first `asked` (`Character.standing`), and how many metres it moved."""
    stood = [effector.joint for effector in found.effectors[asked:] if isinstance(effector, Place)]
    moved = found.misses[sample, asked : asked + len(stood)].tolist()
    return "the feet" if len(stood) > 1 else "".join(stood), max(moved, default=0.0)


def load(path: Path | None, shape: Sequence[float] = (), gender: str = "neutral") -> Character:
    """framefill's body, the one of the package anny (path "anny"), or the character in a file.

    Files: .bvh, .glb, and SMPL's .pkl or .npz.

    Raises BadInput for another kind of file, or a shape for a skeleton that has none; MediaError for a damaged file.
    """
    if path == Path(anny.NAME):
        return wearing(anny.body(gender), shape, gender)
    if path is None or path.suffix.lower() in (".npz", ".pkl"):
        return wearing(human(gender) if path is None else smpl.read(path), shape, gender)
    if shape:
        raise BadInput(f"{path} has no shape to choose; leave --shape out")
    rig = Rig.of(skeleton_of(path))
    _check_size(path, rig)
    stands = torch.from_numpy(rig.positions).clone()
    stands[:, 1] -= stands[:, 1].min()
    return Character(rig, stands, file=path if path.suffix.lower() == ".glb" else None)


def _check_size(path: Path, rig: Rig) -> None:
    """Raises BadInput for a skeleton that cannot be looked at or posed."""
    extent = float(np.ptp(rig.positions, axis=0).max())
    if len(rig.skeleton) < 2 or not SIZES[0] <= extent <= SIZES[1]:
        raise BadInput(
            f"{path} is no character: {len(rig.skeleton)} joint{'s' * (len(rig.skeleton) > 1)}, {extent:.3g} m "
            f"from end to end; give two joints or more within {SIZES[0]:g} to {SIZES[1]:g} m"
        )


def wearing(body: Body, shape: Sequence[float] = (), gender: str = "neutral") -> Character:
    """A body of some shape. Raises BadInput for too many numbers, or shapes that nobody has."""
    numbers = tuple(float(value) for value in shape)
    beyond = [value for value in numbers if abs(value) > WIDEST]
    if beyond:
        raise BadInput(f"a shape with {beyond[0]:g} standard deviations; give numbers from {-WIDEST:g} to {WIDEST:g}")
    return Character(Rig.of(body.skeleton(numbers)), body.rest(numbers).double(), body, numbers, gender)


def own(skeleton: Skeleton) -> Character | None:
    """framefill's body in the shape that has these bones, of the gender that is nearest; None where none has them."""
    shapes = {gender: inversion.exactly(skeleton, human(gender)) for gender in GENDERS}
    found = [(sum(value**2 for value in shape), gender) for gender, shape in shapes.items() if shape is not None]
    gender = min(found, default=(0.0, ""))[1]
    return wearing(human(gender), shapes[gender] or (), gender) if gender else None


def skeleton_of(path: Path) -> Skeleton:
    """The skeleton of a .bvh, .asf or .glb, at rest with nothing turned (of a .glb: as its nodes stand)."""
    suffix = path.suffix.lower()
    if suffix == ".glb":
        return glb.read(path, still=True).skeleton
    if suffix == ".asf":
        return asf.read_skeleton(path).skeleton
    if suffix != ".bvh":
        raise BadInput(f"{path}: a character is .bvh, .glb, .asf, SMPL's .pkl or .npz, or the word anny; give one")
    return bvh.read(path).skeleton
