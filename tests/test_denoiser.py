"""The denoiser: its estimate and its loss against computations by hand, for every target, schedule and noise."""

import pytest
import torch
from torch import nn

from framefill.arrays import Rng
from framefill.diffusion.denoiser import (
    Denoiser,
    angle_label,
    blind_label,
    plain,
    table_label,
    twice_whitened,
    unscaled,
    whitened,
)
from framefill.diffusion.noise import GaussianFreeField, White
from framefill.diffusion.schedule import levels
from framefill.diffusion.target import Eps, Residual, V, X
from framefill.diffusion.weight import constant, snr, velocity
from framefill.nets.unet import UNet
from gaussian import (
    NOISES,
    PRESERVING,
    SCHEDULES,
    TARGETS,
    WEIGHTS,
    crossing,
    gaussian,
    noise_power,
    table,
    through,
    white,
)

TIMES = torch.tensor([0.05, 0.4, 0.9], dtype=torch.float64)
SHAPE = (3, 2, 5, 6)
every_target = pytest.mark.parametrize("kind", **table(TARGETS))
every_schedule = pytest.mark.parametrize("process", **table(SCHEDULES))
every_noise = pytest.mark.parametrize("noise", **table(NOISES))


class Bent(nn.Module):
    """A network whose answer depends on all it is given, and that remembers it."""

    def forward(self, x, label, cond):
        self.seen = x, label, cond
        return torch.tanh(1.3 * x) + 1e-3 * label[:, None, None, None] - (0 if cond is None else cond)


