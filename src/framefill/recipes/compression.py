"""The picture codec: rate, distance and diffusion trained together, for several qualities at once.

      loss = (bits per pixel + distance of the mean decode + error of denoising) / r^(3/4)

A quality is named by the rate r that it is meant for. What a bit is worth there follows from how distance falls with
rate on photographs: d(squared error in grey levels) / d(bpp) is about -19 r^-1.65 (where the published weights of mean
and scale hyperpriors lie, Minnen et al. 2018), d(SSIMULACRA2) / d(bpp) about 36 / r. Both terms get a share.

Denoising trains the painter only: what is sent serves the faithful decode. Paper: seed 002 trains encoder and decoder
for noise prediction alone, and sends float16 latents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from framefill.arrays import Rng, expand
from framefill.codec.model import SPREAD, Compressor, Sizes
from framefill.codec.picture_codec import PictureCodec
from framefill.diffusion.consistency import Multistep
from framefill.diffusion.sample import DPMSolver
from framefill.diffusion.schedule import signal_to_noise, uniform_times
from framefill.errors import BadInput
from framefill.features.perceptual import lite0_distance
from framefill.metrics.ssimulacra2 import ssimulacra2
from framefill.recipes.recipe import Source, stacked
from framefill.video.clip import levels
from framefill.video.folder import Tell
from framefill.video.images.album import Album, shortest_side
from framefill.video.images.crops import Crops
from framefill.video.sheet import contact_sheet

STEP = 10 / 127.5  # of quantisation at 1 bit per pixel, to begin with
CAP = 5.0  # of the weight of denoising
EVEN = 0.75
TIER = 32  # pieces have sides that are multiples of it


@dataclass(frozen=True)
class Compression:
    """Every hyperparameter of the codec and its training; the defaults are for one CPU core.

    `qualities` rates from `lowest` to `highest` bits per pixel, in equal ratios. `similarity` is the share of
    SSIMULACRA2 in the distance, the rest is squared error; `perceptual` weighs features of EfficientNet-Lite0 besides
    (see features/perceptual.py). A share `noisy` of the pictures is painted from noise too, weighted `denoising`.
    Pictures are kept as squares of `kept` pixels, and pieces of `side` learnt from. `few` says that the painter draws
    in one to four steps, as recipes/distilled.py makes it; `temperature` as in `Compressor`, a field of use.
    """

    side: int = 128
    kept: int = 256
    qualities: int = 8
    lowest: float = 0.06
    highest: float = 1.0
    similarity: float = 0.5
    perceptual: float = 0.0
    denoising: float = 0.5
    noisy: float = 0.25
    # network
    luma: int = 18
    chroma: int = 6
    encoder: tuple[int, ...] = (32, 96)
    encoder_blocks: tuple[int, ...] = (1, 3)
    widths: tuple[int, ...] = (48, 128, 192)
    down: tuple[int, ...] = (1, 3, 3)
    up: tuple[int, ...] = (2, 3, 3)
    groups: int = 4
    hidden: int = 48
    few: bool = False
    temperature: float = 1.0
    # training
    batch_size: int = 8
    learning_rate: float = 1e-3
    warmup: int = 100
    cooldown: float = 0.5
    ema: float = 0.999
    clip: float = 1.0
    steps: int = 20_000

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.highest or self.qualities < 1 or self.side % TIER or not 0 < self.noisy <= 1:
            raise BadInput(
                f"{self.qualities} qualities from {self.lowest} to {self.highest} bits per pixel, pieces of {self.side}"
                f", a share of {self.noisy}; give 1 or more, rising, a multiple of 32, more than 0 and at most 1"
            )

    @property
    def rates(self) -> list[float]:
        """Bits per pixel that each quality is meant for."""
        steps = max(self.qualities - 1, 1)
        return [self.lowest * (self.highest / self.lowest) ** (q / steps) for q in range(self.qualities)]

    def model(self) -> Compressor:
        """The codec's network, freshly initialised: a transform codec."""
        sizes = Sizes(
            self.luma, self.chroma, self.encoder, self.encoder_blocks, self.widths, self.down, self.up, self.groups,
            self.hidden,
        )  # fmt: skip
        steps = [STEP * rate**-0.73 for rate in self.rates]
        return Compressor(sizes, steps, Multistep if self.few else DPMSolver, temperature=self.temperature)

    # ---- training ----------------------------------------------------------------------------------------------

    def source(
        self, data: str | Path, split: str, *, cache: Path | None = None, progress: Tell | None = None
    ) -> Source:
        """Pieces of the pictures of a split of `data`, a folder or .zip of them; mirrored for training only."""
        album = Album.open(
            data, split, height=self.kept, width=self.kept, channels=3, flip=split == "train", cache=cache,
            progress=progress,
        )  # fmt: skip
        return Crops(album, self.side, self.side)

    def batch(self, source: Source, seeds: Sequence[int]) -> Tensor:
        """Pieces (B, 3, side, side) in [-1, 1], one per seed."""
        return stacked(source, seeds, (3, self.side, self.side))[:, 0]

    def loss(self, model: Compressor, batch: Tensor, rng: Rng) -> Tensor:
        """Per picture (B,), at a quality drawn for each."""
        if self.few:
            raise BadInput("this would undo few-step drawing; train the codec that was distilled, then distil again")
        quality = rng.integers(self.qualities).to(batch.device)
        symbols = model.coded(batch, quality)
        bits = model.entropy.bits(symbols, quality) / batch[0, 0].numel()
        values = symbols * model.log_steps[quality].exp()[:, :, None, None]
        distance = self.distance(model.mean(values, quality), batch, quality)
        drawn = self.worth(quality) * self._denoising(model, batch, values.detach(), quality, rng)
        # what is at stake grows with the rate; evened out, low qualities teach as much as high ones
        return (bits + distance + self.denoising * drawn) / self.meant(quality) ** EVEN

    def meant(self, quality: Tensor) -> Tensor:
        """The rates of qualities (B,), float32."""
        return torch.tensor(self.rates, device=quality.device)[quality]

    def worth(self, quality: Tensor) -> Tensor:
        """Bits per pixel that a squared error of 1 costs, pixels in [-1, 1], at qualities (B,)."""
        return 0.053 * 127.5**2 * self.meant(quality) ** 1.65

    def distance(self, made: Tensor, truth: Tensor, quality: Tensor) -> Tensor:
        """How far pictures (B, 3, H, W) are from the truth, in bits per pixel."""
        rate, squared = self.meant(quality), (made - truth).square().mean((1, 2, 3))
        total = (1 - self.similarity) * self.worth(quality) * squared
        if self.similarity:
            total = total + self.similarity * rate / 36 * (100 - ssimulacra2(made, truth))
        if self.perceptual:
            total = total + self.perceptual * rate.sqrt() * lite0_distance(device=str(made.device))(made, truth)
        return total

    def _denoising(self, model: Compressor, x: Tensor, values: Tensor, quality: Tensor, rng: Rng) -> Tensor:
        """Weighted squared errors of clean estimates (B,), of a share `noisy` of the pictures; zero for the others."""
        chosen = (rng.uniform() < self.noisy).to(x.device)
        t, noise = uniform_times(rng).to(x.device)[chosen], rng.normal(x.shape[1:], x)[chosen]
        found = x.new_zeros(len(x))
        if not len(t):
            return found
        clean, (alpha, sigma) = x[chosen], model.denoiser.schedule(t)
        x_t = (expand(alpha, clean) * clean + expand(sigma, clean) * noise).to(x.dtype)
        error = (model.denoiser(x_t, t, model.condition(values[chosen], quality[chosen])) - clean).square()
        weight = (1 + SPREAD**2 * signal_to_noise(alpha, sigma)).clamp(max=CAP).to(error.dtype)
        return found.masked_scatter(chosen, weight * error.mean((1, 2, 3)) / self.noisy)

    def product(self, model: Compressor, *, card: Any = None, device: str = "cpu") -> PictureCodec:
        """What compresses pictures."""
        return PictureCodec(model.to(device).eval(), card, device)

    def sheet(self, product: PictureCodec, source: Any) -> Image.Image:
        """Held-out pieces, and what comes back of them at the lowest, a middle and the highest quality."""
        x = self.batch(source, range(6))
        rows, model = [("held out", x)], product.model
        for q in sorted({0, self.qualities // 2, self.qualities - 1}):
            quality = torch.full((len(x),), q)
            with torch.inference_mode():
                made = model.mean(model.values(model.symbols(x, quality), quality), quality)
            rows.append((f"quality {q}", made))
        return contact_sheet([(name, levels(pictures)) for name, pictures in rows])

    def suited(self, data: str | Path) -> "Compression":
        """The recipe for `data`: squares and pieces are no larger than its smallest picture; BadInput below 32."""
        shortest = shortest_side(data)
        if shortest < TIER:
            raise BadInput(f"{data} has a picture with a side of {shortest} pixels; a codec learns from {TIER} or more")
        kept = min(self.kept, shortest)
        return replace(self, kept=kept, side=min(self.side, kept // TIER * TIER))

    def about(self, source: Any) -> dict[str, Any]:
        """What must be known of the data to use the model: nothing, pixels are pixels."""
        return {}


SMALL = Compression()
# For tests and a look: minutes.
TINY = replace(
    SMALL, side=64, kept=64, qualities=3, luma=6, chroma=2, encoder=(16, 32), encoder_blocks=(1, 1), widths=(16, 32),
    down=(1, 1), up=(1, 1), groups=2, hidden=16, batch_size=4, steps=500,
)  # fmt: skip

# name -> (recipe, data, the paper's score)
PRESETS: dict[str, tuple[Compression, str, str | None]] = {
    "small": (SMALL, "photographs of 256x256 pixels or more", None),
    "tiny": (TINY, "any pictures, at 64x64", None),
}
