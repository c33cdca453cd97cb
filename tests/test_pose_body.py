"""The body: measurements it must have, linearity in shape, a closed skin that follows, and SMPL and AMASS files."""

import contextlib
import io
import math
import zipfile

import numpy as np
import pytest
import torch

from framefill.errors import BadInput, MediaError
from framefill.pose import rotations
from framefill.pose.body import COMPONENTS, NAMES, PARENTS, Body
from framefill.pose.files import amass, arrays, smpl
from framefill.pose.human import human
from framefill.pose.motion import Motion

RNG = torch.Generator().manual_seed(1)


def joint(name: str) -> int:
    return NAMES.index(name)


def still(frames: int = 1) -> torch.Tensor:
    return torch.eye(3).expand(frames, len(NAMES), 3, 3)


def bend(name: str, vector: tuple[float, float, float]) -> torch.Tensor:
    local = still()[0].clone()
    local[joint(name)] = rotations.from_axis_angle(torch.tensor(vector))
    return local


@pytest.mark.parametrize(("gender", "stature", "acromia"), [("male", 1.756, 0.416), ("female", 1.629, 0.365)])
def test_the_body_has_the_measurements_of_the_tables(gender, stature, acromia):
    body = human(gender)
    rest = body.rest()
    assert body.vertices[:, 1].max() == pytest.approx(stature, abs=0.1)
    assert rest[joint("left_hip"), 1] == pytest.approx(0.530 * stature, abs=1e-4)
    assert rest[joint("right_knee"), 1] == pytest.approx(0.285 * stature, abs=1e-4)
    assert rest[joint("left_ankle"), 1] == pytest.approx(0.039 * stature, abs=1e-4)
    across = rest[joint("left_shoulder"), 0] - rest[joint("right_shoulder"), 0]
    assert across == pytest.approx(acromia - 0.04, abs=1e-4)
    assert body.tree.lengths[joint("left_elbow")] == pytest.approx(0.186 * stature, abs=1e-4)
    assert rest[joint("left_shoulder"), 1] == pytest.approx(0.818 * stature, abs=0.02)


def test_left_is_left_and_both_sides_are_alike():
    rest = human().rest()
    assert (rest[[i for i, n in enumerate(NAMES) if n.startswith("left")], 0] > 0).all()
    for name in NAMES:
        if name.startswith("left_"):
            twin = rest[joint(name.replace("left_", "right_"))]
            torch.testing.assert_close(rest[joint(name)], twin * torch.tensor([-1.0, 1, 1]))
    assert rest[joint("left_foot"), 2] > 0.05  # toes forward


def test_joints_are_linear_in_shape():
    body = human("female")
    a, b = torch.randn(2, COMPONENTS, generator=RNG)
    torch.testing.assert_close(body.rest(a + b) - body.rest(a), body.rest(b) - body.rest())
    torch.testing.assert_close(body.rest([2.0]), body.rest([2.0] + [0.0] * 9))
    taller = body.rest([1.0])[joint("head"), 1] / body.rest()[joint("head"), 1]
    assert taller == pytest.approx(1 + 0.064 / 1.629, abs=1e-5)


@pytest.mark.parametrize(
    ("component", "bone"),
    [(1, "left_knee"), (2, "left_wrist"), (3, "left_shoulder"), (4, "left_hip"), (6, "left_knee"), (7, "left_elbow"),
     (8, "head"), (9, "left_foot")],
)  # fmt: skip
def test_every_component_lengthens_what_it_says(component, bone):
    longer = human().skeleton(torch.eye(COMPONENTS)[component]).lengths[joint(bone)]
    assert longer > human().tree.lengths[joint(bone)] * 1.01


def test_girth_moves_the_skin_only():
    body, shape = human(), torch.eye(COMPONENTS)[5]
    torch.testing.assert_close(body.rest(shape), body.rest())
    assert (body.skin(still(), torch.zeros(1, 3), shape) - body.skin(still(), torch.zeros(1, 3))).abs().max() > 0.005


