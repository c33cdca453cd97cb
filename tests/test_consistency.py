"""Consistency on Gaussians: the true function is known in closed form, so is every error a learned one may have."""

import math
from collections import deque

import pytest
import torch
from torch import nn

from framefill.arrays import Rng
from framefill.diffusion.consistency import (
    Consistency,
    Multistep,
    Place,
    distillation,
    even,
    first_order,
    inverse_gap,
    pseudo_huber,
    second_order,
    squared,
    step_count,
)
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.guide import ClassifierFree, Clipped
from framefill.diffusion.noise import GaussianFreeField, White
from framefill.diffusion.sample import DDIM, Heun
from framefill.diffusion.schedule import CLEAN, Level, cosine, edm, flow, levels
from framefill.diffusion.target import X
from framefill.errors import BadInput
from gaussian import NOISES, SCHEDULES, expand, gaussian, noise_power, table, through, white

every_schedule = pytest.mark.parametrize("process", **table(SCHEDULES))
every_noise = pytest.mark.parametrize("noise", **table(NOISES))
ENDS = {"of the schedule": None, "the signal": CLEAN}
every_end = pytest.mark.parametrize("end", **table(ENDS))
SOLVERS = {"ddim": (first_order, DDIM), "heun": (second_order, Heun)}


class Truth(Consistency):
    """The true consistency function of Gaussian data, every sample at its own time."""

    def forward(self, x_t, t, cond=None):
        flows = [
            self.model.flow(x[None], level if level.t > self.end.t else self.end, self.end)
            for x, level in zip(x_t, levels(self.schedule, t), strict=True)
        ]
        return torch.cat(flows) / self.end.alpha


class Off(Truth):
    """A wrong one."""

    def forward(self, x_t, t, cond=None):
        return super().forward(x_t, t) * (1 + 0.1 * expand(t, x_t))


def last(steps):
    return deque(steps, maxlen=1).pop()


def lost(data, count, solver, end=None, *, teacher="own", seeds=64, kind=Truth, **options):
    f = kind(data, end)
    x = data.mean + through(data.variance.sqrt(), white(3, seeds, *data.mean.shape))
    teacher = data if teacher == "own" else teacher
    return distillation(f, f, teacher, x, None, Rng(range(seeds)), steps=count, solver=solver, **options)


# --- the function -----------------------------------------------------------------------------------------------------


