"""BVH and tables of handles: what a file means, round trips within 0.1 mm and 0.01 degree, and hostile files."""

import contextlib
import math

import numpy as np
import pytest
import torch

from framefill.errors import BadInput, MediaError
from framefill.pose import rotations
from framefill.pose.effectors import Look, Place, Turn
from framefill.pose.files import bvh, handles
from framefill.pose.human import human
from framefill.pose.motion import Motion

RNG = torch.Generator().manual_seed(2)

ARM = """HIERARCHY
ROOT shoulder
{
  OFFSET 0 0 0
  CHANNELS 6 Zposition Xposition Yposition Yrotation Zrotation Xrotation
  JOINT elbow
  {
    OFFSET 30 0 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 25 0 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.025
3 1 2 0 0 0 90 0 0
3 1 2 90 0 0 0 0 0
"""


def written(folder, text: str):
    path = folder / "a.bvh"
    path.write_text(text)
    return path


def wave(frames: int = 12) -> Motion:
    vectors = torch.randn(frames, 24, 3, generator=RNG, dtype=torch.float64)
    root = torch.randn(frames, 3, generator=RNG, dtype=torch.float64)
    return Motion(human().tree, rotations.from_axis_angle(vectors), root, 1 / 120)


def test_a_bvh_arm_is_where_the_file_says(tmp_path):
    motion = bvh.read(written(tmp_path, ARM))
    places, _ = motion.world()
    assert motion.skeleton.names == ("shoulder", "elbow", "elbow end")
    assert motion.seconds == 0.025
    expected = [[0.01, 0.02, 0.03], [0.31, 0.02, 0.03], [0.31, 0.27, 0.03]]  # the elbow turned up about z
    torch.testing.assert_close(places[0], torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)
    expected = [[0.01, 0.02, 0.03], [0.01, 0.02, -0.27], [0.01, 0.02, -0.52]]  # the shoulder turned about y
    torch.testing.assert_close(places[1], torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


def test_rotation_channels_multiply_in_their_order(tmp_path):
    text = ARM.replace("3 1 2 0 0 0 90 0 0", "3 1 2 10 20 30 40 50 60")
    local = bvh.read(written(tmp_path, text)).local[0]
    degrees = lambda *angles: torch.tensor(angles, dtype=torch.float64) * math.pi / 180  # noqa: E731
    torch.testing.assert_close(local[0], rotations.from_euler(degrees(10, 20, 30), "yzx"))
    torch.testing.assert_close(local[1], rotations.from_euler(degrees(40, 50, 60), "zxy"))


def test_units_and_axes_are_the_stated_ones(tmp_path):
    path = written(tmp_path, ARM)
    metres = bvh.read(path, metres=1.0)
    torch.testing.assert_close(metres.world()[0], 100 * bvh.read(path).world()[0])
    upright = bvh.read(path, up="z")
    x, y, z = bvh.read(path).world()[0].unbind(-1)
    torch.testing.assert_close(upright.world()[0], torch.stack([x, z, -y], -1))


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("metres", [0.01, 1.0, 0.0254])
def test_bvh_round_trip(tmp_path, up, metres):
    motion = wave()
    bvh.write(tmp_path / "a.bvh", motion, up=up, metres=metres)
    back = bvh.read(tmp_path / "a.bvh", up=up, metres=metres)
    order = [back.skeleton.index(name) for name in motion.skeleton.names]
    assert (back.world()[0][:, order] - motion.world()[0]).abs().max() < 1e-4
    assert torch.rad2deg(rotations.angle(back.local[:, order], motion.local)).max() < 0.01
    assert back.seconds == pytest.approx(motion.seconds, rel=1e-8)


def test_what_was_read_is_written_alike(tmp_path):
    first = bvh.read(written(tmp_path, ARM))
    bvh.write(tmp_path / "b.bvh", first)
    second = bvh.read(tmp_path / "b.bvh")
    assert second.skeleton == first.skeleton
    torch.testing.assert_close(second.world()[0], first.world()[0])


def test_gimbal_lock_survives(tmp_path):
    local = torch.eye(3).double().expand(1, 24, 3, 3).clone()
    local[:, 5] = rotations.from_euler(torch.tensor([0.4, math.pi / 2, 0.3]).double(), "zxy")
    bvh.write(tmp_path / "a.bvh", Motion(human().tree, local, torch.zeros(1, 3).double()))
    back = bvh.read(tmp_path / "a.bvh")
    turned = back.local[:, back.skeleton.index("right_knee")]
    assert torch.rad2deg(rotations.angle(turned, local[:, 5])).max() < 0.01


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "HIER", "line 1: 'HIER' where HIERARCHY"),
        ("OFFSET 30 0 0", "OFFSET 30 0", "line 9: 'CHANNELS' where a finite number"),
        ("OFFSET 30 0 0", "OFFSET nan 0 0", "'nan' where a finite number"),
        ("OFFSET 30 0 0", "OFFSET 0 0 0", "from 'shoulder' to 'elbow' has length zero"),
        ("CHANNELS 3", "CHANNELS 1000000000", "a whole number up to 6"),
        ("CHANNELS 3", "CHANNELS 2.5", "a whole number up to 6"),
        ("Zrotation Xrotation Yrotation\n    End", "Zrotation Xrotation Wrotation\n    End", "'Wrotation' where"),
        ("Frames: 2", "Frames: 3", "18 numbers; 3 frames of 9"),
        ("Frames: 2", "Frames: 1", "more than the 1 frames of 9"),
        ("Frames: 2", "Frames: 999999999999", "a whole number up to 1000000"),
        ("Frames: 2", "Frames: 0", "0 frames of 0.025 seconds"),
        ("Time: 0.025", "Time: 0", "2 frames of 0 seconds"),
        ("3 1 2 90", "3 1 2 x", "'x' where a number"),
        ("3 1 2 90", "3 1 2 inf", "of 9 finite ones"),
        ("MOTION", "ROOT other { }", "several roots; join them"),
        ("JOINT elbow", "JOINT shoulder", "several joints are called shoulder"),
    ],
)
def test_broken_bvh_is_refused_in_one_line(tmp_path, old, new, message):
    assert old in ARM
    with pytest.raises(BadInput, match=message) as caught:
        bvh.read(written(tmp_path, ARM.replace(old, new, 1)))
    assert "\n" not in str(caught.value)