def test_the_skin_is_closed_and_faces_outward():
    body = human()
    edges = torch.cat([body.faces[:, [0, 1]], body.faces[:, [1, 2]], body.faces[:, [2, 0]]])
    assert len({tuple(e) for e in edges.tolist()}) == len(edges)  # no edge twice in one direction
    assert {tuple(e) for e in edges.tolist()} == {(b, a) for a, b in edges.tolist()}
    a, b, c = body.vertices[body.faces].unbind(1)
    volume = (a * torch.linalg.cross(b, c)).sum() / 6
    assert 0.04 < volume < 0.12  # cubic metres, overlaps counted twice: a person is 0.07


def test_at_rest_the_skin_is_the_template():
    body = human()
    root = body.rest()[0]
    torch.testing.assert_close(body.skin(still()[0], root), body.vertices, atol=1e-6, rtol=0)


def test_skin_moves_rigidly_with_the_whole_body():
    body, turn = human(), rotations.from_axis_angle(torch.tensor([0.3, 1.0, -0.4]))
    local = still()[0].clone()
    local[0] = turn
    root = torch.tensor([1.0, 2, 3])
    expected = (body.vertices - body.rest()[0]) @ turn.T + root
    torch.testing.assert_close(body.skin(local, root), expected, atol=1e-5, rtol=0)


def test_a_bent_elbow_moves_the_forearm_and_nothing_far_from_it():
    body = human()
    moved = body.skin(bend("left_elbow", (0, -math.pi / 2, 0)), body.rest()[0]) - body.vertices
    far = body.weights[:, [joint("left_elbow"), joint("left_wrist"), joint("left_hand")]].sum(1) == 0
    assert moved[far].abs().max() < 1e-6
    hand = body.weights[:, joint("left_hand")] > 0.99
    assert (moved[hand].mean(0) - torch.tensor([-0.4, 0, 0.4])).abs().max() < 0.1  # forward: the left hand swings in


def test_skin_weights_add_up():
    weights = human().weights
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))


def test_batches_of_shapes_and_poses():
    body, shapes = human(), torch.randn(3, COMPONENTS, generator=RNG)
    together = body.skin(still(3), torch.zeros(3, 3), shapes)
    torch.testing.assert_close(together[1], body.skin(still()[0], torch.zeros(3), shapes[1]))
    assert body.offsets(shapes).shape == (3, 24, 3)


@pytest.mark.parametrize("shape", [[0.0] * 11, [math.nan]])
def test_bad_shapes_are_refused(shape):
    with pytest.raises(BadInput, match="give up to 10 finite"):
        human().rest(shape)


def test_unknown_gender_is_refused():
    with pytest.raises(BadInput, match="choose one of male, female, neutral"):
        human("robot")


def small(**changes) -> Body:
    """Two joints and one triangle, with parts replaced."""
    parts = {
        "names": ("a", "b"), "parents": (-1, 0), "joints": torch.eye(3)[:2], "joint_shapes": torch.zeros(2, 3, 1),
        "vertices": torch.eye(3), "vertex_shapes": torch.zeros(3, 3, 1), "weights": torch.ones(3, 2) / 2,
        "faces": torch.tensor([[0, 1, 2]]),
    }  # fmt: skip
    return Body(**(parts | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": torch.ones(3, 3)}, "weights are"),
        ({"vertices": torch.full((3, 3), math.inf)}, "vertices are"),
        ({"faces": torch.tensor([[0, 1, 3]])}, "not among its 3"),
        ({"pose_shapes": torch.zeros(3, 3, 8)}, "pose_shapes are"),
    ],
)
def test_bodies_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(BadInput, match=message):
        small(**changes)


