"""Entropy models: laws from the past alone, the same in every container, batch and tile; bits that are the file's."""

import numpy as np
import pytest
import torch
from torch import nn

import codec_models
from framefill.codec.context import PASSES, Contextual, sites, smooth_bits
from framefill.codec.entropy import Factorised
from framefill.codec.header import Header, Kind
from framefill.codec.quantise import Uniform
from framefill.codec.rate import Rate, measure
from framefill.errors import BadInput, CodecError
from framefill.nets.exact import ExactLinear, ExactNetwork

MODELS = [codec_models.contextual, codec_models.factorised, lambda: codec_models.contextual(layers=1, groups=1)]
SIZES = [(1, 1), (2, 3), (5, 4), (13, 9), (16, 16)]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("size", SIZES)
def test_symbols_come_back_from_messages_of_the_stated_length(make, size):
    model, symbols = make(), codec_models.symbols(3, 6, *size)
    messages = model.encode(symbols)
    found = model.decode(messages, size)
    assert torch.equal(found.symbols, symbols)
    assert bool(found.sent.all())
    for bits, sample in zip(model.bits(symbols.double()).tolist(), messages, strict=True):
        assert bits - 8 * len(sample) <= 8 * sum(map(len, sample)) <= bits * 1.001 + 9 * len(sample)


@pytest.mark.parametrize("make", MODELS)
def test_every_symbol_is_in_one_step(make):
    model = make()
    for size in SIZES:
        seen, layer = torch.zeros(6, size[0] * size[1]), 0
        for step in model.steps(size):
            seen[step.first : step.last, step.sites] += 1
            assert step.layer >= layer
            layer = step.layer
        assert bool((seen == 1).all())


def test_a_window_holds_earlier_positions_only():
    """All places that a pass may look at were coded by passes before it."""
    known = torch.zeros(40, 40, dtype=torch.bool)
    for index, (_, _, window) in enumerate(PASSES):
        for place in sites((40, 40), index).tolist():
            y, x = divmod(place, 40)
            inner = 6 <= y < 34 and 6 <= x < 34
            assert not inner or all(bool(known[y + dy, x + dx]) for dy, dx in window)
        known.flatten()[sites((40, 40), index)] = True
    assert bool(known.all())


def test_a_law_looks_at_earlier_steps_only_and_at_those():
    model, symbols = codec_models.contextual(), codec_models.symbols(1, 6, 12, 12).double()
    past = torch.zeros(6, 144, dtype=torch.bool)
    for step in model.steps((12, 12)):
        before = [x.clone() for x in model.law(step, symbols)]
        changed = symbols.flatten(2).clone()
        changed[0][~past] += 7
        assert all(map(torch.equal, before, model.law(step, changed.view_as(symbols))))
        if past.any():
            changed = symbols.flatten(2).clone()
            changed[0][past] += 7
            assert not all(map(torch.equal, before, model.law(step, changed.view_as(symbols))))
        past[step.first : step.last, step.sites] = True


def test_the_same_bytes_in_every_container_batch_precision_and_order():
    model, symbols = codec_models.contextual(), codec_models.symbols(5, 6, 11, 14)
    expected = model.encode(symbols)
    assert model.encode(symbols, dtype=torch.float32) == expected
    assert [model.encode(one[None])[0] for one in symbols] == expected
    assert model.encode(symbols.flip(0))[::-1] == expected
    assert model.encode(symbols.transpose(2, 3).contiguous().transpose(2, 3)) == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert model.encode(symbols) == expected
        assert model.encode(symbols, dtype=torch.float32) == expected
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert model.encode(symbols) == expected
    finally:
        torch.set_float32_matmul_precision(before)
    found = model.decode([expected[i] for i in (3, 0)], (11, 14), dtype=torch.float32)
    assert torch.equal(found.symbols, symbols[[3, 0]])


