"""The DeepMimic reader: on real clips bodies must walk, on written ones numbers must land where they belong."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from framefill.errors import BadInput, MediaError
from framefill.pose import deepmimic, kinematics

SHARED = Path(__file__).resolve().parents[2] / "shared/data/deepmimic_humanoid.npz"
real = pytest.mark.skipif(not SHARED.is_file(), reason="needs shared/data/deepmimic_humanoid.npz")


def table(frames: int = 3) -> np.ndarray:
    """Standing still: identity quaternions."""
    rows = np.zeros((frames, 44))
    rows[:, 0], rows[:, 2] = 1 / 30, 0.85
    for column in (4, 8, 12, 16, 21, 25, 30, 35, 39):  # the w of every quaternion
        rows[:, column] = 1
    return rows


def place(motion, name: str) -> torch.Tensor:
    return motion.world()[0][:, motion.skeleton.index(name)]


def test_the_rest_pose_spans_what_issue_9_says():
    rest = kinematics.rest(deepmimic.humanoid())
    span = (rest[:, 1].max() - rest[:, 1].min()).item()
    assert span == pytest.approx(1.31, abs=0.005)
    assert span == pytest.approx(deepmimic.SPAN, abs=1e-3)
    assert rest[deepmimic.NAMES.index("right_wrist"), 2] > 0  # right is +z


@pytest.mark.parametrize(
    ("column", "value", "moves", "length"),
    [(20, -1.0, "right_ankle", 0.40987), (29, 1.0, "right_wrist", 0.258947), (34, -1.0, "left_ankle", 0.40987),
     (43, 1.0, "left_wrist", 0.258947)],
)  # fmt: skip
def test_hinges_bend_knees_back_and_elbows_forth(column, value, moves, length):
    rows = table()
    rows[:, column] = value
    still, bent = deepmimic.motion("a", table()), deepmimic.motion("b", rows)
    difference = bent.world()[0][0] - still.world()[0][0]
    moved = difference.norm(dim=-1) > 1e-9
    assert [deepmimic.NAMES[i] for i in moved.nonzero()[:, 0]] == [moves]
    assert difference[deepmimic.NAMES.index(moves), 0].item() == pytest.approx(length * math.sin(value))


@real
def test_a_walking_clip_walks():
    motion = deepmimic.Clips(SHARED).read("humanoid3d_walk")
    assert place(motion, "root")[:, 1].mean() == pytest.approx(0.9, abs=0.1)
    left, right, root = (place(motion, f"{n}") for n in ("left_ankle", "right_ankle", "root"))
    assert root[-1, 0] - root[0, 0] > 1.0  # forward is +x
    assert (torch.minimum(left, right)[:, 1] < 0.2).all()  # one foot is always down
    assert (torch.maximum(left, right)[:, 1] > 0.14).any()
    apart = left[:, 0] - right[:, 0]
    assert apart.max() > 0.3
    assert apart.min() < -0.3  # feet alternate
    assert (right[:, 2] - left[:, 2]).mean() > 0.05  # left and right are not swapped
    sole = torch.minimum(left, right)[:, 1]
    assert sole.std() < 0.04  # and stand on a floor
    assert place(motion, "neck")[:, 1].min() > place(motion, "root")[:, 1].max()


@real
def test_arms_swing_against_the_legs_of_their_side():
    motion = deepmimic.Clips(SHARED).read("humanoid3d_walk")
    legs = place(motion, "left_ankle")[:, 0] - place(motion, "right_ankle")[:, 0]
    arms = place(motion, "left_wrist")[:, 0] - place(motion, "right_wrist")[:, 0]
    assert torch.corrcoef(torch.stack([legs, arms]))[0, 1] < -0.5


@real
def test_mirrored_clips_are_mirror_images():
    clips = deepmimic.Clips(SHARED)
    one, other = clips.read("long_humanoid3d_long_walk1"), clips.read("long_humanoid3d_long_walk1_mirror")
    swapped = [deepmimic.NAMES.index(n.replace("left", "x").replace("right", "left").replace("x", "right"))
               for n in deepmimic.NAMES]  # fmt: skip
    mirrored = one.world()[0][:, swapped] * torch.tensor([1.0, 1, -1]).double()
    assert (mirrored - other.world()[0]).norm(dim=-1).mean() < 0.03


@real
def test_hinges_of_real_clips_bend_the_human_way():
    clips = deepmimic.Clips(SHARED)
    rows = np.concatenate([np.load(SHARED)[name] for name in clips.names("train")])
    assert np.quantile(rows[:, [20, 34]], 0.99) < 0.1  # knees
    assert np.quantile(rows[:, [29, 43]], 0.01) > -0.1  # elbows


@real
def test_splits_keep_the_held_out_clips_apart():
    clips = deepmimic.Clips(SHARED)
    train, test = set(clips.names("train")), set(clips.names("test"))
    assert not train & test
    assert len(train | test) == 29
    assert {n.rpartition("humanoid3d_")[2] for n in test} == {
        "spinkick", "cartwheel", "dance_b", "getup_faceup", "punch", "crawl", "stealthy_walk", "stealthy_walk0",
        "stealthy_walk1", "kick", "jump",
    }  # fmt: skip
    local, root = clips.poses("test", 300)
    assert (local.shape, root.shape) == ((300, 15, 3, 3), (300, 3))
    assert len({tuple(r.tolist()) for r in root}) == 300
    with pytest.raises(BadInput, match="ask for 1 to"):
        clips.poses("test", 10**6)


def test_held_out_names():
    for name in ("humanoid3d_jump", "humanoid3d_jump_and_roll", "humanoid3d_kick_mirror", "long_humanoid3d_punch"):
        assert deepmimic.held_out(name), name
    for name in ("humanoid3d_walk", "humanoid3d_dance_a", "humanoid3d_getup_facedown", "humanoid3d_sideflip"):
        assert not deepmimic.held_out(name), name


def test_text_clips_read_as_archives_do(tmp_path):
    rows = table()
    rows[:, 20] = -0.7
    (tmp_path / "humanoid3d_a.txt").write_text(json.dumps({"Loop": "wrap", "Frames": rows.tolist()}))
    np.savez(tmp_path / "clips.npz", humanoid3d_a=rows.astype(np.float32), humanoid3d_kick=rows)
    clips = deepmimic.Clips(tmp_path / "clips.npz")
    assert clips.names("test") == ["humanoid3d_kick"]
    (name, archived), text = next(clips.motions("train")), deepmimic.read(tmp_path / "humanoid3d_a.txt")
    assert name == "humanoid3d_a"
    torch.testing.assert_close(archived.local, text.local, atol=1e-6, rtol=0)
    assert text.seconds == pytest.approx(1 / 30)
    assert len(deepmimic.turning()) == 13


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no DeepMimic clip"),
        ("[1]", "no DeepMimic clip"),
        ('{"Frames": [[1, 2], [3]]}', "no DeepMimic clip"),
        ('{"Frames": [[1, 2]]}', r"frames \(1, 2\); a clip has finite numbers \(T, 44\)"),
        ('{"Frames": []}', "a clip has finite numbers"),
        (json.dumps({"Frames": [[math.nan] * 44]}), "a clip has finite numbers"),
        (json.dumps({"Frames": [[0] * 44]}), "a frame of 0.0 seconds"),
        ("[" * 100_000, "no DeepMimic clip"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(MediaError, match=message) as caught:
        deepmimic.read(tmp_path / "a.txt")
    assert "\n" not in str(caught.value)


def test_absent_clips_and_splits(tmp_path, monkeypatch):
    np.savez(tmp_path / "clips.npz", humanoid3d_a=table())
    clips = deepmimic.Clips(tmp_path / "clips.npz")
    with pytest.raises(MediaError, match="no array 'humanoid3d_b'"):
        clips.read("humanoid3d_b")
    with pytest.raises(BadInput, match="train and test"):
        clips.names("val")
    with pytest.raises(MediaError, match="cannot read"):
        deepmimic.read(tmp_path / "absent.txt")
    monkeypatch.setattr(deepmimic, "LARGEST", 10)
    (tmp_path / "long.txt").write_text("x" * 11)
    with pytest.raises(MediaError, match="longer than 10 bytes"):
        deepmimic.read(tmp_path / "long.txt")
