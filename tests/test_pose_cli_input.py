"""Bad input to `framefill pose` as a user gives it: one line that says what to do, code 2, no file lost or begun."""

import json
import shlex
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from framefill.pose import estimator
from framefill.pose.body import NAMES, PARENTS
from framefill.pose.files import bvh, glb
from framefill.pose.human import human
from framefill.pose.motion import Motion
from test_pose_body import smpl_parts
from test_pose_glb import rewritten

HEAD = ("-e", "head=0,1.5,0.1")
KEPT = b"a result of an hour ago"


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """An empty folder, where the user is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(call, empty):
    """Runs a verb that must be refused: its one line. What was in the folder is there still, and nothing else."""

    def run(*words):
        before = {path.name: path.read_bytes() for path in empty.iterdir() if path.stat().st_size < 2**24}
        names = {path.name for path in empty.iterdir()}
        code, out, err = call("pose", *words)
        assert (code, out) == (2, ""), (out, err)
        assert err.startswith("framefill: ")
        assert len(err.splitlines()) == 1
        assert len(err) < 700
        assert {path.name for path in empty.iterdir()} == names
        assert all((empty / name).read_bytes() == content for name, content in before.items())
        return err

    return run


def moving(skeleton, frames=3):
    local = torch.eye(3).double().repeat(frames, len(skeleton), 1, 1)
    return Motion(skeleton, local, torch.zeros(frames, 3).double())


@pytest.fixture
def rig_bvh(empty):
    bvh.write(empty / "rig.bvh", moving(human().tree))
    return (empty / "rig.bvh").read_text()


@pytest.fixture
def rig_glb(empty):
    glb.write(empty / "rig.glb", moving(human().tree), human())
    return empty / "rig.glb"


# Handles


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-e", "left_wirst=0.4,1,0.2"), "the nearest are left_wrist"),
        (("-e", "Left Wrist=0.4,1,0.2"), "the nearest are left_wrist"),
        (("-e", "left_wrist=0.4,nan,0.2"), "is not 3 finite numbers"),
        (("-e", "left_wrist=0.4,inf,0.2"), "is not 3 finite numbers"),
        (("-e", "left_wrist=0.4,1,0.2~nan"), "is not 1 finite numbers"),
        (("-e", "left_wrist:rotation=nan,0,0"), "is not 3 finite numbers"),
        (("-e", "left_wrist=1e300,1,0"), "at most 1e+06 metres"),
        (("-e", "head:look-at=0,-1e200,0"), "at most 1e+06 metres"),
        (("-e", "pelvis=0,1,0", "-e", "left_wrist=1e6,1,0"), "left_wrist came no closer than"),
        (("-e", "pelvis=0,1,0", "-e", "left_wrist=5,1,0"), "left_wrist came no closer than 1938 mm"),
        (("-e", "head:rotation=0,3,0", "-e", "neck:rotation=0,0,0"), "head came no closer than"),
        ((*HEAD, "--shape", "nan"), "finite"),
        ((*HEAD, "--shape", "1e300"), "shape"),
        ((*HEAD, "--samples", "0"), "ask for 1 to 64"),
        ((*HEAD, "--samples", "100000"), "ask for 1 to 64"),
        ((*HEAD, "--samples", "2", "--seed", "-1"), "a seed of -1; give 0 or more"),
    ],
)
def test_handles_that_cannot_be(refused, empty, words, message):
    (empty / "pose.bvh").write_bytes(KEPT)
    assert message in refused("solve", *words, "-o", "pose.bvh", "-y")


@pytest.mark.parametrize(
    ("table", "message"),
    [("", "kind"), ("kind,joint\n1,2\n", "kind"), ("NAN", "finite"), ("\x00\xff", "not a table in UTF-8")],
)
def test_tables_that_are_none(refused, empty, table, message):
    head = "kind,joint,x,y,z,axis_x,axis_y,axis_z,tolerance\n"
    text = table.replace("NAN", head + "position,head,nan,1,0,,,,0\n")
    (empty / "handles.csv").write_text(text, encoding="latin-1")
    assert message in refused("solve", "--handles", "handles.csv")


@pytest.mark.parametrize(
    ("points", "message"),
    [("[[1, 2, 3]]", "coco has (17, 3)"), ("[]", "are a list of"), ("{}", "are a list of"), ("7", "are a list of"),
     ("[[1]]", "'[1]' is no keypoint"), ("[null]", "coco has (17, 3)"), ('[["a", 1, 2]]', "is no keypoint"),
     (json.dumps([None] * 17), "0 of 0 points"), (json.dumps([[float("inf"), 1, 2]] * 17), "0 of 0 points"),
     (json.dumps([[float("nan"), 1, 2]] * 17), "0 of 0 points"),
     (json.dumps([[1, 2, 3]] * 17), "12 keypoints without extent: all lie within 0 mm"),
     (json.dumps([[1, 2 + 0.0005 * i, 3] for i in range(17)]), "without extent: all lie within 5.5 mm"),
     ("[" * 10000, "is no JSON")],
)  # fmt: skip
def test_keypoints_that_are_none(refused, empty, points, message):
    (empty / "points.json").write_text(points)
    assert message in refused("keypoints", "points.json", "-o", "pose.bvh")


# Skeletons


def test_bones_without_length(refused, empty, rig_bvh, rig_glb):
    offset = rig_bvh.split("JOINT left_knee")[1].split("OFFSET")[1].split("\n")[0]
    broken = rig_bvh.replace(offset, " 0 0 0")
    lines = broken.splitlines()
    numbers = lines[-1].split()
    lines[-1] = " ".join(numbers[:6] + ["10"] * (len(numbers) - 6))  # every joint turns
    (empty / "zero.bvh").write_text("\n".join(lines) + "\n")
    rewritten(rig_glb, lambda told: told["nodes"][5].update(translation=[0, 0, 0]))
    for name in ("zero.bvh", "rig.glb"):
        assert "has length zero" in refused("solve", *HEAD, "-c", name)
        assert "has length zero" in refused("recover", name)
        assert "has length zero" in refused("fit-shape", name)


def test_hierarchies_that_are_no_tree(refused, empty, rig_bvh, rig_glb):
    root = rig_bvh[rig_bvh.index("ROOT") : rig_bvh.index("MOTION")]
    (empty / "two.bvh").write_text(rig_bvh.replace("MOTION", root.replace("ROOT pelvis", "ROOT other") + "MOTION"))
    whole = rig_glb.read_bytes()
    changes = {
        "cycle.glb": (lambda told: told["nodes"][23].update(children=[0]), "own ancestor"),
        "self.glb": (lambda told: told["nodes"][4].update(children=[4]), "the joint 'left_knee' is its own ancestor"),
        "two.glb": (lambda told: told["nodes"][0].update(children=[1]), "roots"),
    }
    for name, (change, _) in changes.items():
        (empty / name).write_bytes(whole)
        rewritten(empty / name, change)
    for verb in (("solve", *HEAD, "-c"), ("recover",), ("fit-shape",), ("studio", "--no-open", "--port", "0", "-c")):
        assert "several roots; join them under one" in refused(*verb, "two.bvh")
        for name, (_, message) in changes.items():
            assert message in refused(*verb, name)


def test_an_smpl_file_of_another_tree(refused, empty):
    parents = np.array([PARENTS, range(24)])
    parents[0, 3] = 9  # 3 is above 9
    np.savez(empty / "body.npz", **smpl_parts() | {"kintree_table": parents})
    assert "joint tree is not SMPL's" in refused("solve", *HEAD, "-c", "body.npz")
    (empty / "other.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    assert "cannot be read as an .npz" in refused("solve", *HEAD, "-c", "other.npz")
    assert "cannot be read as an .npz" in refused("fit-shape", "other.npz")


def test_rigs_that_lack_limbs_say_which(refused, empty):
    arm = [NAMES.index(name) for name in ("pelvis", "spine1", "spine2", "spine3", "left_collar", "left_shoulder")]
    tree = human().tree
    parents = tuple(range(-1, len(arm) - 1))
    part = type(tree)(tuple(NAMES[i] for i in arm), parents, tree.offsets[arm])
    bvh.write(empty / "arm.bvh", moving(part))
    bvh.write(empty / "whole.bvh", moving(tree))
    for method in ("optimise", "kernel"):
        line = refused("fit-shape", "arm.bvh", "--method", method)
        assert "head, right_ankle, right_elbow, right_hip" in line
        assert "it has pelvis, spine1" in line
    assert "only 1 joints correspond" in refused("retarget", "whole.bvh", "--onto", "arm.bvh", "-o", "o.bvh")
    assert "only 1 joints correspond" in refused("retarget", "arm.bvh", "-o", "o.bvh")
    assert "there is no joint 'head'" in refused("solve", *HEAD, "-c", "arm.bvh")


def test_a_rig_without_human_roles_is_posed_and_told_of_in_one_line(call, empty):
    tree = human().tree
    part = type(tree)(("a", "b", "c", "d"), (-1, 0, 1, 2), tree.offsets[[0, 3, 6, 9]])
    bvh.write(empty / "pole.bvh", moving(part))
    code, out, told = call("pose", "solve", "-c", "pole.bvh", "-e", "d=0.1,0.3,0.1", "--json")
    assert code == 0
    assert json.loads(out)["poses"][0]["positions"]["d"] == pytest.approx([0.1, 0.3, 0.1], abs=1e-3)
    assert told.count("\n") == 1
    assert "too few joints of this rig" in told
    assert "a would move by" in call("pose", "solve", "-c", "pole.bvh", "-e", "d=3,0,0")[2]
    assert call("pose", "solve", "-c", "pole.bvh", "-e", "d=0.1,0.3,0.1", "-o", "o.png")[0] == 0


def test_numbers_that_are_none(refused, rig_bvh):
    assert "enough" in refused("recover", "rig.bvh", "--enough", "nan", "-o", "o.csv")
    assert "ask for 1 to 24" in refused("recover", "rig.bvh", "--most", "0", "-o", "o.csv")
    assert "frame -1 of 3" in refused("recover", "rig.bvh", "--frame", "-1", "-o", "o.csv")
    assert "a rising time for each" in refused("between", "rig.bvh", "--times", "0,nan,1", "-o", "o.bvh")
    assert "up to 100000 frames" in refused("between", "rig.bvh", "--times", "0,1,1e300", "-o", "o.bvh")
    assert "nan frames per second" in refused("between", "rig.bvh", "--fps", "nan", "-o", "o.bvh")


def test_shapes_that_nobody_has(refused, empty):
    for shape in ("1000", "0,-40", "0,0,0,0,0,8.5"):  # bones of 60 m, bones and skin turned inside out
        assert "give numbers from -8 to 8" in refused("solve", "-e", "head=pin", f"--shape={shape}")


# Files


@pytest.mark.parametrize("verb", [("solve", *HEAD, "-c"), ("recover",), ("fit-shape",), ("between", "-o", "o.bvh")])
def test_truncated_files(refused, empty, rig_bvh, rig_glb, verb):
    whole = {"cut.bvh": rig_bvh.encode(), "cut.glb": rig_glb.read_bytes()}
    for name, content in whole.items():
        for part in (0, 10, len(content) // 3, len(content) - 40):
            (empty / name).write_bytes(content[:part])
            assert name in refused(*verb, name)


def test_huge_files_are_not_read(refused, empty, rig_glb, monkeypatch):
    for name in ("huge.bvh", "huge.glb", "huge.json"):
        with (empty / name).open("wb") as file:
            file.truncate(2**33)  # 8 GB that take no room
    assert "longer than" in refused("solve", *HEAD, "-c", "huge.bvh")
    assert "longer than" in refused("recover", "huge.glb")
    assert "longer than" in refused("solve", *HEAD, "-c", "huge.glb")
    assert "longer than" in refused("keypoints", "huge.json")
    rewritten(rig_glb, lambda told: told["accessors"][-2].update(count=10**12))  # a mesh or motion that is not there
    assert "ends behind the data" in refused("recover", "rig.glb")


def test_skeletons_of_too_many_joints(refused, empty):
    deep = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 3 Xrotation Yrotation Zrotation\n"
    joint = "JOINT {}\n{{\nOFFSET 0 1 0\nCHANNELS 3 Xrotation Yrotation Zrotation\nEnd Site\n{{\nOFFSET 0 1 0\n}}\n}}\n"
    (empty / "many.bvh").write_text(deep + "".join(joint.format(f"j{i}") for i in range(5000)) + "}\nMOTION\n")
    assert "more than 4096 joints" in refused("solve", *HEAD, "-c", "many.bvh")


# Pictures


@pytest.fixture
def nobody(empty, monkeypatch):
    """An estimator that sees nobody, kept out of the user's folder."""
    answer = json.dumps({"layout": "coco", "people": []})
    return ("--estimator", shlex.join([sys.executable, "-c", f"print({answer!r})"]))


