"""Anny's bones as framefill's joints: by a stand-in for the library with known places, and by the library where it is.

pip install --no-deps 'anny<0.7' trimesh && pytest -m slow tests/test_pose_anny.py
"""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from framefill.errors import BadInput, Failed, NotInstalled
from framefill.pose import anny, characters, rotations
from framefill.pose.body import NAMES, PARENTS
from framefill.pose.human import human
from framefill.pose.retarget import Rig

HANGING = {"elbow": (0.2, 0, -0.2), "wrist": (0.15, -0.1, -0.1), "hand": (0.05, -0.05, -0.05)}
EXTRA = ("spine05", "shoulder01.L", "metacarpal1.R", "finger1-2.L", "finger5-3.R", "toe5-1.L", "upperarm02.L", "eye.R")


def bone(name):
    side, _, part = name.rpartition("_")
    return anny.HEADS[part] + {"left": ".L", "right": ".R"}.get(side, "")


class Model:
    """framefill's own joints in Anny's axes, arms hanging; a vertex at every bone, 0.1 m below it on Anny's z."""

    dtype = torch.float64

    def __init__(self, **options):
        assert options == {"phenotype_blendshapes": "original", "skinning_method": "lbs"}
        self.bone_labels = [*map(bone, NAMES), *EXTRA]
        self.bone_count = len(self.bone_labels)
        # every vertex hangs on its bone, and with an eighth each on two bones of the head
        whole = torch.arange(self.bone_count)
        eye = torch.full((self.bone_count,), self.bone_labels.index("eye.R"))
        self.vertex_bone_indices = torch.stack([whole, eye, torch.full_like(whole, NAMES.index("head"))], 1)
        self.vertex_bone_weights = torch.tensor([0.75, 0.125, 0.125]).expand(self.bone_count, 3)

    def get_triangular_faces(self):
        return torch.tensor([[0, 1, 2]], dtype=torch.int32)

    def __call__(self, pose_parameters, phenotype_kwargs):
        assert (pose_parameters == torch.eye(4)).all()
        numbers = {name: value.item() for name, value in phenotype_kwargs.items()}
        stature = 1 + 0.5 * numbers["height"] + 0.1 * numbers["gender"] + 0.2 * (numbers["age"] - 2 / 3)
        offsets = human().offsets().double().clone()
        for part, (x, y, z) in HANGING.items():
            for side, sign in (("left", 1), ("right", -1)):
                offsets[NAMES.index(f"{side}_{part}")] = torch.tensor([sign * x, z, -y])  # in our axes
        places = []
        for parent, offset in zip(PARENTS, offsets, strict=True):
            places.append(offset + (places[parent] if parent >= 0 else 0))
        up = stature * torch.stack(places)
        up = torch.cat([up, up[:1].expand(len(EXTRA), 3)])
        heads = torch.stack([up[:, 0], -up[:, 2], up[:, 1]], 1)  # Anny: z up, forward is -y
        down = torch.tensor([0, 0, -0.1 - 0.1 * numbers["weight"]])
        return {"rest_bone_heads": heads[None], "rest_vertices": (heads + down)[None]}


@pytest.fixture
def library(monkeypatch, tmp_path):
    """A module anny, version 9, which notes what it was asked for."""
    made = types.ModuleType("anny")
    made.built, made.folder = [], ["before"]
    made.paths = types.SimpleNamespace(
        get_anny_cache_path=lambda: made.folder[0], set_anny_cache_path=lambda path: made.folder.__setitem__(0, path)
    )

    def build(**options):
        assert Path(made.folder[0]).is_dir()
        made.built.append(made.folder[0])
        return Model(**options)

    made.Anny = build
    monkeypatch.setitem(sys.modules, "anny", made)
    monkeypatch.setattr(anny, "body_version", lambda: "9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ANNY_CACHE_DIR", raising=False)
    return made


