"""Likelihoods by the probability-flow ODE against densities known in closed form, for every schedule and noise."""

import math

import numpy as np
import pytest
import torch

from framefill.arrays import Rng
from framefill.diffusion import likelihood
from framefill.diffusion.guide import ClassifierFree
from framefill.diffusion.likelihood import bits_per_dimension, dequantise, exact, hutchinson, log_likelihood
from framefill.diffusion.noise import GaussianFreeField, White
from framefill.diffusion.schedule import CLEAN, flow, levels
from framefill.errors import BadInput
from gaussian import NOISES, SCHEDULES, gaussian, noise_power, pairing, table, through, white

CONTINUOUS = {name: process for name, process in SCHEDULES.items() if name != "smld levels"}
every_noise = pytest.mark.parametrize("noise", **table(NOISES))
every_pair = pairing(CONTINUOUS)  # noises take turns in the fast suite
SIZE = (2, 3)


def log_density(x, mean, power):
    """log N(x; mean, circulant(power)) for images (B, H, W), by a dense covariance."""
    basis = torch.eye(power.numel(), dtype=torch.float64).reshape(-1, *power.shape)
    covariance = through(power, basis).flatten(1)
    return torch.distributions.MultivariateNormal(mean.flatten(), covariance).log_prob(x.flatten(1))


def quick_log_density(x, mean, power):
    """The same mode by mode, for the inside of a model."""
    square = torch.fft.fft2(x - mean).abs().square() / power.numel() / power
    return -(square + power.log() + math.log(2 * math.pi)).sum((-2, -1)) / 2


class Mixture:
    """Two Gaussians of any shape: the exact posterior mean by responsibilities."""

    def __init__(self, process, noise, share=0.3):
        self.schedule, self.noise = process, noise
        self.parts = [gaussian(process, noise, *SIZE), gaussian(process, noise, *SIZE)]
        self.parts[1].mean = 1.5 - self.parts[1].mean
        self.parts[1].variance = 0.5 * self.parts[1].variance.flip(0)
        self.parts[1].variance = (self.parts[1].variance + self.parts[1].variance.roll(1, 0).flip(0)) / 2
        self.logs = [math.log(share), math.log(1 - share)]

    def joint(self, x, t):
        """log of share times density of x_t, (2, B)."""
        level = t if t == CLEAN else levels(self.schedule, torch.tensor([t]))[0]
        rows = zip(self.logs, self.parts, strict=True)
        return torch.stack([log + quick_log_density(x, level.alpha * p.mean, p.marginal(level)) for log, p in rows])

    def __call__(self, x_t, t, cond):
        share = self.joint(x_t, float(t[0])).softmax(0)
        return sum(s[:, None, None] * part(x_t, t, cond) for s, part in zip(share, self.parts, strict=True))

    def draw(self, n):
        first = torch.arange(n) < round(n * math.exp(self.logs[0]))
        both = [part.draw(CLEAN, white(20 + i, n, *SIZE)) for i, part in enumerate(self.parts)]
        return torch.where(first[:, None, None], *both)


@every_pair
def test_bits_per_dimension_of_a_gaussian(process, noise):
    data = gaussian(process, noise, *SIZE)
    x = data.draw(CLEAN, white(0, 40, *SIZE))
    got = log_likelihood(data, x, None, Rng(range(40)), estimator=exact, steps=100)
    expected = log_density(x, data.mean, data.variance)
    # Within 1 % of the mean, and of the spread from sample to sample.
    bits = bits_per_dimension(got, 6)
    entropy = bits_per_dimension(expected, 6)
    assert bits.mean().item() == pytest.approx(entropy.mean().item(), rel=0.01)
    assert (got - expected).abs().max() < 0.02 * expected.abs().mean()


@every_pair
def test_bits_per_dimension_of_a_mixture(process, noise):
    data = Mixture(process, noise)
    x = data.draw(20)
    got = log_likelihood(data, x, None, Rng(range(20)), estimator=exact, steps=50)
    rows = zip(data.logs, data.parts, strict=True)
    expected = torch.stack([log + log_density(x, p.mean, p.variance) for log, p in rows]).logsumexp(0)
    assert bits_per_dimension(got, 6).mean().item() == pytest.approx(
        bits_per_dimension(expected, 6).mean().item(), rel=0.01
    )


@every_noise
def test_the_error_falls_with_the_square_of_the_step(noise):
    data = gaussian(SCHEDULES["cosine 20"], noise, *SIZE)
    x = data.draw(CLEAN, white(1, 4, *SIZE))
    expected = log_density(x, data.mean, data.variance)
    runs = (log_likelihood(data, x, None, Rng(range(4)), estimator=exact, steps=n, start=0.0) for n in (10, 20))
    coarse, fine = ((run - expected).abs().max().item() for run in runs)
    assert 3 < coarse / fine < 5.5


