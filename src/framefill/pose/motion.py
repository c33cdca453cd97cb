"""A motion: one skeleton, and for every frame how its joints are turned and where its root is. A pose is one frame."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose import kinematics
from framefill.pose.skeleton import Skeleton


@dataclass(frozen=True)
class Motion:
    """Local rotations (T, J, 3, 3), the root joint's world position (T, 3) in metres, and the seconds of a frame.

    Raises BadInput for sizes that do not fit, numbers that are not finite, or a frame that takes no time.
    """

    skeleton: Skeleton
    local: Tensor = field(compare=False)
    root: Tensor = field(compare=False)
    seconds: float = 1 / 30

    def __post_init__(self) -> None:
        wanted = (len(self.root), len(self.skeleton), 3, 3)
        if self.local.shape != wanted or self.root.shape != (wanted[0], 3):
            raise BadInput(
                f"rotations {tuple(self.local.shape)} and root {tuple(self.root.shape)} for {len(self.skeleton)} "
                "joints; give (T, J, 3, 3) and (T, 3)"
            )
        if not (torch.isfinite(self.local).all() and torch.isfinite(self.root).all()):
            raise BadInput("a motion with numbers that are not finite; leave those frames out")
        if not 0 < self.seconds < float("inf"):
            raise BadInput(f"frames of {self.seconds} seconds; give a time above 0")

    def __len__(self) -> int:
        return len(self.root)

    def world(self) -> tuple[Tensor, Tensor]:
        """World positions (T, J, 3) and global rotations (T, J, 3, 3)."""
        return kinematics.forward(self.skeleton, self.local, self.root)

    def frames(self, which: slice | Sequence[int]) -> "Motion":
        """Some of the frames."""
        return Motion(self.skeleton, self.local[which], self.root[which], self.seconds)

    def ordered(self, skeleton: Skeleton) -> "Motion":
        """The same on a skeleton that has the same joints in another order."""
        which = [self.skeleton.index(name) for name in skeleton.names]
        return Motion(skeleton, self.local[:, which], self.root, self.seconds)
