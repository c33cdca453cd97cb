"""How people stand and move, as it ships: a Gaussian over joint turns, how far joints turn, and that they stand up.

Fitted to the training clips of DeepMimic, which count alike (MIT licence; `benchmarks/pose_habit.py`), worn by
framefill's own body, and to their mirror images. Another skeleton gets the habit of that body: poses are drawn from the
Gaussian, put on it by `retarget`, and a Gaussian is fitted again. What is no human (a crane, a snake) has none of this:
it stays near its rest pose.
"""

from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framefill.pose import retarget
from framefill.pose.body import NAMES, PARENTS
from framefill.pose.files import arrays
from framefill.pose.human import human
from framefill.pose.limits import Habit, Limits, Stance
from framefill.pose.motion import Motion
from framefill.pose.retarget import Rig
from framefill.pose.turning import exponential, unit

SHIPPED = Path(__file__).resolve().parents[1] / "data" / "pose_habit.npz"
DRAWN, SEED = 600, 0  # poses drawn for another skeleton
SPREAD = 0.5  # radians by which the joints of what is no human leave their rest
FLOOR, MARGIN = 0.05, 0.15  # radians added to spreads and ranges where a habit is fitted
ALIKE = 0.9  # cosine between limbs at rest: then their turns mean the same
OTHER = {"left": "right", "right": "left"}
OPPOSITE = [NAMES.index("_".join(OTHER.get(word, word) for word in name.split("_"))) for name in NAMES]
SIZES = {"mean": (72,), "factor": (72 * 73 // 2,), "low": (24, 3), "high": (24, 3)}


@dataclass(frozen=True)
class Manner:
    """What a skeleton likes to do, and what it can do."""

    habit: Habit = field(compare=False)
    limits: Limits = field(compare=False)

    @classmethod
    def of(cls, local: Tensor) -> "Manner":
        """Fitted to rotations (N, J, 3, 3). What never turned keeps its place."""
        return cls(Habit.of(local, floor=FLOOR), Limits.of(local, margin=MARGIN))


@cache
def manner() -> Manner:
    """That of framefill's own body, and of SMPL's, whose joints and axes are the same."""
    found = arrays.read(SHIPPED, SIZES)
    part = {name: torch.from_numpy(arrays.need(SHIPPED, found, name, shape)) for name, shape in SIZES.items()}
    factor = torch.zeros(72, 72, dtype=torch.float64)
    factor[*np.tril_indices(72)] = part["factor"]
    return Manner(Habit(part["mean"], factor, Stance.upright(torch.eye(3))), Limits(part["low"], part["high"]))


def write(path: Path, made: Manner) -> None:
    """The file that ships: single precision, the factor's lower triangle row by row."""
    factor = made.habit.factor[*np.tril_indices(72)]
    parts = {"mean": made.habit.mean, "factor": factor, "low": made.limits.low, "high": made.limits.high}
    with path.open("wb") as file:
        arrays_of: dict[str, Any] = {name: part.numpy().astype(np.float32) for name, part in parts.items()}
        np.savez_compressed(file, **arrays_of)


def drawn(count: int = DRAWN) -> Tensor:
    """Poses (count, 24, 3, 3) drawn from the Gaussian within its limits; the same ones every time."""
    known = manner()
    noise = np.random.default_rng(SEED).standard_normal((count, 72))
    vectors = known.habit.mean.numpy() + np.linalg.solve(known.habit.factor.numpy(), noise.T).T
    inside = vectors.reshape(count, 24, 3).clip(known.limits.low.numpy(), known.limits.high.numpy())
    inside[:, 0] = 0
    return torch.from_numpy(exponential(inside)[0])


def human_like(rig: Rig) -> bool:
    """Whether enough joints correspond to a human's that the habit can be put on a rig."""
    return len(rig.roles) >= retarget.LEAST


def note(rig: Rig) -> str:
    """A line where a rig has no habit of people; else nothing."""
    if human_like(rig):
        return ""
    found = ", ".join(sorted(rig.roles)) or "none"
    return f"too few joints of this rig correspond to a human's ({found}), so it is posed near its rest, without habit"


def worn(rig: Rig) -> Manner:
    """The manner of another skeleton: the habit, or, where too few joints correspond, to stay near its rest pose."""
    if not human_like(rig):
        still = torch.eye(3).expand(len(rig.skeleton), 3, 3)
        return Manner(Habit.near(still, spread=SPREAD), Limits.none(len(rig.skeleton)))
    if (rig.skeleton.names, rig.skeleton.parents) == (NAMES, PARENTS) and _lies_alike(rig):
        return manner()
    body, poses = human().tree, drawn()
    motion = Motion(body, poses, torch.zeros(len(poses), 3, dtype=torch.float64))
    made = Manner.of(retarget.carry(motion, Rig.of(body), rig).local)
    return replace(made, habit=replace(made.habit, stance=Stance.upright(torch.eye(3))))


def _lies_alike(rig: Rig) -> bool:
    """Whether the limbs of a rig with our joints point at rest where those of our body do."""
    ends = [i for i, name in enumerate(NAMES) if name.split("_")[-1] in retarget.DIRECTIONS.values()]
    theirs, ours = (unit(skeleton.offsets.double().numpy()[ends]) for skeleton in (rig.skeleton, human().tree))
    return bool(((theirs * ours).sum(-1) > ALIKE).all())


def mirrored(local: Tensor) -> Tensor:
    """Poses (N, 24, 3, 3) of framefill's body with left and right exchanged: x becomes -x."""
    mirror = torch.diag(torch.tensor([-1.0, 1, 1])).to(local)
    return mirror @ local[:, OPPOSITE] @ mirror
