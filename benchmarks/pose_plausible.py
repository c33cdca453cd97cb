"""What issue 9 asks beside the solver: samples, uncertainty, recovery, shape from bones, random handles, motion.

    python benchmarks/pose_plausible.py CLIPS.npz [--poses 300] [--recovered 30] [--shapes 40]

Poses are of the held-out DeepMimic clips; habit and limits from the training clips. Spearman's rank correlation is over
joints without a handle, of all poses, between the Laplace standard deviation and the error of the likeliest pose.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from framefill.pose import deepmimic, inversion, kinematics, plausible, protocol, recover, steady
from framefill.pose.effectors import Look, Place, Turn
from framefill.pose.habits import Manner
from framefill.pose.human import human
from framefill.pose.retarget import Rig
from framefill.pose.skeleton import Skeleton
from framefill.pose.solve import solve

STEADY = 1.5  # frames
SAMPLES, TALL = 8, 1.7 / 1.311  # the protocol's body is 1.31 m from ankles to shoulders


def ranks(values: np.ndarray) -> np.ndarray:
    return values.argsort().argsort().astype(float)


def samples(case: protocol.Case, manner: Manner, which: np.ndarray) -> str:
    single, best, spread, error = [], [], [], []
    free = [i for i, name in enumerate(case.skeleton.names) if name not in deepmimic.HANDLES]
    for pose in which:
        found = plausible.several(case.skeleton, case.handles(pose), manner, SAMPLES, np.random.default_rng(int(pose)))
        away = 1000 * (found.positions - case.positions[pose]).norm(dim=-1)
        single.append(away[0].mean().item())
        best.append(away.mean(1).min().item())
        spread.append(1000 * plausible.uncertainty(case.skeleton, found, manner)[free].numpy())
        error.append(away[0, free].numpy())
    sure, off = np.concatenate(spread), np.concatenate(error)
    return (
        f"samples: single {np.mean(single):.1f} mm, best of {SAMPLES} {np.mean(best):.1f} mm, ratio "
        f"{np.mean(best) / np.mean(single):.3f}; Spearman {np.corrcoef(ranks(sure), ranks(off))[0, 1]:.3f}; "
        f"predicted {sure.mean():.0f} mm, found {off.mean():.0f} mm"
    )


def recovered(case: protocol.Case, manner: Manner, which: np.ndarray) -> str:
    found = [
        recover.recover(case.skeleton, case.local[pose], case.positions[pose, 0], manner, enough=20.0) for pose in which
    ]
    errors, counts = np.array([one.errors[-1] for one in found]), [len(one.handles) for one in found]
    return (
        f"recovery: {np.mean(errors <= 20):.0%} of {len(which)} poses to 20 mm with {np.mean(counts):.1f} handles "
        f"(at most {max(counts)}); median error {np.median(errors):.1f} mm, worst {errors.max():.1f} mm"
    )


def shapes(count: int) -> str:
    rng, body, lines = np.random.default_rng(0), human(), []
    rigs = []
    for _ in range(count):
        shape, size = rng.standard_normal(10), rng.uniform(0.5, 1.8)
        offsets = size * body.offsets(torch.tensor(shape).float()).double()
        rigs.append(Rig.of(Skeleton(body.names, body.parents, offsets)))
    for name, way in (("kernel", inversion.by_kernel), ("optimisation", inversion.by_optimisation)):
        errors = [way(rig, body).error for rig in rigs]
        lines.append(f"shape by {name}: mean bone error {np.mean(errors):.2f} mm, worst {max(errors):.2f} mm")
    return "\n".join(lines)


def anything(case: protocol.Case, manner: Manner, which: np.ndarray) -> str:
    """Random 3 to 16 handles of all kinds, at least 3 places, on a body of 1.7 m."""
    rng, errors = np.random.default_rng(0), []
    tall = Skeleton(case.skeleton.names, case.skeleton.parents, TALL * case.skeleton.offsets)
    for pose in which:
        truth, turned = kinematics.forward(tall, case.local[pose], TALL * case.positions[pose, 0])
        handles = []
        for number in range(rng.integers(3, 17)):
            joint = int(rng.integers(len(tall)))
            name, kind = tall.names[joint], 0 if number < 3 else rng.integers(3)
            axis = torch.from_numpy(rng.standard_normal(3))
            far = 0.001 + 5 * abs(rng.standard_normal())
            ahead = truth[joint] + far * turned[joint] @ (axis / axis.norm())
            handles.append([Place(name, truth[joint]), Turn(name, turned[joint]), Look(name, ahead, axis)][kind])
        found = solve(tall, handles, limits=manner.limits, habit=manner.habit)
        errors.append(1000 * (found.positions[0] - truth).norm(dim=-1).mean().item())
    return (
        f"random 3 to 16 handles of all kinds at 1.7 m: MPJPE {np.mean(errors):.1f} mm (median {np.median(errors):.1f})"
    )


def trembling(case: protocol.Case, manner: Manner, clips: deepmimic.Clips) -> str:
    """Six handles over the first 4 s of the held-out clips: exact; with 1 cm of noise; the latter steadied."""
    rng, rows = torch.Generator().manual_seed(0), []
    jerk = lambda places: 1000 * (places[2:] - 2 * places[1:-1] + places[:-2]).norm(dim=-1).mean().item()  # noqa: E731
    for _, clip in clips.motions("test"):
        part = clip.frames(slice(0, max(3, round(4 / clip.seconds))))
        truth, _ = part.world()
        exact = [Place(name, truth[:, case.skeleton.index(name)]) for name in deepmimic.HANDLES]
        noise = [0.01 * torch.randn(len(truth), 3, generator=rng, dtype=torch.float64) for _ in exact]
        noisy = [Place(one.joint, one.target + off, 0.02) for one, off in zip(exact, noise, strict=True)]
        evenly, found = (
            solve(case.skeleton, told, limits=manner.limits, habit=manner.habit) for told in (exact, noisy)
        )
        calm = steady.held(case.skeleton, noisy, *steady.averaged(found.local, found.root, STEADY), manner.limits)
        ways = [one.positions for one in (evenly, found, calm)]
        errors = [1000 * (places - truth).norm(dim=-1).mean().item() for places in ways]
        rows.append([jerk(truth), *map(jerk, ways), *errors])
    mean = np.mean(rows, 0)
    return (
        f"motion, {len(rows)} clips: acceleration {mean[0]:.1f} mm a frame squared, from exact handles {mean[1]:.1f}, "
        f"from noisy ones {mean[2]:.1f}, steadied over {STEADY} frames {mean[3]:.1f}; error {mean[4]:.1f}, "
        f"{mean[5]:.1f}, {mean[6]:.1f} mm"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("clips", type=Path)
    arguments.add_argument("--poses", type=int, default=300)
    arguments.add_argument("--recovered", type=int, default=30)
    arguments.add_argument("--shapes", type=int, default=40)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    case = protocol.Case.of(deepmimic.Clips(given.clips))
    manner = Manner(case.habit, case.limits)
    over = lambda count: np.linspace(0, len(case.local) - 1, count).round().astype(int)  # noqa: E731
    print(trembling(case, manner, deepmimic.Clips(given.clips)), flush=True)
    print(anything(case, manner, over(given.poses)), flush=True)
    print(shapes(given.shapes), flush=True)
    print(samples(case, manner, over(given.poses)), flush=True)
    print(recovered(case, manner, over(given.recovered)), flush=True)


if __name__ == "__main__":
    main()
