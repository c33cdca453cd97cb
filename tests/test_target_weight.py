"""Targets and weights: inverses, limits, textbook formulas, and losses that are each other in disguise."""

import numpy as np
import pytest
import torch

from framefill.diffusion import schedule, target, weight
from framefill.diffusion.schedule import signal_to_noise
from framefill.diffusion.target import Eps, Flow, Residual, Target, V, X
from framefill.errors import BadInput
from gaussian import PRESERVING, SCHEDULES, TARGETS, WEIGHTS, public, table, white

TIMES = torch.tensor([1e-3, 0.01, 0.1, 0.37, 0.5, 0.8, 0.99, 1.0], dtype=torch.float64)
every_target = pytest.mark.parametrize("kind", **table(TARGETS))
every_schedule = pytest.mark.parametrize("process", **table(SCHEDULES))
preserving = pytest.mark.parametrize("process", **table({name: SCHEDULES[name] for name in PRESERVING}))


def noised(process, kind=None):
    """Clean x, noise n and the levels (8, 1) of a schedule; without those where `kind` is documented undefined."""
    alpha, sigma = (v[:, None] for v in process(TIMES))
    keep = (alpha[:, 0] > 0) if isinstance(kind, Eps) else slice(None)
    return white(0, 8, 30)[keep], white(1, 8, 30)[keep], alpha[keep], sigma[keep]


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_the_tables_have_every_member():
    assert {type(kind).__name__ for kind in TARGETS.values()} == public(target, Target)
    assert {w.__qualname__.split(".")[0] for w in WEIGHTS.values()} == public(
        weight, lambda f: f.__name__ != "cosine_density"
    )


@every_target
@every_schedule
def test_to_x_inverts_of(kind, process):
    x, n, alpha, sigma = noised(process, kind)
    y = kind.of(x, n, alpha, sigma)
    close(kind.to_x(y, alpha * x + sigma * n, alpha, sigma), x, 1e-10)


@every_target
@every_schedule
def test_the_answer_decides_both_signal_and_noise(kind, process):
    # `of` is linear in x and n; with the equation of x_t it can be solved by anyone, not only by `to_x`.
    x, n, alpha, sigma = noised(process, kind)
    one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
    of_x, of_n = kind.of(one, zero, alpha, sigma), kind.of(zero, one, alpha, sigma)
    y = kind.of(x, n, alpha, sigma)
    close(y, of_x * x + of_n * n, 1e-10)
    determinant = alpha * of_n - sigma * of_x
    x_t = alpha * x + sigma * n
    solved = (of_n * x_t - sigma * y) / determinant
    close(solved, x, 1e-10)
    answer = white(2, *x.shape)
    close(kind.to_x(answer, x_t, alpha, sigma), (of_n * x_t - sigma * answer) / determinant, 1e-9)


@pytest.mark.parametrize("kind", **table({k: v for k, v in TARGETS.items() if not isinstance(v, Eps)}))
def test_pure_noise_is_allowed(kind):
    x, n = white(3, 30), white(4, 30)
    alpha, sigma = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    y = kind.of(x, n, alpha, sigma)
    expected = {X: x, V: -x, Flow: n - x, Residual: x / getattr(kind, "sigma_data", 1)}[type(kind)]
    close(y, expected)
    close(kind.to_x(y, n, alpha, sigma), x)
    # And it is the limit, not another branch.
    near = torch.full_like(alpha, 1e-9)
    close(kind.to_x(y, near * x + n, near, sigma), x, 1e-7)
    close(kind.of(x, n, near, sigma), y, 1e-7)


@pytest.mark.parametrize("kind", **table({k: v for k, v in TARGETS.items() if not isinstance(v, X)}))
def test_without_noise_the_estimate_is_the_input(kind):
    x, answer = white(5, 30), white(6, 30)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    close(kind.to_x(answer, x, one, zero), x)


@every_schedule
def test_the_named_answers(process):
    x, n, alpha, sigma = noised(process)
    assert X().of(x, n, alpha, sigma) is x
    assert Eps().of(x, n, alpha, sigma) is n
    close(Flow().of(x, n, alpha, sigma), n - x)
    close(V().of(x, n, alpha, sigma), alpha * n - sigma * x)


@preserving
def test_v_is_the_rotation_of_signal_and_noise(process):
    x, n, alpha, sigma = noised(process)
    x_t, v = alpha * x + sigma * n, V().of(x, n, alpha, sigma)
    close(alpha * x_t - sigma * v, x)
    close(sigma * x_t + alpha * v, n)
    close(x_t**2 + v**2, x**2 + n**2, 1e-11)