def test_limbs_are_straightened_to_a_t_and_keep_their_lengths(library):
    body, lengths = anny.body(), {}
    rest = body.rest().double()
    for side, sign in (("left", 1), ("right", -1)):
        for start, end, way in anny.STRAIGHT:
            first, second = (NAMES.index(f"{side}_{part}") for part in (start, end))
            bone = rest[second] - rest[first]
            lengths[side, end] = bone.norm().item()
            torch.testing.assert_close(bone / bone.norm(), torch.tensor(way).double() * torch.tensor([sign, 1, 1]))
    stature = 1 + 0.5 * anny.MEAN["height"] + 0.05
    for part, offset in HANGING.items():
        assert lengths["right", part] == pytest.approx(stature * np.linalg.norm(offset), abs=1e-6)
    assert rest[NAMES.index("left_foot"), 2] > rest[NAMES.index("left_ankle"), 2]  # feet point forward
    assert rest[NAMES.index("head"), 1] > rest[NAMES.index("pelvis"), 1]
    assert body.vertices[:, 1].min() == pytest.approx(0, abs=1e-6)


def test_skin_turns_with_what_carries_it(library):
    body, model = anny.body(), Model(phenotype_blendshapes="original", skinning_method="lbs")
    for label, joint in (
        ("metacarpal1.R", "right_wrist"), ("finger1-2.L", "left_wrist"), ("finger5-3.R", "right_hand"),
        ("toe5-1.L", "left_foot"), ("upperarm02.L", "left_shoulder"), ("shoulder01.L", "left_collar"),
        ("spine05", "pelvis"), ("lowerleg01.L", "left_knee"), ("neck01", "neck"),
    ):  # fmt: skip
        row = body.weights[model.bone_labels.index(label)]
        assert row[NAMES.index(joint)] == pytest.approx(0.75)
        assert row[NAMES.index("head")] == pytest.approx(0.25)  # both bones of the head
    # the elbow's own vertex was below it: three quarters turn as the forearm does, the rest stays where the head is
    stature, elbow = 1 + 0.5 * anny.MEAN["height"] + 0.05, NAMES.index("left_elbow")
    below, bone = torch.tensor([0, -0.1 - 0.1 * anny.MEAN["weight"], 0]), torch.tensor([0.15, -0.1, 0.1])
    axis = torch.linalg.cross(bone, torch.tensor([1.0, 0, 0]))
    turn = rotations.from_axis_angle(axis / axis.norm() * torch.atan2(axis.norm(), bone[0]))
    hung = body.joints[NAMES.index("left_shoulder")] + stature * torch.tensor([0.2, -0.2, 0])
    expected = 0.75 * (body.joints[elbow] + turn @ below) + 0.25 * (hung + below)
    torch.testing.assert_close(body.vertices[elbow], expected, atol=1e-5, rtol=0)


def test_shapes_are_secants_and_age_has_none(library):
    body = anny.body("female")
    assert body.joint_shapes.shape == (24, 3, len(anny.STEPS))
    exact = 1 + 0.5 * (anny.MEAN["height"] + anny.STEPS["height"]) + 0.1
    span = body.rest([1.0])[NAMES.index("left_hand"), 0] - body.rest([1.0])[NAMES.index("left_shoulder"), 0]
    assert span == pytest.approx(exact * sum(np.linalg.norm(way) for way in HANGING.values()), abs=1e-5)
    assert body.joint_shapes[:, [0, 2], 1].abs().max() < 1e-6  # weight lowers vertices, and so only the ground
    assert body.joint_shapes[:, 1, 1].max() > 1e-3
    assert body.joint_shapes[..., 2:].abs().max() < 1e-6
    with pytest.raises(BadInput, match="give up to 4"):
        body.rest([0.0] * 5)


