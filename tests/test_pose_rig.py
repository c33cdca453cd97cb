"""A user's own GLB with the motion written back: meshes untouched, units and axes kept, and Blender's view of it."""

import json
import math
import shutil
import subprocess
from collections import Counter

import pytest
import torch

from framefill.errors import BadInput, MediaError
from framefill.pose import amass_splits, characters, deepmimic, results, rotations
from framefill.pose.files import bvh, glb
from framefill.pose.human import human
from framefill.pose.motion import Motion
from test_pose_axes import turned_body
from test_pose_glb import bound, content, edit, rewritten, wave

QUARTER = [-(0.5**0.5), 0.0, 0.0, 0.5**0.5]  # a quarter turn about x: z up becomes y up


@pytest.fixture
def rig(tmp_path):
    """The body in centimetres with z up, below a node that makes it metres with y up; two meshes, two skins."""
    body = human()
    still = torch.eye(3).double().expand(1, 24, 3, 3)
    path = tmp_path / "rig.glb"
    glb.write(path, Motion(body.tree, still, body.rest()[:1].double()), body)

    def change(d):
        d.pop("animations")
        for node in d["nodes"][:24]:
            x, y, z = node["translation"]
            node["translation"] = [100 * x, -100 * z, 100 * y]
        d["nodes"] += [{"name": "armature", "rotation": QUARTER, "scale": [0.01] * 3, "translation": [0, 0, 1],
                        "children": [0]}, {"name": "coat", "mesh": 1, "skin": 1}]  # fmt: skip
        d["meshes"].append(d["meshes"][0])
        d["skins"].append(d["skins"][0])
        d["materials"] = [{"name": "cloth"}]
        d["scenes"][0]["nodes"] = [24, 25, 26]

    rewritten(path, change)
    bound(path)
    return path


def test_a_rig_stands_in_metres_with_y_up(rig):
    positions = glb.read(rig).world()[0][0]
    expected = human().rest().double() + torch.tensor([0, 0, 1.0]).double()
    torch.testing.assert_close(positions, expected, atol=1e-5, rtol=0)


def test_motion_goes_into_the_rig_and_comes_back(rig, tmp_path):
    skeleton = glb.read(rig).skeleton
    wild = wave(9)
    motion = Motion(skeleton, wild.local, wild.root, 1 / 60)
    glb.write_rig(tmp_path / "out.glb", rig, motion)
    back = glb.read(tmp_path / "out.glb")
    assert (back.world()[0] - motion.world()[0]).abs().max() < 1e-4
    assert torch.rad2deg(rotations.angle(back.local, motion.local)).max() < 0.01
    (before, data), (after, more) = content(rig), content(tmp_path / "out.glb")
    for part in ("nodes", "meshes", "skins", "materials", "scenes"):
        assert after[part] == before[part]
    assert more.startswith(data)
    assert after["accessors"][: len(before["accessors"])] == before["accessors"]


def test_a_character_from_a_rig_is_written_as_that_rig(rig, tmp_path):
    character = characters.load(rig)
    results.check(tmp_path / "o.glb", character, replace=False)
    results.write(tmp_path / "o.glb", character, glb.read(rig))
    assert len(content(tmp_path / "o.glb")[0]["meshes"]) == 2
    with pytest.raises(BadInput, match="holds framefill's"):
        results.check(tmp_path / "o.npz", character, replace=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("nodes", 25, "scale", value=[1, 2, 1]), "stretches them"),
        (edit("nodes", 25, "scale", value=[-1, 1, 1]), "mirrors them"),
        (edit("nodes", 25, "scale", value=[0, 0, 0]), "stretches them"),
        (edit("nodes", 0, "children", value=[1, 2, 3, 25]), "cyclic: node 25 is its own ancestor"),
        (edit("buffers", 0, "uri", value="elsewhere.bin"), "first buffer is not in the file"),
    ],
)
def test_rigs_that_cannot_be_written_back(rig, tmp_path, change, message):
    motion = glb.read(rig)
    rewritten(rig, change)
    with pytest.raises(BadInput, match=message):
        glb.write_rig(tmp_path / "o.glb", rig, motion)
    assert not (tmp_path / "o.glb").exists()


def test_other_joints_and_moving_armatures_are_refused(rig, tmp_path):
    other = Motion(deepmimic.humanoid(), torch.eye(3).double().expand(1, 15, 3, 3), torch.zeros(1, 3).double())
    with pytest.raises(BadInput, match="different joints"):
        glb.write_rig(tmp_path / "o.glb", rig, other)
    glb.write_rig(tmp_path / "o.glb", rig, glb.read(rig))
    rewritten(tmp_path / "o.glb", edit("animations", 0, "channels", 0, "target", "node", value=25))
    with pytest.raises(MediaError, match="above the joints is animated"):
        glb.read(tmp_path / "o.glb")


