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


def over_frames(distance: Distance) -> Distance:
    """The mean of a distance over all frames of clips (B, T, C, H, W)."""

    def mean(made: Tensor, truth: Tensor) -> Tensor:
        return distance(made.flatten(0, 1), truth.flatten(0, 1)).unflatten(0, made.shape[:2]).mean(1)

    return mean


def on_last_frame(distance: Distance) -> Distance:
    """A distance of the last frames of clips (B, T, C, H, W): of a pseudo-video, the image."""
    return lambda made, truth: distance(made[:, -1], truth[:, -1])