def test_a_window_of_a_picture_has_the_laws_of_the_picture():
    """Away from its borders a tile gives what the whole latent gives: nothing depends on the size."""
    model, symbols = codec_models.contextual(), codec_models.symbols(1, 6, 32, 40).double()
    whole = {s.index: (s, *model.gaussians(s, symbols)) for s in model.steps((32, 40))}
    tile = symbols[:, :, 4:28, 8:32]
    for step in model.steps((24, 24)):
        mean, width = model.gaussians(step, tile)
        y, x = step.sites // 24, step.sites % 24
        inner = (y >= 6) & (y < 18) & (x >= 6) & (x < 18)
        places = ((y + 4) * 40 + x + 8)[inner]
        outer, full_mean, full_width = whole[step.index]
        match = torch.searchsorted(outer.sites, places)
        assert torch.equal(mean[..., inner], full_mean[..., match])
        assert torch.equal(width[..., inner], full_width[..., match])


def test_lost_layers_are_predicted_and_the_rest_is_exact():
    model, symbols = codec_models.contextual(), codec_models.symbols(1, 6, 16, 16)
    [messages] = model.encode(symbols)
    for kept in (0, 1, 2):
        found = model.decode([[*messages[:kept], *[None] * (3 - kept)]], (16, 16))
        assert torch.equal(found.symbols[found.sent], symbols[found.sent])
        assert float(found.sent.double().mean()) == (0, 0.25, 0.5)[kept]
    gap = model.decode([[messages[0], None, messages[2]]], (16, 16))
    assert float(gap.sent.double().mean()) == 0.25, "what follows a gap has lost its context"
    flat = codec_models.factorised()
    assert flat.decode([[None]], (2, 2)).symbols[0, 2].unique().tolist() == [int(flat.counts[2].argmax()) - 9]


def test_a_joined_model_says_the_same_in_one_message():
    model, symbols = codec_models.contextual(), codec_models.symbols(2, 6, 16, 16)
    layered, joined = model.encode(symbols), model.joined().encode(symbols)
    assert model.layers == 3, "the model itself stays as it was"
    for apart, [one] in zip(layered, joined, strict=True):
        assert 0 <= sum(map(len, apart)) - len(one) <= 2, "an end costs less than a byte"
    found = model.joined().decode(joined, (16, 16))
    assert torch.equal(found.symbols, symbols)
    assert bool(found.sent.all())
    assert joined == codec_models.contextual(layers=1).encode(symbols), "as if it had been made with one layer"


def toy(seed: int, size: int = 16) -> torch.Tensor:
    """Correlated fields, of a width that differs from place to place."""
    z = torch.randn(8, 4, size + 8, size + 8, generator=torch.Generator().manual_seed(seed))
    smooth = nn.functional.avg_pool2d(z, 5, 1, 2)[..., 4:-4, 4:-4] * 5
    loud = nn.functional.avg_pool2d(z[:, :1], 9, 1, 4)[..., 4:-4, 4:-4].mul(9).exp().clamp(0.1, 6)
    return smooth * loud


def learned(steps: int) -> tuple[Contextual, Uniform, list[float]]:
    """A model and a quantiser trained together on rate and distortion, and the bits a symbol on the way."""
    torch.manual_seed(0)
    model, quantiser, rates = Contextual(4, groups=2, hidden=24, layers=1), Uniform(4), []
    optimiser = torch.optim.Adam([*model.parameters(), *quantiser.parameters()], 4e-3)
    for step in range(steps):
        z = toy(step)
        found = quantiser(z)
        rate = model.bits(found.symbols).sum() / z.numel()
        (rate + 4 * (found.values - z).square().mean()).backward()
        optimiser.step()
        optimiser.zero_grad()
        rates.append(rate.item())
    return model, quantiser, rates


