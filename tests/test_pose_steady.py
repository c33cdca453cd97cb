"""Frames of a motion from points that tremble: the motion stays, the tremble goes, what is pinned is met."""

import json

import numpy as np
import pytest
import torch

from framefill.errors import BadInput
from framefill.pose import habits, kinematics, rotations, steady
from framefill.pose.effectors import Place
from framefill.pose.human import human
from framefill.pose.solve import solve

BODY = human().tree
HOLDS = ("pelvis", "neck", "left_wrist", "right_wrist", "left_ankle", "right_ankle")


def swing(frames=24):
    """A motion from one pose to another, and where its root goes."""
    a, b = habits.drawn(2)
    way = rotations.to_axis_angle(a.mT @ b)
    part = (1 - torch.cos(torch.linspace(0, torch.pi, frames).double())) / 2
    local = a @ rotations.from_axis_angle(part[:, None, None] * way)
    return local, torch.stack([part, 0.9 + 0 * part, 0 * part], 1)


def jerk(positions):
    return (positions[2:] - 2 * positions[1:-1] + positions[:-2]).norm(dim=-1).mean()


def test_even_motion_is_kept_to_its_very_ends():
    even = torch.linspace(0, 1, 9).double()[:, None].repeat(1, 3)
    turns = rotations.from_axis_angle(even[:, None] * torch.tensor([0.3, 0.2, 0.1]).double())
    local, root = steady.averaged(turns, even, 2.0)
    torch.testing.assert_close(root, even)
    torch.testing.assert_close(local, turns)


def test_one_frame_that_leaps_is_spread_by_a_gaussian():
    root = torch.zeros(9, 3).double()
    root[4] = 1
    local = torch.eye(3).double().expand(9, 2, 3, 3)
    weight = np.exp(-np.square(np.arange(-3, 4)) / 2)
    made = steady.averaged(local, root, 1.0)[1][:, 0]
    np.testing.assert_allclose(made[4], 1 / weight.sum())
    np.testing.assert_allclose(made[5], weight[2] / weight.sum())
    for frame in (0, 1, 7, 8):  # at the ends the line through what neighbours there are
        near = np.arange(max(0, frame - 3), min(9, frame + 4))
        line = np.polyfit(near - frame, root[near, 0], 1, w=np.exp(-np.square(near - frame) / 4))
        np.testing.assert_allclose(made[frame], line[1], atol=1e-12)


@pytest.mark.parametrize(("count", "frames"), [(1, 2.0), (2, 2.0), (9, 0.2)])
def test_too_few_neighbours_change_nothing(count, frames):
    local, root = swing(count)
    made = steady.averaged(local, root, frames)
    torch.testing.assert_close(made[0], local)
    torch.testing.assert_close(made[1], root)


def test_the_ends_are_steadied_as_the_rest_is():
    frame = torch.arange(400).double()
    noise = torch.randn(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).reshape(50, 8, 3)
    still = torch.eye(3).double().expand(8, 1, 3, 3)
    made = torch.stack([steady.averaged(still, one + frame[:8, None], 1.5)[1] for one in noise]) - frame[:8, None]
    before, after = noise[:, [0, -1]].std(), made[:, [0, -1]].std()
    assert after < 0.9 * before  # a window that shrinks leaves them as they are


def test_what_trembles_is_steadied_and_comes_nearer_to_the_truth():
    local, root = swing()
    truth, _ = kinematics.forward(BODY, local, root)
    noise = 0.01 * torch.randn(len(root), 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    handles = [Place(name, truth[:, BODY.index(name)] + noise[:, i], 0.02) for i, name in enumerate(HOLDS)]
    manner = habits.worn(habits_rig())
    found = solve(BODY, handles, limits=manner.limits, habit=manner.habit)
    calm = steady.held(BODY, handles, *steady.averaged(found.local, found.root, 1.5), manner.limits)
    assert jerk(found.positions) > 6 * jerk(truth)
    assert jerk(calm.positions) < 1.5 * jerk(truth)
    assert (calm.positions - truth).norm(dim=-1).mean() < (found.positions - truth).norm(dim=-1).mean()
    wrist = calm.positions[:, BODY.index("left_wrist")] - handles[2].target
    torch.testing.assert_close(calm.misses[:, 2], wrist.norm(dim=-1))  # what is told is of the poses that are given


def habits_rig():
    from framefill.pose.retarget import Rig

    return Rig.of(BODY)


def test_what_is_pinned_is_met_again():
    local, root = swing()
    places, _ = kinematics.forward(BODY, local, root)
    pins = [Place(name, places[:, BODY.index(name)]) for name in HOLDS]
    calm = steady.held(BODY, pins, *steady.averaged(local, root, 3.0))
    assert calm.misses.max() < 1e-3


@pytest.mark.parametrize("frames", [0.0, -1.0, float("nan"), 1e9])
def test_frames_that_make_no_sense(frames):
    with pytest.raises(BadInput, match="give more than 0"):
        steady.averaged(*swing(4), frames)


def test_the_verbs_steady_what_they_are_told_to(call, tmp_path):
    rng = np.random.default_rng(0)
    targets = [np.array([0.35 + 0.01 * step, 1.2, 0.25]) + rng.normal(0, 0.01, 3) for step in range(12)]
    word = "left_wrist=" + ";".join(",".join(f"{value:.4f}" for value in target) for target in targets) + "~0.02"
    points = tmp_path / "points.json"
    local, root = swing(24)
    seen = kinematics.forward(BODY, local, root)[0] + 0.01 * torch.from_numpy(rng.standard_normal((24, 24, 3)))
    points.write_text(json.dumps(seen.tolist()))
    for words in (("solve", "-e", word), ("keypoints", points, "--layout", "smpl")):
        made = []
        for steadied in ((), ("--steady", "1.5")):
            code, out, told = call("pose", *words, *steadied, "--json")
            assert code == 0, told
            made.append(torch.tensor([[*pose["positions"].values()] for pose in json.loads(out)["poses"]]))
        assert jerk(made[1]) < 0.5 * jerk(made[0])
    leaps = "left_wrist=0.4,1.1,0.2;0.5,1.2,0.3;0.3,1.4,0.2~0.01"  # met, then averaged away: no reason to refuse
    assert call("pose", "solve", "-e", leaps, "--steady", "1.5")[0] == 0
    assert call("pose", "solve", "-e", word, "-n", "2", "--steady", "1")[0] == 2
    code, out, told = call("pose", "solve", "-e", word, "--steady=-1")
    assert (code, out) == (2, "")
    assert "give more than 0" in told
