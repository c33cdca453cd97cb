"""What leaves the studio and comes in: motions in every form of `results`, the session itself as JSON, characters.

The session's file is that of `pose solve -o FILE.json` with one entry more, `studio`: body, handles, pose and keys.
Whatever comes in may have been written by anyone.
"""

import contextlib
import json
import math
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framefill.errors import BadInput
from framefill.pose import characters, results
from framefill.pose.body import GENDERS
from framefill.pose.characters import Character
from framefill.pose.files import glb
from framefill.pose.studio.session import LONGEST, MOST_KEYS, Session
from framefill.pose.studio.state import KINDS, Grip, Key, State
from framefill.pose.turning import exponential, logarithm

SUFFIXES = (".json", ".bvh", ".glb", ".npz")
CHARACTERS = (".glb", ".bvh", ".asf", ".npz", ".pkl")
LARGEST = 2**26  # bytes of a file
LONGEST_NAME = 80  # letters of a file's name that a message has
MOST_GRIPS = 200
VERSION, BEFORE = 2, 1  # before: turns along the axes that a .glb gives its joints
FOREIGN = "this .json was not saved by the studio, or is damaged; save one there, or bring a .bvh, .glb or .npz"


def export(session: Session, suffix: str, rate: float = 30.0) -> bytes:
    """The bytes of a file: the keys with what is between them, or the pose. Raises BadInput for another form."""
    if suffix not in SUFFIXES:
        raise BadInput(f"files of the form {suffix!r}; choose one of {', '.join(SUFFIXES)}")
    motion = session.motion(rate)
    if suffix == ".json":
        return (json.dumps(results.described(motion) | {"studio": described(session)}) + "\n").encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"pose{suffix}"
        results.check(path, session.character, replace=True)
        results.write(path, session.character, motion)
        return path.read_bytes()


def bring(session: Session, name: str, content: bytes) -> None:
    """Takes over a file: a session, or a motion of any skeleton. Raises BadInput (MediaError for a damaged motion)."""
    suffix = _form(name, content, SUFFIXES)
    if suffix == ".json":
        session.become(_state(session, content))
        return
    with tempfile.TemporaryDirectory() as folder, _file(folder, name, content) as path:
        motion = results.motion_of(path, session.character)
    session.bring(motion)


def character(name: str, content: bytes) -> Character:
    """Whoever is in a file, read as by `characters.load`. Raises BadInput (MediaError for a damaged file).

    The file is kept as long as the character: the meshes of a .glb are written back with its motion.
    """
    _form(name, content, CHARACTERS)
    folder = tempfile.TemporaryDirectory(prefix="framefill-")
    try:
        with _file(folder.name, name, content) as path:
            found = characters.load(path)
    except BaseException:
        folder.cleanup()
        raise
    weakref.finalize(found, folder.cleanup)
    return found


def _form(name: str, content: bytes, suffixes: tuple[str, ...]) -> str:
    """The ending of a file that may be read. Raises BadInput for other ones, and for what is too long."""
    suffix = Path(name).suffix.lower()
    if suffix not in suffixes:
        raise BadInput(f"{name[:LONGEST_NAME]}: here the studio reads {', '.join(suffixes)}; give one of these")
    if len(content) > LARGEST:
        raise BadInput(f"{name[:LONGEST_NAME]} is longer than {LARGEST} bytes; cut it")
    return suffix


@contextlib.contextmanager
def _file(folder: str, name: str, content: bytes) -> Iterator[Path]:
    """A file with that content; errors about it have the name that the user knows."""
    path = Path(folder) / f"file{Path(name).suffix.lower()}"
    path.write_bytes(content)
    try:
        yield path
    except BadInput as error:
        raise type(error)(str(error).replace(str(path), name[:LONGEST_NAME])) from error


def described(session: Session) -> dict[str, Any]:
    """The session as plain numbers."""
    state = session.state
    return {
        "version": VERSION,
        "gender": state.gender,
        "shape": list(state.shape),
        "standing": state.standing,
        "handles": [_told(grip) for grip in state.grips],
        "pose": _numbers(state.local, state.root),
        "keys": [
            {"seconds": key.seconds, "handles": [_told(grip) for grip in key.grips]} | _numbers(key.local, key.root)
            for key in state.keys
        ],
    }


def _told(grip: Grip) -> dict[str, Any]:
    return {"joint": grip.joint, "kind": grip.kind, "target": list(grip.target), "tolerance": grip.tolerance}


def _numbers(local: torch.Tensor, root: torch.Tensor) -> dict[str, Any]:
    turns = np.round(logarithm(local.double().numpy()), 9)
    return {"root": root.double().tolist(), "rotations": turns.tolist()}


def _state(session: Session, content: bytes) -> State:
    """The state in a session's file, whose numbers are finite and few; `Session.become` checks what they mean."""
    try:
        told = json.loads(content)["studio"]
        _check_version(session.state.given, told["version"])
        keys = [_key(key) for key in _few(told["keys"], MOST_KEYS)]
        local, root = _pose(told["pose"])
        shape = tuple(_number(value) for value in _few(told["shape"], 1000))
        gender = str(told["gender"])
        if gender not in GENDERS or len({key.seconds for key in keys}) < len(keys):
            raise ValueError(gender)
        grips = _grips(told["handles"])
        keys.sort(key=lambda key: key.seconds)
        return State(session.state.given, local, root, grips, shape, gender, bool(told["standing"]), tuple(keys))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(FOREIGN) from error


def _check_version(given: Character, version: Any) -> None:
    """Raises BadInput for a session of another version whose turns mean something else here."""
    if version not in (VERSION, BEFORE):
        raise BadInput(f"a session of version {str(version)[:20]}; this framefill reads {BEFORE} and {VERSION}")
    if version == BEFORE and given.file is not None and not glb.axes(given.file).plain:
        raise BadInput(
            "this session has version 1, whose joints turn along the axes that this .glb gives them, and now it is "
            "since rest along the world's; open the .glb that was saved with it instead"
        )


def _key(told: Any) -> Key:
    local, root = _pose(told)
    seconds = _number(told["seconds"])
    if not 0 <= seconds <= LONGEST:
        raise ValueError(seconds)
    return Key(seconds, local, root, _grips(told["handles"]))


def _pose(told: Any) -> tuple[torch.Tensor, torch.Tensor]:
    turns = np.array(told["rotations"], np.float64)
    root = torch.tensor([_number(value) for value in told["root"]], dtype=torch.float64)
    if turns.ndim != 2 or turns.shape[1] != 3 or not np.isfinite(turns).all():
        raise ValueError(turns.shape)
    return torch.from_numpy(exponential(turns)[0]), root


def _grips(told: Any) -> tuple[Grip, ...]:
    found = []
    for row in _few(told, MOST_GRIPS):
        x, y, z = (_number(value) for value in row["target"])
        if row["kind"] not in KINDS:
            raise ValueError(row["kind"])
        found.append(Grip(str(row["joint"]), row["kind"], (x, y, z), _number(row["tolerance"])))
    if len({grip.key for grip in found}) < len(found):
        raise ValueError("a handle twice")
    return tuple(found)


def _few(rows: Any, most: int) -> list[Any]:
    if not isinstance(rows, list) or len(rows) > most:
        raise ValueError(rows)
    return rows


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)
