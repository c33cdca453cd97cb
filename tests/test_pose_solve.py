"""The solver: its Jacobian against differences, pins to a millimetre, limits kept, and impossible targets named."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from framefill.errors import BadInput
from framefill.metrics import pose as metrics
from framefill.pose import deepmimic, kinematics, rotations, solve, turning
from framefill.pose.effectors import Look, Place, Turn
from framefill.pose.human import human
from framefill.pose.limits import Habit, Limits
from framefill.pose.problem import Problem

SHARED = Path(__file__).resolve().parents[2] / "shared/data/deepmimic_humanoid.npz"
RNG = torch.Generator().manual_seed(6)
BODY = human().tree


def posed(batch: int = 1, size: float = 0.4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random poses of the human body: local rotations, positions, global rotations."""
    vectors = size * torch.randn(batch, 24, 3, generator=RNG, dtype=torch.float64)
    root = torch.randn(batch, 3, generator=RNG, dtype=torch.float64)
    local = rotations.from_axis_angle(vectors)
    return local, *kinematics.forward(BODY, local, root)


def places(positions: torch.Tensor, names: str, tolerance: float = 0.0) -> list[Place]:
    return [Place(name, positions[:, BODY.index(name)], tolerance) for name in names.split()]


ENDS = "pelvis neck left_wrist right_wrist left_ankle right_ankle"


def test_the_jacobian_is_the_derivative():
    _, positions, turned = posed(2)
    handles = [
        Look("head", torch.randn(2, 3, generator=RNG).double(), torch.tensor([0.2, 0.1, 1.0])),
        *places(positions + 0.1, "left_wrist right_foot"),
        Turn("left_elbow", turned[:, 3]),
    ]
    problem = Problem(BODY, tuple(handles), None, None, None)
    local, _, _ = posed(2)
    problem.local = local.numpy()
    state = problem.start()
    found = problem.targets.jacobian(state.positions, state.turned, *problem.axes(state))
    step = 1e-6
    for variable in [*range(9), *range(9, found.shape[1], 5)]:
        ends = []
        for sign in (1, -1):
            change = np.zeros(found.shape[1])
            change[variable] = sign * step
            turn = turning.exponential(change[3:6])[0] @ state.local[:, 0]
            ends.append(problem.state(state.x + change[6:], turn, state.place + change[:3]).residual)
        np.testing.assert_allclose(found[:, variable], (ends[0] - ends[1]) / (2 * step), atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [0.0, 1e-5, 0.3, 2.0])
def test_the_exponential_and_its_left_jacobian(size):
    vector = size * torch.nn.functional.normalize(torch.randn(3, generator=RNG, dtype=torch.float64), dim=0)
    rotation, jacobian = map(torch.from_numpy, turning.exponential(vector.numpy()))
    torch.testing.assert_close(rotation, torch.linalg.matrix_exp(rotations.cross_matrix(vector)), atol=1e-12, rtol=0)
    small = 1e-6 * torch.randn(3, generator=RNG, dtype=torch.float64)
    turned = torch.linalg.matrix_exp(rotations.cross_matrix(vector + small)) @ rotation.T
    torch.testing.assert_close(rotations.to_axis_angle(turned), jacobian @ small, atol=1e-11, rtol=0)


def test_pinned_places_are_met_to_a_millimetre():
    _, positions, _ = posed(8)
    found = solve.solve(BODY, places(positions, ENDS))
    assert found.met().all()
    assert found.misses.max() < 1e-3
    wrist = BODY.index("left_wrist")
    torch.testing.assert_close(found.positions[:, wrist], positions[:, wrist], atol=1e-3, rtol=0)
    made = kinematics.forward(BODY, found.local, found.root)[0]
    torch.testing.assert_close(made, found.positions)
    assert found.report() == []


def test_rotations_and_looks_are_met_too():
    _, positions, turned = posed(3)
    axis = torch.tensor([0.0, 0.0, 2.0])
    head = BODY.index("head")
    goal = positions[:, head] + turned[:, head] @ axis.double() + torch.tensor([0.3, 0.2, -0.3])
    handles = [
        Look("head", goal, axis),
        Turn("left_wrist", turned[:, BODY.index("left_wrist")]),
        *places(positions, ENDS),
    ]
    found = solve.solve(BODY, handles)
    assert found.misses.shape == (3, 8)
    assert found.misses.max() < 1e-3
    look = found.rotations[:, BODY.index("head")] @ torch.tensor([0.0, 0, 1]).double()
    way = torch.nn.functional.normalize(goal - found.positions[:, BODY.index("head")], dim=-1)
    torch.testing.assert_close(look, way, atol=1e-3, rtol=0)
    assert rotations.angle(found.rotations[:, BODY.index("left_wrist")], handles[1].target).max() < 1e-3


