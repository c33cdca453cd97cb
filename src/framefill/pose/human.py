"""framefill's own human body, from tables of body measurements: no scan, no registration, no licence wall.

Where the numbers are from. Stature: the U.S. Army survey ANSUR II (Gordon et al. 2014), men 1756 mm (standard deviation
69), women 1629 mm (64); so is the distance of the acromia, men 416 mm (19), women 365 mm (18). Lengths as fractions of
stature: Drillis and Contini 1966, as printed by Winter, Biomechanics and Motor Control of Human Movement, figure 4.1.
Hip joints: 0.36 of the distance of the iliac spines (0.24 m in a man) to each side, Bell, Pedersen and Brand 1990.
Ours, where these are silent: where the spine joints, collars, hands and balls of the feet lie, how thick the limbs are,
and how far shapes spread (between 2.5 and 12 per cent per unit).

Shape, in standard deviations: 0 stature; 1 long legs for the stature; 2 arm length; 3 shoulder breadth; 4 hip breadth;
5 girth (skin only); 6 long thighs for the leg; 7 long upper arms for the arm; 8 neck and head; 9 hands and feet.
"""

from functools import cache

import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose.body import COMPONENTS, GENDERS, NAMES, PARENTS, Body

STATURE = {"male": 1.756, "female": 1.629, "neutral": (1.756 + 1.629) / 2}  # metres
SPREAD = {"male": 0.069 / 1.756, "female": 0.064 / 1.629, "neutral": 0.0395}  # standard deviation / mean
SHOULDERS = {"male": 0.416 / 1.756, "female": 0.365 / 1.629, "neutral": 0.781 / 3.385}  # of stature
INSIDE = 0.02  # metres from the acromion to the centre of the joint under it

# Offsets from the parent as fractions of stature: x to the left, y up, z forward. Left side; right ones are mirrored.
FRACTIONS = {
    "left_hip": (0.36 * 0.24 / 1.756, -0.020, 0.0), "left_knee": (0.0, 0.285 - 0.530, 0.0),
    "left_ankle": (0.0, 0.039 - 0.285, 0.0), "left_foot": (0.0, 0.012 - 0.039, 0.45 * 0.152),
    "spine1": (0.0, 0.065, 0.0), "spine2": (0.0, 0.075, 0.0), "spine3": (0.0, 0.055, 0.0), "neck": (0.0, 0.100, 0.0),
    "left_collar": (0.030, 0.060, 0.0), "left_shoulder": (0.0, 0.013, 0.0), "head": (0.0, 0.050, 0.010),
    "left_elbow": (0.186, 0.0, 0.0), "left_wrist": (0.146, 0.0, 0.0), "left_hand": (0.054, 0.0, 0.0),
}  # fmt: skip
# Where the last joints end, and how thick the limb above each joint is (radius), as fractions of stature.
TIPS = {"head": (0.0, 0.105, 0.0), "left_hand": (0.054, 0.0, 0.0), "left_foot": (0.0, 0.0, 0.030)}
RADII = {
    "left_hip": 0.056, "left_knee": 0.042, "left_ankle": 0.029, "left_foot": 0.019, "spine1": 0.068, "spine2": 0.066,
    "spine3": 0.068, "neck": 0.040, "left_collar": 0.035, "head": 0.033, "left_shoulder": 0.035, "left_elbow": 0.027,
    "left_wrist": 0.021, "left_hand": 0.018, "head tip": 0.044, "left_hand tip": 0.014, "left_foot tip": 0.016,
}  # fmt: skip
# What one unit of each component beyond stature does to lengths, relatively: axis x or y or all of an offset.
LEG, TRUNK = 0.491, 0.345  # of stature: hip to ankle, hip to neck
EFFECTS = (
    (1, "xyz", 0.025, ("left_knee", "left_ankle")),
    (1, "xyz", -0.025 * LEG / TRUNK, ("spine1", "spine2", "spine3", "neck")),
    (2, "xyz", 0.03, ("left_elbow", "left_wrist")),
    (3, "x", 0.046, ("left_collar", "left_shoulder")),
    (4, "x", 0.06, ("left_hip",)),
    (6, "xyz", 0.03, ("left_knee",)),
    (6, "xyz", -0.03, ("left_ankle",)),
    (7, "xyz", 0.03, ("left_elbow",)),
    (7, "xyz", -0.03, ("left_wrist",)),
    (8, "xyz", 0.05, ("head", "head tip")),
    (9, "xyz", 0.05, ("left_hand", "left_hand tip", "left_foot", "left_foot tip")),
)
GIRTH, GIRTH_SPREAD = 5, 0.12

# A limb's outline: (along the bone, end to end; along it in radii; out from it in radii).
OUTLINE = ((0, -0.7, 0.7), (0, 0, 1), (0.15, 0, 1), (0.5, 0, 1), (0.85, 0, 1), (1, 0, 1), (1, 0.7, 0.7))
SIDES = 12


