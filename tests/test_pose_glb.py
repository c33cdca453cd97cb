"""glTF: a body goes out and comes back, skinning agrees with ours, and no damaged file escapes as anything else."""

import contextlib
import json
import math
import struct

import numpy as np
import pytest
import torch

from framefill.errors import BadInput, MediaError
from framefill.pose import deepmimic, rotations
from framefill.pose.files import glb
from framefill.pose.human import human
from framefill.pose.motion import Motion

RNG = torch.Generator().manual_seed(8)
SHAPE = [0.5, -1.0, 0.3]


def wave(frames: int = 6) -> Motion:
    body = human("male")
    vectors = torch.randn(frames, 24, 3, generator=RNG, dtype=torch.float64)
    root = torch.randn(frames, 3, generator=RNG, dtype=torch.float64)
    return Motion(body.skeleton(SHAPE), rotations.from_axis_angle(vectors), root, 1 / 60)


def content(path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def rewritten(path, change) -> None:
    """The file again with its JSON changed."""
    described, data = content(path)
    change(described)
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def bound(path) -> None:
    """The file again with the skin bound to its joints as its nodes stand."""
    described, data = content(path)
    nodes = glb.RigNodes(glb._Reader(described | {"animations": []}, data))
    world = torch.eye(4).double().repeat(len(nodes.joints), 1, 1)
    world[:, :3, :3] = nodes.scale * nodes.axes.joint
    world[:, :3, 3] = glb.read(path, still=True).world()[0][0]
    inverse = torch.linalg.inv(world).mT.numpy().astype("<f4").tobytes()
    for skin in described["skins"]:
        begin = described["bufferViews"][described["accessors"][skin["inverseBindMatrices"]]["bufferView"]][
            "byteOffset"
        ]
        data = data[:begin] + inverse + data[begin + len(inverse) :]
    glb._save(path, described, data)


@pytest.fixture
def saved(tmp_path):
    glb.write(tmp_path / "a.glb", wave(), human("male"), SHAPE)
    return tmp_path / "a.glb"


def test_motion_comes_back_within_the_stated_bounds(tmp_path):
    motion = wave(20)
    glb.write(tmp_path / "a.glb", motion, human("male"), SHAPE)
    back = glb.read(tmp_path / "a.glb")
    assert back.skeleton == motion.skeleton
    assert (back.world()[0] - motion.world()[0]).abs().max() < 1e-4
    assert torch.rad2deg(rotations.angle(back.local, motion.local)).max() < 0.01
    assert back.seconds == pytest.approx(1 / 60, rel=1e-4)


def test_skinning_by_the_files_own_numbers_is_ours(saved):
    described, data = content(saved)
    reader = glb._Reader(described, data)
    attributes = described["meshes"][0]["primitives"][0]["attributes"]
    vertices, weights = reader.array(attributes["POSITION"], "VEC3"), reader.array(attributes["WEIGHTS_0"], "VEC4")
    view = described["bufferViews"][described["accessors"][attributes["JOINTS_0"]]["bufferView"]]
    joints = np.frombuffer(data, "u1", len(vertices) * 4, view["byteOffset"]).reshape(-1, 4)
    inverse = reader.array(described["skins"][0]["inverseBindMatrices"], "MAT4").reshape(-1, 4, 4).transpose(0, 2, 1)
    motion = glb.read(saved)
    positions, turned = (part[2].numpy() for part in motion.world())
    world = np.tile(np.eye(4), (24, 1, 1))
    world[:, :3, :3], world[:, :3, 3] = turned, positions
    matrices = (weights[..., None, None] * (world @ inverse)[joints]).sum(1)
    made = (matrices[:, :3, :3] @ vertices[..., None])[..., 0] + matrices[:, :3, 3]
    expected = human("male").skin(motion.local[2].float(), motion.root[2].float(), SHAPE).numpy()
    np.testing.assert_allclose(made, expected, atol=1e-4)


def test_quaternions_take_the_short_way(saved):
    described, data = content(saved)
    accessor = described["animations"][0]["samplers"][3]["output"]
    values = glb._Reader(described, data).array(accessor, "VEC4")
    assert ((values[1:] * values[:-1]).sum(1) >= 0).all()


def test_a_still_file_is_one_frame(saved):
    rewritten(saved, lambda d: d.pop("animations"))
    motion = glb.read(saved)
    assert len(motion) == 1
    torch.testing.assert_close(motion.world()[0][0].float(), human("male").rest(SHAPE), atol=1e-5, rtol=0)


def edit(*keys, value):
    def change(described):
        for key in keys[:-1]:
            described = described[key]
        described[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("accessors", 0, "count", value=10**12), None),
        (edit("accessors", -2, "count", value=10**12), "ends behind the data"),
        (edit("accessors", -2, "count", value=-1), "impossible sizes"),
        (edit("accessors", -2, "bufferView", value=999), "no bufferViews 999"),
        (edit("accessors", -2, "componentType", value=5120), "not VEC4 of floats"),
        (edit("skins", value=[]), "no skins 0"),
        (edit("skins", 0, "joints", value=[0, 0]), "a skin of 2 joints"),
        (edit("skins", 0, "joints", value=[-1]), "no nodes -1"),
        (edit("nodes", 3, "scale", value=[1, 2, 1]), "scaled or given by a matrix"),
        (edit("nodes", 3, "translation", value=[0, 0, 0]), "has length zero"),
        (edit("nodes", 3, "translation", value=[0, 0]), "a translation of 2 numbers"),
        (edit("nodes", 23, "children", value=[0]), "own ancestor"),
        (edit("nodes", 0, "children", value=[]), "roots"),
        (edit("animations", 0, "samplers", 0, "interpolation", value="CUBICSPLINE"), "bake the animation"),
        (edit("animations", 0, "channels", 0, "target", "path", value="translation"), "not VEC3"),
        (edit("animations", 0, "channels", -1, "target", "node", value=5), "is moved, not turned"),
        (edit("animations", 0, "samplers", -1, "output", value=0), "times and"),
        (edit("nodes", value=7), "no binary glTF"),
    ],
)
def test_hostile_descriptions_are_refused_in_one_line(saved, change, message):
    rewritten(saved, change)
    if message is None:  # the mesh is not read
        assert len(glb.read(saved)) == 6
        return
    with pytest.raises(BadInput, match=message) as caught:
        glb.read(saved)
    assert "\n" not in str(caught.value)


