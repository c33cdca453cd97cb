"""The codecs at hand: the one that compresses, and all whose files can be read without naming them.

A shipped model's card says by which fingerprints files name it, so it is loaded only when one of its files comes.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from framefill import checkpoint
from framefill.codec.picture_codec import PictureCodec
from framefill.errors import BadInput

RECIPES = ("compression", "video-compression")  # what a model file's card says where its product is a PictureCodec
FINGERPRINTS = "fingerprints"  # of every quality, in hexadecimal: an entry of what the card says of the model


class Waiting:
    """A shipped model (`codec.learned.Learned`) that is loaded when something other than its fingerprints is wanted."""

    def __init__(self, name: str, device: str, marks: list[str]):
        self._name, self._device, self._marks = name, device, marks

    @property
    def qualities(self) -> int:
        """How many there are."""
        return len(self._marks)

    def fingerprint(self, quality: int) -> bytes:
        """Four bytes that a file names model and quality by, as the card says."""
        return bytes.fromhex(self._marks[quality])

    def __getattr__(self, name: str) -> Any:
        return getattr(_loaded(self._name, self._device).model, name)


def codec(model: str = "", *, device: str = "cpu") -> PictureCodec:
    """The codec in a model file, a run folder or by a shipped name (by default the first shipped one), ready for work.

    It reads what any shipped codec made, too. BadInput for a model of another kind, or where there is none.
    """
    names = shipped()
    if not (model or names):
        raise BadInput("no codec comes with this framefill; name a model file with --model")
    first = _loaded(str(checkpoint.locate(model)) if model else names[0], device)
    others = [_at_hand(name, device) for name in names if model or name != names[0]]
    return replace(first, others=tuple(other for other in others if other is not first.model))


def shipped() -> list[str]:
    """The names of shipped codecs."""
    return [name for name, path in checkpoint.shipped().items() if checkpoint.read_card(path).recipe in RECIPES]


def _at_hand(name: str, device: str) -> Any:
    marks = checkpoint.read_card(checkpoint.shipped()[name]).about.get(FINGERPRINTS)
    return Waiting(name, device, marks) if marks else _loaded(name, device).model


@lru_cache(4)
def _loaded(name: str, device: str) -> PictureCodec:
    found = checkpoint.load(name, device=device)
    if not isinstance(found, PictureCodec):
        raise BadInput(f"{Path(name).name} is no codec; `framefill info` says what models are")
    return found
