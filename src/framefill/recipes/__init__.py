"""Recipes: one frozen dataclass per paper system, and the only table of their names and presets."""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from framefill.errors import BadInput
from framefill.recipes import (
    autoencoder,
    climate,
    compression,
    diffusion_autoencoder,
    distilled,
    hierarchical,
    interpolation,
    latent_interpolation,
    latent_repair,
    mcvd,
    mrcnf,
    nonisotropic,
    ode_video,
    pose,
    token_prior,
    tokenizer,
    video_compression,
    video_diffusion,
)

RECIPES: dict[str, type] = {
    "mcvd": mcvd.MCVD,
    "nonisotropic": nonisotropic.NonIsotropic,
    "climate": climate.Climate,
    "autoencoder": autoencoder.Autoencoder,
    "diffusion-autoencoder": diffusion_autoencoder.DiffusionAutoencoder,
    "latent-interpolation": latent_interpolation.LatentInterpolation,
    "latent-repair": latent_repair.LatentRepair,
    "interpolation": interpolation.Interpolation,
    "compression": compression.Compression,
    "distilled": distilled.Distilled,
    "mrcnf": mrcnf.MRCNF,
    "ode-video": ode_video.ODEVideo,
    "video-compression": video_compression.VideoCompression,
    "tokenizer": tokenizer.Tokenizer,
    "token-prior": token_prior.TokenPrior,
    "video-diffusion": video_diffusion.VideoDiffusion,
    "hierarchical": hierarchical.Hierarchical,
    "pose": pose.Pose,
}


@dataclass(frozen=True)
class Preset:
    """A named setting of a recipe, with the score its paper reports for it (None where there is none)."""

    recipe: Any
    data: str
    paper_score: str | None = None


PRESETS: dict[str, dict[str, Preset]] = {
    "mcvd": {name: Preset(*row) for name, row in mcvd.PRESETS.items()},
    "nonisotropic": {name: Preset(*row) for name, row in nonisotropic.PRESETS.items()},
    "climate": {name: Preset(*row) for name, row in climate.PRESETS.items()},
    "autoencoder": {name: Preset(*row) for name, row in autoencoder.PRESETS.items()},
    "diffusion-autoencoder": {name: Preset(*row) for name, row in diffusion_autoencoder.PRESETS.items()},
    "latent-interpolation": {name: Preset(*row) for name, row in latent_interpolation.PRESETS.items()},
    "latent-repair": {name: Preset(*row) for name, row in latent_repair.PRESETS.items()},
    "interpolation": {name: Preset(*row) for name, row in interpolation.PRESETS.items()},
    "compression": {name: Preset(*row) for name, row in compression.PRESETS.items()},
    "distilled": {name: Preset(*row) for name, row in distilled.PRESETS.items()},
    "mrcnf": {name: Preset(*row) for name, row in mrcnf.PRESETS.items()},
    "ode-video": {name: Preset(*row) for name, row in ode_video.PRESETS.items()},
    "video-compression": {name: Preset(*row) for name, row in video_compression.PRESETS.items()},
    "tokenizer": {name: Preset(*row) for name, row in tokenizer.PRESETS.items()},
    "token-prior": {name: Preset(*row) for name, row in token_prior.PRESETS.items()},
    "video-diffusion": {name: Preset(*row) for name, row in video_diffusion.PRESETS.items()},
    "hierarchical": {name: Preset(*row) for name, row in hierarchical.PRESETS.items()},
    "pose": {name: Preset(*row) for name, row in pose.PRESETS.items()},
}


def find(name: str, preset: str) -> Preset:
    """The preset of a recipe; BadInput lists what there is."""
    if name not in RECIPES:
        raise BadInput(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
    if preset not in PRESETS[name]:
        raise BadInput(f"unknown preset {preset!r} of {name}; choose one of {', '.join(PRESETS[name])}")
    return PRESETS[name][preset]


FILLING = ("uniform_", "normal_", "trunc_normal_", "zero_", "fill_", "copy_", "mul_", "div_", "orthogonal_")


class _Unfilled(TorchFunctionMode):
    """Where nothing is allocated nothing need be filled with numbers, which takes most of the time of counting."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return args[0] if getattr(func, "__name__", "") in FILLING else func(*args, **kwargs)


@lru_cache(256)
def parameters(recipe: Any) -> int:
    """The number of trainable parameters, counted without allocating them."""
    with torch.device("meta"), _Unfilled():
        return sum(p.numel() for p in recipe.model().parameters() if p.requires_grad)


def rows() -> list[dict[str, Any]]:
    """Every preset as plain values: recipe, preset, parameters, data, paper_score and all fields."""
    return [
        {
            "recipe": name,
            "preset": preset,
            "parameters": parameters(entry.recipe),
            "data": entry.data,
            "paper_score": entry.paper_score,
            "fields": dataclasses.asdict(entry.recipe),
        }
        for name, presets in PRESETS.items()
        for preset, entry in presets.items()
    ]
