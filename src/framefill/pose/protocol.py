"""How well poses come back from six places: the protocol of issue 9 on DeepMimic's held-out clips.

Poses evenly over the test clips, the true places of root, neck, wrists and ankles, body span 1.31 m; limits and habit
from the training clips alone. Every pose is solved by itself, as users do, and timed in processor time.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from framefill.metrics import pose as metrics
from framefill.pose import deepmimic, kinematics
from framefill.pose.effectors import Place
from framefill.pose.limits import Habit, Limits, Stance
from framefill.pose.skeleton import Skeleton
from framefill.pose.solve import Solution, solve

POSES, SEEN = 300, 8000


@dataclass(frozen=True)
class Case:
    """Held-out poses with their handles, and what was learned from the training clips."""

    skeleton: Skeleton
    local: Tensor
    positions: Tensor
    limits: Limits
    habit: Habit

    @classmethod
    def of(cls, clips: deepmimic.Clips, *, poses: int = POSES, seen: int = SEEN) -> "Case":
        """Raises MediaError for an archive that is damaged, BadInput for more poses than there are."""
        skeleton = deepmimic.humanoid()
        local, root = clips.poses("test", poses)
        known, _ = clips.alike("train", seen)
        seated = known.clone()  # how the root is turned is the stance's part
        seated[:, skeleton.root] = torch.eye(3).double()
        habit = replace(Habit.of(seated), stance=Stance.upright(torch.eye(3)))
        positions, _ = kinematics.forward(skeleton, local, root)
        return cls(skeleton, local, positions, deepmimic.limits(known), habit)

    def handles(self, pose: int) -> list[Place]:
        """The six places of one pose."""
        return [Place(name, self.positions[pose, self.skeleton.index(name)]) for name in deepmimic.HANDLES]


def run(case: Case, *, steps: int = 80) -> tuple[list[Solution], list[float]]:
    """Every pose solved by itself, and the milliseconds of processor time that each took."""
    found, taken = [], []
    for pose in range(len(case.local)):
        begun = time.process_time()
        found.append(solve(case.skeleton, case.handles(pose), limits=case.limits, habit=case.habit, steps=steps))
        taken.append(1000 * (time.process_time() - begun))
    return found, taken


def table(case: Case, found: list[Solution], taken: list[float]) -> dict[str, float]:
    """The figures of the issue: mm, radians, milliseconds. GE is the mean over the joints that turn."""
    made, true = torch.cat([one.positions for one in found]).numpy(), case.positions.numpy()
    turning = [case.skeleton.index(name) for name in deepmimic.turning()]
    local = torch.cat([one.local for one in found])
    misses = 1000 * torch.cat([one.misses for one in found])
    return {
        "poses": len(made),
        "mpjpe_mm": metrics.mpjpe(made, true).mean().item(),
        "aligned_mpjpe_mm": metrics.aligned_mpjpe(made, true).mean().item(),
        "pa_mpjpe_mm": metrics.procrustes_mpjpe(made, true).mean().item(),
        "ge_rad": metrics.geodesic(local[:, turning].numpy(), case.local[:, turning].numpy()).mean().item(),
        "handles_mean_mm": misses.mean().item(),
        "handles_worst_mm": misses.max().item(),
        "median_ms": float(np.median(taken)),
        "p95_ms": float(np.percentile(taken, 95)),
    }
