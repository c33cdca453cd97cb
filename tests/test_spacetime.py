"""The space-time U-Net: its layers against plain formulas, the globe it wraps round, time, sizes, samples."""

import math

import pytest
import torch
import torch.nn.functional as F

from framefill.errors import BadInput
from framefill.nets import spacetime
from framefill.nets.layers import attend
from framefill.nets.spacetime import SpaceTimeUNet

LEVEL = torch.tensor([10.0, 900.0])


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def woken(module, seed=1):
    """The module in double precision with every parameter random, also those that start at zero."""
    rng = torch.Generator().manual_seed(seed)
    for p in module.double().parameters():
        spread = 1.5 / math.sqrt(p[0].numel()) if p.ndim > 1 else 0.5
        p.data = torch.randn(p.shape, generator=rng, dtype=torch.float64) * spread
    return module


def small(**changes):
    options = {"width": 8, "multipliers": (1, 2, 2), "heads": 2, "head_width": 6, **changes}
    return woken(SpaceTimeUNet(1, 2, **options))


def inputs(T=3, H=8, W=16):
    return noise(2, T, 1, H, W), LEVEL, noise(2, T, 2, H, W, seed=3)


# The published size


def test_the_default_has_the_published_number_of_parameters():
    count = sum(p.numel() for p in SpaceTimeUNet(1, 0).parameters())
    assert round(count / 1e6, 1) == 35.7


def test_a_fresh_network_predicts_nothing():
    x, level, cond = (v.float() for v in inputs())
    network = SpaceTimeUNet(1, 2, width=8, multipliers=(1, 2), heads=2, head_width=6)
    assert network(x, level, cond).abs().max() < 1e-3


# Layers against formulas


def test_a_convolution_with_its_norm_equals_the_three_dimensional_layers():
    layer = woken(spacetime.Convolve(8, 16, False))
    x, scale, shift = noise(2, 3, 5, 7, 8), noise(2, 16, seed=1), noise(2, 16, seed=2)
    conv = F.conv3d(x.permute(0, 4, 1, 2, 3), layer.conv.layer.weight[:, :, None], layer.conv.layer.bias, 1, (0, 1, 1))
    h = F.group_norm(conv, 8, layer.weight, layer.bias)
    expected = F.silu(h * (1 + scale[..., None, None, None]) + shift[..., None, None, None])
    torch.testing.assert_close(layer(x, scale, shift), expected.permute(0, 2, 3, 4, 1))
    torch.testing.assert_close(layer(x), F.silu(h).permute(0, 2, 3, 4, 1))


def test_a_block_shifts_by_the_level_between_its_convolutions():
    block, x, level = woken(spacetime.Block(8, 16, 12, False)), noise(2, 2, 4, 4, 8), noise(2, 12, seed=4)
    scale, shift = (level @ block.level.weight.T + block.level.bias).split(16, 1)
    expected = x @ block.shortcut.weight.T + block.shortcut.bias + block.second(block.first(x, scale, shift))
    torch.testing.assert_close(block(x, level), expected)


def heads_of(layer, x):
    """Queries, keys and values (3, ..., heads, D) of x (..., C), written out."""
    centred = x - x.mean(-1, keepdim=True)
    y = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.gain
    return torch.stack((y @ layer.qkv.weight.T).unflatten(-1, (3, layer.heads, -1)).unbind(-3))


def test_linear_attention_is_its_formula():
    layer, x = woken(spacetime.LinearAttention(8, 2, 6)), noise(2, 3, 4, 5, 8)
    q, k, v = heads_of(layer, x.flatten(2, 3))  # (B, T, N, heads, D)
    q = q.exp() / q.exp().sum(-1, keepdim=True) / math.sqrt(6)
    k = k.exp() / k.exp().sum(2, keepdim=True)
    weights = torch.einsum("btnhd,btmhd->bthnm", q, k)  # what a place takes of each place, never formed by the layer
    h = torch.einsum("bthnm,btmhe->btnhe", weights, v).flatten(3)
    torch.testing.assert_close(layer(x), x + (h @ layer.out.weight.T + layer.out.bias).view(x.shape))


def test_spatial_attention_is_its_formula():
    layer, x = woken(spacetime.SpatialAttention(8, 2, 6)), noise(2, 3, 4, 5, 8)
    q, k, v = heads_of(layer, x.flatten(2, 3))
    weights = (torch.einsum("btnhd,btmhd->bthnm", q, k) / math.sqrt(6)).softmax(-1)
    h = torch.einsum("bthnm,btmhe->btnhe", weights, v).flatten(3)
    torch.testing.assert_close(layer(x), x + (h @ layer.out.weight.T).view(x.shape))


def turn(x):
    """x (B, T, H, W, heads, D) with its halves as complex numbers, turned by the time."""
    half = x.shape[-1] // 2
    pairs = torch.complex(x[..., :half], x[..., half:])
    t = torch.arange(x.shape[1])[:, None, None, None, None]
    pairs = pairs * torch.exp(1j * t * 10000 ** (-torch.arange(half) / half))
    return torch.cat([pairs.real, pairs.imag], -1)


