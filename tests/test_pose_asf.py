"""Acclaim's files against forward kinematics written out bone by bone, and damaged ones."""

import contextlib
import math

import numpy as np
import pytest
import torch

from framefill.errors import BadInput, MediaError
from framefill.pose import results, rotations
from framefill.pose.files import asf

UNIT = 0.0254 / 0.45
BONES = {  # name: parent, direction, length, axis in degrees, dof
    "lhipjoint": ("root", (0.6, -0.8, 0.0), 2.4, (0, 0, 90), ""),
    "lfemur": ("lhipjoint", (0.342, -0.9397, 0.0), 7.1, (0, 0, 20), "rx ry rz"),
    "ltibia": ("lfemur", (0.342, -0.9397, 0.0), 7.4, (10, -5, 20), "rx"),
    "lowerback": ("root", (0.0, 0.997, -0.07), 2.1, (0, 0, 0), "rx ry rz"),
    "thorax": ("lowerback", (0.0, 1.0, 0.0), 2.0, (0, 30, 0), "rz ry"),
}
HEADER = (
    ":version 1.10\n:name test\n:units\n  mass 1.0\n  length 0.45\n  angle deg\n:documentation\n  words of any kind\n"
)
ROOT = ":root\n  order TX TY TZ RX RY RZ\n  axis XYZ\n  position 0 0 0\n  orientation 0 0 0\n"


def skeleton_text():
    lines = [HEADER + ROOT + ":bonedata"]
    for number, (name, (_, direction, length, axis, dof)) in enumerate(BONES.items()):
        lines.append(f"  begin\n  id {number}\n  name {name}\n  direction {' '.join(map(str, direction))}\n"
                     f"  length {length}\n  axis {' '.join(map(str, axis))} XYZ")  # fmt: skip
        lines.append(f"  dof {dof}\n  limits (-10 10)\n  end" if dof else "  end")
    pairs = "\n".join(f"    {parent} {name}" for name, (parent, *_) in BONES.items())
    return "\n".join(lines) + f"\n:hierarchy\n  begin\n{pairs}\n  end\n"


def motion_text(values):
    text = "#!OML:ASF\n:FULLY-SPECIFIED\n:DEGREES\n"
    for number, frame in enumerate(values, 1):
        text += f"{number}\n" + "".join(f"{name} {' '.join(map(str, row))}\n" for name, row in frame.items())
    return text


def numbers(frames=3):
    rng = np.random.default_rng(1)
    return [
        {"root": rng.uniform(-40, 40, 6).round(4).tolist()}
        | {n: rng.uniform(-60, 60, len(b[4].split())).round(4).tolist() for n, b in BONES.items() if b[4]}
        for _ in range(frames)
    ]


@pytest.fixture
def saved(tmp_path):
    (tmp_path / "07.asf").write_text(skeleton_text())
    (tmp_path / "07_01.amc").write_text(motion_text(numbers()))
    return tmp_path / "07_01.amc"


