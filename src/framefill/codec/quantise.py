"""Latents to whole numbers and back, under one contract: uniform steps, FSQ, LFQ, or a codebook.

      symbols = q(z) in Z,      values = d(symbols)

Symbols are what is coded; values are what the decoder sees, a function of symbols and stored numbers by single IEEE
operations, the same on every machine. In training both carry gradients straight through the rounding, which is half to
even everywhere. Paper: seed 002 leaves the latents of its codec in float16; the 1536:1 route quantises them with VQ.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.codec.tables import LARGEST
from framefill.errors import BadInput
from framefill.latents.lattice import Scale
from framefill.latents.quantiser import Quantiser
from framefill.nets.exact import straight

SMALLEST_STEP = 2.0**-14


@dataclass(frozen=True)
class Rounded:
    """`values` (B, C, h, w) and `symbols` (B, S, h, w), whole numbers in floats, with gradients; `penalty` (B,)."""

    values: Tensor
    symbols: Tensor
    penalty: Tensor


class LatentQuantiser(nn.Module, ABC):
    """Latents of `channels` C to symbols of `symbol_channels` S."""

    def __init__(self, channels: int, symbol_channels: int):
        super().__init__()
        if channels < 1:
            raise BadInput(f"latents have 1 channel or more, got {channels}")
        self.channels, self.symbol_channels = channels, symbol_channels

    @abstractmethod
    def forward(self, z: Tensor, rng: Rng | None = None) -> Rounded:
        """What training sees of latents z (B, C, h, w); `rng` for kinds that draw noise."""

    @abstractmethod
    def values(self, symbols: Tensor) -> Tensor:
        """The float32 values (B, C, h, w) of symbols (B, S, h, w), any integer type. BadInput for other shapes."""

    @torch.no_grad()
    def symbols(self, z: Tensor) -> Tensor:
        """The symbols (B, S, h, w) int64 of latents z. BadInput for latents that are not numbers or out of range."""
        if not bool(z.isfinite().all()):
            raise BadInput("latents have NaN or infinite values; they cannot be coded")
        mode = self.training
        found = self.eval()(z).symbols
        self.train(mode)
        if bool((found.abs() > LARGEST).any()):
            raise BadInput(f"latents reach {float(found.abs().max()):.3g} steps; the format takes {LARGEST}")
        return found.long()

    def _suited(self, x: Tensor, channels: int) -> Tensor:
        if x.ndim != 4 or x.shape[1] != channels:
            raise BadInput(f"shape {tuple(x.shape)} where (B, {channels}, h, w) is needed")
        return x

    def _latents(self, z: Tensor) -> Tensor:
        return self._suited(z, self.channels).to(torch.promote_types(z.dtype, torch.float32))


class Uniform(LatentQuantiser):
    """z / step rounded, times step; one learned step per channel. No range: outliers escape in the coder.

    With `noisy`, training gives values z + step u, u uniform in +-1/2, as Balle et al. (2017), and rounded symbols
    (Minnen and Singh 2020 do the reverse); it needs `rng`. Otherwise values are rounded in training too.
    """

    def __init__(self, channels: int, *, step: float = 1.0, noisy: bool = False):
        super().__init__(channels, channels)
        if not step >= SMALLEST_STEP:
            raise BadInput(f"a step is at least {SMALLEST_STEP:g}, got {step}")
        self.step = nn.Parameter(torch.full((channels,), float(step)))
        self.noisy = noisy

    def forward(self, z: Tensor, rng: Rng | None = None) -> Rounded:
        """No penalty. BadInput for noise without `rng`."""
        z = self._latents(z)
        step = self._steps()
        scaled = z / step
        symbols = straight(scaled.round(), scaled)
        values = symbols * step
        if self.noisy and self.training:
            if rng is None:
                raise BadInput("training with noise needs the argument rng")
            values = z + (rng.uniform(z.shape[1:], z) - 0.5) * step
        return Rounded(values, symbols, z.new_zeros(len(z)))

    def values(self, symbols: Tensor) -> Tensor:
        """symbols times step: one float32 multiplication each."""
        return self._suited(symbols, self.channels).to(torch.float32) * self._steps().detach()

    def _steps(self) -> Tensor:
        return self.step.clamp(min=SMALLEST_STEP)[:, None, None]


class FiniteScalar(LatentQuantiser):
    """FSQ (Mentzer et al. 2023): channel c is squashed by tanh and rounded to `levels[c]` values in [-1, 1]."""

    def __init__(self, levels: Sequence[int]):
        super().__init__(len(levels), len(levels))
        if min(levels) < 2 or max(levels) > 255:
            raise BadInput(f"levels are 2 to 255, got {tuple(levels)}")
        self.scale = Scale(tuple(levels))

    def forward(self, z: Tensor, rng: Rng | None = None) -> Rounded:
        """No penalty: a bounded grid needs none."""
        bounded = self.scale.bounded(self._latents(z))
        symbols = straight(bounded.round(), bounded)
        return Rounded(symbols / self.scale.halves(z), symbols, bounded.new_zeros(len(z)))

    def values(self, symbols: Tensor) -> Tensor:
        """symbols / (levels div 2): one float32 division each. Symbols outside the grid are brought to its edge."""
        kept = self.scale.nearest(self._suited(symbols, self.channels))
        return kept.to(torch.float32) / self.scale.halves(kept)


class LookupFree(LatentQuantiser):
    """LFQ (Yu et al. 2023): the sign of every channel; symbols 0 and 1 stand for -1 and 1.

    The penalty is `commitment` |z - sign z|^2 plus `diversity` (mean entropy of a sample's bits less entropy of their
    mean), with p(1) = sigmoid(4 z `sharpness`). Each bit counts by itself, so there may be any number of them; the
    penalty of `latents.lattice`, over all codes at once, needs them to be few.
    """

    def __init__(self, channels: int, *, commitment: float = 0.25, diversity: float = 0.1, sharpness: float = 1.0):
        super().__init__(channels, channels)
        self.commitment, self.diversity, self.sharpness = commitment, diversity, sharpness

    def forward(self, z: Tensor, rng: Rng | None = None) -> Rounded:
        """With the penalty."""
        z = self._latents(z)
        signs = torch.where(z > 0, 1.0, -1.0)
        values = straight(signs, z)
        chance = torch.sigmoid(4 * self.sharpness * z)
        apart = (z - signs).square().mean((1, 2, 3))
        entropies = _binary(chance).mean((1, 2, 3)) - _binary(chance.mean((0, 2, 3))).mean()
        return Rounded(values, (values + 1) / 2, self.commitment * apart + self.diversity * entropies)

    def values(self, symbols: Tensor) -> Tensor:
        """1 for positive symbols, -1 for others."""
        return torch.where(self._suited(symbols, self.channels) > 0, 1.0, -1.0)


class Codebook(LatentQuantiser):
    """VQ: the index of the nearest code, one symbol per position; codes and their upkeep as in `latents.quantiser`."""

    def __init__(self, book: Quantiser):
        super().__init__(book.codebook.shape[1], 1)
        self.book = book

    def forward(self, z: Tensor, rng: Rng | None = None) -> Rounded:
        """The codebook's penalty; symbols have no gradient."""
        found = self.book(self._latents(z))
        return Rounded(found.codes, found.indices[:, None].to(found.codes.dtype), found.penalty)

    def values(self, symbols: Tensor) -> Tensor:
        """The codes. Symbols that name none are brought to the nearest index."""
        kept = self._suited(symbols, 1)[:, 0].long().clamp(0, self.book.size - 1)
        return self.book.codes(kept).to(torch.float32)


def _binary(p: Tensor) -> Tensor:
    """Entropy of a bit in bits."""
    return (torch.special.entr(p) + torch.special.entr(1 - p)) / math.log(2)
