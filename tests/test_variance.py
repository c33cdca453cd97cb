"""Learned variance on Gaussian data, where the best one is known, and losses drawn by importance."""

import math

import pytest
import torch
from torch import nn

from framefill.arrays import Rng
from framefill.diffusion.noise import GaussianFreeField, White
from framefill.diffusion.sample import DDPM
from framefill.diffusion.schedule import cosine, ddpm, iddpm, levels
from framefill.diffusion.target import Eps, X
from framefill.diffusion.variance import Learned, LearnedDDPM, LossAware, between, step_divergence, step_variances
from framefill.diffusion.weight import constant, snr
from framefill.errors import BadInput
from gaussian import NOISES, SCHEDULES, gaussian, noise_power, table, through, white
from test_sample import pairs, posterior

every_schedule = pytest.mark.parametrize("process", **table(SCHEDULES))
every_noise = pytest.mark.parametrize("noise", **table(NOISES))


def numbers(*values):
    return [torch.tensor(v, dtype=torch.float64) for v in values]


class Exact(nn.Module):
    """The exact estimate of Gaussian data, and a v of one's own, as a network with twice the channels."""

    def __init__(self, data, v):
        super().__init__()
        self.data, self.v = data, nn.Parameter(v)

    def forward(self, x, label, cond):
        angle = (1 - label[:1] / 1000) * math.pi / 2
        x_hat = self.data.estimate(x, angle)
        return torch.cat([x_hat, (2 * self.v - 1).expand_as(x_hat)], 1)


def learned(data, v):
    """A `Learned` around Exact; on preserving schedules the angle tells the level."""

    def estimate(x_t, angle):
        alpha, sigma = angle.cos(), angle.sin()
        gain = alpha * data.variance / (alpha**2 * data.variance + sigma**2 * noise_power(data.noise, *x_t.shape[-2:]))
        return data.mean + through(gain, x_t - alpha * data.mean)

    data.estimate = estimate
    return Learned(Exact(data, v), data.schedule, X(), noise=data.noise)


@every_schedule
def test_variances_of_a_step_are_those_of_the_posterior_and_the_transition(process):
    x = white(0, 2, 2)
    for t, s in pairs(process):
        small, large = step_variances(*numbers(t.alpha, t.sigma, s.alpha, s.sigma))
        assert small.item() == pytest.approx(posterior(t, s, x, x)[1], rel=1e-6)
        assert large.item() == pytest.approx(t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2, rel=1e-9)
        for v, expected in ((0.0, small), (1.0, large), (0.5, (small * large).sqrt())):
            assert between(torch.tensor(v).double(), small, large).exp().item() == pytest.approx(expected.item())


