"""The contract of token priors: a loss that teaches p(tokens | label), and samples of it.

Tokens are whole numbers 0..vocabulary-1 on a grid (time, rows, columns): what a tokenizer makes of a clip. A label is
one of `classes`, and during training it is withheld from a share of the samples: so one network learns both what a
class looks like and what all look like, and guidance may leave the second behind (Ho & Salimans 2022):

      logits = none + guidance (label - none)          guidance 1: the class; 0: all; above 1: more of the class
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.latents.priors.choice import PLAIN, Choice
from framefill.nets.tokens import Grid

UNDECIDED = -1


class TokenPrior(nn.Module, ABC):
    """What `Autoregressive` and `Masked` share; `network` has `vocabulary`, `grid` and `classes`.

    `withheld` is the share of labels that training does not show.
    """

    def __init__(self, network: Any, *, withheld: float = 0.1):
        super().__init__()
        if not 0 <= withheld < 1:
            raise BadInput(f"the share of withheld labels is in [0, 1), got {withheld}")
        self.network, self.withheld = network, withheld

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return self.network.vocabulary

    @property
    def grid(self) -> Grid:
        """The largest grid (time, rows, columns)."""
        return self.network.grid

    @property
    def classes(self) -> int:
        """How many labels there are; 0: clips have none."""
        return self.network.classes

    @abstractmethod
    def loss(self, tokens: Tensor, labels: Tensor | None, rng: Rng) -> Tensor:
        """For tokens (B, T, H, W) and labels (B,): nats per predicted token, (B,). BadInput for others."""

    @abstractmethod
    def sample(
        self,
        shape: Grid,
        labels: Tensor | None,
        rng: Rng,
        *,
        choice: Choice = PLAIN,
        guidance: float = 1.0,
        start: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Tokens (B, *shape) as they come into being, UNDECIDED where they are not yet; the last are complete.

        One sample per stream of `rng`; `shape` is the grid, or as many rows and columns and fewer times. `start` (B, n)
        are tokens that are known, the first n of the raster.
        """

    def begun(self, tokens: Tensor, start: Tensor) -> int:
        """Writes a `start` into `tokens` (B, N), which has more; its length. BadInput for what cannot be one."""
        known = start.shape[-1]
        if start.shape != (len(tokens), known) or known >= tokens.shape[1] or start.is_floating_point():
            raise BadInput(f"a start is whole numbers ({len(tokens)}, less than {tokens.shape[1]}), got {start.shape}")
        if known and not 0 <= int(start.min()) <= int(start.max()) < self.vocabulary:
            raise BadInput(f"a start has tokens below {self.vocabulary}, got {int(start.min())} to {int(start.max())}")
        tokens[:, :known] = start
        return known

    def checked(self, tokens: Tensor) -> None:
        """BadInput unless `tokens` are such that this prior may learn them."""
        if tokens.ndim != 4 or 0 in tokens.shape or tokens.is_floating_point():
            raise BadInput(f"tokens are whole numbers (B, T, H, W), got {tokens.dtype} of shape {tuple(tokens.shape)}")
        self.fits(tuple(tokens.shape[1:]))
        if not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocabulary:
            raise BadInput(
                f"tokens from {int(tokens.min())} to {int(tokens.max())} for a vocabulary of {self.vocabulary}; the "
                f"tokenizer and the prior do not belong together"
            )

    def fits(self, shape: tuple[int, ...]) -> None:
        """BadInput for a grid that this prior does not know."""
        if len(shape) != 3 or tuple(shape[1:]) != tuple(self.grid[1:]) or not 1 <= shape[0] <= self.grid[0]:
            raise BadInput(f"a grid of tokens {tuple(shape)} for a prior of {self.grid}; only time may be shorter")

    def named(self, labels: Tensor | None, count: int, like: Tensor) -> Tensor:
        """Labels (B,) as the network takes them, on the device of `like`; none are `classes`. BadInput for others."""
        if labels is None:
            return torch.full((count,), self.classes, device=like.device)
        whole = labels.ndim == 1 and not labels.is_floating_point()
        if not whole or len(labels) != count or not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise BadInput(
                f"labels are {count} whole numbers below {self.classes}, got {labels.dtype} of shape "
                f"{tuple(labels.shape)}"
            )
        return labels.to(like.device)

    def shown(self, labels: Tensor | None, tokens: Tensor, rng: Rng) -> Tensor:
        """The labels that training shows: in training some are withheld."""
        given = self.named(labels, len(tokens), tokens)
        if not (self.training and self.classes and self.withheld):
            return given
        return torch.where(rng.uniform((), tokens) < self.withheld, self.classes, given)

    def asked(self, shape: Grid, labels: Tensor | None, rng: Rng, guidance: float) -> Tensor:
        """Labels (B,) as the network takes them, for samples; BadInput for what cannot be sampled."""
        self.fits(shape)
        if not math.isfinite(guidance) or (labels is None and guidance != 1):
            raise BadInput(f"guidance of {guidance} without labels, or not finite; give labels, or guidance 1")
        return self.named(labels, len(rng), next(self.network.parameters()))


def guided(both: Tensor, guidance: float) -> Tensor:
    """none + guidance (label - none), for logits (2 B, ...) of which the first half was told the labels."""
    label, none = both.chunk(2)
    return torch.lerp(none, label, guidance)


def widened(logits: Tensor) -> Tensor:
    """Logits in 32 bits at least: 16 are too few for the logarithms of small probabilities."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def likely(logits: Tensor, tokens: Tensor) -> Tensor:
    """The log-probabilities (B, N) that logits (B, N, vocabulary) give to tokens (B, ...)."""
    return widened(logits).log_softmax(2).gather(2, tokens.flatten(1)[..., None])[..., 0]
