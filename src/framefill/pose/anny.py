"""Anny as a body of 24 joints: a skin of a person, free of licence walls, for users who install `framefill[anny]`.

Anny (Bregier et al. 2025, arXiv:2511.03589; NAVER's code under Apache 2.0, MakeHuman's shapes under CC0) has 104 bones,
z up, and arms that hang. Here its bones are grouped into the joints of framefill's tree, axes are exchanged, and arms
and legs are straightened into the T that SMPL's conventions mean by "not turned". What its numbers of shape do is taken
as linear, of each the secant over two units to both sides of the mean; age, which is not linear, stays a young adult's.

    --shape HEIGHT,WEIGHT,MUSCLE,PROPORTIONS

One unit is a step of `STEPS` on Anny's scale from 0 to 1. Building Anny takes minutes and 1.7 GB of memory, so what
comes out, 1 MB, is kept in the user's cache; Anny's own, 740 MB, is thrown away unless ANNY_CACHE_DIR names a place.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framefill.atomic import replacing
from framefill.errors import BadInput, Failed
from framefill.pose import kinematics
from framefill.pose.body import GENDERS, NAMES, PARENTS, Body
from framefill.pose.extra import body_library, body_version, cache
from framefill.pose.files import arrays
from framefill.pose.retarget import between
from framefill.pose.skeleton import Skeleton

NAME = "anny"  # as a character
# An adult of mean build; at this height as tall as framefill's own body, within 1 cm (Anny's 0.5 is 1.84 m).
MEAN = {"height": 0.36, "weight": 0.5, "muscle": 0.5, "proportions": 0.5, "age": 2 / 3}
STEPS = {"height": 0.065, "weight": 0.15, "muscle": 0.15, "proportions": 0.15}  # of height 7 cm: a standard deviation
REACH = 2  # units to both sides, between which a secant is taken
GENDER = {"male": 0.0, "female": 1.0, "neutral": 0.5}
# The bone at whose head a joint is; left ones for both sides, which Anny calls .L and .R.
HEADS = {
    "pelvis": "root", "hip": "upperleg01", "knee": "lowerleg01", "ankle": "foot", "foot": "toe2-1", "spine1": "spine04",
    "spine2": "spine03", "spine3": "spine02", "neck": "neck01", "collar": "clavicle", "head": "head",
    "shoulder": "upperarm01", "elbow": "lowerarm01", "wrist": "wrist", "hand": "finger3-1",
}  # fmt: skip
# The joint that carries the skin of a bone whose name begins so; the first that fits.
CARRIES = (
    ("root", "pelvis"), ("pelvis", "pelvis"), ("spine05", "pelvis"), ("spine04", "spine1"), ("spine03", "spine2"),
    ("spine", "spine3"), ("neck", "neck"), ("head", "head"), ("eye", "head"), ("clavicle", "collar"),
    ("shoulder", "collar"), ("upperarm", "shoulder"), ("lowerarm", "elbow"), ("wrist", "wrist"),
    ("metacarpal", "wrist"), ("finger1", "wrist"), ("finger", "hand"), ("upperleg", "hip"), ("lowerleg", "knee"),
    ("foot", "ankle"), ("toe", "foot"),
)  # fmt: skip
# Where limbs point in a T: the joint, the next one, and the direction (of left ones; x is mirrored).
STRAIGHT = (
    ("shoulder", "elbow", (1, 0, 0)), ("elbow", "wrist", (1, 0, 0)), ("wrist", "hand", (1, 0, 0)),
    ("hip", "knee", (0, -1, 0)), ("knee", "ankle", (0, -1, 0)),
)  # fmt: skip
PARTS = ("joints", "joint_shapes", "vertices", "vertex_shapes", "weights", "faces")


def body(gender: str = "neutral") -> Body:
    """Anny as an adult of one gender, float32, four components of shape; from the cache where it has been made.

    Raises BadInput for another gender, NotInstalled, and Failed where the library cannot build its model.
    """
    if gender not in GENDERS:
        raise BadInput(f"gender {gender!r}; choose one of {', '.join(GENDERS)}")
    place = _place(gender)
    with suppress(BadInput):  # absent, or damaged: it is made again
        return _kept(place)
    made = _made()
    for each, found in made.items():
        with suppress(OSError, Failed):  # without a cache it is only slow
            _keep(_place(each), found)
    return made[gender]


def is_made(gender: str = "neutral") -> bool:
    """Whether `body` has only to read a file. Raises NotInstalled."""
    return _place(gender).is_file()


def reduced(model: Any, gender: float) -> Body:
    """24 joints, T pose, soles at the height 0, from a model of the library; gender from 0 (male) to 1."""
    weights, faces = _weights(model), model.get_triangular_faces().long()
    mean = straightened(model, weights, faces, gender, MEAN)
    changes = [_secant(model, weights, faces, gender, name) for name in STEPS]
    shapes = [torch.stack([change[part] for change in changes], -1).float() for part in (0, 1)]
    return Body(NAMES, PARENTS, mean[0].float(), shapes[0], mean[1].float(), shapes[1], weights.float(), faces)


def _secant(model: Any, weights: Tensor, faces: Tensor, gender: float, name: str) -> tuple[Tensor, Tensor]:
    """What one unit of a number of shape does to joints and vertices."""
    ends = [
        straightened(model, weights, faces, gender, MEAN | {name: MEAN[name] + units * STEPS[name]})
        for units in (-REACH, REACH)
    ]
    return (ends[1][0] - ends[0][0]) / (2 * REACH), (ends[1][1] - ends[0][1]) / (2 * REACH)


def straightened(
    model: Any, weights: Tensor, faces: Tensor, gender: float, numbers: Mapping[str, float]
) -> tuple[Tensor, Tensor]:
    """Joints (24, 3) and vertices (V, 3) of someone in a T pose on the ground, float64; numbers on Anny's scale."""
    wanted = {**numbers, "gender": gender}
    given = {label: torch.full((1,), value, dtype=model.dtype) for label, value in wanted.items()}
    still = torch.eye(4, dtype=model.dtype).expand(1, model.bone_count, 4, 4)
    with torch.no_grad():
        found = model(pose_parameters=still, phenotype_kwargs=given)
    heads, vertices = (_turned_up(found[part][0].double()) for part in ("rest_bone_heads", "rest_vertices"))
    joints = heads[[model.bone_labels.index(_sided(name, HEADS)) for name in NAMES]]
    none = torch.zeros(1, dtype=torch.float64)[:0]
    hanging = Body(
        NAMES, PARENTS, joints, none.expand(24, 3, 0), vertices, none.expand(len(vertices), 3, 0), weights, faces
    )
    local = _straight(hanging.tree, joints)
    places, _ = hanging.pose(local, joints[0])
    skin = hanging.skin(local, joints[0])
    ground = torch.stack([torch.zeros(()).double(), skin[:, 1].min(), torch.zeros(()).double()])
    return places - ground, skin - ground


