"""Guidance by observations, held against posteriors that are known: dense linear algebra, and integrals in the plane.

Nothing here uses Tweedie's formula. `Dense` conditions a joint Gaussian of x, x_t and y by solving one linear system.
"""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from framefill.arrays import Rng, expand
from framefill.diffusion import observe
from framefill.diffusion.guide import ClassifierFree, Clipped, Limited, Wrapper
from framefill.diffusion.langevin import Langevin
from framefill.diffusion.noise import GaussianFreeField, White
from framefill.diffusion.observe import (
    MomentMatched,
    Observation,
    Reconstruction,
    Renoised,
    Replacement,
    conjugate_gradients,
)
from framefill.diffusion.sample import DDIM, DDPM, DPMSolver, Heun
from framefill.diffusion.schedule import cosine
from framefill.errors import BadInput
from gaussian import NOISES, SAMPLERS, SCHEDULES, crossing, gaussian, noise_power, public, table, through, white

NAN = math.nan
T = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
H, W = 3, 4
every_sampler = pytest.mark.parametrize("make", **table(SAMPLERS))
every_schedule = pytest.mark.parametrize("process", **table(SCHEDULES))
every_noise = pytest.mark.parametrize("noise", **table(NOISES))


def close(a, b, tolerance=1e-7):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def cells(samples, *shape, seed=7, std=0.0):
    """About half the cells of every sample observed, others in each."""
    y, hide = 2 * white(seed, samples, *shape), white(seed + 1, samples, *shape) > 0
    return Observation(y.masked_fill(hide, NAN), std=std)


def halves(x):
    """Means of neighbouring columns: (..., H, W) to (..., H, W / 2)."""
    return (x[..., ::2] + x[..., 1::2]) / 2


