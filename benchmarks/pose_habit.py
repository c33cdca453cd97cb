"""Fits the habit that ships from the training clips of DeepMimic, which count alike, never from the held-out ones.

DeepMimic has no collars, hands, toes, nor a joint between neck and head: these turn at random, as `practice.OURS` says.

    python benchmarks/pose_habit.py shared/data/deepmimic_humanoid.npz src/framefill/data/pose_habit.npz
"""

import argparse
from pathlib import Path

import torch

from framefill.pose import deepmimic, habits, retarget
from framefill.pose.body import NAMES
from framefill.pose.human import human
from framefill.pose.limits import Limits
from framefill.pose.motion import Motion
from framefill.pose.practice import SPREADS
from framefill.pose.retarget import Rig
from framefill.pose.turning import exponential

POSES, SEED = 8000, 0


def with_ours(local: torch.Tensor) -> torch.Tensor:
    """Poses in which the joints that the clips lack turn at random."""
    rng = torch.Generator().manual_seed(SEED)
    local = local.clone()
    for joint, spread in enumerate(SPREADS):
        if spread.any():
            vectors = torch.randn(len(local), 3, generator=rng, dtype=torch.float64) * torch.from_numpy(spread)
            local[:, joint] = torch.from_numpy(exponential(vectors.numpy())[0])
    return local


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("clips", type=Path)
    arguments.add_argument("output", type=Path)
    given = arguments.parse_args()
    local, root = deepmimic.Clips(given.clips).alike("train", POSES)
    source, target = deepmimic.humanoid(), human().tree
    worn = retarget.carry(Motion(source, local, root), Rig.of(source), Rig.of(target)).local
    worn[:, target.root] = torch.eye(3).double()
    worn = with_ours(worn)
    made = habits.Manner.of(torch.cat([worn, habits.mirrored(worn)]))
    low = made.limits.low.clone()
    for side in ("left", "right"):  # knees bend back only
        low[NAMES.index(f"{side}_knee"), 0] = low[NAMES.index(f"{side}_knee"), 0].clamp_min(-habits.MARGIN)
    made = habits.Manner(made.habit, Limits(low, made.limits.high))
    habits.write(given.output, made)
    print(f"{given.output}: {given.output.stat().st_size} bytes from {len(local)} poses and their mirror images")


if __name__ == "__main__":
    main()