def test_temporal_attention_is_its_formula():
    layer, x, bias = woken(spacetime.TemporalAttention(8, 2, 6)), noise(2, 5, 3, 4, 8), noise(2, 5, 5, seed=5)
    q, k, v = heads_of(layer, x)
    scores = torch.einsum("bihwnd,bjhwnd->bhwnij", turn(q), turn(k)) / math.sqrt(6) + bias
    h = torch.einsum("bhwnij,bjhwnd->bihwnd", scores.softmax(-1), v).flatten(4)
    torch.testing.assert_close(layer(x, bias), x + h @ layer.out.weight.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("D", [1, 5, 40])
def test_rotation_keeps_lengths_and_what_has_no_partner(D):
    x = noise(7, D)
    y = spacetime.rotate(x)
    torch.testing.assert_close(y.norm(dim=1), x.norm(dim=1), rtol=1e-6, atol=0)
    kept = D - 2 * (min(D, 32) // 2)
    assert torch.equal(y[:, D - kept :], x[:, D - kept :])
    assert torch.equal(y[0], x[0])
    assert D == 1 or not torch.allclose(y[1:, : D - kept], x[1:, : D - kept])


def test_attention_with_a_bias_is_its_formula_for_large_scores_too():
    q, k, v, bias = noise(3, 2, 7, 4) * 60, noise(3, 2, 7, 4, seed=1) * 60, noise(3, 2, 7, 4, seed=2), noise(2, 7, 7)
    expected = (torch.einsum("bhid,bhjd->bhij", q, k) / 2 + bias).softmax(-1) @ v
    torch.testing.assert_close(attend(q, k, v, bias), expected)
    rounded = [x.bfloat16() for x in (q / 60, k / 60, v)]
    exact = attend(*(x.double() for x in rounded), bias)
    assert (attend(*rounded, bias).double() - exact).abs().max() < 0.03


# Time


def test_distances_fall_into_the_buckets_of_t5():
    table = spacetime.buckets(100)
    for i in range(0, 100, 9):
        for j in range(100):
            n = abs(i - j)
            # bucket 8 + b begins where (n / 8)^4 reaches 2^b, because 8 buckets lead from 8 to 32
            bucket = n if n < 8 else min(8 + sum(n**4 >= 8**4 * 2**b for b in range(1, 20)), 15)
            assert table[i, j] == bucket + 16 * (j > i)
    assert set(table.flatten().tolist()) == set(range(32)) - {16}


class Later(spacetime.TemporalAttention):
    """The same attention whose first frame is at time 5."""

    def turned(self, frames):
        return super().turned(frames + 5)[5:]


def test_temporal_attention_knows_time_differences_only():
    layer, later = (woken(kind(8, 2, 6)) for kind in (spacetime.TemporalAttention, Later))
    x, table = noise(2, 6, 2, 2, 8), noise(32, 2, seed=5)
    bias = table[spacetime.buckets(6)].permute(2, 0, 1)
    later_bias = table[spacetime.buckets(11)[5:, 5:]].permute(2, 0, 1)
    assert not torch.allclose(layer.turned(6), later.turned(6))
    torch.testing.assert_close(later(x, later_bias), layer(x, bias), rtol=1e-5, atol=1e-5)


def test_rotation_and_bias_each_tell_the_order_of_frames(monkeypatch):
    layer, x = woken(spacetime.TemporalAttention(8, 2, 6)), noise(2, 6, 2, 2, 8)
    bias, none = noise(32, 2, seed=5)[spacetime.buckets(6)].permute(2, 0, 1), torch.zeros(2, 6, 6).double()
    order = torch.tensor([3, 0, 5, 1, 4, 2])

    def commutes(bias):
        return torch.allclose(layer(x[:, order], bias), layer(x, bias)[:, order])

    assert not commutes(none)
    monkeypatch.setattr(spacetime, "rotate", lambda weight: weight)
    assert not commutes(bias)
    assert commutes(none)


def test_frames_in_another_order_are_another_video():
    network, (x, level, cond), order = small(), inputs(T=4), torch.tensor([2, 0, 3, 1])
    assert (network(x[:, order], level, cond[:, order]) - network(x, level, cond)[:, order]).abs().max() > 0.01


def test_every_frame_sees_every_frame():
    network, (x, level, cond) = small(), inputs(T=4)
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x, level, cond).sum((0, 2, 3, 4)), x)
    assert (jacobian.abs().amax((1, 3, 4, 5)) > 0).all()


# Round the globe


@pytest.mark.parametrize("kind", ["same 3", "same 7", "down", "up"])
@pytest.mark.parametrize("W", [2, 4, 10])
def test_a_periodic_layer_is_the_plain_layer_on_an_endless_strip(kind, W):
    make = {"same 3": (1, lambda p: spacetime.same(4, 4, 3, p)), "same 7": (1, lambda p: spacetime.same(4, 4, 7, p)),
            "down": (0.5, lambda p: spacetime.down(4, p)), "up": (2, lambda p: spacetime.up(4, p))}  # fmt: skip
    ratio, layer = make[kind]
    x, wide = noise(2, 3, 6, W, 4), round(ratio * W)
    strip = woken(layer(False))(torch.cat([x] * 5, 3))
    torch.testing.assert_close(woken(layer(True))(x), strip[:, :, :, 2 * wide : 3 * wide])


