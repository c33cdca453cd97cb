"""Frame interpolation by conditional latent diffusion over a VQGAN (seed 004; its program: facts, section 5).

Paper: what is done otherwise, since it is what went wrong there. Pictures enter the VQGAN in [-1, 1], for which it was
trained, not in [0, 1]; latents are standardised and never clipped (their scheduler clips every estimate to [-1, 1]);
latents are learnt before they are quantised, and quantised when decoded; weights are averaged. Algorithms 1 and 2 leave
out that the network is told the time t, which their program does, and write the root of the squared error.
Paper: AdamW there with a weight decay of 0.01, Adam here; the rate falls as a cosine there, linearly here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from framefill.arrays import Rng, derive
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.sample import DDPM, DPMSolver, Sampler
from framefill.diffusion.schedule import ddpm, table_times
from framefill.diffusion.target import Eps, V
from framefill.diffusion.weight import snr, velocity
from framefill.errors import BadInput
from framefill.latents.autoencoder import Autoencoder, Layout
from framefill.latents.kl import KLVAE
from framefill.latents.neighbours import Middle, Neighbours
from framefill.latents.vqgan import VQGAN
from framefill.nets.ddpm import DDPMUNet
from framefill.recipes.recipe import following
from framefill.video.between.middle import MiddleInterpolator
from framefill.video.between.tier import Fast
from framefill.video.clip import levels, tensor
from framefill.video.folder import Tell
from framefill.video.sheet import contact_sheet
from framefill.video.triplets.opening import opened
from framefill.video.triplets.triplet import Source

LEVELS = 1000  # of the table, section 5.2
ANCESTRAL = 100  # calls from which on sampling is ancestral, as theirs
TRIES = 100
CODER = {  # fields of the recipe `autoencoder`, and here
    "codes": "codes", "latent_channels": "latent_channels", "features": "coder_features",
    "multipliers": "coder_multipliers", "blocks": "coder_blocks", "attention": "coder_attention", "groups": "groups",
    "straight": "coder_straight",
}  # fmt: skip


def step_label(t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """1000 t - 1: the steps 0 to 999 of their table."""
    return LEVELS * t - 1


@dataclass(frozen=True)
class LatentInterpolation:
    """Every hyperparameter; the defaults are seed 004's, over latent diffusion's VQGAN f8 with 16384 codes.

    `codes` to `groups` are the autoencoder's, and follow from the run that training begins with. `calls` of the network
    make a frame: from 100 on ancestral steps, as theirs, below by DPM-Solver++. With `velocity` it is asked for
    v (ours): the noise that it says at the noisiest level is divided by alpha = 0.006, its error becomes a tint.
    """

    channels: int = 3
    height: int = 256
    width: int = 256
    # autoencoder, frozen
    codes: int = 16384
    latent_channels: int = 4
    coder_features: int = 128
    coder_multipliers: tuple[int, ...] = (1, 2, 2, 4)
    coder_blocks: int = 2
    coder_attention: tuple[bool, ...] = (False, False, False, True)
    groups: int = 32
    coder_straight: bool = False
    # network: diffusers' UNet2DModel
    features: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    blocks: int = 2
    attention: tuple[bool, ...] = (False, True, True, True)
    head_width: int = 8
    dropout: float = 0.0
    velocity: bool = False
    calls: int = 1000
    # training
    batch_size: int = 28  # 4 on each of 7 devices
    learning_rate: float = 1e-5
    warmup: int = 500
    cooldown: float = 1.0
    ema: float = 0.9999
    clip: float = 1.0
    steps: int = 146_560  # 80 epochs

    def autoencoder(self) -> Autoencoder:
        """The autoencoder, freshly initialised."""
        layout = Layout(
            self.channels, self.latent_channels, 0, self.coder_features, self.coder_multipliers, self.coder_blocks,
            self.coder_attention, self.groups, self.coder_straight,
        )  # fmt: skip
        return VQGAN(layout, codes=self.codes) if self.codes else KLVAE(layout)

    def network(self) -> DDPMUNet:
        """The U-Net: 12 channels in, 4 out, for latents of 4."""
        return DDPMUNet(
            3 * self.latent_channels, answers=self.latent_channels, width=self.features, multipliers=self.multipliers,
            blocks=self.blocks, attention=self.attention, head_width=self.head_width, dropout=self.dropout,
        )  # fmt: skip

    def model(self) -> Middle:
        """The frozen autoencoder and the denoiser."""
        target = V() if self.velocity else Eps()
        return Middle(self.autoencoder(), Denoiser(Neighbours(self.network()), ddpm(LEVELS), target, label=step_label))

    @property
    def sampler(self) -> Sampler:
        """What draws latents."""
        return DDPM(self.calls) if self.calls >= ANCESTRAL else DPMSolver(self.calls)

    def source(
        self, data: str | Path, split: str, *, cache: Path | None = None, progress: Tell | None = None
    ) -> Source:
        """Triplets of a split of `data`, a folder of clips or a published data set; varied for training only."""
        return opened(data, split, size=(self.height, self.width), cache=cache, progress=progress)

    def batch(self, source: Source, seeds: Sequence[int]) -> Tensor:
        """Triplets (B, 3, C, H, W) in [-1, 1] whose second frame is in the middle, one per seed."""
        return torch.stack([_halfway(source, seed) for seed in seeds])

    def loss(self, model: Middle, batch: Tensor, rng: Rng) -> Tensor:
        """|eps_hat - eps|^2, or |v_hat - v|^2, per example (B,)."""
        z, cond = model.encoded(batch)
        weight = velocity if self.velocity else snr
        return model.denoiser.loss(z, table_times(LEVELS)(rng).to(z.device), cond, weight, rng)

    # ---- training begins with an autoencoder -------------------------------------------------------------------

    @property
    def follows(self) -> bool:
        """Whether a training run must begin from another one: that of the autoencoder."""
        return True

    def after(self, fields: dict[str, Any]) -> "LatentInterpolation":
        """This recipe over the autoencoder of a run whose recipe had `fields`; BadInput if there was none."""
        return following(self, {"straight": False, **fields}, CODER, "autoencoder")  # older runs do not say it

    def taken(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The autoencoder's weights, which may be beside those of its adversary."""
        prefix = "autoencoder."
        beside = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        return beside or {prefix + name: tensor for name, tensor in tensors.items()}

    # ---- what comes of it --------------------------------------------------------------------------------------

    def product(self, model: nn.Module, *, card: Any = None, device: str = "cpu") -> MiddleInterpolator:
        """The trained model with its verbs."""
        assert isinstance(model, Middle)
        stride = model.autoencoder.stride * 2 ** (len(self.multipliers) - 1)
        return MiddleInterpolator(model, stride, sampler=self.sampler, device=device, card=card)

    def suited(self, data: str | Path) -> "LatentInterpolation":
        """The recipe for `data`: this one, frames are cut to its size."""
        return self

    def about(self, source: Any) -> dict[str, Any]:
        """What must be known of the data to use the model: nothing, pixels are pixels."""
        return {}

    def sheet(self, product: MiddleInterpolator, source: Source) -> Image.Image:
        """Held-out frames, what is made of their neighbours, and what motion alone makes."""
        triplets = self.batch(source, range(6))
        quick = replace(product, sampler=DPMSolver(8))
        rows = [("held out", triplets[:, 1])]
        for name, tier in (("drawn", quick), ("warped", Fast())):
            rows.append((name, torch.stack([tier(x[::2], [0.5], Rng([0]))[0, 0] for x in triplets])))
        return contact_sheet([(name, np.asarray(levels(row))) for name, row in rows])


def _halfway(source: Source, seed: int) -> Tensor:
    """A triplet with the time 1/2, as its seed gives it or one derived from that."""
    for number in range(TRIES):
        triplet = source.triplet(derive(seed, number) if number else seed)
        if triplet.time == 0.5:
            return tensor(triplet.frames)
    raise BadInput(f"{TRIES} triplets have no frame in the middle; give clips of 3 frames or more")


PAPER = LatentInterpolation()
# Ours: for one CPU core, over an autoencoder of any size.
SMALL = replace(
    PAPER, height=128, width=128, features=48, multipliers=(1, 2, 2), attention=(False, True, True), blocks=1, calls=8,
    velocity=True, batch_size=8, learning_rate=5e-4, warmup=100, cooldown=0.4, ema=0.998, steps=2000,
)  # fmt: skip

# name -> (recipe, data, the paper's score)
PRESETS: dict[str, tuple[LatentInterpolation, str, str | None]] = {
    "paper": (PAPER, "Vimeo-90k triplets, with --from a run of autoencoder vq-f8", "FID 48.1, by a broken script"),
    "tiny": (SMALL, "a folder of clips, with --from a run of autoencoder", None),
}
