"""Interpolation by repair: two frames are carried along their motion, and a small network mends the result.

Ours. The network is nets/repair.py; what it sees is video/between/warp.py's. It learns from triplets of film and of
made-up motion, by the logarithm of the squared error of each piece of a picture, which is its PSNR: in films the still
pieces and the wild ones then count alike, as they do in the mean of decibels that interpolation is judged by.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.nets.repair import Repair
from framefill.video.between.tier import Balanced, Between, Fast
from framefill.video.between.warp import Motion, seen
from framefill.video.clip import levels, tensor
from framefill.video.folder import Tell
from framefill.video.sheet import contact_sheet

FINEST = 1e-5  # mean squared error, of pixels in [-1, 1], below which getting better does not count: 56 dB


@dataclass(frozen=True)
class Interpolation:
    """Every hyperparameter of the repair of interpolated frames."""

    channels: int = 3
    height: int = 144
    width: int = 144
    # network: features at 1/2, 1/4, 1/8 and 1/16 of the resolution
    features: tuple[int, ...] = (24, 48, 96, 128)
    # training
    batch_size: int = 4
    learning_rate: float = 5e-4
    warmup: int = 200
    cooldown: float = 0.5
    ema: float = 0.999
    clip: float = 1.0
    steps: int = 20_000

    def model(self) -> nn.Module:
        """The network, freshly initialised."""
        return Repair(self.channels, features=self.features)

    def source(self, data: str | Path, split: str, *, cache: Path | None = None, progress: Tell | None = None) -> Any:
        """Triplets of a split of `data`."""
        from framefill.video.triplets.opening import opened

        return opened(data, split, size=(self.height, self.width), cache=cache, progress=progress)

    def batch(self, source: Any, seeds: Sequence[int]) -> Tensor:
        """Triplets (B, 4C + ceil((4C + 7) / 4), H, W), one per seed: the frame between, and what is seen of it.

        That is what is whole, and then, four channels in one, what is at half the resolution.
        """
        return torch.stack([_example(source, seed) for seed in seeds])

    def loss(self, model: nn.Module, batch: Tensor, rng: Rng) -> Tensor:
        """Minus the PSNR, up to a constant, in units of 4.3 dB: (B,)."""
        C = self.channels
        truth, whole, half = batch.split((C, 3 * C, batch.shape[1] - 4 * C), 1)
        made = model(whole, F.pixel_unshuffle(half, 2)[:, : 4 * C + 7])
        return ((made - truth).square().mean((1, 2, 3)) + FINEST).log()

    def product(self, model: nn.Module, *, card: Any = None, device: str = "cpu") -> Balanced:
        """The trained network as what makes frames between two."""
        return Balanced(model.eval(), device, card=card)

    def suited(self, data: str | Path) -> "Interpolation":
        """The recipe for `data`: this one, frames are cut to its size."""
        return self

    def about(self, source: Any) -> dict[str, Any]:
        """What must be known of the data to use the model: nothing, pixels are pixels."""
        return {}

    def sheet(self, product: Balanced, source: Any) -> Image.Image:
        """Held-out triplets: the truth, and what tiers make of their neighbours."""
        triplets = [source.triplet(seed) for seed in range(8)]
        tiers: dict[str, Between] = {"fast": Fast(), "balanced": product}
        rows = [("truth", np.stack([triplet.frames[1] for triplet in triplets]))]
        for name, tier in tiers.items():
            made = [tier(tensor(triplet.frames)[::2], [triplet.time], Rng([0]))[0, 0] for triplet in triplets]
            rows.append((name, levels(torch.stack(made))))
        return contact_sheet(rows)


def _example(source: Any, seed: int) -> Tensor:
    triplet = source.triplet(seed)
    first, truth, last = triplet.frames.astype(np.float32) / 127.5 - 1
    motion = Motion.between(first, last)
    whole, half = map(torch.from_numpy, seen(motion, motion.guesses(triplet.time), triplet.time))
    blocks = F.pixel_shuffle(F.pad(half, (0, 0, 0, 0, 0, -len(half) % 4)), 2)
    return torch.cat([torch.from_numpy(truth).movedim(-1, 0), whole, blocks])


FULL = Interpolation()
# name -> (recipe, data, the paper's score)
PRESETS: dict[str, tuple[Interpolation, str, str | None]] = {
    "balanced": (FULL, "clips, Vimeo-90k, or photographs", None),
    "tiny": (
        replace(FULL, height=64, width=64, features=(16, 24, 32, 48), steps=300),
        "any clips", None,
    ),
}  # fmt: skip
