"""Acclaim's ASF and AMC, as CMU's motion-capture database has them: a skeleton in one file, its motion in another.

A bone of an ASF file has a direction, a length, an axis A of its own and the angles it may turn (dof). In a frame it is
turned by A M A^-1, M from the angles in the order of the file (the first is applied first), in the frame that its
parent is turned to. Bones turn where they begin, so the joint of a bone stands at the end of the bone above it. Bones
that begin at the same place as their parent and never turn are left out; one that does turn is set HAIR away from it.
CMU's unit is 1/0.45 inches per unit: length in the file's units section divides, and what remains are inches.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from framefill.errors import BadInput, MediaError
from framefill.pose import rotations
from framefill.pose.files.bounded import contents
from framefill.pose.motion import Motion
from framefill.pose.skeleton import MOST_JOINTS, Skeleton

LARGEST = 2**27  # bytes of a file
INCH = 0.0254
RATE = 120.0  # CMU's frames per second: the files do not say
HAIR = 1e-5  # metres
ENDING = " end"
TURNS = {"rx": 0, "ry": 1, "rz": 2}
MOVES = {"tx": 0, "ty": 1, "tz": 2}


@dataclass
class _Bone:
    name: str
    direction: tuple[float, ...] = (0.0, 0.0, 0.0)
    length: float = 0.0
    axis: Tensor = field(default_factory=lambda: torch.eye(3).double())
    dof: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Rig:
    bones: dict[str, _Bone]
    parents: dict[str, str]
    unit: float  # what one of the file's lengths is in metres
    angle: float  # what one of its angles is in radians


def read(path: Path, skeleton: Path | None = None, *, rate: float = RATE) -> Motion:
    """The motion of an .amc file, float64 metres with y up, on the skeleton of its .asf.

    skeleton: the .asf; without one, the one beside the motion whose name begins it (07.asf for 07_01.amc), or the only
    one there. Raises MediaError for files that are damaged, BadInput for hierarchies that are refused.
    """
    if not 0 < rate < math.inf:
        raise BadInput(f"{rate} frames per second; give a number above 0")
    rig = _rig(skeleton or beside(path))
    frames = _frames(path, rig)
    return _motion(rig, frames, 1 / rate)


def read_skeleton(path: Path) -> Motion:
    """The skeleton of an .asf as one frame in which nothing is turned."""
    rig = _rig(path)
    return _motion(rig, [{}], 1 / RATE)


def beside(path: Path) -> Path:
    """The .asf that belongs to an .amc. Raises MediaError where it cannot be told."""
    found = sorted(one for one in path.parent.glob("*") if one.suffix.lower() == ".asf")
    named = [one for one in found if one.stem == path.stem or one.stem == path.stem.rpartition("_")[0]]
    if len(named or found) != 1:
        raise MediaError(f"{path} needs its skeleton: {len(found)} .asf files are beside it; put the one there")
    return (named or found)[0]


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Number and words of every line that has any."""
    data = contents(path, LARGEST, "cut it in pieces")
    text = data.decode("utf-8", "replace")
    lines = enumerate((line.partition("#")[0].split() for line in text.splitlines()), 1)
    return [(number, words) for number, words in lines if words]


def _wrong(path: Path, line: int, what: str) -> MediaError:
    return MediaError(f"{path} is not a whole {path.suffix[1:].upper()} file: line {line}: {what}; take another copy")


def _numbers(path: Path, line: int, words: list[str], count: int) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise _wrong(path, line, f"{' '.join(words)[:40]!r} where {count} finite numbers should be")
    return values


def _rig(path: Path) -> _Rig:
    units = {"length": 1.0}
    root = _Bone("root", dof=("tx", "ty", "tz", "rx", "ry", "rz"))
    bones, parents = {"root": root}, {"root": ""}
    section, bone, angle = "", root, math.pi / 180
    for line, words in _lines(path):
        key, rest = words[0].lower(), words[1:]
        if key.startswith(":"):
            section = key[1:]
        elif section == "units" and key == "length":
            units["length"] = _numbers(path, line, rest, 1)[0]
        elif section == "units" and key == "angle":
            angle = 1.0 if rest[:1] == ["rad"] else math.pi / 180
        elif section == "root" and key == "order":
            root.dof = tuple(word.lower() for word in rest)
        elif section == "bonedata" and key == "begin":
            bone = _Bone("")
        elif section == "bonedata" and key == "end" and bone.name:
            if bone.name in bones:
                raise _wrong(path, line, f"a second bone {bone.name!r}")
            bones[bone.name] = bone
        elif section == "bonedata":
            _tell(path, line, bone, key, rest, angle)
        elif section == "hierarchy" and key not in ("begin", "end"):
            _attach(path, line, words, bones, parents)
        if len(bones) > MOST_JOINTS:
            raise _wrong(path, line, f"more than {MOST_JOINTS} bones")
    if len(bones) < 2 or not 0 < units["length"] < math.inf or bones.keys() != parents.keys():
        loose = sorted(bones.keys() - parents.keys())
        raise _wrong(path, 1, f"no skeleton ({len(bones) - 1} bones, unattached: {', '.join(loose[:3]) or 'none'})")
    for one in bones.values():
        if len(set(one.dof)) != len(one.dof) or not set(one.dof) <= TURNS.keys() | MOVES.keys():
            raise _wrong(path, 1, f"the bone {one.name!r} has the dof {' '.join(one.dof)[:40]!r}")
    return _Rig(bones, parents, INCH / units["length"], angle)


