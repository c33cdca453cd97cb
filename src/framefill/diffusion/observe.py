"""Guidance by observations: samples of x given y = A x + noise, from a model of x that has never seen y.

With y the clean estimate of x_t moves by Tweedie's formula, for noise of covariance Sigma,

    E[x | x_t, y] = x_hat + (sigma^2 / alpha) Sigma grad log p(y | x_t),

and p(y | x_t) is taken as a Gaussian around A x_hat. Wrappers differ in the covariance of x given x_t: `Reconstruction`
knows the noise only, V = (sigma / alpha)^2 Sigma; `MomentMatched` asks the model, V = (sigma^2 / alpha) Sigma J^T with
J = d x_hat / d x_t, which is exact. Sums are taken per sample, so nothing depends on the batch. `Replacement` and
`Renoised` need no gradient: they put observed cells in their place.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from framefill.arrays import Rng, expand
from framefill.diffusion.denoiser import Model
from framefill.diffusion.guide import Wrapper
from framefill.errors import BadInput

Linear = Callable[[Tensor], Tensor]
"""A linear map of tensors (B, ...), sample by sample; its adjoint is found by autograd."""


@dataclass(frozen=True, eq=False)
class Observation:
    """y = operator(x) + std e, with e standard normal: what is known of a signal x (B, ...).

    `y` is (B, ...), with NaN where nothing was observed. Without `operator` it has the shape of x: any cells of any
    frames. `operator` is linear, e.g. a mean over blocks of pixels or over frames, and made of torch operations.
    `std` >= 0, in the units of y, is a number or broadcasts to y. Raises BadInput for anything else.
    """

    y: Tensor
    operator: Linear | None = None
    std: float | Tensor = 0.0

    def __post_init__(self) -> None:
        std = torch.as_tensor(self.std)
        if not bool((std.isfinite() & (std >= 0)).all()):
            raise BadInput("the std of an observation must be finite and not negative")
        sizes = zip(reversed(std.shape), reversed(self.y.shape), strict=False)
        if std.ndim > self.y.ndim or any(n not in (1, size) for n, size in sizes):
            raise BadInput(f"an std of shape {tuple(std.shape)} does not fit y of shape {tuple(self.y.shape)}")
        if not self.y.is_floating_point() or bool(self.y.isinf().any()):
            raise BadInput("y of an observation must be finite floating-point numbers, or NaN where nothing is known")
        if not bool(self.known.any()):
            raise BadInput("nothing is observed: y has no number in it; use the model without guidance")

    @property
    def known(self) -> Tensor:
        """Where something was observed: bool, the shape of y."""
        return ~self.y.isnan()

    def of(self, x: Tensor) -> Tensor:
        """A x for x (B, ...), zero where nothing was observed."""
        seen = self.operator(x) if self.operator else x
        if seen.shape != self.y.shape:
            raise BadInput(_misfit(self, x, seen))
        return seen.masked_fill(self.y.isnan().to(x.device), 0.0)

    def adjoint(self, u: Tensor, like: Tensor) -> Tensor:
        """A^T u with the shape of `like`, for u with the shape of y."""
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.zeros_like(like, requires_grad=True)
            seen = self.of(x)
        return _pull(seen, x, u)

    def residual(self, seen: Tensor) -> Tensor:
        """y - `seen` where something was observed, else zero."""
        return (self.y.to(seen) - seen).nan_to_num(0.0)

    def noise(self, u: Tensor) -> Tensor:
        """std^2 u, for u with the shape of y."""
        return torch.as_tensor(self.std).to(u).square() * u

    def put(self, values: Tensor, x: Tensor) -> Tensor:
        """x with `values` (same shape) in its observed cells."""
        return torch.where(self.known.to(x.device), values.to(x), x)


def _misfit(observation: Observation, x: Tensor, seen: Tensor) -> str:
    y = observation.y
    if seen.shape[1:] == y.shape[1:]:
        return (
            f"an observation of {len(y)} samples cannot guide a batch of {len(x)}; give one row of y per sample, and "
            "wrap guidance by observations around ClassifierFree, not inside it"
        )
    return f"y has shape {tuple(y.shape)}, but what is observed of x {tuple(x.shape)} has shape {tuple(seen.shape)}"


def _pull(out: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """(d out / d x)^T v; can itself be differentiated where gradients are enabled, so that guidances nest."""
    if not out.requires_grad:
        raise BadInput("guidance needs gradients through the model and the operator; one of them lets none pass")
    (pulled,) = torch.autograd.grad(
        out, x, v, retain_graph=True, create_graph=torch.is_grad_enabled(), allow_unused=True, materialize_grads=True
    )
    return pulled.to(v.dtype)


def conjugate_gradients(apply: Linear, b: Tensor, iterations: int) -> Tensor:
    """u with apply(u) = b for b (B, ...), where `apply` is symmetric and positive, sample by sample.

    A sample stops early when it is solved to rounding, or when a direction shows no positive curvature, which the
    Jacobian of a learned model may have: it then keeps what it has found.
    """
    tiny = 10 * torch.finfo(b.dtype).eps
    u, rest, direction, steepest = torch.zeros_like(b), b, b, torch.zeros_like(b[:1])
    left = _dot(rest, rest)
    going, enough = left > 0, tiny**2 * left
    for _ in range(iterations):
        image = apply(direction)
        curvature, length = _dot(direction, image), _dot(direction, direction)
        steepest = torch.maximum(steepest, curvature / length.where(going, 1))
        going = going & (curvature > tiny * steepest * length)
        step = torch.where(going, left / curvature.where(going, 1), 0)
        u, rest = u + step * direction, rest - step * image
        before, left = left, _dot(rest, rest)
        going = going & (left > enough)
        if not going.any():
            break
        direction = rest + torch.where(going, left / before.where(going, 1), 0) * direction
    return u


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return expand((a * b).flatten(1).sum(1), a)


class Reconstruction(Wrapper):
    """Reconstruction guidance (Ho et al. 2022, "Video diffusion models", section 3.1; seed 003), with V of the noise:

        x_hat + weight (sigma^2 / alpha) Sigma J^T A^T ((sigma / alpha)^2 A Sigma A^T + std^2)^-1 (y - A x_hat)

    For cells seen without noise, in white noise, that is x_hat - weight (alpha / 2) grad |y - A x_hat|^2, Ho's form.
    The noise alone is a wider guess of x than noise and data together, so weight 1 pulls too little at high noise, and
    samples lie between the free ones and the right ones; a weight above 1 pulls more there, and overshoots y itself at
    low noise, unless `Replacement` is wrapped around, as Ho et al. and seed 003 do. Costs one backward pass per call.

    Paper: seed 003's program takes the mean of the squared error over the batch, so guidance weakens with its size;
    here it is summed per sample (facts, section 4).
    """

    iterations = 50  # of a solve that does not ask the network; white noise on cells needs one

    def __init__(self, model: Model, observation: Observation, weight: float = 1.0):
        super().__init__(model)
        if not (math.isfinite(weight) and weight >= 0):
            raise BadInput(f"the weight of guidance must be finite and not negative (0: none), got {weight}")
        self.observation, self.weight = observation, weight

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The guided clean estimate."""
        x, x_hat, seen = _watched(self.model, self.observation, x_t, t, cond)
        alpha, sigma = _level(self, t, x_hat)
        clean = _level(self, t, seen)[0] ** 2

        def apply(u: Tensor) -> Tensor:
            spread = sigma**2 * _covariance(self, self.observation.adjoint(u, x_hat))
            return self.observation.of(spread) + clean * self.observation.noise(u)

        u = conjugate_gradients(apply, self.observation.residual(seen), self.iterations)
        return x_hat + self.weight * alpha * sigma**2 * _covariance(self, _pull(seen, x, u))


