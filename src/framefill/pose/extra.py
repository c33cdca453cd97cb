"""The optional library of this room, with one line where it is absent."""

from typing import Any

from framefill.errors import NotInstalled


def rotation_library() -> Any:
    """The module roma. Raises NotInstalled, with the command that installs it."""
    try:
        import roma
    except ImportError as error:
        raise NotInstalled("poses need roma, which is not installed; run: pip install 'framefill[pose]'") from error
    return roma
