"""The optional libraries of this room, imported when they are first needed, with one line where they are absent."""

from importlib import import_module
from typing import Any

from framefill.errors import NotInstalled


def need(module: str, *, by: str = "climate fields", extra: str = "climate") -> Any:
    """The module of that name. Raises NotInstalled, with the command that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise NotInstalled(
            f"{by} need {module}, which is not installed; run: pip install 'framefill[{extra}]'"
        ) from error
