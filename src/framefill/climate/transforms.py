"""Maps from the units of a field to numbers of a better distribution, each rising, with its inverse and its slope.

Most of a rain field is none and the rest spans decades, which a Gaussian process of noise does not suit. Sqrt and
log1p are fixed; `Monotone` is learned beside the network (seed 003 as its author finished it). `Scaling` then
standardises every variable by statistics of the training set alone, gathered in one pass.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput


@runtime_checkable
class Transform(Protocol):
    """A rising map of one variable: `forward`, its `inverse`, and its `derivative` at x, all elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        """From units to the space of the network."""
        ...

    def inverse(self, y: Tensor) -> Tensor:
        """Back to units."""
        ...

    def derivative(self, x: Tensor) -> Tensor:
        """Slope of `forward` at x."""
        ...


@dataclass(frozen=True)
class Identity:
    """y = x."""

    def forward(self, x: Tensor) -> Tensor:
        """x itself."""
        return x

    def inverse(self, y: Tensor) -> Tensor:
        """y itself."""
        return y

    def derivative(self, x: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(x)


@dataclass(frozen=True)
class Sqrt:
    """y = sqrt(x) for x >= 0. Below zero, where packing puts some rain, both directions give 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Root of x."""
        return x.clamp(min=0).sqrt()

    def inverse(self, y: Tensor) -> Tensor:
        """Square of y."""
        return y.clamp(min=0).square()

    def derivative(self, x: Tensor) -> Tensor:
        """1 / (2 sqrt(x)); infinite at 0."""
        return 0.5 * x.clamp(min=0).rsqrt()


@dataclass(frozen=True)
class Log1p:
    """y = log(1 + x / scale) for x >= 0: even in steps of a share above `scale`, in units below it."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise BadInput(f"the scale of log1p is {self.scale}; give a positive number in the variable's units")

    def forward(self, x: Tensor) -> Tensor:
        """log(1 + x / scale)."""
        return (x.clamp(min=0) / self.scale).log1p()

    def inverse(self, y: Tensor) -> Tensor:
        """scale (exp(y) - 1)."""
        return y.clamp(min=0).expm1() * self.scale

    def derivative(self, x: Tensor) -> Tensor:
        """1 / (scale + x)."""
        return 1 / (self.scale + x.clamp(min=0))


class Monotone(nn.Module):
    """h from [low, high] onto [-1, 1]: a tanh network 1-16-16-1 with positive weights, plus a tenth of its input.

    h(x) = 2 (f(u) - f(0)) / (f(2) - f(0)) - 1 with u = 2 (x - low) / (high - low). Its ends belong to the function
    that is differentiated. Paper: the author's program takes them out of the graph (`.item()`), and the gradient of
    what remains has a cosine of 0.29 with the true one. Paper: weights there are clamped at 0 after each step; here
    they are softplus of free numbers, so the slope is positive everywhere. `stretch` is the term that joins the loss.
    """

    LINEAR = 0.1
    HALVINGS = 60

    def __init__(self, low: float, high: float, width: int = 16, *, seed: int = 0) -> None:
        super().__init__()
        if not low < high:
            raise BadInput(f"a learned transform from {low} to {high}; give the least and the largest value, in order")
        rng = torch.Generator().manual_seed(seed)
        self.low, self.high = low, high
        shapes = ((width, 1), (width, width), (1, width))
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(s, generator=rng) - 2) for s in shapes)
        self.biases = nn.ParameterList(nn.Parameter(torch.randn(s[0], generator=rng)) for s in shapes[:2])

    def forward(self, x: Tensor) -> Tensor:
        """Values in [-1, 1] for x in [low, high]; outside it goes on as a straight line."""
        return self._both(x)[0]

    def derivative(self, x: Tensor) -> Tensor:
        """h'(x) in 1 / units; differentiable in the weights too."""
        return self._both(x)[1]

    def stretch(self, x: Tensor, above: float) -> Tensor:
        """- mean of log h'(x) 1(x > above) over all x, the range counted as 1 wide: small where values have room."""
        slope = self.derivative(x) * ((self.high - self.low) / 2)
        return -(slope.log() * (x > above)).mean()

    @torch.no_grad()
    def inverse(self, y: Tensor) -> Tensor:
        """x with h(x) = y, by halving in float64; beyond [-1, 1] along the lines."""
        low, high = (
            torch.full_like(y, self.low, dtype=torch.float64),
            torch.full_like(y, self.high, dtype=torch.float64),
        )
        inside = y.double().clamp(-1, 1)
        for _ in range(self.HALVINGS):
            middle = (low + high) / 2
            below = self._both(middle)[0] < inside
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        x = (low + high) / 2
        return (x + (y.double() - inside) / self._both(x)[1]).to(y.dtype)

    def _both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u = 2 * (x - self.low) / (self.high - self.low)
        within = u.clamp(0, 2)
        value, slope = self._network(within)
        ends, _ = self._network(torch.tensor([0.0, 2.0], dtype=x.dtype, device=x.device))
        scale = 2 / (ends[1] - ends[0])
        h = (value - ends[0]) * scale - 1 + (u - within) * slope * scale
        return h, slope * scale * (2 / (self.high - self.low))

    def _network(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """f(u) and f'(u), carried forward together."""
        value, slope = u[..., None] - 1, torch.ones_like(u)[..., None]
        for weight, bias in zip(self.weights, self.biases, strict=False):
            positive = F.softplus(weight.to(u.dtype))
            value = (value @ positive.T + bias.to(u.dtype)).tanh()
            slope = (slope @ positive.T) * (1 - value.square())
        last = F.softplus(self.weights[2].to(u.dtype)).T
        return (value @ last)[..., 0] + self.LINEAR * u, (slope @ last)[..., 0] + self.LINEAR


@dataclass(frozen=True)
class Scaling:
    """Every variable's transform, then minus its mean, over its standard deviation; C of each."""

    transforms: tuple[Transform, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def encode(self, x: Tensor) -> Tensor:
        """From units (..., C, H, W) to the network; what is NaN becomes 0, the mean."""
        return ((self._each(x, "forward") - self._column(self.mean, x)) / self._column(self.std, x)).nan_to_num(0.0)

    def decode(self, y: Tensor) -> Tensor:
        """Back to units."""
        return self._each(y * self._column(self.std, y) + self._column(self.mean, y), "inverse")

    def log_slope(self, x: Tensor) -> Tensor:
        """log of d encode / dx at x, elementwise: what a density in the network's space gains in units."""
        return self._each(x, "derivative").log() - self._column(self.std, x).log()

    def _each(self, x: Tensor, name: str) -> Tensor:
        parts = [getattr(t, name)(part) for t, part in zip(self.transforms, x.unbind(-3), strict=True)]
        return torch.stack(parts, dim=-3)

    @staticmethod
    def _column(values: Sequence[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


def fit_scaling(transforms: Sequence[Transform], fields: Iterable[Tensor]) -> Scaling:
    """The scaling of training fields (..., C, H, W), each looked at once; NaN is left out.

    Moments are merged in float64 (Chan, Golub and LeVeque 1983), so a mean of 300 K costs no digits. Raises BadInput
    for a variable without two values, or that never changes.
    """
    C = len(transforms)
    count, mean, square = (torch.zeros(C, dtype=torch.float64) for _ in range(3))
    for part in fields:
        for c in range(C):
            values = transforms[c].forward(part[..., c, :, :].double()).detach().flatten()
            values = values[~values.isnan()]
            if not len(values):
                continue
            total = count[c] + len(values)
            shift = values.mean() - mean[c]
            square[c] += (values - values.mean()).square().sum() + shift**2 * count[c] * len(values) / total
            mean[c] += shift * len(values) / total
            count[c] = total
    std = (square / count.clamp(min=1)).sqrt()
    still = [c for c in range(C) if not std[c] > 1e-12 * mean[c].abs()]
    if still:
        raise BadInput(f"variable {still[0]} of the training set never changes or has no values; leave it out")
    return Scaling(tuple(transforms), tuple(mean.tolist()), tuple(std.tolist()))
