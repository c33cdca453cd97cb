"""The codecs at hand: the one that compresses, and all whose files can be read without naming them."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from framefill import checkpoint
from framefill.codec.picture_codec import PictureCodec
from framefill.errors import BadInput

RECIPES = ("compression", "video-compression")  # what a model file's card says where its product is a PictureCodec


def codec(model: str = "", *, device: str = "cpu") -> PictureCodec:
    """The codec in a model file, a run folder or by a shipped name (by default the first shipped one), ready for work.

    It reads what any shipped codec made, too. BadInput for a model of another kind, or where there is none.
    """
    names = shipped()
    if not (model or names):
        raise BadInput("no codec comes with this framefill; name a model file with --model")
    first = _loaded(str(checkpoint.locate(model)) if model else names[0], device)
    others = [_loaded(name, device).model for name in names]
    return replace(first, others=tuple(other for other in others if other is not first.model))


def shipped() -> list[str]:
    """The names of shipped codecs."""
    return [name for name, path in checkpoint.shipped().items() if checkpoint.read_card(path).recipe in RECIPES]


@lru_cache(4)
def _loaded(name: str, device: str) -> PictureCodec:
    found = checkpoint.load(name, device=device)
    if not isinstance(found, PictureCodec):
        raise BadInput(f"{Path(name).name} is no codec; `framefill info` says what models are")
    return found
