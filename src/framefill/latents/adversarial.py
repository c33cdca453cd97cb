"""An autoencoder and its discriminator, trained by one optimiser in one step.

      autoencoder:    distance + penalty - weight * balance * D(made)          D's parameters detached
      discriminator:  (relu(1 - D(x)) + relu(1 + D(sg(made)))) / 2             the picture detached

      balance = |grad distance| / |grad D(made)|, both with respect to the last layer of the decoder

Adam treats every parameter by itself, so one Adam on the sum of two losses that share no gradient is two Adams. The
detaching is what keeps them apart: without it the generator is paid for being found out as well (facts, section 5).
Paper: VQGAN updates the discriminator on pictures of the updated autoencoder; here both see the same ones.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.latents.distance import Distance
from framefill.latents.together import add_up

KILO = 1024  # steps are counted in these, so that 16-bit floats can hold them
LARGEST = 1e4
SMALL = 1e-6


class Reconstructing(Protocol):
    """What the adversary asks of an autoencoder, of pictures or of clips."""

    def reconstruct(self, x: Tensor, rng: Rng) -> tuple[Tensor, Tensor]: ...  # noqa: D102

    def last_layer(self) -> Tensor: ...  # noqa: D102

    def notes(self) -> dict[str, float]: ...  # noqa: D102


def adaptive_weight(error: Tensor, doubt: Tensor, layer: Tensor) -> Tensor:
    """|d error / d layer| / |d doubt / d layer| for two sums over a batch, at most 1e4 (Esser et al. 2021, eq. 7).

    Both must depend on `layer`: torch refuses one that the pictures did not pass through.
    """
    gradients = [torch.autograd.grad(part, layer, retain_graph=True)[0].float() for part in (error, doubt)]
    for gradient in gradients:
        add_up(gradient)
    return (gradients[0].norm() / (gradients[1].norm() + SMALL)).clamp(max=LARGEST)


class Adversarial(nn.Module):
    """`autoencoder` and the `discriminator` that judges its pictures from the training step `start` on.

    The step is a parameter without gradient, so that a continued training goes on counting.
    """

    def __init__(self, autoencoder: Reconstructing, discriminator: nn.Module, *, weight: float = 0.75, start: int = 0):
        super().__init__()
        if weight < 0 or start < 0:
            raise BadInput(f"the adversary's weight {weight} and start {start} must not be negative")
        self.autoencoder, self.discriminator = autoencoder, discriminator
        self.weight, self.start = weight, start
        self.kilosteps = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.register_buffer("seen", torch.zeros(3), persistent=False)
        self.seen: Tensor

    def loss(self, x: Tensor, rng: Rng, distance: Distance) -> Tensor:
        """The sum of both losses per picture (B,); outside training only the autoencoder's, without adversary."""
        made, penalty = self.autoencoder.reconstruct(x, rng)
        error = distance(made, x)
        if not (self.training and torch.is_grad_enabled()):
            return error + penalty
        with torch.no_grad():
            self.kilosteps.add_(1 / KILO)
        if self.kilosteps * KILO <= self.start:
            return error + penalty
        doubt = self.doubt(made)
        balance = adaptive_weight(error.sum(), doubt.sum(), self.autoencoder.last_layer())
        judged = self.judgement(x, made)
        self.seen.copy_(torch.stack([balance, doubt.mean(), judged.mean()]).detach())
        return error + penalty + self.weight * balance * doubt + judged

    def doubt(self, made: Tensor) -> Tensor:
        """How much the discriminator doubts pictures, (B,); without gradient to its parameters."""
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        return -functional_call(self.discriminator, fixed, (made,)).mean((1, 2, 3))

    def judgement(self, x: Tensor, made: Tensor) -> Tensor:
        """The discriminator's hinge loss on real and made pictures, (B,); without gradient to either."""
        real, fake = self.discriminator(x.detach()), self.discriminator(made.detach())
        return (F.relu(1 - real).mean((1, 2, 3)) + F.relu(1 + fake).mean((1, 2, 3))) / 2

    def notes(self) -> dict[str, float]:
        """The autoencoder's notes, and what the adversary did in the last batch."""
        balance, doubt, judgement = self.seen.tolist()
        own = {"adaptive_weight": balance, "doubt": doubt, "discriminator_loss": judgement}
        return self.autoencoder.notes() | own
