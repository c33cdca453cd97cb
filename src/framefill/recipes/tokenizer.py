"""Tokenizers of pseudo-videos and clips: C-ViViT, and for still pictures a VQ-VAE of that size (paper 000, table 7).

In training: the squared error of every frame, the perceptual one of the last, which is the image, the quantiser's
penalty and, from the step `adversary_start` on, a patch discriminator whose weight follows from the last layer that
every pixel passes, whatever the number of frames (the published program takes one that single frames do not pass, so
its 1-frame model has no adversary: facts, section 0.7).

Paper: the perceptual network is VGG16; EfficientNet-Lite0 here (see features/perceptual.py). Every frame is judged, not
one drawn at random; the rate falls linearly, not as a cosine.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.features.perceptual import file_distance, lite0_distance
from framefill.latents.adversarial import Adversarial
from framefill.latents.distance import Distance, on_last_frame, over_frames, squared, weighted
from framefill.latents.lattice import FiniteScalar, LookupFree
from framefill.latents.quantiser import Quantiser, Quantising
from framefill.latents.tokenizer import Tokenizer as Network
from framefill.nets.clips import ClipTransformer, Patches
from framefill.nets.convolved import ClipConvolutions
from framefill.nets.patches import EveryFrame, PatchDiscriminator
from framefill.recipes.pseudo import Pseudo
from framefill.video.clip import levels
from framefill.video.images.tokens import TokenCoder
from framefill.video.sheet import contact_sheet

HELD_OUT = 48  # clips that the report is made of


@dataclass(frozen=True)
class Coding:
    """The fields that a prior must know of its tokenizer; the defaults are the paper's for 8 and 18 frames.

    `levels` makes the codes finite scalar, `bits` lookup-free; else `codes` of `code_width` numbers are learnt, and
    those idle for `patience` steps revived. A patch is `patch_time` frames of `patch` pixels; an odd number of frames
    puts the first by itself. `convolved` takes convolutions with `blocks` in place of transformers.
    """

    codes: int = 1024
    code_width: int = 32
    levels: tuple[int, ...] = ()
    bits: int = 0
    commitment: float = 0.25
    patience: int = 100
    patch: int = 4
    patch_time: int = 2
    features: int = 512
    heads: int = 8
    head_width: int = 64
    spatial: int = 4
    temporal: int = 4
    convolved: bool = False
    blocks: int = 4

    def quantiser(self) -> Quantising:
        """What makes tokens of numbers."""
        if self.levels and self.bits:
            raise BadInput(f"levels {self.levels} and {self.bits} bits; codes are of one kind, so set one of them to 0")
        if self.levels:
            return FiniteScalar(self.levels, patience=self.patience)
        if self.bits:
            return LookupFree(self.bits, commitment=self.commitment, patience=self.patience)
        return Quantiser(self.codes, self.code_width, commitment=self.commitment, patience=self.patience)

    def network(self, channels: int, frames: int) -> Network:
        """The tokenizer of clips of `frames` frames, freshly initialised."""
        alone = frames % self.patch_time == 1 and self.patch_time > 1
        patches = Patches(1 if frames == 1 else self.patch_time, self.patch, first_alone=alone and frames > 1)
        if self.convolved:
            return Network(
                ClipConvolutions(channels, patches, width=self.features, blocks=self.blocks), self.quantiser()
            )
        network = ClipTransformer(
            channels, patches, width=self.features, heads=self.heads, head_width=self.head_width, spatial=self.spatial,
            temporal=self.temporal,
        )  # fmt: skip
        return Network(network, self.quantiser())


@dataclass(frozen=True)
class Tokenizer(Coding, Pseudo):
    """Every hyperparameter of a tokenizer and its training; the defaults are the paper's (table 7).

    `perceptual` and `adversary` are weights, 0 for none; `lpips` is a TorchScript file (see `distance_file`).
    """

    perceptual: float = 1.0
    lpips: str = ""
    adversary: float = 1.0
    adversary_start: int = 0
    judge_features: int = 64
    judge_layers: int = 2
    batch_size: int = 64
    learning_rate: float = 1e-4
    warmup: int = 0
    cooldown: float = 1.0
    ema: float = 0.999
    clip: float = 0.5
    steps: int = 100_000

    def tokenizer(self) -> Network:
        """The tokenizer, freshly initialised."""
        network = self.network(self.channels, self.frames)
        network.grid(self.frames, self.height, self.width)
        return network

    def model(self) -> nn.Module:
        """The tokenizer, with its adversary if it has one."""
        if not self.adversary:
            return self.tokenizer()
        judge = PatchDiscriminator(self.channels, width=self.judge_features, layers=self.judge_layers)
        judge.fits(self.height, self.width)
        return Adversarial(self.tokenizer(), EveryFrame(judge), weight=self.adversary, start=self.adversary_start)

    def distance(self, device: str = "cpu") -> Distance:
        """What a reconstructed clip is held against the clip by."""
        if not self.perceptual:
            return over_frames(squared)
        path = Path(self.lpips) if self.lpips else None
        seen = file_distance(path, device=device) if path else lite0_distance(device=device)
        return weighted((1.0, over_frames(squared)), (self.perceptual, on_last_frame(seen)))

    def loss(self, model: Any, batch: Tensor, rng: Rng) -> Tensor:
        """The training loss per clip (B,), both networks' together; see latents/adversarial.py."""
        return model.loss(self.unpacked(batch)[0], rng, self.distance(str(batch.device)))

    def notes(self, model: Any) -> dict[str, float]:
        """What the log says of the last batch: perplexity, use and revival of codes, and the adversary."""
        return model.notes()

    def product(self, model: nn.Module, *, card: Any = None, device: str = "cpu") -> TokenCoder:
        """The trained model with its verbs."""
        return TokenCoder(model, self.kind, device=device, card=card)

    def suited(self, data: str | Path) -> "Tokenizer":
        """The recipe for `data`: this one, pictures are cut to its size."""
        return self

    def sheet(self, product: TokenCoder, source: Any) -> Image.Image:
        """Held-out pictures, what comes back of them, and how many codes they use; one clip, frame by frame."""
        clips = np.asarray(levels(self.clips(source, range(HELD_OUT))))
        back, health = product.reconstruct(clips), product.health(product.tokens(clips))
        error = np.square(clips[:, -1].astype(float) - back[:, -1]).mean((1, 2, 3)).clip(min=1e-4)
        said = f"{10 * np.log10(255**2 / error).mean():.1f} dB, {100 * health['codes_used']:.0f} % of codes"
        rows = [("held out", clips[:12, -1]), (f"back: {said}", back[:12, -1])]
        rows += [(f"perplexity {health['perplexity']:.0f}", clips[0]), ("back", back[0])] if self.frames > 1 else []
        return contact_sheet(rows)


