"""A prior over the tokens of a frozen tokenizer, as one model: they are learnt one after the other and travel together.

loss = -log p(tokens(x) | label) per token          sample = clips(tokens ~ p)
"""

from collections import deque

import torch
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.latents.priors.choice import PLAIN, Choice
from framefill.latents.priors.masked import STEPS, Masked
from framefill.latents.priors.orders import Order
from framefill.latents.priors.prior import TokenPrior
from framefill.latents.tokenizer import Tokenizer
from framefill.nets.tokens import Grid


class Spoken(nn.Module):
    """`tokenizer`, frozen, and `prior`; BadInput unless they have the same vocabulary."""

    def __init__(self, tokenizer: Tokenizer, prior: TokenPrior):
        super().__init__()
        if tokenizer.vocabulary != prior.vocabulary:
            raise BadInput(
                f"a tokenizer of {tokenizer.vocabulary} codes and a prior of {prior.vocabulary}; they do not belong "
                "together"
            )
        self.tokenizer, self.prior = tokenizer.requires_grad_(False), prior

    def loss(self, clips: Tensor, labels: Tensor | None, rng: Rng) -> Tensor:
        """Nats per predicted token of clips (B, T, C, H, W) with labels (B,) or none, per clip (B,)."""
        with torch.no_grad():
            tokens = self.tokenizer.tokens(clips)
        return self.prior.loss(tokens, labels, rng)

    def sample(
        self,
        grid: Grid,
        labels: Tensor | None,
        rng: Rng,
        *,
        choice: Choice = PLAIN,
        guidance: float = 1.0,
        steps: int = STEPS,
        order: Order | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Tokens (B, *grid), as `TokenPrior.sample` says; a masked prior takes `steps` steps and keeps by `order`.

        BadInput for an order of a prior that is not masked.
        """
        prior = self.prior
        if isinstance(prior, Masked):
            drawing = prior.sample(
                grid, labels, rng, choice=choice, guidance=guidance, steps=steps, order=order, start=start
            )
        elif order is not None:
            raise BadInput("an autoregressive prior draws token after token, in no other order; leave the order away")
        else:
            drawing = prior.sample(grid, labels, rng, choice=choice, guidance=guidance, start=start)
        return deque(drawing, maxlen=1).pop()
