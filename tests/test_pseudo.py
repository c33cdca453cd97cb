"""Pseudo-videos: the recursions of the paper, written out; what is left of every frequency; moments in closed form."""

import math
from itertools import pairwise, product

import pytest
import scipy.fft
import torch
import torch.nn.functional as F

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.video.pseudo.blocks import Blocks, averaging
from framefill.video.pseudo.blur import Blur
from framefill.video.pseudo.heat import HeatEquation
from framefill.video.pseudo.kind import Still, first_order, high_order
from framefill.video.pseudo.mixture import Mixture, Noisy
from framefill.video.pseudo.noise import Noise
from framefill.video.pseudo.presets import PAPER

MIXED = Mixture((Blur(5), Noise(5), Blocks(5)), shares=(1, 2, 1))
KINDS = PAPER | {"blocks": Blocks(6), "wrapped": Blur(4, wrap=True), "mixture": MIXED, "noisy": Noisy(Blocks(3), 0.5)}
IMAGES = torch.rand(3, 2, 12, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def rng(size: int = 3, seed: int = 0) -> Rng:
    return Rng.batch(seed, size)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_last_frame_is_the_image_and_a_clip_belongs_to_its_sample(kind):
    clips = kind(IMAGES, rng())
    assert clips.shape == (3, kind.frames, 2, 12, 9)
    assert clips.dtype == IMAGES.dtype
    assert torch.equal(clips[:, -1], IMAGES)
    assert torch.equal(clips, kind(IMAGES, rng()))
    for i in range(3):
        alone = kind(IMAGES[i : i + 1], Rng([rng().seeds[i]]))
        torch.testing.assert_close(alone[0], clips[i], rtol=0, atol=1e-12)
    half = kind(IMAGES.float(), rng())
    torch.testing.assert_close(half, clips.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [k for n, k in KINDS.items() if n not in ("still", "mixture")])
def test_the_first_frame_is_the_furthest_from_the_image(kind):
    images = torch.rand(16, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    away = (kind(images, rng(16)) - images[:, None]).square().mean((0, 2, 3, 4))
    assert away[0] == max(away)
    assert away[-2] > away[-1] == 0
    if getattr(kind, "history", None) is not high_order and not isinstance(kind, Noisy):
        assert all(earlier * (1 + 1e-9) >= later for earlier, later in pairwise(away)), away


# ---- blur ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wrap", "history"), [*product((False, True), (first_order, high_order))])
def test_blur_is_a_padded_convolution_again_and_again(wrap, history):
    kind = Blur(8, wrap=wrap, history=history)
    frames = [IMAGES]
    for i in range(7):
        taps = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * math.exp(0.05 * i) ** 2))
        two = torch.outer(taps, taps)
        weight = (two / two.sum()).expand(2, 1, 11, 11)
        source = frames[-1] if history is first_order else sum(frames) / len(frames)
        padded = F.pad(source, (5, 5, 5, 5), mode="circular" if wrap else "reflect")
        frames.append(F.conv2d(padded, weight, groups=2))
    torch.testing.assert_close(kind(IMAGES, rng()), torch.stack(frames[::-1], 1))


def test_the_widths_of_the_paper():
    eight, eighteen = (PAPER[name].widths for name in ("blur-8", "blur-18"))
    assert (eight[0], len(eight), len(eighteen)) == (1.0, 7, 17)
    assert eight[-1] == pytest.approx(1.3499, abs=1e-4)
    assert eighteen[-1] == pytest.approx(1.1735, abs=1e-4)
    assert math.hypot(*eight) == pytest.approx(3.105, abs=1e-3)
    assert math.hypot(*eighteen) == pytest.approx(4.477, abs=1e-3)


def waves(length: int, k: int) -> list[torch.Tensor]:
    angle = 2 * math.pi * k * torch.arange(length, dtype=torch.float64) / length
    return [angle.cos(), angle.sin()]


