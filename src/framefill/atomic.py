"""Files that are whole or not there: written beside their place under another name, then renamed."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from framefill.errors import Failed, FramefillError, NotWritten

# These say that a place takes no files at all; after any other error the same place may do another time.
NO_PLACE = {
    errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG,
}  # fmt: skip


def not_written(path: Path, error: OSError) -> FramefillError:
    """What to raise: NotWritten, which is bad input, for a place that takes no files, and Failed for a full disk."""
    why = f"cannot write {path}: {error.strerror or error}"
    if error.errno in NO_PLACE:
        return NotWritten(f"{why}; choose another place")
    return Failed(f"{why}; free some space or choose another place")


def with_folder(path: Path) -> Path:
    """The same path, whose folder is there now; NotWritten if it cannot be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"{path.parent} cannot be a folder: {error.strerror or error}"
        raise NotWritten(f"cannot write {path}: {why}; choose another place with -o") from error
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name to write to; when the with-block ends well, what is there becomes `path`.

    After an exception `path` is as it was and nothing is left beside it. Raises NotWritten or Failed when it cannot be
    written (`not_written`).
    """
    temporary = path.with_name(f".{_shortened(path.name)}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _shortened(name: str) -> str:
    """The name, or a digest of one that would leave no room for more: file systems allow 255 bytes."""
    letters = os.fsencode(name)
    return name if len(letters) <= 200 else hashlib.sha256(letters).hexdigest()


def _sync(folder: Path) -> None:
    """Makes the new name outlive a power cut, where a folder can be opened as a file."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
