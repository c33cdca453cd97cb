"""Fixed invertible maps before a flow: what the data needs so that a smooth field can carry it to white noise."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from framefill.errors import BadInput


class Map(nn.Module, ABC):
    """x -> y, element by element."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, ...) and log |det dy/dx| in nats (B,)."""

    @abstractmethod
    def inverse(self, y: Tensor) -> Tensor:
        """x from y."""


class Identity(Map):
    """y = x."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x, and 0."""
        return x, x.new_zeros(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        """y."""
        return y


class Affine(Map):
    """y = (x - mean) / deviation, with numbers or tensors that broadcast against one sample."""

    def __init__(self, mean: Tensor | float, deviation: Tensor | float):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean))
        self.register_buffer("deviation", torch.as_tensor(deviation))
        if not bool((self.get_buffer("deviation") > 0).all()):
            raise BadInput("an affine map needs positive deviations; a constant element has no density: drop it")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(x - mean) / deviation."""
        deviation = self.get_buffer("deviation").to(x)
        each = deviation.log().expand(x.shape[1:]).sum()
        return (x - self.get_buffer("mean").to(x)) / deviation, -each.expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        """mean + deviation y."""
        return y * self.get_buffer("deviation").to(y) + self.get_buffer("mean").to(y)


class Logit(Map):
    """y = logit(margin + (1 - 2 margin) u), u = (x - low) / (high - low): values in [low, high] become real numbers.

    margin is 0.05 in the published program, 1e-6 for MNIST (facts, section 2.2). Dequantised pixels reach half a bin
    beyond the pixel values: include it in low and high.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, margin: float = 0.05):
        super().__init__()
        if not (low < high and 0 < margin < 0.5):
            raise BadInput(f"a logit needs low < high and a margin in (0, 0.5), got {low}, {high} and {margin}")
        self.low, self.high, self.margin = low, high, margin

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logit of the squeezed x; BadInput outside of (low, high) by more than the margin allows."""
        slope = (1 - 2 * self.margin) / (self.high - self.low)
        p = self.margin + slope * (x - self.low)
        if not bool(((p > 0) & (p < 1)).all()):
            raise BadInput(
                f"values from {float(x.min()):.6g} to {float(x.max()):.6g} are outside of the "
                f"[{self.low:.6g}, {self.high:.6g}] of this flow; rescale them"
            )
        each = math.log(slope) - p.log() - (-p).log1p()
        return p.logit(), each.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """Squeezed back."""
        return self.low + (y.sigmoid() - self.margin) * (self.high - self.low) / (1 - 2 * self.margin)
