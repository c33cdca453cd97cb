"""Handles as words: `left_wrist=0.4,1.1,0.2`, `head:look-at=1,1.6,2~0.1`, `right_foot=pin`.

    JOINT[:KIND]=X,Y,Z[;X,Y,Z ...][/AXIS][~TOLERANCE]

KIND is position (metres, the default), rotation (axis times angle in the world, radians) or look-at (a place, looked at
along AXIS in the joint's frame, by default 0,0,1). Several targets, parted by semicolons, are as many poses. The
tolerance is in metres or radians; without one a handle is pinned. `pin` holds a joint where it stands at rest.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose.effectors import Effector, Look, Place, Turn
from framefill.pose.turning import exponential

KINDS = ("position", "rotation", "look-at")
MOST = 10_000  # poses in one handle
HOW = "write JOINT=X,Y,Z, JOINT:rotation=X,Y,Z or JOINT:look-at=X,Y,Z, with ~TOLERANCE behind it if it may give way"


def read(text: str, name: Callable[[str], str], rest: Callable[[str], Tensor]) -> Effector:
    """One handle. `name` gives the joint that a word means, `rest` where it stands. Raises BadInput."""
    left, equals, right = text.partition("=")
    joint, _, kind = left.strip().partition(":")
    kind = kind or "position"
    if not equals or not joint or kind not in KINDS:
        raise BadInput(f"cannot read the handle {text[:60]!r}; {HOW}")
    right, _, slack = right.partition("~")
    targets, _, axis = right.partition("/")
    tolerance = _numbers(slack, text, 1)[0].item() if slack else 0.0
    joint = name(joint)
    if targets.strip() == "pin":
        return _pinned(text, joint, kind, tolerance, rest)
    rows = targets.split(";")
    if len(rows) > MOST or (axis and kind != "look-at"):
        raise BadInput(f"cannot read the handle {text[:60]!r}; give at most {MOST} targets, and /AXIS only to look-at")
    target = torch.stack([_numbers(row, text, 3) for row in rows])
    target = target[0] if len(target) == 1 else target
    if kind == "rotation":
        return Turn(joint, torch.from_numpy(exponential(target.numpy())[0]), tolerance)
    if kind == "look-at":
        return Look(joint, target, _numbers(axis or "0,0,1", text, 3), tolerance)
    return Place(joint, target, tolerance)


def _pinned(text: str, joint: str, kind: str, tolerance: float, rest: Callable[[str], Tensor]) -> Place:
    if kind != "position":
        raise BadInput(f"cannot read the handle {text[:60]!r}; pin holds a position")
    return Place(joint, rest(joint), tolerance)


def _numbers(words: str, text: str, count: int) -> Tensor:
    try:
        values = [float(word) for word in words.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise BadInput(f"{words.strip()[:40]!r} in the handle {text[:60]!r} is not {count} finite numbers; {HOW}")
    return torch.tensor(values, dtype=torch.float64)