def test_it_is_built_once_for_all_genders_in_a_folder_that_goes_away(library, tmp_path):
    assert not anny.is_made()
    first = anny.body("male")
    assert not Path(library.built[0]).exists()
    assert library.folder == ["before"]
    kept = anny.body("male")
    assert anny.is_made("female")
    assert len(library.built) == 1
    for part in anny.PARTS:
        torch.testing.assert_close(getattr(kept, part), getattr(first, part), atol=0, rtol=0)
    assert (anny.body("female").rest() - kept.rest()).abs().max() > 0.01
    (tmp_path / "framefill" / "anny-9-male.npz").write_bytes(b"damaged")
    torch.testing.assert_close(anny.body("male").joints, first.joints, atol=0, rtol=0)
    assert len(library.built) == 2


def test_a_cache_of_the_users_is_left_and_none_is_needed(library, monkeypatch, tmp_path):
    library.folder[0] = str(tmp_path)
    monkeypatch.setenv("ANNY_CACHE_DIR", str(tmp_path))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # where no folder can be made
    anny.body()
    anny.body()
    assert library.built == [str(tmp_path)] * 2


def test_what_cannot_be_built_is_said_in_a_line(library):
    with pytest.raises(BadInput, match="gender 'none'; choose one of male, female, neutral"):
        anny.body("none")
    library.Anny = lambda **_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    with pytest.raises(Failed, match=r"No space left on device.*2 GB of memory"):
        anny.body()
    model = Model(phenotype_blendshapes="original", skinning_method="lbs")
    model.bone_labels[-1] = "wing.L"
    with pytest.raises(BadInput, match=r"a bone 'wing\.L' that framefill does not know"):
        anny.reduced(model, 0.5)


def test_without_the_library_a_line_says_how_to_install_it(call, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if importlib.util.find_spec("anny") is None:
        code, _, err = call("pose", "solve", "--effector", "head=0,1.6,0.1", "--character", "anny")
        assert code == 2
        assert "needs anny, which is not installed; run: pip install 'framefill[anny]'" in err
    monkeypatch.setattr(anny, "body_version", lambda: "9")
    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(NotInstalled, match=r"run: pip install 'framefill\[anny\]'"):
        anny.body()


def test_it_is_posed_by_the_command_line_and_written(call, library, tmp_path):
    words = ["pose", "solve", "--effector", "left_wrist=0.4,1.1,0.2", "-c", "anny", "--shape", "1,0,0,1"]
    code, _, err = call(*words, "-o", tmp_path / "a.glb")
    assert code == 0, err
    assert "once, in some minutes" in err
    code, _, err = call(*words, "-o", tmp_path / "a.npz")
    assert (code, err) == (0, "")
    assert (tmp_path / "a.glb").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="anny is not installed")
def test_the_library_gives_the_body_that_is_documented(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    import anny as library

    monkeypatch.setattr(library, "Anny", lambda made=library.Anny, **options: kept.setdefault("model", made(**options)))
    kept: dict = {}
    draw = torch.Generator().manual_seed(0)
    for gender in ("male", "female", "neutral"):
        body, ours = anny.body(gender), human(gender)
        assert body.vertices[:, 1].max() == pytest.approx(ours.vertices[:, 1].max().item(), abs=0.1)
        assert Rig.of(body.tree).roles == Rig.of(ours.tree).roles
        numbers = torch.rand(4, generator=draw) * 4 - 2
        model = kept["model"]
        wanted = anny.MEAN | {
            k: anny.MEAN[k] + n.item() * anny.STEPS[k] for k, n in zip(anny.STEPS, numbers, strict=True)
        }
        weights, faces = anny._weights(model), body.faces
        joints, vertices = anny.straightened(model, weights, faces, anny.GENDER[gender], wanted)
        assert (body.rest(numbers) - joints).norm(dim=-1).max() < 0.01
        still = torch.eye(3).expand(24, 3, 3)
        skin = body.skin(still, body.rest(numbers)[0], numbers)
        assert (skin - vertices).norm(dim=-1).mean() < 0.005
    assert characters.load(Path("anny")).body.vertices.shape == (13718, 3)