def _turned_up(points: Tensor) -> Tensor:
    """Anny's axes (z up, looking along -y) as ours (y up, looking along z); x is to the left in both."""
    return torch.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)


def _straight(tree: Skeleton, joints: Tensor) -> Tensor:
    """Local rotations (24, 3, 3) that bring the limbs of a rest pose into the T; hands turn with wrists."""
    world = torch.eye(3, dtype=torch.float64).repeat(len(NAMES), 1, 1)
    for side, sign in (("left", 1), ("right", -1)):
        for start, end, (x, y, z) in STRAIGHT:
            first, second = (NAMES.index(f"{side}_{part}") for part in (start, end))
            bone = torch.nn.functional.normalize(joints[second] - joints[first], dim=0)
            world[first] = torch.from_numpy(between(bone.numpy(), np.array([sign * x, y, z], dtype=float)))
        world[NAMES.index(f"{side}_hand")] = world[NAMES.index(f"{side}_wrist")]
    return kinematics.local_from_global(tree, world)


def _weights(model: Any) -> Tensor:
    """How much every joint carries every vertex (V, 24), float64: the sum over the bones that belong to it."""
    joint = torch.tensor([NAMES.index(_carrier(label)) for label in model.bone_labels])
    weights = torch.zeros(len(model.vertex_bone_weights), len(NAMES), dtype=torch.float64)
    weights.scatter_add_(1, joint[model.vertex_bone_indices], model.vertex_bone_weights.double())
    return weights / weights.sum(1, keepdim=True)


def _carrier(label: str) -> str:
    """The joint that carries a bone of Anny's."""
    stem, _, side = label.partition(".")
    part = next((part for beginning, part in CARRIES if stem.startswith(beginning)), "")
    name = {"L": "left_", "R": "right_"}.get(side, "") + part
    found = name if name in NAMES else part
    if found not in NAMES:
        raise BadInput(f"anny has a bone {label!r} that framefill does not know; run: pip install 'framefill[anny]'")
    return found


def _sided(name: str, table: dict[str, str]) -> str:
    side, _, part = name.rpartition("_")
    return table[part] + {"left": ".L", "right": ".R"}.get(side, "")


@contextmanager
def _cached(library: Any) -> Iterator[None]:
    """Anny's own cache in a folder that goes away, unless the user has named one."""
    if "ANNY_CACHE_DIR" in os.environ:
        yield
        return
    before = library.paths.get_anny_cache_path()
    with tempfile.TemporaryDirectory(prefix="framefill-anny-") as folder:
        library.paths.set_anny_cache_path(folder)
        try:
            yield
        finally:
            library.paths.set_anny_cache_path(before)


def _made() -> dict[str, Body]:
    """The bodies of all genders, of one model. The library's own skinning needs warp, ours does not."""
    library = body_library()
    try:
        with _cached(library):
            model = library.Anny(phenotype_blendshapes="original", skinning_method="lbs")
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Failed(f"anny could not be built ({reason}); it needs 2 GB of memory and 1 GB of disk, once") from error
    return {gender: reduced(model, number) for gender, number in GENDER.items()}


def _place(gender: str) -> Path:
    return cache() / f"anny-{body_version()}-{gender}.npz"


def _keep(path: Path, made: Body) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as file:
        numbers: dict[str, Any] = {name: getattr(made, name).numpy() for name in PARTS}
        np.savez_compressed(file, **numbers)


def _kept(path: Path) -> Body:
    """A body that `_keep` wrote. Raises BadInput."""
    found = arrays.read(path, PARTS)
    joints, shapes = len(NAMES), len(STEPS)
    sizes: dict[str, tuple[int | None, ...]] = {
        "joints": (joints, 3), "joint_shapes": (joints, 3, shapes), "vertices": (None, 3),
        "vertex_shapes": (None, 3, shapes), "weights": (None, joints), "faces": (None, 3),
    }  # fmt: skip
    parts = {name: torch.from_numpy(arrays.need(path, found, name, size)).float() for name, size in sizes.items()}
    return Body(NAMES, PARENTS, **parts | {"faces": parts["faces"].long()})
