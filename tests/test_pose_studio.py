"""The pose studio without a browser: commands, undo, files, what is drawn, and one thread that works in order."""

import gc
import json
import threading

import numpy as np
import pytest
import torch

from framefill.errors import BadInput
from framefill.pose import characters, kinematics
from framefill.pose.files import bvh
from framefill.pose.motion import Motion
from framefill.pose.rotations import from_axis_angle
from framefill.pose.studio import drawn, saved
from framefill.pose.studio.desk import Desk
from framefill.pose.studio.session import Session

FORWARD = (0.35, 1.15, 0.35)


@pytest.fixture
def session():
    return Session(characters.load(None))


@pytest.fixture
def rig(tmp_path):
    """The body's skeleton under other names, as a BVH."""
    names = {"left_wrist": "LeftHand", "left_elbow": "LeftForeArm", "left_shoulder": "LeftArm"}
    path = tmp_path / "rig.bvh"
    skeleton = characters.load(None).rig.skeleton.renamed(names)
    bvh.write(path, Motion(skeleton, torch.eye(3).double().expand(1, 24, 3, 3), torch.zeros(1, 3).double()))
    return path


def place(session, joint):
    return session.world()[0][session.character.rig.skeleton.index(joint)]


def reach(session, target=FORWARD):
    key = session.add("left_wrist")
    session.move(key, target)
    return key


def test_it_begins_at_rest_with_feet_on_the_ground(session):
    torch.testing.assert_close(session.world()[0], session.character.stands)
    assert session.motion().local.shape[0] == 1
    assert session.warnings() == []


def test_a_handle_begins_where_the_joint_is_and_the_body_follows_it(session):
    before = place(session, "left_wrist")
    key = session.add("left_wrist")
    assert key == "left_wrist:position"
    assert session.state.grip(key).target == pytest.approx(before.tolist())
    session.move(key, FORWARD)
    assert (place(session, "left_wrist") - torch.tensor(FORWARD)).norm() < 1e-3
    assert (place(session, "left_ankle") - session.character.rest("left_ankle")).norm() < 0.1


def test_turns_and_looks(session):
    key = session.add("head", "rotation")
    session.move(key, (0.0, 0.5, 0.0))
    turned = session.world()[1][session.character.rig.skeleton.index("head")]
    torch.testing.assert_close(turned, from_axis_angle(torch.tensor([0, 0.5, 0]).double()), atol=2e-3, rtol=0)
    session.remove(key)
    look = session.add("head", "look-at")
    here = place(session, "head")
    assert session.state.grip(look).target == pytest.approx((here + torch.tensor([0, 0, 1.0])).tolist(), abs=0.5)
    session.move(look, (1.0, 1.6, 1.0))
    places, turned = session.world()
    index = session.character.rig.skeleton.index("head")
    goal = torch.tensor([1.0, 1.6, 1.0]) - places[index]
    assert torch.dot(turned[index][:, 2], goal / goal.norm()) > 1 - 1e-5


def test_a_drag_is_one_step_of_undo_and_undo_brings_back_the_very_pose(session):
    key = reach(session)
    seen = session.state.local
    for step in range(5):
        session.move(key, (0.35, 1.2 + 0.03 * step, 0.35), gesture="drag")
    session.settle()
    dragged = session.state.local
    assert (place(session, "left_wrist") - torch.tensor([0.35, 1.32, 0.35])).norm() < 1e-3
    assert session.undo()
    assert torch.equal(session.state.local, seen)
    assert session.redo()
    assert torch.equal(session.state.local, dragged)
    assert not session.redo()
    session.move(key, (0.3, 1.0, 0.3), gesture="drag")  # a gesture after the last is another step
    session.undo()
    assert torch.equal(session.state.local, dragged)
    while session.undo():
        pass
    assert session.state.grips == ()


def test_a_new_change_forgets_what_was_undone(session):
    key = reach(session)
    session.undo()
    session.move(key, (0.3, 1.0, 0.3))
    assert not session.redo()