@pytest.mark.parametrize("history", [first_order, high_order])
@pytest.mark.parametrize("wrap", [False, True])
def test_every_frequency_fades_as_stated(wrap, history):
    H, W = 12, 9
    kind = Blur(5, wrap=wrap, history=history)
    left = kind.attenuation(H, W)
    for k, q in product((0, 1, 4, H - 1), (0, 2, W - 1)):
        if wrap:
            bases = [torch.outer(a, b) for a, b in product(waves(H, k), waves(W, q))]
        else:
            bases = [torch.outer(*(waves(2 * n - 2, f)[0][:n] for f, n in ((k, H), (q, W))))]
        for base in bases:
            clip = kind(base[None, None], rng(1))[0, :, 0]
            torch.testing.assert_close(clip, left[:, k, q, None, None] * base, rtol=0, atol=1e-12)


def test_wrapping_keeps_the_light_and_reflecting_does_not():
    point = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    point[..., 2, 2] = 1
    assert Blur(8, wrap=True)(point, rng(1)).sum((2, 3, 4))[0].tolist() == pytest.approx([1.0] * 8)
    reflected = Blur(8)(point, rng(1))[0].sum((1, 2, 3))
    assert abs(float(reflected[0]) - 1) > 0.05


# ---- heat ----------------------------------------------------------------------------------------------------------


def test_heat_is_the_published_cosine_transform():
    kind = HeatEquation(6, least=0.5, most=4.0)
    clip = kind(IMAGES, rng())
    for i, width in enumerate([4.0 * 8 ** (-j / 4) for j in range(5)]):
        squares = [(math.pi * torch.arange(n, dtype=torch.float64) / n) ** 2 for n in (12, 9)]
        kept = torch.exp(-(squares[0][:, None] + squares[1]) * width**2 / 2)
        spectrum = scipy.fft.dctn(IMAGES.numpy(), axes=(2, 3), norm="ortho")
        expected = scipy.fft.idctn(spectrum * kept.numpy(), axes=(2, 3), norm="ortho")
        torch.testing.assert_close(clip[:, i], torch.from_numpy(expected))
    torch.testing.assert_close(clip.mean((2, 3, 4)), IMAGES.mean((1, 2, 3))[:, None].expand(3, 6))


