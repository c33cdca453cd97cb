"""The contract of autoencoders: published sizes, statistics, closed forms, an adversary that keeps to itself."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.features.imagenet import FILE
from framefill.features.perceptual import file_distance, lite0_distance
from framefill.latents.adversarial import Adversarial, adaptive_weight
from framefill.latents.autoencoder import Layout
from framefill.latents.distance import absolute, squared, weighted
from framefill.latents.kl import KLVAE, divergence
from framefill.latents.pictures import PictureCoder
from framefill.latents.vqgan import VQGAN
from framefill.nets.autoencoder import Decoder, Encoder
from framefill.nets.patches import PatchDiscriminator

SMALL = Layout(latent_channels=3, hidden=5, width=8, multipliers=(1, 2), blocks=1, attention=(False, True), groups=4)
KINDS = {"vqgan": lambda: VQGAN(SMALL, codes=16), "kl": lambda: KLVAE(SMALL)}
PICTURES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(params=KINDS)
def model(request):
    return seeded(KINDS[request.param]())


def seeded(model: nn.Module) -> nn.Module:
    """Weights that say something: the last layers of fresh branches are zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def rng(size: int = 4) -> Rng:
    return Rng.batch(0, size)


# ---- networks ------------------------------------------------------------------------------------------------------


def count(width: int, multipliers: tuple, attention: tuple, blocks: int, hidden: int, latents: int, per: int) -> int:
    """The parameters of encoder, decoder and the 1x1 convolutions, added up from the published program's layers."""

    def conv(i, o, k=3):
        return i * o * k * k + o

    def block(i, o):
        return 2 * i + conv(i, o) + 2 * o + conv(o, o) + (conv(i, o, 1) if i != o else 0)

    def attend(c):
        return 2 * c + 4 * conv(c, c, 1)

    top = width * multipliers[-1]
    ends = 2 * (2 * block(top, top) + attend(top))
    total = ends + conv(3, width) + 2 * top + conv(top, per * hidden)
    total += conv(hidden, top) + 2 * width * multipliers[0] + conv(width * multipliers[0], 3)
    for way, extra in ((1, 0), (-1, 1)):
        inputs = width if way == 1 else top
        for i, (m, here) in enumerate(list(zip(multipliers, attention, strict=True))[::way]):
            for _ in range(blocks + extra):
                total += block(inputs, width * m) + here * attend(width * m)
                inputs = width * m
            total += conv(inputs, inputs) * (i < len(multipliers) - 1)
    return total + conv(per * hidden, per * latents, 1) + conv(latents, hidden, 1)


F, T = False, True


@pytest.mark.parametrize(("layout", "codes", "parameters"), [
    # Stable Diffusion's f8: the figure of its publication; the others follow from the published configs
    (Layout(multipliers=(1, 2, 4, 4), attention=(F, F, F, F)), 0, 83_653_863),
    (Layout(), 16384, 67_717_295), (Layout(), 256, 67_652_783),  # latent diffusion, vq-f8 and vq-f8-n256
    (Layout(latent_channels=3, multipliers=(1, 2, 4), attention=(F, F, F)), 8192, 55_322_782),  # vq-f4
    (Layout(latent_channels=8, multipliers=(1, 1, 2, 2, 4), attention=(F, F, F, F, T)), 16384, 69_593_371),  # vq-f16
    (Layout(latent_channels=256, multipliers=(1, 1, 2, 2, 4), attention=(F, F, F, F, T)), 16384, 76_073_859),  # taming
])  # fmt: skip
def test_published_layouts_have_their_parameters(layout, codes, parameters):
    with torch.device("meta"):
        model = VQGAN(layout, codes=codes) if codes else KLVAE(layout)
    hidden, per = layout.hidden or layout.latent_channels, 1 if codes else 2
    independent = count(layout.width, layout.multipliers, layout.attention, layout.blocks, hidden,
                        layout.latent_channels, per) + codes * layout.latent_channels  # fmt: skip
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == independent == parameters