def test_a_tolerance_lets_go_and_zero_pins(session):
    key = reach(session, (0.4, 1.9, 0.2))
    pinned = (place(session, "left_wrist") - torch.tensor([0.4, 1.9, 0.2])).norm()
    session.tolerate(key, 0.2)
    loose = (place(session, "left_wrist") - torch.tensor([0.4, 1.9, 0.2])).norm()
    assert pinned < 1e-3 < 0.01 < loose
    session.tolerate(key, 0.0)
    assert (place(session, "left_wrist") - torch.tensor([0.4, 1.9, 0.2])).norm() < 1e-3


def test_what_cannot_be_reached_is_told(session):
    key = reach(session, (3.0, 3.0, 0.0))
    assert "feet had to move by" in session.warnings()[0]
    session.add("right_wrist")
    session.stand(False)
    session.move(key, (5.0, 3.0, 0.0))
    assert "came no closer" in session.warnings()[0]
    assert len(drawn.threads(session, session.world()[0].numpy())) == 2
    session.undo()
    assert session.warnings() == []


def test_feet_are_let_go(session):
    key = reach(session)
    session.stand(False)
    session.move(key, (1.5, 1.2, 0.0))
    assert (place(session, "left_ankle") - session.character.rest("left_ankle")).norm() > 0.3


def test_another_body_meets_the_same_handles_and_undo_takes_it_off(session):
    reach(session)
    rest = session.character
    session.wear([2.0, 1.0], "female")
    assert session.character.stands[15, 1] != rest.stands[15, 1]
    assert (place(session, "left_wrist") - torch.tensor(FORWARD)).norm() < 1e-3
    session.undo()
    assert session.character.gender == "neutral"
    torch.testing.assert_close(session.character.stands, rest.stands)


def test_alternatives_meet_the_handles_and_differ(session):
    reach(session)
    poses = session.other_poses(2)()
    ends = [kinematics.forward(session.character.rig.skeleton, *pose)[0] for pose in poses]
    wrist = session.character.rig.skeleton.index("left_wrist")
    assert all((end[wrist] - torch.tensor(FORWARD)).norm() < 2e-3 for end in ends)
    assert (ends[0] - ends[1]).norm(dim=-1).max() > 0.02
    session.take(*poses[1])
    assert torch.equal(session.world()[0], ends[1])


def test_the_next_handle_is_where_least_is_known(session):
    reach(session)
    spread = session.uncertainty()
    names = session.character.rig.skeleton.names
    assert spread[names.index("left_wrist")] < 0.01 < spread[names.index("right_wrist")]
    asked = session.next_handle()
    assert spread[names.index(asked)] == max(spread)
    session.move(session.add(asked), tuple(place(session, asked).tolist()))
    assert session.next_handle() != asked
    assert session.uncertainty().sum() < spread.sum()


def test_recovered_handles_tell_the_pose(session):
    reach(session)
    seen = session.world()[0]
    told = session.telling_handles(most=2, enough=0)()
    session.hold(told)
    assert [grip.joint for grip in session.state.grips] == [handle.joint for handle in told.handles]
    assert len(told.errors) == 2
    assert told.errors[1] <= told.errors[0]
    torch.testing.assert_close(session.world()[0], seen)


def test_keys_and_what_is_between_them(session):
    key = reach(session)
    session.key(0.0)
    session.move(key, (0.35, 0.9, 0.35))
    session.key(1.0)
    motion = session.motion(10)
    assert len(motion) == 11
    wrist = session.character.rig.skeleton.index("left_wrist")
    ends = motion.world()[0][[0, -1], wrist]
    np.testing.assert_allclose(ends, [FORWARD, (0.35, 0.9, 0.35)], atol=2e-3)
    session.show(0.5)
    assert 0.95 < place(session, "left_wrist")[1] < 1.12
    assert session.state.grips == ()
    session.show(1.0)
    assert session.state.grips[0].target == (0.35, 0.9, 0.35)
    session.unkey(0.9)
    assert [kept.seconds for kept in session.state.keys] == [0.0]
    session.key(0.0)
    assert len(session.state.keys) == 1


