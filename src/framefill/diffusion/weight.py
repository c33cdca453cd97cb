"""Loss weights w(snr) for the loss w(snr) |x_hat - x|^2, as functions of the signal-to-noise ratio alpha^2 / sigma^2.

Because n_hat - n = -(alpha / sigma) (x_hat - x), every epsilon-, v- or x-loss is one of these weights on the x-loss:
the target decides what the network says, the weight decides what it is paid for.
"""

from collections.abc import Callable

import torch
from torch import Tensor

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
