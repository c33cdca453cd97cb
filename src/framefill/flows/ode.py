"""Neural ODEs over torchdiffeq: dy/dt = f(t, y) for a batch, with a status instead of a bare "underflow in dt".

A step must satisfy the error tolerance of every sample: the norm is the largest of the samples' own root mean squares,
so nobody's error is averaged away by easy neighbours. (torchdiffeq takes one step size for the whole batch: results
depend on the batch within the tolerance. `flows.flow.Apart` removes even that, one solve per sample.) Elements after
the first `counted` of a sample, such as integrals of regularisers, are carried along and do not choose the step.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from framefill.device import free_memory
from framefill.errors import BadInput, NotInstalled, Stiff

Field = Callable[[Tensor, Tensor], Tensor]
"""(t (), y (B, ...)) to dy/dt (B, ...)."""

ADAPTIVE = ("dopri5", "bosh3", "dopri8", "fehlberg2", "adaptive_heun")
SHARE = 0.5
"""Of the memory that is free when a solve begins, what its graph may take where gradients are "auto"."""
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams")


@dataclass(frozen=True)
class Status:
    """How a solve ended: `reason` is empty at the end asked for; otherwise where it stopped and for which sample."""

    reason: str = ""
    t: float = 0.0
    sample: int = -1

    @property
    def done(self) -> bool:
        """Whether the end was reached."""
        return not self.reason

    def __str__(self) -> str:
        return "done" if self.done else f"stopped at t = {self.t:.6g} in sample {self.sample}: {self.reason}"


@dataclass
class Counts:
    """Evaluations of the field so far, in the solve and in the adjoint's solve back, and steps tried in both."""

    forward: int = 0
    backward: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Solution:
    """States at the times asked for, (T, B, ...); after a stop, the start and the last good state, (2, B, ...)."""

    path: Tensor
    status: Status
    counts: Counts = field(compare=False)

    def checked(self, where: str = "") -> Tensor:
        """The path, or Stiff with one line that says where, when and for which sample the solve stopped."""
        if not self.status.done:
            raise Stiff(where, self.status.t, self.status.sample, self.status.reason)
        return self.path