def blocks(samples, *shape, seed=9, std=0.0):
    """Means of two columns, some of them missing."""
    y = white(seed, samples, *shape[:-1], shape[-1] // 2)
    return Observation(y.masked_fill(white(seed + 1, *y.shape) > 0.7, NAN), halves, std)


OBSERVATIONS = {
    "cells": cells,
    "noisy cells": lambda n, *shape: cells(n, *shape, std=0.4),
    "cells of many stds": lambda n, *shape: cells(n, *shape, std=white(5, *shape).abs()),
    "blocks": blocks,
    "noisy blocks": lambda n, *shape: blocks(n, *shape, std=0.2),
}


def matrix(linear, *shape):
    """A linear map of tensors (B, *shape) as a matrix (out, in)."""
    eye = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    return linear(eye).flatten(1).T


@dataclass
class Dense:
    """E[x | x_t, y] and the law of x given y, by conditioning a joint Gaussian; one sample at a time."""

    data: object
    observations: tuple
    shape: tuple = (H, W)

    def __post_init__(self):
        self.schedule, self.noise = self.data.schedule, self.data.noise
        self.prior = matrix(lambda x: through(self.data.variance, x), *self.shape)
        self.sigma = matrix(lambda x: through(noise_power(self.noise, H, W), x), *self.shape)
        self.mean = self.data.mean.expand(self.shape).flatten()

    def seen(self, i):
        """Rows of A, variances and values of everything that sample i shows."""
        rows, variances, values = [], [], []
        for o in self.observations:
            known = o.known[i].flatten()
            A = matrix(o.operator or (lambda x: x), *self.shape)
            std = torch.as_tensor(o.std, dtype=torch.float64).expand(o.y.shape)[i].flatten()
            rows.append(A[known])
            variances.append(std[known] ** 2)
            values.append(o.y[i].flatten()[known])
        return torch.cat(rows), torch.cat(variances).diag(), torch.cat(values)

    def condition(self, rows, spread, values):
        gain = torch.linalg.solve(rows @ self.prior @ rows.T + spread, rows @ self.prior).T
        return self.mean + gain @ (values - rows @ self.mean), self.prior - gain @ rows @ self.prior

    def law(self, i=0):
        """Mean and covariance of x given y."""
        return self.condition(*self.seen(i))

    def __call__(self, x_t, t, cond):
        alpha, sigma = self.schedule(t)
        out = []
        for i in range(len(x_t)):
            rows, spread, values = self.seen(i)
            eye = torch.eye(len(self.mean), dtype=torch.float64)
            both = torch.block_diag(sigma[i] ** 2 * self.sigma, spread)
            known = torch.cat([x_t[i].flatten(), values])
            out.append(self.condition(torch.cat([alpha[i] * eye, rows]), both, known)[0])
        return torch.stack(out).reshape(x_t.shape)


class Curved:
    """A model that is linear in nothing, and whose cells know of each other."""

    def __init__(self, process=None, noise=None):
        self.schedule, self.noise = process or cosine(), noise or GaussianFreeField(1.0)

    def __call__(self, x_t, t, cond):
        mixed = x_t + 0.5 * x_t.roll(1, -1)
        return torch.tanh(mixed / 2) * expand(1 - t / 2, x_t) + (0 if cond is None else 0.3 * cond * torch.cos(x_t))


WRAPPERS = {
    "reconstruction": lambda m, o: Reconstruction(m, o, 1.5),
    "moment matched": lambda m, o: MomentMatched(m, o, iterations=4),
    "replacement": Replacement,
    "renoised": lambda m, o: Renoised(m, o, Rng(range(len(o.y)))),
}
every_wrapper = pytest.mark.parametrize("wrap", **table(WRAPPERS))


def test_every_wrapper_is_here():
    assert public(observe, Wrapper) == {"Reconstruction", "MomentMatched", "Replacement", "Renoised"}


# --- the estimate -----------------------------------------------------------------------------------------------------


@crossing("observed", OBSERVATIONS)
def test_moment_matching_is_exact_on_gaussian_data(observed, process, noise):
    data, x_t, observation = gaussian(process, noise, H, W), white(0, 3, H, W), observed(3, H, W)
    exact = Dense(data, (observation,))(x_t, T, None)
    close(MomentMatched(data, observation, iterations=24)(x_t, T, None), exact, 1e-6)
    assert (data(x_t, T, None) - exact).abs().max() > 0.1


@every_noise
def test_moment_matching_of_video_where_observations_join_frames(noise):
    shape = (3, 1, H, W)
    data, x_t = gaussian(cosine(), noise, H, W), white(1, 2, *shape)
    fields = Observation(white(2, 2, 1, H, W), lambda x: x[:, 0] + x[:, 2] - 0.5 * x[:, 1], 0.1)  # between frames
    some = cells(2, *shape, std=0.3)
    for observation in (fields, some):
        exact = Dense(data, (observation,), shape)(x_t, T[:2], None)
        close(MomentMatched(data, observation, iterations=60)(x_t, T[:2], None), exact)


def test_pure_noise_of_the_flow_gives_the_posterior_of_the_prior():
    data, observation = gaussian(SCHEDULES["flow"], White(), H, W), cells(3, H, W, std=0.4)
    ones = torch.ones(3, dtype=torch.float64)
    guided = MomentMatched(data, observation, iterations=24)(white(0, 3, H, W), ones, None)
    for i in range(3):
        close(guided[i].flatten(), Dense(data, (observation,)).law(i)[0], 5e-3)
    # Reconstruction knows no prior, so y tells it nothing there.
    assert torch.equal(
        Reconstruction(data, observation)(white(0, 3, H, W), ones, None), data(white(0, 3, H, W), ones, None)
    )


@every_noise
def test_two_guidances_around_each_other_are_one_of_both_observations(noise):
    data, x_t = gaussian(cosine(), noise, H, W), white(3, 3, H, W)
    first, second = cells(3, H, W, std=0.5), blocks(3, H, W, std=0.3)
    nested = MomentMatched(MomentMatched(data, first, iterations=30), second, iterations=30)
    close(nested(x_t, T, None), Dense(data, (first, second))(x_t, T, None))


@crossing("observed", OBSERVATIONS)
def test_reconstruction_is_its_formula(observed, process, noise):
    # In matrices, with the Jacobian by finite columns of a curved model.
    model, x_t, observation = Curved(process, noise), white(4, 3, H, W), observed(3, H, W)
    guided, x_hat = Reconstruction(model, observation, 1.7)(x_t, T, None), model(x_t, T, None)
    dense = Dense(gaussian(process, noise, H, W), (observation,))
    alpha, sigma = process(T)
    for i in range(3):
        A, spread, values = dense.seen(i)
        jacobian = torch.autograd.functional.jacobian(lambda x, i=i: model(x[None], T[i : i + 1], None)[0], x_t[i])
        J = jacobian.reshape(H * W, H * W)
        wide = (sigma[i] / alpha[i]) ** 2 * A @ dense.sigma @ A.T + spread
        pull = dense.sigma @ J.T @ A.T @ torch.linalg.solve(wide, values - A @ x_hat[i].flatten())
        close((guided - x_hat)[i].flatten(), 1.7 * sigma[i] ** 2 / alpha[i] * pull, 1e-6)


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("shape", [(H, W), (4, 2, H, W)], ids=["images", "video"])
def test_reconstruction_with_replacement_is_the_form_of_the_papers(weight, shape):
    # x_b - (w alpha / 2) grad_(z_b) |x_a - x_hat_a|^2, x_a in its place: seed 003 and Ho et al.; a sum per sample.
    model, x_t, observation = Curved(noise=White()), white(5, 3, *shape), cells(3, *shape)
    guided = Replacement(Reconstruction(model, observation, weight), observation)(x_t, T, None)
    z = x_t.clone().requires_grad_()
    error = torch.where(observation.known, observation.y - model(z, T, None), 0).square()
    (gradient,) = torch.autograd.grad(error.sum(), z)
    paper = model(x_t, T, None) - expand(weight * cosine()(T)[0] / 2, x_t) * gradient
    close(guided, torch.where(observation.known, observation.y, paper), 1e-12)


@every_wrapper
@every_noise
def test_a_sample_does_not_depend_on_its_batch(wrap, noise):
    # Residuals of very different sizes: a mean over the batch, or a shared step, would show.
    y = cells(3, 2, H, W).y * torch.tensor([1e-3, 1.0, 1e3], dtype=torch.float64)[:, None, None, None]
    model, x_t = Curved(noise=noise), white(6, 3, 2, H, W)
    together = wrap(model, Observation(y))(x_t, T, None)
    for i in range(3):
        alone = wrap(model, Observation(y[i : i + 1]))
        if isinstance(alone, Renoised):
            alone.rng = Rng([i])
        close(alone(x_t[i : i + 1], T[i : i + 1], None)[0], together[i], 1e-12)


@pytest.mark.parametrize("wrap", **table({k: WRAPPERS[k] for k in ("reconstruction", "moment matched")}))
def test_a_sample_of_which_nothing_is_known_goes_its_own_way(wrap):
    observation = cells(3, H, W)
    observation.y[1] = NAN
    model, x_t = Curved(), white(7, 3, H, W)
    guided, free = wrap(model, observation)(x_t, T, None), model(x_t, T, None)
    close(guided[1], free[1], 0)
    assert (guided - free)[[0, 2]].abs().amax((1, 2)).min() > 1e-3


def test_gradients_pass_through_guidance():
    model, observation = Curved(noise=White()), cells(2, 2, 2, std=0.3)
    for wrap in (Reconstruction, MomentMatched):
        guided = wrap(model, observation)
        x_t = white(8, 2, 2, 2).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: guided(x, T[:2], None), x_t)  # noqa: B023
        with torch.no_grad():
            assert not guided(x_t, T[:2], None).requires_grad


