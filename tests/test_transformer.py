"""Transformers: attention against torch's own, biases in closed form, what sees what."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from framefill.errors import BadInput
from framefill.nets.transformer import (
    SHARPNESS,
    Attention,
    CosineAttention,
    Gated,
    Memory,
    Near,
    Norm,
    OffsetBias,
    Plain,
    ahead,
    cosine_block,
    fading,
    plain_block,
)

X = torch.randn(3, 7, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def seeded(module: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module.double().eval()


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs_own(causal):
    ours = seeded(Attention(12, 3, 4))
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    hidden = ahead(7)[0].isinf() if causal else None
    expected = theirs(X, X, X, attn_mask=hidden, need_weights=False)[0]
    torch.testing.assert_close(ours(X, causal=causal), expected)
    if causal:
        torch.testing.assert_close(ours(X, ahead(7)), expected)


def test_cosine_attention_by_its_formula():
    attention = seeded(CosineAttention(12, 2, 5))
    q, k, v = (part.unflatten(2, (2, 5)).transpose(1, 2) for part in attention.qkv(X).chunk(3, 2))
    unit = [
        part / part.square().sum(3, keepdim=True).sqrt() * s for part, s in zip((q, k), attention.scales, strict=True)
    ]
    scores = SHARPNESS * unit[0] @ unit[1].mT + fading(7, 2)
    expected = attention.out((scores.softmax(3) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(X, fading(7, 2)), expected)


@pytest.mark.parametrize("block", [plain_block(12, 3), cosine_block(12, 3, 4)], ids=["plain", "cosine"])
@pytest.mark.parametrize("parts", [[1] * 7, [3, 4], [2, 1, 4], [7]])
def test_with_a_memory_a_sequence_may_come_in_parts(block, parts):
    block = seeded(block)
    whole, memory = block(X, causal=True), Memory(7)
    torch.testing.assert_close(torch.cat([block(p, causal=True, memory=memory) for p in X.split(parts, 1)], 1), whole)
    with pytest.raises(BadInput, match="room for 7 positions, got 8"):
        block(X[:, :1], causal=True, memory=memory)


def test_a_block_adds_its_parts_to_what_comes_in():
    block = seeded(plain_block(12, 3))
    h = X + block.attention(block.norms[0](X))
    torch.testing.assert_close(block(X), h + block.feed(block.norms[1](h)))
    dropped = plain_block(12, 3, dropout=1.0).double().train()
    assert torch.equal(dropped(X), X)


def test_feed_forward_layers_by_their_formulas():
    plain, gated = seeded(Plain(12)), seeded(Gated(12))
    h = plain.enter(X)
    torch.testing.assert_close(plain(X), plain.leave(h / (1 + (-1.702 * h).exp())))
    value, gate = gated.enter(X)[..., :32], gated.enter(X)[..., 32:]
    torch.testing.assert_close(gated(X), gated.leave(value * gate * (1 + torch.erf(gate / math.sqrt(2))) / 2))


def test_the_norm_does_not_shift():
    norm = seeded(Norm(12))
    out = norm(5 * X + 3) / norm.gain
    torch.testing.assert_close(out.mean(2), torch.zeros(3, 7).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(norm(5 * X + 3), norm(X), atol=1e-4, rtol=0)


def test_fading_has_the_published_slopes():
    bias = fading(4, 8)
    assert bias[:, 1, 0].tolist() == pytest.approx([-(2.0**-i) for i in range(1, 9)])
    assert torch.equal(bias[0, 0], torch.tensor([0, -0.5, -1, -1.5]))
    assert torch.equal(bias, bias.mT)


def test_the_offset_bias_knows_offsets_and_nothing_else():
    bias = seeded(OffsetBias(2, 3, 8))
    table = bias(4, 5)
    assert table.shape == (3, 20, 20)
    for i in range(20):
        for j in range(20):
            d = torch.tensor([i // 5 - j // 5, i % 5 - j % 5], dtype=torch.float64)
            h = d.sign() * (1 + d.abs()).log()
            h = F.leaky_relu(bias.layers[1](F.leaky_relu(bias.layers[0](h), 0.1)), 0.1)
            torch.testing.assert_close(table[:, i, j], bias.layers[2](h))
    torch.testing.assert_close(bias(2, 5), table[:, :10, :10])  # a smaller grid is a part of the larger


@pytest.mark.parametrize("causal", [False, True])
def test_near_is_a_convolution_of_single_channels(causal):
    near = seeded(Near(6, causal=causal))
    x = torch.randn(2, 4, 5, 3, 6, dtype=torch.float64)
    padded = F.pad(x.permute(0, 4, 1, 2, 3), (1, 1, 1, 1, *((2, 0) if causal else (1, 1))))
    expected = F.conv3d(padded, near.weight.permute(3, 0, 1, 2)[:, None], near.bias, groups=6).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(near(x), expected)
    if causal:
        later = x.clone()
        later[:, 2:] = torch.randn_like(later[:, 2:])
        assert torch.equal(near(later)[:, :2], near(x)[:, :2])


@pytest.mark.parametrize("wrong", [
    lambda: Attention(12, 0, 4), lambda: Attention(12, 3, 0), lambda: plain_block(12, 5), lambda: plain_block(12, 0),
])  # fmt: skip
def test_what_transformers_refuse(wrong):
    with pytest.raises(BadInput):
        wrong()


def test_what_drew_a_picture_can_still_be_trained():
    bias = OffsetBias(2, 3, 8)
    with torch.inference_mode():
        bias(5, 13)  # a grid of this test alone: what is known of it is kept
    bias(5, 13).sum().backward()
    assert bias.layers[0].weight.grad.abs().sum() > 0