@dataclass(frozen=True)
class Solver:
    """A method of torchdiffeq and its tolerances; `step` is the step of the fixed ones (`FIXED`), in units of t.

    `gradients` is "direct" (backpropagation through the solver: exact for the steps taken, memory grows with them) or
    "adjoint" (a second solve backwards: constant memory, gradients to the tolerance; thesis 001, section 2.2.1). "auto"
    is direct, the same to the bit, unless the graph outgrows `SHARE` of the free memory: then that solve is begun anew
    with the adjoint. `taken` counts which it was.
    `first` is the length, in units of t, of the first step that an adaptive method tries; by default a guess from the
    slope, which costs an evaluation and is short: where one step may do for the whole span, try that. It is taken only
    if it keeps the tolerance. A solve stops with a status after `most_steps` steps. `scipy_solver` is left out: it has
    no gradients.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    step: float = 0.05
    gradients: Literal["direct", "adjoint", "auto"] = "direct"
    most_steps: int = 10_000
    first: float | None = None
    taken: Counter[str] = field(default_factory=Counter, init=False, compare=False, repr=False)
    _kept: dict[Any, int] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.method not in (*ADAPTIVE, *FIXED):
            raise BadInput(f"no ODE method {self.method!r}; there are {', '.join((*ADAPTIVE, *FIXED))}")
        if not (self.rtol > 0 and self.atol > 0 and self.step > 0 and self.most_steps > 0):
            raise BadInput(f"rtol, atol, step and most_steps must be positive, got {self}")
        if self.first is not None and not self.first > 0:
            raise BadInput(f"the first step tried must be positive, or None for a guess, got {self.first}")
        if self.gradients not in ("direct", "adjoint", "auto"):
            raise BadInput(f"gradients are 'direct', 'adjoint' or 'auto', got {self.gradients!r}")

    def solve(
        self,
        f: Field,
        y: Tensor,
        times: Sequence[float],
        *,
        counted: int | None = None,
        parameters: Sequence[Tensor] = (),
    ) -> Solution:
        """Solve from y (B, ...) at times[0] through the others, which all rise or all fall.

        The first `counted` elements of each sample enter the error norm (default: all). The adjoint gives gradients
        to y and to `parameters`, which are to name every tensor that f depends on and that wants one.
        """
        span = torch.tensor(_ordered(times), dtype=torch.float64, device=y.device)
        watch = _Watch(f, y, counted, self, float(span[-1] - span[0]))
        wanted = [p for p in parameters if p.requires_grad]
        if self.gradients != "auto" or not torch.is_grad_enabled():
            return self._watched(watch, y, span, wanted)
        watch.most = int(SHARE * free_memory(y.device)) // self._bytes(f, span[0], y, parameters)
        with suppress(_Crowded):
            solution = replace(self, gradients="direct")._watched(watch, y, span, wanted)
            self.taken["direct"] += 1
            return solution
        self.taken["adjoint"] += 1
        again = _Watch(f, y, counted, self, float(span[-1] - span[0]))
        again.counts.forward = watch.counts.forward
        return replace(self, gradients="adjoint")._watched(again, y, span, wanted)

    @property
    def adjoints(self) -> dict[str, float]:
        """For a log: how many solves have taken the adjoint, where the solver chooses and has done some."""
        return {"adjoint_solves": float(self.taken["adjoint"])} if self.taken else {}

    def _bytes(self, f: Field, t: Tensor, y: Tensor, others: Sequence[Tensor]) -> int:
        """What direct gradients keep of one evaluation, measured once for tensors of these shapes."""
        key = (y.shape, y.dtype, y.device, *(p.shape for p in others))
        if key not in self._kept:
            self._kept[key] = _kept_by(f, t, y, others)
        return self._kept[key]

    def _watched(self, watch: "_Watch", y: Tensor, span: Tensor, parameters: list[Tensor]) -> Solution:
        try:
            path = self._path(watch, y.flatten(1), span, parameters)
        except _Stop:
            return Solution(torch.stack([y, watch.last.reshape(y.shape)]), watch.status, watch.counts)
        watch.solving = False
        bad = _first_not_finite(path[-1])
        status = Status("the state is not finite", float(span[-1]), bad) if bad >= 0 else Status(t=float(span[-1]))
        path = path if status.done else torch.stack([y.flatten(1), watch.last])
        return Solution(path.reshape(len(path), *y.shape), status, watch.counts)

    def _path(self, watch: "_Watch", y: Tensor, span: Tensor, parameters: list[Tensor]) -> Tensor:
        options: dict[str, object] = {"norm": watch.norm}
        # a step ends at each time asked for, so that f is never called outside the span and nothing is interpolated
        options |= {"step_t": span} if self.method in ADAPTIVE else {"step_size": self.step}
        options |= {"first_step": self.first} if self.first and self.method in ADAPTIVE else {}
        # torchdiffeq's default, order 12, is unstable: errors grow as steps shrink
        options |= {"max_order": 4} if self.method.endswith("adams") else {}
        library, settings = _torchdiffeq(), {"rtol": self.rtol, "atol": self.atol, "method": self.method}
        if self.gradients == "direct" or not torch.is_grad_enabled():
            return library.odeint(watch, y, span, options=options, **settings)
        back = options | {"norm": watch.norm_back}
        extra = {"options": options, "adjoint_options": back, "adjoint_params": parameters}
        return library.odeint_adjoint(watch, y, span, **extra, **settings)


class _Stop(Exception):
    """The solve cannot go on; the watch knows why."""


class _Crowded(Exception):
    """The graph of a solve would outgrow its share of the memory."""


def _kept_by(f: Field, t: Tensor, y: Tensor, others: Sequence[Tensor]) -> int:
    """Bytes that backward through one evaluation keeps beside what is there anyway, and the solver's two states."""
    there = {tensor.untyped_storage().data_ptr() for tensor in (y, *others)}
    kept = {}

    def note(saved: Tensor) -> Tensor:
        kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage()
        return saved.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        value = f(t, y.detach().requires_grad_())
    return 2 * value.nbytes + sum(storage.nbytes() for place, storage in kept.items() if place not in there)