class Oracle(nn.Module):
    """A network that knows the answer."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x, label, cond):
        return self.answer


def by_hand(process, kind, noise, x, cond, seeds, sigma_data):
    """The clean estimate and the noised input of a Denoiser around Bent, from first principles."""
    alpha, sigma = (v[:, None, None, None] for v in process(TIMES))
    z = Rng(seeds).normal(x.shape[1:]).double()
    x_t = alpha * x + sigma * through(noise_power(noise, 5, 6).sqrt(), z)
    label = 1000 * (2 / torch.pi) * torch.atan2(sigma_data * alpha, sigma).flatten()
    answer = Bent()(x_t / (alpha**2 * sigma_data**2 + sigma**2).sqrt(), label, cond)
    one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
    # x_t = alpha x + sigma n and answer = of_x x + of_n n, solved for x.
    of_x, of_n = kind.of(one, zero, alpha, sigma), kind.of(zero, one, alpha, sigma)
    return (of_n * x_t - sigma * answer) / (alpha * of_n - sigma * of_x), x_t


@crossing("kind", TARGETS)
def test_loss_equals_one_written_by_hand(kind, process, noise):
    x, cond, seeds = white(0, *SHAPE), 0.1 * white(1, *SHAPE), [4, 5, 6]
    model = Denoiser(Bent(), process, kind, noise=noise, sigma_data=0.7)
    x_hat, x_t = by_hand(process, kind, noise, x, cond, seeds, 0.7)
    torch.testing.assert_close(model(x_t, TIMES, cond), x_hat, atol=1e-8, rtol=1e-8)
    alpha, sigma = process(TIMES)
    white_error = through(noise_power(noise, 5, 6).rsqrt(), x_hat - x)
    for weight in WEIGHTS.values():
        expected = weight((alpha / sigma) ** 2) * white_error.square().sum((1, 2, 3)) / 60
        loss = model.loss(x, TIMES, cond, weight, Rng(seeds))
        torch.testing.assert_close(loss, expected, atol=1e-8, rtol=1e-8)


@crossing("kind", TARGETS)
def test_a_perfect_network_has_no_loss_and_returns_the_signal(kind, process, noise):
    x, seeds = white(2, *SHAPE), [1, 2, 3]
    alpha, sigma = (v[:, None, None, None] for v in process(TIMES))
    n = noise.like(x, Rng(seeds))
    model = Denoiser(Oracle(kind.of(x, n, alpha, sigma)), process, kind, noise=noise)
    torch.testing.assert_close(model(alpha * x + sigma * n, TIMES), x, atol=1e-9, rtol=0)
    assert model.loss(x, TIMES, None, velocity, Rng(seeds)).max() < 1e-12


@every_noise
def test_the_loss_on_noise_is_in_whitened_space(noise):
    # With weight snr and target eps the loss is |z_hat - z|^2 for the white noise z behind n.
    x, seeds = white(3, *SHAPE), [7, 8, 9]
    process = SCHEDULES["cosine 10"]
    answer = noise.color(white(4, *SHAPE))
    loss = Denoiser(Oracle(answer), process, Eps(), noise=noise).loss(x, TIMES, None, snr, Rng(seeds))
    z = Rng(seeds).normal(SHAPE[1:]).double()
    torch.testing.assert_close(loss, (white(4, *SHAPE) - z).square().flatten(1).mean(1), atol=1e-9, rtol=1e-9)
    if noise != White():
        plain = (answer - noise.color(z)).square().flatten(1).mean(1)
        assert ((loss - plain).abs() / plain > 0.02).all()


@every_noise
def test_a_loss_belongs_to_its_sample(noise):
    x, cond = white(5, *SHAPE), white(6, *SHAPE)
    model = Denoiser(Bent(), SCHEDULES["ddpm"], V(), noise=noise)
    together = model.loss(x, TIMES, cond, velocity, Rng([1, 2, 3]))
    for i in range(3):
        one = slice(i, i + 1)
        alone = model.loss(x[one], TIMES[one], cond[one], velocity, Rng([i + 1]))
        torch.testing.assert_close(together[one], alone, atol=1e-12, rtol=1e-12)


@every_noise
@pytest.mark.parametrize("unit", [torch.bool, torch.float64])
def test_counted_leaves_frames_out(noise, unit):
    x = white(7, 3, 4, 2, 5, 6)
    counted = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]])[:, :, None, None, None]
    answer = white(8, *x.shape)
    model = Denoiser(Oracle(answer), SCHEDULES["cosine 10"], X(), noise=noise)
    loss = model.loss(x, TIMES, None, constant, Rng([1, 2, 3]), counted=counted.to(unit))
    error = through(noise_power(noise, 5, 6).rsqrt(), answer - x).square()
    expected = torch.stack([error[0, [0, 2]].mean(), error[1, 3].mean(), error[2].mean()])
    torch.testing.assert_close(loss, expected, atol=1e-10, rtol=1e-10)
    # What is left out does not matter, however wrong.
    spoilt = answer + 1e3 * (1 - counted)
    spoilt_loss = Denoiser(Oracle(spoilt), SCHEDULES["cosine 10"], X(), noise=noise).loss(
        x, TIMES, None, constant, Rng([1, 2, 3]), counted=counted.to(unit)
    )
    torch.testing.assert_close(spoilt_loss, expected, atol=1e-9, rtol=1e-9)
    none = model.loss(x, TIMES, None, constant, Rng([1, 2, 3]), counted=torch.zeros_like(counted).to(unit))
    assert (none == 0).all()


@every_schedule
@pytest.mark.parametrize("d", [0.3, 1.0, 2.0])
def test_the_network_sees_unit_variance(process, d):
    network = Bent()
    model = Denoiser(network, process, Residual(d), sigma_data=d)
    alpha, sigma = process(TIMES)
    model(torch.ones(SHAPE, dtype=torch.float64), TIMES)
    scale = network.seen[0][:, 0, 0, 0]
    torch.testing.assert_close((scale * alpha * d) ** 2 + (scale * sigma) ** 2, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("process", **table({name: SCHEDULES[name] for name in PRESERVING}))
def test_variance_preserving_inputs_are_not_scaled(process):
    network, x_t = Bent(), white(9, *SHAPE)
    Denoiser(network, process, V())(x_t, TIMES)
    torch.testing.assert_close(network.seen[0], x_t, atol=1e-14, rtol=1e-14)


@every_schedule
def test_the_label_falls_from_clean_to_noise_and_knows_the_ratio_only(process):
    t = torch.linspace(1 / 64, 1, 64, dtype=torch.float64)
    alpha, sigma = process(t)
    label = angle_label(t, alpha, sigma)
    assert (label.diff() < 0).all()
    assert label.min() >= 0
    assert label.max() <= 1000
    torch.testing.assert_close(label, angle_label(1 - t, 3 * alpha, 3 * sigma), atol=1e-10, rtol=0)
    angle = (1000 - label) / 1000 * torch.pi / 2
    radius = (alpha**2 + sigma**2).sqrt()
    torch.testing.assert_close(angle.sin() * radius, sigma, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(angle.cos() * radius, alpha, atol=1e-12, rtol=1e-12)


def test_labels_at_the_ends():
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    assert angle_label(zero, one, zero).item() == 1000
    assert angle_label(one, zero, one).item() == 0
    assert angle_label(one, one, one).item() == 500
    k = torch.arange(1, 1001, dtype=torch.float64)
    # The published program counts backwards: entry 1000, the most noise, has label 0.
    torch.testing.assert_close(table_label(k / 1000, k, k), 1000 - k, atol=1e-10, rtol=0)


@every_schedule
@every_noise
@pytest.mark.parametrize(("space", "power"), [(whitened, 0), (twice_whitened, -1), (plain, 1)])
def test_the_three_weights_of_the_thesis(space, power, process, noise):
    # Section 6.2.5: |Sigma^(power/2) (eps - eps_hat)|^2 for white eps, from the score s = -Sigma^-1/2 eps_hat / sigma.
    x = white(0, *SHAPE)
    model = Denoiser(Bent(), process, X(), noise=noise)
    got = model.loss(x, TIMES, None, snr, Rng([4, 5, 6]), space=space)
    alpha, sigma = (v[:, None, None, None] for v in process(TIMES))
    spectrum = noise_power(noise, 5, 6)
    eps = Rng([4, 5, 6]).normal(SHAPE[1:]).double()
    x_t = alpha * x + sigma * through(spectrum.sqrt(), eps)
    score = -through(1 / spectrum, x_t - alpha * model(x_t, TIMES)) / sigma**2
    eps_hat = -sigma * through(spectrum.sqrt(), score)
    expected = through(spectrum ** (power / 2), eps - eps_hat).square().flatten(1).mean(1)
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)


def test_an_unconditional_score_sees_the_noise_level_in_its_input_only():
    # s(x, sigma) = -eps(x) / sigma (thesis 001, eq. 2.5.8): one function of x_t for all levels.
    process, network, x_t = SCHEDULES["smld"], Bent(), white(5, 3, 2, 5, 6)
    model = Denoiser(network, process, Eps(), label=blind_label, scaling=unscaled)
    _, sigma = (v[:, None, None, None] for v in process(TIMES))
    torch.testing.assert_close(model(x_t, TIMES), x_t - sigma * torch.tanh(1.3 * x_t), atol=1e-9, rtol=1e-9)
    assert torch.equal(network.seen[0], x_t)
    assert network.seen[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("label", [angle_label, table_label])
def test_the_network_is_told_its_label_and_condition(label):
    network, cond = Bent(), white(10, *SHAPE)
    model = Denoiser(network, SCHEDULES["edm"], X(), label=label)
    model(white(11, *SHAPE), TIMES, cond)
    torch.testing.assert_close(network.seen[1], label(TIMES, *SCHEDULES["edm"](TIMES)))
    assert network.seen[2] is cond


@every_target
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_estimates_are_single_precision_or_better(kind, dtype):
    x_t = white(12, *SHAPE)
    model, network = Denoiser(Bent(), SCHEDULES["cosine 10"], kind), Bent()
    exact = model(x_t.to(dtype).double(), TIMES)
    model.network = network
    estimate = model(x_t.to(dtype), TIMES)
    assert estimate.dtype == torch.float32
    assert network.seen[0].dtype == dtype
    if dtype == torch.float32:
        torch.testing.assert_close(estimate.double(), exact, atol=1e-4, rtol=1e-4)


@every_target
@every_schedule
def test_no_target_amplifies_single_precision_beyond_its_conditioning(kind, process):
    # A float32 estimate from a float32 answer is the float64 one up to rounding times |d x_hat / d answer|.
    alpha, sigma = (v[:, None, None, None] for v in process(TIMES))
    x, n = white(13, *SHAPE), white(14, *SHAPE)
    model = Denoiser(Oracle(kind.of(x, n, alpha, sigma).float()), process, kind)
    estimate = model((alpha * x + sigma * n).float(), TIMES)
    worst = 1e-6 * (1 + sigma / alpha).max().item() * (1 + sigma.max().item())
    torch.testing.assert_close(estimate.double(), x, atol=worst, rtol=0)


def filled(network, seed=0):
    """Every parameter, also those that start at zero, moved off its starting value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network.eval()


