"""The authors' MCVD checkpoints as framefill models.

Theirs is a `torch.save` of [weights, optimizer, epoch, step, running average], a pickle; of it only what
`torch.load(weights_only=True)` takes is read: tensors, numbers and containers, so nothing in the file can run. Their
network numbers its layers, ours names them:

    ours                              theirs: unet.all_modules.N
    embedding.0, .1, stem, head       weight, bias
    block.norm_k.level                actnorm{k}.Dense_0
    block.norm_k.spatial.shared       actnorm{k}.Norm_0.mlp_shared.0         (gamma, beta: mlp_gamma, mlp_beta)
    block.conv_0, .conv_1, .shortcut  Conv_0, Conv_1, Conv_2
    attention.norm, .qkv, .out        GroupNorm_0, NIN_0 to NIN_2 stacked, NIN_3; y = x W there, so W' is our kernel
    norm                              Norm_0

Every tensor of theirs is used once, and every shape must be ours; the widths of a network decide its preset.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framefill import recipes
from framefill.checkpoint import Card, write
from framefill.errors import BadInput, CheckpointError
from framefill.nets.unet import UNet
from framefill.recipes.mcvd import MCVD
from framefill.recipes.recipe import to_fields

LICENCE = (
    "MIT, the licence of voletiv/mcvd-pytorch, with which the weights were published; the data they were trained on "
    "has terms of its own"
)
_SPATIAL = {"shared": "mlp_shared.0", "gamma": "mlp_gamma", "beta": "mlp_beta"}
_NAMES = {
    "": "",
    "conv_0": "Conv_0.",
    "conv_1": "Conv_1.",
    "shortcut": "Conv_2.",
    **{f"norm_{k}.level": f"actnorm{k}.Dense_0." for k in (0, 1)},
    **{f"norm_{k}.spatial.{o}": f"actnorm{k}.Norm_0.{t}." for k in (0, 1) for o, t in _SPATIAL.items()},
}
_ATTENTION = {"norm": "GroupNorm_0.", "qkv": "", "out": "NIN_3."}
_LAST_NORM = {"": "Norm_0.", **{o: f"Norm_0.{t}." for o, t in _SPATIAL.items()}}


def convert_mcvd(path: Path | str, preset: str, out: Path | str) -> Card:
    """Writes the running average in the authors' checkpoint `path` as a framefill model file `out`; gives its card.

    `preset` is the published one that the checkpoint was trained with, such as "smmnist-spatin". Raises BadInput for
    another preset or if `out` exists; CheckpointError for a file that is missing, is no such checkpoint, holds anything
    that would have to be run, or whose tensors are not exactly those of the preset.
    """
    source, place = Path(path), Path(out)
    recipe = _published(preset)
    if place.exists():
        raise BadInput(f"{place} exists; choose another name")
    average, step = _read(source)
    with torch.device("meta"):
        network = recipe.network()
    tensors = {f"network.{name}": value for name, value in _renamed(source, average, network)}
    about = {"source": f"{source.name} of voletiv/mcvd-pytorch, its running average", "licence": LICENCE}
    card = Card("mcvd", preset, to_fields(recipe), step=step, about=about)
    write(place, tensors, card)
    return card


def _published(preset: str) -> MCVD:
    presets = {name: entry.recipe for name, entry in recipes.PRESETS["mcvd"].items() if entry.recipe.published}
    if preset not in presets:
        raise BadInput(f"{preset!r} is no published preset of mcvd; choose one of {', '.join(presets)}")
    return presets[preset]


def _read(path: Path) -> tuple[dict[str, Tensor], int]:
    """The running average and the step in a checkpoint of the authors."""
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        # Mapped, a file of 9 GB takes no memory for the optimizer's part of it.
        states: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # what a damaged or hostile pickle raises is an open list
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it asks for {foreign[1]}" if foreign else type(error).__name__
        raise CheckpointError(f"{path} is damaged, or holds more than tensors and is not read ({reason})") from error
    if not isinstance(states, list) or len(states) < 5 or not _is_weights(states[0]) or not _is_weights(states[-1]):
        raise CheckpointError(f"{path} is not a checkpoint of mcvd-pytorch, a list of 5 states with a running average")
    _check_process(path, _bare(states[0]))
    return _bare(states[-1]), states[3] if isinstance(states[3], int) else 0


def _is_weights(state: Any) -> bool:
    if not isinstance(state, dict) or not state:
        return False
    return all(isinstance(name, str) and _is_plain(value) for name, value in state.items())


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _bare(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by their names without the prefix of DataParallel."""
    return {name.removeprefix("module."): value for name, value in weights.items()}


