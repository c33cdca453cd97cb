"""BVH: a hierarchy in text and a table of channels, read whatever their order and written as root zxy, joints zxy.

What the file leaves unsaid is stated by the caller: how long its unit is in metres (most files are in centimetres), and
which axis is up. Rotation channels multiply from left to right in the order of the file. A child's position channels
replace its offset; where they move over time the bone would stretch, so they are refused. Joints without length that
never turn, as CMU's clips have at the hips, are left out: what hangs on them hangs on their parent, and stays in place.
"""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framefill.atomic import replacing
from framefill.errors import BadInput, MediaError
from framefill.pose import rotations
from framefill.pose.motion import Motion
from framefill.pose.skeleton import MOST_JOINTS, SHORTEST, Skeleton

LARGEST = 2**27  # bytes of a file
MOST_FRAMES = 1_000_000
ENDING = " end"  # what an end site is called: its joint's name, and this
KINDS = {f"{axis.upper()}{kind}": (axis, kind) for axis in "xyz" for kind in ("position", "rotation")}
# Rotations that take the file's axes to ours (y up): a file with z up is turned about x.
UP = {"y": torch.eye(3).double(), "z": torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]).double()}
DEGREE = math.pi / 180
STRETCH = 1e-4  # metres by which a bone may change over time


@dataclass
class _Joint:
    name: str
    parent: int
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    channels: list[str] = field(default_factory=list)


def read(path: Path, *, metres: float = 0.01, up: str = "y") -> Motion:
    """The motion in a BVH file, float64, with end sites as joints called "... end".

    metres: how long the file's unit is. up: "y" or "z", the file's vertical axis; the motion's is y.
    Raises MediaError for a file that is damaged, BadInput for hierarchies that are refused (`Skeleton`).
    """
    _check_options(metres, up)
    words = _Words(path)
    joints = _hierarchy(words)
    seconds, table = _table(words, sum(len(joint.channels) for joint in joints))
    return _motion(path, joints, table, seconds, metres, up)


def write(path: Path, motion: Motion, *, metres: float = 0.01, up: str = "y") -> None:
    """Writes a motion; joints called "... end" without children become end sites, and how they turn is not kept.

    Numbers have six places: a unit of a centimetre keeps 0.01 micrometres, angles keep a millionth of a degree.
    Raises BadInput for joint names with white space other than that, Failed where the file cannot be written.
    """
    _check_options(metres, up)
    turn = UP[up].T
    local = motion.local.double().clone()
    local[:, motion.skeleton.root] = turn @ local[:, motion.skeleton.root] @ turn.T
    others = [j for j in range(len(motion.skeleton)) if j != motion.skeleton.root]
    local[:, others] = turn @ local[:, others] @ turn.T
    offsets = motion.skeleton.offsets.double() @ turn.T / metres
    root = motion.root.double() @ turn.T / metres
    text, order = _header(motion.skeleton, offsets)
    angles = (rotations.to_euler(local[:, order], "zxy") / DEGREE).flatten(1)
    rows = torch.cat([root, angles], 1).numpy()
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"HIERARCHY\n{text}MOTION\nFrames: {len(rows)}\nFrame Time: {motion.seconds:.9g}\n")
        np.savetxt(file, rows, fmt="%.6f")


def _check_options(metres: float, up: str) -> None:
    if not 0 < metres < math.inf:
        raise BadInput(f"a unit of {metres} metres; give its length, such as 0.01 for centimetres")
    if up not in UP:
        raise BadInput(f"the axis {up!r} is up; choose y or z")


class _Words:
    """The words of a file, one after the other, with errors that name the line."""

    def __init__(self, path: Path):
        self.path, self.line = path, 0
        self._words = self._all()
        self._next: str | None = None

    def _all(self) -> Iterator[str]:
        try:
            if self.path.stat().st_size > LARGEST:
                raise self.wrong(f"it is longer than {LARGEST} bytes")
            with self.path.open(encoding="utf-8", errors="replace") as file:
                for self.line, text in enumerate(file, 1):
                    yield from text.split()
        except OSError as error:
            raise MediaError(f"cannot read {self.path}: {error.strerror or error}") from error

    def wrong(self, what: str) -> MediaError:
        return MediaError(f"{self.path} is not a whole BVH file: line {self.line}: {what}; take another copy")

    def take(self, *allowed: str) -> str:
        """The next word, which must be one of `allowed`, if any are given."""
        word = next(self._words, None)
        if word is None:
            raise self.wrong(f"it ends where {' or '.join(allowed) or 'more'} should be")
        if allowed and word not in allowed:
            raise self.wrong(f"{word[:30]!r} where {' or '.join(allowed)} should be")
        return word

    def number(self) -> float:
        word = self.take()
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.wrong(f"{word[:30]!r} where a finite number should be")
        return value

    def count(self, most: int) -> int:
        value = self.number()
        if value != int(value) or not 0 <= value <= most:
            raise self.wrong(f"{value:g} where a whole number up to {most} should be")
        return int(value)

    def rest(self) -> Iterator[str]:
        return self._words


def _hierarchy(words: _Words) -> list[_Joint]:
    """The joints in the order of the file; a stack instead of recursion, for a file may nest as deep as it likes."""
    words.take("HIERARCHY")
    words.take("ROOT")
    joints = [_Joint(words.take(), -1)]
    words.take("{")
    open_joints = [0]
    while open_joints:
        here = joints[open_joints[-1]]
        ending = here.name.endswith(ENDING)
        word = words.take("OFFSET", "}") if ending else words.take("OFFSET", "CHANNELS", "JOINT", "End", "}")
        if word == "OFFSET":
            here.offset = (words.number(), words.number(), words.number())
        elif word == "CHANNELS":
            here.channels = [words.take(*KINDS) for _ in range(words.count(6))]
        elif word == "}":
            open_joints.pop()
        else:
            name = words.take() if word == "JOINT" else here.name + ENDING * bool(words.take("Site"))
            joints.append(_Joint(name, open_joints[-1]))
            open_joints.append(len(joints) - 1)
            words.take("{")
        if len(joints) > MOST_JOINTS:
            raise words.wrong(f"more than {MOST_JOINTS} joints")
    return joints