def test_the_divergence_is_that_of_two_normals():
    small, large = numbers(0.1, 0.4)
    error, v, signal = white(1, 50), torch.rand(50, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    p = torch.distributions.Normal(signal * error, (between(v, small, large) / 2).exp())
    q = torch.distributions.Normal(torch.zeros(50, dtype=torch.float64), small.sqrt())
    nats = torch.distributions.kl_divergence(q, p)
    torch.testing.assert_close(step_divergence(error, v, signal, small, large, bits=False), nats)
    torch.testing.assert_close(step_divergence(error, v, signal, small, large), nats / math.log(2))


@every_schedule
@pytest.mark.parametrize("spread", [0.2, 0.9])
def test_the_best_variance_of_gaussian_data_is_the_true_one(process, spread):
    # x ~ N(0, V): x_s given x_t has variance small + signal^2 Var(x | x_t), and that v has no slope in the mean bound.
    for t, s in pairs(process)[2:]:
        small, large = step_variances(*numbers(t.alpha, t.sigma, s.alpha, s.sigma))
        left = spread * t.sigma**2 / (t.alpha**2 * spread + t.sigma**2)
        signal = s.alpha * large / t.sigma**2
        truth = small + signal**2 * left
        joint = s.alpha**2 * spread + s.sigma**2
        across = t.alpha / s.alpha * joint
        assert truth.item() == pytest.approx(joint - across**2 / (t.alpha**2 * spread + t.sigma**2), rel=1e-6)
        best = ((truth / small).log() / (large / small).log()).requires_grad_()
        # An error of root mean square sqrt(left) stands for the expectation: the bound is linear in its square.
        (error,) = numbers(left**0.5)
        bound = step_divergence(error, best, signal, small, large)
        (slope,) = torch.autograd.grad(bound, best)
        assert slope.item() == pytest.approx(0, abs=1e-9)
        for other in (best + 0.05, best - 0.05):
            assert step_divergence(error, other, signal, small, large) > bound


@every_noise
@pytest.mark.parametrize("v", [0.0, 0.3, 1.0])
def test_sampling_with_one_v_is_ddpm_with_that_variance(noise, v):
    data = gaussian(cosine(-12, 12), noise)
    model = learned(data, torch.full((1, 1, 1, 1), v, dtype=torch.float64))
    like = torch.zeros(2, 2, 5, 6, dtype=torch.float64)
    mine = LearnedDDPM(9)(model, like, None, Rng([1, 2]))
    torch.testing.assert_close(mine, DDPM(9, variance=v)(data, like, None, Rng([1, 2])), atol=1e-7, rtol=1e-7)
    alone = LearnedDDPM(9)(model, like[:1], None, Rng([2]))
    torch.testing.assert_close(alone[0], mine[1], atol=1e-12, rtol=0)


def test_each_element_has_its_own_variance():
    data = gaussian(cosine(-12, 12), White())
    v = torch.zeros(1, 1, 5, 6, dtype=torch.float64)
    v[..., 3] = 1
    model, like = learned(data, v), torch.zeros(2, 1, 5, 6, dtype=torch.float64)
    t, s = levels(data.schedule, torch.tensor([0.5, 0.4]))
    runs = [
        next(sampler.trajectory(m, white(3, 2, 1, 5, 6), None, Rng([1, 2]), path=[t, s]))
        for sampler, m in ((LearnedDDPM(1), model), (DDPM(1, variance=0.0), data), (DDPM(1, variance=1.0), data))
    ]
    other = torch.arange(6) != 3
    torch.testing.assert_close(runs[0][..., other], runs[1][..., other], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(runs[0][..., 3], runs[2][..., 3], atol=1e-9, rtol=1e-9)
    assert like.shape == runs[0].shape


@every_noise
def test_the_hybrid_loss_is_the_plain_one_plus_the_bound_and_its_gradient_avoids_the_mean(noise):
    steps, data = 50, gaussian(ddpm(50, 1e-3, 0.2), noise)
    model = learned(data, torch.full((1, 1, 1, 1), 0.4, dtype=torch.float64))
    mean = nn.Parameter(data.mean.clone())
    data.mean = mean
    x, t = white(4, 4, 1, 5, 6), torch.tensor([0.02, 0.1, 0.5, 1.0], dtype=torch.float64)
    rng = lambda: Rng([1, 2, 3, 4])  # noqa: E731
    plain, bound = model.loss(x, t, None, snr, rng()), model.bound(x, t, None, rng(), steps=steps)
    hybrid = model.hybrid(x, t, None, snr, rng(), steps=steps, share=0.01)
    torch.testing.assert_close(hybrid, plain + 0.01 * steps * bound)
    of_hybrid = torch.autograd.grad(hybrid.sum(), [mean, model.network.v], retain_graph=True)
    (of_plain,) = torch.autograd.grad(plain.sum(), mean)
    (of_bound,) = torch.autograd.grad(bound.sum(), model.network.v)
    torch.testing.assert_close(of_hybrid[0], of_plain)
    torch.testing.assert_close(of_hybrid[1], 0.01 * steps * of_bound)
    assert of_bound.abs().min() > 0


@every_noise
@pytest.mark.parametrize("process", [ddpm(40, 1e-3, 0.25), iddpm(40), cosine(-10, 10)], ids=["ddpm", "iddpm", "cosine"])
def test_the_bound_is_the_divergence_of_the_step_by_hand(process, noise):
    steps, data = 40, gaussian(process, noise)
    model = learned(data, torch.full((1, 1, 1, 1), 0.25, dtype=torch.float64))
    x = white(5, 1, 1, 5, 6)
    for k in (2, 17, 39):
        t, s = levels(process, torch.tensor([k / steps, (k - 1) / steps], dtype=torch.float64))
        x_t = t.alpha * x + t.sigma * noise.like(x, Rng([8]))
        times = torch.full((1,), t.t, dtype=torch.float64)
        (at_truth, small), (at_guess, _) = (posterior(t, s, y, x_t) for y in (x, model(x_t, times)))
        large = t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2
        spread = small**0.75 * large**0.25
        gap = noise.whiten(at_guess - at_truth)
        nats = (math.log(spread / small) + small / spread - 1 + gap.square() / spread) / 2
        got = model.bound(x, times, None, Rng([8]), steps=steps)
        assert got.item() == pytest.approx(nats.mean().item() / math.log(2), rel=1e-5)


def test_the_last_step_of_a_table_is_a_density_with_the_smallest_variance():
    steps, process = 40, ddpm(40, 1e-3, 0.25)
    data = gaussian(process, White())
    model = learned(data, torch.zeros(1, 1, 1, 1, dtype=torch.float64))
    x, t = white(6, 1, 1, 5, 6), torch.tensor([1 / steps], dtype=torch.float64)
    one, two = levels(process, torch.tensor([1 / steps, 2 / steps], dtype=torch.float64))
    floor = posterior(two, one, x, x)[1]
    x_hat = model(one.alpha * x + one.sigma * White().like(x, Rng([8])), t)
    expected = -torch.distributions.Normal(x_hat, floor**0.5).log_prob(x).mean() / math.log(2)
    assert model.bound(x, t, None, Rng([8]), steps=steps).item() == pytest.approx(expected.item(), rel=1e-9)


def test_wrong_networks_and_models_are_refused():
    single = Learned(nn.Identity(), cosine(), X())
    single.network.forward = lambda x, label, cond: x
    with pytest.raises(BadInput, match="needs a network with 6 channels out, got 3"):
        single(torch.zeros(1, 3, 4, 4), torch.ones(1))
    with pytest.raises(BadInput, match="needs a model with a learned variance, got Gaussian; use DDPM"):
        LearnedDDPM(2)(gaussian(cosine(), White()), torch.zeros(1, 1, 5, 6), None, Rng([0]))


def test_learned_models_are_denoisers_for_every_target():
    network = nn.Identity()
    network.forward = lambda x, label, cond: torch.cat([torch.tanh(x), 3 * x], 1)
    model = Learned(network, cosine(-10, 10), Eps(), noise=GaussianFreeField(1.0))
    x, t = white(7, 2, 2, 4, 4), torch.tensor([0.3, 0.8], dtype=torch.float64)
    x_hat, v = model.both(x, t)
    alpha, sigma = (w[:, None, None, None] for w in model.schedule(t))
    torch.testing.assert_close(x_hat, (x - sigma * torch.tanh(x)) / alpha)
    torch.testing.assert_close(v, ((3 * x + 1) / 2).clamp(0, 1))
    assert torch.equal(model(x, t), x_hat)
    assert model.loss(x, t, None, constant, Rng([0, 1])).shape == (2,)


# --- steps by importance ----------------------------------------------------------------------------------------------


def filled(losses, history=3):
    aware = LossAware(len(losses), history=history)
    t = torch.arange(1, len(losses) + 1, dtype=torch.float64) / len(losses)
    for _ in range(history):
        assert not aware.warm
        torch.testing.assert_close(aware.probabilities(), torch.full_like(losses, 1 / len(losses)))
        aware.update(t, losses)
    assert aware.warm
    return aware


def test_chances_follow_the_root_of_the_second_moment_after_the_warm_up():
    losses = torch.tensor([5.0, 1.0, 0.5, 0.1], dtype=torch.float64)
    aware = filled(losses)
    expected = 0.999 * losses / losses.sum() + 0.001 / 4
    torch.testing.assert_close(aware.probabilities(), expected)
    # Only the last three count, and what is not a number does not.
    t = torch.full((4,), 0.5, dtype=torch.float64)
    aware.update(t, torch.tensor([math.nan, 3.0, 4.0, math.inf]))
    moment = math.sqrt((1 + 9 + 16) / 3)
    torch.testing.assert_close(aware.probabilities()[1].item(), 0.999 * moment / (5.6 + moment) + 0.001 / 4)


def test_weighted_losses_are_unbiased_and_less_noisy():
    losses = torch.tensor([9.0, 2.0, 0.5, 0.2, 0.1, 0.1, 0.05, 0.0], dtype=torch.float64)
    n = 4000
    seen = {}
    for name, aware in (("aware", filled(losses)), ("uniform", LossAware(8))):
        t, weight = aware.times(Rng.batch(3, n))
        place = (t * 8).round().long() - 1
        assert place.min() >= 0
        assert place.max() <= 7
        # Every draw has the chance it is weighted for.
        counts = torch.bincount(place, minlength=8) / n
        p = aware.probabilities()
        assert ((counts - p).abs() < 4 * (p / n).sqrt() + 1e-9).all()
        seen[name] = weight * losses[place]
        error = seen[name].std().item() / n**0.5
        assert seen[name].mean().item() == pytest.approx(losses.mean().item(), abs=4 * error + 1e-9)
    assert seen["aware"].std() < 0.1 * seen["uniform"].std()


def test_losses_of_zero_leave_the_times_uniform():
    aware = filled(torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(aware.probabilities(), torch.full((4,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("given", [{"steps": 0}, {"steps": 3, "history": 0}, {"steps": 3, "uniform": 0.0}])
def test_bad_settings_are_refused(given):
    with pytest.raises(BadInput, match="steps >= 1, history >= 1 and uniform in"):
        LossAware(**given)