def test_a_line_of_sight_is_met_at_the_depth_of_the_joint(session):
    session.sight("left_wrist", (0.0, 1.2, 4.0), (0.1, -0.02, -1.0))
    here = place(session, "left_wrist").numpy()
    start, along = np.array([0.0, 1.2, 4.0]), np.array([0.1, -0.02, -1.0]) / np.linalg.norm([0.1, -0.02, -1.0])
    off = (here - start) - ((here - start) @ along) * along
    assert np.linalg.norm(off) < 1e-3


@pytest.mark.parametrize(
    "command",
    [lambda s: s.add("left_wirst"), lambda s: s.add("head", "twist"), lambda s: s.move("head:position", (0, 0, 0)),
     lambda s: s.move("left_wrist:position", (0, np.nan, 0)), lambda s: s.tolerate("left_wrist:position", -1),
     lambda s: s.wear([9], "male"), lambda s: s.wear([], "other"), lambda s: s.wear([0] * 11, "male"),
     lambda s: s.key(-1), lambda s: s.key(float("nan")), lambda s: s.unkey(0), lambda s: s.telling_handles(most=0)(),
     lambda s: s.sight("head", (0, 0, 0), (0, 0, 0)), lambda s: s.other_poses(0)()],
)  # fmt: skip
def test_what_cannot_be_done_changes_nothing(session, command):
    reach(session)
    before, character = session.state, session.character
    with pytest.raises(BadInput):
        command(session)
    assert session.state is before
    assert session.character is character


def test_commands_that_need_handles_say_so(session):
    for command in (session.other_poses, session.uncertainty, session.next_handle):
        with pytest.raises(BadInput, match="no handle yet"):
            command()


def test_too_many_keys_are_refused(session, monkeypatch):
    monkeypatch.setattr("framefill.pose.studio.session.MOST_KEYS", 2)
    session.key(0)
    session.key(1)
    with pytest.raises(BadInput, match="at most 2"):
        session.key(2)


def test_a_rotation_that_is_not_finite_is_no_handle():
    from framefill.pose.studio.state import Grip

    with pytest.raises(BadInput, match="not finite"):
        Grip("head", "rotation", (0.0, float("inf"), 0.0)).effector()


@pytest.mark.parametrize("suffix", [".bvh", ".glb", ".npz"])
def test_motions_come_back(session, suffix):
    key = reach(session)
    session.key(0)
    session.move(key, (0.35, 0.9, 0.35))
    session.key(0.2)
    motion = session.motion(30)
    content = saved.export(session, suffix, 30)
    other = Session(characters.load(None))
    saved.bring(other, f"pose{suffix}", content)
    assert len(other.state.keys) == len(motion) == 7
    torch.testing.assert_close(other.world()[0], motion.world()[0][0], atol=1e-4, rtol=0)


