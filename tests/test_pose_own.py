"""A body that comes back from a file is who it was: its bones, its shape, its skin, whatever the order of joints."""

import pytest
import torch

from framefill.pose import characters, results
from framefill.pose.body import GENDERS
from framefill.pose.files import glb
from framefill.pose.human import human
from framefill.pose.skeleton import Skeleton
from framefill.pose.studio.session import Session
from test_pose_glb import content

TALL = ("--shape=3,1,-1", "--gender", "male")
KEYS = ("-e", "left_wrist=0.4,1.3,0.2;0.5,1.4,0.3")


@pytest.mark.parametrize("gender", GENDERS)
def test_a_shape_comes_back_from_its_bones(gender):
    body = human(gender).skeleton((1.5, -1.0, 0.5, 2.0, 0.0, 0.0, 0.3, -0.2, 1.0, -2.0))
    backwards = tuple(reversed(body.names))
    parents = tuple(backwards.index(body.hangs[name]) if body.hangs[name] else -1 for name in backwards)
    found = characters.own(Skeleton(backwards, parents, body.offsets.flip(0)))
    assert found is not None
    assert found.rig.skeleton.same(body)


def test_others_are_not_taken_for_it():
    body = human().tree
    longer = body.offsets.clone()
    longer[4, 1] -= 0.01  # one knee alone
    assert characters.own(Skeleton(body.names, body.parents, longer)) is None
    assert characters.own(body.renamed({"left_hand": "hook"})) is None
    elsewhere = list(body.parents)
    elsewhere[15] = 9  # the head on the chest
    assert characters.own(Skeleton(body.names, tuple(elsewhere), body.offsets)) is None


@pytest.mark.parametrize("suffix", [".bvh", ".glb", ".npz"])
@pytest.mark.parametrize("made", [".bvh", ".glb", ".npz"])
def test_between_keeps_the_shape_of_the_body(call, tmp_path, suffix, made):
    keys, out = tmp_path / f"keys{suffix}", tmp_path / f"out{made}"
    assert call("pose", "solve", *TALL, *KEYS, "-o", keys)[0] == 0
    code, _, told = call("pose", "between", keys, "--times", "0,0.1", "-o", out)
    assert code == 0, told
    before, after = results.motion_of(keys), results.motion_of(out)
    after = after.ordered(before.skeleton)
    torch.testing.assert_close(after.skeleton.lengths.double(), before.skeleton.lengths.double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(after.world()[0][-1].double(), before.world()[0][-1].double(), atol=1e-4, rtol=0)


def test_between_keeps_the_skin_of_a_glb(call, tmp_path):
    keys, out = tmp_path / "keys.glb", tmp_path / "out.glb"
    assert call("pose", "solve", "--shape=0,0,0,0,0,3", *KEYS, "-o", keys)[0] == 0  # girth, which no bone tells
    assert call("pose", "between", keys, "--times", "0,0.1", "-o", out)[0] == 0
    (before, data), (after, more) = content(keys), content(out)
    assert after["meshes"] == before["meshes"]
    assert more.startswith(data)


def test_the_studio_brings_another_shape_in_proportion(call, tmp_path):
    keys = tmp_path / "keys.glb"
    assert call("pose", "solve", *TALL, *KEYS, "-o", keys)[0] == 0
    session = Session(characters.load(None))
    session.bring(glb.read(keys))
    places, foot = session.world()[0], session.character.rig.skeleton.index("left_ankle")
    assert abs(places[foot, 1] - session.character.rest("left_ankle")[1]) < 0.02  # stands, and does not hover