@every_target
@pytest.mark.parametrize("spatin", [0, 4])
def test_the_gradient_reaches_every_parameter(kind, spatin):
    network = UNet(
        2, 3, width=8, multipliers=(1, 2), blocks=1, attention=(False, True), head_width=8, dropout=0.0, spatin=spatin
    )
    model = Denoiser(filled(network), SCHEDULES["cosine 10"], kind, noise=GaussianFreeField(1.0))
    x, cond = white(15, 3, 2, 1, 8, 8).float(), white(16, 3, 3, 1, 8, 8).float()
    model.loss(x, TIMES, cond, velocity, Rng([1, 2, 3])).mean().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        if not name.endswith("qkv.bias"):  # its key part moves no softmax: exactly zero in exact arithmetic
            assert (p.grad != 0).any(), name
        else:
            queries, keys, values = p.grad.chunk(3)
            assert queries.abs().max() > 100 * keys.abs().max(), name
            assert values.abs().max() > 0, name


@every_noise
@every_schedule
def test_the_posterior_mean_has_the_least_loss(noise, process):
    # The exact posterior mean of Gaussian data beats every other linear estimate, and by the exact amount.
    data = gaussian(process, noise)
    level = levels(process, torch.tensor([0.4], dtype=torch.float64))[0]
    power, variance = noise_power(noise, 5, 6), data.variance
    x = data.mean + through(variance.sqrt(), white(17, 4000, 5, 6))
    x_t = level.alpha * x + level.sigma * noise.color(white(18, 4000, 5, 6))
    t = torch.full((4000,), 0.4, dtype=torch.float64)
    error = (data(x_t, t, None) - x).square().mean()
    expected = (variance * level.sigma**2 * power / data.marginal(level)).mean()
    assert error.item() == pytest.approx(expected.item(), rel=0.03)
