"""Layers and network against independent implementations: plain torch operations, values of the published program."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from framefill.errors import BadInput
from framefill.nets import layers
from framefill.nets.layers import Attention, Dropout, GroupNorm, LevelNorm, ResBlock, SpatialNorm
from framefill.nets.unet import UNet

PARITY = json.loads((Path(__file__).parent / "parity" / "mcvd.json").read_text())
SIZES = [(1, 3, 2, 4), (2, 5, 6, 2), (2, 8, 10, 12)]


def noise(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def randomise(module, scale=1.0):
    """Weights of a trained network's size everywhere, also where a fresh network has zeros."""
    for i, p in enumerate(module.parameters()):
        fan_in = p[0].numel() if p.ndim > 1 else 100
        p.data = scale * noise(*p.shape, seed=i).to(p.dtype) / fan_in**0.5
    return module


def unet(**options):
    tiny = {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (False, True), "head_width": 8, "dropout": 0.0}
    return randomise(UNet(2, options.pop("cond_channels", 3), **tiny | options)).eval()


def relative(a, b):
    """Root mean square of the difference, relative to b's."""
    return ((a.double() - b.double()).square().mean() / b.double().square().mean()).sqrt().item()


# ---- resampling ----------------------------------------------------------------------------------------------------


def fir(channels):
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    return torch.outer(taps, taps).expand(channels, 1, 4, 4)


@pytest.mark.parametrize("shape", SIZES)
def test_downsampling_is_a_strided_depthwise_convolution(shape):
    x = noise(*shape)
    plain = F.conv2d(x, fir(shape[1]), stride=2, padding=1, groups=shape[1])
    torch.testing.assert_close(layers.downsample(x), plain)


@pytest.mark.parametrize("shape", SIZES)
def test_upsampling_is_a_transposed_depthwise_convolution(shape):
    x = noise(*shape)
    plain = F.conv_transpose2d(x, 4 * fir(shape[1]), stride=2, padding=1, groups=shape[1])
    torch.testing.assert_close(layers.upsample(x), plain)


def test_resampling_equals_the_published_program():
    facts = PARITY["fir_1331"]["value"]
    impulse, ramp = torch.zeros(4, 4), torch.arange(16.0).reshape(4, 4)
    impulse[1, 2] = 1
    for name, x in (("impulse(1,2)", impulse), ("ramp", ramp)):
        for verb, resample in (("down", layers.downsample), ("up", layers.upsample)):
            torch.testing.assert_close(resample(x[None, None])[0, 0], torch.tensor(facts[f"{verb}_{name}"]))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_upsampling_is_four_times_the_transpose_of_downsampling(height, width, seed):
    x, y = noise(1, 2, 2 * height, 2 * width, seed=seed), noise(1, 2, height, width, seed=seed + 1)
    torch.testing.assert_close((layers.downsample(x) * y).sum(), (x * layers.upsample(y)).sum() / 4)


def test_resampling_keeps_a_constant_inside():
    ones = torch.ones(1, 1, 8, 8)
    torch.testing.assert_close(layers.downsample(ones)[..., 1:-1, 1:-1], torch.ones(1, 1, 2, 2))
    torch.testing.assert_close(layers.upsample(ones)[..., 1:-1, 1:-1], torch.ones(1, 1, 14, 14))


# ---- normalisation -------------------------------------------------------------------------------------------------


def test_group_counts_equal_the_published_program():
    for channels, groups in PARITY["groupnorm_groups"]["value"].items():
        assert layers.norm_groups(int(channels)) == groups


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [4, 32])
def test_normalisation_and_its_gradient_are_those_of_group_norm(order, size):
    x = (3 + 2 * noise(2, 12, size, size)).contiguous(memory_format=order).requires_grad_()
    g = noise(2, 12, size, size, seed=1)
    ours, plain = layers.normalise(x, 3, 1e-5), F.group_norm(x, 3, eps=1e-5)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(ours, x, g), torch.autograd.grad(plain, x, g))


def test_normalisation_passes_gradcheck():
    assert torch.autograd.gradcheck(lambda x: layers.normalise(x, 2, 1e-3), noise(2, 4, 3, 2).requires_grad_())


