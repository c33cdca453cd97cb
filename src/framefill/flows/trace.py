"""The divergence of a field and the size of its Jacobian J, from products e^T J with chosen or random directions e.

The trace is the sum of e^T J e over a basis, or the mean over random e with E[e e^T] = I (Hutchinson 1990): unbiased,
and with several probes the scatter between them is its error bar. The same products give |J|_F^2 (Finlay et al. 2020).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput

CHUNK = 128
"""Directions that share one batched backward pass."""


class Trace(ABC):
    """A choice of directions e (K, B, ...), made once per solve, and what their products say."""

    @abstractmethod
    def directions(self, z: Tensor, rng: Rng | None) -> Tensor:
        """Directions (K, B, ...) for z (B, ...)."""

    @abstractmethod
    def combine(self, parts: Tensor) -> Tensor:
        """From a number for each direction (K, B) to the independent estimates of their total (n, B)."""

    @abstractmethod
    def error(self, totals: Tensor) -> Tensor:
        """The standard error (B,) of the mean of the estimates (n, B)."""


@dataclass(frozen=True)
class Exact(Trace):
    """The trace itself: as many backward passes as a sample has elements."""

    def directions(self, z: Tensor, rng: Rng | None) -> Tensor:
        """The basis."""
        size = z[0].numel()
        basis = torch.eye(size, dtype=z.dtype, device=z.device).reshape(size, 1, *z.shape[1:])
        return basis.expand(size, *z.shape)

    def combine(self, parts: Tensor) -> Tensor:
        """The sum."""
        return parts.sum(0, keepdim=True)

    def error(self, totals: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(totals[0])


@dataclass(frozen=True)
class Hutchinson(Trace):
    """`probes` random directions per sample, the same along a whole solve so that the field stays smooth."""

    probes: int = 1

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise BadInput(f"a Hutchinson trace needs at least 1 probe, got {self.probes}")

    def directions(self, z: Tensor, rng: Rng | None) -> Tensor:
        """Drawn sample by sample."""
        if rng is None or len(rng) != len(z):
            raise BadInput(
                f"a Hutchinson trace of {len(z)} samples draws from as many streams, got "
                f"{'none' if rng is None else len(rng)}; pass rng, or use the exact trace"
            )
        return self._draw((self.probes, *z.shape[1:]), z, rng).to(z.dtype).transpose(0, 1)

    @abstractmethod
    def _draw(self, shape: tuple[int, ...], z: Tensor, rng: Rng) -> Tensor: ...

    def combine(self, parts: Tensor) -> Tensor:
        """Each is an estimate."""
        return parts

    def error(self, totals: Tensor) -> Tensor:
        """Standard deviation over sqrt(probes); nan for one probe."""
        if len(totals) == 1:
            return torch.full_like(totals[0], torch.nan)
        return totals.std(0) / len(totals) ** 0.5


@dataclass(frozen=True)
class Rademacher(Hutchinson):
    """Random signs: the least variance of all laws, 2 times the squared off-diagonal of the symmetric part."""

    def _draw(self, shape: tuple[int, ...], z: Tensor, rng: Rng) -> Tensor:
        return 1.0 - 2.0 * (rng.uniform(shape, z) < 0.5).to(z.dtype)


@dataclass(frozen=True)
class Gaussian(Hutchinson):
    """Standard normal directions: the published choice (facts, section 2.2)."""

    def _draw(self, shape: tuple[int, ...], z: Tensor, rng: Rng) -> Tensor:
        return rng.normal(shape, z)


def products(value: Tensor, z: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """e^T J e and |e^T J|^2 for each direction, (K, B) each, J = d value / d z; differentiable if gradients are on."""
    parts = [_products(value, z, e) for e in directions.split(CHUNK)]
    diagonal, square = zip(*parts, strict=True)
    return torch.cat(diagonal), torch.cat(square)


def _products(value: Tensor, z: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    keep = {"create_graph": torch.is_grad_enabled(), "retain_graph": True, "materialize_grads": True}
    if len(e) == 1:
        rows = torch.autograd.grad(value, z, e[0], **keep)[0][None]
    else:
        (rows,) = torch.autograd.grad(value, z, e, is_grads_batched=True, **keep)
    return (rows * e).flatten(2).sum(2), rows.square().flatten(2).sum(2)