# --- the solver -------------------------------------------------------------------------------------------------------


def test_conjugate_gradients_solve_each_sample_for_itself():
    root, b = white(0, 4, 6, 6), white(1, 4, 6)
    system = root @ root.mT + 0.5 * torch.eye(6, dtype=torch.float64)
    b[3] = 0
    u = conjugate_gradients(lambda v: (system @ v[..., None])[..., 0], b, 12)
    close(u, torch.linalg.solve(system, b), 1e-9)
    assert not u[3].any()


def test_a_solved_system_asks_for_nothing_more():
    # One distinct eigenvalue, one step; three, three: each may be a backward pass through a network.
    for scales, wanted in (([2.0, 2, 2, 2], 1), ([1.0, 2, 3, 3], 3)):
        asked = []
        gain = torch.tensor(scales, dtype=torch.float64)
        conjugate_gradients(lambda v, gain=gain, asked=asked: asked.append(v) or gain * v, white(2, 3, 4), 50)
        assert len(asked) == wanted


def test_conjugate_gradients_stop_where_a_system_has_no_answer():
    # Zero, negative, and singular with a right-hand side outside its range: finite answers, the good sample unharmed.
    systems = torch.stack([torch.diag(torch.tensor(d)) for d in ([1.0, 2, 3], [0, 0, 0], [-1, -2, -3], [1, 2, 0])])
    b = torch.tensor([1.0, 1, 1]).expand(4, 3)
    u = conjugate_gradients(lambda v: (systems @ v[..., None])[..., 0], b, 20)
    close(u[0], torch.tensor([1, 1 / 2, 1 / 3]), 1e-5)
    assert not u[1:3].any()
    assert u[3].isfinite().all()
    assert u[3].abs().max() < 100