@pytest.mark.parametrize(("patch", "multipliers"), [(1, (1, 2, 2)), (2, (1, 2)), (3, (1,)), (2, (1, 1, 1))])
def test_a_periodic_network_commutes_with_rolls(patch, multipliers):
    stride = patch * 2 ** (len(multipliers) - 1)
    x, level, cond = inputs(T=2, H=7, W=3 * stride)
    for periodic in (True, False):
        network = small(patch=patch, multipliers=multipliers, periodic=periodic)
        assert network.stride == stride
        out = network(x, level, cond)
        for columns in (stride, -stride):
            rolled = network(x.roll(columns, -1), level, cond.roll(columns, -1)).roll(-columns, -1)
            error = (rolled - out).abs().max()
            assert error < 1e-9 if periodic else error > 0.01


def test_latitude_does_not_wrap():
    network, (x, level, cond) = small(periodic=True), inputs()
    rolled = network(x.roll(4, -2), level, cond.roll(4, -2)).roll(-4, -2)
    assert (rolled - network(x, level, cond)).abs().max() > 0.01


def test_a_width_that_does_not_close_is_refused():
    x, level, cond = inputs(W=14)
    with pytest.raises(BadInput, match=r"multiples of 4, got 14: regrid, or choose fewer levels"):
        small(periodic=True)(x, level, cond)
    assert small()(x, level, cond).shape == x.shape


# Sizes, samples, precision


@pytest.mark.parametrize(("H", "W"), [(7, 9), (1, 1), (8, 3)])
def test_other_sizes_are_continued_by_their_border(H, W):
    network, (x, level, cond) = small(patch=2), inputs(H=H, W=W)
    tall, wide = -H % network.stride, -W % network.stride

    def continued(v):
        v = torch.cat([v, *[v[..., -1:, :]] * tall], -2)
        return torch.cat([v, *[v[..., -1:]] * wide], -1)

    expected = network(continued(x), level, continued(cond))[..., :H, :W]
    torch.testing.assert_close(network(x, level, cond), expected)


def test_samples_do_not_meet():
    network, (x, level, cond) = small(), inputs(T=5)
    both = network(x, level, cond)
    for i in range(2):
        torch.testing.assert_close(network(x[i : i + 1], level[i : i + 1], cond[i : i + 1]), both[i : i + 1])


def test_level_and_condition_matter():
    network, (x, level, cond) = small(), inputs()
    out = network(x, level, cond)
    assert (network(x, level + 50, cond) - out).abs().max() > 0.01
    assert (network(x, level, cond + 0.5) - out).abs().max() > 0.01
    alone = woken(SpaceTimeUNet(1, 0, width=8, multipliers=(1, 2), heads=2, head_width=6))
    assert alone(x, level).shape == x.shape


def test_every_parameter_learns():
    network, (x, level, cond) = small(width=16, patch=2, multipliers=(1, 2)), inputs()
    network(x, level, cond).square().sum().backward()
    for name, p in network.named_parameters():
        rest = [i for i in range(p.ndim) if i != 1]
        each_input = p.grad.abs().amax(rest if p.ndim > 1 else 0)  # skip connections too
        assert each_input.min() > 1e-8, name
    reached = network.bias.grad.abs().sum(1).nonzero()[:, 0]
    assert torch.equal(reached, spacetime.buckets(3).unique())


def test_gradients_are_those_of_the_function():
    network, (x, level, cond) = small(multipliers=(1, 2), periodic=True), inputs(T=2, H=3, W=4)
    assert torch.autograd.gradcheck(lambda x: network(x, level, cond), x.requires_grad_(), fast_mode=True)


def test_half_precision_is_close():
    network, (x, level, cond) = small(width=16, head_width=8).float(), (v.float() for v in inputs())
    exact = network(x, level, cond)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(x, level, cond).float()
    assert (rounded - exact).square().mean() < 1e-3 * exact.square().mean()


def test_what_does_not_fit_is_refused():
    x, level, cond = inputs()
    network = small()
    for wrong in (x[:, :, 0], x.expand(-1, -1, 2, -1, -1), x[:, :0]):
        with pytest.raises(BadInput, match=r"takes videos \(B, T, 1, H, W\), got shape"):
            network(wrong, level, cond)
    with pytest.raises(BadInput, match=r"condition of shape \(2, 3, 2, 8, 16\), got none"):
        network(x, level)
    with pytest.raises(BadInput, match=r"got shape \(2, 2, 2, 8, 16\)"):
        network(x, level, cond[:, :2])
    with pytest.raises(BadInput, match="multiple of 8, the groups of its normalisation, got 12"):
        small(width=12)
