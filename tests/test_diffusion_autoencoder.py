"""The diffusion autoencoder of seed 002: its parts by their formulas, its recipe by a short training."""

import math

import pytest
import torch
from torch import nn

from framefill.arrays import Rng
from framefill.codec.context import Contextual
from framefill.codec.diffusion import DiffusionAutoencoder, Lesson, Told, level
from framefill.codec.encoder import LatentEncoder
from framefill.codec.quantise import Codebook, FiniteScalar, LookupFree, Uniform
from framefill.codec.times import Times
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.guide import ClassifierFree
from framefill.diffusion.pyramid import Pyramid
from framefill.diffusion.sample import DPMSolver
from framefill.diffusion.schedule import cosine
from framefill.diffusion.target import V, X
from framefill.diffusion.weight import constant
from framefill.errors import BadInput
from framefill.latents.autoencoder import Layout
from framefill.latents.kl import KLVAE
from framefill.latents.quantiser import Quantiser
from framefill.nets.asymmetric import AsymmetricUNet, Plan

PLAN = Plan(widths=(8, 16), heads=(0, 0), down=(1, 1), up=(1, 1), repeats=(1, 2), dropout=(0.0, 0.0), second=False)


class Means(nn.Module):
    """Stands in for an image network: the means of 32x32 pixels, 1280 times."""

    def forward(self, x):
        return nn.functional.avg_pool2d(x, 32).repeat(1, 427, 1, 1)[:, :1280]


def small(*, frames=False, quantiser=None, entropy=None, text=(0, 0), plan=PLAN, target=None, factor=2):
    torch.manual_seed(0)
    first = KLVAE(Layout(3, 2, width=4, multipliers=(1, 1, 1), blocks=1, attention=(False,) * 3, groups=2))
    paired = 2 if frames else 1
    network = AsymmetricUNet(2 * paired, 3, plan, frames=frames)
    denoiser = Denoiser(Told(network, text), cosine(-9, 9), target or X(), label=level)
    return DiffusionAutoencoder(
        first, LatentEncoder(Means(), 3), denoiser, quantiser=quantiser, entropy=entropy, text=text, paired=paired,
        times=Times(3, factor) if frames else None,
    )  # fmt: skip


def pictures(count=2, side=64):
    rng = torch.Generator().manual_seed(3)
    return torch.rand(count, 3, side, side, generator=rng) * 2 - 1


# ---- pyramid noise -------------------------------------------------------------------------------------------------


