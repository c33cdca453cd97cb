"""Values as one line of text, for the process beside the studio, and back: numbers, words, arrays, and our own classes.

A line is JSON in which whatever JSON has no word for is an object of one entry that names it: {"tuple": [...]},
{"Place": {"joint": "head", ...}}. Only the classes listed here are made from a line, by their own constructors and
checks, so that reading one runs nothing else. Numbers and arrays come back as they were, bit by bit.
"""

import base64
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framefill.errors import BadInput
from framefill.pose.body import Body
from framefill.pose.characters import Character
from framefill.pose.effectors import Look, Place, Turn
from framefill.pose.habits import Manner
from framefill.pose.limits import Habit, Limits, Stance
from framefill.pose.motion import Motion
from framefill.pose.recover import Recovered
from framefill.pose.retarget import Rig
from framefill.pose.skeleton import Skeleton
from framefill.pose.solve import Solution

CLASSES = {
    kind.__name__: kind
    for kind in (
        Skeleton, Place, Turn, Look, Habit, Stance, Limits, Manner, Rig, Body, Character, Motion, Solution, Recovered,
    )
}  # fmt: skip
PLAIN = (bool, int, float, str, type(None))
ARRAYS = "?bBhHiIlLqQfd"  # the kinds of number that an array may hold


def write(value: Any) -> str:
    """One line without its end. Raises BadInput for what is not of the kinds above."""
    return json.dumps(_told(value))


def read(line: str | bytes) -> Any:
    """What `write` was given. Raises BadInput for a line that it did not write."""
    try:
        return _meant(json.loads(line))
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError, RuntimeError) as error:
        raise BadInput(f"a line that is no letter ({' '.join(str(error).split())[:80]}); ask again") from error


def _told(value: Any) -> Any:
    if type(value) in PLAIN:
        return value
    if type(value) is list:
        return [_told(part) for part in value]
    if type(value) is tuple:
        return {"tuple": [_told(part) for part in value]}
    if type(value) is dict and all(type(name) is str for name in value):
        return {"dict": {name: _told(part) for name, part in value.items()}}
    if isinstance(value, torch.Tensor):
        return {"tensor": _numbers(value.detach().cpu().numpy())}
    if isinstance(value, np.ndarray):
        return {"array": _numbers(value)}
    if isinstance(value, Path):
        return {"path": str(value)}
    if CLASSES.get(type(value).__name__) is type(value):
        return {type(value).__name__: {part.name: _told(getattr(value, part.name)) for part in fields(value)}}
    raise BadInput(
        f"a {type(value).__name__} cannot be sent; send numbers, words, arrays, or one of {', '.join(CLASSES)}"
    )


def _numbers(array: np.ndarray) -> list[Any]:
    if array.dtype.char not in ARRAYS:
        raise BadInput(f"an array of {array.dtype} cannot be sent; send numbers")
    return [array.dtype.str, list(array.shape), base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()]


def _meant(told: Any) -> Any:
    if type(told) in PLAIN:
        return told
    if type(told) is list:
        return [_meant(part) for part in told]
    ((name, part),) = told.items()
    if name == "tuple":
        return tuple(_meant(one) for one in part)
    if name == "dict":
        return {key: _meant(one) for key, one in part.items()}
    if name in ("array", "tensor"):
        array = _array(*part)
        return array if name == "array" else torch.from_numpy(array)
    if name == "path":
        return Path(part)
    return CLASSES[name](**{key: _meant(one) for key, one in part.items()})


def _array(kind: str, shape: list[int], content: str) -> np.ndarray:
    if np.dtype(kind).char not in ARRAYS:
        raise ValueError(f"an array of {kind[:20]}")
    return np.frombuffer(base64.b64decode(content), kind).reshape(shape).copy()