def test_published_splits_do_not_overlap():
    names = [name for split in amass_splits.SPLITS.values() for name in split]
    assert len(names) == len(set(names)) == 15
    assert amass_splits.split_of("SSM_synced") == "test"
    assert amass_splits.split_of("BioMotionLab_NTroje") == "train"
    assert amass_splits.split_of("CMUU") is None
    line = amass_splits.left_out(Counter({"CMUU": 2, **{f"x{number}": 1 for number in range(8)}}))
    assert "'CMUU' (the nearest is CMU), 2 files; 'x0', 1 file;" in line
    assert line.endswith("and 4 more")
    assert amass_splits.left_out(Counter()) == ""


def test_test_clips_are_held_out():
    assert not any(map(deepmimic.held_out, ["humanoid3d_walk", "humanoid3d_spin"]))
    for name in ("humanoid3d_kick", "humanoid3d_jump_mirror", "long_humanoid3d_stealthy_walk0", "humanoid3d_spinkick"):
        assert deepmimic.held_out(name)


LOOK = """
import bpy, builtins, json, sys, numpy
numpy.bool = bool  # Debian 12: Blender 3.4's importers are older than its numpy, and than its Python
plain = open
builtins.open = lambda file, mode="r", *words, **more: plain(file, mode.replace("U", ""), *words, **more)
path, frames = sys.argv[-2:]
bpy.ops.wm.read_factory_settings(use_empty=True)
if path.endswith(".bvh"):
    bpy.ops.preferences.addon_enable(module="io_anim_bvh")
    bpy.ops.import_anim.bvh(filepath=path, global_scale=0.01, frame_start=1, rotate_mode="QUATERNION")
else:
    bpy.ops.import_scene.gltf(filepath=path, guess_original_bind_pose=False)  # at rest is where nodes stand
arm = next(o for o in bpy.data.objects if o.type == "ARMATURE")
scene, found = bpy.context.scene, []
for frame in range(int(frames)):
    at = 1 + frame if path.endswith(".bvh") else frame / 30 * scene.render.fps / scene.render.fps_base
    scene.frame_set(int(at), subframe=at % 1)
    found.append({b.name: [list(row) for row in arm.matrix_world @ b.matrix] for b in arm.pose.bones})
rest = {b.name: [list(row) for row in arm.matrix_world @ b.matrix_local] for b in arm.data.bones}
meshes = sum(o.type == "MESH" and any(m.type == "ARMATURE" for m in o.modifiers) for o in bpy.data.objects)
print("FOUND" + json.dumps([found, rest, meshes]))
"""


def blender(tmp_path, file, frames):
    """What Blender makes of a file: matrices (T, 4, 4) by joint, those at rest, and how many meshes are skinned."""
    (tmp_path / "look.py").write_text(LOOK)
    words = ["blender", "-b", "--factory-startup", "-P", tmp_path / "look.py", "--", file, frames]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=200)
    line = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    if "No module named 'numpy'" in done.stderr + done.stdout:
        pytest.skip("Blender has no numpy (Debian: apt install python3-numpy)")
    assert line, done.stdout[-500:] + done.stderr[-1500:]
    return json.loads(line[0][5:])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("blender") is None, reason="Blender is not installed (Debian: apt install blender)")
@pytest.mark.parametrize("kind", ["rig.glb", "turned.glb", "body.glb", "body.bvh"])
def test_blender_sees_the_same_joints(rig, tmp_path, kind):
    """Blender has z up: (x, y, z) of ours is (x, -z, y) there. Within 0.1 mm and 0.01 degrees of what was written."""
    wild, out = wave(4), tmp_path / kind
    if kind == "turned.glb":
        rig = turned_body(tmp_path / "turned.glb", math.pi)
    skeleton = human().tree if kind.startswith("body") else glb.read(rig).skeleton
    motion = Motion(skeleton, wild.local, wild.root, 1 / 30)
    if not kind.startswith("body"):
        out = tmp_path / "out.glb"
        glb.write_rig(out, rig, motion)
    elif kind == "body.glb":
        glb.write(out, motion, human())
    else:
        bvh.write(out, motion)
    found, rest, meshes = blender(tmp_path, out, 4)
    ours = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]).double()
    still = torch.tensor([rest[name] for name in skeleton.names]).double()[:, :3, :3]
    for frame, places, turned in zip(found, *motion.world(), strict=True):
        seen = torch.tensor([frame[name] for name in skeleton.names]).double()[:, :3]
        assert (seen[..., 3] @ ours.T - places).norm(dim=1).max() < 1e-4
        turns = [rotations.nearest(matrix[..., :3]) for matrix in (seen, still)]
        since_rest = ours @ turns[0] @ turns[1].mT @ ours.T  # Blender's bones have frames of their own
        assert torch.rad2deg(rotations.angle(since_rest, turned)).max() < 0.01
    assert meshes == {"rig.glb": 2, "turned.glb": 1, "body.glb": 1, "body.bvh": 0}[kind]
