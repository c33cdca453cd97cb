"""How a token is drawn from logits: temperature, then the k likeliest, then the least set of probability p."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput


@dataclass(frozen=True)
class Choice:
    """Draws of softmax(logits / temperature), from the `top_k` likeliest (0: all) that make up a share `top_p`.

    Temperature 0 takes the likeliest. The likeliest token always stays; of equals at the border all stay.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise BadInput(
                f"temperature {self.temperature} and top_k {self.top_k} must not be negative, top_p {self.top_p} in "
                f"(0, 1]"
            )

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of tokens with `logits` (..., V): (..., V) in float64, with sum 1."""
        scores = logits.double()
        if self.temperature == 0:
            best = scores == scores.amax(-1, keepdim=True)
            return best / best.sum(-1, keepdim=True)
        scores = scores / self.temperature
        if 0 < self.top_k < scores.shape[-1]:
            least = scores.topk(self.top_k).values[..., -1:]
            scores = scores.masked_fill(scores < least, -math.inf)
        shares = scores.softmax(-1)
        if self.top_p < 1:
            ordered = shares.sort(-1, descending=True).values
            before = ordered.cumsum(-1) - ordered  # what the likelier ones make up
            least = ordered.masked_fill(before >= self.top_p, 1.0).amin(-1, keepdim=True)
            shares = shares.masked_fill(shares < least, 0)
            shares = shares / shares.sum(-1, keepdim=True)
        return shares

    def draw(self, logits: Tensor, rng: Rng) -> Tensor:
        """Tokens (B, ...) from logits (B, ..., V), with one uniform number each."""
        steps = self.probabilities(logits).cumsum(-1)
        level = rng.uniform(logits.shape[1:-1], logits).double()[..., None] * steps[..., -1:]
        # the first token whose sum exceeds the level: never one of probability 0
        return torch.searchsorted(steps, level.contiguous(), right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)


PLAIN = Choice()
