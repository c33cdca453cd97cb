"""The autoregressive prior: token after token, each given those before it, in raster order (VideoGPT, ImageGPT).

      log p(z) = sum_n log p(z_n | z_1..z_{n-1})

The likelihood is exact, and its mean per token is the loss. Sampling keeps the keys and values of what is there, so a
token costs one pass over one position.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.latents.priors.choice import PLAIN, Choice
from framefill.latents.priors.prior import UNDECIDED, TokenPrior, guided, likely
from framefill.nets.tokens import CausalTokens, Grid


class Autoregressive(TokenPrior):
    """A prior around `CausalTokens`."""

    network: CausalTokens

    def log_likelihood(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(tokens | labels) in nats, exactly: (B,) for tokens (B, T, H, W), the whole grid or its first times."""
        self.checked(tokens)
        return likely(self.network(tokens, self.named(labels, len(tokens), tokens)), tokens).sum(1)

    def loss(self, tokens: Tensor, labels: Tensor | None, rng: Rng) -> Tensor:
        """As in `TokenPrior`."""
        self.checked(tokens)
        return -likely(self.network(tokens, self.shown(labels, tokens, rng)), tokens).mean(1)

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
        """As in `TokenPrior`, row after row."""
        names, both = self.asked(shape, labels, rng, guidance), guidance != 1
        count, total = len(rng), shape[0] * shape[1] * shape[2]
        names = torch.cat([names, torch.full_like(names, self.classes)]) if both else names
        tokens = torch.full((count, total), UNDECIDED, device=names.device)
        known = 0 if start is None else self.begun(tokens, start)
        memories, last = self.network.memories(shape), None
        for n in range(total):
            with torch.no_grad():
                logits = self.network.following(last, names, shape, n, memories)
            if n >= known:
                tokens[:, n] = choice.draw(guided(logits, guidance) if both else logits, rng)
            last = tokens[:, n].repeat(2) if both else tokens[:, n]
            if (n + 1) % shape[2] == 0:
                yield tokens.view(count, *shape).clone()
