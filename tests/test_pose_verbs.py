"""`framefill pose`: handles as words, characters from files, results in every form, and refusals in one line."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from framefill.errors import BadInput
from framefill.pose import characters, habits, kinematics, results, rotations, wishes
from framefill.pose.effectors import Look, Place, Turn
from framefill.pose.files import bvh, handles
from framefill.pose.human import human
from framefill.pose.limits import Limits
from framefill.pose.motion import Motion

BODY = human().tree
REST = human().rest()


@pytest.fixture
def rig(tmp_path):
    """A BVH of the body under Mixamo-like names, in centimetres."""
    names = {"left_wrist": "LeftHand", "left_elbow": "LeftForeArm", "left_shoulder": "LeftArm", "left_hand": "LeftTip"}
    local = torch.eye(3).double().expand(2, 24, 3, 3)
    path = tmp_path / "rig.bvh"
    bvh.write(path, Motion(BODY.renamed(names), local, torch.zeros(2, 3).double()))
    return path


def read(text):
    return wishes.read(text, lambda word: word, lambda joint: REST[BODY.index(joint)])


def test_handles_as_words():
    place = read("left_wrist=0.4,1.1,0.2")
    assert isinstance(place, Place)
    assert (place.joint, place.target.tolist(), place.tolerance) == ("left_wrist", [0.4, 1.1, 0.2], 0)
    several = read("head = 0,1,0; 0,2,0 ~0.05")
    assert several.target.tolist() == [[0, 1, 0], [0, 2, 0]]
    assert several.tolerance == 0.05
    turn = read("head:rotation=0,1,0")
    assert isinstance(turn, Turn)
    torch.testing.assert_close(turn.target, rotations.from_axis_angle(torch.tensor([0.0, 1, 0]).double()))
    look = read("head:look-at=1,2,3/1,0,0~0.1")
    assert isinstance(look, Look)
    assert (look.axis.tolist(), look.tolerance) == ([1, 0, 0], 0.1)
    assert read("left_ankle=pin").target.tolist() == REST[BODY.index("left_ankle")].tolist()


@pytest.mark.parametrize(
    "text",
    ["left_wrist", "=1,2,3", "a=1,2", "a=1,2,nan", "a=1,2,x", "a:twist=1,2,3", "a=1,2,3/0,0,1", "a:rotation=pin",
     "a=1,2,3~", "a=1,2,3~-1", "a=1,2,3~1,2", "a:look-at=1,2,3/0,0,0", "a=" + ";".join(["1,2,3"] * 10001)],
)  # fmt: skip
def test_words_that_are_no_handle_are_refused(text):
    if text == "a=1,2,3~":  # nothing behind the mark: as if it were not there
        assert read(text).tolerance == 0
        return
    with pytest.raises(BadInput):
        read(text)


def test_the_first_command_needs_nothing(call):
    code, out, _ = call("pose", "solve", "--effector", "left_wrist=0.4,1.1,0.2", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["handles"][0][0] == {"joint": "left_wrist", "kind": "position", "unit": "mm", "met": True} | {
        "missed": pytest.approx(0, abs=1)
    }
    positions = found["poses"][0]["positions"]
    np.testing.assert_allclose(positions["left_wrist"], [0.4, 1.1, 0.2], atol=1e-3)
    for foot in ("left_ankle", "right_ankle"):  # it stands, and its own turns give the same places
        np.testing.assert_allclose(positions[foot], REST[BODY.index(foot)], atol=0.06)
    turns = torch.tensor([found["poses"][0]["rotations"][name] for name in BODY.names]).double()
    made, _ = kinematics.forward(BODY, rotations.from_axis_angle(turns), torch.tensor(positions["pelvis"]).double())
    np.testing.assert_allclose(made, list(positions.values()), atol=1e-4)


def test_the_first_command_loads_little():
    code = (
        "import sys; from framefill import cli; sys.argv = ['framefill', 'pose', 'solve', '-e', 'head=0,1.5,0.1', "
        "'--json']; cli.main(); print({'roma', 'scipy', 'matplotlib', 'av'} & sys.modules.keys(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


def test_results_in_every_form_hold_the_same_pose(call, tmp_path):
    words = ("pose", "solve", "-e", "right_wrist=-0.3,1.6,0.3", "--shape=1,0.5", "--gender", "female")
    found = {}
    for suffix in ("bvh", "glb", "npz", "json", "png"):
        code, out, err = call(*words, "-o", tmp_path / f"pose.{suffix}")
        assert (code, out.strip(), err) == (0, str(tmp_path / f"pose.{suffix}"), "")
    character = characters.load(None, (1, 0.5), "female")
    for suffix in ("bvh", "glb", "npz"):
        motion = results.motion_of(tmp_path / f"pose.{suffix}", character)
        places = motion.world()[0][0].double()
        found[suffix] = {name: places[i].tolist() for i, name in enumerate(motion.skeleton.names) if "end" not in name}
    found["json"] = json.loads((tmp_path / "pose.json").read_text())["poses"][0]["positions"]
    for suffix in ("glb", "npz", "json"):
        for name, place in found["bvh"].items():
            np.testing.assert_allclose(found[suffix][name], place, atol=1e-4, err_msg=f"{suffix} {name}")
    with Image.open(tmp_path / "pose.png") as picture:
        assert picture.size == (960, 480)
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
        assert (np.abs(colours - [0, 130, 45]).max(1) < 20).sum() > 20  # the handle


def test_tables_and_several_poses(call, tmp_path):
    table = tmp_path / "handles.csv"
    handles.write(table, [Place("pelvis", REST[0].double()), Turn("head", torch.eye(3).double(), 0.1)])
    code, out, _ = call("pose", "solve", "--handles", table, "-e", "left_wrist=0.4,1.1,0.2;0.3,1.4,0.3", "--json")
    assert code == 0
    found = json.loads(out)
    assert [pose["positions"]["left_wrist"] for pose in found["poses"]] == [
        pytest.approx([0.4, 1.1, 0.2], abs=1e-3), pytest.approx([0.3, 1.4, 0.3], abs=1e-3)
    ]  # fmt: skip
    assert [row["kind"] for row in found["handles"][1]] == ["position", "position", "rotation"]
    rows = list(csv.reader(table.open()))
    assert rows[1][:2] == ["position", "pelvis"]


def test_a_rig_answers_to_roles_and_to_its_own_names(call, rig, tmp_path):
    for name in ("left_wrist", "LeftHand"):
        code, out, _ = call(
            "pose", "solve", "-c", rig, "-e", f"{name}=0.4,1.1,0.2", "--json", "-o", tmp_path / "o.bvh", "-y"
        )
        assert code == 0
        np.testing.assert_allclose(json.loads(out)["poses"][0]["positions"]["LeftHand"], [0.4, 1.1, 0.2], atol=1e-3)
    assert "LeftHand" in bvh.read(tmp_path / "o.bvh").skeleton.names


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-e", "left_wrst=1,2,3"], "there is no joint 'left_wrst'; the nearest are left_wrist"),
        (["-e", "left_wrist=1,2,nan"], "is not 3 finite numbers"),
        ([], "no handle is given"),
        (["-e", "pelvis=0,1,0", "-e", "left_wrist=5,1,0"], "left_wrist came no closer than"),
        (["-e", "head=0,9,0"], "the feet would move by"),
        (["-e", "head=0,1.5,0", "-o", "x.fbx"], "poses are written as .bvh"),
        (["-e", "head=0,1.5,0", "-o", "no/x.bvh"], "there is no folder"),
        (["-e", "head=0,1.5,0", "--shape", "1,b"], "cannot read --shape"),
        (["-e", "head=0,1.5,0", "--shape", "1,1,1,1,1,1,1,1,1,1,1"], "a shape of 11 numbers"),
        (["-e", "head=0,1.5,0", "-c", "x.fbx"], "a character is .bvh"),
        (["-e", "head=0,1.5,0", "-c", "x.npz"], "there is no file"),
    ],
)
def test_refusals(call, words, message):
    code, out, err = call("pose", "solve", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_refusals_about_files(call, rig, tmp_path):
    cases = [
        (["-c", rig, "--shape", "1"], "has no shape to choose"),
        (["-c", rig, "-o", tmp_path / "x.glb"], "write this skeleton as .bvh"),
        (["-o", rig], "is already there"),
    ]
    for words, message in cases:
        code, _, err = call("pose", "solve", "-e", "head=0,1.5,0", *words)
        assert code == 2
        assert message in err


def test_the_nearest_pose_is_taken_if_that_is_said(call):
    code, out, err = call("pose", "solve", "-e", "pelvis=0,1,0", "-e", "left_wrist=5,1,0", "--nearest", "--json")
    assert code == 0
    assert "left_wrist came no closer than" in err
    assert not all(row["met"] for row in json.loads(out)["handles"][0])


def test_floating_lets_the_feet_go(call):
    code, out, _ = call("pose", "solve", "-e", "head=0,3,0", "--floating", "--json")
    assert code == 0
    assert json.loads(out)["poses"][0]["positions"]["left_ankle"][1] > 1


def test_the_shipped_manner_is_symmetric_and_its_drawn_poses_keep_its_limits():
    known = habits.manner()
    drawn = habits.drawn(50)
    assert habits.SHIPPED.stat().st_size < 12_000
    vectors = rotations.to_axis_angle(drawn)
    assert (vectors[:, 1:] >= known.limits.low[1:] - 1e-6).all()
    assert (vectors[:, 1:] <= known.limits.high[1:] + 1e-6).all()
    mean = rotations.from_axis_angle(known.habit.mean.reshape(1, 24, 3))
    torch.testing.assert_close(habits.mirrored(mean), mean, atol=1e-4, rtol=0)
    knee = rotations.to_axis_angle(drawn)[:, BODY.index("left_knee")]
    assert knee[:, 0].min() > -0.25  # knees bend back only
    assert knee[:, 0].max() > 0.5


def test_manners_survive_their_file_and_reach_other_rigs(tmp_path, monkeypatch):
    known = habits.manner()
    habits.write(tmp_path / "a.npz", known)
    with np.load(tmp_path / "a.npz") as written, np.load(habits.SHIPPED) as shipped:  # zip's own bytes differ by Python
        assert sorted(written.files) == sorted(shipped.files)
        assert all(np.array_equal(written[name], shipped[name]) for name in shipped.files)
    other = habits.worn(characters.load(None, (0, 2)).rig)  # bones of other lengths, the same turns
    assert other is known
    renamed = characters.Rig.of(BODY.renamed({"pelvis": "Hips"}))
    worn = habits.worn(renamed)
    assert isinstance(worn.limits, Limits)
    spine = 3 * BODY.index("left_shoulder")
    inverse = [
        torch.linalg.inv(m.habit.factor.T @ m.habit.factor)[spine : spine + 3, spine : spine + 3] for m in (known, worn)
    ]
    torch.testing.assert_close(inverse[0], inverse[1], atol=0.1, rtol=0.3)
