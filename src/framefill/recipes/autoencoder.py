"""Autoencoders of pictures: VQGAN, or with codes = 0 a KL-VAE, as latent diffusion trains them (Rombach et al. 2022).

The networks are theirs, with the layouts of their published configs, and taming-transformers' f16 (facts, section 5).
In training: absolute and perceptual error, the penalty of the latents and, from the step `adversary_start` on, a patch
discriminator whose weight follows from the last layer of the decoder.

Paper: their perceptual error is LPIPS, whose weights no package carries. `lpips` takes the user's file; without it
the maps of EfficientNet-Lite0 serve, which `pip` brings (see features/perceptual.py), on another scale.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.features.perceptual import file_distance, lite0_distance
from framefill.latents.adversarial import Adversarial
from framefill.latents.autoencoder import Autoencoder as Network
from framefill.latents.autoencoder import Layout
from framefill.latents.distance import Distance, absolute, means, weighted
from framefill.latents.kl import KLVAE
from framefill.latents.pictures import PictureCoder
from framefill.latents.vqgan import VQGAN
from framefill.nets.patches import PatchDiscriminator
from framefill.recipes.pictures import OfPictures, Tell
from framefill.recipes.recipe import Source
from framefill.video.images.album import Album
from framefill.video.images.crops import Crops
from framefill.video.sheet import contact_sheet


@dataclass(frozen=True)
class Autoencoder(OfPictures):
    """Every hyperparameter of an autoencoder and its training; the defaults are latent diffusion's f8 with 16384 codes.

    `codes` is the size of the codebook, 0 for Gaussian latents with a KL of weight `kl`. `patience` as in `Quantiser`,
    `bypass` as in `VQGAN`, `straight` as in latents/autoencoder.py.
    Pictures are cut to the size; with `kept` they are kept as squares of so many pixels, and training sees pieces of
    them, half of those with mixed channels if `recolour`, see `Crops`. `perceptual`, `colour` (of the error of local
    means) and `adversary` are weights, 0 for none. `lpips` is a TorchScript file (see `distance_file`).
    """

    height: int = 256
    width: int = 256
    kept: int = 0
    recolour: bool = False
    # latents
    codes: int = 16384
    latent_channels: int = 4
    commitment: float = 0.25
    patience: int = 100
    bypass: float = 0.0
    kl: float = 1e-6
    # network
    features: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    blocks: int = 2
    attention: tuple[bool, ...] = (False, False, False, True)
    groups: int = 32
    straight: bool = False
    # loss
    perceptual: float = 1.0
    colour: float = 0.0
    lpips: str = ""
    adversary: float = 0.75
    adversary_start: int = 250_000
    judge_features: int = 64
    judge_layers: int = 2
    # training; Paper: without clipping, which one norm for both networks would also couple
    batch_size: int = 14
    learning_rate: float = 6.3e-5  # 4.5e-6 times the batch
    warmup: int = 0
    cooldown: float = 0.0
    ema: float = 0.999
    clip: float = 1e6
    steps: int = 500_000

    @property
    def layout(self) -> Layout:
        """The shapes of encoder and decoder."""
        return Layout(
            self.channels, self.latent_channels, 0, self.features, self.multipliers, self.blocks, self.attention,
            self.groups, self.straight,
        )  # fmt: skip

    def network(self) -> Network:
        """The autoencoder, freshly initialised."""
        if self.codes:
            return VQGAN(
                self.layout, codes=self.codes, commitment=self.commitment, patience=self.patience, bypass=self.bypass
            )
        return KLVAE(self.layout, weight=self.kl)

    def model(self) -> nn.Module:
        """The autoencoder, with its adversary if it has one."""
        network = self.network()
        if not self.adversary:
            return network
        judge = PatchDiscriminator(self.channels, width=self.judge_features, layers=self.judge_layers)
        return Adversarial(network, judge, weight=self.adversary, start=self.adversary_start)

    def source(
        self, data: str | Path, split: str, *, cache: Path | None = None, progress: Tell | None = None
    ) -> Source:
        """Pictures of a split of `data`, a folder or .zip of them; mirrored for training only."""
        album = Album.open(
            data, split, height=self.kept or self.height, width=self.kept or self.width, channels=self.channels,
            flip=self.flip and split == "train", cache=cache, progress=progress,
        )  # fmt: skip
        if not self.kept:
            return album
        return Crops(album, self.height, self.width, recolour=self.recolour and split == "train")

    def distance(self, device: str = "cpu") -> Distance:
        """What a reconstruction is held against its picture by."""
        terms: list[tuple[float, Distance]] = [(1.0, absolute)]
        if self.perceptual:
            path = Path(self.lpips) if self.lpips else None
            seen = file_distance(path, device=device) if path else lite0_distance(device=device)
            terms.append((self.perceptual, seen))
        if self.colour:
            terms.append((self.colour, means))
        return weighted(*terms) if len(terms) > 1 else absolute

    def loss(self, model: Any, batch: Tensor, rng: Rng) -> Tensor:
        """The training loss per picture (B,), both networks' together; see latents/adversarial.py."""
        return model.loss(batch, rng, self.distance(str(batch.device)))

    def notes(self, model: Any) -> dict[str, float]:
        """What the log says of the last batch: perplexity and use of the codebook, or KL, and the adversary."""
        return model.notes()

    def product(self, model: nn.Module, *, card: Any = None, device: str = "cpu") -> PictureCoder:
        """The trained model with its verbs."""
        return PictureCoder(model, device=device, card=card)

    def sheet(self, product: PictureCoder, source: Any) -> Image.Image:
        """Held-out pictures and what comes back of them."""
        real = np.concatenate([source.sample(seed) for seed in range(12)])
        return contact_sheet([("held out", real), ("there and back", product.reconstruct(real))])