def test_the_session_comes_back_whole(session):
    key = reach(session)
    session.wear([1.0, -0.5], "male")
    session.key(0)
    session.move(key, (0.35, 0.9, 0.35))
    session.tolerate(key, 0.01)
    session.key(1)
    content = saved.export(session, ".json")
    other = Session(characters.load(None))
    saved.bring(other, "work.json", content)
    assert (other.state.grips, other.state.shape, other.state.gender) == (
        session.state.grips, session.state.shape, "male")  # fmt: skip
    torch.testing.assert_close(other.world()[0], session.world()[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(other.motion().local, session.motion().local, atol=1e-6, rtol=0)
    assert other.state.keys[0].grips == session.state.keys[0].grips
    assert json.loads(content)["joints"] == list(session.character.rig.skeleton.names)


def test_a_rig_and_its_files(session, rig):
    other = Session(characters.load(rig))
    assert other.add("left_wrist") == "LeftHand:position"
    reach(session)
    saved.bring(other, "theirs.bvh", saved.export(session, ".bvh"))  # of other names: retargeted
    wrist = place(other, "LeftHand") - place(session, "left_wrist")
    assert wrist.norm() < 0.05
    with pytest.raises(BadInput, match="no shape"):
        other.wear([1.0], "male")
    with pytest.raises(BadInput, match=r"\.glb holds"):
        saved.export(other, ".glb")
    with pytest.raises(BadInput, match="24"):
        saved.bring(
            other, "x.json", saved.export(session, ".json").replace(b'"rotations": [[', b'"rotations": [[0,0,0],[')
        )


def test_another_character_begins_anew_and_undo_brings_the_one_before_back_with_its_work(session, rig):
    reach(session)
    session.wear([1.0], "male")
    session.key(0)
    work, dressed = session.state, session.character
    session.load(saved.character("their rig.bvh", rig.read_bytes()))
    assert (session.state.grips, session.state.keys, session.state.shape) == ((), (), ())
    assert session.character.body is None
    key = session.add("left_wrist")
    assert key == "LeftHand:position"
    session.move(key, FORWARD)
    assert (place(session, "LeftHand") - torch.tensor(FORWARD)).norm() < 1e-3
    with pytest.raises(BadInput, match="no shape"):
        session.wear([1.0], "male")
    for _ in range(3):
        assert session.undo()
    assert session.state is work
    torch.testing.assert_close(session.character.stands, dressed.stands)
    assert session.redo()
    assert session.character.body is None
    session.undo()
    session.load(characters.load(None))  # the same body from its shape and gender at the start
    assert (session.character.gender, session.character.shape) == ("neutral", ())


def test_a_pose_of_another_character_is_not_taken(session):
    reach(session)
    before = session.state
    with pytest.raises(BadInput):
        session.take(session.state.local[:5], session.state.root)
    assert session.state is before


def test_a_rig_that_was_loaded_is_written_back_with_its_meshes_as_long_as_it_is_there(tmp_path):
    session, given = Session(characters.load(None)), tmp_path / "rig.glb"
    given.write_bytes(saved.export(session, ".glb"))
    session.load(saved.character("rig.glb", given.read_bytes()))
    copy = session.character.file
    assert len(saved.export(session, ".glb")) > 0.5 * given.stat().st_size
    del session
    gc.collect()
    assert not copy.parent.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", b""), ("a.glb", b"glTF"), ("a.bvh", b"HIERARCHY"), ("a.npz", b"PK"), ("a.pkl", b"cos\nsystem\n."),
     ("a", b""), ("a" * 1000 + ".png", b""), ("a.json", b"{}"), ("../../a.bvh", b"\0" * 99)],
)  # fmt: skip
def test_files_without_a_character_are_refused_and_leave_nothing_behind(tmp_path, monkeypatch, name, content):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(BadInput) as told:
        saved.character(name, content)
    assert str(told.value).startswith(name[:80])
    assert str(tmp_path) not in str(told.value)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 500
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bone", ["", "0 0 0", "0 1e300 0", "0 1e-9 0"])
def test_what_cannot_be_looked_at_is_no_character(bone):
    end = f"End Site {{ OFFSET {bone} }} " if bone else ""
    channels = "CHANNELS 3 Zrotation Xrotation Yrotation"
    text = f"HIERARCHY ROOT a {{ OFFSET 0 0 0 {channels} {end}}} MOTION Frames: 1 Frame Time: 0.03 0 0 0"
    with pytest.raises(BadInput, match=r"^a\.bvh is no character: .* give two joints or more"):
        saved.character("a.bvh", text.encode())


def test_a_character_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(saved, "LARGEST", 3)
    with pytest.raises(BadInput, match="longer than 3"):
        saved.character("a.glb", b"1234")


def _broken(change):
    session = Session(characters.load(None))
    session.add("head")
    session.key(1.0)
    told = json.loads(saved.export(session, ".json"))
    change(told)
    return json.dumps(told).encode()


@pytest.mark.parametrize(
    "change",
    [lambda t: t.pop("studio"), lambda t: t["studio"].update(version=3), lambda t: t["studio"].update(shape=[9e999]),
     lambda t: t["studio"].update(gender="x"), lambda t: t["studio"]["handles"][0].update(kind="x"),
     lambda t: t["studio"]["handles"][0].update(joint="tail"), lambda t: t["studio"]["handles"][0].update(tolerance=-1),
     lambda t: t["studio"]["handles"].append(t["studio"]["handles"][0]),
     lambda t: t["studio"]["handles"][0].update(target=[1, 2]),
     lambda t: t["studio"]["keys"].append(t["studio"]["keys"][0]),
     lambda t: t["studio"].update(keys=t["studio"]["keys"] * 101),
     lambda t: t["studio"]["keys"][0].update(seconds=-1), lambda t: t["studio"]["pose"].update(root=[0, None, 0]),
     lambda t: t["studio"]["pose"].update(rotations=[[1e999, 0, 0]] * 24),
     lambda t: t["studio"].update(shape=[0.0] * 11)],
)  # fmt: skip
def test_damaged_sessions_are_refused(session, change):
    before = session.state
    with pytest.raises(BadInput):
        saved.bring(session, "work.json", _broken(change))
    assert session.state is before