def test_every_pixel_matters_to_the_latents_and_every_latent_to_the_pixels():
    encoder = seeded(Encoder(3, 4, width=8, multipliers=(1, 2), blocks=1, attention=(F, F), groups=4))
    x = PICTURES[:1].clone().requires_grad_()
    encoder(x)[0, :, 3, 3].sum().backward()
    assert bool((x.grad != 0).all())  # through the attention in the middle
    decoder = seeded(Decoder(4, 3, width=8, multipliers=(1, 2), blocks=1, attention=(F, F), groups=4))
    z = torch.randn(1, 4, 8, 8, requires_grad=True)
    decoder(z)[0, :, 0, 0].sum().backward()
    assert bool((z.grad != 0).all())


# ---- contract ------------------------------------------------------------------------------------------------------


def test_pictures_come_back_through_the_latents_alone(model):
    z = model.encode(PICTURES).detach()
    assert z.shape == (4, 3, 8, 8)
    x = model.decode(z).detach()
    assert x.shape == PICTURES.shape
    nothing = model.decode(torch.zeros_like(z)).detach()
    assert float((x - nothing).abs().mean()) > 0.1 * float(x.std())  # a decoder must need its latent
    assert float((nothing - nothing[:1]).abs().max()) < 1e-5  # and has nothing else to tell pictures by


def test_measured_latents_have_mean_0_and_std_1(model):
    batches = [PICTURES[:3], PICTURES[3:]]
    model.measure(batches)
    z = torch.cat([model.encode(b) for b in batches]).double()
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-4, rtol=0)


def test_statistics_change_the_latents_and_not_the_pictures(model):
    before, z = model.decode(model.encode(PICTURES)), model.encode(PICTURES)
    model.state_statistics(torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.1, 1.0]))
    after = model.encode(PICTURES)
    torch.testing.assert_close(after[:, 1], (z[:, 1] + 2) / 0.1, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.decode(after), before, rtol=1e-3, atol=1e-4)


def test_statistics_travel_with_the_weights_and_follow_training(model):
    assert "moments" in dict(model.named_parameters())
    assert not model.moments.requires_grad
    model.train()
    for _ in range(600):
        model._follow(torch.randn(8, 3, 8, 8) * 3 + 5)
    assert model.mean.flatten().tolist() == pytest.approx([5] * 3, abs=0.1)
    assert model.std.flatten().tolist() == pytest.approx([3] * 3, abs=0.2)
    model._follow(torch.full((1, 3, 2, 2), math.nan))
    assert bool(model.moments.isfinite().all())


def test_only_training_moves_the_statistics(model):
    before = model.moments.clone()
    model.loss(PICTURES, rng(), absolute)
    assert torch.equal(model.moments, before)
    model.train().loss(PICTURES, rng(), absolute)
    assert not torch.equal(model.moments, before)


def test_the_loss_of_a_picture_is_its_own(model):
    together = model.loss(PICTURES, rng(), absolute)
    alone = torch.cat([model.loss(PICTURES[i : i + 1], rng().pick([i]), absolute) for i in range(4)])
    torch.testing.assert_close(together, alone)


def test_words_and_latents_are_each_others_names():
    model = seeded(KINDS["vqgan"]())
    model.state_statistics(torch.tensor([1.0, 0.0, -1.0]), torch.tensor([0.5, 2.0, 1.0]))
    words = torch.arange(16).view(1, 4, 4)
    z = model.latents(words)
    assert torch.equal(model.indices(z), words)
    near = z + 1e-3 * torch.randn_like(z)  # a model of latents that misses by a little
    torch.testing.assert_close(model.decode(near), model.decode(z), rtol=0, atol=0)


def test_kl_in_closed_form_and_by_draws():
    mean, log_variance = torch.tensor([[0.7]]).double(), torch.tensor([[-1.2]]).double()
    exact = float(divergence(mean, log_variance))
    a, b = torch.distributions.Normal(0.7, math.exp(-0.6)), torch.distributions.Normal(0.0, 1.0)
    assert exact == pytest.approx(float(torch.distributions.kl_divergence(a, b)), rel=1e-6)
    assert float(divergence(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)).sum()) == 0
    torch.manual_seed(0)
    draws = a.sample((200_000,))
    assert float((a.log_prob(draws) - b.log_prob(draws)).mean()) == pytest.approx(exact, abs=0.01)
    assert divergence(torch.ones(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)).tolist() == [30, 30]


