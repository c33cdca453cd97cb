"""How far a reconstruction is from its picture: differentiable, one number per picture.

A distance takes pictures (B, C, H, W) in [-1, 1], made first, to (B,). Perceptual ones come from outside (features/),
as functions: an autoencoder neither owns such a network nor trains it.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]


def absolute(made: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error."""
    return (made - truth).abs().mean((1, 2, 3))


def squared(made: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error."""
    return (made - truth).square().mean((1, 2, 3))


def means(made: Tensor, truth: Tensor, *, side: int = 16) -> Tensor:
    """Mean absolute error of the mean colours of squares of `side` pixels, or of the picture where it is smaller.

    What a tint is made of: the other distances forgive many small errors of one sign, this one adds them up.
    """
    return F.avg_pool2d(made - truth, min(side, *made.shape[2:])).abs().mean((1, 2, 3))


def weighted(*terms: tuple[float, Distance]) -> Distance:
    """The sum of distances, each times its weight."""

    def total(made: Tensor, truth: Tensor) -> Tensor:
        first, *rest = (weight * distance(made, truth) for weight, distance in terms)
        return sum(rest, first)

    return total


def tint(made: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of the local means: colours of areas of 16x16 pixels, whatever their texture."""
    return F.avg_pool2d(made - truth, 16, ceil_mode=True).abs().mean((1, 2, 3))
