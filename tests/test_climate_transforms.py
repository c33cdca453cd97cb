"""Transforms: inverses, slopes against autograd, the learned map's whole gradient, statistics in one pass."""

import pytest
import torch
from torch import Tensor

from framefill.climate.transforms import Identity, Log1p, Monotone, Scaling, Sqrt, Transform, fit_scaling
from framefill.errors import BadInput

RAIN = torch.tensor([0.003, 0.02, 0.5, 1, 7, 40, 76.9], dtype=torch.float64)
TRANSFORMS = [Identity(), Sqrt(), Log1p(), Log1p(0.01), Monotone(0, 77), Monotone(-3, 90, seed=4).double()]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_the_inverse_brings_back_and_the_slope_is_the_derivative(transform):
    assert isinstance(transform, Transform)
    x = RAIN.clone().requires_grad_()
    y = transform.forward(x)
    assert (y.diff() > 0).all()
    assert transform.inverse(y.detach()) == pytest.approx(RAIN, rel=1e-6)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert transform.derivative(RAIN).detach() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("transform", [Sqrt(), Log1p(2.0)])
def test_packed_rain_below_zero_is_none(transform):
    low = torch.tensor([-1e-4, 0.0])
    assert transform.forward(low).tolist() == [0, 0]
    assert transform.inverse(torch.tensor([-0.3, 0.0])).tolist() == [0, 0]


def test_the_learned_map_has_its_ends_and_goes_on_straight():
    h = Monotone(2, 10).double()
    assert h(torch.tensor([2.0, 10.0], dtype=torch.float64)).tolist() == pytest.approx([-1, 1])
    outside = torch.tensor([-5.0, 1.9, 10.5, 100], dtype=torch.float64)
    assert h.inverse(h(outside).detach()) == pytest.approx(outside)
    a, b, c = h(torch.tensor([11.0, 12, 13], dtype=torch.float64)).detach()
    assert float(c - b) == pytest.approx(float(b - a))
    assert float(b - a) == pytest.approx(float(h.derivative(torch.tensor([11.0], dtype=torch.float64)).detach()))


def loss_of(h: Monotone, x: Tensor) -> Tensor:
    return h(x).square().mean() + h.stretch(x, above=0.01)


def test_the_gradient_goes_through_the_ends():
    """Against finite differences; leaving the ends out, as the author's program does, gives another direction."""
    h = Monotone(0, 77, width=4).double()
    x = RAIN[None]
    parameters = list(h.parameters())
    gradients = torch.autograd.grad(loss_of(h, x), parameters)
    step = 1e-6
    for parameter, gradient in zip(parameters, gradients, strict=True):
        flat = parameter.data.view(-1)
        for i in range(0, len(flat), 3):
            flat[i] += step
            up = float(loss_of(h, x).detach())
            flat[i] -= 2 * step
            down = float(loss_of(h, x).detach())
            flat[i] += step
            assert float(gradient.view(-1)[i]) == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-8)
    network = h._network

    def detached(u: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = network(u)
        return (value.detach(), slope) if u.tolist() == [0, 2] else (value, slope)

    h._network = detached
    wrong = torch.autograd.grad(loss_of(h, x), parameters)
    a, b = (torch.cat([g.flatten() for g in each]) for each in (gradients, wrong))
    assert float(torch.cosine_similarity(a, b, dim=0)) < 0.9


def test_stretching_alone_makes_skewed_values_even():
    """The greatest mean of log h' is at the distribution function: uniform on [-1, 1], variance 1/3."""
    x = -torch.rand(600, generator=torch.Generator().manual_seed(0)).log()
    h = Monotone(0, float(x.max()))
    before = h(x).detach()
    adam = torch.optim.Adam(h.parameters(), lr=0.05)
    for _ in range(120):
        adam.zero_grad()
        loss = h.stretch(x, above=0.0)
        loss.backward()
        adam.step()
    after = h(x).detach()
    assert float(before.mean()) < -0.5
    assert abs(float(after.mean())) < 0.1
    assert float(after.var()) == pytest.approx(1 / 3, abs=0.04)
    assert float(loss) == pytest.approx(-float((h.derivative(x) * float(x.max()) / 2).log().mean()), abs=0.05)


def test_scaling_is_standard_in_one_pass_whatever_the_pieces():
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(4, 5, 2, 6, 7, generator=rng) * torch.tensor([0.01, 3])[:, None, None]
    x = x + torch.tensor([300.0, 10])[:, None, None]
    x[0, 0, 0, 0, :3] = torch.nan
    x[0, 0, 1] = x[0, 0, 1].abs()
    whole = fit_scaling([Identity(), Log1p()], [x])
    pieces = fit_scaling([Identity(), Log1p()], iter(x.split(1)))
    assert pieces.mean == pytest.approx(whole.mean, rel=1e-12)
    assert pieces.std == pytest.approx(whole.std, rel=1e-9)
    kelvin = x[:, :, 0].double()
    assert whole.mean[0] == pytest.approx(float(kelvin.nanmean()), rel=1e-12)
    assert whole.std[0] == pytest.approx(float(kelvin[~kelvin.isnan()].std(correction=0)), rel=1e-9)
    y = whole.encode(x.double())
    assert y[:, :, 1].mean().item() == pytest.approx(0, abs=1e-6)
    assert y[:, :, 1].std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert (y[0, 0, 0, 0, :3] == 0).all()
    there = ~x.isnan() & (x > 0)
    assert torch.allclose(whole.decode(y)[there], x.double()[there])


def test_the_slope_of_a_scaling_is_its_jacobian():
    scaling = Scaling((Sqrt(), Monotone(0, 80).double()), (1.0, 0.2), (2.0, 0.5))
    x = RAIN.reshape(1, 1, 7).repeat(2, 1, 1).requires_grad_()
    (slope,) = torch.autograd.grad(scaling.encode(x).sum(), x)
    assert torch.allclose(scaling.log_slope(x), slope.log())


def test_what_cannot_be_scaled():
    with pytest.raises(BadInput, match="the scale of log1p is 0"):
        Log1p(0)
    with pytest.raises(BadInput, match="a learned transform from 3 to 3"):
        Monotone(3, 3)
    for still in (torch.full((2, 1, 3, 3), 280.1), torch.full((2, 1, 3, 3), torch.nan)):
        with pytest.raises(BadInput, match="variable 0 of the training set never changes"):
            fit_scaling([Identity()], [still])