def test_every_handle_at_once_gives_the_pose_back():
    local, positions, turned = posed(2)
    handles = [*places(positions, " ".join(BODY.names)), *(Turn(n, turned[:, i]) for i, n in enumerate(BODY.names))]
    found = solve.solve(BODY, handles)
    assert rotations.angle(found.local, local).max() < 2e-3


def test_a_batch_is_solved_as_its_poses_alone():
    _, positions, _ = posed(3)
    together, alone = solve.solve(BODY, places(positions, ENDS)), solve.solve(BODY, places(positions[1:2], ENDS))
    torch.testing.assert_close(together.positions[1], alone.positions[0], atol=1e-3, rtol=0)


def test_an_impossible_target_says_how_far_it_got():
    far = torch.tensor([5.0, 0.0, 0.0], dtype=torch.float64)
    rest = kinematics.rest(BODY).double()
    handles = [Place("pelvis", torch.zeros(3)), Place("left_wrist", far)]
    limits = Limits.none(24)
    found = solve.solve(BODY, handles, limits=limits)
    assert not found.met().any()
    # two equal pins share the gap that is left when the chain from pelvis to wrist is straight
    chain = sum(
        BODY.lengths[BODY.index(n)]
        for n in ["spine1", "spine2", "spine3", "left_collar", "left_shoulder", "left_elbow", "left_wrist"]
    )
    assert found.misses.sum().item() == pytest.approx(5 - chain.item(), abs=0.05)
    lines = found.report()
    assert len(lines) == 2
    assert all("came no closer than" in line and "mm from its place" in line for line in lines)
    assert torch.isfinite(rest).all()


def test_an_impossible_direction_is_named_in_radians():
    high = torch.zeros(24, 3)
    handles = [Turn("pelvis", torch.eye(3)), Turn("head", rotations.from_axis_angle(torch.tensor([0.0, 2.0, 0])))]
    found = solve.solve(BODY, handles, limits=Limits(-high, high))
    assert found.misses.sum().item() == pytest.approx(2, abs=1e-2)
    assert "rad off" in found.report()[0]


def test_tolerances_say_who_gives_way():
    near, far = torch.tensor([0.0, 0, 0]), torch.tensor([0.0, 10.0, 0])
    found = solve.solve(BODY, [Place("pelvis", near), Place("head", far, 0.5)])
    assert found.misses[0, 0] < 0.01
    assert found.misses[0, 1] > 5


def test_limits_are_kept():
    _, positions, _ = posed(6, 0.8)
    high = 0.3 * torch.ones(24, 3)
    high[BODY.index("left_knee"), 1:] = 0  # a hinge
    found = solve.solve(BODY, places(positions, ENDS), limits=Limits(-high, high))
    vectors = rotations.to_axis_angle(found.local)[:, 1:]
    assert (vectors.abs() <= high[1:] + 1e-6).all()
    assert vectors[:, BODY.index("left_knee") - 1, 0].abs().max() > 1e-3


def test_a_straight_leg_finds_the_way_its_knee_bends():
    high = torch.zeros(24, 3)
    low = high.clone()
    high[BODY.index("left_knee"), 0] = 2.5  # bends back only, and straight is a dead point
    low[BODY.index("left_hip")], high[BODY.index("left_hip")] = -2, 2
    rest = kinematics.rest(BODY).double()
    handles = [
        Turn("pelvis", torch.eye(3)),
        Place("pelvis", rest[0]),
        Place("left_ankle", rest[BODY.index("left_ankle")] + torch.tensor([0, 0.3, 0])),
    ]
    start = torch.eye(3).expand(24, 3, 3), rest[0]
    found = solve.solve(BODY, handles, limits=Limits(low, high), start=start)
    assert found.met().all()
    assert rotations.to_axis_angle(found.local)[0, BODY.index("left_knee"), 0] > 0.5