@pytest.mark.parametrize("size", [8, 32])
def test_normalisation_in_bfloat16_is_as_exact_as_bfloat16(size):
    x, g = noise(2, 64, size, size, dtype=torch.bfloat16), noise(2, 64, size, size, dtype=torch.bfloat16, seed=1)
    results = []
    for dtype in (torch.bfloat16, torch.float64):
        leaf = x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
        y = layers.normalise(leaf, 16, 1e-5)
        results.append((y.detach(), torch.autograd.grad(y, leaf, g.to(dtype))[0]))
    assert relative(results[0][0], results[1][0]) < 2**-8
    assert relative(results[0][1], results[1][1]) < 2**-7


def test_second_gradients_of_the_normalisation_are_refused_not_wrong():
    x = noise(1, 4, 2, 2).requires_grad_()
    (g,) = torch.autograd.grad(layers.normalise(x, 2, 1e-5).pow(3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_group_norm_scales_and_shifts_like_torch():
    ours, plain = randomise(GroupNorm(24, eps=1e-6).double()), nn.GroupNorm(6, 24, eps=1e-6).double()
    plain.load_state_dict(ours.state_dict())
    x = noise(2, 24, 5, 3)
    torch.testing.assert_close(ours(x), plain(x))


def test_level_norm_is_its_formula():
    norm = randomise(LevelNorm(8, 6, 0, 0).double())
    h, level = noise(2, 8, 4, 4), noise(2, 6, seed=1)
    scale, shift = F.linear(level, norm.level.weight, norm.level.bias)[..., None, None].chunk(2, 1)
    torch.testing.assert_close(norm(h, level, None), F.silu(F.group_norm(h, 2) * (1 + scale) + shift))


# ---- embedding -----------------------------------------------------------------------------------------------------


def test_embedding_equals_the_published_program():
    facts = PARITY["timestep_embedding"]["value"]
    ours = layers.embed(torch.tensor(facts["t"]), facts["dim"])
    torch.testing.assert_close(ours, torch.tensor(facts["out"]), atol=1e-5, rtol=0)


# ---- attention -----------------------------------------------------------------------------------------------------


def plain_attention(q, k, v):
    scores = torch.einsum("bhnd,bhmd->bhnm", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("bhnm,bhmd->bhnd", scores.softmax(-1), v)


@pytest.mark.parametrize("shape", [(1, 1, 1, 4), (2, 3, 20, 8), (3, 1, 1024, 8), (1, 2, 1100, 4), (5, 1, 600, 4)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_attention_of_any_size_and_type_is_softmax_of_products(shape, dtype, tolerance):
    q, k, v = (noise(*shape, seed=i).to(dtype) for i in range(3))
    ours = layers.attend(q, k, v)
    assert ours.dtype == dtype
    assert ours.shape == shape
    assert relative(ours, plain_attention(q.double(), k.double(), v.double())) < tolerance


def test_the_gradient_of_attention_in_bfloat16_is_that_of_the_formula():
    results = []
    for dtype, attend in ((torch.bfloat16, layers.attend), (torch.float64, plain_attention)):
        parts = [noise(3, 2, 600, 8, seed=i).bfloat16().to(dtype).requires_grad_() for i in range(3)]
        g = noise(3, 2, 600, 8, seed=3).bfloat16().to(dtype)
        results.append(torch.autograd.grad(attend(*parts), parts, g))
    for ours, plain in zip(*results, strict=True):
        assert relative(ours, plain) < 2e-2


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_an_attention_layer_is_einsum_softmax_einsum_around_a_residual(order):
    layer = randomise(Attention(16, 8).double())
    x = noise(2, 16, 6, 4).contiguous(memory_format=order)
    h = F.group_norm(x, 4, layer.norm.weight, layer.norm.bias, eps=1e-6)
    weight, bias = layer.qkv.weight[:, :, 0, 0], layer.qkv.bias
    q, k, v = (torch.einsum("bihw,oi->bohw", h, weight) + bias[:, None, None]).reshape(2, 3, 2, 8, 24).unbind(1)
    scores = torch.einsum("bndi,bndj->bnij", q, k) / 8**0.5
    h = torch.einsum("bnij,bndj->bndi", scores.softmax(-1), v).reshape(2, 16, 6, 4)
    torch.testing.assert_close(layer(x), (x + layer.out(h)) / 2**0.5)


# ---- dropout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0005, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dropout_drops_the_share_it_says_and_keeps_the_mean(p, dtype):
    torch.manual_seed(0)
    ones = torch.ones(4, 8, 100, 111, dtype=dtype)
    y = Dropout(p)(ones).double()
    error = 5 * (p * (1 - p) / ones.numel()) ** 0.5
    assert abs((y == 0).double().mean().item() - p) < error
    assert y.unique().numel() == 2
    assert abs(y.mean().item() - 1) < error / (1 - p) + (2**-8 if dtype == torch.bfloat16 else 2e-5)


def test_dropout_is_independent_from_number_to_number():
    torch.manual_seed(0)
    kept = (Dropout(0.3)(torch.ones(1, 8, 200, 200)) != 0).double() - 0.7
    flat = kept.permute(0, 2, 3, 1).flatten()
    for lag in (1, 2, 3, 4, 5, 8, 16, 200, 1600):
        correlation = (flat[lag:] * flat[:-lag]).mean() / 0.21
        assert abs(correlation) < 5 / flat.numel() ** 0.5


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_dropout_is_a_pure_function_of_the_seed(order):
    layer, h = Dropout(0.5), noise(3, 5, 7, 3).contiguous(memory_format=order)  # 315 numbers: not a multiple of 4
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(layer(h))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    torch.manual_seed(1)
    assert torch.equal(layer(h.contiguous()), draws[0])


def test_dropout_passes_the_gradient_where_it_passes_the_signal():
    torch.manual_seed(0)
    h = (1 + noise(2, 3, 4, 5).abs()).requires_grad_()
    y = Dropout(0.25)(h)
    (g,) = torch.autograd.grad(y.sum(), h)
    torch.testing.assert_close(g, (y / h).detach())
    torch.testing.assert_close(g[g != 0], torch.full_like(g[g != 0], 4 / 3))


def test_dropout_does_nothing_in_evaluation_or_at_zero_and_everything_at_one():
    h = noise(2, 3, 4, 5)
    assert torch.equal(Dropout(0.5).eval()(h), h)
    assert torch.equal(Dropout(0.0)(h), h)
    assert torch.equal(Dropout(1.0)(h), torch.zeros_like(h))


# ---- blocks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", [-1, 0, 1])
@pytest.mark.parametrize("outputs", [8, 12])
def test_a_fresh_block_is_its_shortcut(resize, outputs):
    torch.manual_seed(0)
    block = ResBlock(8, outputs, embedding=6, cond_channels=0, spatin=0, dropout=0.5, resize=resize)
    x = noise(2, 8, 6, 4, dtype=torch.float32)
    resized = {-1: layers.downsample, 0: lambda x: x, 1: layers.upsample}[resize](x)
    ours = block(x, noise(2, 6, dtype=torch.float32), None)
    torch.testing.assert_close(ours, block.shortcut(resized) / 2**0.5, atol=1e-3, rtol=0)


def test_a_fresh_attention_layer_is_its_input():
    torch.manual_seed(0)
    x = noise(2, 8, 4, 4, dtype=torch.float32)
    torch.testing.assert_close(Attention(8, 4)(x), x / 2**0.5, atol=1e-3, rtol=0)


def test_spatin_reacts_to_the_condition_where_it_changed():
    norm = randomise(SpatialNorm(8, 3, 5).double())
    h, cond = noise(1, 8, 12, 12), noise(1, 3, 12, 12, seed=1)
    other = cond.clone()
    other[..., 0, 0] += 1
    changed = (norm(h, cond) - norm(h, other)).abs().amax((0, 1)) > 0
    assert changed[:3, :3].all()
    assert not changed[3:].any()
    assert not changed[:, 3:].any()


# ---- network -------------------------------------------------------------------------------------------------------


def test_every_spatin_layer_of_every_level_reacts_to_the_condition():
    network = unet(spatin=6, multipliers=(1, 2, 2), attention=(False, False, True))
    seen = []
    for module in network.modules():
        if isinstance(module, SpatialNorm):
            module.register_forward_hook(lambda module, inputs, out: seen.append((module, inputs[0], out)))
    x, label = noise(1, 2, 16, 16, dtype=torch.float32), torch.tensor([500.0])
    cond = noise(1, 3, 16, 16, dtype=torch.float32, seed=1)
    with torch.no_grad():
        network(x, label, cond)
        first = list(seen)
        assert {h.shape[-1] for _, h, _ in first} == {16, 8, 4}
        for module, h, out in first:
            assert (module(h, 1 - cond) - out).abs().max() > 1e-2


@pytest.mark.parametrize("spatin", [0, 6])
def test_the_network_reacts_to_label_input_and_condition(spatin):
    network = unet(spatin=spatin)
    x, cond = noise(1, 2, 8, 8, dtype=torch.float32), noise(1, 3, 8, 8, dtype=torch.float32, seed=1)
    with torch.no_grad():
        base = network(x, torch.tensor([500.0]), cond)
        assert (network(x, torch.tensor([501.0]), cond) - base).abs().max() > 1e-4
        assert (network(x, torch.tensor([900.0]), cond) - base).abs().max() > 1e-2
        assert (network(-x, torch.tensor([500.0]), cond) - base).abs().max() > 1e-2
        assert (network(x, torch.tensor([500.0]), -cond) - base).abs().max() > 1e-2


@pytest.mark.parametrize("size", [(8, 8), (8, 24), (40, 16), (56, 8)])
@pytest.mark.parametrize("options", [{}, {"spatin": 6}, {"patch": 2}, {"cond_channels": 0}], ids=str)
def test_any_multiple_of_the_stride_works_sample_by_sample(size, options):
    network = unet(multipliers=(1, 1, 2), attention=(False, True, True), **options)
    x, label = noise(2, 2, *size, dtype=torch.float32), torch.tensor([3.0, 700.0])
    cond = noise(2, 3, *size, dtype=torch.float32, seed=1) if network.cond_channels else None
    with torch.no_grad():
        both = network(x, label, cond)
        alone = network(x[1:], label[1:], None if cond is None else cond[1:])
    assert both.shape == x.shape
    torch.testing.assert_close(alone, both[1:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("spatin", [0, 6])
def test_memory_order_does_not_matter(spatin):
    network = unet(spatin=spatin).double()
    inputs = noise(2, 2, 16, 8), torch.tensor([3.0, 700.0]), noise(2, 3, 16, 8, seed=1)
    plain = network(*inputs)
    network = network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(*inputs), plain)


@pytest.mark.parametrize("spatin", [0, 6])
def test_bfloat16_is_close_to_float32_forward_and_backward(spatin):
    network = unet(spatin=spatin, width=16).to(memory_format=torch.channels_last)
    x, cond = noise(2, 2, 32, 32, dtype=torch.float32), noise(2, 3, 32, 32, dtype=torch.float32, seed=1)
    outputs, gradients = [], []
    for enabled in (True, False):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = network(x, torch.tensor([3.0, 700.0]), cond)
        y.float().square().mean().backward()
        outputs.append(y.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert relative(*outputs) < 0.02
    assert relative(*gradients) < 0.03


def test_dropout_is_on_in_training_and_off_in_evaluation():
    network = unet(dropout=0.3)
    inputs = noise(1, 2, 8, 8, dtype=torch.float32), torch.tensor([3.0]), noise(1, 3, 8, 8, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(network(*inputs), network(*inputs))
        assert not torch.equal(network.train()(*inputs), network(*inputs))


@pytest.mark.slow
def test_the_network_is_traced_whole():
    network = unet(multipliers=(1, 1), attention=(True, False), dropout=0.3).train()
    traced = torch.compile(network, backend="eager", fullgraph=True)
    inputs = noise(1, 2, 4, 4, dtype=torch.float32), torch.tensor([3.0]), noise(1, 3, 4, 4, dtype=torch.float32)
    results = []
    for call in (network, traced):
        torch.manual_seed(0)
        network.zero_grad()
        y = call(*inputs)
        y.square().sum().backward()
        results.append((y.detach(), network.stem.weight.grad.clone()))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("options", [{}, {"spatin": 6}, {"patch": 2}], ids=str)
def test_what_does_not_fit_is_refused_with_what_would(options):
    network = unet(**options)
    x, label, cond = torch.zeros(1, 2, 1, 16, 16), torch.zeros(1), torch.zeros(1, 3, 1, 16, 16)
    assert network(x, label, cond).shape == x.shape
    with pytest.raises(BadInput, match=f"multiples of {network.stride}, got 16x15"):
        network(x[..., :15], label, cond[..., :15])
    with pytest.raises(BadInput, match="got 0x16"):
        network(x[..., :0, :], label, cond[..., :0, :])
    with pytest.raises(BadInput, match="needs a condition of 3 channels, got none"):
        network(x, label)
    with pytest.raises(BadInput, match="condition of 3 channels and size 16x16, got 2 channels and size 16x16"):
        network(x, label, cond[:, :2])
    with pytest.raises(BadInput, match="3 channels and size 16x16, got 3 channels and size 16x8"):
        network(x, label, cond[..., :8])


def test_attention_needs_one_entry_per_level():
    with pytest.raises(BadInput, match=r"one entry per level \(2\), got 3"):
        UNet(1, 0, multipliers=(1, 2), attention=(False, True, True))
