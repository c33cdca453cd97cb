"""The optional libraries of this room, with one line where one is absent."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
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


ANNY = "needs anny, which is not installed; run: pip install 'framefill[anny]'"


def body_library() -> Any:
    """The module anny. Raises NotInstalled, with the command that installs it."""
    try:
        import anny
    except ImportError as error:
        raise NotInstalled(f"the character 'anny' {ANNY} ({error})") from error
    return anny


def body_version() -> str:
    """The version of anny, without importing it. Raises NotInstalled."""
    try:
        return version("anny")
    except PackageNotFoundError as error:
        raise NotInstalled(f"the character 'anny' {ANNY}") from error


def cache() -> Path:
    """The user's folder of what is made or installed once: framefill in $XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "framefill"
