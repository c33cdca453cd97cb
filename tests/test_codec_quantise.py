"""Quantisers of latents: the rounding, the gradients, the way back, and what they refuse."""

import pytest
import torch

from framefill.arrays import Rng
from framefill.codec.quantise import Codebook, FiniteScalar, LookupFree, Uniform
from framefill.errors import BadInput
from framefill.latents.lattice import FiniteScalar as Lattice
from framefill.latents.quantiser import Quantiser


def book() -> Codebook:
    torch.manual_seed(0)
    made = Quantiser(50, 4, patience=0)
    torch.nn.init.normal_(made.codebook)
    return Codebook(made)


ALL = [lambda: Uniform(4, step=0.3), lambda: FiniteScalar((8, 5, 3, 2)), lambda: LookupFree(4), book]


def latents(scale: float = 2.0) -> torch.Tensor:
    return (torch.randn(3, 4, 6, 5, generator=torch.Generator().manual_seed(1)) * scale).requires_grad_()


@pytest.mark.parametrize("make", ALL)
def test_the_decoder_sees_what_training_saw(make):
    quantiser, z = make().eval(), latents()
    found = quantiser(z)
    symbols = quantiser.symbols(z)
    assert symbols.dtype == torch.int64
    assert symbols.shape == (3, quantiser.symbol_channels, 6, 5)
    torch.testing.assert_close(found.symbols, symbols.float(), rtol=0, atol=1e-5)
    torch.testing.assert_close(quantiser.values(symbols), found.values, rtol=1e-6, atol=1e-6)
    assert torch.equal(quantiser.symbols(quantiser.values(symbols)), symbols) or isinstance(quantiser, FiniteScalar)


def test_uniform_rounds_half_to_even_and_is_within_half_a_step():
    quantiser = Uniform(2, step=0.5)
    z = torch.tensor([0.25, 0.75, -0.25, 1.25, 0.26]).view(1, 1, 1, 5).repeat(1, 2, 1, 1)
    assert quantiser.symbols(z)[0, 0, 0].tolist() == [0, 2, 0, 2, 1]
    z = latents()
    with torch.no_grad():
        step = torch.tensor([0.1, 0.5, 1.0, 3.0])
        four = Uniform(4)
        four.step.copy_(step)
        assert bool(((four(z).values - z).abs() <= step[:, None, None] / 2 + 1e-6).all())


def test_the_step_learns_and_gradients_pass_straight_through():
    quantiser, z, push = Uniform(4, step=0.3), latents(), torch.randn(3, 4, 6, 5)
    found = quantiser(z)
    (found.values * push).sum().backward()
    torch.testing.assert_close(z.grad, push)
    rest = (found.symbols - z / 0.3).detach()  # LSQ (Esser et al. 2020): d value / d step = round(z / s) - z / s
    torch.testing.assert_close(quantiser.step.grad, (push * rest).sum((0, 2, 3)), rtol=1e-4, atol=1e-4)
    z.grad = None
    (quantiser(z).symbols * push).sum().backward()
    torch.testing.assert_close(z.grad, push / 0.3)


def test_noise_is_uniform_in_training_and_absent_outside():
    quantiser, z = Uniform(1, step=0.5, noisy=True), torch.full((1, 1, 100, 100), 0.1)
    apart = quantiser(z, Rng.batch(0, 1)).values.detach() - z
    assert float(apart.min()) >= -0.25
    assert float(apart.max()) < 0.25
    assert float(apart.var()) == pytest.approx(0.25 / 12, rel=0.05)
    assert torch.equal(quantiser(z, Rng.batch(0, 1)).values - z, apart)
    with pytest.raises(BadInput, match="needs the argument rng"):
        quantiser(z)
    assert float(quantiser.eval()(z).values.detach().abs().max()) == 0
    assert quantiser.train().symbols(z).abs().sum() == 0
    assert quantiser.training


def test_fsq_uses_every_level_and_no_other():
    quantiser = FiniteScalar((8, 5, 3, 2))
    symbols = quantiser.symbols(torch.linspace(-6, 6, 400).expand(1, 4, 1, 400))
    assert [sorted(set(symbols[:, c].flatten().tolist())) for c in range(4)] == [
        list(range(-4, 4)), [-2, -1, 0, 1, 2], [-1, 0, 1], [-1, 0]
    ]  # fmt: skip
    values = quantiser.values(torch.full((1, 4, 1, 1), 99)).flatten().tolist()
    assert values == [0.75, 1.0, 1.0, 0.0], "hostile symbols are brought to the edge"


def test_fsq_says_what_the_tokenizers_say():
    levels, z = (8, 5, 3, 2), latents().detach()
    theirs = Lattice(levels)(z)
    assert torch.equal(
        FiniteScalar(levels).values(FiniteScalar(levels).symbols(z)), Lattice(levels).codes(theirs.indices)
    )
    edge = torch.tensor([-(2**63), 2**63 - 1]).expand(1, 4, 1, 2)
    assert FiniteScalar(levels).values(edge)[0, :, 0].tolist() == [[-1, 0.75], [-1, 1], [-1, 1], [-1, 0]]


def test_lfq_spreads_bits_and_commits():
    quantiser = LookupFree(1, commitment=1.0, diversity=0.0)
    z = torch.tensor([0.5, -2.0]).view(1, 1, 1, 2)
    assert float(quantiser(z).penalty) == pytest.approx((0.25 + 1) / 2)
    spread = LookupFree(1, commitment=0.0, diversity=1.0)
    both, one = (spread(x.view(1, 1, 1, 2)).penalty for x in (torch.tensor([3.0, -3.0]), torch.tensor([3.0, 3.0])))
    assert float(both) == pytest.approx(-1, abs=0.01)
    assert float(one) == pytest.approx(0, abs=0.01)
    assert quantiser.values(torch.tensor([-5, 0, 1, 7]).view(1, 1, 1, 4)).flatten().tolist() == [-1, -1, 1, 1]


def test_hostile_indices_name_the_nearest_code():
    quantiser = book()
    found = quantiser.values(torch.tensor([-1, 10**9]).view(1, 1, 1, 2))
    assert torch.equal(found[0, :, 0].T, quantiser.book.codebook[[0, 49]].detach())


@pytest.mark.parametrize("make", ALL)
def test_what_cannot_be_coded_is_refused(make):
    quantiser = make()
    for bad in (float("nan"), float("inf")):
        with pytest.raises(BadInput, match="NaN or infinite"):
            quantiser.symbols(torch.full((1, 4, 2, 2), bad))
    with pytest.raises(BadInput, match="shape"):
        quantiser.symbols(torch.zeros(1, 3, 2, 2))
    with pytest.raises(BadInput, match="shape"):
        quantiser.values(torch.zeros(1, 9, 2, 2))


def test_wrong_options_are_refused():
    with pytest.raises(BadInput, match="steps; the format takes"):
        Uniform(1, step=0.001).symbols(torch.full((1, 1, 1, 1), 1e9))
    for make in (
        lambda: Uniform(0),
        lambda: Uniform(1, step=0.0),
        lambda: FiniteScalar((1, 8)),
        lambda: FiniteScalar((300,)),
    ):
        with pytest.raises(BadInput):
            make()