def test_foreign_files_are_refused(session, monkeypatch):
    for name, content in (
        ("a.txt", b""),
        ("a.json", b"{"),
        ("a.bvh", b"HIERARCHY"),
        ("a.glb", b"glTF"),
        ("a.npz", b"PK"),
    ):
        with pytest.raises(BadInput, match=r"^a\.|studio"):
            saved.bring(session, name, content)
    monkeypatch.setattr(saved, "LARGEST", 3)
    with pytest.raises(BadInput, match="longer"):
        saved.bring(session, "a.json", b"1234")
    with pytest.raises(BadInput, match="choose one of"):
        saved.export(session, ".obj")


def test_the_drawn_skin_at_the_bones_is_the_bodys_skin(session):
    """Linear blend skinning by the renderer's rule gives what `Body.skin` gives."""
    reach(session)
    skin = drawn.skin(session.character)
    places, turns = drawn.pose(session)
    rotation = np.stack([_matrix(turn) for turn in turns])
    moved = np.einsum("jab,vjb->vja", rotation, skin.vertices[:, None] - skin.places) + places
    mine = np.einsum("vj,vja->va", skin.weights, moved)
    theirs = session.character.body.skin(session.state.local.float(), session.state.root.float())
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


def _matrix(q):
    w, x, y, z = q
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                     [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                     [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])  # fmt: skip


def test_sticks_are_closed_and_belong_to_the_joint_where_the_bone_begins(rig):
    character = characters.load(rig)
    skin = drawn.skin(character)
    assert len(skin.vertices) == 6 * 23
    edges = np.concatenate([skin.faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    there, back = {tuple(edge) for edge in edges}, {tuple(edge[::-1]) for edge in edges}
    assert there == back
    a, b, c = (skin.vertices[skin.faces[:, corner]] for corner in range(3))
    assert np.einsum("fa,fa->", a, np.cross(b, c)) > 0  # volume: faces look outwards
    bone = character.rig.skeleton.index("LeftHand")
    owner = skin.weights[6 * (bone - 1)].argmax()
    assert owner == character.rig.skeleton.parents[bone]


def test_dots_are_balls_that_face_outwards():
    points, faces = drawn.ball(0.5)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 0.5)
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    sixths = np.einsum("fa,fa->f", a, np.cross(b, c))
    assert (sixths > 0).all()
    assert 0.7 < sixths.sum() / 6 / (np.pi / 6) < 1


def test_colours_and_turns_of_gizmos():
    assert drawn.shades(np.array([0.0, 1.0, np.nan])).tolist() == [[46, 111, 180], [214, 76, 28], [214, 76, 28]]
    vector = np.array([0.3, -1.2, 0.4])
    np.testing.assert_allclose(drawn.axis_angle(drawn.turn_of(tuple(vector))), vector, atol=1e-9)


def test_the_desk_works_in_order_and_newer_drags_replace_waiting_ones():
    seen, errors, gate = [], [], threading.Event()
    desk = Desk(errors.append)
    desk.put(lambda: gate.wait(5))
    for number in range(5):
        desk.put(lambda number=number: seen.append(number), "drag")
    desk.put(lambda: 1 / 0)
    desk.put(lambda: seen.append("end"), "drag")
    gate.set()
    assert desk.drain(5)
    assert seen == [4, "end"]
    assert isinstance(errors[0], ZeroDivisionError)
    gate.clear()
    desk.put(lambda: gate.wait(5))
    assert not desk.drain(0.05)
    gate.set()
    desk.close()
