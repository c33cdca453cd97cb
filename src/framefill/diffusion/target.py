"""What a network is asked for, and how its answer becomes a clean estimate.

At a noise level (alpha, sigma) with x_t = alpha x + sigma n, each target is an affine combination y of x and n that can
be solved for x given x_t: `of` makes the training target, `to_x` reads the network's answer.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


class Target(ABC):
    """An invertible map between the network's output y and the clean signal x. All arguments broadcast."""

    @abstractmethod
    def of(self, x: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The value y that a perfect network answers."""

    @abstractmethod
    def to_x(self, y: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The clean estimate x_hat for the network's answer y at x_t."""


@dataclass(frozen=True)
class X(Target):
    """The clean signal itself."""

    def of(self, x: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """y = x."""
        return x

    def to_x(self, y: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x_hat = y."""
        return y


@dataclass(frozen=True)
class Eps(Target):
    """The noise, as in DDPM and MCVD (thesis 001, eq. 7.2.4). Undefined where alpha = 0."""

    def of(self, x: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """y = n."""
        return n

    def to_x(self, y: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x_hat = (x_t - sigma y) / alpha."""
        return (x_t - sigma * y) / alpha


@dataclass(frozen=True)
class V(Target):
    """The velocity alpha n - sigma x of Salimans and Ho 2022; defined at both ends of any schedule."""

    def of(self, x: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """y = alpha n - sigma x."""
        return alpha * n - sigma * x

    def to_x(self, y: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x_hat = (alpha x_t - sigma y) / (alpha^2 + sigma^2)."""
        return (alpha * x_t - sigma * y) / (alpha * alpha + sigma * sigma)


@dataclass(frozen=True)
class Flow(Target):
    """The direction n - x of rectified flow."""

    def of(self, x: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """y = n - x."""
        return n - x

    def to_x(self, y: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x_hat = (x_t - sigma y) / (alpha + sigma)."""
        return (x_t - sigma * y) / (alpha + sigma)


@dataclass(frozen=True)
class Residual(Target):
    """The preconditioned residual of EDM (Karras et al. 2022, eq. 7 and table 1), for data of std `sigma_data`.

    With u = x_t / alpha and s = sigma / alpha: x_hat = c_skip u + c_out y, c_skip = d^2 / (s^2 + d^2) and
    c_out = s d / sqrt(s^2 + d^2), d = sigma_data; written without dividing by alpha, so alpha = 0 is allowed.
    """

    sigma_data: float = 0.5

    def _skip_and_out(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        d = self.sigma_data
        total = sigma * sigma + (alpha * d) ** 2
        return alpha * d * d / total, sigma * d / total.sqrt()

    def of(self, x: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """y = (x - c_skip u) / c_out."""
        skip, out = self._skip_and_out(alpha, sigma)
        return (x - skip * (alpha * x + sigma * n)) / out

    def to_x(self, y: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x_hat = c_skip u + c_out y."""
        skip, out = self._skip_and_out(alpha, sigma)
        return skip * x_t + out * y