def test_pose_shapes_add_what_smpl_adds():
    pose_shapes = torch.zeros(3, 3, 9)
    pose_shapes[0, 2, 1] = 2.0  # the entry of row 0, column 1 moves vertex 0 along z
    local = torch.eye(3).expand(2, 3, 3).clone()
    local[1] = rotations.from_axis_angle(torch.tensor([0, 0, 0.1]))
    with_shapes, without = small(pose_shapes=pose_shapes), small()
    difference = with_shapes.skin(local, torch.zeros(3)) - without.skin(local, torch.zeros(3))
    assert difference[0, 2] == pytest.approx(-2 * math.sin(0.1), abs=1e-6)
    assert difference[1:].abs().max() == 0


# ---- SMPL files


def smpl_parts() -> dict[str, np.ndarray]:
    """Our own body in the layout of a SMPL file, joints regressed from the points that stand for them."""
    body = human()
    vertices = torch.cat([body.rest(), body.vertices])
    shapes = torch.cat([body.joint_shapes, body.vertex_shapes])
    table = np.array([[4294967295, *PARENTS[1:]], range(24)])
    return {
        "v_template": vertices.numpy(), "shapedirs": np.pad(shapes.numpy(), ((0, 0), (0, 0), (0, 290))),
        "J_regressor": np.eye(24, len(vertices)), "f": body.faces.numpy() + 24, "kintree_table": table,
        "weights": np.concatenate([np.eye(24), body.weights.numpy()]), "posedirs": np.zeros((len(vertices), 3, 207)),
    }  # fmt: skip


def test_a_smpl_file_becomes_the_body_it_holds(tmp_path):
    np.savez(tmp_path / "smpl.npz", **smpl_parts())
    body, shape = smpl.read(tmp_path / "smpl.npz"), torch.randn(COMPONENTS, generator=RNG)
    torch.testing.assert_close(body.rest(shape), human().rest(shape), atol=1e-5, rtol=1e-5)
    local = bend("left_knee", (0.7, 0, 0))
    torch.testing.assert_close(
        body.skin(local, torch.zeros(3), shape)[24:], human().skin(local, torch.zeros(3), shape), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None}, "has no weights; get SMPL_NEUTRAL"),
        ({"J_regressor": np.zeros((24, 7))}, "'J_regressor' is float64 .24, 7."),
        ({"v_template": np.full((30, 3), np.nan)}, "finite numbers"),
        ({"kintree_table": np.zeros((2, 24))}, "joint tree is not SMPL's"),
        ({"J_regressor": np.array({"sparse": 1}, dtype=object)}, "plain arrays"),
    ],
)
def test_smpl_files_that_are_not_are_refused(tmp_path, changes, message):
    parts = {k: v for k, v in (smpl_parts() | changes).items() if v is not None}
    np.savez(tmp_path / "smpl.npz", **parts)
    with pytest.raises(MediaError, match=message):
        smpl.read(tmp_path / "smpl.npz")


def test_absent_smpl_files_say_what_to_do(tmp_path):
    for name in ("SMPL_NEUTRAL.pkl", "absent.npz"):
        with pytest.raises(MediaError, match=r"there is no file .*get SMPL_NEUTRAL\.pkl.* from smpl\.is\.tue\.mpg\.de"):
            smpl.read(tmp_path / name)


# ---- AMASS files


def take(frames: int = 7) -> amass.Take:
    vectors = torch.randn(frames, 24, 3, generator=RNG) * 0.7
    place, shape = torch.randn(frames, 3, generator=RNG), torch.randn(10, generator=RNG)
    return amass.Take(rotations.from_axis_angle(vectors), place, shape, "female", 120.0)


def test_amass_round_trip(tmp_path):
    given = take()
    amass.write(tmp_path / "take.npz", given)
    back = amass.read(tmp_path / "take.npz")
    assert rotations.angle(back.local.double(), given.local.double()).max() < math.radians(0.01)
    assert (back.translation - given.translation).abs().max() < 1e-4
    assert (back.gender, back.rate) == ("female", 120.0)
    torch.testing.assert_close(back.shape, given.shape)