class MomentMatched(Wrapper):
    """Guidance with the model's own covariance of x given x_t (Rozet et al. 2024, moment matching).

        x_hat + V A^T (A V A^T + std^2)^-1 (y - A x_hat),    V = (sigma^2 / alpha) Sigma J^T

    Exact on Gaussian data, whatever the operator, noise and schedule, once `iterations` of conjugate gradients solve
    the system; few do. Each costs a backward pass through the model, as does one more.

    At alpha = 0 (pure noise of `flow`) V is 0/0; the model is then asked at 0.999 t, where it knows its prior.
    """

    def __init__(self, model: Model, observation: Observation, *, iterations: int = 5):
        super().__init__(model)
        if iterations < 1:
            raise BadInput(f"moment matching needs at least 1 iteration, got {iterations}")
        self.observation, self.iterations = observation, iterations

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The guided clean estimate."""
        t = torch.where(self.schedule(t)[0] > 0, t, 0.999 * t)
        x, x_hat, seen = _watched(self.model, self.observation, x_t, t, cond)
        sigma, alpha = _level(self, t, x_hat)[1], _level(self, t, seen)[0]

        def spread(u: Tensor) -> Tensor:  # alpha V A^T u: nothing is divided by alpha
            return sigma**2 * _covariance(self, _pull(seen, x, u))

        def apply(u: Tensor) -> Tensor:
            return self.observation.of(spread(u)) + alpha * self.observation.noise(u)

        return x_hat + spread(conjugate_gradients(apply, self.observation.residual(seen), self.iterations))


def _watched(
    model: Model, observation: Observation, x_t: Tensor, t: Tensor, cond: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """x_t as a variable, its clean estimate and what would be observed of that, with the graph between them."""
    follow = torch.is_grad_enabled() and x_t.requires_grad
    with torch.inference_mode(False), torch.enable_grad():
        variable = x_t if follow else _ordinary(x_t).detach().requires_grad_()
        x_hat = model(variable, _ordinary(t), None if cond is None else _ordinary(cond))
        if bool(observation.of(torch.zeros_like(x_hat)).any()):
            raise BadInput("the operator of an observation must be linear; this one does not map zero to zero")
        return variable, x_hat, observation.of(x_hat)


def _ordinary(x: Tensor) -> Tensor:
    """Tensors made in inference mode, as inside a product, cannot be part of a graph; copies can."""
    return x.clone() if x.is_inference() else x


def _level(wrapper: Wrapper, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma at times t, to be multiplied with `like`."""
    alpha, sigma = wrapper.schedule(t)
    return expand(alpha, like).to(like), expand(sigma, like).to(like)