def test_joints_without_length_that_never_turn_are_left_out(tmp_path):
    text = ARM.replace("OFFSET 30 0 0", "OFFSET 0 0 0").replace("0 0 0 90 0 0", "5 6 7 0 0 0")
    motion = bvh.read(written(tmp_path, text))
    assert motion.skeleton.names == ("shoulder", "elbow end")
    whole = bvh.read(written(tmp_path, text.replace("OFFSET 0 0 0\n    CHANNELS", "OFFSET 1e-3 0 0\n    CHANNELS")))
    torch.testing.assert_close(motion.world()[0], whole.world()[0][:, [0, 2]], atol=2e-5, rtol=0)
    ending = bvh.read(written(tmp_path, ARM.replace("OFFSET 25 0 0", "OFFSET 0 0 0")))
    assert ending.skeleton.names == ("shoulder", "elbow")


def test_a_bone_that_stretches_is_refused(tmp_path):
    text = ARM.replace("CHANNELS 3 Zrotation", "CHANNELS 4 Xposition Zrotation")
    still = text.replace("0 0 0 90 0 0", "0 0 0 40 90 0 0").replace("90 0 0 0 0 0\n", "90 0 0 40 0 0 0\n")
    assert bvh.read(written(tmp_path, still)).skeleton.lengths[1] == pytest.approx(0.4)
    with pytest.raises(MediaError, match="bone to 'elbow' changes its length"):
        bvh.read(written(tmp_path, still.replace("0 0 0 40 90", "0 0 0 41 90")))


def test_every_truncation_is_refused(tmp_path):
    whole = ARM.rstrip()
    for end in range(0, len(whole) - 1, 7):
        with pytest.raises(MediaError):
            bvh.read(written(tmp_path, whole[:end]))