PAPER = Tokenizer(flip=False)
VQVAE = replace(PAPER, pseudo="still", spatial=8, temporal=0)
CELEBA = partial(replace, height=64, width=64)
# Ours: for one CPU core.
TINY = replace(
    PAPER, pseudo="blur-4", codes=256, code_width=8, patience=20, features=64, heads=2, head_width=32, spatial=2,
    temporal=1, perceptual=0.0, adversary=0.0, batch_size=16, learning_rate=1e-3, warmup=50, cooldown=0.4, ema=0.998,
    clip=1.0, steps=1500,
)  # fmt: skip
DIGITS = replace(TINY, channels=1, codes=64)
FACES = partial(replace, channels=1, height=56, width=48)  # half of the 112x92 of ORL, which has 400
_CIFAR, _CELEBA = "CIFAR-10, train/CLASS/*.png and test", "CelebA at 64x64, train/*.jpg and test"
_SCORE = "reconstruction PSNR {}, FID {}"

# name -> (recipe, data, the paper's scores of pictures there and back: tables 6 and 2)
PRESETS: dict[str, tuple[Tokenizer, str, str | None]] = {
    "cifar10-1": (VQVAE, _CIFAR, _SCORE.format("17.20", "84.25")),
    "cifar10-8": (PAPER, _CIFAR, _SCORE.format("21.86", "13.81")),
    "cifar10-18": (replace(PAPER, pseudo="blur-18"), _CIFAR, _SCORE.format("25.89", "11.26")),
    "celeba-1": (CELEBA(VQVAE), _CELEBA, _SCORE.format("20.52", "24.62")),
    "celeba-8": (CELEBA(PAPER), _CELEBA, _SCORE.format("24.66", "5.72")),
    "celeba-18": (replace(CELEBA(PAPER), pseudo="blur-18"), _CELEBA, _SCORE.format("29.68", "2.27")),
    "tiny": (TINY, "any pictures, at 32x32", None),
    "tiny-1": (replace(TINY, pseudo="still", temporal=0, spatial=3), "any pictures, at 32x32", None),
    "tiny-digits": (DIGITS, "digits", None),
    "tiny-faces": (FACES(TINY), "grey faces of 112x92, such as ORL", None),
    "tiny-clips": (
        replace(DIGITS, pseudo="clips-8", height=64, width=64, patch=8), "digits, or a folder of clips", None,
    ),
}  # fmt: skip
