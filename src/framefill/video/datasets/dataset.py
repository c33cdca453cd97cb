"""What a published data set says of itself, and what a user is told who does not have it (yet)."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from framefill.errors import BadInput
from framefill.video.shelf import Entry

LARGEST_LIST = 16_000_000  # bytes of a list of clips; Vimeo-90k's has half a million


@dataclass(frozen=True)
class About:
    """A data set: its `name` in commands, which `files` to fetch from where (`url`), and what has to be where."""

    name: str
    title: str
    files: str
    url: str
    size: str
    licence: str
    layout: str

    def missing(self, what: str, root: Path) -> BadInput:
        """The error for a layout that is not there, or not whole: what was looked for, and how to get it."""
        return BadInput(
            f"{self.name}: {what}; fetch {self.files} from {self.url} ({self.size}; {self.licence}) and unpack so that "
            f"{root} holds {self.layout}"
        )


class Dataset(Protocol):
    """A data set on the user's disk, as its distributor gives it, with the split of its paper."""

    about: ClassVar[About]

    @property
    def root(self) -> Path:
        """The folder that holds it."""
        ...

    def entries(self, split: str) -> list[Entry]:
        """What belongs to a split, nothing decoded yet; BadInput if something is missing."""
        ...


def lines(path: Path) -> Iterator[str]:
    """The lines of a list, without blank ones; BadInput if it is too long for a list."""
    if path.stat().st_size > LARGEST_LIST:
        raise BadInput(f"{path}: {path.stat().st_size} bytes are no list of clips; take it as distributed")
    yield from (line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip())


def listed(path: Path, pattern: str) -> list[re.Match[str]]:
    """Every line of a list, matched as a whole; BadInput for the first that does not match.

    The pattern keeps names from leaving the folder of the data set: a list is input like any other.
    """
    found = []
    for line in lines(path):
        match = re.fullmatch(pattern, line)
        if not match:
            raise BadInput(f"{path}: cannot read the line {line[:80]!r}; take the list as distributed")
        found.append(match)
    return found


def present(about: About, root: Path, files: list[Path], is_there: Callable[[Path], bool] = Path.is_file) -> None:
    """BadInput if any of `files` is not there: how many, and the first."""
    absent = [file for file in files if not is_there(file)]
    if absent:
        first = absent[0].relative_to(root)
        more = f" and {len(absent) - 1} more of {len(files)}" if len(absent) > 1 else ""
        raise about.missing(f"{root} has no {first}{more}", root)
