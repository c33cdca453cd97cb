"""A hierarchical autoencoder of binary digits, its states given by the heat equation or learned (paper 000, section 2).

The decoder, the number of levels and the training are the same in both; the network is that of Rissanen et al. 2022 for
digits. Paper: neither the blur's range, nor the prior, nor the learned encoder are said (facts, section 2.4). Here the
range is Rissanen's, and the encoder a second network of the decoder's size that tells mean and spread of every state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from framefill.arrays import Rng, derive
from framefill.errors import BadInput
from framefill.nets.ddpm import DDPMUNet
from framefill.nets.layers import check_sides
from framefill.recipes.pseudo import Pseudo
from framefill.video.clip import levels
from framefill.video.images.hierarchy import Heat, Hierarchy, HierarchyModel, Learned
from framefill.video.sheet import contact_sheet

INK = 8  # a key: which pixels are ink must not follow what chose the picture


@dataclass(frozen=True)
class Hierarchical(Pseudo):
    """Every hyperparameter; the defaults are Rissanen et al.'s for digits, with the paper's 18 levels.

    `learned` says where states come from. The heat goes from `least` to `most` pixels; `sigma` is the noise of its
    states, `spread` that of a step down, for levels in [-1, 1]. With `binary`, every pixel is black or white, drawn
    with its level as the chance of white (Salimans et al. 2015). With `classes`, that of a picture is told, but for a
    share `withheld` of the pictures; this is ours.
    """

    channels: int = 1
    flip: bool = False
    pseudo: str = "still"
    binary: bool = True
    learned: bool = False
    levels: int = 18
    least: float = 0.5
    most: float = 20.0
    sigma: float = 0.02
    spread: float = 0.025
    features: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 4
    attention: tuple[bool, ...] = (False, False, True)
    dropout: float = 0.1
    patch: int = 1
    withheld: float = 0.1
    batch_size: int = 128
    learning_rate: float = 2e-4
    warmup: int = 5000
    cooldown: float = 0.0
    ema: float = 0.999
    clip: float = 1.0
    steps: int = 1_300_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pseudo != "still":
            raise BadInput(f"a hierarchy makes its own states of pictures; leave pseudo=still, not {self.pseudo}")
        if self.levels < 1:
            raise BadInput(f"a hierarchy has at least 1 level, got {self.levels}; set levels=18 or another number")
        if not 0 <= self.withheld < 1:
            raise BadInput(f"the share of withheld classes is in [0, 1), got {self.withheld}")

    def network(self, answers: int, *, classes: int = 0) -> DDPMUNet:
        """The decoder, or the encoder, freshly initialised."""
        return DDPMUNet(
            self.channels, answers=answers, width=self.features, multipliers=self.multipliers, blocks=self.blocks,
            attention=self.attention, dropout=self.dropout, patch=self.patch, classes=classes,
        )  # fmt: skip

    def model(self) -> Hierarchy:
        """Decoder and states."""
        shape = self.channels, self.height, self.width
        states = (
            Learned(self.network(2 * self.channels), self.levels)
            if self.learned
            else Heat(
                self.levels, shape, least=self.least, most=self.most, sigma=self.sigma, classes=self.classes
            )
        )  # fmt: skip
        decoder = self.network(self.channels, classes=self.classes)
        check_sides(self.height, self.width, decoder.stride)
        return Hierarchy(decoder, states, self.levels, spread=self.spread)

    def clips(self, source: Any, seeds: Sequence[int]) -> Tensor:
        """Training pictures as clips of one frame, in ink where they are binary."""
        x = super().clips(source, seeds)
        if not self.binary:
            return x
        chance = Rng([derive(seed, INK) for seed in seeds]).uniform(x.shape[2:])[:, None]
        return torch.where(chance < (x + 1) / 2, 1.0, -1.0)

    def loss(self, model: Hierarchy, batch: Tensor, rng: Rng) -> Tensor:
        """The bound on -log p in nats per number, by one of its terms, per picture (B,)."""
        clips, labels = self.unpacked(batch)
        if labels is None:
            return model.loss(clips[:, 0], rng)
        hidden = rng.uniform((), clips) < self.withheld
        return model.loss(clips[:, 0], rng, torch.where(hidden, self.classes, labels))

    def product(self, model: Hierarchy, *, card: Any = None, device: str = "cpu") -> HierarchyModel:
        """The trained model with its verbs."""
        return HierarchyModel(
            model, self.channels, self.height, self.width, self.classes, device=device, card=card
        )  # fmt: skip

    def suited(self, data: str | Path) -> "Hierarchical":
        """The recipe for `data`: this one, pictures are cut to its size."""
        return self

    def sheet(self, product: HierarchyModel, source: Any) -> Image.Image:
        """Held-out pictures, drawn ones, and the states of one of them on the way down."""
        real = np.asarray(levels(self.clips(source, range(12))[:, 0]))
        made = next(product.films(12))
        return contact_sheet([("held out", real), ("from nothing", made[:, -1]), ("one of them", made[0])])


PAPER = Hierarchical()
# Ours: for one CPU core.
TINY = replace(
    PAPER, features=32, multipliers=(1, 2), blocks=1, attention=(False, True), dropout=0.0, patch=2, batch_size=16,
    learning_rate=1e-3, warmup=100, cooldown=0.4, ema=0.998, steps=2500,
)  # fmt: skip

# name -> (recipe, data, the paper's score: table 1, by a classifier that is not said)
PRESETS: dict[str, tuple[Hierarchical, str, str | None]] = {
    "heat": (PAPER, "digits, or MNIST as pictures", "IS 9.32"),
    "learned": (replace(PAPER, learned=True), "digits, or MNIST as pictures", "IS 7.27"),
    "tiny": (TINY, "digits", None),
    "tiny-learned": (replace(TINY, learned=True), "digits", None),
    "tiny-digits": (replace(TINY, classes=10), "digits, told which", None),
}
