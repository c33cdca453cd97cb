"""One file, a folder or a pipe: what a verb that makes a file of a file is to read, and where the result goes.

A folder is mirrored: the results lie in another folder as their sources do in theirs. What is there already is never
replaced unasked. One file that cannot be used does not stop the others; what went wrong is said at the end.
"""

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import tyro

from framefill.atomic import replacing, with_folder
from framefill.errors import BadInput, FramefillError, one_line

PIPE = "-"


@dataclass(frozen=True)
class Going:
    """Where results go, and how it is told."""

    output: Annotated[str | None, tyro.conf.arg(aliases=["-o"])] = None
    """A file, a folder, or - for standard output; by default a name from the input, here."""
    overwrite: Annotated[bool, tyro.conf.arg(aliases=["-y", "--force"])] = False
    """Replace results that are already there."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object for every file."""
    limit_pixels: int = 100_000_000
    """Pictures of more pixels are refused."""


@dataclass(frozen=True)
class Task:
    """Read `source` (None: standard input), write `target` (None: standard output)."""

    source: Path | None
    target: Path | None

    def read(self) -> bytes:
        """All bytes; BadInput where there are none."""
        data = sys.stdin.buffer.read() if self.source is None else bytes_of(self.source)
        if not data:
            raise BadInput(f"{self.name} is empty")
        return data

    def write(self, data: bytes) -> None:
        """The result, whole or not at all."""
        if self.target is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        with replacing(with_folder(self.target)) as part:
            part.write_bytes(data)

    @contextmanager
    def file(self, suffix: str) -> Iterator[Path]:
        """A file to write the result to: the target, or a temporary one that goes to standard output."""
        if self.target is not None:
            yield with_folder(self.target)
            return
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"result{suffix}"
            yield path
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()

    @property
    def name(self) -> str:
        """For messages."""
        return "standard input" if self.source is None else str(self.source)


def bytes_of(path: Path) -> bytes:
    """All bytes of a file; BadInput if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}; allow it, or copy the file") from error


Work = Callable[[Task], dict[str, Any]]
Suffix = Callable[[Path | None], str]
"""How the result of a file is to end; None is standard input."""


def run(source: str, going: Going, work: Work, *, suffix: str | Suffix, takes: Collection[str]) -> None:
    """Does `work` on a file, on standard input, or on every file of a folder that has one of the suffixes `takes`.

    Results are named as their source with `suffix`. BadInput at the end if one of several failed.
    """
    path = Path(source)
    ending: Suffix = suffix if callable(suffix) else lambda _: suffix
    if source != PIPE and path.is_dir():
        _folder(path, going, work, ending, takes)
        return
    task = _single(source, going.output, ending(None if source == PIPE else path))
    if task.source is not None and not task.source.is_file():
        raise BadInput(f"there is no file or folder {source}")
    if task.target is not None and task.target.exists() and not going.overwrite:
        raise BadInput(f"{task.target} is there already; choose another name with -o, or add --overwrite")
    tell(going, task, work(task))


def _single(source: str, output: str | None, suffix: str) -> Task:
    path = None if source == PIPE else Path(source)
    if output == PIPE or (output is None and path is None):
        return Task(path, None)
    name = "picture" + suffix if path is None else path.with_suffix(suffix).name
    place = Path(output or name)
    if output and (place.is_dir() or not place.suffix):
        place = place / name
    return Task(path, place)


def _folder(folder: Path, going: Going, work: Work, suffix: Suffix, takes: Collection[str]) -> None:
    if going.output == PIPE or (going.output and Path(going.output).is_file()):
        raise BadInput(f"{folder} is a folder; give a folder with -o, not {going.output}")
    out = Path(going.output or f"{folder.resolve().name}-{suffix(None)[1:]}")
    tasks = tasks_in(folder, out, suffix, takes)
    closed = closed_folders(folder)
    if closed and not tasks:
        raise BadInput(closed[0])
    if not tasks:
        raise BadInput(f"{folder}: nothing to do; files ending in {', '.join(sorted(takes))} are taken")
    failed, passed = [], 0
    for task in tasks:
        if task.target is not None and task.target.exists() and not going.overwrite:
            passed += 1
            continue
        try:
            tell(going, task, work(task))
        except FramefillError as error:
            words = one_line(error)
            failed.append(words if task.name in words else f"{task.name}: {words}")
    for line in (*failed, *closed):
        print(f"framefill: {line}", file=sys.stderr)
    done = len(tasks) - len(failed) - passed
    print(f"{done} of {len(tasks)} files are done, {passed} were there already", file=sys.stderr)
    if failed or closed:
        what = f"{len(failed)} of {len(tasks)} files" + (f" and {len(closed)} folders" if closed else "")
        raise BadInput(f"{what} could not be used; the lines above say why")


def closed_folders(folder: Path) -> list[str]:
    """A line for every folder that cannot be looked into; rglob passes over them in silence."""
    found: list[OSError] = []
    for _ in os.walk(folder, onerror=found.append):
        pass
    return [f"cannot read the folder {error.filename}: {error.strerror}; allow it, or move it away" for error in found]


def tasks_in(folder: Path, out: Path, suffix: Suffix, takes: Collection[str]) -> list[Task]:
    """A task for every file under a folder but hidden ones and those under `out`; a.png and a.jpg keep their names."""
    found = []
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts)
        ours = out.resolve() in path.resolve().parents and out.resolve() != folder.resolve()
        if path.is_file() and path.suffix.lower() in takes and not hidden and not ours:
            found.append(below)
    endings = {below: suffix(folder / below) for below in found}
    short = Counter(below.with_suffix(ending) for below, ending in endings.items())
    return [
        Task(folder / below, out / (b if short[b := below.with_suffix(ending)] == 1 else f"{below}{ending}"))
        for below, ending in endings.items()
    ]


def tell(going: Going, task: Task, about: dict[str, Any]) -> None:
    """One line or one JSON object; on standard error where standard output has the result."""
    told = {"source": task.name} | ({} if task.target is None else {"output": str(task.target)}) | about
    stream = sys.stderr if task.target is None else sys.stdout
    if going.as_json:
        print(json.dumps(told), file=stream)
        return
    words = ", ".join(f"{key}: {value}" if " " in str(value) else f"{value} {key}" for key, value in about.items())
    if task.target is not None:
        print(f"{task.target}  {words}")
