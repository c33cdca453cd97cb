"""The asymmetric U-Net: published sizes, what depends on what, and formulas written out a second time."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from framefill.errors import BadInput
from framefill.nets.asymmetric import LARGE, PUBLISHED, AsymmetricUNet, Plan
from framefill.nets.mixing import Attend, BesideFrames, Factorised, Filter, Level, Response, tell

SMALL = Plan(
    widths=(8, 16), heads=(0, 2), down=(1, 1), up=(1, 2), repeats=(2, 2), dropout=(0.0, 0.0), text=6, text_width=12,
    text_tokens=2, preview=3,
)  # fmt: skip
LOCAL = replace(SMALL, heads=(0, 0), response=False, text=0, preview=0)


def woken(network):
    """The network with all its weights random: a fresh one answers zero."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.2)
    return network.eval()


def parameters(plan):
    with torch.device("meta"):
        return sum(p.numel() for p in AsymmetricUNet(4, 16, plan).parameters())


def test_sizes_are_those_of_the_published_networks():
    assert parameters(PUBLISHED) == 699_471_248
    assert parameters(LARGE) == 1_562_941_136
    single = replace(PUBLISHED, repeats=(1, 1, 1, 1))
    assert round(parameters(single) / 1e5) == 6964
    assert round(parameters(replace(single, heads=(0, 0, 0, 0))) / 1e5) == 4520


def test_starts_at_zero_with_the_published_scales():
    torch.manual_seed(0)
    network = AsymmetricUNet(3, 5, replace(SMALL, widths=(64, 96)))
    x = torch.randn(2, 3, 8, 12)
    assert not network(x, torch.tensor([0.1, 0.9]), torch.randn(2, 5, 2, 3)).any()
    bound = math.sqrt(6 / (64 + 256))  # xavier's
    block = network.down[0].filters[0]
    assert block.widen.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert block.narrow.weight.abs().max().item() == pytest.approx(
        bound * math.sqrt(1 / 2), rel=0.01
    )  # two blocks down
    assert network.enter.weight.abs().max().item() == pytest.approx(0.02 * math.sqrt(6 / (12 + 64)), rel=0.02)
    assert network.mapper[2].weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_patches_and_pixels_are_inverse_and_local():
    network = AsymmetricUNet(3, 0, replace(LOCAL, patch=4))
    x = torch.randn(2, 3, 8, 16)
    patches = network._patches(x)
    assert patches.shape == (2, 2, 4, 48)
    assert torch.equal(patches[0, 1, 2].view(4, 4, 3).permute(2, 0, 1), x[0, :, 4:8, 8:12])
    assert torch.equal(network._pixels(patches), x)


def test_all_that_is_told_matters_and_samples_do_not_meet():
    network = woken(AsymmetricUNet(3, 5, SMALL, answers=2))
    rng = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=rng)  # noqa: E731
    given = {
        "x": draw(2, 3, 8, 8), "t": torch.tensor([0.2, 0.4]), "condition": draw(2, 5, 3, 2),
        "second": torch.tensor([0.3, 0.5]), "text": draw(2, 3, 6), "preview": draw(2, 3, 4, 4),
    }  # fmt: skip
    plain = network(**given)
    assert plain.shape == (2, 2, 8, 8)
    for name, value in given.items():
        other = value.clone()
        other[1] = other[1] + 0.3
        found = network(**{**given, name: other})
        assert torch.allclose(found[0], plain[0], atol=1e-5), name
        assert not torch.allclose(found[1], plain[1], atol=1e-3), name


def test_what_is_not_given_counts_as_zeros():
    network = woken(AsymmetricUNet(3, 5, SMALL))
    x, t = torch.randn(2, 3, 8, 8), torch.rand(2)
    zeros = {"second": torch.zeros(2), "text": torch.zeros(2, 1, 6), "preview": torch.zeros(2, 3, 1, 1)}
    assert torch.allclose(network(x, t), network(x, t, torch.zeros(2, 5, 2, 2), **zeros), atol=1e-5)


