"""The protocol of issue 9: 300 poses of the held-out DeepMimic clips from six pinned places, body span 1.31 m.

    python benchmarks/pose_solve.py CLIPS.npz [--timed 60]

prints one line per way of solving: from zero (the pose with nothing turned, root at the origin, as the L-BFGS reference
begins) and from the mean of the habit; limits and habit are taken from the training clips alone. GE is the mean over
the 13 joints that turn. Times are for one pose at a time on one thread.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from framefill.metrics import pose as metrics
from framefill.pose import deepmimic, kinematics
from framefill.pose.effectors import Place
from framefill.pose.limits import Habit
from framefill.pose.solve import Solution, solve

POSES, SEEN = 300, 8000
# Issue 9, on a machine of this kind, from zero: MPJPE, effector error, GE, milliseconds.
REFERENCES = {"L-BFGS from zero (issue 9)": (81.7, 1.4, 0.73, 56.0)}


def line(name: str, found: Solution, truth: torch.Tensor, local: torch.Tensor, times: np.ndarray) -> str:
    turning = [deepmimic.NAMES.index(joint) for joint in deepmimic.turning()]
    made, true = found.positions.numpy(), truth.numpy()
    angle = metrics.geodesic(found.local[:, turning].numpy(), local[:, turning].numpy()).mean()
    misses = 1000 * found.misses
    return (
        f"{name:36}  MPJPE {metrics.mpjpe(made, true).mean():5.1f}  pelvis-aligned "
        f"{metrics.aligned_mpjpe(made, true).mean():5.1f}  PA {metrics.procrustes_mpjpe(made, true).mean():5.1f}  "
        f"handles {misses.mean():.3f} (worst {misses.max():.2f}) mm, within 1 mm {found.met().double().mean():.1%}  "
        f"GE {angle:.3f}  {np.median(times):.1f} ms ({np.percentile(times, 95):.1f} at the 95th percentile)"
    )


def timed(handles: list[Place], count: int, **options) -> np.ndarray:
    """Milliseconds of processor time of single solves, evenly over the poses."""
    taken = []
    for i in np.linspace(0, POSES - 1, count).astype(int):
        single = [Place(handle.joint, handle.target[i]) for handle in handles]
        begun = time.process_time()
        solve(deepmimic.humanoid(), single, **options)
        taken.append(1000 * (time.process_time() - begun))
    return np.array(taken)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("clips", type=Path)
    arguments.add_argument("--timed", type=int, default=60)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    clips, skeleton = deepmimic.Clips(given.clips), deepmimic.humanoid()
    seen, _ = clips.poses("train", SEEN)
    local, root = clips.poses("test", POSES)
    truth, _ = kinematics.forward(skeleton, local, root)
    handles = [Place(name, truth[:, skeleton.index(name)]) for name in deepmimic.HANDLES]
    limits, habit = deepmimic.limits(seen), Habit.of(seen)
    zero = torch.eye(3).double().expand(15, 3, 3), torch.zeros(3).double()
    for name, (error, miss, angle, milliseconds) in REFERENCES.items():
        print(f"{name:36}  MPJPE {error:5.1f}  handles {miss} mm  GE {angle}  {milliseconds} ms")
    ways = {
        "zero, no limits, no habit": {"start": zero},
        "zero, limits": {"start": zero, "limits": limits},
        "zero, limits, habit": {"start": zero, "limits": limits, "habit": habit},
        "mean of the habit, limits, habit": {"limits": limits, "habit": habit},
    }
    for name, options in ways.items():
        found = solve(skeleton, handles, **options)
        print(line(name, found, truth, local, timed(handles, given.timed, **options)), flush=True)


if __name__ == "__main__":
    main()