@every_end
@every_schedule
def test_it_is_the_identity_at_the_end_and_one_ddim_step_elsewhere(process, end):
    data = gaussian(process, White())
    f, x = Consistency(data, end), white(0, 2, 5, 6)
    torch.testing.assert_close(f(x, torch.zeros(2, dtype=torch.float64)), x / f.end.alpha, atol=0, rtol=1e-15)
    for time in (1e-3, 0.3, 1.0):
        t = levels(process, torch.tensor([time], dtype=torch.float64))[0]
        x_hat = data(x, torch.full((2,), time, dtype=torch.float64), None)
        step = DDIM(1).step(None, x, t, f.end, [(t, x_hat)], None) / f.end.alpha
        torch.testing.assert_close(f(x, torch.full((2,), time, dtype=torch.float64)), step, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("process", [cosine(-10, 10), edm(), flow()], ids=["cosine", "edm", "flow"])
def test_there_is_no_jump_at_the_end(process):
    """Even around a network that says nonsense, near the end f is the identity to first order in the noise."""
    end = levels(process, torch.tensor([0.1], dtype=torch.float64))[0]
    f = Consistency(gaussian(process, White()), end)
    f.model = lambda x_t, t, cond: torch.full_like(x_t, 7.0)
    x = white(1, 1, 5, 6)
    gaps = [float((f(x, torch.tensor([0.1 + h])) - x / end.alpha).abs().max()) for h in (1e-3, 1e-5)]
    assert 0 < gaps[1] < gaps[0] / 80 < 0.1


@pytest.mark.parametrize("end", [Level(1.0, 0.1, 1.0), Level(-0.1, 1.0, 0.0), Level(0.1, 0.0, 1.0)])
def test_ends_that_are_none_are_refused(end):
    with pytest.raises(BadInput, match="clean end"):
        Consistency(gaussian(flow(), White()), end)


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", SOLVERS)
@every_schedule
def test_teacher_steps_are_those_of_the_samplers(order, process):
    solver, sampler = SOLVERS[order]
    data, x = gaussian(process, GaussianFreeField(0.5)), white(2, 3, 5, 6)
    pairs = [(1.0, 0.6), (0.5, 0.2), (0.2, 0.0)]
    both = [levels(process, torch.tensor(pair, dtype=torch.float64)) for pair in pairs]
    both[2][1] = CLEAN
    t, s = (
        Place(*(torch.tensor([pair[i][k] for pair in both], dtype=torch.float64) for k in range(3))) for i in (0, 1)
    )
    t, s = (Place(p.t, expand(p.alpha, x), expand(p.sigma, x)) for p in (t, s))
    made = solver(lambda x_t, at: data(x_t, at.t, None), x, t, s)
    for i, (upper, lower) in enumerate(both):

        def estimate(x_t, level):
            return data(x_t, torch.tensor([level.t], dtype=torch.float64), None)

        own = x[i : i + 1]
        step = sampler(1).step(estimate, own, upper, lower, [(upper, estimate(own, upper))], None)
        torch.testing.assert_close(made[i : i + 1], step, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize(("order", "power"), [("ddim", 2), ("heun", 3)])
@every_noise
def test_the_true_function_has_no_loss_but_the_solvers(order, power, noise):
    """The root of the loss falls as one step's error does: h^2 for DDIM, h^3 for Heun."""
    data = gaussian(cosine(-6, 6), noise)
    roots = [float(lost(data, n, SOLVERS[order][0]).mean().sqrt()) for n in (64, 128)]
    assert math.log2(roots[0] / roots[1]) == pytest.approx(power, abs=0.35)
    assert float(lost(data, 128, SOLVERS[order][0], kind=Off).mean().sqrt()) > 2 * roots[1]


@every_end
@every_schedule
def test_losses_are_finite_and_small_in_every_schedule(process, end):
    data = gaussian(process, White())
    coarse, fine = (lost(data, n, second_order, end).sqrt() for n in (16, 256))
    assert bool(coarse.isfinite().all() & fine.isfinite().all())
    assert float(fine.mean()) < float(coarse.mean())
    assert float(fine.median()) < 0.02


@pytest.mark.parametrize("kind", [Truth, Off], ids=["true", "off"])
def test_a_teacher_that_is_given_x_is_consistency_training(kind):
    """x_s then has the noise of x_t; worked out by hand."""
    data = gaussian(cosine(-6, 6), GaussianFreeField(1.0))
    f = kind(data)
    x, seeds, count = white(5, 4, 5, 6), [3, 1, 4, 1], 8
    found = distillation(f, f, None, x, None, Rng(seeds), steps=count)
    rng = Rng(seeds)
    n = 1 + rng.integers(count)
    noise = data.noise.like(x, rng)
    for i in range(4):
        upper, lower = levels(data.schedule, torch.stack([n[i] / count, (n[i] - 1) / count]).double())
        x_t, x_s = (a.alpha * x[i] + a.sigma * noise[i] for a in (upper, lower))
        apart = f(x_t[None], torch.tensor([upper.t])) - f(x_s[None], torch.tensor([lower.t]))
        torch.testing.assert_close(found[i], apart.square().mean(), atol=1e-9, rtol=1e-6)


def test_distances_and_weights():
    a, b = white(0, 3, 4, 5), white(1, 3, 4, 5)
    d = (a - b).flatten(1)
    torch.testing.assert_close(squared(a, b), d.square().sum(1) / 20)
    # Song and Dhariwal: sqrt(|d|^2 + c^2) - c with c = 0.00054 sqrt(dimensions)
    c = 0.00054 * math.sqrt(20)
    torch.testing.assert_close(math.sqrt(20) * pseudo_huber()(a, b), (d.square().sum(1) + c * c).sqrt() - c)
    assert float(pseudo_huber()(a, a).abs().max()) < 1e-12
    data = gaussian(edm(), White())
    plain = lost(data, 10, first_order, seeds=4, weight=even)
    n = 1 + Rng(range(4)).integers(10)
    ratios = data.schedule(torch.arange(11) / 10)[1]
    gap = ratios[n] - ratios[n - 1]
    torch.testing.assert_close(lost(data, 10, first_order, seeds=4, weight=inverse_gap), plain / gap)


def test_gradients_reach_the_student_only():
    nets = [line(cosine(-6, 6)) for _ in range(3)]
    for net in nets:
        nn.init.ones_(net.network.weight)
    student, average = Consistency(nets[0], CLEAN), Consistency(nets[1], CLEAN)
    distillation(student, average, nets[2], torch.randn(8, 1, 1, 1), None, Rng(range(8)), steps=4).sum().backward()
    assert nets[0].network.weight.grad.any()
    assert nets[1].network.weight.grad is None
    assert nets[2].network.weight.grad is None


def test_counts_of_steps_double():
    counts = [step_count(k / 1000) for k in range(1001)]
    assert sorted(set(counts)) == [10, 20, 40, 80, 160, 320, 640, 1280]
    assert counts == sorted(counts)
    assert abs(counts.count(20) - 125) <= 1
    assert {step_count(share, first=5, last=5) for share in (0.0, 0.5, 1.0)} == {5}
    assert [step_count(share, first=10, last=1000) for share in (0.9, 0.95, 1.0)] == [640, 1000, 1000]  # no power of 2


@pytest.mark.parametrize(("share", "first", "last"), [(-0.1, 1, 2), (1.1, 1, 2), (0.5, 0, 2), (0.5, 3, 2)])
def test_impossible_counts_are_refused(share, first, last):
    with pytest.raises(BadInput, match="share"):
        step_count(share, first=first, last=last)


def test_no_steps_are_refused():
    with pytest.raises(BadInput, match="at least 1 step"):
        lost(gaussian(flow(), White()), 0, first_order)


# --- the sampler ------------------------------------------------------------------------------------------------------


class Impulses:
    """A noise whose draw number k is the unit impulse of `noise` in sample k and zero in all others."""

    def __init__(self, noise):
        self.noise, self.count = noise, 0

    def like(self, x, rng):
        z = torch.zeros_like(x)
        if self.count < len(x):
            z[self.count, ..., 0, 0] = 1
        self.count += 1
        return self.noise.color(z)


@pytest.mark.parametrize("steps", [1, 2, 5])
@every_end
@every_noise
@every_schedule
def test_with_the_true_function_samples_are_exact_in_any_number_of_steps(process, noise, end, steps):
    """Their mean and their variance in every mode, without a random number: the sampler is linear."""
    data = gaussian(process, noise)
    f = Truth(data, end)
    f.noise = Impulses(noise)
    sampler = Multistep(steps, left=f.left)
    start = sampler.path(f)[0]
    # the start as the data have it at t = 1, where some schedules still have signal
    x = torch.zeros(steps, *data.mean.shape, dtype=torch.float64)
    x[0, 0, 0] = 1
    f.noise.count = 1
    begin = start.alpha * data.mean + through(data.marginal(start).sqrt(), torch.cat([x, torch.zeros_like(x[:1])]))
    made = last(sampler.trajectory(f, begin, None, Rng(range(steps + 1))))
    spread = torch.fft.fft2(made[:-1] - made[-1]).abs().square().sum(0)
    wanted = data.marginal(f.end) / f.end.alpha**2
    torch.testing.assert_close(made[-1], data.mean, atol=1e-8, rtol=0)
    torch.testing.assert_close(spread, wanted, atol=1e-7, rtol=1e-6)
    assert f.noise.count == steps


def test_noise_that_is_left_counts():
    """Without being told of it, the sampler adds too much."""
    data = gaussian(edm(0.5, 80.0), White())
    f, x = Truth(data), white(0, 2000, 5, 6)
    told, not_told = (
        last(Multistep(8, left=left).trajectory(f, 80 * x, None, Rng(range(2000)))).var(0).mean()
        for left in (f.left, 0.0)
    )
    wanted = (data.marginal(f.end)).mean()
    assert float(told) == pytest.approx(float(wanted), rel=0.03)
    assert float(not_told) > 1.05 * float(wanted)


def test_a_sample_does_not_depend_on_its_batch():
    data, like = gaussian(cosine(), White()), torch.zeros(3, 5, 6)
    sampler = Multistep(3)
    alone = sampler(data, like[:1], None, Rng([7]))
    assert torch.equal(sampler(data, like, None, Rng([5, 7, 9]))[1:2], alone)
    assert sampler.calls == 3
    assert not torch.equal(sampler(data, like[:1], None, Rng([8])), alone)


@pytest.mark.parametrize("left", [-0.1, math.inf, math.nan])
def test_impossible_noise_that_is_left_is_refused(left):
    with pytest.raises(BadInput, match="noise that is left"):
        Multistep(1, left=left)


def test_guidance_goes_around_it_and_inside_it():
    """On a Gaussian guidance is a shift of the mean; both orders agree where the function is linear in the estimate."""
    data = gaussian(cosine(-8, 8), GaussianFreeField(1.0))
    cond = torch.full((2, 1, 1), 0.5, dtype=torch.float64)
    x, t = white(4, 2, 5, 6), torch.tensor([0.3, 0.8], dtype=torch.float64)
    outside = ClassifierFree(Consistency(data), 2.0)(x, t, cond)
    inside = Consistency(ClassifierFree(data, 2.0))(x, t, cond)
    torch.testing.assert_close(outside, inside, atol=1e-10, rtol=1e-10)
    made = Multistep(2)(Clipped(ClassifierFree(Consistency(data), 2.0), -0.1, 0.1), x, cond, Rng([1, 2]))
    assert float(made.abs().max()) <= 0.1 + 1e-12


# --- learning ---------------------------------------------------------------------------------------------------------


class Line(nn.Module):
    """x_hat = a(t) x + b(t), a and b linear between the entries of a table; the label is 1000 t."""

    def __init__(self, entries=9):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, entries))

    def forward(self, x, label, cond):
        place = label / 1000 * (self.weight.shape[1] - 1)
        low = place.floor().long().clamp(max=self.weight.shape[1] - 2)
        a, b = (expand(torch.lerp(row[low], row[low + 1], (place - low).to(row)), x) for row in self.weight)
        return a * x + b