def test_kl_vae_draws_in_training_and_weighs_by_pixels():
    model = seeded(KLVAE(SMALL, weight=0.5))
    mean, log_variance = model.gaussian(PICTURES)
    _, penalty = model.reconstruct(PICTURES, rng())
    torch.testing.assert_close(penalty, 0.5 * divergence(mean, log_variance) / (3 * 16 * 16))
    quiet, _ = model.reconstruct(PICTURES, rng())
    torch.testing.assert_close(quiet, model.decode(model.encode(PICTURES)), rtol=1e-4, atol=1e-5)
    loud, _ = model.train().reconstruct(PICTURES, rng())
    again, _ = model.reconstruct(PICTURES, rng())
    assert torch.equal(loud, again)
    assert float((loud - quiet).abs().max()) > 1e-3
    assert model.notes()["kl"] == pytest.approx(float(divergence(mean, log_variance).mean()), rel=1e-4)


def test_distances():
    made, truth = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    assert absolute(made, truth).tolist() == [0.5, 0.5]
    assert squared(made, truth).tolist() == [0.25, 0.25]
    assert weighted((2.0, absolute), (4.0, squared))(made, truth).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("words", [
    lambda: KLVAE(SMALL, weight=-1.0), lambda: KLVAE(Layout(latent_channels=0)),
    lambda: KINDS["kl"]().encode(torch.zeros(1, 3, 15, 16)), lambda: KINDS["kl"]().decode(torch.zeros(1, 4, 8, 8)),
    lambda: KINDS["kl"]().measure([]), lambda: Encoder(3, 4, multipliers=(1, 2), attention=(F,)),
    lambda: Decoder(3, 4, width=0), lambda: Encoder(3, 4, multipliers=(), attention=()),
    lambda: PatchDiscriminator(3, layers=0), lambda: PatchDiscriminator(3)(torch.zeros(1, 3, 31, 64)),
    lambda: Adversarial(KINDS["kl"](), nn.Identity(), weight=-1.0),
])  # fmt: skip
def test_what_is_refused(words):
    with pytest.raises(BadInput):
        words()


# ---- adversary -----------------------------------------------------------------------------------------------------


@pytest.fixture
def contest():
    torch.manual_seed(2)
    return Adversarial(seeded(KINDS["kl"]()), PatchDiscriminator(3, width=4, layers=1), weight=0.75).train()


def test_the_adaptive_weight_is_the_ratio_by_hand():
    """One last layer y = W h: d sum|y - x| / dW = sum sign(y - x) h', d sum(-v y) / dW = -v sum h'."""
    h, x, v = torch.randn(5, 3), torch.randn(5, 2), torch.tensor([2.0, -1.0])
    W = nn.Parameter(torch.randn(2, 3))
    y = h @ W.T
    first = (y - x).sign().T @ h
    second = -v[:, None] * h.sum(0)[None]
    expected = float((first.norm() / (second.norm() + 1e-6)).detach())
    assert float(adaptive_weight((y - x).abs().sum(), -(y @ v).sum(), W)) == pytest.approx(expected, rel=1e-5)
    nothing = (y * 0).sum()
    assert float(adaptive_weight((y - x).abs().sum(), nothing, W)) == 1e4


def test_a_layer_the_pictures_did_not_pass_is_no_silent_zero(contest):
    made, _ = contest.autoencoder.reconstruct(PICTURES, rng())
    with pytest.raises(RuntimeError, match="to not have been used"):
        adaptive_weight(absolute(made, PICTURES).sum(), made.sum(), nn.Parameter(torch.ones(3)))


def test_the_loss_is_its_parts(contest):
    loss = contest.loss(PICTURES, rng(), absolute)
    made, penalty = contest.autoencoder.reconstruct(PICTURES, rng())
    error, doubt = absolute(made, PICTURES), -contest.discriminator(made).mean((1, 2, 3))
    layer = contest.autoencoder.decoder.head.weight
    ours, theirs = (torch.autograd.grad(part.sum(), layer, retain_graph=True)[0] for part in (error, doubt))
    balance = ours.norm() / theirs.norm()
    real, fake = contest.discriminator(PICTURES), contest.discriminator(made)
    judged = ((1 - real).clamp(min=0) + (1 + fake).clamp(min=0)).mean((1, 2, 3)) / 2
    torch.testing.assert_close(loss, error + penalty + 0.75 * balance * doubt + judged, rtol=1e-4, atol=1e-5)
    notes = contest.notes()
    assert notes["adaptive_weight"] == pytest.approx(float(balance), rel=1e-4)
    assert notes["discriminator_loss"] == pytest.approx(float(judged.detach().mean()), rel=1e-4)


