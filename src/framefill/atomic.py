"""Files that are whole or not there: written beside their place under another name, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from framefill.errors import Failed


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name to write to; when the with-block ends well, what is there becomes `path`.

    After an exception `path` is as it was and nothing is left beside it. Raises Failed when it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise Failed(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another place"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
