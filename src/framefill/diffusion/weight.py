"""Loss weights w(snr) for the loss w(snr) |x_hat - x|^2, as functions of the signal-to-noise ratio alpha^2 / sigma^2.

Because n_hat - n = -(alpha / sigma) (x_hat - x), every epsilon-, v- or x-loss is one of these weights on the x-loss:
the target decides what the network says, the weight decides what it is paid for.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from framefill.errors import BadInput

Weight = Callable[[Tensor], Tensor]


def constant(snr: Tensor) -> Tensor:
    """1: the plain loss on x."""
    return torch.ones_like(snr)


def snr(snr: Tensor) -> Tensor:
    """The ratio itself: the loss |n_hat - n|^2 on the noise (DDPM; thesis 001, eq. 7.2.4)."""
    return snr


def velocity(snr: Tensor) -> Tensor:
    """1 + snr: the loss on v of a variance-preserving schedule (Salimans and Ho 2022); `edm(1.0)`."""
    return 1 + snr


def edm(sigma_data: float) -> Weight:
    """snr + 1 / sigma_data^2: unit loss on EDM's residual (Karras et al. 2022, lambda of table 1)."""
    return lambda snr: snr + sigma_data**-2


def capped(weight: Weight, top: float) -> Weight:
    """`weight` as it is where the ratio is below `top`, and no more above: what is nearly clean matters no further."""
    return lambda snr: weight(snr.clamp(max=top))


def min_snr(gamma: float = 5.0) -> Weight:
    """min(snr, gamma): Hang et al. 2023, for the loss on x."""
    return lambda snr: snr.clamp(max=gamma)


def p2(power: float = 1.0, offset: float = 1.0) -> Weight:
    """snr / (offset + snr)^power: Choi et al. 2022, on top of the noise loss."""
    return lambda snr: snr / (offset + snr) ** power


def sech(snr: Tensor) -> Tensor:
    """sech(lambda / 2) on the noise loss, lambda = log snr: 2 snr^1.5 / (1 + snr) (Kingma and Gao 2023)."""
    return 2 * snr**1.5 / (1 + snr)


def truncated(snr: Tensor) -> Tensor:
    """max(snr, 1): the worse of the losses on x and on noise (Salimans and Ho 2022)."""
    return snr.clamp(min=1)


def debiased(snr: Tensor) -> Tensor:
    """sqrt(snr): 1 / sqrt(snr) on the noise loss (Yu et al. 2023)."""
    return snr.sqrt()


def sigmoid(bias: float = 0.0) -> Weight:
    """sigmoid(bias - log snr) on the noise loss: snr / (1 + exp(-bias) snr) (Kingma and Gao 2023; Hoogeboom 2024)."""
    return lambda snr: snr / (1 + math.exp(-bias) * snr)


def cosine_density(lambda_min: float = -20.0, lambda_max: float = 20.0) -> Callable[[Tensor], Tensor]:
    """p(lambda) of `schedule.cosine` under uniform times: sech(lambda / 2) / (4 (a_1 - a_0)), a the angles of its ends.

    The final form of seed 003 writes the angles as pi (t1 - t0); the integral over its range is 1 (facts, section 6).
    """
    span = math.atan(math.exp(-lambda_min / 2)) - math.atan(math.exp(-lambda_max / 2))
    return lambda log_ratio: 1 / torch.cosh(log_ratio / 2) / (4 * span)


def elbo(density: Callable[[Tensor], Tensor], importance: Callable[[Tensor], Tensor] = torch.ones_like) -> Weight:
    """importance(lambda) / (2 p(lambda)) on the noise loss: the weighted variational bound (seed 003, eq. 2.36).

    `density` is that of lambda = log snr under the times of training; importance 1 is the bound itself, in nats and
    up to its constant, and does not depend on the schedule any more. An importance that falls with the noise is a
    bound on augmented data (Kingma and Gao 2023).
    """
    return lambda snr: snr * importance(snr.log()) / (2 * density(snr.log()))


class Adaptive:
    """1 / (running mean of the loss at this noise level): every level counts the same (facts, section 3.1).

    A `Weight` with a memory of `buckets` equal intervals of log snr in [-reach, reach]; tell it each batch with
    `update`, whose losses are those of `inner`. A bucket that has seen nothing weighs 1.
    """

    def __init__(self, inner: Weight = snr, *, buckets: int = 300, reach: float = 10.0, decay: float = 0.99):
        if buckets < 1 or not reach > 0 or not 0 <= decay < 1:
            raise BadInput(
                f"an adaptive weight needs buckets >= 1, reach > 0 and decay in [0, 1), got {buckets}, {reach}, {decay}"
            )
        self.inner, self.reach, self.decay = inner, reach, decay
        self.means = torch.ones(buckets, dtype=torch.float64)

    def _place(self, snr: Tensor) -> Tensor:
        share = (snr.detach().double().log().cpu() / self.reach + 1) / 2
        return (share * len(self.means)).floor().clamp(0, len(self.means) - 1).long()

    def __call__(self, snr: Tensor) -> Tensor:
        """The weight, without a gradient."""
        return self.inner(snr) / self.means[self._place(snr)].clamp(min=1e-8).to(snr)

    def update(self, snr: Tensor, losses: Tensor) -> None:
        """Move the means of the buckets of snr (B,) towards losses (B,), already times `inner` but not this weight."""
        for place, loss in zip(self._place(snr).tolist(), losses.detach().double().tolist(), strict=True):
            if math.isfinite(loss):
                self.means[place] = self.decay * self.means[place] + (1 - self.decay) * loss
