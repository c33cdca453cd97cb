"""NI-DDPM: with white noise it is DDPM to the bit; with smooth noise losses, spectra and samples are closed forms."""

import dataclasses
import json
import math
from collections import deque
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

import framefill
from framefill import checkpoint, recipes
from framefill.arrays import Rng
from framefill.checkpoint import Card
from framefill.diffusion.denoiser import Denoiser, table_label
from framefill.diffusion.noise import GaussianFreeField
from framefill.diffusion.sample import DDIM, DDPM
from framefill.diffusion.schedule import ddpm
from framefill.diffusion.target import Eps
from framefill.errors import BadInput
from framefill.nets.ddpm import DDPMUNet
from framefill.recipes.nonisotropic import PRESETS, TINY, Coloured, NonIsotropic
from framefill.recipes.recipe import from_fields, override, to_fields
from framefill.training import train
from framefill.video.images.album import Album
from framefill.video.images.model import ImageModel
from framefill.video.images.report import sample_sheet

SMALL = replace(TINY, features=8, multipliers=(1, 2), attention=(False, True), height=16, width=16, batch_size=4,
                warmup=2, steps=4, dropout=0.1)  # fmt: skip
PICTURES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def seeded(recipe: NonIsotropic) -> Denoiser:
    """The model with weights that say something: the last layers of a fresh one are zero."""
    torch.manual_seed(1)
    model = recipe.model().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture
def data(tmp_path):
    for i in range(12):
        place = tmp_path / "pictures" / "train" / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 20 * i, np.uint8)).save(place)
    return tmp_path / "pictures"


# ---- mathematics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whitening", [0, 1, 2])
def test_without_power_it_is_ddpm_whatever_the_loss(whitening):
    recipe = replace(SMALL, whitening=whitening)
    model = seeded(recipe)
    plain = Denoiser(model.network.network, ddpm(1000), Eps(), label=table_label)
    t = (1 + Rng.batch(5, 4).integers(1000)).double() / 1000
    rng = Rng.batch(5, 4)
    rng.integers(1000)  # what the recipe draws first is the times
    expected = plain.loss(PICTURES, t, None, lambda snr: snr, rng)
    assert torch.equal(recipe.loss(model, PICTURES, Rng.batch(5, 4)), expected)
    free = Denoiser(Coloured(model.network.network, GaussianFreeField(0.0)), ddpm(1000), Eps(),
                    noise=GaussianFreeField(0.0), label=table_label)  # fmt: skip
    torch.testing.assert_close(recipe.loss(free, PICTURES, Rng.batch(5, 4)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 0.5, -0.5])
def test_the_three_losses_weigh_the_modes_of_eps_by_the_powers_of_the_spectrum(gamma):
    """(a) |e|^2, (b) |sqrt(Sigma)^-1 e|^2, (c) |sqrt(Sigma) e|^2 of e = eps - eps_hat, written in Fourier modes."""
    recipe = replace(SMALL, gamma=gamma)
    model = seeded(recipe)
    rng = Rng.batch(7, 4)
    t = (1 + rng.integers(1000)).double() / 1000
    eps = rng.normal((3, 16, 16))
    k = np.hypot(*np.meshgrid(*[np.fft.fftfreq(16, 1 / 16)] * 2))
    k[0, 0] = 1
    gain = torch.tensor(k**-gamma / np.sqrt((k ** (-2 * gamma)).mean()))
    alpha, sigma = (v.float()[:, None, None, None] for v in ddpm(1000)(t))
    n = torch.fft.ifft2(torch.fft.fft2(eps.double()) * gain).real.float()
    with torch.no_grad():
        eps_hat = model.network.network(alpha * PICTURES + sigma * n, 1000 * (1 - t.float()))
    power = torch.fft.fft2((eps - eps_hat).double()).abs() ** 2 / 256
    for whitening, weight in ((1, 1), (2, gain**-2), (0, gain**2)):
        found = replace(recipe, whitening=whitening).loss(model, PICTURES, Rng.batch(7, 4))
        torch.testing.assert_close(found, (power * weight).mean((1, 2, 3)).float(), rtol=2e-3, atol=1e-4)


