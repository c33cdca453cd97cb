"""Handles as a table that people edit: one line per handle, in metres and radians, y up.

    kind,joint,x,y,z,axis_x,axis_y,axis_z,tolerance

kind is position, rotation or look-at; x, y, z is the place, the axis times angle of the global rotation since rest, or
what is looked at; the axis is the direction in the joint's frame, which is the world's at rest, that looks, and is left
empty for the other two.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from framefill.atomic import replacing
from framefill.errors import BadInput, MediaError
from framefill.pose import rotations
from framefill.pose.effectors import Effector, Look, Place, Turn
from framefill.pose.files.bounded import contents

COLUMNS = ("kind", "joint", "x", "y", "z", "axis_x", "axis_y", "axis_z", "tolerance")
LARGEST = 2**20  # bytes of a table


def read(path: Path) -> list[Effector]:
    """The handles of a table, float64. Raises MediaError that names the line."""
    data = contents(path, LARGEST, "a table of handles has a few lines")
    try:
        rows = list(csv.reader(data.decode("utf-8-sig").splitlines(), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise MediaError(f"{path} is not a table in UTF-8: {error}") from error
    if not rows or tuple(word.strip() for word in rows[0]) != COLUMNS:
        raise MediaError(f"{path}: the first line must be {','.join(COLUMNS)}")
    return [_effector(path, number, row) for number, row in enumerate(rows[1:], 2) if row]


def write(path: Path, effectors: Sequence[Effector]) -> None:
    """Writes handles with one target each. Raises BadInput for batches, Failed where it cannot be written."""
    rows = [_row(effector) for effector in effectors]
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def _effector(path: Path, line: int, row: list[str]) -> Effector:
    words = dict(zip(COLUMNS, (word.strip() for word in row), strict=False))
    try:
        if len(row) != len(COLUMNS):
            raise BadInput(f"{len(row)} columns; there must be {len(COLUMNS)}")
        x = torch.tensor([_number(words[name]) for name in "xyz"], dtype=torch.float64)
        tolerance = _number(words["tolerance"] or "0")
        if words["kind"] == "position":
            return Place(words["joint"], x, tolerance)
        if words["kind"] == "rotation":
            return Turn(words["joint"], rotations.from_axis_angle(x), tolerance)
        if words["kind"] == "look-at":
            axis = torch.tensor([_number(words[f"axis_{name}"]) for name in "xyz"], dtype=torch.float64)
            return Look(words["joint"], x, axis, tolerance)
        raise BadInput(f"kind {words['kind'][:30]!r}; choose position, rotation or look-at")
    except BadInput as error:
        raise MediaError(f"{path}, line {line}: {error}") from error


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"{word[:30]!r} where a finite number should be")
    return value


def _row(effector: Effector) -> list[str]:
    single = 2 if isinstance(effector, Turn) else 1
    if effector.target.ndim != single:
        raise BadInput(f"the handle at {effector.joint!r} has several targets; a table holds one for each handle")
    target = rotations.to_axis_angle(effector.target.double()) if isinstance(effector, Turn) else effector.target
    axis = [repr(float(v)) for v in effector.axis] if isinstance(effector, Look) else ["", "", ""]
    kind = {Place: "position", Turn: "rotation", Look: "look-at"}[type(effector)]
    return [kind, effector.joint, *(repr(float(v)) for v in target), *axis, repr(float(effector.tolerance))]