def test_a_take_stands_where_its_body_puts_it():
    body, given = human("female"), take()
    motion = given.motion(body)
    torch.testing.assert_close(motion.root - given.translation, body.rest(given.shape)[0].expand(7, 3))
    again = amass.take(motion, body, given.shape, "female")
    torch.testing.assert_close(again.translation, given.translation, atol=1e-6, rtol=0)
    assert again.rate == pytest.approx(120)
    assert motion.world()[0].shape == (7, 24, 3)


def test_smplh_hands_are_left_out(tmp_path):
    poses = np.random.default_rng(0).normal(size=(3, 156))
    np.savez(
        tmp_path / "h.npz", poses=poses, trans=np.zeros((3, 3)), betas=np.zeros(16), mocap_framerate=60, gender=b"male"
    )
    back = amass.read(tmp_path / "h.npz")
    assert (back.local[:, 22:] == torch.eye(3)).all()
    torch.testing.assert_close(
        back.local[:, 21].double(), rotations.from_axis_angle(torch.from_numpy(poses[:, 63:66])), atol=1e-6, rtol=0
    )


GOOD = {"poses": np.zeros((3, 72)), "trans": np.zeros((3, 3)), "mocap_framerate": np.array(30.0)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses": np.zeros((3, 60))}, "66 angles or more"),
        ({"poses": np.zeros((0, 72)), "trans": np.zeros((0, 3))}, "1 to 2000000 frames"),
        ({"trans": np.zeros((2, 3))}, "'trans' is float64 .2, 3.; it must be 3x3"),
        ({"gender": np.array("robot")}, "gender 'robot'"),
        ({"mocap_framerate": np.array(0.0)}, "a rate above 0"),
        ({"mocap_framerate": None}, "no array 'mocap_frame_rate'"),
        ({"poses": np.array([None])}, "holds object"),
    ],
)
def test_other_archives_are_refused_in_one_line(tmp_path, changes, message):
    np.savez(tmp_path / "bad.npz", **{k: v for k, v in (GOOD | changes).items() if v is not None})
    with pytest.raises(MediaError, match=message) as caught:
        amass.read(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_an_array_that_claims_more_than_it_has_takes_no_memory(tmp_path):
    for claim, message in ((2**40, "claims"), (2**20, "ends after")):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (claim, 72)})
        with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
            archive.writestr("poses.npy", header.getvalue() + b"\0" * 64)
        with pytest.raises(MediaError, match=message):
            arrays.read(tmp_path / "bomb.npz", ["poses"])


def test_truncated_and_damaged_archives_are_refused(tmp_path):
    amass.write(tmp_path / "take.npz", take())
    data = bytearray((tmp_path / "take.npz").read_bytes())
    rng = np.random.default_rng(0)
    for trial in range(60):
        broken = data[: rng.integers(len(data))] if trial % 2 else bytearray(data)
        if trial % 2 == 0:
            broken[rng.integers(len(data))] ^= 1 << rng.integers(8)
        (tmp_path / "broken.npz").write_bytes(broken)
        with contextlib.suppress(MediaError):  # or it is read: some bits mean nothing
            amass.read(tmp_path / "broken.npz")


def test_motions_check_themselves():
    skeleton = human().tree
    with pytest.raises(BadInput, match=r"give \(T, J, 3, 3\)"):
        Motion(skeleton, still(2), torch.zeros(3, 3))
    with pytest.raises(BadInput, match="not finite"):
        Motion(skeleton, still(1), torch.full((1, 3), math.nan))
    with pytest.raises(BadInput, match="a time above 0"):
        Motion(skeleton, still(1), torch.zeros(1, 3), 0)
    assert len(Motion(skeleton, still(5), torch.zeros(5, 3)).frames(slice(1, 3))) == 2