@every_noise
def test_hutchinson_is_unbiased_and_each_sample_has_its_own_signs(noise):
    process = SCHEDULES["cosine 10"]
    data = gaussian(process, noise, *SIZE)
    x = data.draw(CLEAN, white(2, 1, *SIZE)).expand(3000, *SIZE).contiguous()
    truth = log_likelihood(data, x[:1], None, Rng([0]), estimator=exact, steps=12)
    many = log_likelihood(data, x, None, Rng(range(3000)), estimator=hutchinson, steps=12)
    error = many.std().item() / 3000**0.5
    assert 0 < error < 0.1
    assert many.mean().item() == pytest.approx(truth.item(), abs=4 * error)
    alone = log_likelihood(data, x[:1], None, Rng([7]), steps=12)
    torch.testing.assert_close(alone[0], many[7], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("shape", [(4, 3, 3), (4, 2, 3, 2)])
def test_divergences_are_traces_of_the_jacobian(shape):
    size = math.prod(shape[1:])
    matrix = white(3, size, size)
    z = white(4, *shape)

    def field(z):
        return torch.tanh(z.flatten(1) @ matrix.T).reshape(shape)

    value, trace = exact(z, Rng(range(4)))(field, z)
    assert torch.equal(value, field(z))
    slopes = 1 - field(z).flatten(1).square()
    torch.testing.assert_close(trace, slopes @ matrix.diag())
    estimate = torch.stack([hutchinson(z, Rng.batch(i, 4))(field, z)[1] for i in range(800)])
    error = estimate.std(0) / 800**0.5
    assert ((estimate.mean(0) - trace).abs() < 4.5 * error).all()


@every_noise
@pytest.mark.parametrize("scale", [1.0, 0.3, 80.0])
def test_the_density_of_the_noise(noise, scale):
    n = scale * white(5, 6, 2, *SIZE)
    power = scale**2 * noise_power(noise, *SIZE)
    zero = torch.zeros(SIZE, dtype=torch.float64)
    expected = log_density(n[:, 0], zero, power) + log_density(n[:, 1], zero, power)
    torch.testing.assert_close(likelihood.gaussian_log_density(n, noise, scale), expected, atol=1e-8, rtol=1e-9)


def test_likelihoods_follow_the_condition_and_pass_through_guidance():
    data = gaussian(SCHEDULES["cosine 20"], White(), *SIZE)
    x, shift = data.draw(CLEAN, white(6, 3, *SIZE)), torch.full((3, 1, 1), 0.7, dtype=torch.float64)
    plain = log_likelihood(data, x, None, Rng(range(3)), estimator=exact, steps=20)
    moved = log_likelihood(data, x + shift, shift, Rng(range(3)), estimator=exact, steps=20)
    torch.testing.assert_close(plain, moved, atol=5e-3, rtol=0)
    guided = log_likelihood(ClassifierFree(data, 1.0), x + shift, shift, Rng(range(3)), estimator=exact, steps=20)
    torch.testing.assert_close(guided, moved, atol=1e-9, rtol=1e-9)


def test_single_precision_is_close():
    data = gaussian(SCHEDULES["cosine 10"], GaussianFreeField(1.0), *SIZE)
    x = data.draw(CLEAN, white(7, 3, *SIZE))
    double = log_likelihood(data, x, None, Rng(range(3)), estimator=exact, steps=20)
    single = log_likelihood(data, x.float(), None, Rng(range(3)), estimator=exact, steps=20)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, atol=2e-2, rtol=2e-3)


def test_bits_of_quantised_values_are_their_entropy():
    # Bins of width w of a normal: -sum P log2 P, known by the error function; fine bins, so the bound is tight.
    width, n = 0.05, 4000
    index = torch.arange(-200, 200, dtype=torch.float64)
    edges = torch.distributions.Normal(0.0, 1.0).cdf(torch.stack([index - 0.5, index + 0.5]) * width)
    p = edges[1] - edges[0]
    entropy = -(p * torch.log2(p.clamp(min=1e-300))).sum().item()
    x = (white(8, n, 1, 1) / width).round() * width
    y = dequantise(x, width, Rng(range(n)))
    assert (y - x).abs().max() <= width / 2
    assert (y - x).std().item() == pytest.approx(width / 12**0.5, rel=0.05)
    bits = bits_per_dimension(likelihood.gaussian_log_density(y, White()), 1, width)
    assert bits.mean().item() == pytest.approx(entropy, abs=4 * bits.std().item() / n**0.5)


def test_eight_bit_pixels_add_seven_bits():
    log_p = torch.tensor([-3.0, 5.0])
    plain = bits_per_dimension(log_p, 6)
    np.testing.assert_allclose(plain.numpy(), -log_p.numpy() / 6 / np.log(2), rtol=1e-6)
    np.testing.assert_allclose((bits_per_dimension(log_p, 6, 2 / 256) - plain).numpy(), 7, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d, x: log_likelihood(d, x, None, Rng([0]), steps=0), r"steps >= 1 .* got 0 and 0\.001"),
        (lambda d, x: log_likelihood(d, x, None, Rng([0]), start=1.0), r"start in \[0, 1\), got 100 and 1\.0"),
        (lambda d, x: log_likelihood(d, x, None, Rng([0]), start=0.0), r"no noise at t = 0\.0, .* choose a start"),
        (lambda d, x: bits_per_dimension(x, 0), "size >= 1 and width > 0, got 0 and 1.0"),
        (lambda d, x: bits_per_dimension(x, 3, 0.0), "got 3 and 0.0"),
    ],
)
def test_what_has_no_likelihood_is_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make(gaussian(flow(), White(), *SIZE), torch.zeros(1, *SIZE))