# --- the law of the samples -------------------------------------------------------------------------------------------


class Impulses:
    """A noise whose draws are unit impulses, one per sample of the batch and cell, and zero in the last sample."""

    def __init__(self, noise):
        self.noise, self.count = noise, 0
        self.color, self.power = noise.color, getattr(noise, "power", 0.0)

    def like(self, x, rng):
        z, n = torch.zeros_like(x), x[0].numel()
        rows = torch.arange(self.count * n, min((self.count + 1) * n, len(x) - 1))
        z.reshape(len(x), -1)[rows, torch.arange(len(rows))] = 1
        self.count += 1
        return self.noise.color(z)


def law(sampler, wrap, data, observation):
    """Exact mean and covariance of a sampler's samples, which are affine in all the noise it draws."""
    probe = gaussian(data.schedule, data.noise, H, W)
    probe.mean, probe.variance, probe.noise = data.mean, data.variance, Impulses(data.noise)
    draws = sampler.steps if isinstance(sampler, DDPM) else 1
    many = draws * H * W + 1
    y = observation.y.expand(many, *observation.y.shape[1:])
    guided = wrap(probe, Observation(y, observation.operator, observation.std))
    x = sampler(guided, torch.zeros(many, H, W, dtype=torch.float64), None, Rng(range(many))).flatten(1)
    responses = x[:-1] - x[-1]
    return x[-1], responses.T @ responses


def exactly(iterations=16):
    return lambda m, o: MomentMatched(m, o, iterations=iterations)


FINE = {
    "ddim": (DDIM(120), 0.05),
    "heun": (Heun(40), 0.02),
    "dpm-solver": (DPMSolver(60), 0.02),
    "ddpm": (DDPM(60, variance=1.0), 0.02),
}


SEEN = {name: OBSERVATIONS[name] for name in ("noisy cells", "blocks")}


