"""Continuous normalising flows: dv/dt = f(v, t, cond) from data at t = 0 to white noise at t = 1, block after block.

The log-determinant is the integral of the divergence of f along the way (FFJORD, Grathwohl et al. 2019), carried in
the same solve as v. So are the kinetic energy and the Jacobian norm, whose penalty keeps the paths straight and the
solver quick (RNODE, Finlay et al. 2020); they do not enter the solver's error norm. Any shape (B, ...) will do.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from framefill.arrays import Rng, expand
from framefill.errors import BadInput
from framefill.flows.flow import Encoded, Flow
from framefill.flows.maps import Identity, Map
from framefill.flows.ode import Solver
from framefill.flows.trace import Exact, Trace, products

STATES = 2
"""Regularisers in the state, after v and the estimates of the log-determinant: kinetic energy, Jacobian norm."""


class CNF(Flow):
    """Blocks of fields f(t (B,), v (B, ...), cond), each integrated over t in [0, 1], after a fixed `before` map.

    With several blocks a path may bend between them. `trace` and `solver` may be exchanged at any time: train with
    one probe and rtol 1e-3, report with many and 1e-5.
    """

    def __init__(
        self,
        fields: Sequence[nn.Module],
        *,
        before: Map | None = None,
        trace: Trace | None = None,
        solver: Solver | None = None,
    ):
        super().__init__()
        if not fields:
            raise BadInput("a continuous flow needs at least one field")
        self.fields = nn.ModuleList(fields)
        self.before = before or Identity()
        self.trace = trace or Exact()
        self.solver = solver or Solver()

    def follow(self, x: Tensor, cond: Tensor | None = None, rng: Rng | None = None) -> Encoded:
        """Through all blocks; probe k of every block adds to estimate k of the log-determinant."""
        _same_batch(x, cond)
        v, fixed = self.before(x)
        totals, costs, evaluations = v.new_zeros(1, len(x)), v.new_zeros(STATES, len(x)), 0
        for index, field in enumerate(self.fields):
            directions = self.trace.directions(v, rng)
            v, parts, spent, count = self._block(index, field, v, cond, directions)
            totals, costs, evaluations = totals + parts, costs + spent, evaluations + count
        error = self.trace.error(totals.detach())
        return Encoded(v, fixed + totals.mean(0), error, costs[0], costs[1], evaluations)

    def _block(
        self, index: int, field: nn.Module, v: Tensor, cond: Tensor | None, directions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """v at the end, the estimates (n, B), the regularisers (2, B), and the number of evaluations."""
        size, estimates = v[0].numel(), len(self.trace.combine(directions.flatten(2)[:, :, 0]))
        start = torch.cat([v.flatten(1), v.new_zeros(len(v), estimates + STATES)], 1)
        slope = _Augmented(field, v.shape, cond, directions, self.trace)
        solution = self.solver.solve(
            slope, start, (0.0, 1.0), counted=size + estimates, parameters=[*field.parameters(), *_given(cond)]
        )
        end = solution.checked(f"of block {index + 1} of {len(self.fields)}")[-1]
        rest = end[:, size:].T
        return end[:, :size].reshape(v.shape), rest[:estimates], rest[estimates:], solution.counts.forward

    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Back through the blocks in reverse order; no trace is needed."""
        _same_batch(z, cond)
        for index in reversed(range(len(self.fields))):
            field, own = self.fields[index], [*self.fields[index].parameters(), *_given(cond)]
            solution = self.solver.solve(_bound(field, cond), z, (1.0, 0.0), parameters=own)
            z = solution.checked(f"of block {index + 1} of {len(self.fields)}, backwards,")[-1]
        return self.before.inverse(z)

    def matching(self, x: Tensor, cond: Tensor | None = None, rng: Rng | None = None) -> Tensor:
        """The flow-matching loss (B,), for training without a solver before likelihood does the rest.

        Straight paths v = (1 - u) x + u z to noise z have velocity z - x (Lipman et al. 2023; Liu et al. 2023). Block
        b of n is trained on its share of the way, u = (b + t) / n, where dv/dt = (z - x) / n.
        """
        if rng is None or len(rng) != len(x):
            raise BadInput(f"flow matching of {len(x)} samples draws from as many streams: pass rng")
        x, _ = self.before(x)
        z, t = rng.normal(x.shape[1:], x).to(x.dtype), rng.uniform((), x).to(x.dtype)
        total, n = x.new_zeros(len(x)), len(self.fields)
        for b, field in enumerate(self.fields):
            u = expand((b + t) / n, x)
            miss = field(t, (1 - u) * x + u * z, cond) * n - (z - x)
            total = total + miss.square().flatten(1).mean(1)
        return total / n


class _Augmented:
    """The field of [v, estimates of log |det|, kinetic energy, Jacobian norm], flat (B, F)."""

    def __init__(self, field: nn.Module, shape: torch.Size, cond: Tensor | None, directions: Tensor, trace: Trace):
        self.field, self.shape, self.cond, self.directions, self.trace = field, shape, cond, directions, trace

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        training = torch.is_grad_enabled()
        size = self.shape[1:].numel()
        v = state[:, :size].reshape(self.shape)
        with torch.enable_grad():
            v = v if training and v.requires_grad else v.detach().requires_grad_()
            value = self.field(t.to(v.dtype).expand(len(v)), v, self.cond)
            with torch.set_grad_enabled(training):
                diagonal, square = products(value, v, self.directions)
        estimates = self.trace.combine(diagonal)
        jacobian = self.trace.combine(square).mean(0) / size
        kinetic = value.square().flatten(1).mean(1) / 2
        rest = torch.cat([estimates, kinetic[None], jacobian[None]]).T
        joined = torch.cat([value.flatten(1), rest], 1)
        return joined if training else joined.detach()


def _bound(field: nn.Module, cond: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, v: field(t.to(v.dtype).expand(len(v)), v, cond)


def _given(cond: Tensor | None) -> list[Tensor]:
    return [] if cond is None else [cond]


def _same_batch(x: Tensor, cond: Tensor | None) -> None:
    if len(x) == 0 or (cond is not None and len(cond) != len(x)):
        raise BadInput(f"{len(x)} samples with {'no' if cond is None else len(cond)} conditions; give one each")