def line(process):
    return Denoiser(Line(), process, X(), label=lambda t, alpha, sigma: 1000 * t)


class Exact:
    """The posterior mean of data N(0.5, 0.7^2)."""

    noise, mean, spread = White(), 0.5, 0.7

    def __init__(self, process):
        self.schedule = process

    def __call__(self, x_t, t, cond):
        alpha, sigma = (expand(v, x_t).to(x_t.dtype) for v in self.schedule(t))
        gain = alpha * self.spread**2 / (alpha**2 * self.spread**2 + sigma**2)
        return self.mean + gain * (x_t - alpha * self.mean)


class Batched(Rng):
    """One stream for a whole batch, to be fast."""

    def __init__(self, size):
        super().__init__([0])
        self.size = size

    def integers(self, high, shape=()):
        return super().integers(high, (self.size,))[0]

    def normal(self, shape, like=None):
        return super().normal((self.size, *shape))[0]


@pytest.mark.parametrize("taught", [True, False], ids=["distilled", "without a teacher"])
def test_a_line_learns_the_teachers_sampler(taught):
    """One call gives what 8 steps of Heun give. Without a teacher, a line learns the mean over x: 8 steps of DDIM."""
    process = cosine(-6, 6)
    teacher, model, rng = Exact(process), line(process), Batched(128)
    f, steps, sampler = Consistency(model, CLEAN), 400, (Heun if taught else DDIM)(8)
    adam = torch.optim.Adam(model.parameters(), lr=0.05)
    data = torch.Generator().manual_seed(0)
    for step in range(steps):
        adam.param_groups[0]["lr"] = 0.05 * (1 - step / steps)
        x = 0.5 + 0.7 * torch.randn(128, 1, 1, 1, generator=data)
        loss = distillation(f, f, teacher if taught else None, x, None, rng, steps=8)
        adam.zero_grad()
        loss.mean().backward()
        adam.step()
    like = torch.zeros(400, 1, 1, 1)
    one, many = Multistep(1)(f, like, None, Rng(range(400))), sampler(teacher, like, None, Rng(range(400)))
    blur = Multistep(1)(teacher, like, None, Rng(range(400)))
    assert float((one - many).abs().mean()) < 0.06
    assert float(one.std()) > 0.5 > 5 * float(blur.std())


def test_noise_power_is_what_the_truth_leans_on():
    """The truth of these tests is itself right: flows compose."""
    data = gaussian(flow(), GaussianFreeField(0.5))
    a, b, c = levels(data.schedule, torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64))
    x = white(0, 1, 5, 6)
    torch.testing.assert_close(data.flow(data.flow(x, a, b), b, c), data.flow(x, a, c))
    assert float(noise_power(data.noise, 5, 6).mean()) == pytest.approx(1.0)