def test_pictures_without_people_and_files_that_are_none(refused, empty, nobody, monkeypatch):
    Image.new("RGB", (60, 40), (90, 120, 60)).save(empty / "meadow.png")
    (empty / "pose.glb").write_bytes(KEPT)
    words = ("-o", "pose.glb", "-y", *nobody)
    assert "sees nobody in the picture" in refused("from-image", "meadow.png", *words)
    (empty / "cut.png").write_bytes((empty / "meadow.png").read_bytes()[:60])
    assert "cannot read cut.png" in refused("from-image", "cut.png", *words)
    assert "cannot read absent.png" in refused("from-image", "absent.png", *words)
    monkeypatch.setattr(estimator, "MOST_PIXELS", 1000)
    assert "60x40 pixels" in refused("from-image", "meadow.png", *words)


def test_clips_that_are_none(refused, empty):
    for clips, message in (
        ({"humanoid3d_jump": np.full((40, 44), np.nan)}, "finite numbers"),
        ({"humanoid3d_jump": np.zeros((40, 44))}, "a time above 0"),
        ({"humanoid3d_jump": np.zeros((40, 3))}, "44 finite numbers"),
        ({"humanoid3d_walk": np.ones((40, 44))}, "no clip of the test split"),
        ({}, "no clip of the test split"),
    ):
        np.savez(empty / "clips.npz", **clips)
        assert message in refused("evaluate", "clips.npz", "-o", "table.csv")
