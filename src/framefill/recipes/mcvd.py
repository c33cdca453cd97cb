"""MCVD: one masked conditional diffusion model that predicts, generates and interpolates video (thesis 001, chapter 7).

`published=True` is the paper's program: noise prediction on the 1000-step DDPM table, summed loss, whole blocks of past
or future frames masked to zero, nothing that tells the network so. `published=False` is ours, and differs where we
found it better: velocity prediction on a truncated cosine, mean loss, every frame of the window offered with a plane
that says whether it is known, and masks of any shape, so that short contexts, long ones and scattered known frames are
all in the training distribution. With `motion`, it is also shown the known frames carried to where the current ones
are, and with `residual` it draws the difference to the guess they make: copying shapes from the context is what a
network of this kind learns last, and so need not learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from framefill.arrays import Rng
from framefill.diffusion.complete import Window, blend
from framefill.diffusion.denoiser import Denoiser, Model, angle_label, table_label
from framefill.diffusion.guide import Clipped
from framefill.diffusion.noise import GaussianFreeField, Noise, White
from framefill.diffusion.sample import DDIM, DPMSolver, Sampler
from framefill.diffusion.schedule import cosine, ddpm, shifted, table_times, uniform_times
from framefill.diffusion.target import Eps, V, X
from framefill.diffusion.weight import Weight, capped, edm, snr
from framefill.errors import BadInput
from framefill.nets.unet import UNet
from framefill.recipes.recipe import Source, stacked
from framefill.video import datasets, motion, report
from framefill.video.digits import MovingDigits
from framefill.video.folder import Clips, Tell, Windows
from framefill.video.folder import split as split_clips
from framefill.video.model import VideoModel


@dataclass(frozen=True)
class Crops:
    """Windows of clips, cropped to `size` (height, width) at random and mirrored if `flip`."""

    windows: Windows
    size: tuple[int, int]
    flip: bool

    def sample(self, seed: int, *, length: int, strides: tuple[int, ...]) -> NDArray[np.uint8]:
        """A window (length, H, W, C), a pure function of `seed`."""
        return self.windows.sample(seed, length=length, strides=strides, size=self.size, flip=self.flip)


@dataclass(frozen=True)
class MCVD:
    """Every hyperparameter of a masked conditional video diffusion model; the defaults are the paper's SMMNIST model.

    Sizes are in pixels and frames; clips are fitted to `view` (height, width; empty: the model's own size) and windows
    are cropped from there at random. Fields without a source are from the published command lines (facts, section 1.1).
    """

    # frames
    channels: int = 1
    height: int = 64
    width: int = 64
    view: tuple[int, ...] = ()
    past: int = 5
    current: int = 5
    future: int = 0
    strides: tuple[int, ...] = (1,)
    flip: bool = False
    # masks: the chance that all past (future) frames are hidden, p_mask of eq. 7.2.7
    drop_past: float = 0.0
    drop_future: float = 0.0
    # network, section 7.2.4
    features: int = 64
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 2
    attention: tuple[bool, ...] = (False, True, True, True)
    head_width: int = 64
    dropout: float = 0.1
    spatin: int = 0
    patch: int = 1
    # process and training, section 7.4.3
    published: bool = True
    noise_power: float = 0.0
    noise_shift: float = 1.0
    motion: bool = False
    residual: float = 0.0
    calls: int = 10
    strength: float = 1.0
    batch_size: int = 64
    learning_rate: float = 2e-4
    warmup: int = 1000
    cooldown: float = 0.0
    ema: float = 0.999
    clip: float = 1.0
    steps: int = 700_000

    @property
    def window(self) -> Window:
        """Past, current and future frames."""
        return Window(self.past, self.current, self.future)

    @property
    def condition_channels(self) -> int:
        """Channels of the condition: context frames, or every frame of the window and its known plane."""
        if self.published:
            return self.channels * (self.past + self.future)
        return (self.channels + 1) * self.window.length + 2 * self.channels * self.current * self.motion

    def network(self) -> UNet:
        """The U-Net, freshly initialised."""
        return UNet(
            self.channels * self.current,
            self.condition_channels,
            width=self.features,
            multipliers=self.multipliers,
            blocks=self.blocks,
            attention=self.attention,
            head_width=self.head_width,
            dropout=self.dropout,
            spatin=self.spatin,
            patch=self.patch,
        )

    def model(self) -> Denoiser:
        """The denoiser: network, schedule, target and noise."""
        noise: Noise = GaussianFreeField(self.noise_power) if self.noise_power else White()
        if self.published:
            return Denoiser(self.network(), ddpm(), Eps(), noise=noise, label=table_label)
        scale = self.residual or 1.0
        schedule = shifted(cosine(-16, 12), self.noise_shift * scale)
        return Denoiser(
            self.network(), schedule, X() if self.residual else V(), noise=noise, label=angle_label, sigma_data=scale
        )

    def condition(self, frames: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is shown of a window, and what the current frames would be without it.

        frames (B, length, C, H, W), known (B, length) bool. Unknown frames are shown as zero, which is mid-grey.
        Returns (B, condition_channels, H, W) and, if `residual`, a guess (B, current, C, H, W), else zeros.
        """
        drawn, planes = self.window.drawn, known.to(frames.dtype)[:, :, None, None, None]
        shown, guess = frames * planes, torch.zeros_like(frames[:, drawn])
        if self.published:
            return torch.cat([shown[:, : drawn.start], shown[:, drawn.stop :]], 1).flatten(1, 2), guess
        B, _, _, H, W = frames.shape
        told = [shown.flatten(1, 2), planes[:, :, 0].expand(B, -1, H, W)]
        if self.motion:
            before, after = motion.carried(shown, known, drawn)
            told += [before.flatten(1, 2), after.flatten(1, 2)]
        if self.residual:
            guess = motion.mixed(before, after, shown, known, drawn) if self.motion else blend(shown, known)[:, drawn]
        return torch.cat(told, 1), guess

    def draw(self, model: Model, sampler: Sampler, frames: Tensor, known: Tensor, rng: Rng) -> Tensor:
        """Current frames (B, current, C, H, W) in [-1, 1] for windows of which some frames are known.

        With `residual` > 0 the model draws the difference to the guess, whose standard deviation that is, about. Where
        nothing is known there is no guess to stay near, so the sampler's strength is 1 there.
        """
        if sampler.strength < 1 and not self.residual:
            raise BadInput("this model draws frames, not differences to a guess; its strength must be 1")
        if not known.any():
            sampler = replace(sampler, strength=1.0)
        cond, guess = self.condition(frames, known)
        if not self.residual:
            return sampler(Clipped(model), guess, cond, rng)
        return (guess + sampler(Clipped(model, -2.0, 2.0), guess, cond, rng)).clamp(-1, 1)

    def masks(self, rng: Rng) -> Tensor:
        """Training masks (B, length), True where a frame is known.

        Published: past and future are hidden as wholes, independently. Ours: where they are not hidden, one in four
        keeps only its frames nearest the current ones; and in one window of five, some current frames are known too.
        """
        u = rng.uniform((6,))
        past = _nearest(u[:, 0] >= self.drop_past, u[:, 1], self.past, whole=self.published).flip(1)
        future = _nearest(u[:, 2] >= self.drop_future, u[:, 3], self.future, whole=self.published)
        inner = (rng.uniform((self.current,)) < u[:, 5:]) & (u[:, 4:5] < 0.2)
        inner &= ~inner.all(1, keepdim=True) & (not self.published)
        return torch.cat([past, inner, future], 1)

    def source(
        self, data: str | Path, split: str, *, cache: Path | None = None, progress: Tell | None = None
    ) -> Source:
        """Windows of a split of `data`: "digits", a data set as NAME:FOLDER, or a folder of clips.

        NAME is one of `video.datasets.DATASETS`. Clips are decoded once, into `cache`.
        """
        if str(data) == "digits":
            return MovingDigits(split)
        published = datasets.named(str(data))
        if isinstance(published, datasets.SMMNIST):
            return MovingDigits(split, mnist=published)
        if published:
            return self._crops(published, split, cache=cache, progress=progress)
        height, width = self.view or (self.height, self.width)
        clips = Clips.open(
            Path(data), height=height, width=width, channels=self.channels, cache=cache, progress=progress
        )
        return Crops(Windows(split_clips(clips)[split]), (self.height, self.width), self.flip)

    def _crops(self, data: datasets.Dataset, split: str, *, cache: Path | None, progress: Tell | None) -> Crops:
        """Windows of a published data set: mirrored, and cropped from `view`, for training only."""
        train = split == "train"
        height, width = (self.view if train else ()) or (self.height, self.width)
        runs = datasets.runs(
            data, split, height=height, width=width, channels=self.channels, cache=cache, progress=progress
        )
        return Crops(Windows(runs), (self.height, self.width), self.flip and train)

    @property
    def weight(self) -> Weight:
        """What an error is worth at a signal-to-noise ratio.

        Differences are small and mostly zero: asked for them, not for the noise, a narrow network gives clean frames
        (Li and He 2025), and errors that noise of a third of the difference would hide are worth no more than there.
        """
        if self.published:
            return snr
        scale = self.residual or 1.0
        return capped(edm(scale), 9 / scale**2) if self.residual else edm(scale)

    def batch(self, source: Source, seeds: Sequence[int]) -> Tensor:
        """Training windows (B, length, C, H, W) in [-1, 1], one per seed."""
        size = (self.channels, self.height, self.width)
        return stacked(source, seeds, size, length=self.window.length, strides=self.strides)

    def loss(self, model: Denoiser, batch: Tensor, rng: Rng) -> Tensor:
        """The training loss per sample (B,) on windows (B, length, C, H, W), eq. 7.2.8.

        Paper: the published program takes half the sum over a clip where the text takes the mean (facts, section 1.3).
        """
        known = self.masks(rng).to(batch.device)
        cond, guess = self.condition(batch, known)
        x = batch[:, self.window.drawn] - guess
        if self.published:
            t = table_times(1000)(rng).to(batch.device)
            return 0.5 * x[0].numel() * model.loss(x, t, cond, self.weight, rng)
        t = uniform_times(rng).to(batch.device)
        unknown = ~known[:, self.window.drawn, None, None, None]
        return model.loss(x, t, cond, self.weight, rng, counted=unknown.to(x.dtype))

    def suited(self, data: str | Path) -> "MCVD":
        """The recipe for `data`: this one, clips are cut to its size."""
        return self

    def about(self, source: Source) -> dict[str, Any]:
        """What must be known of the data to use the model: nothing, pixels are pixels."""
        return {}

    def product(self, model: Denoiser, *, card: Any = None, device: str = "cpu") -> VideoModel:
        """The trained model with its verbs."""
        strength = self.strength if self.residual else 1.0
        return VideoModel(
            model,
            partial(self.draw, model),
            self.window,
            self.channels,
            self.height,
            self.width,
            self.network_stride,
            sampler=DDIM(100) if self.published else DPMSolver(self.calls, strength=strength),
            device=device,
            card=card,
        )

    def sheet(self, product: VideoModel, source: Any) -> Image.Image:
        """Held-out clips, predicted and filled in, and one clip from nothing."""
        return report.sample_sheet(product, source)

    @property
    def network_stride(self) -> int:
        """What heights and widths must be multiples of."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


def _nearest(shown: Tensor, u: Tensor, frames: int, *, whole: bool) -> Tensor:
    """Known flags (B, frames), nearest frame first: none, all, or (unless `whole`, one in four) a random few."""
    few = 1 + (u * 4 * (frames - 1)).floor()
    count = torch.where((u < 0.25) & (frames > 1) & (not whole), few.clamp(max=frames - 1), torch.tensor(float(frames)))
    return (torch.arange(frames) < count[:, None]) & shown[:, None]


SMMNIST = MCVD()
KTH = replace(SMMNIST, past=10, features=96, head_width=96, warmup=5000, steps=400_000, flip=True)
BAIR = replace(
    SMMNIST,
    channels=3,
    past=2,
    features=192,
    head_width=192,
    learning_rate=1e-4,
    warmup=5000,
    steps=450_000,
    flip=True,
)
CITYSCAPES = replace(
    BAIR, height=128, width=128, multipliers=(1, 1, 2, 3, 4), attention=(False, False, True, True, True), dropout=0.0,
    batch_size=32, steps=900_000,
)  # fmt: skip
UCF = replace(
    BAIR, view=(64, 85), past=4, current=4, features=288, head_width=288, batch_size=32, steps=900_000,
)  # fmt: skip

# Ours: works on 2x2 blocks of pixels, so that two CPU cores learn something visible in minutes.
TINY = MCVD(
    future=5, drop_past=0.25, drop_future=0.5, features=64, multipliers=(1, 1, 2), blocks=1,
    attention=(False, True, True), head_width=32, dropout=0.0, patch=2, published=False, noise_shift=2.0, motion=True,
    residual=0.4, calls=4, strength=0.65, batch_size=16, learning_rate=1e-3, warmup=200, cooldown=0.4, ema=0.999,
    steps=4500, strides=(1, 1, 1, 2),
)  # fmt: skip

# name -> (recipe, data, the paper's score: tables 7.2 to 7.8, PSNR and SSIM the best of the trajectories drawn)
PRESETS: dict[str, tuple[MCVD, str, str | None]] = {
    "smmnist": (SMMNIST, "SMMNIST 5 -> 10", "FVD 25.63, PSNR 17.22, SSIM 0.786"),
    "smmnist-spatin": (replace(SMMNIST, spatin=128, steps=140_000), "SMMNIST 5 -> 10", "FVD 23.86, SSIM 0.780"),
    "smmnist-past-future": (
        replace(SMMNIST, future=5, drop_past=0.5, drop_future=0.5, steps=650_000), "SMMNIST 5 -> 10",
        "FVD 20.77, PSNR 16.33, SSIM 0.753",
    ),
    "kth": (KTH, "KTH 10 -> 40", "FVD 276.6, PSNR 26.20, SSIM 0.793"),
    "kth-spatin": (
        replace(KTH, features=192, spatin=192, steps=340_000), "KTH 10 -> 30", "FVD 323, PSNR 27.5, SSIM 0.835",
    ),
    "bair": (BAIR, "BAIR 2 -> 14", "FVD 90.5, PSNR 19.1, SSIM 0.834"),
    "bair-past": (
        replace(BAIR, drop_past=0.5, steps=650_000), "BAIR 2 -> 14", "FVD 87.9, PSNR 19.1, SSIM 0.838",
    ),
    "bair-1": (replace(BAIR, past=1, steps=750_000), "BAIR 1 -> 15", "FVD 98.8, PSNR 18.8, SSIM 0.829"),
    "bair-spatin": (
        replace(BAIR, spatin=128, steps=390_000), "BAIR 2 -> 14", "FVD 94.1, PSNR 19.1, SSIM 0.836",
    ),
    "cityscapes": (
        replace(CITYSCAPES, drop_past=0.5), "Cityscapes 128 2 -> 28", "FVD 141.31, LPIPS 0.112, SSIM 0.690",
    ),
    "cityscapes-spatin": (
        replace(CITYSCAPES, features=256, head_width=256, spatin=128, drop_past=0.5, batch_size=16, steps=650_000),
        "Cityscapes 128 2 -> 28", "FVD 184.81, LPIPS 0.121, SSIM 0.720",
    ),
    "ucf": (replace(UCF, drop_past=0.5), "UCF-101 0 -> 16", "FVD 1228.3"),
    "ucf-spatin": (
        replace(UCF, spatin=192, drop_past=0.5, steps=550_000), "UCF-101 0 -> 16", "FVD 1143.0",
    ),
    "tiny": (TINY, "moving digits or any clips of 64x64", None),
    "tiny-natural": (
        replace(
            TINY, channels=3, past=4, current=4, future=4, flip=True, strides=(1, 2), view=(72, 128), drop_past=0.2,
            drop_future=0.4, features=48, residual=0.15, strength=0.35,
        ),
        "any colour clips", None,
    ),
}  # fmt: skip
