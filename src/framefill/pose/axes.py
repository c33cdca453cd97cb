"""Joints' axes in a file, and ours. Files turn joints at rest as they like, Mixamo's thighs by half a turn.

Limits and habit are boxes and Gaussians over axis times angle, which is unique below half a turn only. So everything
here works with turns since rest, told along the axes that the world has at rest. With G the global rotations in the
file, L = G_parent^-1 G the local ones, and R what G is at rest:

    G' = G R^-1        L' = R_parent L R^-1        bones as they lie at rest: o' = R_parent o

A joint that is not turned since rest has L' = 1 whatever its file calls that, and joints are in the same places.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from framefill.pose import kinematics
from framefill.pose.skeleton import Skeleton


@dataclass(frozen=True)
class Axes:
    """Global rotations at rest, in a file's own axes, of every joint and of its parent (J, 3, 3), float64."""

    joint: Tensor = field(compare=False)
    parent: Tensor = field(compare=False)

    @classmethod
    def of(cls, skeleton: Skeleton, local: Tensor) -> "Axes":
        """Those of joints that local rotations (J, 3, 3) turn at rest; the root's is relative to the world."""
        joint = kinematics.forward(skeleton, local.double(), torch.zeros(3, dtype=torch.float64))[1]
        parent = joint[[max(above, 0) for above in skeleton.parents]]
        parent[skeleton.root] = torch.eye(3, dtype=torch.float64)
        return cls(joint, parent)

    @property
    def plain(self) -> bool:
        """Whether the file's axes are the world's."""
        return bool((self.joint - torch.eye(3)).abs().max() < 1e-4)

    def lying(self, skeleton: Skeleton) -> Skeleton:
        """The file's skeleton with its bones as they lie at rest: the one that is turned since then."""
        offsets = (self.parent @ skeleton.offsets.double()[..., None])[..., 0]
        return Skeleton(skeleton.names, skeleton.parents, offsets)

    def since_rest(self, local: Tensor) -> Tensor:
        """The file's local rotations (..., J, 3, 3) as turns since rest."""
        return self.parent @ local.double() @ self.joint.mT

    def in_file(self, turns: Tensor) -> Tensor:
        """Turns since rest (..., J, 3, 3) as the file's local rotations."""
        return self.parent.mT @ turns.double() @ self.joint
