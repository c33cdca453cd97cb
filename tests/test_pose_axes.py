"""Rigs whose file turns joints at rest, by half a turn or nearly, are posed as the plain body is, and written back."""

import json
import math

import numpy as np
import pytest
import torch

from framefill.errors import BadInput
from framefill.pose import characters, results, retarget, rotations
from framefill.pose.axes import Axes
from framefill.pose.effectors import Look, Place, Turn
from framefill.pose.files import glb
from framefill.pose.human import human
from framefill.pose.motion import Motion
from framefill.pose.retarget import Rig
from framefill.pose.skeleton import Skeleton
from framefill.pose.studio import saved
from framefill.pose.studio.session import Session
from test_pose_glb import bound, content, rewritten, wave

LIMBS = ("hip", "knee", "ankle", "foot", "shoulder", "elbow", "wrist", "hand")
MIXAMO = {"left_hip": "LeftUpLeg", "left_knee": "LeftLeg", "left_ankle": "LeftFoot", "left_wrist": "LeftHand"}
ANGLES = (math.pi, 2.8, 2.5)
WORDS = ("-e", "left_wrist=0.35,1.15,0.35", "-e", "left_ankle=0.2,0.3,0.3", "-e", "right_wrist:rotation=0.3,0.5,-0.9",
         "-e", "head:look-at=1,1.6,2~0.1")  # fmt: skip


def turned_body(path, angle, names=None):
    """Our body as .glb; its limbs' axes are turned at rest by an angle about axes at random, and its skin bound so."""
    body, rng = human(), torch.Generator().manual_seed(3)
    axes = torch.nn.functional.normalize(torch.randn(24, 3, generator=rng, dtype=torch.float64), dim=1)
    limbs = torch.tensor([[float(name.split("_")[-1] in LIMBS)] for name in body.names])
    rest = rotations.from_axis_angle(angle * limbs * axes)
    still = torch.eye(3).double().expand(1, 24, 3, 3)
    glb.write(path, Motion(body.tree, still, body.rest()[:1].double()), body)

    def change(described):
        described.pop("animations")
        for joint, node in enumerate(described["nodes"][:24]):
            above = rest[max(body.parents[joint], 0)].T
            node["name"] = (names or {}).get(node["name"], node["name"])
            node["rotation"] = rotations.to_quaternion(above @ rest[joint]).roll(-1).tolist()
            node["translation"] = (above @ torch.tensor(node["translation"]).double()).tolist()

    rewritten(path, change)
    bound(path)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return turned_body(tmp_path_factory.mktemp("plain") / "plain.glb", 0.0)


def test_axes_there_and_back():
    skeleton, local = human().tree, wave(1).local[0]
    axes = Axes.of(skeleton, local)
    motion = Motion(skeleton, wave(3).local, torch.zeros(3, 3).double())
    ours = Motion(axes.lying(skeleton), axes.since_rest(motion.local), motion.root)
    torch.testing.assert_close(ours.world()[0], motion.world()[0])
    torch.testing.assert_close(ours.world()[1] @ axes.joint, motion.world()[1])
    torch.testing.assert_close(axes.in_file(ours.local), motion.local)
    torch.testing.assert_close(axes.since_rest(local), torch.eye(3).double().expand(24, 3, 3))
    assert not axes.plain
    assert Axes.of(skeleton, torch.eye(3).expand(24, 3, 3)).plain


@pytest.mark.parametrize("angle", ANGLES)
def test_it_stands_moves_and_bends_its_skin_as_the_plain_body(plain, tmp_path, angle):
    """Of the written file's own numbers: skin matrices are those of the plain body in the same motion."""
    rig, motion, made = turned_body(tmp_path / "rig.glb", angle), wave(3), []
    assert glb.read(rig).skeleton.same(glb.read(plain).skeleton)
    for number, source in enumerate((plain, rig)):
        out = tmp_path / f"out{number}.glb"
        glb.write_rig(out, source, Motion(glb.read(source).skeleton, motion.local, motion.root, 1 / 60))
        back = glb.read(out)
        assert (back.world()[0] - glb.read(tmp_path / "out0.glb").world()[0]).abs().max() < 1e-4
        assert torch.rad2deg(rotations.angle(back.local, motion.local)).max() < 0.01
        made.append(_skin_matrices(out))
    np.testing.assert_allclose(made[0], made[1], atol=1e-5)


def _skin_matrices(path):
    """What a viewer makes of a file (T, J, 4, 4): nodes as the animation has them, and the skin's own bind."""
    described, data = content(path)
    reader = glb._Reader(described, data)
    inverse = reader.array(described["skins"][0]["inverseBindMatrices"], "MAT4").reshape(-1, 4, 4).transpose(0, 2, 1)
    tracks = glb._tracks(reader, {joint: joint for joint in range(24)})
    local = np.stack([rotations.from_quaternion(torch.tensor(tracks[j, "rotation"][1]).roll(1, -1)) for j in range(24)])
    world = np.tile(np.eye(4), (local.shape[1], 24, 1, 1))
    for joint, parent in enumerate(human().parents):
        node = np.tile(np.eye(4), (local.shape[1], 1, 1))
        node[:, :3, :3], node[:, :3, 3] = local[joint], described["nodes"][joint]["translation"]
        if parent < 0:
            node[:, :3, 3] = tracks[joint, "translation"][1]
        world[:, joint] = node if parent < 0 else world[:, parent] @ node
    return world @ inverse