def about(axis, degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    a, b = [(1, 2), (2, 0), (0, 1)]["xyz".index(axis)]
    turn = np.eye(3)
    turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
    return turn


def by_hand(frame):
    """Where each bone ends, as Acclaim's own description says: end = begin + G direction length."""
    row = dict(zip(("tx", "ty", "tz", "rx", "ry", "rz"), frame["root"], strict=True))
    turned = {"root": about("z", row["rz"]) @ about("y", row["ry"]) @ about("x", row["rx"])}
    ends = {"root": UNIT * np.array([row["tx"], row["ty"], row["tz"]])}
    for name, (parent, direction, length, axis, dof) in BONES.items():
        own = np.eye(3)
        for kind, value in zip(dof.split(), frame.get(name, ()), strict=True):
            own = about(kind[1], value) @ own
        frame_of = about("z", axis[2]) @ about("y", axis[1]) @ about("x", axis[0])
        turned[name] = turned[parent] @ frame_of @ own @ frame_of.T
        along = np.array(direction) / np.linalg.norm(direction)
        ends[name] = ends[parent] + turned[name] @ along * length * UNIT
    return ends, turned


def test_bones_end_where_kinematics_by_hand_puts_them(saved):
    motion = asf.read(saved)
    assert (len(motion), motion.seconds) == (3, 1 / 120)
    names = motion.skeleton.names
    assert "lhipjoint" not in names  # begins at the root and never turns
    positions, turned = motion.world()
    for i, frame in enumerate(numbers()):
        ends, rotated = by_hand(frame)
        begins = {"ltibia": "lfemur", "lfemur": "lhipjoint", "thorax": "lowerback", "ltibia end": "ltibia",
                  "thorax end": "thorax", "root": "root"}  # fmt: skip
        for joint, bone in begins.items():
            np.testing.assert_allclose(positions[i, names.index(joint)], ends[bone], atol=3e-5)
        for bone in ("root", "lfemur", "ltibia", "lowerback", "thorax"):
            angle = rotations.angle(turned[i, names.index(bone)], torch.from_numpy(rotated[bone]))
            assert torch.rad2deg(angle) < 0.01


def test_the_verbs_read_it(saved):
    assert len(results.motion_of(saved)) == 3
    still = asf.read_skeleton(saved.with_name("07.asf"))
    torch.testing.assert_close(still.local[0], torch.eye(3).double().expand(len(still.skeleton), 3, 3))


def test_the_skeleton_is_the_one_that_begins_the_name(saved):
    other = saved.with_name("08.asf")
    other.write_text("nothing")
    assert asf.beside(saved).name == "07.asf"
    saved.with_name("07.asf").unlink()
    assert asf.beside(saved).name == "08.asf"
    other.unlink()
    with pytest.raises(MediaError, match=r"0 \.asf files"):
        asf.read(saved)
    with pytest.raises(BadInput, match="per second"):
        asf.read(saved, rate=0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("length 7.1", "length x", "finite numbers"),
        ("length 7.1", "length nan", "finite numbers"),
        ("name ltibia", "name lfemur", "a second bone"),
        ("lfemur ltibia", "lfemur odd", "unknown"),
        ("lfemur ltibia", "lfemur lfemur", "attached twice"),
        ("    lfemur ltibia\n", "", "unattached: ltibia"),
        ("dof rz ry", "dof rz rz", "has the dof"),
        ("dof rz ry", "dof rq", "has the dof"),
        ("10 -5 20 XYZ", "10 -5 20 XXZ", "axis order"),
        ("length 0.45", "length 0", "no skeleton"),
        (
            "    root lhipjoint\n    lhipjoint lfemur\n",
            "    ltibia lhipjoint\n    lhipjoint lfemur\n",
            "a hierarchy is",
        ),
    ],
)
def test_damaged_skeletons_are_refused_with_the_line(saved, old, new, message):
    text = skeleton_text()
    assert old in text
    saved.with_name("07.asf").write_text(text.replace(old, new))
    with pytest.raises(BadInput, match=message):
        asf.read(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[: len(t) // 2].rpartition("\n")[0] + "\n", "within a frame|lacks"),
        (lambda t: t.replace("ltibia", "odd", 1), "a bone that turns"),
        (lambda t: t.replace("\n2\n", "\n", 1), "a bone that turns"),
        (lambda t: t.rstrip() + " 3\n", "finite numbers"),
        (lambda t: "\n".join(line for line in t.splitlines() if not line.startswith("thorax")), "lacks thorax"),
        (lambda t: "", "within a frame"),
    ],
)
def test_damaged_motion_is_refused_with_the_line(saved, change, message):
    saved.write_text(change(motion_text(numbers())))
    with pytest.raises(MediaError, match=message):
        asf.read(saved)


def test_no_mutation_escapes_as_anything_else(saved, monkeypatch):
    rng = np.random.default_rng(0)
    for path in (saved, saved.with_name("07.asf")):
        whole = path.read_bytes()
        for _ in range(60):
            data = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.3 else whole)
            for place in rng.integers(0, len(data), 3):
                data[place] = rng.choice([10, 32, 45, 46, 48, 58, 101, 255])
            path.write_bytes(data)
            with contextlib.suppress(BadInput):
                asf.read(saved)
        path.write_bytes(whole)
    with pytest.raises(MediaError, match="cannot read"):
        asf.read(saved, saved.with_name("absent.asf"))
    monkeypatch.setattr(asf, "LARGEST", 10)
    with pytest.raises(MediaError, match="longer than 10"):
        asf.read(saved)
    monkeypatch.setattr(asf, "LARGEST", 2**20)
    monkeypatch.setattr(asf, "MOST_JOINTS", 3)
    with pytest.raises(MediaError, match="more than 3 bones"):
        asf.read(saved)
