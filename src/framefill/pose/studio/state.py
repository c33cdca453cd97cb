"""One moment of work, as plain values: character, handles, pose, body and keyframes. Undo is the moment before."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose.characters import Character
from framefill.pose.effectors import Effector, Look, Place, Turn
from framefill.pose.turning import exponential

Kind = Literal["position", "rotation", "look-at"]
KINDS: tuple[Kind, ...] = ("position", "rotation", "look-at")
Three = tuple[float, float, float]


@dataclass(frozen=True)
class Grip:
    """A handle as it is edited: target in metres, or axis times angle in the world; tolerance in metres or radians."""

    joint: str
    kind: Kind
    target: Three
    tolerance: float = 0.0

    @property
    def key(self) -> str:
        """What names it: a joint has at most one handle of each kind."""
        return f"{self.joint}:{self.kind}"

    def effector(self) -> Effector:
        """For the solver. Raises BadInput for numbers that are not finite, or a tolerance below 0."""
        target = torch.tensor(self.target, dtype=torch.float64)
        if self.kind == "position":
            return Place(self.joint, target, self.tolerance)
        if self.kind == "look-at":
            return Look(self.joint, target, tolerance=self.tolerance)
        if not torch.isfinite(target).all():
            raise BadInput(f"the rotation for {self.joint!r} is not finite; give axis times angle in radians")
        return Turn(self.joint, torch.from_numpy(exponential(target.numpy())[0]), self.tolerance)


@dataclass(frozen=True)
class Key:
    """A keyframe: when, the pose, and the handles that made it."""

    seconds: float
    local: Tensor = field(compare=False)
    root: Tensor = field(compare=False)
    grips: tuple[Grip, ...] = ()


@dataclass(frozen=True)
class State:
    """The character as it came, its pose (local (J, 3, 3), root (3,)) and shape, handles, and keys by time."""

    given: Character = field(compare=False, repr=False)
    local: Tensor = field(compare=False)
    root: Tensor = field(compare=False)
    grips: tuple[Grip, ...] = ()
    shape: tuple[float, ...] = ()
    gender: str = "neutral"
    standing: bool = True
    keys: tuple[Key, ...] = ()

    def grip(self, key: str) -> Grip:
        """The handle of that name. Raises BadInput that lists those there are."""
        for grip in self.grips:
            if grip.key == key:
                return grip
        there = ", ".join(grip.key for grip in self.grips) or "none yet"
        raise BadInput(f"there is no handle {key!r}; the handles are: {there}")

    def gripping(self, grip: Grip) -> "State":
        """With this handle, in the place of one of the same name."""
        if any(other.key == grip.key for other in self.grips):
            return replace(self, grips=tuple(grip if other.key == grip.key else other for other in self.grips))
        return replace(self, grips=(*self.grips, grip))

    def letting_go(self, key: str) -> "State":
        """Without a handle. Raises BadInput for one that is not there."""
        gone = self.grip(key)
        return replace(self, grips=tuple(grip for grip in self.grips if grip is not gone))

    def keyed(self, seconds: float) -> "State":
        """With the pose kept at a time, in the place of a key at that time."""
        kept = [key for key in self.keys if key.seconds != seconds]
        made = Key(seconds, self.local, self.root, self.grips)
        return replace(self, keys=tuple(sorted([*kept, made], key=lambda key: key.seconds)))
