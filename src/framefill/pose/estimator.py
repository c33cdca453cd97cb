"""Who is in a picture: keypoints from an off-the-shelf estimator that runs as a program of its own.

Any program will do that is called with a picture's path (an upright RGB .png) and a number, the most people wanted, as
its last words, and prints one JSON object:

    {"layout": "coco", "people": [{"space": [[x, y, z] or null, ...], "picture": [[x, y] or null, ...]}, ...]}

layout is coco, mediapipe, h36m or smpl (`keypoints.LAYOUTS`); space is in metres from any origin, x to the picture's
right, y up, z towards the camera; picture is in pixels, right and down. One of the two may be left out, and points may
be null. Nobody in the picture is an empty list.
"""

import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageOps
from torch import Tensor

from framefill.errors import BadInput, Failed, MediaError, NotInstalled
from framefill.pose import keypoints
from framefill.pose.extra import cache

MEDIAPIPE = Path(__file__).with_name("mediapipe_people.py")
SECONDS, LARGEST = 300, 2**24  # how long a program may take; bytes of its answer
MOST_PIXELS = 2**26
MOST_PEOPLE = 64
VARIABLE = "FRAMEFILL_ESTIMATOR"


@dataclass(frozen=True)
class Person:
    """Points by name: in space (3,), metres, y up; and in the picture (2,), pixels. Either may be empty."""

    space: dict[str, Tensor] = field(compare=False)
    picture: dict[str, Tensor] = field(compare=False)


def open_picture(source: Path | BinaryIO, name: str = "") -> Image.Image:
    """A picture as RGB, turned as its camera says. Raises MediaError for what is none, BadInput for a huge one."""
    name = name or str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # its size is looked at here
            with Image.open(source) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise BadInput(f"{name} has {opened.width}x{opened.height} pixels; give at most {MOST_PIXELS}")
                return ImageOps.exif_transpose(opened).convert("RGB")
    except BadInput:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they meet
        reason = getattr(error, "strerror", None) or "it is no picture that Pillow reads, or damaged"
        raise MediaError(f"cannot read {name}: {reason}; give a .png or .jpg") from error


def command(program: str = "", python: Path | None = None) -> list[str]:
    """The words that start the estimator: the user's program, or MediaPipe by the interpreter that has it.

    The interpreter is `python`, else $FRAMEFILL_ESTIMATOR, else that of the virtual environment in the user's cache.
    Raises NotInstalled, with the commands that make one, where there is none.
    """
    if program:
        try:
            return shlex.split(program)
        except ValueError as error:
            raise BadInput(f"cannot read the estimator {program[:60]!r} ({error}); write PROGRAM WORDS") from error
    own = environment() / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    chosen = python or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else own)
    if not chosen.is_file():
        raise NotInstalled(
            f"there is no interpreter {chosen} that has MediaPipe; make one with Python 3.9 to 3.12: "
            f"python3 -m venv {environment()} && {own.parent / 'pip'} install mediapipe==0.10.21; or give "
            f"--estimator-python, or another program by --estimator"
        )
    return [str(chosen), "-I", str(MEDIAPIPE)]


def environment() -> Path:
    """Where the user's cache has the virtual environment of MediaPipe."""
    return cache() / "estimator"


def people(picture: Image.Image, words: Sequence[str], most: int = 8) -> list[Person]:
    """Who the estimator sees, from left to right. Raises Failed where it fails, BadInput where it sees nobody."""
    if not 0 < most <= MOST_PEOPLE:
        raise BadInput(f"at most {most} people; give 1 to {MOST_PEOPLE}")
    with tempfile.TemporaryDirectory(prefix="framefill-") as folder:
        path, answer = Path(folder) / "picture.png", Path(folder) / "answer.json"
        picture.save(path)
        _run([*words, str(path), str(most)], answer)
        with answer.open("rb") as file:
            data = file.read(LARGEST + 1)
    found = _understood(data)[:most]
    if not found:
        raise BadInput("the estimator sees nobody in the picture; give one that shows a person, larger or in full")
    return sorted(found, key=_left)


def _run(words: list[str], answer: Path) -> None:
    try:
        with answer.open("wb") as out:
            done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=SECONDS)
    except OSError as error:
        raise BadInput(f"cannot start the estimator {words[0]}: {error.strerror or error}") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"the estimator {words[0]} took more than {SECONDS} seconds and was stopped") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Failed(f"the estimator {words[0]} ended with {done.returncode}: {said[-1][:200] if said else 'no word'}")


def _understood(data: bytes) -> list[Person]:
    """The people of an answer. Raises Failed where it is not as the interface says."""
    try:
        if len(data) > LARGEST:
            raise ValueError(f"it is longer than {LARGEST} bytes")
        answer = json.loads(data)
        return [_person(one, answer["layout"]) for one in answer["people"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, BadInput) as error:
        reason = " ".join(str(error).split())[:160]
        raise Failed(f"the estimator's answer cannot be used ({reason}); see docs/pose.md for its form") from error


def _person(one: Any, layout: str) -> Person:
    parts = []
    for name, size in (("space", 3), ("picture", 2)):
        given = one.get(name)
        points = keypoints.named(keypoints.read(given)[0], layout) if given else {}
        if any(len(point) != size for point in points.values()):
            raise ValueError(f"{name} needs {size} numbers for every point")
        parts.append(points)
    return Person(*parts)


def _left(person: Person) -> float:
    """Where someone is across the picture, for an order."""
    points = person.picture or person.space
    return sum(point[0].item() for point in points.values()) / len(points) if points else math.inf
