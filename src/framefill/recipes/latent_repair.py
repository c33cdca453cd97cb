"""Ours: frames between two by diffusion in the latents of a network that repairs warped frames.

Where seed 004 draws the whole frame from noise, here both known frames are first carried to the time wanted along their
motion. What is then still wrong is small, so a small latent can tell it and a small network draw it in a few calls; and
any time between the two goes, and any number of known frames around them.

Trained in two runs with the same fields but `stage`. The first learns to tell and to paint, the second, begun from the
first, to draw: v-target on a cosine schedule, over latents that are never clipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.sample import DPMSolver
from framefill.diffusion.schedule import cosine, uniform_times
from framefill.diffusion.target import V
from framefill.diffusion.weight import velocity
from framefill.errors import BadInput
from framefill.features.perceptual import file_distance, lite0_distance
from framefill.latents.distance import Distance, absolute, means, weighted
from framefill.latents.repairer import COLOURS, PLANES, LatentRepairer, Repairer, Seen
from framefill.nets.unet import UNet
from framefill.recipes.recipe import following
from framefill.video.between.latent import LatentInterpolator
from framefill.video.between.views import Gap
from framefill.video.clip import levels, tensor
from framefill.video.folder import Tell
from framefill.video.sheet import contact_sheet
from framefill.video.triplets.opening import opened
from framefill.video.triplets.triplet import Source

VIEWS = 4  # of every pair of known frames


@dataclass(frozen=True)
class LatentRepair:
    """Every hyperparameter of both stages and the training of one; the defaults are for one CPU core.

    `height` and `width` are of the pieces that are learnt from; motion is estimated with `margin` pixels around them.
    `context` known frames are on either side of the gap. `perceptual` and `tint` weigh beside the mean absolute
    error; `lpips` is a TorchScript file (see `distance_file`). `dropped` and `roughened` as in
    `Repairer`. `features` to `dropout` are the network that draws, `calls` how often a sampler asks it.
    """

    height: int = 64
    width: int = 64
    margin: int = 16
    context: int = 1
    stage: int = 1
    # first stage
    latent_channels: int = 6
    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1
    perceptual: float = 1.0
    tint: float = 0.5
    lpips: str = ""
    dropped: float = 0.15
    roughened: float = 0.5
    # second stage
    features: int = 48
    multipliers: tuple[int, ...] = (1, 2)
    depth: int = 1
    attention: tuple[bool, ...] = (False, False)
    dropout: float = 0.0
    calls: int = 8
    temperature: float = 0.25  # of one thread's worth of training, hotter samples are worse than none
    # training
    batch_size: int = 8
    learning_rate: float = 8e-4
    warmup: int = 100
    cooldown: float = 0.4
    ema: float = 0.998
    clip: float = 1.0
    steps: int = 4000

    def __post_init__(self) -> None:
        if self.stage not in (1, 2):
            raise BadInput(f"stage must be 1 (tell and paint) or 2 (draw), got {self.stage}")
        if self.context < 1 or self.margin < 0:
            raise BadInput(f"context must be 1 or more and margin not negative, got {self.context} and {self.margin}")

    def model(self) -> LatentRepairer:
        """The repairer, and in the second stage the denoiser of its latents."""
        repairer = Repairer(
            latent=self.latent_channels, widths=self.widths, blocks=self.blocks, dropped=self.dropped,
            roughened=self.roughened,
        )  # fmt: skip
        return LatentRepairer(repairer, self.denoiser() if self.stage == 2 else None)

    def denoiser(self) -> Denoiser:
        """What draws latents, given the coarsest features of the views."""
        network = UNet(
            self.latent_channels, self.widths[-1], width=self.features, multipliers=self.multipliers,
            blocks=self.depth, attention=self.attention, dropout=self.dropout,
        )  # fmt: skip
        return Denoiser(network, cosine(), V())

    # ---- training ----------------------------------------------------------------------------------------------

    def source(
        self, data: str | Path, split: str, *, cache: Path | None = None, progress: Tell | None = None
    ) -> Source:
        """Triplets of a split of `data`, a folder of clips or a published data set; varied for training only."""
        size = self.height + 2 * self.margin, self.width + 2 * self.margin
        return opened(data, split, size=size, context=self.context, cache=cache, progress=progress)

    def batch(self, source: Source, seeds: Sequence[int]) -> Tensor:
        """Truth, guess and views of triplets, one after the other as channels: (B, 6 + 5 V, H, W)."""
        return torch.stack([self._example(source, seed) for seed in seeds])

    def _example(self, source: Source, seed: int) -> Tensor:
        triplet = source.triplet(seed)
        frames = tensor(triplet.frames)
        if len(frames) != 2 * self.context + 1 or frames.shape[1] != COLOURS:
            raise BadInput(
                f"this recipe takes {2 * self.context + 1} frames of 3 channels, the data has {len(frames)} of "
                f"{frames.shape[1]}"
            )
        truth, known = frames[self.context], torch.cat([frames[: self.context], frames[self.context + 1 :]])
        seen = Gap.around(known).at(triplet.time)
        whole = torch.cat([truth, seen.guess[0], seen.views[0].flatten(0, 1)])
        cut = slice(self.margin, -self.margin or None)
        return whole[:, cut, cut]

    def unpacked(self, batch: Tensor) -> tuple[Tensor, Seen]:
        """Truth (B, 3, H, W) and what is seen of it, from a batch."""
        truth, guess, views = batch.split([COLOURS, COLOURS, VIEWS * self.context * PLANES], 1)
        return truth, Seen(guess, views.unflatten(1, (-1, PLANES)))

    def distance(self, device: str = "cpu") -> Distance:
        """What a frame is held against the truth by."""
        path = Path(self.lpips) if self.lpips else None
        terms: list[tuple[float, Distance]] = [(1.0, absolute), (self.tint, means)]
        if self.perceptual:
            seen = file_distance(path, device=device) if path else lite0_distance(device=device)
            terms.append((self.perceptual, seen))
        return weighted(*terms)

    def loss(self, model: LatentRepairer, batch: Tensor, rng: Rng) -> Tensor:
        """The training loss per example (B,): of the repairer, or in the second stage |v_hat - v|^2 of its latents."""
        truth, seen = self.unpacked(batch)
        if model.denoiser is None:
            return model.repairer.loss(truth, seen, rng, self.distance(str(batch.device)))
        with torch.no_grad():
            z, cond = model.repairer.encode(truth, seen), model.repairer.read(seen)[1][-1]
        return model.denoiser.loss(z, uniform_times(rng).to(z.device), cond.float(), velocity, rng)

    def notes(self, model: LatentRepairer) -> dict[str, float]:
        """What the log says of the last batch of the first stage."""
        return model.repairer.notes() if model.denoiser is None else {}

    # ---- the second stage begins with the first ----------------------------------------------------------------

    @property
    def follows(self) -> bool:
        """Whether a training run must begin from another one."""
        return self.stage == 2

    def after(self, fields: dict[str, Any]) -> "LatentRepair":
        """This recipe with the first stage of a run whose recipe had `fields`."""
        kept = ("context", "latent_channels", "widths", "blocks", "dropped", "roughened")
        return following(self, fields, {name: name for name in kept}, "latent-repair")

    def taken(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a run's model that this one begins with: the repairer's."""
        return {name: t for name, t in tensors.items() if name.startswith("repairer.")}

    # ---- what comes of it --------------------------------------------------------------------------------------

    def product(self, model: nn.Module, *, card: Any = None, device: str = "cpu") -> LatentInterpolator:
        """The trained model with its verbs."""
        assert isinstance(model, LatentRepairer)
        return LatentInterpolator(
            model, self.context, sampler=DPMSolver(self.calls), temperature=self.temperature, device=device, card=card
        )

    def suited(self, data: str | Path) -> "LatentRepair":
        """The recipe for `data`: this one, pieces of any clip do."""
        return self

    def about(self, source: Any) -> dict[str, Any]:
        """What must be known of the data to use the model: nothing, pixels are pixels."""
        return {}

    def sheet(self, product: LatentInterpolator, source: Source) -> Image.Image:
        """Held-out frames, the guess at them, what is made of it, and what would be with a latent told by the truth."""
        rows: list[tuple[Tensor, ...]] = []
        for seed in range(8):
            batch = self.batch(source, [seed])
            truth, seen = self.unpacked(batch)
            rows.append((truth[0], seen.guess[0], *self._shown(product, truth, seen)))
        names = ("held out", "warped", "made", "with its own latent")
        return contact_sheet([(name, np.stack([levels(row[i]) for row in rows])) for i, name in enumerate(names)])

    def _shown(self, product: LatentInterpolator, truth: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
        repairer = product.model.repairer
        truth, seen = truth.to(product.device), Seen(*(x.to(product.device) for x in seen))
        with torch.inference_mode():
            told = repairer.paint(seen, repairer.read(seen), repairer.encode(truth, seen))[0]
        return product.frame(seen, Rng([0]))[0], told


FIRST = LatentRepair()
BEST = replace(FIRST, height=96, width=96, stage=2, learning_rate=1e-3, steps=6000)
LARGE = replace(
    FIRST, height=256, width=256, margin=32, latent_channels=8, widths=(64, 128, 256), blocks=2, batch_size=32,
    learning_rate=2e-4, warmup=1000, ema=0.9999, steps=200_000,
)  # fmt: skip
TINY = replace(FIRST, height=48, width=48, margin=8, widths=(8, 16, 24), features=16, batch_size=4, warmup=10, steps=60)

# name -> (recipe, data, the paper's score: none, these are ours)
PRESETS: dict[str, tuple[LatentRepair, str, str | None]] = {
    "best-first": (FIRST, "a folder of clips", None),
    "best": (BEST, "a folder of clips, with --from a run of best-first", None),
    "best-large-first": (LARGE, "Vimeo-90k", None),
    "best-large": (
        replace(LARGE, stage=2, features=128, multipliers=(1, 2, 2), depth=2, attention=(False, False, True)),
        "Vimeo-90k, with --from a run of best-large-first", None,
    ),
    "tiny-first": (TINY, "a folder of clips", None),
    "tiny": (replace(TINY, stage=2), "a folder of clips, with --from a run of tiny-first", None),
}  # fmt: skip
