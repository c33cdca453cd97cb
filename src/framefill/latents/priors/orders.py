"""Which of the tokens drawn in a step a masked prior keeps.

Every step draws all tokens that are still open, keeps those with the highest scores, and opens the others again. Scores
that do not look at what was drawn (`Halton`, `Scattered`) keep the distribution as it is; confidence and critics favour
what is likely, and so trade variety for quality.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.nets.tokens import Grid

TINY = 1e-20
MOST_TURNS = 64  # Halton points per place of the grid, before the rest follow in raster order


@dataclass(frozen=True)
class Draft:
    """`tokens` (B, N), all drawn; their `log_probabilities` (B, N); `labels` (B,) of the network; the grid's `shape`.

    `left` is the share of steps that are still to come.
    """

    tokens: Tensor
    log_probabilities: Tensor
    labels: Tensor
    shape: Grid
    left: float


class Order(ABC):
    """Scores (B, N) of the tokens of a draft; the highest are kept."""

    @abstractmethod
    def __call__(self, draft: Draft, rng: Rng) -> Tensor:
        """The scores."""


@dataclass(frozen=True)
class Confidence(Order):
    """The likeliest first (MaskGit), with Gumbel noise of size `noise` that fades as steps are left; Phenaki has 0."""

    noise: float = 4.5

    def __post_init__(self) -> None:
        _not_negative(self.noise)

    def __call__(self, draft: Draft, rng: Rng) -> Tensor:
        """As in `Order`."""
        drawn = rng.uniform(draft.tokens.shape[1:], draft.tokens)
        gumbel = -(-(drawn + TINY).log() + TINY).log()
        return draft.log_probabilities + self.noise * draft.left * gumbel


@dataclass(frozen=True)
class Scattered(Order):
    """Any first."""

    def __call__(self, draft: Draft, rng: Rng) -> Tensor:
        """As in `Order`."""
        return rng.uniform(draft.tokens.shape[1:], draft.tokens)


@dataclass(frozen=True)
class Halton(Order):
    """Far apart first: along the points of a Halton sequence (Besnier et al. 2025; theirs has no time)."""

    def __call__(self, draft: Draft, rng: Rng) -> Tensor:
        """As in `Order`."""
        rank = halton(draft.shape).argsort().to(draft.tokens.device)
        return -rank.expand(len(draft.tokens), -1).double()


@dataclass(frozen=True)
class Judged(Order):
    """What a `critic` doubts least first (Lezama et al. 2022), with uniform noise of size `noise` that fades.

    `critic` maps tokens (B, T, H, W) and labels (B,) to logits (B, N, 1) that a token is not the true one.
    """

    critic: nn.Module
    noise: float = 1.0

    def __post_init__(self) -> None:
        _not_negative(self.noise)

    def __call__(self, draft: Draft, rng: Rng) -> Tensor:
        """As in `Order`."""
        doubt = self.critic(draft.tokens.unflatten(1, draft.shape), draft.labels)[..., 0].sigmoid()
        jitter = rng.uniform(draft.tokens.shape[1:], draft.tokens) - 0.5
        return self.noise * draft.left * jitter - doubt


@lru_cache(maxsize=32)
def halton(shape: Grid) -> Tensor:
    """The places of a grid (T, H, W) by their raster number, (T H W,), in the order a Halton sequence meets them.

    Its bases are 5, 3 and 2. The one axis of length 1 that an image has in time takes no part.
    """
    total = math.prod(shape)
    n = torch.arange(1, MOST_TURNS * total + 1)
    place = torch.zeros_like(n)
    for side, base in zip(shape, (5, 3, 2), strict=True):
        place = place * side + (_inverted(n, base) * side).long().clamp(max=side - 1)
    seen, first = torch.unique(torch.cat([place, torch.arange(total)]), return_inverse=True)
    at = torch.full((len(seen),), len(place) + total).scatter_reduce_(0, first, torch.arange(len(first)), "amin")
    return at.argsort()


def _inverted(n: Tensor, base: int) -> Tensor:
    """The digits of n behind the point, in reverse: in [0, 1), float64."""
    value, scale = torch.zeros(len(n), dtype=torch.float64), 1.0
    while bool((n > 0).any()):
        scale /= base
        value += scale * (n % base)
        n = n // base
    return value


def _not_negative(noise: float) -> None:
    if not 0 <= noise < math.inf:
        raise BadInput(f"the noise of an order must not be negative, got {noise}")