def test_damaged_bytes_never_escape(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(ARM.encode())
        for _ in range(3):
            data[rng.integers(len(data))] = rng.integers(256)
        (tmp_path / "a.bvh").write_bytes(data)
        with contextlib.suppress(BadInput):  # or it is read: some letters belong to a name
            bvh.read(tmp_path / "a.bvh")


def test_a_hierarchy_may_not_nest_without_end(tmp_path):
    with pytest.raises(MediaError, match="more than 4096 joints"):
        bvh.read(written(tmp_path, "HIERARCHY ROOT a {" + "".join(f" JOINT j{i} {{" for i in range(5000))))


def test_bvh_options_and_places(tmp_path, monkeypatch):
    with pytest.raises(MediaError, match="cannot read"):
        bvh.read(tmp_path / "absent.bvh")
    with pytest.raises(BadInput, match="choose y or z"):
        bvh.read(written(tmp_path, ARM), up="x")
    with pytest.raises(BadInput, match="for centimetres"):
        bvh.write(tmp_path / "b.bvh", wave(1), metres=0)
    still = wave(1)
    spaced = Motion(still.skeleton.renamed({"head": "the head"}), still.local, still.root)
    with pytest.raises(BadInput, match="white space"):
        bvh.write(tmp_path / "b.bvh", spaced)
    monkeypatch.setattr(bvh, "LARGEST", 10)
    with pytest.raises(MediaError, match="longer than 10 bytes"):
        bvh.read(written(tmp_path, ARM))


# ---- tables of handles


def test_handles_round_trip(tmp_path):
    turn = rotations.from_axis_angle(torch.randn(3, generator=RNG).double())
    given = [
        Place("left_wrist", torch.tensor([0.1, 1.2, -0.3]).double(), 0.02),
        Turn("head", turn),
        Look("neck", torch.tensor([0.0, 1, 5]).double(), torch.tensor([0.0, 0, 1]).double(), 0.1),
    ]
    handles.write(tmp_path / "h.csv", given)
    back = handles.read(tmp_path / "h.csv")
    assert back == given
    torch.testing.assert_close(back[0].target, given[0].target, atol=0, rtol=0)
    torch.testing.assert_close(back[1].target, turn)
    torch.testing.assert_close(back[2].axis, given[2].axis)
    assert [effector.tolerance for effector in back] == [0.02, 0.0, 0.1]


HEAD = ",".join(handles.COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line must be kind,joint"),
        ("a,b\n", "the first line must be kind,joint"),
        (HEAD + "position,head,1,2\n", "line 2: 4 columns; there must be 9"),
        (HEAD + "\nposition,head,1,2,x,,,,0\n", "line 3: 'x' where a finite number"),
        (HEAD + "position,head,1,2,nan,,,,0\n", "'nan' where"),
        (HEAD + "push,head,1,2,3,,,,0\n", "kind 'push'; choose position"),
        (HEAD + "position,head,1,2,3,,,,-1\n", "a tolerance of -1.0"),
        (HEAD + "look-at,head,1,2,3,0,0,0,0\n", "not all zero"),
        (HEAD + 'position,"head', "not a table in UTF-8"),
        (b"\xff\xfe", "not a table in UTF-8"),
    ],
)
def test_broken_tables_are_refused_with_their_line(tmp_path, text, message):
    (tmp_path / "h.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(MediaError, match=message):
        handles.read(tmp_path / "h.csv")


def test_tables_have_limits(tmp_path):
    (tmp_path / "h.csv").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(MediaError, match="longer than"):
        handles.read(tmp_path / "h.csv")
    with pytest.raises(MediaError, match="cannot read"):
        handles.read(tmp_path / "absent.csv")
    with pytest.raises(BadInput, match="several targets"):
        handles.write(tmp_path / "h.csv", [Place("head", torch.zeros(2, 3))])


def test_handles_check_themselves():
    with pytest.raises(BadInput, match="position for 'head'"):
        Place("head", torch.tensor([0.0, math.nan, 0]))
    with pytest.raises(BadInput, match="no rotation matrix"):
        Turn("head", -torch.eye(3))
    with pytest.raises(BadInput, match="look-at for 'head' is"):
        Look("head", torch.zeros(2))