@cache
def human(gender: str = "neutral") -> Body:
    """The body of one gender, float32; stature 1.76 m (male), 1.63 m (female), 1.69 m (neutral) at shape 0.

    Raises BadInput for another gender.
    """
    if gender not in GENDERS:
        raise BadInput(f"gender {gender!r}; choose one of {', '.join(GENDERS)}")
    lengths = _lengths(gender)
    joints = _joints(lengths)
    parts = [_capsule(joints, lengths, name) for name in lengths]
    vertices = torch.cat([part[0] for part in parts])
    counts = torch.tensor([len(part[0]) for part in parts]).cumsum(0) - len(parts[0][0])
    faces = torch.cat([part[2] + start for part, start in zip(parts, counts, strict=True)])
    weights = torch.cat([part[1] for part in parts])
    return Body(
        NAMES, PARENTS, joints[..., 0].float(), joints[..., 1:].float(),
        vertices[..., 0].float(), vertices[..., 1:].float(), weights.float(), faces,
    )  # fmt: skip


def _lengths(gender: str) -> dict[str, Tensor]:
    """Offset from the parent (3, 1 + K) of every joint and tip: in metres, then metres per unit of shape."""
    stature = STATURE[gender]
    table = dict(FRACTIONS) | {f"{name} tip": tip for name, tip in TIPS.items()}
    half = SHOULDERS[gender] / 2 - INSIDE / stature
    table["left_shoulder"] = (half - table["left_collar"][0], *table["left_shoulder"][1:])
    found: dict[str, Tensor] = {}
    for name, fractions in table.items():
        offset = torch.zeros(3, 1 + COMPONENTS, dtype=torch.float64)
        offset[:, 0] = stature * torch.tensor(fractions, dtype=torch.float64)
        offset[:, 1] = SPREAD[gender] * offset[:, 0]
        for component, axes, size, names in EFFECTS:
            for axis in axes if name in names else "":
                offset["xyz".index(axis), 1 + component] = size * offset["xyz".index(axis), 0]
        found[name] = offset
        if name.startswith("left_"):
            found[name.replace("left_", "right_")] = offset * torch.tensor([-1.0, 1, 1]).double()[:, None]
    return found


def _joints(lengths: dict[str, Tensor]) -> Tensor:
    """Rest positions (J, 3, 1 + K), the soles of the feet at the height 0 and the pelvis above the origin."""
    joints = [torch.zeros(3, 1 + COMPONENTS, dtype=torch.float64)]
    for name, parent in zip(NAMES[1:], PARENTS[1:], strict=True):
        joints.append(joints[parent] + lengths[name])
    placed = torch.stack(joints)
    sole = placed[NAMES.index("left_ankle"), 1] - 0.039 / 0.246 * -lengths["left_ankle"][1]
    placed[:, 1] -= sole
    return placed


def _capsule(joints: Tensor, lengths: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices (V, 3, 1 + K), weights (V, J) and faces of the limb that ends in the joint or tip `name`."""
    joint = NAMES.index(name.removesuffix(" tip"))
    start = joint if name.endswith(" tip") else PARENTS[joint]
    a, b = joints[start], joints[start] + lengths[name]
    radius = _radius(name)
    along = torch.nn.functional.normalize((b - a)[:, 0], dim=0)
    side = torch.linalg.cross(along, torch.eye(3).double()[int(along.abs().argmin())])
    side = side / side.norm()
    other = torch.linalg.cross(along, side)
    rows, weights = [], []
    for part, forth, out in ((0, -1, 0), *OUTLINE, (1, 1, 0)):
        for turn in torch.arange(SIDES if out else 1).double() * (2 * torch.pi / SIDES):
            direction = forth * along + out * (turn.cos() * side + turn.sin() * other)
            rows.append(a + part * (b - a) + direction[:, None] * radius)
            weights.append(_share(start, joint if joint != start else -1, part))
    return torch.stack(rows), torch.stack(weights), _capsule_faces()


def _radius(name: str) -> Tensor:
    """Radius of a limb (1 + K): girth and stature act on it."""
    fraction = RADII[name.replace("right_", "left_")] * STATURE["neutral"]
    radius = torch.zeros(1 + COMPONENTS, dtype=torch.float64)
    radius[0], radius[1], radius[1 + GIRTH] = fraction, SPREAD["neutral"] * fraction, GIRTH_SPREAD * fraction
    return radius


def _share(start: int, end: int, part: float) -> Tensor:
    """Weights (J,) of a point at `part` of a limb: half the joint at the end, half the parent's at the start."""
    weights = torch.zeros(len(NAMES), dtype=torch.float64)
    weights[start] = 1
    neighbour = end if part >= 0.85 else PARENTS[start] if part <= 0.15 else -1
    if neighbour >= 0:
        share = 0.5 if part in (0, 1) else 0.2
        weights[start], weights[neighbour] = 1 - share, share
    return weights


def _capsule_faces() -> Tensor:
    """Triangles of a closed limb: a fan, rings of quadrilaterals, a fan."""
    rings = len(OUTLINE)
    last = 1 + rings * SIDES
    faces = []
    for i in range(SIDES):
        j = (i + 1) % SIDES
        faces.append((0, 1 + j, 1 + i))
        for ring in range(rings - 1):
            low, high = 1 + ring * SIDES, 1 + (ring + 1) * SIDES
            faces += [(low + i, low + j, high + j), (low + i, high + j, high + i)]
        faces.append((last, last - SIDES + i, last - SIDES + j))
    return torch.tensor(faces)