@every_schedule
@pytest.mark.parametrize("d", [0.1, 0.5, 1.0, 4.0])
def test_the_residual_is_that_of_edm(process, d):
    # Karras et al. 2022, table 1, on u = x_t / alpha with noise level s = sigma / alpha.
    x, n, alpha, sigma = noised(process, Eps())
    u, s = x + sigma / alpha * n, sigma / alpha
    skip, out = d**2 / (s**2 + d**2), s * d / (s**2 + d**2).sqrt()
    answer = white(7, *x.shape)
    close(Residual(d).to_x(answer, alpha * x + sigma * n, alpha, sigma), skip * u + out * answer, 1e-10)
    close(Residual(d).of(x, n, alpha, sigma), (x - skip * u) / out, 1e-9)


@every_schedule
@pytest.mark.parametrize("d", [0.1, 0.5, 1.0, 4.0])
def test_the_residual_has_unit_variance_and_tells_nothing_twice(process, d):
    _, _, alpha, sigma = noised(process)
    one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
    of_x, of_n = Residual(d).of(one, zero, alpha, sigma), Residual(d).of(zero, one, alpha, sigma)
    close((of_x * d) ** 2 + of_n**2, one, 1e-10)
    # For Gaussian data it is uncorrelated with the input.
    close(of_x * d**2 * alpha + of_n * sigma, zero, 1e-9)


def losses(kind, process):
    """|y_hat - y|^2 in the target's own space and |x_hat - x|^2, for arbitrary answers, and the ratio of the level."""
    x, n, alpha, sigma = noised(process, Eps())
    answer = white(8, *x.shape)
    own = (answer - kind.of(x, n, alpha, sigma)).square()
    clean = (kind.to_x(answer, alpha * x + sigma * n, alpha, sigma) - x).square()
    return own, clean, signal_to_noise(alpha, sigma)


@every_schedule
def test_snr_makes_the_loss_on_noise(process):
    own, clean, ratio = losses(Eps(), process)
    close(weight.snr(ratio) * clean, own, 1e-9)


@preserving
def test_velocity_makes_the_loss_on_v(process):
    own, clean, ratio = losses(V(), process)
    close(weight.velocity(ratio) * clean, own, 1e-9)


@every_schedule
@pytest.mark.parametrize("d", [0.1, 0.5, 1.0, 4.0])
def test_edm_makes_the_loss_on_the_residual(process, d):
    own, clean, ratio = losses(Residual(d), process)
    close(weight.edm(d)(ratio) * clean, own, 1e-9)


@every_schedule
def test_constant_makes_the_loss_on_x(process):
    own, clean, ratio = losses(X(), process)
    close(weight.constant(ratio) * clean, own)


RATIOS = torch.logspace(-10, 10, 81, dtype=torch.float64)


def test_edm_of_unit_data_is_velocity():
    close(weight.edm(1.0)(RATIOS), weight.velocity(RATIOS))


def test_edm_is_table_1():
    s = RATIOS.rsqrt()
    for d in (0.1, 0.5, 2.0):
        close(weight.edm(d)(RATIOS), (s**2 + d**2) / (s * d) ** 2)


def test_capped_is_the_weight_below_its_top_and_stays_there_above():
    for inner in (weight.velocity, weight.edm(0.3), weight.sech):
        w = weight.capped(inner, 4.0)(RATIOS)
        assert torch.equal(w[RATIOS <= 4], inner(RATIOS[RATIOS <= 4]))
        assert (w[RATIOS > 4] == inner(torch.tensor(4.0, dtype=torch.float64))).all()
    close(weight.capped(weight.snr, 5.0)(RATIOS), weight.min_snr(5.0)(RATIOS))


def test_min_snr_clamps():
    for gamma in (1.0, 5.0):
        w = weight.min_snr(gamma)(RATIOS)
        assert torch.equal(w[gamma > RATIOS], RATIOS[gamma > RATIOS])
        assert (w[gamma <= RATIOS] == gamma).all()
    assert weight.min_snr()(torch.tensor([1e9])).item() == 5


@pytest.mark.parametrize(("power", "offset"), [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (1.0, 0.1), (2.0, 3.0)])
def test_p2_is_equation_8_on_the_loss_on_noise(power, offset):
    close(weight.p2(power, offset)(RATIOS) / weight.snr(RATIOS), 1 / (offset + RATIOS) ** power)