def test_truncations_and_damage_are_refused(saved):
    whole = saved.read_bytes()
    for end in (0, 3, 11, 19, 30, 200, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:end])
        with pytest.raises(MediaError):
            glb.read(saved)
    rng = np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(whole)
        for place in rng.integers(0, 4000, 2):
            data[place] = rng.integers(256)
        saved.write_bytes(data)
        with contextlib.suppress(BadInput):
            glb.read(saved)


def test_uneven_frames_and_other_files(saved, tmp_path, monkeypatch):
    for times, message in (([0, 0.1, 0.5], "evenly"), ([0, 0.1, 0.1], "evenly")):
        with pytest.raises(ValueError, match=message):
            glb._seconds(np.array(times))
    assert glb._seconds(np.zeros(1)) == pytest.approx(1 / 30)
    with pytest.raises(MediaError, match="cannot read"):
        glb.read(tmp_path / "absent.glb")
    other = Motion(deepmimic.humanoid(), torch.eye(3).expand(1, 15, 3, 3), torch.zeros(1, 3))
    with pytest.raises(BadInput, match="different joints"):
        glb.write(saved, other, human())
    monkeypatch.setattr(glb, "LARGEST", 100)
    with pytest.raises(MediaError, match="longer than 100 bytes"):
        glb.read(saved)
    assert math.isfinite(saved.stat().st_size)
