"""Guidance: algebra of the estimates, and what it makes of exact Gaussian data in every sampler."""

import math

import pytest
import torch
from torch import nn

from framefill.arrays import Rng, expand
from framefill.diffusion import guide
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.guide import ClassifierFree, Clipped, Limited, Wrapper
from framefill.diffusion.noise import GaussianFreeField
from framefill.diffusion.schedule import cosine
from framefill.diffusion.target import V
from framefill.errors import BadInput
from gaussian import NOISES, SAMPLERS, SCHEDULES, crossing, gaussian, public, table, white

T = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
every_sampler = pytest.mark.parametrize("make", **table(SAMPLERS))
every_schedule = pytest.mark.parametrize("process", **table(SCHEDULES))
every_noise = pytest.mark.parametrize("noise", **table(NOISES))
WRAPPERS = {
    "free": lambda m: ClassifierFree(m, 2.0),
    "rescaled": lambda m: ClassifierFree(m, 2.0, rescale=0.7),
    "limited": lambda m: Limited(ClassifierFree(m, 2.0), 0.1, 10.0),
    "clipped": Clipped,
}
every_wrapper = pytest.mark.parametrize("wrap", **table(WRAPPERS))


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
    assert public(guide, Wrapper) == {"Wrapper", "ClassifierFree", "Clipped", "Limited"}


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


@crossing("make", SAMPLERS)
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


def spread(x):
    return x.flatten(1).std(1, correction=0)


def test_rescaling_gives_back_the_spread_of_the_condition_sample_by_sample():
    x_t, cond, model = (
        white(0, 3, 2, 5, 6),
        white(1, 3, 2, 5, 6) * torch.tensor([1, 2, 4.0])[:, None, None, None],
        Curved(),
    )
    plain, x_cond = ClassifierFree(model, 5.0)(x_t, T, cond), model(x_t, T, cond)
    assert (spread(plain) / spread(x_cond) - 1).abs().min() > 0.1
    assert torch.equal(ClassifierFree(model, 5.0, rescale=0.0)(x_t, T, cond), plain)
    full = ClassifierFree(model, 5.0, rescale=1.0)(x_t, T, cond)
    close(spread(full), spread(x_cond))
    close(full / plain, (spread(x_cond) / spread(plain))[:, None, None, None].expand_as(plain))
    close(ClassifierFree(model, 5.0, rescale=0.7)(x_t, T, cond), 0.7 * full + 0.3 * plain)
    close(ClassifierFree(model, 5.0, rescale=0.7)(x_t[1:2], T[1:2], cond[1:2])[0], (0.7 * full + 0.3 * plain)[1])
    # Scale 1 has the right spread already; an estimate without spread has no scale to be right or wrong.
    close(ClassifierFree(model, 1.0, rescale=1.0)(x_t, T, cond), x_cond)
    flat = torch.ones(3, 1, 2, 2, dtype=torch.float64)
    assert ClassifierFree(model, 3.0, rescale=1.0)(0 * flat, T, 0 * flat).eq(flat).all()


@pytest.mark.parametrize("process", [cosine(), SCHEDULES["edm"], SCHEDULES["flow"]], ids=["cosine", "edm", "flow"])
def test_guidance_is_limited_to_its_levels(process):
    x_t, cond, model = white(2, 5, 1, 4, 4), white(3, 5, 1, 4, 4), Curved(process)
    t = torch.tensor([0.01, 0.3, 0.5, 0.7, 1.0], dtype=torch.float64)
    alpha, sigma = process(t)
    free = ClassifierFree(model, 3.0)
    guided, plain = free(x_t, t, cond), model(x_t, t, cond)
    low, high = (float(sigma[i] / alpha[i]) for i in (1, 3))
    mixed = Limited(free, low, high)(x_t, t, cond)
    for i, inside in enumerate([False, False, True, True, False]):
        assert torch.equal(mixed[i], (guided if inside else plain)[i])
        model.calls.clear()
        alone = Limited(free, low, high)(x_t[i : i + 1], t[i : i + 1], cond[i : i + 1])
        close(alone[0], mixed[i])
        assert [len(x) for x, _, _ in model.calls] == [2 if inside else 1], "no call is wasted"
    assert torch.equal(Limited(free)(x_t, t, cond), guided)


@pytest.mark.parametrize("rescale", [-0.1, 1.1, math.nan])
def test_bad_rescaling_is_refused(rescale):
    with pytest.raises(BadInput, match=rf"rescale must lie in \[0, 1\] .*got {rescale}"):
        ClassifierFree(Curved(), 2.0, rescale=rescale)


@pytest.mark.parametrize("scale", [math.inf, math.nan])
def test_a_scale_that_is_no_number_is_refused(scale):
    with pytest.raises(BadInput, match=f"scale of guidance must be finite .*got {scale}"):
        ClassifierFree(Curved(), scale)


def test_guidance_without_a_condition_is_refused():
    with pytest.raises(BadInput, match="needs a condition, got None"):
        ClassifierFree(Curved(), 2.0)(white(0, 3, 1, 2, 2), T, None)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.nan)])
def test_levels_that_are_no_interval_are_refused(low, high):
    with pytest.raises(BadInput, match="need 0 <= low < high"):
        Limited(Clipped(Curved()), low, high)


def test_only_a_guidance_is_limited():
    with pytest.raises(BadInput, match="only a guidance can be limited, got Curved"):
        Limited(Curved())


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
