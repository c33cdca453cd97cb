"""Keypoints of other programs to a pose: COCO, MediaPipe, Human3.6M and SMPL names; points may be missing.

Points are in space, metres, y up. Each that lies at a joint becomes a handle there; ears and nose lie at none: the
head's place is the middle of the ears, and it looks from there to the nose. Estimates are of no one's bones, so handles
give way by a tolerance, and the whole may first be brought to the body's size by its own bones.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose.body import NAMES
from framefill.pose.characters import Character
from framefill.pose.effectors import Effector, Look, Place

LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
COCO = ("nose", "left_eye", "right_eye", "left_ear", "right_ear",
        *(f"{side}_{limb}" for limb in LIMBS for side in ("left", "right")))  # fmt: skip
MEDIAPIPE = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb",
    "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel",
    "right_heel", "left_foot", "right_foot",
)  # fmt: skip
H36M = (
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine2", "neck", "nose",
    "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
LAYOUTS: Mapping[str, tuple[str, ...]] = {"coco": COCO, "mediapipe": MEDIAPIPE, "h36m": H36M, "smpl": NAMES}
TOLERANCE, AROUND, FACING = 0.02, 0.05, 0.2  # metres at joints and around the head; radians where it looks
BONES = (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
FEWEST, SMALLEST = 3, 0.01  # points; metres from the first to the last of them along some axis


def named(points: Tensor, layout: str) -> dict[str, Tensor]:
    """Points (K, 3), or (K, 2) of a picture, by name; those that are not finite are left out.

    Raises BadInput for another number.
    """
    names = LAYOUTS.get(layout)
    if names is None:
        raise BadInput(f"keypoints of {layout!r}; choose one of {', '.join(LAYOUTS)}")
    if points.shape not in ((len(names), 3), (len(names), 2)):
        raise BadInput(
            f"keypoints {tuple(points.shape)}; {layout} has ({len(names)}, 3), or 2 in a picture; missing ones as nan"
        )
    return {name: point.double() for name, point in zip(names, points, strict=True) if torch.isfinite(point).all()}


def handles(
    found: Mapping[str, Tensor], character: Character, tolerance: float = TOLERANCE, *, depth: float = 0.0
) -> list[Effector]:
    """The handles of named points; `depth`: metres by which a camera that looks along z may be wrong in z besides.

    Raises BadInput where fewer than three points lie at joints, or all of these within a centimetre.
    """
    made: list[Effector] = [
        Place(character.joint(name), point, tolerance, depth)
        for name, point in found.items()
        if name in character.rig.roles
    ]
    if len(made) < FEWEST:
        raise BadInput(f"{len(made)} of {len(found)} points lie at joints; a pose needs {FEWEST} or more")
    _check_extent([point for name, point in found.items() if name in character.rig.roles])
    ears = [found[name] for name in ("left_ear", "right_ear") if name in found]
    if "head" in character.rig.roles and len(ears) == 2:
        made.append(Place(character.joint("head"), sum(ears, torch.zeros(3)) / 2, max(AROUND, tolerance), depth))
        if "nose" in found and depth < AROUND:  # where a face looks takes depth
            forward = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
            made.append(Look(character.joint("head"), found["nose"], forward, FACING))
    return made


def _check_extent(points: Sequence[Tensor]) -> None:
    placed = torch.stack([point.double() for point in points])
    extent = (placed.amax(0) - placed.amin(0)).max().item()
    if extent < SMALLEST:
        raise BadInput(
            f"{len(points)} keypoints without extent: all lie within {1000 * extent:.3g} mm; give places in metres, "
            "y up, and null for points that were not found"
        )


def scale(found: Mapping[str, Tensor], character: Character) -> float:
    """By how much points are made larger so that their limbs are as long as the character's, in the median."""
    ratios = []
    roles, rest = character.rig.roles, character.stands
    for side in ("left", "right"):
        for pair in BONES:
            a, b = (f"{side}_{part}" for part in pair)
            if {a, b} <= found.keys() and {a, b} <= roles.keys():
                theirs = (found[a] - found[b]).norm().item()
                ratios.append((rest[roles[a]] - rest[roles[b]]).norm().item() / max(theirs, 1e-6))
    return sorted(ratios)[len(ratios) // 2] if ratios else 1.0


def read(content: object) -> Tensor:
    """Points (N, K, 3 or 2) of what JSON held: [[x, y, z], ...] or a list of such, null for missing ones.

    Points of a picture have two numbers, pixels to the right and down.
    """
    if not isinstance(content, list) or not content:
        raise BadInput("keypoints are a list of [x, y, z]; null stands for a missing one")
    single = not any(isinstance(row, list) and row and isinstance(row[0], list | type(None)) for row in content)
    people = [content] if single else content
    rows = [[_point(point) for point in person] for person in people if isinstance(person, list)]
    if len(rows) != len(people) or len({len(row) for row in rows}) != 1:
        raise BadInput("every pose must have the same number of keypoints; null stands for a missing one")
    sizes = {len(point) for row in rows for point in row if point}
    if len(sizes) > 1:
        raise BadInput("some keypoints have 2 numbers and some 3; give pixels for all, or places in space for all")
    missing = [math.nan] * max(sizes, default=3)
    return torch.tensor([[point or missing for point in row] for row in rows], dtype=torch.float64)


def _point(point: object) -> Sequence[float]:
    """The numbers of a point, none of a missing one."""
    if point is None:
        return []
    if not isinstance(point, list) or len(point) < 2 or not all(map(_measure, point[:3])):
        raise BadInput(f"{str(point)[:40]!r} is no keypoint; give [x, y, z] in metres, or null for a missing one")
    return [float(v) for v in point[:3]]


def _measure(value: object) -> bool:
    """A number that a float holds: JSON has whole ones of any length."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)