@crossing("fine", FINE, SEEN)  # observations in the place of schedules
def test_samples_have_the_law_of_the_posterior(fine, process, noise):
    (sampler, tolerance), observed = fine, process
    data, observation = gaussian(cosine(-10, 10), noise, H, W), observed(1, H, W)
    dense = Dense(data, (observation,))
    mean, covariance = law(sampler, exactly(), data, observation)
    true_mean, true_covariance = dense.law()
    assert (mean - true_mean).abs().max() < tolerance
    assert (covariance - true_covariance).abs().max() < tolerance
    assert (dense.mean - true_mean).abs().max() > 0.5
    assert (dense.prior - true_covariance).abs().max() > 0.2


@every_sampler
@pytest.mark.parametrize("process", **table({k: v for k, v in SCHEDULES.items() if k != "flow"}))
def test_sampling_with_guidance_is_sampling_with_the_exact_posterior_mean(make, process):
    data, observation = gaussian(process, GaussianFreeField(0.5), H, W), cells(2, H, W, std=0.3)
    like = torch.zeros(2, H, W, dtype=torch.float64)
    guided = make(4)(exactly(24)(data, observation), like, None, Rng([1, 2]))
    close(guided, make(4)(Dense(data, (observation,)), like, None, Rng([1, 2])), 1e-5)


@every_noise
def test_reconstruction_pulls_in_the_right_direction_and_not_far_enough(noise):
    # Data as coloured as the noise: in whitened cells nothing is correlated, so "between" has a meaning per cell.
    data = gaussian(cosine(-10, 10), noise, H, W)
    data.variance, data.mean = 0.5 * noise_power(noise, H, W), torch.zeros(H, W, dtype=torch.float64)
    observation = Observation(1 + white(3, 1, H, W).abs(), noise.whiten, 0.8)
    true_mean, true_covariance = Dense(data, (observation,)).law()
    found = {w: law(DDIM(60), lambda m, o, w=w: Reconstruction(m, o, w), data, observation) for w in (0.0, 1.0, 1.5)}
    whitened = {w: noise.whiten(mean.reshape(H, W)) for w, (mean, _) in found.items()}
    target = noise.whiten(true_mean.reshape(H, W))
    assert (whitened[0.0].abs() < 1e-3 * target).all()
    assert (whitened[1.0] > 0.4 * target).all()
    assert (whitened[1.0] < 0.8 * target).all()
    assert (whitened[1.5] > 1.2 * whitened[1.0]).all()
    # The spread left is too wide, and less than the prior's.
    assert true_covariance.trace() < found[1.0][1].trace() < found[0.0][1].trace()
    mean, _ = law(DDIM(60), exactly(), data, observation)
    close(mean, true_mean, 1e-2)


# --- replacement ------------------------------------------------------------------------------------------------------


@every_sampler
@pytest.mark.parametrize("fresh", [False, True], ids=["replaced", "renoised"])
def test_replaced_cells_end_on_what_was_seen_and_follow_its_noising(make, fresh):
    if isinstance(make(4), Langevin):
        pytest.skip("Langevin does not follow the noising, and on a cosine schedule its steps are far too long")
    data, y = gaussian(cosine(), White(), H, W), 2 * white(1, 500, H, W)
    y[..., ::2] = NAN
    observation, like = Observation(y), torch.zeros(500, H, W, dtype=torch.float64)
    inner = Renoised(data, observation, Rng(range(500, 1000))) if fresh else data
    sampler, guided = make(4), Replacement(inner, observation)
    path = sampler.path(guided)
    start = path[0].sigma * White().like(like, Rng(range(500)))
    with torch.no_grad():
        visited = list(sampler.trajectory(guided, start, None, Rng(range(1000, 1500))))
    assert torch.equal(visited[-1][observation.known], y[observation.known])
    if "variance" in vars(sampler) and sampler.variance > 0:
        return  # larger noise than the posterior's, by intention
    for level, x in list(zip(path[1:], visited, strict=True))[:-1]:
        noise = ((x - level.alpha * y) / level.sigma)[observation.known]
        assert abs(noise.mean()) < 0.08
        assert abs(noise.std() - 1) < 0.05