def _tell(path: Path, line: int, bone: _Bone, key: str, rest: list[str], angle: float) -> None:
    """One property of a bone; others than these (limits, masses) are not needed."""
    if key == "name" and len(rest) == 1:
        bone.name = rest[0]
    elif key == "direction":
        bone.direction = tuple(_numbers(path, line, rest, 3))
    elif key == "length":
        bone.length = _numbers(path, line, rest, 1)[0]
    elif key == "dof":
        bone.dof = tuple(word.lower() for word in rest if word.lower() != "l")
    elif key == "axis":
        values = _numbers(path, line, rest[:3], 3)
        order = rest[3].lower() if len(rest) > 3 else "xyz"
        if sorted(order) != ["x", "y", "z"]:
            raise _wrong(path, line, f"the axis order {order[:10]!r}")
        bone.axis = _turned([f"r{axis}" for axis in order], torch.tensor([values]).double() * angle)[0]


def _attach(path: Path, line: int, words: list[str], bones: dict[str, _Bone], parents: dict[str, str]) -> None:
    for name in words[1:]:
        if words[0] not in bones or name not in bones or name in parents:
            raise _wrong(path, line, f"{name[:40]!r} below {words[0][:40]!r}: unknown, or attached twice")
        parents[name] = words[0]


def _turned(dof: list[str], angles: Tensor) -> Tensor:
    """Rotations (T, 3, 3) of angles (T, n) in radians about the axes of `dof`: the first is applied first."""
    turn = torch.eye(3).double().expand(len(angles), 3, 3)
    for place, kind in enumerate(dof):
        vectors = torch.zeros(len(angles), 3).double()
        vectors[:, TURNS[kind]] = angles[:, place]
        turn = rotations.from_axis_angle(vectors) @ turn
    return turn


def _frames(path: Path, rig: _Rig) -> list[dict[str, list[float]]]:
    """The numbers of every bone, frame by frame; every frame must tell all that turn."""
    frames: list[dict[str, list[float]]] = []
    wanted = {name for name, bone in rig.bones.items() if bone.dof}
    lines = [(line, words) for line, words in _lines(path) if not words[0].startswith(":")]
    for line, words in lines:
        if len(words) == 1 and words[0].isdecimal():
            if frames and frames[-1].keys() != wanted:
                raise _wrong(path, line, f"the frame before lacks {', '.join(sorted(wanted - frames[-1].keys())[:3])}")
            frames.append({})
        elif not frames or words[0] not in wanted or words[0] in frames[-1]:
            raise _wrong(path, line, f"{words[0][:40]!r} where a frame or a bone that turns should be")
        else:
            frames[-1][words[0]] = _numbers(path, line, words[1:], len(rig.bones[words[0]].dof))
    if not frames or frames[-1].keys() != wanted:
        raise _wrong(path, lines[-1][0] if lines else 1, "it ends within a frame")
    return frames


def _motion(rig: _Rig, frames: list[dict[str, list[float]]], seconds: float) -> Motion:
    names = _below(rig)
    root, turns = torch.zeros(len(frames), 3).double(), {}
    for name in names:
        bone = rig.bones[name]
        told = torch.tensor([one.get(name, [0.0] * len(bone.dof)) for one in frames]).double()
        told = told.reshape(len(frames), len(bone.dof))
        spins = [i for i, kind in enumerate(bone.dof) if kind in TURNS]
        own = _turned([bone.dof[i] for i in spins], told[:, spins] * rig.angle)
        turns[name] = bone.axis @ own @ bone.axis.T
        for i, kind in enumerate(bone.dof):
            if kind in MOVES and name == "root":
                root[:, MOVES[kind]] = told[:, i] * rig.unit
    joints, parents, offsets = _joints(rig, names, turns)
    still = torch.eye(3).double().expand(len(frames), 3, 3)
    local = torch.stack([turns.get(joint, still) for joint in joints], 1)
    return Motion(Skeleton(tuple(joints), tuple(parents), torch.stack(offsets)), local, root, seconds)


def _below(rig: _Rig) -> list[str]:
    """Bones, parents first. Raises BadInput for those that no way leads to from the root."""
    order, todo = [], ["root"]
    children: dict[str, list[str]] = {}
    for name, parent in rig.parents.items():
        children.setdefault(parent, []).append(name)
    while todo:
        order.append(todo.pop())
        todo += children.get(order[-1], [])
    if len(order) != len(rig.parents):
        lost = sorted(set(rig.parents) - set(order))
        raise BadInput(f"the bones {', '.join(lost[:3])} hang on each other and not on the root; a hierarchy is a tree")
    return order


def _joints(rig: _Rig, names: list[str], turns: dict[str, Tensor]) -> tuple[list[str], list[int], list[Tensor]]:
    """Names, parents and offsets of the joints that are kept: where bones begin, and where the last ones end."""
    joints: list[str] = []
    parents: list[int] = []
    offsets: list[Tensor] = []
    place: dict[str, tuple[int, Tensor]] = {}  # the joint that carries a bone, and the bone's end as seen from it
    for name in names:
        bone, parent = rig.bones[name], rig.parents[name]
        along = torch.tensor(bone.direction).double()
        vector = along / along.norm().clamp_min(1e-9) * bone.length * rig.unit
        above, begin = place.get(parent, (-1, torch.zeros(3).double()))
        turns_not = bool((turns[name] - torch.eye(3).double()).abs().max() < 1e-9) and not bone.dof
        if above >= 0 and turns_not and begin.norm() < HAIR:
            place[name] = (above, begin + vector)
            continue
        joints.append(name)
        parents.append(above)
        offsets.append(begin if begin.norm() >= HAIR or above < 0 else HAIR * along / along.norm().clamp_min(1e-9))
        place[name] = (len(joints) - 1, vector)
    for name in sorted(set(names) - set(rig.parents.values()), key=names.index):
        above, end = place[name]
        if end.norm() > HAIR:
            joints.append(name + ENDING)
            parents.append(above)
            offsets.append(end)
    return joints, parents, offsets
