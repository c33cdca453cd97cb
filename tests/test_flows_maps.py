"""Fixed maps against autograd, the histogram they are, and the Gaussian they whiten."""

import math

import pytest
import torch

from framefill.arrays import Rng
from framefill.density import dequantise
from framefill.errors import BadInput
from framefill.flows.maps import Affine, Chain, Identity, Logit, Marginals, Whiten

B = torch.tensor([[2.0, 0.5], [0.5, 0.7]], dtype=torch.float64)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


COUNTS = torch.tensor([[1.0, 5.0, 2.0, 4.0], [3.0, 3.0, 1.0, 0.5]])
MAPS = {
    "identity": Identity(),
    "affine": Affine(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])),
    "logit": Logit(-4, 4),
    "marginals": Marginals(COUNTS, first=-3.0, width=2.0),
    "whiten": Whiten(torch.tensor([1.0, -1.0]), B),
    "chain": Chain([Logit(-4, 4), Whiten(torch.tensor([1.0, -1.0]), B), Affine(0.5, 2.0)]),
}


@pytest.mark.parametrize("change", MAPS.values(), ids=MAPS)
def test_maps_invert_and_know_their_log_det(change):
    x = noise(5, 2).clamp(-3.9, 3.9)
    y, log_det = change(x)
    torch.testing.assert_close(change.inverse(y), x)
    jacobian = torch.autograd.functional.jacobian(lambda v: change(v[None])[0][0], x[1])
    assert log_det[1].item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-6)


def test_marginals_are_the_histogram_to_the_bit():
    """Under a normal, the density of a dequantised value is the share of its level."""
    values = torch.randint(0, 4, (300, 2), generator=torch.Generator().manual_seed(0)).double() * 2 - 3
    values[:, 1] = values[:, 1].clamp(max=-1)
    change = Marginals.fit(values, 4, prior=0.5, first=-3.0, width=2.0)
    y, log_det = change(dequantise(values, 2.0, Rng.batch(0, 300)))
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(y).sum(1) + log_det
    counts = torch.stack([(values == level).sum(0) for level in (-3, -1, 1, 3)], 1) + 0.5
    share = (counts / counts.sum(1, keepdim=True)).double()
    place = ((values + 3) / 2).long()
    expected = sum((share[j, place[:, j]] / 2).log() for j in range(2))
    torch.testing.assert_close(log_p, expected)
    assert y.mean().abs() < 0.1
    assert y.std().item() == pytest.approx(1, abs=0.06)
    torch.testing.assert_close(y, y.clamp(-6.1, 6.1))


def test_the_edges_of_a_histogram_are_finite():
    change = Marginals(COUNTS)
    y, log_det = change(torch.tensor([[-0.5, -0.5], [3.5, 3.5]]))
    assert y.isfinite().all()
    assert log_det.isfinite().all()


def test_whitening_whitens_and_stays_near():
    x = noise(4000, 2) @ B + 3
    change = Whiten.fit(x, shrink=0.0)
    y, _ = change(x)
    torch.testing.assert_close(torch.cov(y.T), torch.eye(2, dtype=torch.float64))
    root = change.get_buffer("root")
    torch.testing.assert_close(root, root.T)
    shrunk = Whiten.fit(x, shrink=1.0)
    scale = math.sqrt(torch.cov(x.T).diagonal().mean().item())
    torch.testing.assert_close(shrunk(x)[0], (x - x.mean(0)) / scale)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: Logit(1, 0), "low < high"),
        (lambda: Logit(0, 1)(noise(9, 1) * 9), r"outside of the \[0, 1\] of this flow"),
        (lambda: Affine(0.0, torch.tensor([1.0, 0.0])), "constant element"),
        (lambda: Marginals(torch.zeros(1, 2)), "positive counts"),
        (lambda: Marginals(COUNTS)(torch.full((1, 2), 9.0)), "outside of this histogram"),
        (lambda: Marginals(COUNTS)(torch.full((1, 2), -0.6)), "outside of this histogram"),
        (lambda: Marginals.fit(torch.full((2, 1), 4.0), 4), "are not 4 levels"),
        (lambda: Whiten(torch.zeros(2), torch.ones(2, 2)), "positive definite"),
    ],
)
def test_bad_input(act, told):
    with pytest.raises(BadInput, match=told):
        act()
