"""The masked prior: all tokens at once, of which the best are kept, again and again (MaskGit, Phenaki).

Training hides a share cos(pi u / 2) of the tokens, u uniform, and learns them from the others. Sampling starts with all
hidden; after step k of S, round(N cos(pi k / 2 S)) are hidden again.

Paper: Phenaki's program draws u from the S values it samples with; here any, so that the number of steps can be chosen
later. It hides the least confident and never uses a critic's labels rightly (facts, section 1.3): here a critic learns
which tokens of what it is shown differ from the true ones, so what was not hidden counts as true.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.latents.priors.choice import PLAIN, Choice
from framefill.latents.priors.orders import Confidence, Draft, Judged, Order
from framefill.latents.priors.prior import UNDECIDED, TokenPrior, guided, likely, widened
from framefill.nets.tokens import Grid, MaskedTokens

STEPS = 18


def schedule(total: int, steps: int) -> list[int]:
    """How many of `total` tokens are hidden after each of `steps` steps, fewer each time, 0 at last."""
    if steps < 1:
        raise BadInput(f"sampling takes at least 1 step, got {steps}")
    steps, counts = min(steps, total), [total]
    for k in range(1, steps + 1):
        wanted = round(total * math.cos(math.pi * k / (2 * steps)))
        counts.append(min(max(wanted, steps - k), counts[-1] - 1))
    return counts[1:]


class Masked(TokenPrior):
    """A prior around `MaskedTokens`."""

    network: MaskedTokens

    def loss(self, tokens: Tensor, labels: Tensor | None, rng: Rng) -> Tensor:
        """As in `TokenPrior`; the mean is over the hidden tokens."""
        self.checked(tokens)
        names = self.shown(labels, tokens, rng)
        hidden = self.hidden(tokens, rng)
        return self._missed(self.network(self._covered(tokens, hidden), names), tokens, hidden)

    def hidden(self, tokens: Tensor, rng: Rng) -> Tensor:
        """Which tokens training hides, bool (B, N): at least one."""
        total = tokens[0].numel()
        share = (rng.uniform() * (math.pi / 2)).cos()
        count = (share * total).round().clamp(min=1)
        return (rng.uniform((total,)).argsort(1).argsort(1) < count[:, None]).to(tokens.device)

    def logits(self, tokens: Tensor, names: Tensor, guidance: float) -> Tensor:
        """(B, N, vocabulary) for tokens (B, T, H, W) of which some are hidden, guided."""
        if guidance == 1:
            return widened(self.network(tokens, names))
        none = torch.full_like(names, self.classes)
        both = widened(self.network(torch.cat([tokens, tokens]), torch.cat([names, none])))
        return guided(both, guidance)

    def sample(
        self,
        shape: Grid,
        labels: Tensor | None,
        rng: Rng,
        *,
        choice: Choice = PLAIN,
        guidance: float = 1.0,
        steps: int = STEPS,
        order: Order | None = None,
        start: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """As in `TokenPrior`, step after step; by default the most confident tokens are kept."""
        names, order = self.asked(shape, labels, rng, guidance), order or self.order()
        tokens = torch.full((len(rng), math.prod(shape)), self.network.mask, device=names.device)
        known = 0 if start is None else self.begun(tokens, start)
        counts = schedule(math.prod(shape) - known, steps)
        for k, count in enumerate(counts, 1):
            open_ = tokens == self.network.mask
            with torch.no_grad():
                logits = self.logits(tokens.unflatten(1, shape), names, guidance)
                tokens = torch.where(open_, choice.draw(logits, rng), tokens)
                if count:
                    scores = order(Draft(tokens, likely(logits, tokens), names, shape, 1 - k / len(counts)), rng)
                    worst = scores.masked_fill(~open_, math.inf).topk(count, largest=False).indices
                    tokens = tokens.scatter(1, worst, self.network.mask)
            yield tokens.masked_fill(tokens == self.network.mask, UNDECIDED).unflatten(1, shape)

    def order(self) -> Order:
        """What sampling keeps unless told otherwise."""
        return Confidence()

    def _covered(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        return tokens.masked_fill(hidden.view(tokens.shape), self.network.mask)

    def _missed(self, logits: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
        return -(likely(logits, tokens) * hidden).sum(1) / hidden.sum(1)


class Criticised(Masked):
    """A masked prior and a `critic` that learns beside it which tokens are not the true ones (Lezama et al. 2022).

    The critic is a network like the prior's with one output. It sees samples of the prior, which learns nothing from
    it; sampling then keeps what the critic doubts least. Its loss, in nats per token, is added.
    """

    def __init__(self, network: MaskedTokens, critic: nn.Module, *, withheld: float = 0.1):
        super().__init__(network, withheld=withheld)
        self.critic = critic

    def loss(self, tokens: Tensor, labels: Tensor | None, rng: Rng) -> Tensor:
        """As in `TokenPrior`, for both."""
        self.checked(tokens)
        names = self.shown(labels, tokens, rng)
        hidden = self.hidden(tokens, rng)
        logits = self.network(self._covered(tokens, hidden), names)
        drawn = PLAIN.draw(logits.detach(), rng).view(tokens.shape)
        shown = torch.where(hidden.view(tokens.shape), drawn, tokens)
        doubt = widened(self.critic(shown, names))[..., 0]
        wrong = (shown != tokens).flatten(1).to(doubt.dtype)
        judged = F.binary_cross_entropy_with_logits(doubt, wrong, reduction="none").mean(1)
        return self._missed(logits, tokens, hidden) + judged

    def order(self) -> Order:
        """The critic's."""
        return Judged(self.critic)