def test_renoised_cells_are_what_the_model_sees():
    seen = []

    class Spy(Curved):
        def __call__(self, x_t, t, cond):
            seen.append(x_t)
            return super().__call__(x_t, t, cond)

    observation, x_t = cells(3, 2, H, W), white(2, 3, 2, H, W)
    alpha, sigma = (expand(v, x_t) for v in cosine()(T))
    model = Renoised(Spy(noise=GaussianFreeField(0.5)), observation, Rng([4, 5, 6]))
    for noise in [(rng := Rng([4, 5, 6])) and model.noise.like(x_t, rng), model.noise.like(x_t, rng)]:
        model(x_t, T, None)
        known = observation.known
        assert torch.equal(seen[-1][~known], x_t[~known])
        close(seen[-1][known], (alpha * observation.y + sigma * noise)[known], 1e-12)


# --- a prior with two modes -------------------------------------------------------------------------------------------

CENTRES = torch.tensor([[1.0, 1.2], [-0.8, -1.0], [0.9, -1.1]], dtype=torch.float64)
SHARES, WIDTH = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), 0.35


class Mixture:
    """Points in the plane, as images (B, 1, 2), around three centres; a Model that is exactly right."""

    noise, schedule = White(), staticmethod(cosine(-12, 12))

    def __call__(self, x_t, t, cond):
        alpha, sigma = (v[:, None] for v in self.schedule(t))
        z = x_t[:, 0]
        variance = alpha**2 * WIDTH**2 + sigma**2
        distance = (z[:, None] - alpha[..., None] * CENTRES).square().sum(-1)
        weight = (SHARES.log() - distance / (2 * variance)).softmax(1)
        near = CENTRES + (alpha * WIDTH**2 / variance)[..., None] * (z[:, None] - alpha[..., None] * CENTRES)
        return (weight[..., None] * near).sum(1)[:, None]


def plane(value, std):
    """Points (n, 2) of a fine grid, and their probability given the first coordinate plus noise, by brute force."""
    line = torch.linspace(-3, 3, 301, dtype=torch.float64)
    points = torch.cartesian_prod(line, line)
    distance = (points[:, None] - CENTRES).square().sum(-1)
    log = (SHARES.log() - distance / (2 * WIDTH**2)).logsumexp(1) - (points[:, 0] - value).square() / (2 * std**2)
    return points, log.softmax(0)


def missed(wrap, value, std, many=1500):
    """How far the samples' mean, second moments and share above zero are from the posterior's."""
    y = torch.tensor([value, NAN], dtype=torch.float64).expand(many, 1, 2)
    guided = wrap(Mixture(), Observation(y, std=std))
    x = DDPM(40, variance=0.5)(guided, torch.zeros_like(y), None, Rng.batch(3, many))[:, 0]
    points, p = plane(value, std)
    features = lambda v: torch.cat([v, v**2, v[:, :1] * v[:, 1:], (v[:, 1:] > 0).double()], 1)  # noqa: E731
    return (features(x).mean(0) - (p[:, None] * features(points)).sum(0)).abs().max().item()


@pytest.mark.parametrize(("value", "std", "most"), [(0.9, 0.3, 0.15), (-0.5, 0.2, 0.25)])
def test_moment_matching_of_a_mixture_is_near_the_posterior_by_brute_force(value, std, most):
    # Not exact, for x given x_t is no Gaussian; less than half as wrong as the plain form.
    # Where y lies between the modes (0.2 with std 0.5) neither is good: 0.22 and 0.12 off, of 0.40 without guidance.
    free, plain = missed(lambda m, o: m, value, std), missed(Reconstruction, value, std)
    matched = missed(MomentMatched, value, std)
    assert matched < most
    assert matched < 0.5 * plain < 0.5 * free