def test_sech_on_the_loss_on_noise():
    expected = 1 / np.cosh(np.log(RATIOS.numpy()) / 2)
    np.testing.assert_allclose((weight.sech(RATIOS) / weight.snr(RATIOS)).numpy(), expected, rtol=1e-12)


def test_weights_given_on_the_loss_on_noise():
    log_ratio = np.log(RATIOS.numpy())
    ratio = {name: (w(RATIOS) / weight.snr(RATIOS)).numpy() for name, w in WEIGHTS.items()}
    np.testing.assert_allclose(ratio["truncated"], np.maximum(np.exp(-log_ratio), 1), rtol=1e-12)
    np.testing.assert_allclose(ratio["debiased"], np.exp(-log_ratio / 2), rtol=1e-12)
    np.testing.assert_allclose(ratio["sigmoid"], 1 / (1 + np.exp(log_ratio - 1)), rtol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(-20.0, 20.0), (-6.0, 9.0)])
def test_the_density_of_the_cosine_schedule(low, high):
    # p(lambda) = -dt / dlambda, against the schedule itself.
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    log_ratio = signal_to_noise(*schedule.cosine(low, high)(t)).log()
    middle = (log_ratio[1:] + log_ratio[:-1]) / 2
    inside = middle.abs() < 5
    close(weight.cosine_density(low, high)(middle)[inside], (-t.diff() / log_ratio.diff())[inside], 1e-6)


def test_the_bound_does_not_depend_on_the_schedule():
    # Mean over uniform times of the weighted loss = 1/2 integral over lambda of the loss on noise (seed 003, eq. 2.35).
    lambdas = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    error = 1 / (1 + 0.3 * lambdas.exp())  # of x, for Gaussian data
    expected = torch.trapezoid(lambdas.exp() * error, lambdas) / 2
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    ratio = signal_to_noise(*schedule.cosine(-8.0, 8.0)(t))
    found = (weight.elbo(weight.cosine_density(-8.0, 8.0))(ratio) / (1 + 0.3 * ratio)).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
    # Another schedule, with its own density: lambda uniform.
    ratio = (16 * t - 8).exp()
    uniform = weight.elbo(lambda log_ratio: torch.full_like(log_ratio, 1 / 16))(ratio)
    assert (uniform / (1 + 0.3 * ratio)).mean().item() == pytest.approx(expected.item(), rel=1e-3)


def test_the_loss_on_v_is_a_bound_with_that_importance():
    # Facts, section 6: w(lambda) = 2 exp(-lambda / 2) / (pi (t1 - t0)), 0.30072 at 1.5; the printed one is a quarter.
    def importance(log_ratio):
        return 2 * (-log_ratio / 2).exp() / np.pi

    assert importance(torch.tensor(1.5)).item() == pytest.approx(0.30072, abs=1e-5)
    w = weight.elbo(weight.cosine_density(-200.0, 200.0), importance)
    close(w(RATIOS) / weight.velocity(RATIOS), torch.ones_like(RATIOS), 1e-9)


def test_the_adaptive_weight_makes_every_level_count_the_same():
    adaptive = weight.Adaptive(weight.snr, decay=0.5, buckets=20)
    ratio = torch.tensor([-9.5, -0.5, 0.5, 9.5, 99.0], dtype=torch.float64).exp()
    close(adaptive(ratio), ratio)
    losses = torch.tensor([8.0, 4.0, 0.5, 0.02, 0.02], dtype=torch.float64)
    for _ in range(60):
        adaptive.update(ratio, losses)
    close(adaptive(ratio) / ratio * losses, torch.ones_like(losses))
    adaptive.update(ratio[:1], torch.tensor([np.nan]))
    assert adaptive(ratio).isfinite().all()
    adaptive.update(ratio[:1], losses[:1] + 1)
    assert (adaptive(ratio) / ratio)[0].item() == pytest.approx(1 / 8.5)


@pytest.mark.parametrize("given", [{"buckets": 0}, {"reach": 0.0}, {"decay": 1.0}])
def test_an_adaptive_weight_needs_buckets_and_a_memory_that_fades(given):
    with pytest.raises(BadInput, match=r"buckets >= 1, reach > 0 and decay in \[0, 1\)"):
        weight.Adaptive(**given)


@pytest.mark.parametrize("w", **table(WEIGHTS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_positive_and_finite_over_twenty_decades(w, dtype):
    values = w(RATIOS.to(dtype))
    assert values.dtype == dtype
    assert values.isfinite().all()
    assert (values > 0).all()
    torch.testing.assert_close(values.double(), w(RATIOS), rtol=1e-5, atol=0)
