"""The bytes of a file whose length nobody vouches for."""

from pathlib import Path

from framefill.errors import MediaError


def contents(path: Path, most: int, remedy: str) -> bytes:
    """All bytes of a file. Raises MediaError where it cannot be read, or is longer than `most` (then with `remedy`)."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > most:
        raise MediaError(f"{path} is longer than {most} bytes; {remedy}")
    return data