def _check_process(path: Path, weights: dict[str, Tensor]) -> None:
    """Refuses a network for another noise schedule, which has the same shapes."""
    betas = weights.get("betas")
    expected = torch.linspace(1e-4, 0.02, 1000).flip(0)  # as they store it, most noise first
    if betas is not None and (betas.shape != expected.shape or not torch.allclose(betas.float(), expected, atol=1e-6)):
        raise CheckpointError(f"{path} was trained with another noise schedule than the linear one of 1000 steps")


def _renamed(path: Path, theirs: dict[str, Tensor], network: UNet) -> Iterator[tuple[str, Tensor]]:
    """Our names and their tensors; CheckpointError unless each of theirs has its place, and the shape of ours."""
    left = dict(theirs)
    advice = "choose the preset it was trained with"
    places = {module: (number, names) for number, (module, names) in enumerate(_modules(network))}
    for name, ours in network.state_dict().items():
        module = next(m for m in places if name.startswith(f"{m}."))
        sources = _sources(*places[module], name.removeprefix(f"{module}."))
        shape, parts = (len(ours) // len(sources), *ours.shape[1:]), []
        for source in sources:
            if source not in left:
                raise CheckpointError(f"{path} has no {source}, which is {name} here; {advice}")
            part = _as_kernel(source, left.pop(source))
            if part.shape != shape or not part.is_floating_point():
                given = f"{part.dtype} {tuple(part.shape)}"
                raise CheckpointError(f"{path}: {source} is {given}, {name} here takes {shape}; {advice}")
            if not part.isfinite().all():
                raise CheckpointError(f"{path}: {source} holds NaN or infinite values; take another checkpoint")
            parts.append(part.float())
        yield name, torch.cat(parts)
    if left:
        raise CheckpointError(f"{path} holds {len(left)} tensors without a place here, such as {min(left)}; {advice}")


def _modules(network: UNet) -> Iterator[tuple[str, dict[str, str]]]:
    """Our modules in the order of theirs, each with the names of its parts."""
    yield from (("embedding.0", _NAMES), ("embedding.1", _NAMES), ("stem", _NAMES))
    for side in ("down", "middle", "up"):
        for i, stage in enumerate(getattr(network, side)):
            yield f"{side}.{i}.block", _NAMES
            if stage.attention is not None:
                yield f"{side}.{i}.attention", _ATTENTION
    yield from (("norm", _LAST_NORM), ("head", _NAMES))


def _sources(number: int, names: dict[str, str], inner: str) -> list[str]:
    """Their names for the part `inner` of their module `number`: three for the queries, keys and values."""
    part, _, leaf = inner.rpartition(".")
    prefix = f"unet.all_modules.{number}.{names[part]}"
    if names is _ATTENTION and part != "norm":
        leaf = {"weight": "W", "bias": "b"}[leaf]
        return [f"{prefix}NIN_{k}.{leaf}" for k in range(3)] if part == "qkv" else [f"{prefix}{leaf}"]
    return [f"{prefix}{leaf}"]


def _as_kernel(name: str, value: Tensor) -> Tensor:
    """A matrix (inputs, outputs) of a NIN layer as the kernel of a 1x1 convolution; anything else as it is."""
    return value.mT[..., None, None] if name.endswith(".W") and value.ndim == 2 else value