def test_estimates_of_a_mixture_are_exact_where_one_mode_is_left():
    value, std = 0.6, 0.3
    x_t = torch.tensor([[0.7, 0.9], [-0.5, -0.6], [0.5, -0.8]], dtype=torch.float64)[:, None]
    y = torch.tensor([value, NAN], dtype=torch.float64).expand(3, 1, 2)
    points, p = plane(value, std)
    errors = {}
    for t in (0.05, 0.1, 0.2):
        times = torch.full((3,), t, dtype=torch.float64)
        alpha, sigma = Mixture.schedule(times[:1])
        distance = (x_t - alpha * points).square().sum(-1)
        exact = (p.log() - distance / (2 * sigma**2)).softmax(1) @ points
        for wrap in (MomentMatched, Reconstruction):
            guided = wrap(Mixture(), Observation(y, std=std))(x_t, times, None)[:, 0]
            errors[wrap, t] = (guided - exact).abs().amax(1)
        assert errors[MomentMatched, t][0] < 1e-5  # well within a mode, whatever the noise
        assert errors[Reconstruction, t][0] > 1e3 * errors[MomentMatched, t][0]
    assert errors[MomentMatched, 0.05].max() < 1e-4  # between modes once there is little noise
    assert errors[MomentMatched, 0.2].max() > 0.1


# --- with everything else ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inference", [False, True])
def test_everything_together_on_video_with_a_network(small, inference):
    # Coloured noise, v-prediction, float32, a network, classifier-free guidance, a limit, a clamp, DPM-Solver++.
    recipe = replace(small, noise_power=0.5, channels=1)
    torch.manual_seed(0)
    network = recipe.model().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    shape = (2, recipe.current, 1, 64, 64)
    y = (0.5 * white(0, *shape).float()).masked_fill(white(1, *shape) > -1, NAN)
    cond = white(2, 2, recipe.condition_channels, 64, 64).float()

    def draw(rows):
        free = ClassifierFree(network, 1.5, rescale=0.5)
        observation = Observation(y[rows], std=0.05)
        model = Replacement(Clipped(MomentMatched(free, observation, iterations=3)), Observation(y[rows]))
        model = Clipped(Limited(Reconstruction(model.model, observation, 0.5), 0.01, 3.0))
        return DPMSolver(3)(Replacement(model, Observation(y[rows])), torch.zeros_like(y[rows]), cond[rows], Rng(rows))

    with torch.inference_mode(inference):
        both = draw([0, 1])
        assert both.dtype == torch.float32
        assert both.isfinite().all()
        assert both.std() > 0.01
        assert torch.equal(both[~y.isnan()], y[~y.isnan()])
        close(draw([1])[0], both[1], 1e-4)
    assert all(p.grad is None for p in network.parameters())


def test_guidance_moves_a_product_in_inference_mode_as_anywhere():
    data, observation = Curved(), cells(2, H, W, std=0.2)
    like = torch.zeros(2, H, W, dtype=torch.float64)
    for wrap in (Reconstruction, MomentMatched):
        expected = DDIM(4)(wrap(data, observation), like, None, Rng([1, 2]))
        with torch.inference_mode():
            assert torch.equal(DDIM(4)(wrap(data, observation), like.clone(), None, Rng([1, 2])), expected)
        assert (expected - DDIM(4)(data, like, None, Rng([1, 2]))).abs().max() > 0.1