def test_what_a_sampler_starts_from_has_the_spectrum_of_the_field():
    class Nothing(torch.nn.Module):
        """Answers with zero noise, so that the first step shows the prior."""

        def forward(self, x, label, cond=None):
            return torch.zeros_like(x)

    noise = GaussianFreeField(1.0)
    model = Denoiser(Coloured(Nothing(), noise), ddpm(1000), Eps(), noise=noise, label=table_label)
    sampler = DDPM(2)
    start = sampler.path(model)[0]
    x = start.sigma * model.noise.like(torch.empty(600, 3, 16, 16), Rng.batch(0, 600))
    spectrum = torch.fft.fft2(x.double()).abs().square().mean((0, 1)) / 256
    k = np.hypot(*np.meshgrid(*[np.fft.fftfreq(16, 1 / 16)] * 2))
    k[0, 0] = 1
    wanted = torch.tensor(k**-2.0 / (k**-2.0).mean())
    assert float((spectrum / wanted).log().abs().max()) < 0.15  # 1800 draws: 0.024 at most modes
    assert float(x.square().mean()) == pytest.approx(1.0, abs=0.05)
    # DDIM with zero noise only rescales: what comes out is the prior, mode by mode.
    first = next(DDIM(2).trajectory(model, x, None, Rng.batch(1, 600)))
    ratio = first / x
    assert float(ratio.std()) < 1e-3 * float(ratio.mean())


def test_a_perfect_network_draws_the_gaussian_it_knows():
    """Data N(0, Sigma): the clean estimate is alpha x_t / (alpha^2 + sigma^2), so eps_hat = sigma whiten(x_t)."""
    noise = GaussianFreeField(1.0)

    class Perfect(torch.nn.Module):
        def forward(self, x, label, cond=None):
            sigma = ddpm(1000)(1 - label.double() / 1000)[1].to(x)
            return sigma[:, None, None, None] * noise.whiten(x)

    model = Denoiser(Coloured(Perfect(), noise), ddpm(1000), Eps(), noise=noise, label=table_label)
    path = DDIM(50).path(model)
    x = path[0].sigma * noise.like(torch.empty(4, 1, 16, 16), Rng.batch(2, 4))
    made = deque(DDIM(50).trajectory(model, x, None, Rng.batch(2, 4)), maxlen=1).pop()
    turned = math.prod(s.alpha * t.alpha + s.sigma * t.sigma for t, s in pairwise(path))  # cosines of small angles
    assert 0.95 < turned < 1
    torch.testing.assert_close(made, turned * x, rtol=1e-3, atol=1e-4)


def test_the_noise_keeps_its_digits_where_the_network_has_sixteen_bits():
    class Half(torch.nn.Module):
        def forward(self, x, label, cond=None):
            return x.bfloat16()

    eps = PICTURES.bfloat16()
    noise = GaussianFreeField(1.0)
    n = Coloured(Half(), noise)(eps.float(), torch.zeros(4))
    assert n.dtype == torch.float32
    torch.testing.assert_close(noise.whiten(n), eps.float(), rtol=0, atol=1e-4)


# ---- the network ---------------------------------------------------------------------------------------------------


def test_the_presets_of_the_paper_have_the_published_network():
    paper, smooth = (recipes.find("nonisotropic", name) for name in ("cifar10", "cifar10-ni"))
    assert recipes.parameters(paper.recipe) == recipes.parameters(smooth.recipe) == 35_746_307  # facts, section 4.1
    assert smooth.recipe == replace(paper.recipe, gamma=1.0)
    assert PRESETS["tiny-ni"][0] == replace(PRESETS["tiny"][0], gamma=1.0)
    assert paper.recipe.steps == 300_000
    assert "6.05" in paper.paper_score
    assert "6.95" in smooth.paper_score