def _covariance(wrapper: Wrapper, v: Tensor) -> Tensor:
    """Sigma v."""
    return wrapper.noise.color(wrapper.noise.color(v))


class Replacement(Wrapper):
    """The estimate with observed cells put in their place (Ho et al. 2022, the replacement method).

    A sampler then draws the observed cells of x_s from q(x_s | x_t, y), with its own noise, and ends on y exactly. The
    other cells learn of y only through what the model sees in x_t; wrap it around `Reconstruction` for more.
    Cells are taken as exact: an observation with an operator or an std raises BadInput.
    """

    def __init__(self, model: Model, observation: Observation):
        super().__init__(model)
        self.observation = _exact(observation)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The clean estimate, equal to y where that is known."""
        x_hat = self.model(x_t, t, cond)
        self.observation.of(x_hat)
        return self.observation.put(self.observation.y, x_hat)


class Renoised(Wrapper):
    """The model sees observed cells as alpha y + sigma n with n fresh at every call: a draw from q(x_t | y).

    Sample i draws from stream i of `rng`, so it does not depend on its batch. Wrap `Replacement` around it for Song et
    al.'s (2021) inpainting. With coloured noise, whole frames must be observed for the noise to hang together.
    """

    def __init__(self, model: Model, observation: Observation, rng: Rng):
        super().__init__(model)
        self.observation, self.rng = _exact(observation), rng
        if len(rng) != len(observation.y):
            raise BadInput(f"{len(observation.y)} observed samples need as many random streams, got {len(rng)}")

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The clean estimate of x_t with its observed cells drawn anew."""
        self.observation.of(x_t)
        alpha, sigma = _level(self, t, x_t)
        noised = alpha * self.observation.y.to(x_t) + sigma * self.noise.like(x_t, self.rng)
        return self.model(self.observation.put(noised, x_t), t, cond)


def _exact(observation: Observation) -> Observation:
    if observation.operator or bool(torch.as_tensor(observation.std).any()):
        raise BadInput("replacement takes observed cells as exact: no operator, std 0; use Reconstruction for others")
    return observation
