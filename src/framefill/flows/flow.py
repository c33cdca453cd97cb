"""What every flow is: an invertible map from data x to white noise z, given a condition, with its log-determinant.

    log p(x | cond) = log N(z; 0, I) + log |det dz/dx|

(thesis 001, eq. 2.3.4 with the sign of 2.3.6 corrected: the integral of the trace is added). A flow whose
log-determinant is estimated says how well: `log_prob` comes with its standard error.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.density import bits_per_dimension
from framefill.errors import BadInput, Stiff

KINETIC, JACOBIAN = 0.01, 0.01
"""The weights of Finlay et al. (2020), section 4, which thesis 001 keeps, for means over dimensions."""


class Encoded(NamedTuple):
    """A batch on the noise side; all but the first are per sample, (B,).

    `error` is the standard error of `log_det`: 0 where the trace is exact, nan where a single probe cannot tell.
    `kinetic` and `jacobian` are the integrals of |f|^2 / (2 D) and |df/dv|_F^2 / D along the path, summed over blocks.
    """

    z: Tensor
    log_det: Tensor
    error: Tensor
    kinetic: Tensor
    jacobian: Tensor
    evaluations: int


class LogProb(NamedTuple):
    """log p(x) in nats and its standard error over the probes of the trace, (B,) each."""

    nats: Tensor
    error: Tensor


class Flow(nn.Module, ABC):
    """x (B, ...) <-> z of the same shape, standard normal; `cond` is None or a tensor with the same first axis.

    `noted` says what the last `loss` was made of: nats per dimension, both regularisers, evaluations of the field.
    """

    noted: Mapping[str, float] = MappingProxyType({})

    @abstractmethod
    def follow(self, x: Tensor, cond: Tensor | None = None, rng: Rng | None = None) -> Encoded:
        """From data to noise, with all that is known on arrival. A random trace draws from `rng`, a stream a sample."""

    @abstractmethod
    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """From noise to data: the inverse of `encode`, to the tolerance of the solver."""

    def encode(self, x: Tensor, cond: Tensor | None = None, rng: Rng | None = None) -> tuple[Tensor, Tensor]:
        """z (B, ...) and log |det dz/dx| in nats (B,)."""
        end = self.follow(x, cond, rng)
        return end.z, end.log_det

    def log_prob(self, x: Tensor, cond: Tensor | None = None, rng: Rng | None = None) -> LogProb:
        """log p(x | cond) in nats with its standard error."""
        end = self.follow(x, cond, rng)
        return LogProb(normal_log_density(end.z) + end.log_det, end.error)

    def bits(self, x: Tensor, cond: Tensor | None = None, rng: Rng | None = None, *, width: float) -> LogProb:
        """Bits per dimension, and standard error, of dequantised x whose values are bins `width` wide."""
        nats, error = self.log_prob(x, cond, rng)
        size = x[0].numel()
        return LogProb(bits_per_dimension(nats, size, width), error / (size * math.log(2)))

    def loss(
        self,
        x: Tensor,
        cond: Tensor | None = None,
        rng: Rng | None = None,
        *,
        kinetic: float = KINETIC,
        jacobian: float = JACOBIAN,
    ) -> Tensor:
        """Nats per dimension plus the weighted regularisers, (B,); weights 0 train FFJORD, the default ones RNODE.

        Paper: the loss is in bits per dimension, for which 0.01 weighs the regularisers; here everything is divided by
        log2(e), so that the balance is the papers'.
        """
        end = self.follow(x, cond, rng)
        nats = -(normal_log_density(end.z) + end.log_det) / x[0].numel()
        self.noted = {
            "nats": float(nats.detach().mean()),
            "kinetic": float(end.kinetic.detach().mean()),
            "jacobian": float(end.jacobian.detach().mean()),
            "evaluations": float(end.evaluations),
        }
        return nats + math.log(2) * (kinetic * end.kinetic + jacobian * end.jacobian)

    def sample(self, shape: Sequence[int], rng: Rng, cond: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
        """Draw (B, *shape) for a batch of len(rng); noise is scaled by `temperature`, below 1 for safer samples."""
        if not temperature >= 0:
            raise BadInput(f"a temperature must be at least 0, got {temperature}")
        like = next(self.parameters(), torch.empty(0))
        return self.decode(temperature * rng.normal(shape, like).to(like.dtype), cond)


@contextmanager
def telling(where: str = "", first: int = 0) -> Iterator[None]:
    """What stops inside says where that is, and which sample, counted from `first`."""
    try:
        yield
    except Stiff as error:
        raise error.within(where, first) from error


def normal_log_density(z: Tensor) -> Tensor:
    """log N(z; 0, I) of each sample of z (B, ...), in nats, (B,)."""
    return -(z.square() + math.log(2 * math.pi)).flatten(1).sum(1) / 2


class Apart(Flow):
    """A flow that meets each sample alone, so that results do not depend on the batch at all; slower for many."""

    def __init__(self, flow: Flow):
        super().__init__()
        self.flow = flow

    def follow(self, x: Tensor, cond: Tensor | None = None, rng: Rng | None = None) -> Encoded:
        """One solve per sample; `evaluations` is that of the hardest one."""
        ends = []
        for i in range(len(x)):
            given, own = None if cond is None else cond[i : i + 1], None if rng is None else rng.pick([i])
            with telling(first=i):
                ends.append(self.flow.follow(x[i : i + 1], given, own))
        return Encoded(
            torch.cat([end.z for end in ends]),
            torch.cat([end.log_det for end in ends]),
            torch.cat([end.error for end in ends]),
            torch.cat([end.kinetic for end in ends]),
            torch.cat([end.jacobian for end in ends]),
            max(end.evaluations for end in ends),
        )

    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """One solve per sample."""
        parts = []
        for i in range(len(z)):
            with telling(first=i):
                parts.append(self.flow.decode(z[i : i + 1], None if cond is None else cond[i : i + 1]))
        return torch.cat(parts)
