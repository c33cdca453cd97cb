"""Give framefill the frames you have; it fills in the ones you don't.

`import framefill` is instant; the parts that need torch are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from framefill.errors import FramefillError

if TYPE_CHECKING:
    from framefill.checkpoint import load, save
    from framefill.video.between.interpolator import Interpolator

__version__ = "0.1.0"
__all__ = ["FramefillError", "Interpolator", "__version__", "load", "save"]
_PLACES = {
    "load": "framefill.checkpoint",
    "save": "framefill.checkpoint",
    "Interpolator": "framefill.video.between.interpolator",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'framefill' has no attribute {name!r}")
