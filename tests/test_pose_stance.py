"""How the root likes to be turned: its part of the cost by differences, what it decides, and clips that count alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from framefill.errors import BadInput
from framefill.pose import deepmimic, habits, kinematics, rotations, turning
from framefill.pose.effectors import Place
from framefill.pose.human import human
from framefill.pose.limits import Habit, Stance
from framefill.pose.problem import Problem
from framefill.pose.retarget import Rig
from framefill.pose.solve import solve

BODY = human().tree
LOOSE = Habit(torch.zeros(72).double(), 1e-3 * torch.eye(72).double())


def turn(*vector: float) -> torch.Tensor:
    return rotations.from_axis_angle(torch.tensor(vector, dtype=torch.float64))


def leaning(habit: Habit) -> Problem:
    local = torch.eye(3).double().repeat(24, 1, 1)
    local[0] = turn(0.3, -0.8, 0.5)
    return Problem(BODY, [Place("head", torch.ones(3))], None, habit, (local, torch.zeros(3).double()))


@pytest.mark.parametrize(
    "stance", [Stance.upright(turn(0.1, 0.2, 0.3)), Stance(torch.eye(3) / 0.5, turn(0, 1, 0) / 0.5)]
)
def test_the_gradient_of_a_stance_is_the_derivative_of_the_cost(stance):
    problem = leaning(replace(LOOSE, stance=stance))
    state, weight = problem.start(), problem.weight()[None]
    _, gradient = problem.normal(state, weight)
    step = 1e-6
    for axis in range(3):
        costs = []
        for sign in (1, -1):
            moved = turning.exponential(sign * step * np.eye(3)[axis])[0] @ state.local[:, 0]
            costs.append(problem.cost(problem.state(state.x, moved, state.place), weight)[0])
        assert gradient[0, 3 + axis] == pytest.approx((costs[0] - costs[1]) / (4 * step), rel=1e-4)


def test_the_hessian_of_a_stance_is_that_of_its_squares():
    loose, stance = leaning(LOOSE), Stance.upright(torch.eye(3), 0.5)
    kept = leaning(replace(LOOSE, stance=stance))
    weight = loose.weight()[None]
    more = kept.normal(kept.start(), weight)[0] - loose.normal(loose.start(), weight)[0]
    up = turn(0.3, -0.8, 0.5)[:, 1].numpy()
    np.testing.assert_allclose(more[0, 3:6, 3:6], 4 * (np.eye(3) - np.outer(up, up)), atol=1e-6)
    assert np.abs(np.delete(np.delete(more[0], [3, 4, 5], 0), [3, 4, 5], 1)).max() == 0


def test_a_body_held_by_one_hand_stands_up_but_may_head_anywhere():
    handles = [Place("left_wrist", torch.tensor([0.4, 1.1, 0.2]))]
    local = torch.eye(3).double().repeat(24, 1, 1)
    local[0] = turn(1.0, 0, 0) @ turn(0, 0.7, 0)
    start = local, torch.tensor([0.0, 0.9, 0.0]).double()
    fallen = solve(BODY, handles, habit=LOOSE, start=start)
    found = solve(BODY, handles, habit=replace(LOOSE, stance=Stance.upright(torch.eye(3))), start=start)
    assert fallen.local[0, 0, 1, 1] < 0.9
    assert found.local[0, 0, 1, 1] > 0.999
    assert found.met().all()


def test_handles_overrule_a_stance():
    local = torch.eye(3).double().repeat(24, 1, 1)
    local[0] = turn(2.0, 0, 0)
    positions, _ = kinematics.forward(BODY, local, torch.zeros(3).double())
    handles = [Place(name, positions[BODY.index(name)]) for name in ("pelvis", "neck", "left_ankle", "right_ankle")]
    habit = replace(LOOSE, stance=Stance.upright(torch.eye(3)))
    assert solve(BODY, handles, habit=habit).met().all()


def test_loosening_loosens_the_stance():
    problem = leaning(replace(LOOSE, stance=Stance.upright(torch.eye(3))))
    before = problem.start().habit[0, -9:]
    problem.loosen()
    np.testing.assert_allclose(problem.start().habit[0, -9:], 0.1 * before)


def test_rigs_stand_as_they_do_at_rest():
    body = human().tree
    local = torch.eye(3).double().repeat(24, 1, 1)
    local[0] = turn(0.5, 0.0, 0.2)
    worn = habits.worn(Rig.of(body, local)).habit.stance
    torch.testing.assert_close(worn.axes, worn.there)
    assert habits.manner().habit.stance.there[1, 1] == pytest.approx(5.0)


@pytest.mark.parametrize("spread", [0.0, -1.0, float("nan"), float("inf")])
def test_a_stance_needs_a_spread(spread):
    with pytest.raises(BadInput, match="spread"):
        Stance.upright(torch.eye(3), spread)


def test_a_stance_needs_finite_matrices():
    with pytest.raises(BadInput, match="stance"):
        Stance(torch.eye(3), torch.full((3, 3), float("nan")))
    with pytest.raises(BadInput, match="stance"):
        Stance(torch.eye(2), torch.eye(3))


def test_clips_count_alike(tmp_path):
    frames = {"humanoid3d_walk": 1000, "humanoid3d_roll": 10, "humanoid3d_jump": 50}
    table = {}
    for number, (name, count) in enumerate(frames.items()):
        rows = np.zeros((count, 44))
        rows[:, 0], rows[:, 1] = 1 / 30, number
        for column in (4, 8, 12, 16, 21, 25, 30, 35, 39):
            rows[:, column] = 1
        table[name] = rows
    np.savez(tmp_path / "clips.npz", **table)
    clips = deepmimic.Clips(tmp_path / "clips.npz")
    local, root = clips.alike("train", 40)
    assert len(local) == 40
    assert root[:, 0].tolist().count(0) == root[:, 0].tolist().count(1) == 20
    with pytest.raises(BadInput, match="2 clips"):
        clips.alike("train", 1)
