"""Diffusion over pseudo-videos, frame by frame, and over pictures alone: FDM and improved DDPM (paper 000, section 4).

Both are asked for eps on DDPM's table with the plain squared error, which is what the program of the videos does (it
has no learned variance, so the pictures' has none here: facts, section 2.1), and drawn with the large variance.
A video's network has attention over frames besides, so it is the larger one: 49.1 against 39.6 million parameters
at 32x32, 116.0 against 92.0 at 64x64. `cifar10-1-wide` has 50.1, `celeba-1-wide` 116.5.

Paper: the program divides a video's error by all its frames, so videos with more observed frames count for less; here
by those that are drawn. Its label 1000 t - 1 is kept for tables of other lengths.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from framefill.arrays import Rng
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.sample import DDPM
from framefill.diffusion.schedule import ddpm, iddpm, table_times
from framefill.diffusion.target import Eps
from framefill.diffusion.weight import snr
from framefill.errors import BadInput
from framefill.nets.frames import FrameUNet
from framefill.nets.layers import check_sides
from framefill.recipes.pseudo import Pseudo
from framefill.video.clip import levels
from framefill.video.frames import Framewise, condition, training_sets
from framefill.video.images.films import FrameDiffusion
from framefill.video.sheet import contact_sheet

QUICK = 12  # steps a run of what a sheet shows


def step_label(table: int, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The step before which time t = k / table lies, as if there were 1000."""
    return (1000 * (t - 1 / table)).clamp(min=0)


@dataclass(frozen=True)
class VideoDiffusion(Pseudo):
    """Every hyperparameter; the defaults are the paper's for CIFAR-10 with 4 frames (table 10).

    `context` frames are seen when one is drawn, 0 for single pictures. `table` entries of noise, falling as a `cosine`
    if asked. `calls` of a run of the sampler are taken by default. `patch` > 1 lets the network see patch x patch
    blocks of pixels (ours, for CPUs). The class is withheld from a share `withheld` of the videos.
    """

    pseudo: str = "high-order-4"
    context: int = 2
    features: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[bool, ...] = (False, True, True, False)
    heads: int = 4
    dropout: float = 0.0
    patch: int = 1
    withheld: float = 0.1
    table: int = 1000
    cosine: bool = False
    calls: int = 1000
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup: int = 0
    cooldown: float = 0.0
    ema: float = 0.9999
    clip: float = 1e6  # none
    steps: int = 500_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not min(1, self.frames - 1) <= self.context < self.frames:
            raise BadInput(
                f"a context of {self.context} frames in videos of {self.frames}; give 1 to {self.frames - 1}, or 0 for "
                "single pictures"
            )
        if min(self.table, self.calls) < 1 or not 0 <= self.withheld < 1:
            raise BadInput(
                f"a table of {self.table} steps, {self.calls} calls and a share of {self.withheld} withheld; give at "
                "least 1 of both, and a share in [0, 1)"
            )

    def network(self) -> FrameUNet:
        """The U-Net, freshly initialised."""
        single = self.frames == 1
        return FrameUNet(
            self.channels + (not single), self.channels, width=self.features, multipliers=self.multipliers,
            blocks=self.blocks, attention=self.attention, heads=self.heads, dropout=self.dropout, times=not single,
            patch=self.patch, classes=self.classes,
        )  # fmt: skip

    def model(self) -> Denoiser:
        """The denoiser: network, schedule and target."""
        scale = 1000 / self.table  # of each step's noise, so that all together are the same (facts, section 2.2)
        schedule = iddpm(self.table) if self.cosine else ddpm(self.table, 1e-4 * scale, 0.02 * scale)
        network = self.network()
        check_sides(self.height, self.width, network.stride)
        framewise = Framewise(network, single=self.frames == 1)
        return Denoiser(framewise, schedule, Eps(), label=partial(step_label, self.table))

    def loss(self, model: Denoiser, batch: Tensor, rng: Rng) -> Tensor:
        """|eps_hat - eps|^2 of the frames to be drawn, per video (B,)."""
        clips, labels = self.unpacked(batch)
        chosen = training_sets(rng, self.frames, self.context + 1).to(clips.device)
        names = torch.full((len(clips),), self.classes, device=clips.device)
        if labels is not None:
            names = torch.where(rng.uniform((), clips) < self.withheld, names, labels)
        frames = chosen.of(clips)
        t = table_times(self.table)(rng).to(clips.device)
        counted = chosen.latent[:, :, None, None, None].to(frames.dtype)
        return model.loss(frames, t, condition(frames, chosen, names), snr, rng, counted=counted)

    def product(self, model: Denoiser, *, card: Any = None, device: str = "cpu") -> FrameDiffusion:
        """The trained model with its verbs."""
        return FrameDiffusion(
            model, self.frames, self.context, self.channels, self.height, self.width, self.classes,
            sampler=DDPM(self.calls, variance=1.0), device=device, card=card,
        )  # fmt: skip

    def suited(self, data: str | Path) -> "VideoDiffusion":
        """The recipe for `data`: this one, pictures are cut to its size."""
        return self

    def sheet(self, product: FrameDiffusion, source: Any) -> Image.Image:
        """Held-out pictures, and drawn ones in few steps, one of them frame by frame beside a real one."""
        real = np.asarray(levels(self.clips(source, range(12))))
        made = next(replace(product, sampler=DDPM(QUICK)).films(12))
        rows = [("held out", real[:, -1]), ("from nothing", made[:, -1])]
        rows += [("a held-out video", real[0]), ("a drawn one", made[0])] if self.frames > 1 else []
        return contact_sheet(rows)


