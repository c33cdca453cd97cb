"""Model files: one .safetensors that names its recipe, so that `load` needs nothing but the path.

The metadata is one JSON object (`Card`): recipe and fields, step, seed, data, licence, and the sha256 of every tensor
and of the card itself. A file whose digest does not match is refused: safetensors alone loads flipped bits
silently. Files are written under a temporary name, flushed to disk and renamed. Nothing is ever unpickled.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from framefill import recipes
from framefill.atomic import replacing
from framefill.distributed import channels_last
from framefill.errors import BadInput, CheckpointError, Failed
from framefill.recipes.recipe import from_fields

FORMAT = 1
LARGEST_HEADER = 10_000_000


@dataclass(frozen=True)
class Card:
    """What a model file says of itself. `fields` are the recipe's; `about` is free: data, licence, scores, machine."""

    recipe: str
    preset: str
    fields: dict[str, Any]
    step: int = 0
    seed: int = 0
    about: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def _digest(tensors: dict[str, Tensor], card: dict[str, Any]) -> str:
    total = hashlib.sha256(json.dumps(card, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def write(path: Path, tensors: dict[str, Tensor], card: Card) -> None:
    """Writes tensors and card to `path` atomically: afterwards the old file or the new one is there, whole.

    Raises Failed when it cannot be written, or a number is not finite: such a file would be worth nothing.
    """
    words = dataclasses.asdict(card)
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise Failed(f"{path} is not written: {name} holds numbers that are not finite; go back to an older file")
    metadata = {"framefill": json.dumps(words), "sha256": _digest(tensors, words)}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            size = sum(t.nbytes for t in tensors.values()) / 1e6
            raise OSError(f"{str(error).splitlines()[0]} (it needs {size:.1f} MB)") from error
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def read_card(path: Path) -> Card:
    """The card of a model file, without reading its tensors."""
    return _open(path)[0]


def read(path: Path, *, device: str = "cpu") -> tuple[dict[str, Tensor], Card]:
    """The tensors and the card of a model file, after checking that every byte is as written."""
    card, digest = _open(path)
    try:
        with _opened(path) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({_reason(error)}); take another copy") from error
    if _digest(tensors, dataclasses.asdict(card)) != digest:
        raise CheckpointError(f"{path} is damaged: its checksum does not match its content; take another copy")
    return {name: t.to(device) for name, t in tensors.items()}, card


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as safetensors reads it, which takes names in UTF-8 only: any other is opened here, by its number."""
    with path.open("rb") as raw, safe_open(path if _is_text(path) else f"/dev/fd/{raw.fileno()}", "pt") as file:
        yield file


def _is_text(path: Path) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in str(path))


def _open(path: Path) -> tuple[Card, str]:
    if not path.is_file():
        raise CheckpointError(f"there is no model file {path}")
    try:
        with path.open("rb") as raw:
            header = int.from_bytes(raw.read(8), "little")
        if header > min(LARGEST_HEADER, path.stat().st_size):
            raise CheckpointError(f"{path} is not a framefill model: its header claims {header} bytes")
        with _opened(path) as file:
            metadata = file.metadata() or {}
        words = json.loads(metadata["framefill"])
        digest = metadata["sha256"]
        if json.dumps(words) != metadata["framefill"]:  # 1e-5 and 1E-5 are one number, but only one was written
            raise CheckpointError(f"{path} is damaged: its card is not as written; take another copy")
    except KeyError as error:
        raise CheckpointError(f"{path} is not a framefill model: it has no {error} entry") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a framefill model, or is damaged ({_reason(error)})") from error
    return _card(path, words), digest


def _card(path: Path, words: Any) -> Card:
    if not isinstance(words, dict) or not isinstance(words.get("format"), int):
        raise CheckpointError(f"{path} is not a framefill model: its card cannot be read")
    if words["format"] > FORMAT:
        raise CheckpointError(
            f"{path} was written by a newer framefill (format {words['format']}, this one reads {FORMAT}); upgrade"
        )
    try:
        return Card(**words)
    except TypeError as error:
        raise CheckpointError(f"{path} is not a framefill model: its card cannot be read ({error})") from error


def at_step(card: Card, step: int, *, about: dict[str, Any] | None = None) -> Card:
    """The card after `step` steps, with more to say of the model."""
    return dataclasses.replace(card, step=step, about=card.about | (about or {}))


def load(path: str | Path, *, device: str = "cpu") -> Any:
    """The product in a model file (a `VideoModel` for MCVD): weights, recipe and verbs, ready to use on `device`.

    `path` may also be a run folder, or the name of a model that ships with framefill. Raises CheckpointError for files
    that are damaged, foreign, newer, or whose tensors do not fit their recipe.
    """
    place = locate(path)
    tensors, card = read(place, device=device)
    kind = recipes.RECIPES.get(card.recipe)
    if kind is None:
        raise CheckpointError(
            f"{place} holds a {card.recipe!r} model; this framefill knows {', '.join(recipes.RECIPES)}"
        )
    try:
        recipe: Any = from_fields(kind, card.fields)
        model = recipe.model().to(device)
        model.load_state_dict({k: v.float() for k, v in tensors.items()})
    except (BadInput, RuntimeError) as error:
        raise CheckpointError(f"{place} does not fit its recipe {card.recipe}: {_reason(error)}") from error
    return recipe.product(channels_last(model.eval().requires_grad_(False)), card=card, device=device)


def save(product: Any, path: str | Path, *, half: bool = False) -> None:
    """Writes a product to one .safetensors file; `half` stores 16-bit floats, half the size. Never overwrites."""
    place = Path(path)
    if place.exists():
        raise BadInput(f"{place} exists; choose another name")
    tensors = {k: v.half() if half else v for k, v in product.model.state_dict().items()}
    write(place, tensors, product.card)


def shipped() -> dict[str, Path]:
    """The models that come with framefill, by name."""
    return {p.stem: p for p in sorted((Path(__file__).parent / "weights").glob("*.safetensors"))}


def locate(path: str | Path) -> Path:
    """The model file meant by a path, a run folder or a shipped name."""
    place = Path(path)
    if place.is_dir():
        return place / "model.safetensors"
    return place if place.exists() else shipped().get(str(path), place)