F, T = False, True
F8 = Autoencoder()
F4 = replace(F8, codes=8192, latent_channels=3, multipliers=(1, 2, 4), attention=(F, F, F))
F16 = replace(F8, latent_channels=8, multipliers=(1, 1, 2, 2, 4), attention=(F, F, F, F, T))
TAMING = replace(F16, latent_channels=256, adversary=0.8, judge_layers=3)
KL8 = replace(
    F8, codes=0, multipliers=(1, 2, 4, 4), attention=(F, F, F, F), adversary=0.5, adversary_start=50_001, judge_layers=3
)
# Ours: for one CPU core.
TINY = replace(
    F8, height=32, width=32, codes=256, features=16, multipliers=(1, 2, 2), blocks=1, attention=(F, F, F), groups=8,
    adversary_start=1500, judge_features=16, batch_size=16, learning_rate=2e-3, warmup=100, cooldown=0.4, ema=0.998,
    steps=3000,
)  # fmt: skip
# Ours too: photographs, a few hundred of them. docs/latents.md says how far these were trained.
PHOTOS8 = replace(
    TINY, height=80, width=80, kept=256, recolour=True, straight=True, codes=1024, patience=25,
    multipliers=(1, 2, 4, 6), attention=(F,) * 4, perceptual=0.1, colour=1.0, adversary=0.2, adversary_start=1400,
    batch_size=6, learning_rate=1.5e-3, cooldown=0.4, steps=1800,
)  # fmt: skip
PHOTOS4 = replace(PHOTOS8, height=64, width=64, latent_channels=3, multipliers=(1, 2, 5), attention=(F,) * 3)
PHOTOS16 = replace(
    PHOTOS8, height=128, width=128, latent_channels=8, multipliers=(1, 2, 3, 4, 6), attention=(F,) * 5, batch_size=4
)

# name -> (recipe, data, the paper's score: rFID of OpenImages, of ImageNet for the second f16; facts, section 5)
PRESETS: dict[str, tuple[Autoencoder, str, str | None]] = {
    "vq-f4": (F4, "OpenImages, train/*.jpg and val", None),
    "vq-f8": (F8, "OpenImages, train/*.jpg and val", "rFID 1.14"),
    "vq-f8-256": (replace(F8, codes=256), "OpenImages, train/*.jpg and val", "rFID 1.49"),
    "vq-f16": (F16, "OpenImages, train/*.jpg and val", None),
    "taming-f16": (TAMING, "ImageNet, train/CLASS/*.JPEG and val", "rFID 4.98"),
    "kl-f8": (KL8, "OpenImages, train/*.jpg and val", None),
    "tiny": (TINY, "any pictures, at 32x32", None),
    "tiny-kl": (replace(TINY, codes=0), "any pictures, at 32x32", None),
    "photos-f4": (PHOTOS4, "photographs of 256x256 pixels or more", None),
    "photos-f8": (PHOTOS8, "photographs of 256x256 pixels or more", None),
    "photos-f16": (PHOTOS16, "photographs of 256x256 pixels or more", None),
    "photos-kl-f8": (replace(PHOTOS8, codes=0), "photographs of 256x256 pixels or more", None),
}