PAPER = VideoDiffusion(flip=False)
STILL = replace(PAPER, pseudo="still", context=0)
CELEBA: dict[str, Any] = {
    "height": 64, "width": 64, "multipliers": (1, 2, 3, 4), "attention": (False, False, True, True),
}  # fmt: skip
# Ours: for one CPU core.
TINY = replace(
    PAPER, features=32, multipliers=(1, 2, 2), attention=(False, True, False), blocks=1, patch=2, calls=50,
    batch_size=16, learning_rate=1e-3, warmup=100, cooldown=0.4, ema=0.998, clip=1.0, steps=2500,
)  # fmt: skip
TINY_STILL = replace(TINY, pseudo="still", context=0)
_CIFAR, _CELEBA = "CIFAR-10, train/CLASS/*.png and test", "CelebA at 64x64, train/*.jpg and test"


def _videos(name: str, base: VideoDiffusion, data: str, scores: dict[str, float]) -> dict[str, Any]:
    """The presets of tables 3 and 5: a context of half the frames."""
    made = {}
    for pseudo, score in scores.items():
        context = int(pseudo.rpartition("-")[2]) // 2
        made[f"{name}-{pseudo}"] = replace(base, pseudo=pseudo, context=context), data, f"FID {score:.2f}"
    return made


# name -> (recipe, data, the paper's score: FID of 10,000 pictures, tables 3 to 5)
PRESETS: dict[str, tuple[VideoDiffusion, str, str | None]] = {
    "cifar10-1": (STILL, _CIFAR, "FID 12.90"),
    "cifar10-1-4000": (replace(STILL, table=4000, calls=4000), _CIFAR, "FID 11.95"),
    "cifar10-1-wide": (replace(STILL, features=144), _CIFAR, None),
    **_videos("cifar10", PAPER, _CIFAR, {
        "first-order-4": 17.30, "first-order-8": 15.90, "high-order-4": 12.58, "high-order-8": 12.80,
        "high-order-blur-4": 15.33, "high-order-blur-8": 22.63,
    }),
    "celeba-1": (replace(STILL, **CELEBA), _CELEBA, "FID 7.76"),
    "celeba-1-4000": (replace(STILL, table=4000, calls=4000, **CELEBA), _CELEBA, "FID 7.87"),
    "celeba-1-wide": (replace(STILL, features=144, **CELEBA), _CELEBA, None),
    **_videos("celeba", replace(PAPER, **CELEBA), _CELEBA, {
        "first-order-4": 13.61, "first-order-8": 12.64, "high-order-4": 6.88, "high-order-8": 7.55,
    }),
    "tiny": (TINY, "any pictures, at 32x32", None),
    "tiny-1": (TINY_STILL, "any pictures, at 32x32", None),
    "tiny-1-wide": (replace(TINY_STILL, features=35, heads=1), "any pictures, at 32x32", None),
    "tiny-faces": (replace(TINY, channels=1, height=56, width=48), "grey faces of 112x92, such as ORL", None),
    "tiny-digits": (replace(TINY, channels=1, classes=10), "digits", None),
}  # fmt: skip
