"""Fixed invertible maps before a flow: what the data needs so that a smooth field can carry it to white noise.

`Marginals` and `Whiten` are fitted to data in closed form. Chained, they are a density of their own (a Gaussian
copula), and a flow behind them has only to learn what is left.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from framefill.errors import BadInput


class Map(nn.Module, ABC):
    """x -> y of the same shape, sample by sample."""

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


class Chain(Map):
    """Several maps, the first one first."""

    def __init__(self, maps: Sequence[Map]):
        super().__init__()
        self.maps = nn.ModuleList(maps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Through all; log-determinants add."""
        total = x.new_zeros(len(x))
        for step in self.maps:
            x, log_det = step(x)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor) -> Tensor:
        """Back through all."""
        for step in reversed(self.maps):
            assert isinstance(step, Map)
            y = step.inverse(y)
        return y


TAIL = 1e-9
"""Probability beyond which a quantile is cut, six standard deviations out, where float64 still has digits."""


class Marginals(Map):
    """Each element made standard normal by its own histogram: y = Phi^-1(F(x)), F linear inside every bin.

    `counts` (..., levels) has the shape of a sample and one number for each level, all positive. Values are levels 0,
    1, ... times `width` from `first`, dequantised by `framefill.density.dequantise`. A flow that stands still behind
    this map is the histogram model, to the bit; a pixel that never changes costs nothing.
    """

    def __init__(self, counts: Tensor, *, first: float = 0.0, width: float = 1.0):
        super().__init__()
        if not (width > 0 and counts.ndim > 1 and bool((counts > 0).all())):
            raise BadInput(
                "a histogram needs a positive width and positive counts (..., levels); add some to each level"
            )
        share = counts.double() / counts.double().sum(-1, keepdim=True)
        self.first, self.width = first, width
        self.register_buffer("share", share)
        self.register_buffer("below", share.cumsum(-1) - share)

    @classmethod
    def fit(
        cls, values: Tensor, levels: int, *, prior: float = 0.3, first: float = 0.0, width: float = 1.0
    ) -> "Marginals":
        """From values (N, ...) before dequantisation, with `prior` added to each count."""
        place = ((values - first) / width).round().long()
        if bool((place < 0).any() | (place >= levels).any()):
            raise BadInput(
                f"values from {float(values.min()):.6g} to {float(values.max()):.6g} are not {levels} levels"
            )
        counts = torch.stack([(place == k).sum(0) for k in range(levels)], -1)
        return cls(counts + prior, first=first, width=width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normal quantiles, computed in float64."""
        share, below = self.get_buffer("share"), self.get_buffer("below")
        place = (x.double() - self.first) / self.width + 0.5
        level = place.floor().long().unsqueeze(-1)
        if bool((level < 0).any() | (level > share.shape[-1]).any()):
            raise BadInput(f"values from {float(x.min()):.6g} to {float(x.max()):.6g} are outside of this histogram")
        level = level.clamp(max=share.shape[-1] - 1)
        mine, before = (b.expand(len(x), *b.shape).gather(-1, level).squeeze(-1) for b in (share, below))
        y = torch.special.ndtri((before + (place - level.squeeze(-1)) * mine).clamp(TAIL, 1 - TAIL))
        each = (mine / self.width).log() + (y.square() + math.log(2 * math.pi)) / 2
        return y.to(x.dtype), each.flatten(1).sum(1).to(x.dtype)

    def inverse(self, y: Tensor) -> Tensor:
        """Quantiles of the histogram."""
        share, below = self.get_buffer("share"), self.get_buffer("below")
        u = torch.special.ndtr(y.double()).unsqueeze(-1)
        level = ((u >= below).sum(-1, keepdim=True) - 1).clamp(min=0)
        mine, before = (b.expand(len(y), *b.shape).gather(-1, level) for b in (share, below))
        place = (level + (u - before) / mine).squeeze(-1) - 0.5
        return (self.first + self.width * place).to(y.dtype)


class Whiten(Map):
    """y = C^-1/2 (x - mean) over all elements of a sample; the symmetric root keeps pixels in their places."""

    def __init__(self, mean: Tensor, covariance: Tensor):
        super().__init__()
        values, vectors = torch.linalg.eigh(covariance.double())
        if not float(values[0]) > 1e-12 * float(values[-1]):
            raise BadInput("whitening needs a positive definite covariance; fit with more samples or more shrinkage")
        self.register_buffer("mean", mean.double())
        self.register_buffer("root", vectors * values.sqrt() @ vectors.T)
        self.register_buffer("unroot", vectors * values.rsqrt() @ vectors.T)
        self.register_buffer("change", -values.log().sum() / 2)

    @classmethod
    def fit(cls, x: Tensor, *, shrink: float = 0.01) -> "Whiten":
        """From x (N, ...), with the covariance drawn by `shrink` towards its mean variance."""
        rows = x.double().flatten(1)
        covariance = torch.cov(rows.T)
        aim = covariance.diagonal().mean() * torch.eye(len(covariance), dtype=rows.dtype, device=rows.device)
        return cls(rows.mean(0), (1 - shrink) * covariance + shrink * aim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """White elements, if the fit holds."""
        rows = x.flatten(1) - self.get_buffer("mean").to(x)
        return (rows @ self.get_buffer("unroot").to(x)).reshape(x.shape), self.get_buffer("change").to(x).expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        """Coloured again."""
        rows = y.flatten(1) @ self.get_buffer("root").to(y) + self.get_buffer("mean").to(y)
        return rows.reshape(y.shape)