def test_pyramid_noise_has_the_covariance_of_the_program():
    noise, side = Pyramid(1, 16), 8
    sums, total = torch.eye(side * side, dtype=torch.float64), 1.0
    for i in (1, 2, 3):
        up = torch.nn.functional.interpolate(
            torch.eye((side // 2**i) ** 2, dtype=torch.float64).view(-1, 1, side // 2**i, side // 2**i),
            scale_factor=2**i,
        ).flatten(1)
        sums += 0.75 ** (2 * i) * up.T @ up
        total += 0.75 ** (2 * i)
    basis = torch.eye(side * side, dtype=torch.float64).view(-1, 1, side, side)
    root = noise.color(basis).flatten(1)
    assert torch.allclose(root @ root.T, sums / total, atol=1e-10)
    assert torch.allclose(root, root.T, atol=1e-12)
    assert torch.allclose(noise.whiten(noise.color(basis)), basis, atol=1e-10)
    assert noise.log_det((3, side, side)) == pytest.approx(3 * torch.linalg.slogdet(root)[1].item())


def test_pyramid_counts_levels_by_their_size_and_takes_any_shape():
    assert Pyramid(1, 16)._levels(64, 64) == [(2, False), (4, True), (8, True), (16, True), (32, True), (64, True)]
    assert Pyramid()._levels(12, 20) == [(2, True), (4, True)]
    x = torch.randn(2, 3, 4, 12, 20)
    assert torch.allclose(Pyramid().whiten(Pyramid().color(x)), x, atol=1e-5)
    odd = torch.randn(2, 1, 5, 7)
    assert torch.equal(Pyramid().color(odd), odd)
    drawn = Pyramid().like(torch.zeros(400, 1, 16, 16), Rng(range(400)))
    assert drawn.var().item() == pytest.approx(1, abs=0.1)


# ---- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_time_begins_as_means_and_repetitions(factor):
    times, z = Times(3, factor), torch.randn(2, 3, 16, 2, 2)
    squeezed = times.squeeze(z)
    assert torch.allclose(squeezed, z.unflatten(2, (-1, factor)).mean(3), atol=1e-6)
    assert torch.equal(times.deflate(squeezed), squeezed.repeat_interleave(factor, 2))
    assert sum(p.numel() for p in times.parameters()) == math.log2(factor) * (3 * 3 + 3 + 6 * 3 + 6)


def test_deflate_gives_each_half_weights_of_its_own():
    times, z = Times(3, 2), torch.randn(1, 3, 4, 1, 1)
    with torch.no_grad():
        times.doubles[0].weight[3:] *= -1  # the second of each two frames
    found = times.deflate(z)
    assert torch.equal(found[:, :, 0::2], z)
    assert torch.equal(found[:, :, 1::2], -z)
    with pytest.raises(BadInput, match="5 frames cannot be shortened by 2"):
        times.squeeze(torch.zeros(1, 3, 5, 1, 1))
    with pytest.raises(BadInput, match="1, 2, 4 or 8, got 3"):
        Times(3, 3)


# ---- the model -----------------------------------------------------------------------------------------------------


def test_clips_are_pairs_of_frames_and_come_back():
    model = small(frames=True).eval()
    clip = torch.rand(2, 8, 3, 64, 64) * 2 - 1
    z = model.signal(clip)
    assert z.shape == (2, 4, 4, 16, 16)
    torch.testing.assert_close(z[:, 2:, 1], model.first.encode(clip[:, 3]))
    torch.testing.assert_close(model.picture(z)[:, 5], model.first.decode(model.first.encode(clip[:, 5])))
    with pytest.raises(BadInput, match="T a multiple of 2"):
        model.signal(clip[:, :3])
    codes = model.codes(clip)
    assert codes.shape == (2, 3, 4, 2, 2)
    raw = model.encoder.raw(clip.flatten(0, 1)).unflatten(0, (2, 8))
    torch.testing.assert_close(codes[:, :, 1], model.encoder.norm(raw[:, 2:4].mean(1)))
    assert model.condition(codes).shape == (2, 3, 8, 2, 2)


def test_text_reaches_the_network_and_zeros_mean_none():
    plan = Plan(
        widths=(8, 16), heads=(0, 2), down=(1, 1), up=(1, 1), repeats=(1, 1), dropout=(0.0, 0.0), text=5, text_width=8,
        second=False,
    )  # fmt: skip
    model = small(text=(2, 5), plan=plan).eval()
    seen = {}
    model.denoiser.network.network.forward = lambda x, t, maps, text: seen.update(maps=maps, text=text) or x
    codes, text = model.codes(pictures()), torch.randn(2, 2, 5)
    z = model.signal(pictures())
    model.denoiser(z, torch.tensor([0.3, 0.6]), model.condition(codes, text))
    assert torch.equal(seen["text"], text)
    assert torch.equal(seen["maps"], codes)
    ClassifierFree(model.denoiser, 3.0, rescale=0.7)(z, torch.tensor([0.3, 0.6]), model.condition(codes, text))
    assert torch.equal(seen["text"], torch.cat([text, 0 * text]))
    assert torch.equal(seen["maps"], torch.cat([codes, 0 * codes]))
    with pytest.raises(BadInput, match=r"texts \(B, 2, 5\)"):
        model.condition(codes, torch.zeros(2, 3, 5))


def test_codes_are_left_out_as_often_as_said():
    model, seen = small(), []
    model.condition = lambda values, text=None: seen.append(values) or values
    x = pictures(1).expand(300, -1, -1, -1)
    model.denoiser.loss = lambda z, t, cond, weight, rng, space: z.new_zeros(len(z))
    model.signal = lambda x: x[:, :, :4, :4]
    model.eval().loss(x, Lesson(torch.ones(300), constant, dropped=0.3), Rng(range(300)))
    gone = (seen[0].flatten(1) == 0).all(1).float().mean().item()
    assert gone == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uniform(3, step=0.5), lambda: FiniteScalar((5, 5, 5)), lambda: LookupFree(3),
        lambda: Codebook(Quantiser(16, 3)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("frames", [False, True])
def test_symbols_are_what_training_saw(make, frames):
    model = small(frames=frames, quantiser=make()).eval()
    x = pictures(4).view(1, 4, 3, 64, 64) if frames else pictures(4)
    codes = model.codes(x)
    symbols = model.symbols(codes)
    assert symbols.dtype == torch.int64
    torch.testing.assert_close(model.values(symbols), model.rounded(codes, Rng([0] * 4))[0])


def test_floats_are_kept_in_16_bits():
    model = small().eval()
    codes = model.codes(pictures())
    assert model.symbols(codes).dtype == torch.float16
    torch.testing.assert_close(model.values(model.symbols(codes)), codes, atol=2e-3, rtol=1e-3)


def test_bits_are_paid_for_per_place_of_the_signal():
    model = small(quantiser=Uniform(3, step=0.5), entropy=Contextual(3, hidden=4, groups=1)).eval()
    x, t = pictures(), torch.tensor([0.2, 0.5], dtype=torch.float64)
    free, paid = (model.loss(x, Lesson(t, constant, dropped=0.0, rate=rate), Rng([1, 2])) for rate in (0.0, 2.0))
    bits = model.entropy.bits(model.quantiser(model.codes(x)).symbols)
    torch.testing.assert_close(paid - free, (2.0 * bits / 256).float(), rtol=1e-3, atol=1e-5)


def test_level_is_the_angle():
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    alpha, sigma = cosine(-9, 9)(t)
    expected = torch.acos((alpha.square() / (alpha.square() + sigma.square())).sqrt()) * 2 / math.pi
    torch.testing.assert_close(level(t, alpha, sigma), expected, atol=1e-6, rtol=0)


def test_nothing_is_learned_by_the_first_stage_and_all_else_learns():
    model = small(quantiser=Uniform(3, step=0.5), target=V()).train()
    with torch.no_grad():
        nn.init.normal_(model.denoiser.network.network.leave.weight, std=0.1)
    loss = model.loss(pictures(4), Lesson(torch.full((4,), 0.5), constant, dropped=0.0), Rng(range(4)))
    loss.sum().backward()
    assert all(p.grad is None for p in model.first.parameters())
    silent = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent


def test_sampling_gives_clips_of_their_shape():
    model = small(frames=True).eval()
    clip = torch.rand(1, 4, 3, 64, 64)
    cond = model.condition(model.codes(clip))
    z = DPMSolver(2)(model.denoiser, torch.zeros(1, 4, 2, 16, 16), cond, Rng([0]))
    assert model.picture(z).shape == clip.shape