@pytest.mark.parametrize("steps", [8, pytest.param(200, marks=pytest.mark.slow)])
@torch.no_grad()
def test_what_training_estimates_is_what_the_file_has(steps):
    """Estimate and file agree within 0.5 % and the header, after any training."""
    with torch.enable_grad():
        model, quantiser, rates = learned(steps)
    fresh = toy(999, 48)
    seen = model.bits(quantiser(fresh).symbols).sum()  # the number that the training loop sees
    rate = measure(model, quantiser.symbols(fresh), Header(Kind.VIDEO, b"mark", 8, 8, pictures=8))
    print(rate.line())
    assert rate.estimated == pytest.approx(float(seen), rel=1e-6)
    assert abs(rate.gap) < 0.005
    assert rates[-1] < rates[0]
    assert float(quantiser.step.std()) > 0, "steps have moved"
    if steps > 100:
        flat = Factorised(4)
        flat.fit([quantiser.symbols(toy(step)) for step in range(20)])
        assert seen < 0.93 * flat.bits(quantiser.symbols(fresh)).sum(), "context pays"


def test_gradients_are_those_of_the_gaussian():
    symbols = torch.tensor([0.0, 3.0, -2.0, 40.0], dtype=torch.float64, requires_grad=True)
    mean = torch.tensor([3.0, 40.0, -20.0, 0.0], dtype=torch.float64, requires_grad=True)
    width = torch.tensor([20.5, 24.5, 30.5, 40.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(smooth_bits, (symbols, mean, width))
    deviation = torch.tensor([12.5 * 4, 8.5 * 8]) / 64
    law = torch.distributions.Normal(mean[:2] / 16, deviation.double())
    mass = law.cdf(symbols[:2] + 0.5) - law.cdf(symbols[:2] - 0.5)
    torch.testing.assert_close(smooth_bits(symbols, mean, width)[:2], -mass.log2())
    far = torch.tensor([500.0], requires_grad=True)
    smooth_bits(far, torch.zeros(1), torch.tensor([10.0])).sum().backward()
    assert bool(far.grad.isfinite() & (far.grad > 1)), "outliers feel a pull"


def test_tables_of_counts_cost_their_entropy():
    model, symbols = Factorised(6, 40), codec_models.symbols(4, 6, 16, 16)
    model.fit([symbols[:2], symbols[2:]])
    bits = float(model.bits(symbols).sum())
    entropy = 0.0
    for channel in range(6):
        counts = np.unique(symbols[:, channel], return_counts=True)[1]
        entropy -= float((counts * np.log2(counts / counts.sum())).sum())
    assert entropy * 0.98 < bits < entropy * 1.1 + 60 * 16
    values = symbols[:1, :, :4, :4].clamp(-30, 30).double().requires_grad_()
    model.bits(values).sum().backward()
    assert bool((values.grad != 0).any())
    model.fit([torch.full((1, 6, 4, 4), 3)])
    assert model.likeliest(torch.tensor([0])).item() == 3
    with torch.no_grad():
        model.counts.zero_()
    assert len(set(model.tables().row(0)[1:-1].tolist())) == 1, "never seen: uniform"


def test_whole_numbers_stay_whole_and_gradients_pass():
    layer = ExactLinear(5, 7, unit=4, shift=3)
    x = torch.randint(-255, 256, (20, 5)).double()
    with torch.no_grad():
        layer.weight.mul_(9)
        layer.bias.uniform_(-3, 3)
    weight, bias = (t.long() for t in layer.integers(torch.float64))
    assert torch.equal(layer(x).long(), (x.long() @ weight.T + bias) >> 3)
    assert torch.equal(layer(x.float()).double(), layer(x))
    assert int(weight.abs().max()) <= 127
    layer(x).sum().backward()
    clipped = (layer.weight.abs() * 64 > 127).detach()
    assert bool(clipped.any())
    assert bool((layer.weight.grad[clipped] == 0).all())
    expected = (x.sum(0) * 64 / 8).float().expand(7, 5)
    torch.testing.assert_close(layer.weight.grad[~clipped], expected[~clipped])


def test_sums_that_do_not_fit_are_refused():
    wide = ExactLinear(600, 1, unit=1, shift=0)
    nn.init.constant_(wide.weight, 2.0)
    wide.check(torch.float64)
    with pytest.raises(BadInput, match="too large for torch\\.float32"):
        wide.check(torch.float32)
    with pytest.raises(BadInput, match="too large for torch\\.bfloat16"):
        ExactNetwork(3, 2, hidden=4, lines=1).check(torch.bfloat16)
    model = codec_models.contextual()
    with torch.no_grad():
        model.networks[3].second.weight[0, 0] = float("nan")
    with pytest.raises(BadInput, match="without NaN"):
        model.encode(codec_models.symbols(1, 6, 4, 4))
    with pytest.raises(BadInput, match="without NaN"):
        model.decode([[b"", b"", b""]], (4, 4))


def test_what_is_no_latent_is_refused():
    model = codec_models.factorised()
    for bad in (torch.zeros(6, 4, 4), torch.zeros(1, 5, 4, 4), torch.zeros(0, 6, 4, 4)):
        with pytest.raises(BadInput, match="symbols have shape"):
            model.encode(bad)
    for bad in (0.5, float("nan"), 2.0**31):
        with pytest.raises(BadInput, match="not whole numbers"):
            model.encode(torch.full((1, 6, 4, 4), bad, dtype=torch.float64))
    with pytest.raises(BadInput, match="give 1 messages"):
        model.decode([[b"", b""]], (4, 4))
    with pytest.raises(BadInput, match="sides of 1 or more"):
        model.decode([[b""]], (0, 4))
    for make in (lambda: Factorised(0), lambda: Factorised(3, 0), lambda: Contextual(2, groups=3)):
        with pytest.raises(BadInput):
            make()
    with pytest.raises(BadInput, match="4 layers"):
        Contextual(2, layers=4)


def test_rates_add_up_and_speak():
    model, symbols = codec_models.contextual(), codec_models.symbols(2, 6, 16, 16)
    one = measure(model, symbols)
    assert one.symbols == 2 * 6 * 256
    assert (
        (one + one).written == 2 * one.written == 16 * sum(len(m) for sample in model.encode(symbols) for m in sample)
    )
    assert one.overhead == 0
    with_file = measure(model, symbols, Header(Kind.IMAGE, b"mark", 64, 64, layers=3))
    assert with_file.overhead == 8 * (14 + 5 * 2 + 6 * 4)
    assert with_file.line().endswith("48 bytes of format")
    assert Rate(0, 0.0, 0).gap == 0
    with pytest.raises(BadInput, match="the header says 1 layers"):
        measure(model, symbols, Header(Kind.IMAGE, b"mark", 64, 64))


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_damaged_messages_give_symbols_or_a_typed_error(make, count):
    """Sums are checked before; where they are right by malice, nothing worse happens than wrong symbols."""
    model = make()
    [messages] = model.encode(codec_models.symbols(1, 6, 8, 8))
    for seed in range(count):
        rng = np.random.default_rng(seed)
        bad = [bytearray(m) for m in messages]
        which = bad[int(rng.integers(len(bad)))]
        for place in rng.integers(0, max(len(which), 1), 3):
            which[place : place + 1] = rng.bytes(int(rng.integers(0, 3)))
        try:
            found = model.decode([[bytes(m) for m in bad]], (8, 8))
        except CodecError:
            continue
        assert found.symbols.shape == (1, 6, 8, 8)
        assert int(found.symbols.abs().max()) < 2**32


def test_settings_are_told_and_needed():
    model, symbols = codec_models.contextual(4, settings=3), codec_models.symbols(2, 4, 9, 7, seed=5)
    chosen = torch.tensor([0, 2])
    messages = model.encode(symbols, chosen)
    assert torch.equal(model.decode(messages, (9, 7), chosen).symbols, symbols)
    assert messages != model.encode(symbols, chosen.flip(0))
    assert not torch.equal(model.bits(symbols, chosen), model.bits(symbols, chosen.flip(0)))
    for wrong in (None, torch.tensor([0, 3]), torch.tensor([1])):
        with pytest.raises(BadInput, match=r"setting of 0\.\.2"):
            model.encode(symbols, wrong)


def test_what_was_coded_in_inference_mode_can_be_learned_from():
    model, symbols = codec_models.contextual(2), codec_models.symbols(1, 2, 23, 19, seed=9)
    with torch.inference_mode():
        model.bits(symbols)
    model.bits(symbols).sum().backward()
    assert any(parameter.grad.any() for parameter in model.parameters())