def test_neither_side_leaves_a_gradient_in_the_other(contest):
    made, _ = contest.autoencoder.reconstruct(PICTURES, rng())
    contest.judgement(PICTURES, made).sum().backward(retain_graph=True)
    assert all(p.grad is None for p in contest.autoencoder.parameters())
    assert all(p.grad is not None for p in contest.discriminator.parameters())
    contest.discriminator.zero_grad()
    contest.doubt(made).sum().backward()
    assert all(p.grad is None for p in contest.discriminator.parameters())
    assert contest.autoencoder.decoder.head.weight.grad.abs().sum() > 0


def test_one_adam_on_the_sum_is_two_adams_on_the_parts(contest):
    """Three steps: parameters are equal to the last bits."""
    import copy

    apart = copy.deepcopy(contest)
    one = torch.optim.Adam(contest.parameters(), lr=1e-2)
    two = [torch.optim.Adam(m.parameters(), lr=1e-2) for m in (apart.autoencoder, apart.discriminator)]
    for step in range(3):
        one.zero_grad()
        contest.loss(PICTURES, Rng.batch(step, 4), squared).sum().backward()
        one.step()
        made, penalty = apart.autoencoder.reconstruct(PICTURES, Rng.batch(step, 4))
        error, doubt = squared(made, PICTURES), apart.doubt(made)
        balance = adaptive_weight(error.sum(), doubt.sum(), apart.autoencoder.last_layer())
        judged = apart.judgement(PICTURES, made)
        for optimiser in two:
            optimiser.zero_grad()
        (error + penalty + 0.75 * balance * doubt).sum().backward()
        judged.sum().backward()
        for optimiser in two:
            optimiser.step()
    for a, b in zip(contest.autoencoder.parameters(), apart.autoencoder.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    for a, b in zip(contest.discriminator.parameters(), apart.discriminator.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_adversary_waits_for_its_start_and_is_not_there_in_evaluation(contest):
    contest.start = 2
    plain = contest.autoencoder.loss(PICTURES, rng(), absolute)
    for _ in range(2):
        torch.testing.assert_close(contest.loss(PICTURES, rng(), absolute), plain)
    assert float((contest.loss(PICTURES, rng(), absolute) - plain).detach().abs().min()) > 0.01
    assert float(contest.kilosteps) == 3 / 1024
    contest.eval()
    torch.testing.assert_close(
        contest.loss(PICTURES, rng(), absolute), contest.autoencoder.loss(PICTURES, rng(), absolute)
    )
    assert float(contest.kilosteps) == 3 / 1024


def test_the_discriminator_learns_to_tell(contest):
    optimiser = torch.optim.Adam(contest.discriminator.parameters(), lr=1e-2)
    made = PICTURES.flip(0) * 0.3
    first = last = 0.0
    for step in range(40):
        loss = contest.judgement(PICTURES, made).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        last = float(loss.detach())
        first = first if step else last
    assert last < 0.3 < first


# ---- perceptual distances ------------------------------------------------------------------------------------------


@pytest.mark.skipif(FILE._installed() is None, reason=f"{FILE.package} is not installed")
def test_the_perceptual_network_is_frozen_and_sees_differences():
    lite0_distance.cache_clear()
    with torch.inference_mode():  # it is kept; where it was first asked for must not matter
        distance = lite0_distance()
    x = torch.rand(2, 3, 48, 48) * 2 - 1
    assert float(distance(x, x).abs().max()) == 0
    y = x.clone().requires_grad_()
    values = distance(y, x.flip(3))
    assert values.shape == (2,)
    values.sum().backward()
    assert float(y.grad.abs().sum()) > 0
    torch.testing.assert_close(distance(x, x.flip(3)), torch.cat([distance(a[None], a[None].flip(3)) for a in x]))
    grey = x[:, :1]
    torch.testing.assert_close(distance(grey, -grey), distance(grey.expand(-1, 3, -1, -1), -grey.expand(-1, 3, -1, -1)))


def test_the_users_own_distance_is_differentiable(tmp_path):
    class Apart(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a - b).square().mean((1, 2, 3), keepdim=True)

    torch.jit.script(Apart()).save(str(tmp_path / "lpips.pt"))
    distance = file_distance(tmp_path / "lpips.pt")
    x = PICTURES[:, :1].clone().requires_grad_()
    values = distance(x, -x.detach())
    torch.testing.assert_close(values, squared(x, -x.detach()), rtol=1e-4, atol=1e-6)
    values.sum().backward()
    torch.testing.assert_close(x.grad, 4 * x.detach() / 256, rtol=1e-3, atol=1e-5)


# ---- 8-bit pictures ------------------------------------------------------------------------------------------------


def test_pictures_go_in_and_come_out_in_levels(model):
    coder = PictureCoder(model, batch=2)
    levels = np.random.default_rng(0).integers(0, 256, (3, 17, 21, 3), dtype=np.uint8)
    z = coder.encode(levels)
    assert z.shape == (3, 3, 9, 11)
    back = coder.reconstruct(levels)
    assert np.array_equal(back, coder.decode(z, (17, 21)))
    x = torch.nn.functional.pad(torch.from_numpy(levels).movedim(3, 1) / 127.5 - 1, (0, 1, 0, 1), mode="replicate")
    with torch.no_grad():
        exact = ((model.decode(model.encode(x)) + 1) * 127.5)[:, :, :17, :21].clamp(0, 255).movedim(1, 3).numpy()
    assert np.abs(back - exact).max() <= 0.501  # rounded, not cut off
    if isinstance(model, VQGAN):
        assert np.array_equal(coder.words(levels), model.indices(z).numpy())
    else:
        with pytest.raises(BadInput, match="no codebook"):
            coder.words(levels)
    for wrong in (levels[0], levels.astype(float), levels[..., :1], levels[:0]):
        with pytest.raises(BadInput, match="uint8"):
            coder.encode(wrong)


# ---- pictures that bypass the codebook -----------------------------------------------------------------------------


def test_the_share_that_was_asked_for_bypasses_the_codebook_in_training_only():
    x = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    model = seeded(VQGAN(SMALL, codes=4, bypass=0.25))
    with torch.no_grad():
        z = model._code(x)
        quantised = model.decoder(model.from_latent(model.quantiser(z).codes))
        plain = model.decoder(model.from_latent(z))
        assert torch.allclose(model.reconstruct(x, rng(64))[0], quantised, atol=1e-5)
        model.quantiser.patience = 0  # training must not move codes here
        made, penalty = model.train().reconstruct(x, rng(64))
    near = [[torch.allclose(one, other, atol=1e-4) for one, other in zip(made, way, strict=True)]
            for way in (plain, quantised)]  # fmt: skip
    assert all(a != b for a, b in zip(*near, strict=True))
    assert 6 <= sum(near[0]) <= 27  # 16 are expected, with a standard deviation of 3.5
    assert torch.allclose(penalty, model.quantiser(z).penalty)  # all of them are held to their codes
    again = model.reconstruct(x[:8], Rng(rng(64).seeds[:8]))[0]
    assert torch.allclose(again, made[:8], atol=1e-5)  # a picture's luck is its own


def test_a_share_that_leaves_no_picture_for_the_codebook_is_refused():
    for share in (-0.1, 1.0):
        with pytest.raises(BadInput, match=r"give one in \[0, 1\)"):
            VQGAN(SMALL, codes=4, bypass=share)


# ---- colours go straight -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [lambda layout: VQGAN(layout, codes=64), KLVAE])
def test_untrained_colours_that_go_straight_come_back(kind):
    """The networks add nothing yet: what comes back are the means of what a latent covers, read linearly between."""
    model = kind(replace(SMALL, latent_channels=4, straight=True)).eval()
    x = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    means = nn.functional.avg_pool2d(x, 2)
    if isinstance(model, VQGAN):
        with torch.no_grad():
            model.quantiser.codebook[: 12 * 4] = nn.functional.pad(means[0].flatten(1).T, (0, 1))[: 12 * 4]
            x, means = x[:1, :, :8, :24], means[:1, :, :4, :12]
    made = model.decode(model.encode(x))
    torch.testing.assert_close(
        made, nn.functional.interpolate(means, scale_factor=2, mode="bilinear"), atol=1e-5, rtol=0
    )


def test_too_few_latent_channels_for_colours_to_go_straight():
    with pytest.raises(BadInput, match="colours need 3 latent channels to go straight, got 2"):
        VQGAN(replace(SMALL, latent_channels=2, straight=True), codes=4)