def test_guidance_around_classifier_free_guidance_is_of_the_guided_prior():
    # With a condition that moves the mean, scale 2 moves it twice as far, and the posterior is of that prior.
    data, cond, observation = gaussian(cosine(), White(), H, W), 0.5 * white(1, H, W), cells(3, H, W, std=0.3)
    moved = gaussian(cosine(), White(), H, W)
    moved.mean = data.mean + 2 * cond
    x_t = white(2, 3, H, W)
    guided = MomentMatched(ClassifierFree(data, 2.0), observation, iterations=20)
    close(guided(x_t, T, cond.expand(3, H, W)), Dense(moved, (observation,))(x_t, T, None))
    with pytest.raises(BadInput, match=r"3 samples cannot guide a batch of 6; .*around ClassifierFree, not inside"):
        ClassifierFree(MomentMatched(data, observation), 2.0)(x_t, T, cond.expand(3, H, W))


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "std", "match"),
    [
        (torch.full((2, 3), NAN), 0.0, "nothing is observed"),
        (torch.tensor([1.0, math.inf]), 0.0, "must be finite floating-point numbers"),
        (torch.tensor([1, 2]), 0.0, "must be finite floating-point numbers"),
        (torch.ones(2, 3), -0.1, "std of an observation must be finite and not negative"),
        (torch.ones(2, 3), NAN, "std of an observation must be finite and not negative"),
        (torch.ones(2, 3), torch.ones(2), r"std of shape \(2,\) does not fit y of shape \(2, 3\)"),
        (torch.ones(2, 3), torch.ones(4, 2, 3), r"std of shape \(4, 2, 3\) does not fit y of shape \(2, 3\)"),
    ],
)
def test_observations_that_cannot_be_are_refused(y, std, match):
    with pytest.raises(BadInput, match=match):
        Observation(y, std=std)


@every_wrapper
def test_an_observation_of_another_shape_is_refused(wrap):
    for shape in [(3, H, W + 1), (3, 2, H, W), (3, H * W)]:
        with pytest.raises(
            BadInput, match=r"y has shape .* but what is observed of x \(3, 3, 4\) has shape \(3, 3, 4\)"
        ):
            wrap(Curved(), Observation(torch.ones(shape)))(white(0, 3, H, W), T, None)
    with pytest.raises(BadInput, match="observation of 2 samples cannot guide a batch of 3"):
        wrap(Curved(), Observation(torch.ones(2, H, W)))(white(0, 3, H, W), T, None)


def test_an_operator_that_is_not_linear_is_refused():
    affine = Observation(torch.ones(3, H, W), lambda x: (x + 1) / 2)
    for wrap in (Reconstruction, MomentMatched):
        with pytest.raises(BadInput, match="must be linear; this one does not map zero to zero"):
            wrap(Curved(), affine)(white(0, 3, H, W), T, None)


def test_what_lets_no_gradient_pass_is_refused():
    model = Curved()
    detached = Observation(torch.ones(3, H, W), lambda x: x.detach())
    for wrap in (Reconstruction, MomentMatched):
        with pytest.raises(BadInput, match="needs gradients through the model and the operator"):
            wrap(model, detached)(white(0, 3, H, W), T, None)


@pytest.mark.parametrize("weight", [-1.0, math.inf, NAN])
def test_bad_weights_are_refused(weight):
    with pytest.raises(BadInput, match=f"weight of guidance must be finite and not negative .*got {weight}"):
        Reconstruction(Curved(), cells(1, H, W), weight)


def test_no_iterations_are_refused():
    with pytest.raises(BadInput, match="at least 1 iteration, got 0"):
        MomentMatched(Curved(), cells(1, H, W), iterations=0)


@pytest.mark.parametrize("observed", [OBSERVATIONS["noisy cells"], blocks])
@pytest.mark.parametrize("wrap", **table({k: WRAPPERS[k] for k in ("replacement", "renoised")}))
def test_replacement_of_what_is_not_exact_cells_is_refused(wrap, observed):
    with pytest.raises(BadInput, match="replacement takes observed cells as exact"):
        wrap(Curved(), observed(2, H, W))


def test_renoising_needs_a_stream_per_sample():
    with pytest.raises(BadInput, match="3 observed samples need as many random streams, got 2"):
        Renoised(Curved(), cells(3, H, W), Rng([1, 2]))
