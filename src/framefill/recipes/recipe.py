"""What the training loop and the checkpoint need of a recipe, and how its fields travel through JSON and flags."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, get_args, get_type_hints, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.video.clip import tensor

R = TypeVar("R")


class Source(Protocol):
    """Training data: an endless supply of windows, each a pure function of its seed."""

    def sample(self, seed: int, *, length: int, strides: tuple[int, ...]) -> NDArray[np.uint8]:
        """A window (length, H, W, C); neighbours are s frames apart, s drawn from `strides`."""
        ...


class Recipe(Protocol):
    """A frozen dataclass with every hyperparameter of one system, which knows how to build and train it."""

    @property
    def batch_size(self) -> int:
        """Examples per step."""
        ...

    @property
    def learning_rate(self) -> float:
        """Adam's, after the warm-up."""
        ...

    @property
    def warmup(self) -> int:
        """Steps over which the learning rate rises from zero."""
        ...

    @property
    def cooldown(self) -> float:
        """Fraction of all steps, at the end, over which it falls to zero."""
        ...

    @property
    def ema(self) -> float:
        """Decay of the running average of the weights."""
        ...

    @property
    def clip(self) -> float:
        """Largest norm of the gradient."""
        ...

    @property
    def steps(self) -> int:
        """Training steps."""
        ...

    def model(self) -> nn.Module:
        """The model, freshly initialised."""
        ...

    def batch(self, source: Source, seeds: Sequence[int]) -> Tensor:
        """Training examples, one per seed."""
        ...

    def loss(self, model: Any, batch: Tensor, rng: Rng) -> Tensor:
        """The training loss per example (B,)."""
        ...


@runtime_checkable
class Notes(Protocol):
    """What a recipe may have besides: numbers for the log."""

    def notes(self, model: Any) -> dict[str, float]:
        """What is worth knowing of the last training batch, by name."""
        ...


@runtime_checkable
class Follows(Protocol):
    """What a recipe has besides whose training begins with weights of another run."""

    @property
    def follows(self) -> bool:
        """Whether it must; otherwise it begins afresh."""
        ...

    def after(self, fields: dict[str, Any]) -> Any:
        """This recipe as it follows a run whose recipe had `fields`; BadInput if it cannot."""
        ...

    def taken(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """By the names of this recipe's model, what it takes of the other one's `tensors`."""
        ...


def stacked(
    source: Source,
    seeds: Sequence[int],
    size: tuple[int, int, int],
    *,
    length: int = 1,
    strides: tuple[int, ...] = (1,),
) -> Tensor:
    """Windows of `source` (B, length, C, H, W) in [-1, 1], one per seed; BadInput for another `size` (C, H, W)."""
    frames = torch.stack([tensor(source.sample(s, length=length, strides=strides)) for s in seeds])
    if frames.shape[2:] != size:
        raise BadInput(
            f"this recipe takes frames of {'x'.join(map(str, size))} (channels, height, width), "
            f"the data has {'x'.join(map(str, frames.shape[2:]))}"
        )
    return frames


def following(recipe: R, fields: dict[str, Any], names: Mapping[str, str], kind: str) -> R:
    """The recipe over what a run made whose recipe, of `kind`, had `fields`: of these, by their names there and here.

    BadInput if one is missing.
    """
    missing = [name for name in names if name not in fields]
    if missing:
        raise BadInput(f"the run to begin from has no {missing[0]}; give one of the recipe {kind} with --from")
    taken = {here: fields[there] for there, here in names.items()}
    changes = {name: tuple(value) if isinstance(value, list) else value for name, value in taken.items()}
    return dataclasses.replace(recipe, **changes)  # type: ignore[type-var]


def to_fields(recipe: Any) -> dict[str, Any]:
    """The recipe's fields as JSON values."""
    return {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe)}


def from_fields(kind: type[R], fields: dict[str, Any]) -> R:
    """The recipe of `kind` with `fields` (JSON values); unknown names and values of another type are refused."""
    hints = get_type_hints(kind)
    _known(kind, hints, fields)
    return kind(**{name: _typed(name, hints[name], value) for name, value in fields.items()})


def override(recipe: R, words: Sequence[str]) -> R:
    """The recipe with fields replaced by words such as "batch_size=16" or "multipliers=1,2,3"."""
    hints = get_type_hints(type(recipe))
    changes = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise BadInput(f"cannot read {word!r}; write name=value, for example batch_size=16")
        _known(type(recipe), hints, {name: text})
        changes[name] = _typed(name, hints[name], _spoken(text, sequence=bool(get_args(hints[name]))))
    return dataclasses.replace(recipe, **changes)  # type: ignore[type-var]


def _known(kind: type, hints: dict[str, Any], fields: dict[str, Any]) -> None:
    unknown = sorted(set(fields) - set(hints))
    if unknown:
        raise BadInput(f"{kind.__name__} has no field {unknown[0]!r}; its fields are {', '.join(hints)}")


def _spoken(text: str, *, sequence: bool) -> Any:
    try:
        return json.loads(f"[{text.strip('[]()')}]".lower() if sequence else text.lower())
    except ValueError:
        return text


def _typed(name: str, hint: Any, value: Any) -> Any:
    """`value` as `hint`, which is bool, int, float or a tuple of one of them; a bool is not a number here."""
    if get_args(hint):
        if not isinstance(value, list | tuple):
            raise BadInput(f"{name} takes a list such as 1,2,3, got {value!r}")
        return tuple(_typed(name, get_args(hint)[0], v) for v in value)
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise BadInput(f"{name} takes {hint.__name__}, got {value!r}")
    return hint(value)