class _Watch:
    """The field as torchdiffeq calls it: counts, keeps the last good state, and stops the solve with a reason."""

    def __init__(self, f: Field, y: Tensor, counted: int | None, solver: Solver, span: float):
        self.f, self.shape, self.solver, self.span = f, y.shape, solver, abs(span)
        self.counted = y[0].numel() if counted is None else counted
        self.counts, self.status, self.solving = Counts(), Status(), True
        self.last = y.detach().flatten(1)
        self.ratios = torch.zeros(len(y))
        self.most: int | None = None

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        if self.solving:
            if self.most is not None and self.counts.forward >= self.most:
                raise _Crowded
            self.counts.forward += 1
        else:
            self.counts.backward += 1
        return self.f(t, y.reshape(self.shape)).flatten(1)

    def norm(self, error: Tensor) -> Tensor:
        """The worst sample's root mean square over the elements that count."""
        self.ratios = self._ratios(error)
        return self.ratios.max()

    def _ratios(self, error: Tensor) -> Tensor:
        # a trial that is not a number counts as infinitely wrong: the step is retried shorter, not given up
        return error.detach()[:, : self.counted].square().mean(1).sqrt().nan_to_num(nan=torch.inf, posinf=torch.inf)

    def norm_back(self, error: tuple[Tensor, ...]) -> Tensor:
        """The same of state and adjoint; the parameters' gradients are integrals, not states (Kidger et al. 2021)."""
        self.ratios = torch.maximum(self._ratios(error[1]), self._ratios(error[2]))
        return self.ratios.max()

    def callback_step(self, t: Tensor, y: Tensor, dt: Tensor) -> None:
        """Called before each step."""
        self.counts.steps += 1
        reason, sample = self._fault(t, y, dt)
        if reason:
            self.status = Status(reason, float(t), sample)
            raise _Stop
        self.last = y.detach()

    def callback_step_adjoint(self, t: Tensor, y: Sequence[Tensor], dt: Tensor) -> None:
        """Called before each step of the adjoint, deep inside autograd: the line is said there."""
        self.counts.steps += 1
        reason, sample = self._fault(t, torch.cat([y[1], y[2]], 1), dt)
        if reason:
            raise Stiff("of the adjoint", float(t), sample, reason)

    def _fault(self, t: Tensor, y: Tensor, dt: Tensor) -> tuple[str, int]:
        bad, wild = _first_not_finite(y), _first_not_finite(self.ratios[:, None])
        if bad >= 0:
            return "the state is not finite", bad
        # a step that was not refused may be as short: two times asked for, or a step's end and one, may nearly meet
        refused = not float(self.ratios.max()) <= 1
        if refused and self.solver.method in ADAPTIVE and float(dt) < 1e-15 * max(abs(float(t)), self.span):
            if wild >= 0:
                return "the field is not finite", wild
            return "the step fell below the precision of t, the dynamics are stiff", int(self.ratios.argmax())
        if self.counts.steps > self.solver.most_steps:
            return f"the solve took {self.solver.most_steps} steps", max(wild, int(self.ratios.argmax()))
        return "", -1


def _first_not_finite(y: Tensor) -> int:
    bad = ~y.detach().isfinite().flatten(1).all(1)
    return int(bad.to(torch.uint8).argmax()) if bool(bad.any()) else -1


def _ordered(times: Sequence[float]) -> list[float]:
    span = [float(t) for t in times]
    steps = [b - a for a, b in pairwise(span)]
    if not steps or not (all(s > 0 for s in steps) or all(s < 0 for s in steps)):
        raise BadInput(f"an ODE is solved over at least two times that all rise or all fall, got {span[:8]}")
    return span


@cache
def _torchdiffeq() -> ModuleType:
    try:
        import torchdiffeq
    except ImportError as error:
        raise NotInstalled("flows need torchdiffeq: pip install 'framefill[flows]'") from error
    return torchdiffeq


class NeuralODE(nn.Module):
    """A field module f(t (B,), y (B, ...), cond) as a layer: states at any times, forwards or backwards."""

    def __init__(self, f: nn.Module, solver: Solver | None = None):
        super().__init__()
        self.f = f
        self.solver = solver or Solver()
        self.counts = Counts()

    def forward(self, y: Tensor, times: Sequence[float], cond: Tensor | None = None) -> Tensor:
        """States (T, B, ...) at `times` from y (B, ...) at times[0]; evaluations are then in `counts`."""
        own = [*self.f.parameters(), *([] if cond is None else [cond])]
        solution = self.solver.solve(lambda t, v: self.f(t.expand(len(v)), v, cond), y, times, parameters=own)
        self.counts = solution.counts
        return solution.checked()

    def tight(self, factor: float = 0.1) -> "NeuralODE":
        """The same layer with tolerances times `factor`: what differs is the solver's error."""
        solver = replace(self.solver, rtol=self.solver.rtol * factor, atol=self.solver.atol * factor)
        return NeuralODE(self.f, solver)
