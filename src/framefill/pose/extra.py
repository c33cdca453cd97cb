"""The optional libraries of this room, with one line where one is absent."""

from typing import Any

from framefill.errors import NotInstalled


def rotation_library() -> Any:
    """The module roma. Raises NotInstalled, with the command that installs it."""
    try:
        import roma
    except ImportError as error:
        raise NotInstalled("poses need roma, which is not installed; run: pip install 'framefill[pose]'") from error
    return roma


def page_library() -> Any:
    """The module viser. Raises NotInstalled, with the command that installs it."""
    try:
        import viser
    except ImportError as error:
        raise NotInstalled(
            "the studio needs viser, which is not installed; run: pip install 'framefill[studio]'"
        ) from error
    return viser
