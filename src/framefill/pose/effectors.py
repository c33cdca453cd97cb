"""Handles: where a joint should be, how it should be turned, or what it should look at, and how exactly.

Joints' own axes are the world's at rest (`axes`): global rotations are turns in the world since then. A tolerance is
the standard deviation that a handle allows: metres for a place, radians for a direction. 0 pins it. Targets may be one
for all, or one for each pose of a batch.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from framefill.errors import BadInput

FARTHEST = 1e6  # metres: a place beyond is a slip of the pen, and its square may not be a number
SLACK = 1e-4  # how far from 1 a rotation's determinant or its rows' products may be


@dataclass(frozen=True)
class Place:
    """The joint's world position: target (3,) or (B, 3) in metres.

    depth: metres by which z may be wrong besides the tolerance, for places seen by a camera that looks along z.
    """

    joint: str
    target: Tensor = field(compare=False)
    tolerance: float = 0.0
    depth: float = 0.0

    def __post_init__(self) -> None:
        _check(self.joint, "position", self.target, (3,), self.tolerance)
        _check(self.joint, "position", self.target, (3,), self.depth)
        _check_near(self.joint, self.target)

    @property
    def slack(self) -> tuple[float, float, float]:
        """The tolerance along x, y and z."""
        return self.tolerance, self.tolerance, self.tolerance + self.depth


@dataclass(frozen=True)
class Turn:
    """The joint's global rotation: target (3, 3) or (B, 3, 3)."""

    joint: str
    target: Tensor = field(compare=False)
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        _check(self.joint, "rotation", self.target, (3, 3), self.tolerance)
        difference = self.target @ self.target.mT - torch.eye(3).to(self.target)
        if difference.abs().max() > SLACK or (torch.linalg.det(self.target) < 0).any():
            raise BadInput(f"the rotation for {self.joint!r} is no rotation matrix; its rows must be orthonormal")


@dataclass(frozen=True)
class Look:
    """The joint's `axis` (3,), in its own frame, points from the joint to the world position target (3,) or (B, 3)."""

    joint: str
    target: Tensor = field(compare=False)
    axis: Tensor = field(compare=False, default_factory=lambda: torch.tensor([0.0, 0.0, 1.0]))
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        _check(self.joint, "look-at", self.target, (3,), self.tolerance)
        _check_near(self.joint, self.target)
        if self.axis.shape != (3,) or not torch.isfinite(self.axis).all() or self.axis.norm() < 1e-6:
            raise BadInput(f"the axis that {self.joint!r} looks along must be three finite numbers, not all zero")


Effector = Place | Turn | Look


def _check(joint: str, kind: str, target: Tensor, shape: tuple[int, ...], tolerance: float) -> None:
    fits = target.shape[-len(shape) :] == shape and target.ndim <= len(shape) + 1
    if not fits or not torch.isfinite(target).all():
        raise BadInput(f"the {kind} for {joint!r} is {tuple(target.shape)} or not finite; give {shape} finite numbers")
    if not 0 <= tolerance < float("inf"):
        raise BadInput(f"a tolerance of {tolerance} for {joint!r}; give 0 (pinned) or more, in metres or radians")


def _check_near(joint: str, target: Tensor) -> None:
    if target.numel() and target.abs().max() > FARTHEST:
        raise BadInput(
            f"a target for {joint!r} {target.abs().max():.1e} metres away; give at most {FARTHEST:.0e} metres"
        )