def test_habits_decide_what_handles_leave_open():
    local, positions, _ = posed(1)
    found = solve.solve(BODY, places(positions, "pelvis left_hip right_hip"), habit=Habit.near(local[0], spread=0.2))
    torch.testing.assert_close(found.local[0, 1:], local[0, 1:], atol=0.02, rtol=0)
    torch.testing.assert_close(found.positions, positions, atol=0.02, rtol=0)


def test_a_proposal_is_refined_and_not_forgotten():
    local, positions, _ = posed(4)
    start = local.clone()
    start[:, BODY.index("left_elbow")] = rotations.from_axis_angle(torch.tensor([0.0, -0.5, 0.0]).double())
    found = solve.solve(BODY, places(positions, ENDS), start=(start, positions[:, 0]))
    assert found.met().all()
    assert metrics.mpjpe(found.positions.numpy(), positions.numpy()).mean() < 25
    assert found.steps < 40


def test_habits_of_motion_are_gaussians():
    vectors = torch.randn(4000, 2, 3, generator=RNG, dtype=torch.float64) * torch.tensor([0.3, 0.1, 0.2])
    vectors[:, 1, 0] = 0.5 * vectors[:, 0, 0]
    habit = Habit.of(rotations.from_axis_angle(vectors), floor=0.01)
    covariance = torch.linalg.inv(habit.factor.T @ habit.factor) - 1e-4 * torch.eye(6)
    torch.testing.assert_close(covariance, torch.cov(vectors.flatten(1).T), atol=1e-3, rtol=0)


def test_limits_of_motion_are_its_range():
    vectors = torch.tensor([[[0.0, -0.2, 0.3]], [[0.0, 0.5, 0.1]]])
    limits = Limits.of(rotations.from_axis_angle(vectors), margin=0.1)
    torch.testing.assert_close(limits.low, torch.tensor([[0, -0.3, 0.0]]).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(limits.high, torch.tensor([[0, 0.6, 0.4]]).double(), atol=1e-6, rtol=0)


def test_what_does_not_fit_is_refused():
    head = Place("head", torch.zeros(3))
    cases = [
        (lambda: solve.solve(BODY, []), "0 handles and 80 steps"),
        (lambda: solve.solve(BODY, [Place("hed", torch.zeros(3))]), "the nearest are head"),
        (lambda: solve.solve(BODY, [head], limits=Limits.none(3)), "limits of 3 joints"),
        (lambda: solve.solve(BODY, [head], habit=Habit(torch.zeros(3), torch.eye(3))), "a habit of 3 angles"),
        (lambda: solve.solve(BODY, [head], start=(torch.eye(3), torch.zeros(3))), "a start of rotations"),
        (
            lambda: solve.solve(BODY, [Place("head", torch.zeros(2, 3)), Place("neck", torch.zeros(3, 3))]),
            "of 2, 3 poses",
        ),
        (lambda: Limits(torch.ones(2, 3), torch.zeros(2, 3)), "give low <= high"),
        (lambda: Limits(torch.zeros(2, 3), torch.full((2, 3), 3.1)), "-3 to 3 radians"),
        (lambda: Habit(torch.zeros(3), torch.full((1, 3), math.nan)), "give finite"),
        (lambda: Habit.near(torch.eye(3)[None], spread=0), "more than 0"),
    ]
    for call, message in cases:
        with pytest.raises(BadInput, match=message):
            call()


@pytest.mark.skipif(not SHARED.is_file(), reason="needs shared/data/deepmimic_humanoid.npz")
def test_six_handles_give_held_out_poses_back():
    """Issue 9: at most 40 mm, pinned to 1 mm, GE at most 0.40, with habit and limits from the training clips only."""
    clips, skeleton = deepmimic.Clips(SHARED), deepmimic.humanoid()
    seen, _ = clips.poses("train", 3000)
    local, root = clips.poses("test", 60)
    truth, _ = kinematics.forward(skeleton, local, root)
    handles = [Place(name, truth[:, skeleton.index(name)]) for name in deepmimic.HANDLES]
    found = solve.solve(skeleton, handles, limits=deepmimic.limits(seen), habit=Habit.of(seen))
    assert metrics.mpjpe(found.positions.numpy(), truth.numpy()).mean() < 32
    assert found.misses.max() < 1e-3
    turning = [skeleton.index(name) for name in deepmimic.turning()]
    assert metrics.geodesic(found.local[:, turning].numpy(), local[:, turning].numpy()).mean() < 0.35