@pytest.mark.parametrize("names", [None, MIXAMO])
@pytest.mark.parametrize("angle", ANGLES)
def test_handles_of_all_kinds_give_the_pose_of_the_plain_body(tmp_path, angle, names):
    asked = [
        [Place("left_ankle", torch.tensor([0.2, 0.3, 0.3]))],
        [Place("left_wrist", torch.tensor([0.35, 1.15, 0.35]))],
        [Turn("left_knee", rotations.from_axis_angle(torch.tensor([-0.6, 0.2, 0.0])), 0.1),
         Look("head", torch.tensor([1.0, 1.6, 2.0])), Look("left_wrist", torch.tensor([1, 1, 1]), torch.eye(3)[0])],
    ]  # fmt: skip
    poses = []
    for number, turn in enumerate((0.0, angle)):
        character = characters.load(turned_body(tmp_path / f"{number}.glb", turn, names))
        told = [[type(e)(character.joint(e.joint), *list(vars(e).values())[1:]) for e in one] for one in asked]
        poses.append([character.solve(character.standing(one)).positions for one in told])
    for expected, found in zip(*poses, strict=True):
        assert (found - expected).norm(dim=-1).max() < 1e-3


def test_the_verb_gives_the_same_samples(call, plain, tmp_path):
    told = []
    for name, source in (("a.glb", plain), ("b.glb", turned_body(tmp_path / "rig.glb", math.pi))):
        code, out, error = call("pose", "solve", "-c", source, *WORDS, "-n", 2, "--json", "-o", tmp_path / name)
        assert code == 0, error
        told.append(json.loads(out)["poses"])
    for expected, found, seen in zip(*told, glb.read(tmp_path / "b.glb").world()[0].tolist(), strict=True):
        for kind in ("positions", "rotations"):
            for joint, place in expected[kind].items():
                assert math.dist(place, found[kind][joint]) < 1e-3
        for place, written in zip(found["positions"].values(), seen, strict=True):
            assert math.dist(place, written) < 1e-4


def test_a_pose_goes_through_bvh_and_between(call, tmp_path):
    rig = turned_body(tmp_path / "rig.glb", math.pi)
    motion = Motion(glb.read(rig).skeleton, wave(2).local, wave(2).root, 1 / 60)
    results.write(tmp_path / "a.bvh", characters.load(rig), motion)
    back = results.motion_of(tmp_path / "a.bvh").ordered(motion.skeleton)
    assert (back.world()[0] - motion.world()[0]).abs().max() < 1e-4
    assert torch.rad2deg(rotations.angle(back.local, motion.local)).max() < 0.01
    glb.write_rig(tmp_path / "keys.glb", rig, motion)
    code, _, error = call("pose", "between", tmp_path / "keys.glb", "--times", "0,0.1", "-o", tmp_path / "out.glb")
    assert code == 0, error
    ends = glb.read(tmp_path / "out.glb").world()[0][[0, -1]]
    assert (ends - motion.world()[0]).abs().max() < 1e-4


def test_a_rig_that_the_library_makes_is_at_rest_too():
    body, local = human().tree, rotations.from_axis_angle(torch.randn(24, 3, dtype=torch.float64))
    offsets = (Axes.of(body, local).parent.mT @ body.offsets.double()[..., None])[..., 0]
    skeleton = Skeleton(body.names, body.parents, offsets)
    rig = Rig.of(skeleton, local)
    assert rig.skeleton.same(body)
    with pytest.raises(BadInput, match="of another skeleton than the rig"):
        retarget.carry(Motion(skeleton, local[None], torch.zeros(1, 3)), rig, rig)


def test_our_joints_at_another_rest_have_a_habit_of_their_own():
    body = human().tree
    local = torch.eye(3).double().repeat(24, 1, 1)
    local[body.index("left_shoulder")] = rotations.from_axis_angle(torch.tensor([0, 0, -0.8]).double())
    plain, hanging = Rig.of(body), Rig.of(body, local)
    assert characters.Character(hanging, plain.positions).manner.habit is not characters.habits.manner().habit
    assert characters.Character(plain, plain.positions).manner is characters.habits.manner()


def test_sessions_from_before_load_right_or_are_refused(plain, tmp_path):
    for source, right in ((plain, True), (turned_body(tmp_path / "rig.glb", math.pi), False)):
        session = Session(characters.load(source))
        session.move(session.add("left_wrist"), (0.35, 1.15, 0.35))
        world, whole = session.world()[0], saved.export(session, ".json")
        again = Session(characters.load(source))
        saved.bring(again, "work.json", whole)
        torch.testing.assert_close(again.world()[0], world, atol=1e-6, rtol=0)
        told = json.loads(whole)
        told["studio"]["version"] = 1
        if right:
            saved.bring(again, "work.json", json.dumps(told).encode())
            torch.testing.assert_close(again.world()[0], world, atol=1e-6, rtol=0)
        else:
            with pytest.raises(BadInput, match="version 1, whose joints turn along the axes"):
                saved.bring(again, "work.json", json.dumps(told).encode())