@pytest.mark.parametrize("concatenated", [False, True])
def test_without_response_and_heads_far_pixels_do_not_matter(concatenated):
    network = woken(AsymmetricUNet(3, 5, replace(LOCAL, concatenated=concatenated)))
    x, c, t = torch.randn(1, 3, 16, 96), torch.randn(1, 5, 4, 24), torch.tensor([0.5])
    whole = network(x, t, c)
    left = network(x[..., :72], t, c[..., :18])
    assert torch.allclose(whole[..., :48], left[..., :48], atol=1e-5)
    changed = x.clone()
    changed[..., 90:] += 1
    assert torch.allclose(network(changed, t, c)[..., :48], whole[..., :48], atol=1e-5)
    responding = woken(AsymmetricUNet(3, 5, replace(LOCAL, response=True)))
    assert not torch.allclose(responding(changed, t, c)[..., :48], responding(x, t, c)[..., :48], atol=1e-4)


def test_groups_on_the_way_up_run_twice_with_the_same_weights():
    network = woken(AsymmetricUNet(3, 5, SMALL))
    calls = []
    for group in (network.down[0], network.up[0]):
        group.filters[0].register_forward_hook(lambda *_, group=group: calls.append(group))
    network(torch.randn(1, 3, 8, 8), torch.rand(1))
    assert calls == [network.down[0], network.up[0], network.up[0]]
    group, x = network.up[1], torch.randn(1, 4, 4, 8)
    skip, told = torch.randn(1, 4, 4, 8), [tell(torch.rand(1), x.dtype)] * 2
    once = group._once(x, told, None, skip)
    twice = group._once(nn.functional.linear(once, group.again[0].weight, group.again[0].bias), told, None, skip)
    assert torch.equal(group(x, told, None, skip), twice)