def test_heat_obeys_the_heat_equation():
    """du/dt is the Laplacian with insulated borders; for a smooth image the discrete one, to its order."""
    n = 64
    smooth = torch.cos(math.pi * (torch.arange(n, dtype=torch.float64) + 0.5) * 2 / n).expand(1, 1, n, n)
    early, late = (HeatEquation(2, least=s, most=s)(smooth, rng(1))[0, 0, 0] for s in (1.0, 1.001))
    rate = (late - early) / ((1.001**2 - 1) / 2)
    padded = F.pad(early[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    laplacian = padded[1:-1, 2:] + padded[1:-1, :-2] + padded[2:, 1:-1] + padded[:-2, 1:-1] - 4 * early
    assert float((rate - laplacian).abs().max()) < 2e-3 * float(laplacian.abs().max())


def test_noise_on_top_has_the_stated_size_and_leaves_the_image():
    images = torch.zeros(64, 1, 16, 16)
    clips = Noisy(HeatEquation(4), 0.02)(images, rng(64))
    assert clips[:, :-1].std((0, 2, 3, 4)).tolist() == pytest.approx([0.02] * 3, rel=0.03)
    flat = clips[:, :-1].transpose(0, 1).flatten(1)
    assert float((torch.corrcoef(flat) - torch.eye(3)).abs().max()) < 0.03


# ---- noise ---------------------------------------------------------------------------------------------------------


def written_out(frames: int, order: int, eps: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Section 4.2, literally; `eps` (frames - 1, ...)."""
    clip = {frames: image}
    betas = [1e-4 + (0.05 - 1e-4) * i / (frames - 2) for i in range(frames - 1)]
    for t, beta in enumerate(betas, 1):
        source = clip[frames - t + 1] if order == 1 else sum(clip[frames - t + s] for s in range(1, t + 1)) / t
        clip[frames - t] = math.sqrt(1 - beta) * source + math.sqrt(beta) * eps[t - 1]
    return torch.stack([clip[i] for i in range(1, frames + 1)])


@pytest.mark.parametrize(("frames", "order"), [*product((3, 4, 8, 18), (1, 2))])
def test_noise_is_the_papers_recursion(frames, order):
    kind = Noise(frames, history=first_order if order == 1 else high_order)
    eps = rng().normal((frames - 1, 2, 12, 9)).double()
    for i in range(3):
        torch.testing.assert_close(kind(IMAGES, rng())[i], written_out(frames, order, eps[i], IMAGES[i]))


def moments(kind: Noise) -> tuple[float, float]:
    mean, covariance = kind.moments()
    return float(mean[0]), float(covariance[0, 0])


def test_moments_of_the_noisiest_frame_are_those_of_the_facts():
    assert moments(PAPER["first-order-4"]) == pytest.approx((0.962346, 0.07389), rel=1e-4)
    assert moments(PAPER["high-order-4"]) == pytest.approx((0.970560, 0.052668), rel=1e-4)
    assert moments(PAPER["first-order-8"]) == pytest.approx((0.91457, 0.163562), rel=1e-4)
    assert moments(PAPER["high-order-8"]) == pytest.approx((0.963169, 0.054495), rel=1e-4)


def test_moments_of_the_first_order_chain_in_closed_form():
    """Mean sqrt(prod(1 - b)) = sqrt(a_t), covariance of s <= t steps: sqrt(a_t / a_s) (1 - a_s)."""
    kind = Noise(7, least=0.01, most=0.3)
    kept = torch.cumprod(1 - torch.linspace(0.01, 0.3, 6, dtype=torch.float64), 0)
    kept = torch.cat([torch.ones(1, dtype=torch.float64), kept]).flip(0)  # in the order of the clip
    mean, covariance = kind.moments()
    torch.testing.assert_close(mean, kept.sqrt())
    less = torch.maximum(kept[:, None], kept)
    more = torch.minimum(kept[:, None], kept)
    torch.testing.assert_close(covariance, (more / less).sqrt() * (1 - less))


@pytest.mark.parametrize("history", [first_order, high_order])
def test_drawn_clips_have_the_stated_moments(history):
    kind = Noise(5, least=0.05, most=0.4, history=history)
    images = torch.full((50, 1, 40, 40), -0.7, dtype=torch.float64)
    flat = kind(images, rng(50)).transpose(0, 1).flatten(1)
    mean, covariance = kind.moments()
    torch.testing.assert_close(flat.mean(1), -0.7 * mean, rtol=0, atol=0.01)
    torch.testing.assert_close(flat.cov(), covariance, rtol=0, atol=0.01)


def test_only_the_high_order_chain_tells_more_in_more_frames():
    """Theorem 4.1 for a Gaussian image; the gains of the facts, section 0.9."""
    for frames, known, gain in ((4, 2, 0.0010), (8, 4, 0.0038)):
        chain = Noise(frames)
        for more in range(1, frames):
            assert chain.unexplained(more) == pytest.approx(chain.unexplained(1), rel=1e-9)
        high = Noise(frames, history=high_order)
        errors = [high.unexplained(more) for more in range(1, frames)]
        assert all(a > b for a, b in pairwise(errors))
        assert 1 - errors[known - 1] / errors[0] == pytest.approx(gain, rel=0.06)
        assert errors[0] == pytest.approx(chain.unexplained(1), rel=1e-3)


def test_the_joint_density_of_a_first_order_chain_links_neighbours_only():
    def precision(kind):
        mean, covariance = kind.moments()
        return torch.linalg.inv(covariance + torch.outer(mean, mean))

    apart = (torch.arange(6)[:, None] - torch.arange(6)).abs() > 1
    first, high = (precision(Noise(6, 0.1, 0.5, history=history)) for history in (first_order, high_order))
    assert float(first[apart].abs().max()) < 1e-9 * float(first.abs().max())
    assert float(high[apart].abs().min()) > 1e-3 * float(high.abs().max())


# ---- blocks --------------------------------------------------------------------------------------------------------


def test_blocks_that_divide_are_means_of_cells():
    kind = Blocks(4)
    assert kind.cells(8) == (1, 2, 4, 8)
    images = IMAGES[..., :8, :8]
    clip = kind(images, rng())
    for i, side in enumerate((8, 4, 2)):
        coarse = F.avg_pool2d(images, side)
        torch.testing.assert_close(clip[:, i], coarse.repeat_interleave(side, 2).repeat_interleave(side, 3))


def test_blocks_of_any_size_keep_the_mean_and_never_sharpen():
    for length, cells in product((1, 7, 12, 31), (1, 2, 5, 7)):
        if cells > length:
            continue
        a = averaging(length, cells)
        assert float((a.sum(1) - 1).abs().max()) < 1e-12
        assert torch.equal(a, a.T)
        values = torch.linalg.eigvalsh(a)
        assert -1e-12 <= float(values.min()) <= float(values.max()) <= 1 + 1e-12
        assert torch.linalg.matrix_rank(a) == cells
    torch.testing.assert_close(averaging(9, 9), torch.eye(9, dtype=torch.float64))
    clip = Blocks(18)(IMAGES, rng())
    torch.testing.assert_close(clip.mean((3, 4)), IMAGES.mean((2, 3))[:, None].expand(3, 18, 2))
    assert Blocks(18).cells(32)[::17] == (1, 32)


# ---- mixtures and refusals -----------------------------------------------------------------------------------------


def test_a_mixture_draws_its_kinds_by_their_shares():
    images = IMAGES[:1].expand(400, -1, -1, -1)
    clips = MIXED(images, rng(400))
    blurred, blocks = Blur(5)(IMAGES[:1], rng(1)), Blocks(5)(IMAGES[:1], rng(1))
    is_blur, is_blocks = ((clips - one).abs().amax((1, 2, 3, 4)) < 1e-9 for one in (blurred, blocks))
    assert float(is_blur.double().mean()) == pytest.approx(0.25, abs=0.06)
    assert float(is_blocks.double().mean()) == pytest.approx(0.25, abs=0.06)
    assert not (is_blur & is_blocks).any()
    never = Mixture((Blur(5), Blocks(5)), shares=(0.0, 1.0))(images, rng(400))
    torch.testing.assert_close(never, blocks.expand(400, -1, -1, -1, -1))


@pytest.mark.parametrize("wrong", [
    lambda: Blur(1), lambda: Blur(0), lambda: HeatEquation(1), lambda: Noise(1), lambda: Noise(2), lambda: Blocks(1),
    lambda: Still(2), lambda: Blur(4, taps=4), lambda: Blur(4, rate=math.inf), lambda: Noise(4, least=0.0),
    lambda: Noise(4, most=1.0), lambda: HeatEquation(4, least=2.0, most=1.0), lambda: Noisy(Blur(3), -1.0),
    lambda: Blocks(4, coarsest=0), lambda: Blocks(4, coarsest=13)(IMAGES, rng()), lambda: Mixture(()),
    lambda: Mixture((Blur(3), Blur(4))), lambda: Mixture((Blur(3),), shares=(1.0, 1.0)),
    lambda: Mixture((Blur(3),), shares=(-1.0,)), lambda: Mixture((Blur(3),), shares=(0.0,)),
    lambda: Blur(3)(IMAGES[..., :5], rng()), lambda: Blur(3)(IMAGES[0], rng()), lambda: Blur(3)(IMAGES, rng(2)),
    lambda: Blur(3)((IMAGES * 127).to(torch.uint8), rng()), lambda: Blur(3)(IMAGES[:, :0], rng()),
    lambda: Noise(4).unexplained(0), lambda: Noise(4).unexplained(4), lambda: Noise(4).unexplained(1, 0.0),
])  # fmt: skip
def test_what_pseudo_videos_refuse(wrong):
    with pytest.raises(BadInput):
        wrong()


def test_too_few_frames_are_named():
    with pytest.raises(BadInput, match="at least 3 frames, got 2"):
        Noise(2)
    with pytest.raises(BadInput, match=r"got 1; for the image alone take still"):
        Blur(1)