def test_the_network_sees_every_pixel_and_the_level():
    torch.manual_seed(0)
    network = DDPMUNet(3, width=8, multipliers=(1, 2), blocks=1, attention=(False, True), dropout=0.0, patch=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(1, 3, 16, 8, requires_grad=True)
    network(x, torch.tensor([100.0]))[0, 0, 3, 3].backward()
    assert bool((x.grad != 0).all())  # attention reaches everywhere
    a, b = (network(x, torch.tensor([level])) for level in (100.0, 900.0))
    assert not torch.allclose(a, b, atol=1e-3)
    for size in ((15, 8), (8, 0), (10, 8)):
        with pytest.raises(BadInput, match="multiples of 4"):
            network(torch.zeros(1, 3, *size), torch.zeros(1))
    with pytest.raises(BadInput, match="one entry per level"):
        DDPMUNet(3, multipliers=(1, 2), attention=(True,))


def test_a_fresh_network_says_nothing():
    network = DDPMUNet(3, width=8, multipliers=(1, 2), blocks=1, attention=(False, True))
    torch.testing.assert_close(network(PICTURES, torch.zeros(4)), torch.zeros_like(PICTURES), rtol=0, atol=1e-3)


# ---- recipe and product --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_fields_travel_through_json(name):
    recipe = PRESETS[name][0]
    assert from_fields(NonIsotropic, json.loads(json.dumps(to_fields(recipe)))) == recipe


def test_values_that_mean_nothing_are_refused():
    for word in ("whitening=3", "whitening=-1"):
        with pytest.raises(BadInput, match="whitening must be 1"):
            override(TINY, [word])
    with pytest.raises(BadInput, match="gamma must be a finite number"):
        replace(TINY, gamma=float("nan"))


def test_a_continued_run_is_the_uninterrupted_run(data, tmp_path):
    recipe = replace(SMALL, gamma=1.0)
    card = Card("nonisotropic", "tiny-ni", to_fields(recipe), seed=3)
    source = recipe.source(data, "train", cache=tmp_path / "cache")
    list(train(recipe, source, tmp_path / "whole", card=card, save_every=2))
    loop = train(recipe, source, tmp_path / "parts", card=card, save_every=2)
    for progress in loop:
        if progress.step == 3:
            break
    loop.close()
    assert [p.step for p in train(recipe, source, tmp_path / "parts", card=card, save_every=2)] == [3, 4]
    one, other = (checkpoint.read(tmp_path / run / "model.safetensors")[0] for run in ("whole", "parts"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    product = framefill.load(tmp_path / "whole")
    assert isinstance(product, ImageModel)
    assert product.model.noise == GaussianFreeField(1.0)
    assert sample_sheet(product, source, pictures=2).width > 2 * 64


def test_pictures_of_another_size_are_refused(data, tmp_path):
    source = Album.open(data, "train", height=8, width=16, channels=3, cache=tmp_path / "cache")
    with pytest.raises(BadInput, match="frames of 3x16x16"):
        SMALL.batch(source, [0])
    batch = SMALL.batch(SMALL.source(data, "train", cache=tmp_path / "cache"), range(40))
    levels = ((batch + 1) * 127.5).round()
    assert set(levels.unique().tolist()) <= {20.0 * i for i in range(12)}


@pytest.fixture
def product():
    recipe = replace(SMALL, gamma=1.0, dropout=0.0)
    return replace(recipe.product(seeded(recipe)), sampler=DDPM(3))


def test_a_picture_is_the_same_alone_and_among_many(product):
    together = product.generate(5, seed=4).astype(int)
    alone = product.generate(5, seed=4, batch=2).astype(int)
    assert together.shape == (5, 16, 16, 3)
    assert np.abs(together - alone).max() <= 8  # 16-bit products round differently in another batch
    assert np.abs(together - product.generate(5, seed=5).astype(int)).max() > 50
    for wrong in (lambda: product.generate(0), lambda: product.generate(1, batch=0)):
        with pytest.raises(BadInput, match="at least 1"):
            wrong()


def test_completion_keeps_what_is_known_and_depends_on_it(product):
    rng = np.random.default_rng(0)
    picture = rng.integers(256, size=(16, 16, 3), dtype=np.uint8)
    known = np.zeros((16, 16), bool)
    known[:, :8] = True
    made = product.complete(picture, known, samples=3, seed=1)
    assert (made[:, known] == picture[known]).all()
    assert len(np.unique(made[:, ~known], axis=0)) == 3
    other = product.complete(255 - picture, known, samples=3, seed=1)
    assert not np.array_equal(made[:, ~known], other[:, ~known])
    assert np.array_equal(product.complete(picture, ~np.zeros((16, 16), bool))[0], picture)
    nothing = product.complete(picture, np.zeros((16, 16), bool), samples=3, seed=1)
    assert np.abs(nothing.astype(int) - product.generate(3, seed=1)).max() <= 8
    for wrong in (picture[:8], picture.astype(float), picture[..., 0]):
        with pytest.raises(BadInput, match="this model completes uint8 pictures"):
            product.complete(wrong, known)
    assert product.fitted(np.zeros((40, 20, 1), np.uint8)).shape == (16, 16, 3)


def test_a_product_survives_its_file(product, tmp_path):
    recipe = replace(SMALL, gamma=1.0, dropout=0.0)
    saved = dataclasses.replace(product, card=Card("nonisotropic", "tiny-ni", to_fields(recipe)))
    framefill.save(saved, tmp_path / "m.safetensors")
    again = replace(framefill.load(tmp_path / "m.safetensors"), sampler=DDPM(3))
    assert np.abs(again.generate(2).astype(int) - product.generate(2)).max() <= 8
