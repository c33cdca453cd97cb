"""Guidance: algebra of the estimates, and what it makes of exact Gaussian data in every sampler."""

import pytest
import torch
from torch import nn

from framefill.arrays import Rng, expand
from framefill.diffusion import guide
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.guide import ClassifierFree, Clipped, Wrapper
from framefill.diffusion.noise import GaussianFreeField
from framefill.diffusion.schedule import cosine
from framefill.diffusion.target import V
from gaussian import NOISES, SAMPLERS, SCHEDULES, gaussian, public, table, white

T = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
every_sampler = pytest.mark.parametrize("make", **table(SAMPLERS))
every_schedule = pytest.mark.parametrize("process", **table(SCHEDULES))
every_noise = pytest.mark.parametrize("noise", **table(NOISES))
every_wrapper = pytest.mark.parametrize("wrap", [lambda m: ClassifierFree(m, 2.0), Clipped], ids=["free", "clipped"])


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


class Curved:
    """A model that is linear in nothing."""

    def __init__(self, process=None, noise=None):
        self.schedule, self.noise, self.calls = process or cosine(), noise or GaussianFreeField(1.0), []

    def __call__(self, x_t, t, cond):
        self.calls.append((x_t, t, cond))
        return torch.sin(x_t) * expand(t, x_t) + (0 if cond is None else torch.exp(0.3 * cond) * torch.cos(x_t))


def test_every_wrapper_is_here():
    assert public(guide, Wrapper) == {"Wrapper", "ClassifierFree", "Clipped"}


@every_wrapper
def test_a_wrapper_keeps_the_process(wrap):
    model = Curved()
    guided = wrap(Clipped(model))
    assert isinstance(guided, nn.Module)
    assert guided.schedule is model.schedule
    assert guided.noise is model.noise


@every_wrapper
def test_a_wrapper_shows_the_parameters_within(wrap):
    network = nn.Linear(3, 3)
    assert set(wrap(Denoiser(network, cosine(), V())).parameters()) == set(network.parameters())


def test_scale_one_is_conditional_and_zero_is_null():
    x_t, cond, model = white(0, 3, 2, 5, 6), white(1, 3, 2, 5, 6), Curved()
    close(ClassifierFree(model, 1.0)(x_t, T, cond), model(x_t, T, cond))
    assert torch.equal(ClassifierFree(model, 0.0)(x_t, T, cond), model(x_t, T, torch.zeros_like(cond)))


def test_the_estimate_is_linear_in_the_scale():
    x_t, cond, model = white(2, 3, 2, 5, 6), white(3, 3, 2, 5, 6), Curved()
    at = {s: ClassifierFree(model, s)(x_t, T, cond) for s in (-1.0, 0.0, 1.0, 2.5)}
    close(at[-1.0], 2 * at[0.0] - at[1.0])
    close(at[2.5], at[0.0] + 2.5 * (at[1.0] - at[0.0]))
    assert (at[2.5] - at[1.0]).abs().min() > 1e-6


def test_the_null_condition_is_ones_own():
    x_t, cond, model = white(4, 3, 2, 5, 6), white(5, 3, 2, 5, 6), Curved()
    guided = ClassifierFree(model, 3.0, null=lambda c: c.flip(1) - 7)(x_t, T, cond)
    close(guided, 3 * model(x_t, T, cond) - 2 * model(x_t, T, cond.flip(1) - 7))


def test_both_estimates_come_from_one_call():
    x_t, cond, model = white(6, 3, 2, 5, 6), white(7, 3, 2, 5, 6), Curved()
    ClassifierFree(model, 3.0)(x_t, T, cond)
    ((x, t, c),) = model.calls
    assert torch.equal(x, torch.cat([x_t, x_t]))
    assert torch.equal(t, torch.cat([T, T]))
    assert torch.equal(c, torch.cat([cond, 0 * cond]))


@every_sampler
@every_schedule
@every_noise
def test_guidance_of_gaussians_moves_the_mean(make, process, noise):
    # The posterior mean is affine in the prior mean, so guidance with scale w is exactly the model of condition w * c,
    # and sampling, which never looks inside, must agree: with every sampler, schedule and noise.
    data, cond = gaussian(process, noise), 0.5 * white(8, 2, 5, 6)
    guided = make(4)(ClassifierFree(data, 2.5), torch.zeros_like(cond), cond, Rng([1, 2]))
    close(guided, make(4)(data, torch.zeros_like(cond), 2.5 * cond, Rng([1, 2])), 1e-7)
    conditional = make(4)(ClassifierFree(data, 1.0), torch.zeros_like(cond), cond, Rng([1, 2]))
    plain = make(4)(data, torch.zeros_like(cond), cond, Rng([1, 2]))
    close(conditional, plain, 1e-7)
    null = make(4)(ClassifierFree(data, 0.0), torch.zeros_like(cond), cond, Rng([1, 2]))
    close(null, make(4)(data, torch.zeros_like(cond), None, Rng([1, 2])), 1e-7)
    assert (null - conditional).abs().max() > 1e-2


@every_sampler
@every_noise
def test_guided_samples_do_not_depend_on_the_batch(make, noise):
    data, cond = gaussian(cosine(), noise), white(9, 4, 2, 5, 6)
    model = ClassifierFree(data, 2.0)
    together = make(4)(model, torch.zeros_like(cond), cond, Rng([1, 2, 3, 4]))
    for i in range(4):
        alone = make(4)(model, torch.zeros_like(cond[:1]), cond[i : i + 1], Rng([i + 1]))
        assert torch.equal(alone[0], together[i])


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 0.25)])
def test_clipped_is_a_clamp(low, high):
    x_t, cond, model = 3 * white(10, 3, 2, 5, 6), white(11, 3, 2, 5, 6), Curved()
    clipped, free = Clipped(model, low, high)(x_t, T, cond), model(x_t, T, cond)
    inside = (free >= low) & (free <= high)
    assert 0 < inside.double().mean() < 1
    assert torch.equal(clipped[inside], free[inside])
    assert (clipped[free > high] == high).all()
    assert (clipped[free < low] == low).all()
    assert Clipped(model)(9 * torch.ones(1, 1, 2, 2), T[:1]).max() <= 1


@every_sampler
@every_schedule
def test_clipped_samples_are_in_range(make, process):
    data = gaussian(process, GaussianFreeField(0.5))
    x = make(5)(Clipped(data, -0.2, 0.9), torch.zeros(3, 5, 6, dtype=torch.float64), None, Rng([1, 2, 3]))
    assert x.min() >= -0.2
    assert x.max() <= 0.9
    assert x.std() > 0.1
    # A range wider than the data changes nothing.
    wide = make(5)(Clipped(data, -1e9, 1e9), torch.zeros(3, 5, 6, dtype=torch.float64), None, Rng([1, 2, 3]))
    assert torch.equal(wide, make(5)(data, torch.zeros(3, 5, 6, dtype=torch.float64), None, Rng([1, 2, 3])))
