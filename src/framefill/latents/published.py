"""Autoencoders in the folders of `diffusers`: config.json beside diffusion_pytorch_model.safetensors.

Their AutoencoderKL and VQModel are latent diffusion's networks, which ours mirror, so the adapter is a list of names.
diffusers itself is not needed: importing it takes 7 to 9 seconds. What a folder says of its latents' scale becomes
their mean and standard deviation.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from framefill.errors import BadInput, CheckpointError
from framefill.latents.autoencoder import Autoencoder, Layout
from framefill.latents.kl import KLVAE
from framefill.latents.vqgan import VQGAN

WEIGHTS = "diffusion_pytorch_model.safetensors"
MOST_CONFIG = 1_000_000  # bytes
# What a part of a name is called there, and here; the first that fits is taken, one after another.
NAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^quantize\.embedding\.weight$", "quantiser.codebook"),
    (r"^(post_)?quant_conv\.", lambda m: "from_latent." if m[1] else "to_latent."),
    (r"\b(down|up)_blocks\.", "levels."),
    (r"\.mid_block\.resnets\.(\d)", lambda m: f".middle.{2 * int(m[1])}"),
    (r"\.mid_block\.attentions\.0", ".middle.1"),
    (r"\.resnets\.", ".blocks."),
    (r"\.attentions\.", ".attention."),
    (r"\.(down|up)samplers\.0\.", ".resize."),
    (r"\.conv_in\.", ".stem."),
    (r"\.conv_norm_out\.", ".norm."),
    (r"\.conv_out\.", ".head."),
    (r"\.conv_shortcut\.", ".shortcut."),
    (r"\.(norm|conv)([12])\.", lambda m: f".{m[1]}_{int(m[2]) - 1}."),
    (r"\.group_norm\.", ".norm."),
    (r"\.(to_q|query)\.", ".query."),
    (r"\.(to_k|key)\.", ".key."),
    (r"\.(to_v|value)\.", ".value."),
    (r"\.(to_out\.0|proj_attn)\.", ".out."),
]
FIXED = {"act_fn": "silu", "norm_type": "group", "mid_block_add_attention": True}


@dataclass(frozen=True)
class Config:
    """config.json: `path` is its own, `words` what it says."""

    path: Path
    words: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Config":
        """BadInput for a file that is not there, too large, or not JSON."""
        try:
            with path.open("rb") as file:
                content = file.read(MOST_CONFIG + 1)
            words = json.loads(content) if len(content) <= MOST_CONFIG else None
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or "it is not JSON"
            raise BadInput(f"{path} cannot be read ({reason}); give a folder that diffusers saved") from error
        if not isinstance(words, dict):
            raise BadInput(f"{path} is not the config of a model; give a folder that diffusers saved")
        return cls(path, words)

    def number(self, name: str, default: int, *, most: int = 1024) -> int:
        """A whole number in 1..most: what a config claims is built before the weights are seen."""
        value = self.words.get(name)
        found = default if value is None else value
        if type(found) is not int or not 1 <= found <= most:
            raise self.refused(name, f"a whole number in 1..{most}")
        return int(found)

    def widths(self) -> list[int]:
        """block_out_channels: the features of each of 1 to 8 levels, multiples of the first."""
        found = self.words.get("block_out_channels") or [64]
        right = isinstance(found, list) and len(found) <= 8
        if not right or not all(type(n) is int and 1 <= n <= 8192 and n % found[0] == 0 for n in found):
            raise self.refused("block_out_channels", "1 to 8 widths in 1..8192, multiples of the first")
        return [int(n) for n in found]

    def scale(self, name: str, default: float) -> float:
        """A finite number."""
        value = self.words.get(name)
        found = default if value is None else value
        if type(found) not in (int, float) or not abs(found) < 1e6:
            raise self.refused(name, "a number")
        return float(found)

    def scales(self, name: str, default: list[float]) -> list[float]:
        """As many finite numbers as `default` has."""
        value = self.words.get(name)
        found = default if value is None else value
        right = isinstance(found, list) and len(found) == len(default)
        if not right or not all(type(n) in (int, float) and abs(n) < 1e6 for n in found):
            raise self.refused(name, f"{len(default)} numbers")
        return [float(n) for n in found]

    def layout(self, latent_channels: int, hidden: int) -> Layout:
        """The layout of both networks; BadInput where it is not one of ours."""
        for name, value in FIXED.items():
            if self.words.get(name, value) != value:
                raise self.refused(name, repr(value))
        widths, attention = self.widths(), self.attention()
        if len(attention) != len(widths):
            raise self.refused("down_block_types", f"{len(widths)} of them, as many as block_out_channels")
        channels = self.number("in_channels", 3)
        if self.number("out_channels", 3) != channels:
            raise self.refused("out_channels", f"in_channels, {channels}")
        return Layout(
            channels, latent_channels, hidden, widths[0], tuple(width // widths[0] for width in widths),
            self.number("layers_per_block", 1, most=16), tuple(attention), self.number("norm_num_groups", 32),
        )  # fmt: skip

    def attention(self) -> list[bool]:
        """Which levels have attention, the same on both ways."""
        down, up = self.words.get("down_block_types"), self.words.get("up_block_types")
        down = down or ["DownEncoderBlock2D"]
        kinds = {"DownEncoderBlock2D": False, "AttnDownEncoderBlock2D": True}
        if not isinstance(down, list) or not all(isinstance(kind, str) and kind in kinds for kind in down):
            raise self.refused("down_block_types", " and ".join(kinds))
        mirrored = [kind.replace("DownEncoder", "UpDecoder") for kind in reversed(down)]
        if (up or ["UpDecoderBlock2D"]) != mirrored:
            raise self.refused("up_block_types", f"{mirrored}, as down_block_types")
        return [kinds[kind] for kind in down]

    def refused(self, name: str, allowed: str) -> BadInput:
        """The error that says what may stand there."""
        return BadInput(f"{self.path}: {name} is {self.words.get(name)!r}; framefill reads folders with {allowed}")


def load(folder: str | Path, *, device: str = "cpu") -> Autoencoder:
    """The autoencoder in a `diffusers` folder, frozen: `AutoencoderKL` gives a `KLVAE`, `VQModel` a `VQGAN`.

    Nothing is unpickled. Raises BadInput for a config that cannot be read or says something else, and CheckpointError
    for weights that are not there, damaged, or another network's.
    """
    config = Config.read(Path(folder) / "config.json")
    kinds: dict[str, Callable[[Config], Autoencoder]] = {"AutoencoderKL": _kl, "VQModel": _vq}
    kind = kinds.get(str(config.words.get("_class_name")))
    if kind is None:
        raise config.refused("_class_name", " or ".join(kinds))
    with torch.device("meta"):
        autoencoder = kind(config)
    _fill(autoencoder, Path(folder) / WEIGHTS, _own_state(autoencoder))
    _scale(autoencoder, config)
    return autoencoder.eval().requires_grad_(False).to(device)


def _kl(config: Config) -> Autoencoder:
    latents = config.number("latent_channels", 4)
    return KLVAE(config.layout(latents, latents))


def _vq(config: Config) -> Autoencoder:
    hidden = config.number("latent_channels", 3)
    layout = config.layout(config.number("vq_embed_dim", hidden), hidden)
    return VQGAN(layout, codes=config.number("num_vq_embeddings", 256, most=2**20))


def _own_state(autoencoder: Autoencoder) -> dict[str, Tensor]:
    """What their files do not have: statistics, the ages of codes, and for some KL-VAEs the convolutions between."""
    state = {"moments": torch.tensor([[0.0], [1.0]]).expand(2, autoencoder.layout.latent_channels).clone()}
    if isinstance(autoencoder, VQGAN):
        return state | {"quantiser.idle": torch.zeros(autoencoder.quantiser.size)}
    for name in ("to_latent", "from_latent"):
        outputs, inputs = getattr(autoencoder, name).weight.shape[:2]
        state[f"{name}.weight"] = torch.eye(outputs, inputs)[:, :, None, None]
        state[f"{name}.bias"] = torch.zeros(outputs)
    return state


def rename(name: str) -> str:
    """Our name of one of their tensors."""
    for there, here in NAMES:
        name = re.sub(there, here, name)
    return name


def _fill(autoencoder: Autoencoder, path: Path, state: dict[str, Tensor]) -> None:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read ({reason}); take another copy of the folder") from error
    wanted = autoencoder.state_dict()
    for theirs, tensor in tensors.items():
        name = rename(theirs)
        if name in wanted and tensor.ndim == 2 and wanted[name].ndim == 4:
            tensor = tensor[:, :, None, None]  # their attention is dense layers
        state[name] = tensor.float()
    try:
        autoencoder.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} does not fit its config.json: {reason}; take another copy of both") from error


def _scale(autoencoder: Autoencoder, config: Config) -> None:
    """Mean and std of the latents, as in their pipelines: (z - mean) * scale / std, or (z - shift) * scale."""
    scale, channels = config.scale("scaling_factor", 0.18215), autoencoder.layout.latent_channels
    shift = [config.scale("shift_factor", 0.0)] * channels
    mean, std = config.scales("latents_mean", shift), config.scales("latents_std", [1.0] * channels)
    if scale <= 0 or min(std) <= 0:
        raise config.refused("scaling_factor", "a scaling_factor and latents_std above zero")
    for module in autoencoder.modules():  # what is only noted was made on the meta device
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, torch.zeros(buffer.shape), persistent=False)
    autoencoder.state_statistics(torch.tensor(mean), torch.tensor(std) / scale)
