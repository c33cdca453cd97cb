"""Learning poses: the law of handles, losses on worked examples, rows as functions of their seeds, and the proposal."""

import json
import math

import numpy as np
import pytest
import torch

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.nets.protores import LOOK_AT, POSITION, ROTATION, Handles, ProtoRes
from framefill.pose import habits, handling, kinematics, practice, proposal, rotations
from framefill.pose.effectors import Look, Place, Turn
from framefill.pose.files import amass
from framefill.pose.habits import manner
from framefill.pose.human import human
from framefill.pose.solve import solve
from framefill.pose.turning import exponential
from framefill.recipes import parameters, pose

BODY = human().tree
FRAMES = 0.3 * np.random.default_rng(3).standard_normal((40, 24, 3))


def frames(*, varied: bool = True) -> practice.Poses:
    return practice.Poses(FRAMES, np.arange(1, 41) / 40, varied)


def one(kind: int, values: list[float], joint: int = 0, weight: float = 1.0) -> Handles:
    numbers = torch.tensor([[values + [0.0] * (6 - len(values))]])
    return Handles(
        numbers, torch.zeros(1, 1), torch.full((1, 1), weight), torch.tensor([[joint]]), torch.tensor([[kind]])
    )


def posed(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    local = torch.from_numpy(exponential(FRAMES[:batch])[0]).float()
    return kinematics.forward(BODY, local, torch.zeros(batch, 3))


def test_presets_have_the_sizes_they_promise():
    assert parameters(pose.Pose()) == 39_878_596
    assert parameters(pose.TINY) < 500_000  # a megabyte as 16-bit floats


def test_handles_follow_the_published_law():
    batch = 3000
    place, turned = (part[:1].expand(batch, *part.shape[1:]) for part in posed(1))
    made = handling.draw(place, turned, Rng(range(batch)))
    present = made.weight > 0
    counts = present.sum(1)
    assert (counts.min(), counts.max()) == (3, 16)
    assert counts.double().mean() == pytest.approx(9.5, abs=0.25)
    assert (made.kind[:, :3] == POSITION).all()
    for kind in (POSITION, ROTATION, LOOK_AT):
        assert (made.kind[:, 3:] == kind).double().mean() == pytest.approx(1 / 3, abs=0.01)
    assert torch.bincount(made.joint.flatten()).double().std() < 0.05 * made.joint.numel() / 24
    free = made.tolerance[made.kind != LOOK_AT]
    assert free.mean() == pytest.approx(0.1 / 14, rel=0.05)
    assert made.tolerance[made.kind == LOOK_AT].max() == 0
    assert made.weight[present].min() >= 10 - 1e-3
    assert made.weight.max() == pytest.approx(1000)


def test_handles_without_tolerance_are_true_and_others_are_off_by_it():
    place, turned = posed(40)
    made = handling.draw(place, turned, Rng(range(40)))
    rows = torch.arange(40)[:, None]
    exact = made.tolerance < 1e-6
    at = (made.kind == POSITION) & exact
    torch.testing.assert_close(made.values[at][:, :3], place[rows, made.joint][at], atol=1e-5, rtol=0)
    about = (made.kind == ROTATION) & exact
    torch.testing.assert_close(
        rotations.from_six(made.values[about]), turned[rows, made.joint][about], atol=1e-4, rtol=0
    )
    for loss in (pose.place_loss(made, place), pose.turn_loss(made, turned), pose.look_loss(made, place, turned)):
        assert loss.median() < 1e-3
    missed = (made.values[..., :3] - place[rows, made.joint]).norm(dim=-1) / made.tolerance
    wide = (made.kind == POSITION) & (made.tolerance > 1e-3)
    assert missed[wide].mean() == pytest.approx(1.6, abs=0.4)  # of a normal vector in three dimensions


def test_losses_on_worked_examples():
    positions, turned = torch.zeros(1, 24, 3), torch.eye(3).expand(1, 24, 3, 3)
    assert pose.place_loss(one(POSITION, [0.3, 0.0, 0.0]), positions).item() == pytest.approx(0.03)
    quarter = rotations.to_six(rotations.from_axis_angle(torch.tensor([0.0, 0.0, math.pi / 2]))).tolist()
    assert pose.turn_loss(one(ROTATION, quarter), turned).item() == pytest.approx(math.pi / 2)
    look = one(LOOK_AT, [1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    assert pose.look_loss(look, positions, turned).item() == pytest.approx(math.pi / 4)
    assert pose.place_loss(look, positions).item() == 0


def test_losses_weigh_handles_and_do_not_see_those_of_weight_zero():
    values = torch.tensor([[[0.3, 0, 0, 0, 0, 0], [0.6, 0, 0, 0, 0, 0], [9.0, 0, 0, 0, 0, 0]]])
    given = Handles(
        values,
        torch.zeros(1, 3),
        torch.tensor([[2.0, 1.0, 0.0]]),
        torch.zeros(1, 3).long(),
        torch.full((1, 3), POSITION),
    )
    assert pose.place_loss(given, torch.zeros(1, 24, 3)).item() == pytest.approx((2 * 0.03 + 0.12) / 3)


def test_a_row_is_a_function_of_its_seed():
    recipe = pose.TINY
    whole = recipe.batch(frames(), [5, 6, 7])
    torch.testing.assert_close(whole[1:2], recipe.batch(frames(), [6]))
    assert not torch.equal(whole[0], whole[1])
    local, shape, gender = pose.unpacked(whole)
    torch.testing.assert_close(local @ local.mT, torch.eye(3).expand_as(local), atol=1e-5, rtol=0)
    assert shape.shape == (3, 10)
    assert set(gender.tolist()) <= {0, 1, 2}


def test_varied_rows_head_along_z_and_keep_the_limits():
    local, _, _ = frames().rows(range(400))
    way = practice.heading(local[:, 0].double().numpy())
    assert abs(way.mean()) < 0.1
    assert way.std() == pytest.approx(practice.HEADING, abs=0.05)
    vectors = rotations.to_axis_angle(local.double())[:, 1:]
    assert (vectors <= manner().limits.high[1:] + 1e-3).all()
    assert (vectors >= manner().limits.low[1:] - 1e-3).all()


def test_published_rows_are_frames_that_head_anywhere():
    local, _, _ = frames(varied=False).rows(range(400))
    known = torch.from_numpy(exponential(FRAMES)[0]).float()[:, 1:]
    apart = (local[:, None, 1:] - known).abs().amax((2, 3, 4)).amin(1)
    assert apart.max() < 1e-5
    ways = practice.heading(local[:, 0].numpy())
    assert np.histogram(ways, 4, (-np.pi, np.pi))[0].min() > 70


def test_heading_undoes_a_turn_about_the_vertical():
    turn = exponential(np.array([[0.0, 2.1, 0.0], [0.0, -0.4, 0.0]]))[0]
    np.testing.assert_allclose(practice.heading(turn), [2.1, -0.4])
    np.testing.assert_allclose(practice.heading(turn @ exponential(np.array([0.4, 0, 0]))[0]), [2.1, -0.4], atol=1e-9)


def test_mirrored_vectors_are_mirrored_rotations():
    twice = practice.mirrored(practice.mirrored(FRAMES))
    np.testing.assert_allclose(twice, FRAMES)
    made = torch.from_numpy(exponential(practice.mirrored(FRAMES))[0])
    torch.testing.assert_close(made, habits.mirrored(torch.from_numpy(exponential(FRAMES)[0])))


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no clip"):
        pose.TINY.source(tmp_path, "train")


def test_the_loss_falls_and_its_gradient_is_finite():
    torch.manual_seed(0)
    recipe, source = pose.TINY, frames()
    model = ProtoRes(width=24, blocks=2, layers=2, embedding=8, dropout=0.0)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    batch, losses = recipe.batch(source, range(32)), []
    for step in range(40):
        loss = recipe.loss(model, batch, Rng.batch(0, 32, step)).mean()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


def test_a_sheet_shows_held_out_poses_and_what_is_made_of_them():
    drawn = pose.TINY.sheet(pose.TINY.product(pose.TINY.model().eval()), frames(varied=False))
    assert drawn.size == (480 * 2 * pose.SHOWN, 960)


class Knows(torch.nn.Module):
    """A network that says one pose, and remembers what it was asked."""

    def __init__(self, local: torch.Tensor):
        super().__init__()
        self.local = local

    def forward(self, handles, shape, gender):
        self.asked = handles
        return torch.zeros(len(shape), 24, 3), rotations.to_six(self.local).expand(len(shape), 24, 6)


def handles_of(positions: torch.Tensor, names: str) -> list[Place]:
    return [Place(name, positions[BODY.index(name)]) for name in names.split()]


def true_pose() -> tuple[torch.Tensor, torch.Tensor]:
    vectors = np.clip(0.3 * FRAMES[7], manner().limits.low.numpy(), manner().limits.high.numpy())
    vectors[0] = 0
    local = torch.from_numpy(exponential(vectors)[0])
    return local, kinematics.forward(BODY, local, torch.zeros(3).double())[0]


def test_a_network_that_knows_the_pose_brings_the_solution_nearer():
    local, positions = true_pose()
    given = handles_of(positions, "pelvis left_wrist right_ankle left_ankle")
    poser = proposal.Poser(Knows(local.float()))
    plain = solve(BODY, given, limits=manner().limits, habit=manner().habit)
    found = poser.solve(BODY, given, manner())
    away = [(one.positions[0] - positions).norm(dim=-1).mean() for one in (plain, found)]
    assert found.met().all()
    assert away[1] < 0.8 * away[0]


def test_with_few_handles_the_network_is_not_asked():
    _, positions = true_pose()
    poser = proposal.Poser(Knows(torch.full((24, 3, 3), float("nan"))))
    given = handles_of(positions, "pelvis left_wrist")
    found = poser.solve(BODY, given, manner())
    plain = solve(BODY, given, limits=manner().limits, habit=manner().habit)
    torch.testing.assert_close(found.positions, plain.positions)


def test_handles_are_encoded_as_the_network_learned_them():
    _, positions = true_pose()
    about = torch.from_numpy(exponential(np.array([0.0, 0.9, 0.0]))[0])
    given = [
        *handles_of(positions @ about.T, "pelvis neck"),
        Turn("head", about, 0.5),
        Look("left_foot", about[:, 2] * 2),
    ]
    found = solve(BODY, given, habit=manner().habit)
    made = proposal.encoded(found, about[None])
    torch.testing.assert_close(made.values[0, 1, :3], positions[BODY.index("neck")].float())
    torch.testing.assert_close(made.values[0, 2], torch.tensor([1.0, 0, 0, 0, 1, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(made.values[0, 3], torch.tensor([0.0, 0, 2, 0, 0, 1]), atol=1e-6, rtol=0)
    assert made.tolerance[0].tolist() == pytest.approx([0, 0, 0.1, 0])
    assert made.kind.tolist() == [[POSITION, POSITION, ROTATION, LOOK_AT]]


def test_a_proposal_that_misses_handles_is_not_kept():
    _, positions = true_pose()
    given = handles_of(positions, "pelvis left_wrist right_wrist")
    met = solve(BODY, given, habit=manner().habit)
    missed = solve(BODY, given, habit=manner().habit, steps=1)
    assert not missed.met().any()
    torch.testing.assert_close(proposal.kept(met, missed).positions, met.positions)
    torch.testing.assert_close(proposal.kept(missed, met).positions, met.positions)


def test_the_verb_asks_the_network_that_it_is_given(call, monkeypatch, tmp_path):
    local, positions = true_pose()
    words = [("-e", f"{one.joint}={','.join(map(str, one.target.tolist()))}")
             for one in handles_of(positions, "pelvis left_wrist right_ankle left_ankle")]  # fmt: skip
    words = [word for pair in words for word in pair]
    poser = proposal.Poser(Knows(local.float()))
    monkeypatch.setattr("framefill.load", lambda path: poser if path.name == "run" else "another product")
    errors = []
    for more in ((), ("--model", "run")):
        code, out, told = call("pose", "solve", *words, *more, "--json")
        assert code == 0, told
        made = torch.tensor([*json.loads(out)["poses"][0]["positions"].values()]).double()
        errors.append((made - positions).norm(dim=-1).mean().item())
    assert errors[1] < 0.9 * errors[0]
    for more, message in (
        (("--model", "other"), "is no network for poses"),
        (("--model", "run", "-n", "2"), "come from the habit"),
    ):
        code, out, told = call("pose", "solve", *words, *more)
        assert (code, out) == (2, "")
        assert message in told


def test_amass_is_split_as_published_and_stands_up(tmp_path):
    up = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up becomes AMASS's z up
    local = torch.eye(3).repeat(2, 24, 1, 1)
    local[:, 0] = up
    for name in ("CMU/01", "SSM_synced/a", "HumanEva/b"):
        (tmp_path / name).mkdir(parents=True)
        turned = local.clone()
        turned[:, 4] = rotations.from_axis_angle(torch.tensor([0.1 * len(name), 0, 0]))
        take = amass.Take(turned, torch.zeros(2, 3), torch.zeros(10), "neutral", 30.0)
        amass.write(tmp_path / name / "take_poses.npz", take)
    for split, name in (("train", "CMU/01"), ("test", "SSM_synced/a"), ("validation", "HumanEva/b")):
        poses = practice.Poses.open(tmp_path, split, varied=False)
        assert len(poses) == 2
        np.testing.assert_allclose(poses.vectors[:, 4, 0], 0.1 * len(name), atol=1e-5)
        np.testing.assert_allclose(poses.vectors[:, 0], 0, atol=1e-5)
    (tmp_path / "CMUU/01").mkdir(parents=True)
    (tmp_path / "CMUU/01/take_poses.npz").write_bytes((tmp_path / "CMU/01/take_poses.npz").read_bytes())
    poses = practice.Poses.open(tmp_path, "train")
    assert len(poses) == 2
    assert poses.note.endswith("'CMUU' (the nearest is CMU), 1 file")
    (tmp_path / "CMU/01/take_poses.npz").unlink()
    with pytest.raises(BadInput, match=r"no clip for train; .*nearest is CMU"):
        practice.Poses.open(tmp_path, "train")


@pytest.mark.slow
def test_a_training_names_what_it_leaves_out_and_validates_on_what_is_published_for_it(call, tmp_path):
    for name in ("CMU/01", "HumanEva/b", "DanceDB/c"):
        (tmp_path / "data" / name).mkdir(parents=True)
        local = rotations.from_axis_angle(0.1 * torch.randn(4, 24, 3, generator=torch.Generator().manual_seed(0)))
        take = amass.Take(local, torch.zeros(4, 3), torch.zeros(10), "neutral", 30.0)
        amass.write(tmp_path / "data" / name / "take_poses.npz", take)
    words = ("train", "pose", tmp_path / "data", "-o", tmp_path / "run", "--preset", "tiny", "--steps", "1")
    code, _, told = call(*words)
    assert code == 0, told
    assert [line for line in told.splitlines() if "left out" in line] == [
        "left out, for AMASS's published split has none of that name: 'DanceDB', 1 file"
    ]
    (tmp_path / "data/HumanEva/b/take_poses.npz").unlink()
    code, _, told = call(*words[:4], tmp_path / "other", *words[5:])
    assert code == 2
    assert "no clip for validation" in told
    assert "HumanEva, MPI_HDM05, SFU, MPI_mosh" in told