def test_filter_is_the_published_block():
    block = woken(Filter(6, skip=4))
    x, skip = torch.randn(2, 6, 5, 7), torch.randn(2, 4, 5, 7)
    h = nn.functional.conv2d(x, block.beside.layer.weight, block.beside.layer.bias, padding=1, groups=6)
    h = (h - h.mean(1, keepdim=True)) / (h.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    h = torch.cat([h, skip], 1)
    h = torch.einsum("oc,bchw->bohw", block.widen.weight, h) + block.widen.bias[:, None, None]
    h = nn.functional.gelu(h)
    size = h.square().sum((2, 3), keepdim=True).sqrt()
    scaled = h * size / (size.mean(1, keepdim=True) + 1e-6)
    h = block.response.gamma[:, None, None] * scaled + block.response.beta[:, None, None] + h
    expected = x + torch.einsum("oc,bchw->bohw", block.narrow.weight, h) + block.narrow.bias[:, None, None]
    found = block(x.movedim(1, -1), skip.movedim(1, -1)).movedim(-1, 1)
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.equal(Response(6)(x.movedim(1, -1)), x.movedim(1, -1))  # starts as the identity


def test_level_scales_and_shifts():
    block = Level(5)
    x, told = torch.randn(2, 3, 3, 5), [tell(torch.tensor([0.1, 0.7]), torch.float32) for _ in range(2)]
    assert torch.equal(block(x, told), x)
    with torch.no_grad():
        block.mappers[0].bias[:5] = 1.0
        block.mappers[1].bias[5:] = 3.0
    assert torch.allclose(block(x, told), 2 * x + 3)
    angle = 0.7 * 10_000 * 10_000 ** (-4 / 31)
    assert told[0][1, 4].item() == pytest.approx(math.sin(angle), abs=1e-2)  # an angle of 2000 in float32
    assert told[0][1, 36].item() == pytest.approx(math.cos(angle), abs=1e-2)


def test_attention_is_torchs_over_places_and_text():
    block = woken(Attend(8, 2, text=6))
    reference = nn.MultiheadAttention(8, 2, batch_first=True)
    reference.load_state_dict({
        "in_proj_weight": block.qkv.weight, "in_proj_bias": block.qkv.bias, "out_proj.weight": block.out.weight,
        "out_proj.bias": block.out.bias,
    })  # fmt: skip
    x, text = torch.randn(2, 3, 4, 8), torch.randn(2, 5, 6)
    h = nn.functional.layer_norm(x, (8,), eps=1e-6).flatten(1, 2)
    seen = torch.cat([h, block.read(nn.functional.silu(text))], 1)
    expected = x + reference(h, seen, seen, need_weights=False)[0].view(x.shape)
    assert torch.allclose(block(x, text), expected, atol=1e-5)


def test_factorised_attention_is_within_frames_and_then_along_time():
    block = woken(Factorised(8, 2))
    x = torch.randn(2, 3, 4, 5, 8)
    within = torch.stack([block.within(x[:, i]) for i in range(3)], 1)
    expected = torch.empty_like(x)
    for i in range(4):
        for j in range(5):
            expected[:, :, i, j] = block.along(within[:, :, i, j])
    assert torch.allclose(block(x), expected, atol=1e-5)


def test_clips_keep_their_frames_and_are_filtered_along_time():
    network = woken(AsymmetricUNet(3, 5, replace(LOCAL), frames=True))
    x, c, t = torch.randn(1, 3, 13, 8, 8), torch.randn(1, 5, 13, 2, 2), torch.tensor([0.5])
    plain = network(x, t, c)
    assert plain.shape == x.shape
    changed = x.clone()
    changed[:, :, 1] += 1
    moved = (network(changed, t, c) - plain).abs().amax((0, 1, 3, 4))
    assert moved[[0, 2]].min() > 1e-3  # neighbours see it
    assert (moved[10:] < 1e-5).all()  # eight filters, one frame each way
    assert network(x[:, :, :1], t, c[:, :, :1]).shape == (1, 3, 1, 8, 8)


def test_refuses_what_it_cannot_take():
    network = AsymmetricUNet(3, 5, SMALL)
    with pytest.raises(BadInput, match="multiples of 4, got 8x6"):
        network(torch.zeros(1, 3, 8, 6), torch.zeros(1))
    with pytest.raises(BadInput, match="5 channels, got 4"):
        network(torch.zeros(1, 3, 8, 8), torch.zeros(1), torch.zeros(1, 4, 2, 2))
    with pytest.raises(BadInput, match="one entry per level"):
        replace(SMALL, heads=(0,))
    with pytest.raises(BadInput, match="1 or more"):
        replace(SMALL, down=(0, 1))
    with pytest.raises(BadInput, match="cannot have 3 heads"):
        Attend(8, 3)


def test_filtering_frames_is_a_convolution_in_3d():
    block = woken(BesideFrames(4, 3))
    layers = [block.others[0].layer, block.here.layer, block.others[1].layer]
    weight = torch.stack([layer.weight for layer in layers], 2)
    x = torch.randn(2, 4, 5, 6, 7)
    expected = nn.functional.conv3d(x, weight, block.here.layer.bias, padding=1, groups=4)
    assert torch.allclose(block(x.movedim(1, -1)).movedim(-1, 1), expected, atol=1e-5)
    assert block(x[:, :, :1].movedim(1, -1)).shape == (2, 1, 6, 7, 4)
    fresh = BesideFrames(64, 3)
    energy = sum(layer.weight.square().sum() for layer in (fresh.here.layer, *(o.layer for o in fresh.others)))
    whole = nn.init.xavier_uniform_(torch.empty(64, 1, 3, 3)).square().sum()
    assert energy.item() == pytest.approx(whole.item(), rel=0.15)  # variance is that of one frame's filter


def test_every_level_on_the_way_up_sees_its_own_on_the_way_down():
    network = woken(AsymmetricUNet(3, 5, LOCAL))
    outputs, skips = [], []
    for group in network.down:
        group.register_forward_hook(lambda *words: outputs.append(words[2]))
    for group in network.up:
        group.register_forward_pre_hook(lambda _, given: skips.append(given[3]))
    network(torch.randn(1, 3, 8, 8), torch.rand(1))
    assert skips[0] is None
    assert torch.equal(skips[1], outputs[0])
