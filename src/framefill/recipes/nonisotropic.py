"""NI-DDPM: images from noise that is as smooth as images are (thesis 001, chapter 6), and DDPM beside it.

x_t = alpha_t x + sigma_t sqrt(Sigma) eps with the Gaussian free field sqrt(Sigma) of power `gamma`; the network is
asked for the white eps (eq. 6.2.3), the loss is one of section 6.2.5, and every sampler serves unchanged. With
gamma = 0 it is DDPM, and nothing else differs: that is the comparison of Table 6.1.

The thesis gives the length of training, 300,000 iterations, and no other setting (facts, section 4.1). Its authors' own
code has the network of DDPM beside the traces of this work, so the presets take network, schedule and training of
Ho et al. 2020 for CIFAR-10.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.diffusion.denoiser import Denoiser, plain, table_label, twice_whitened, whitened
from framefill.diffusion.noise import GaussianFreeField, Noise, White
from framefill.diffusion.sample import DDPM
from framefill.diffusion.schedule import ddpm, table_times
from framefill.diffusion.target import Eps
from framefill.diffusion.weight import snr
from framefill.errors import BadInput
from framefill.nets.ddpm import DDPMUNet
from framefill.recipes.pictures import OfPictures
from framefill.video.images.model import ImageModel
from framefill.video.images.report import sample_sheet

LEVELS = 1000  # of the table, section 6.6
SPACES = (plain, whitened, twice_whitened)


class Coloured(nn.Module):
    """A network that says eps, white, as one that says the noise sqrt(Sigma) eps (eq. 6.2.3)."""

    def __init__(self, network: nn.Module, noise: Noise):
        super().__init__()
        self.network, self.noise = network, noise

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """The noise in float32 or better: whitening would raise the rounding of 16 bits to a tenth of eps."""
        answer = self.network(x, label, cond)
        return self.noise.color(answer.to(torch.promote_types(answer.dtype, torch.float32)))


@dataclass(frozen=True)
class NonIsotropic(OfPictures):
    """Every hyperparameter of a (non-isotropic) diffusion model of images; the defaults are DDPM's for CIFAR-10.

    Fields without a source are those of Ho et al. 2020, appendix B. `gamma` is the power of the Gaussian free field (0:
    white, section 6.5.3) and `whitening` how often an error is whitened before it is squared: 1 is the loss (a) of
    section 6.2.5, 2 is (b), 0 is (c). `patch` > 1 lets the network see patch x patch blocks of pixels (ours, for CPUs).
    """

    # noise and loss
    gamma: float = 0.0
    whitening: int = 1
    # network
    features: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[bool, ...] = (False, True, False, False)
    dropout: float = 0.1
    patch: int = 1
    # training
    batch_size: int = 128
    learning_rate: float = 2e-4
    warmup: int = 5000
    cooldown: float = 0.0
    ema: float = 0.9999
    clip: float = 1.0
    steps: int = 300_000  # section 6.6

    def __post_init__(self) -> None:
        if not 0 <= self.whitening < len(SPACES):
            raise BadInput(
                f"whitening must be 1 (loss a of the thesis), 2 (loss b) or 0 (loss c), got {self.whitening}"
            )
        if not math.isfinite(self.gamma):
            raise BadInput(f"gamma must be a finite number (0: white noise, 1: Gaussian free field), got {self.gamma}")

    @property
    def noise(self) -> Noise:
        """White, or a Gaussian free field."""
        return GaussianFreeField(self.gamma) if self.gamma else White()

    def network(self) -> DDPMUNet:
        """The U-Net, freshly initialised."""
        return DDPMUNet(
            self.channels,
            width=self.features,
            multipliers=self.multipliers,
            blocks=self.blocks,
            attention=self.attention,
            dropout=self.dropout,
            patch=self.patch,
        )

    def model(self) -> Denoiser:
        """The denoiser: network, schedule, target and noise."""
        return Denoiser(Coloured(self.network(), self.noise), ddpm(LEVELS), Eps(), noise=self.noise, label=table_label)

    def loss(self, model: Denoiser, batch: Tensor, rng: Rng) -> Tensor:
        """The training loss per picture (B,) on batch (B, C, H, W): with gamma = 0 or whitening = 1, |eps_hat - eps|^2.

        Paper: eq. 6.2.12 to 6.2.14 are sums over pixels; this is the mean.
        """
        t = table_times(LEVELS)(rng).to(batch.device)
        return model.loss(batch, t, None, snr, rng, space=SPACES[self.whitening])

    def product(self, model: Denoiser, *, card: Any = None, device: str = "cpu") -> ImageModel:
        """The trained model with its verbs."""
        return ImageModel(model, self.channels, self.height, self.width, sampler=DDPM(100), device=device, card=card)

    def sheet(self, product: ImageModel, source: Any) -> Image.Image:
        """Held-out pictures, drawn ones, and one completed many times."""
        return sample_sheet(product, source)


CIFAR10 = NonIsotropic()
# Ours: a network 32 times smaller that works on 2x2 blocks of pixels, so that one CPU core learns something visible.
TINY = NonIsotropic(
    features=32, multipliers=(1, 2, 2), blocks=1, attention=(False, True, False), dropout=0.0, patch=2, batch_size=32,
    learning_rate=1e-3, warmup=200, cooldown=0.4, ema=0.998, steps=2500,
)  # fmt: skip

# name -> (recipe, data, the paper's score: table 6.1 at 1000 and at 10 steps)
PRESETS: dict[str, tuple[NonIsotropic, str, str | None]] = {
    "cifar10": (CIFAR10, "CIFAR-10, train/CLASS/*.png and test", "FID 6.05, P 0.66, R 0.54; in 10 steps FID 44.95"),
    "cifar10-ni": (
        replace(CIFAR10, gamma=1.0), "CIFAR-10, train/CLASS/*.png and test",
        "FID 6.95, P 0.62, R 0.53; in 10 steps FID 60.32",
    ),
    "tiny": (TINY, "any pictures, at 32x32", None),
    "tiny-ni": (replace(TINY, gamma=1.0), "any pictures, at 32x32", None),
}  # fmt: skip