def _table(words: _Words, channels: int) -> tuple[float, np.ndarray]:
    """Seconds of a frame, and the channels (T, n)."""
    if words.take("MOTION", "ROOT") == "ROOT":
        raise words.wrong("it has several roots; join them under one")
    words.take("Frames:")
    frames = words.count(MOST_FRAMES)
    words.take("Frame")
    words.take("Time:")
    seconds = words.number()
    if frames == 0 or seconds <= 0:
        raise words.wrong(f"{frames} frames of {seconds:g} seconds")
    values = array("d")
    for word in words.rest():  # as many as there are, whatever the file said
        try:
            values.append(float(word))
        except ValueError:
            raise words.wrong(f"{word[:30]!r} where a number should be") from None
        if len(values) > frames * channels:
            raise words.wrong(f"more than the {frames} frames of {channels} numbers that are stated")
    table = np.frombuffer(values) if values else np.zeros(0)
    if len(table) != frames * channels or not np.isfinite(table).all():
        raise words.wrong(f"{len(table)} numbers; {frames} frames of {channels} finite ones are stated")
    return seconds, table.reshape(frames, channels)


def _motion(path: Path, joints: list[_Joint], table: np.ndarray, seconds: float, metres: float, up: str) -> Motion:
    turn = UP[up]
    local = torch.eye(3).double().expand(len(table), len(joints), 3, 3).clone()
    offsets = torch.tensor([joint.offset for joint in joints], dtype=torch.float64)
    root, column = offsets[:1].expand(len(table), 3), 0
    for number, joint in enumerate(joints):
        values = torch.from_numpy(table[:, column : column + len(joint.channels)])
        column += len(joint.channels)
        place, local[:, number] = _channels(joint, values, offsets[number])
        if joint.parent < 0:
            root = place
            continue
        if (place - place[0]).abs().max() * metres > STRETCH:
            raise MediaError(f"{path}: the bone to {joint.name!r} changes its length; framefill's bones do not")
        offsets[number] = place[0]
    offsets, local = offsets @ turn.T * metres, turn @ local @ turn.T
    kept, parents = _without_empty(joints, offsets, local)
    skeleton = Skeleton(tuple(joints[j].name for j in kept), parents, offsets[kept])
    return Motion(skeleton, local[:, kept], root @ turn.T * metres, seconds)


def _without_empty(joints: list[_Joint], offsets: Tensor, local: Tensor) -> tuple[list[int], tuple[int, ...]]:
    """The joints to keep and their parents: one at its parent's place that never turns is left out."""
    still = (local - torch.eye(3).to(local)).abs().amax((0, 2, 3)) < 1e-9
    empty = ((offsets.norm(dim=1) < SHORTEST) & still).tolist()
    kept = [j for j, joint in enumerate(joints) if joint.parent < 0 or not empty[j]]
    place, parents = {j: i for i, j in enumerate(kept)}, []
    for j in kept:
        parent = joints[j].parent
        while parent >= 0 and parent not in place:
            parent = joints[parent].parent
        parents.append(place.get(parent, -1))
    return kept, tuple(parents)


def _channels(joint: _Joint, values: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Place (T, 3) in the file's unit and rotation (T, 3, 3) of one joint."""
    place = offset.expand(len(values), 3).clone()
    turn = torch.eye(3).double().expand(len(values), 3, 3)
    for name, column in zip(joint.channels, values.unbind(1), strict=True):
        axis, kind = "xyz".index(KINDS[name][0]), KINDS[name][1]
        if kind == "position":
            place[:, axis] = column
        else:
            vectors = torch.zeros(len(values), 3, dtype=torch.float64)
            vectors[:, axis] = column * DEGREE
            turn = turn @ rotations.from_axis_angle(vectors)
    return place, turn


def _header(skeleton: Skeleton, offsets: Tensor) -> tuple[str, list[int]]:
    """The hierarchy as text, and the joints that have channels in its order."""
    lines: list[str] = []
    order: list[int] = []
    todo: list[tuple[int, int]] = [(skeleton.root, 0)]
    while todo:
        joint, depth = todo.pop()
        if joint < 0:
            lines.append("  " * depth + "}")
            continue
        name, children = skeleton.names[joint], skeleton.children(joint)
        ending = name.endswith(ENDING) and not children and joint != skeleton.root
        if not ending and (name.split() != [name] or name in "{}"):
            raise BadInput(f"the joint name {name!r} has white space, which BVH cannot hold; rename it")
        title = "End Site" if ending else f"{'JOINT' if depth else 'ROOT'} {name}"
        x, y, z = offsets[joint].tolist() if depth else (0.0, 0.0, 0.0)
        inside = "  " * (depth + 1)
        lines += ["  " * depth + title, "  " * depth + "{", f"{inside}OFFSET {x:.6f} {y:.6f} {z:.6f}"]
        if not ending:
            order.append(joint)
            places = "" if depth else "Xposition Yposition Zposition "
            lines.append(f"{inside}CHANNELS {3 if depth else 6} {places}Zrotation Xrotation Yrotation")
        todo += [(-1, depth), *((child, depth + 1) for child in reversed(children))]
    return "\n".join(lines) + "\n", order
