"""Layers that move: pictures land where they are put, attention goes with the frame, and what is still stays."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from framefill.arrays import Rng
from framefill.nets.layered import Attention, LayerDecoder, LayerEncoder, Layers, composed, cut, middles, placed
from framefill.recipes.ode_video import TINY, divergence
from test_ode_video import clip, close, lively

pytest.importorskip("torchdiffeq", reason="pip install 'framefill[flows]'")
SMALL = replace(TINY, height=32, width=48, hidden=8, latent=7, moving=3, past=4, future=2, batch_size=3, layers=2)
RNG = torch.Generator().manual_seed(0)


def pixel(number, size):
    """The place of a picture's middle such that its first pixel is `number`, of a frame of `size` pixels."""
    return (2 * number + size / 2) / size - 1


def test_a_picture_lands_on_the_pixels_it_is_put_on():
    picture = torch.rand(1, 2, 16, 24, generator=RNG)
    places = torch.tensor([[[pixel(x, 48), pixel(y, 32)] for x, y in ((0, 0), (24, 16), (5, 9), (40, -4))]])
    found = placed(picture, places, torch.Size((32, 48)))
    wanted = torch.zeros(1, 4, 2, 40, 70)
    for t, (x, y) in enumerate(((0, 0), (24, 16), (5, 9), (40, -4))):
        wanted[:, t, :, y + 4 : y + 20, x : x + 24] = picture
    torch.testing.assert_close(found, wanted[..., 4:36, :48], atol=1e-5, rtol=0)


def test_half_a_pixel_further_is_the_mean_of_neighbours():
    picture = torch.rand(1, 1, 16, 16, generator=RNG)
    places = torch.tensor([[[pixel(8, 32), 0.0], [pixel(9, 32), 0.0], [pixel(8.5, 32), 0.0]]])
    left, right, between = placed(picture, places, torch.Size((32, 32)))[0]
    torch.testing.assert_close(between, (left + right) / 2, atol=1e-5, rtol=0)


def test_what_is_cut_out_is_what_was_put_in():
    picture = torch.rand(1, 2, 16, 24, generator=RNG)
    places = torch.tensor([[[pixel(7, 48), pixel(3, 32)]]])
    frame = placed(picture, places, torch.Size((32, 48)))[:, 0]
    torch.testing.assert_close(cut(frame, places)[:, 0], picture, atol=1e-4, rtol=0)
    torch.testing.assert_close(middles(4, picture), torch.tensor([-0.75, -0.25, 0.25, 0.75]))


def test_later_layers_are_in_front_and_strength_fades_them():
    background, pixels = torch.full((1, 1, 8, 8), -1.0), torch.tensor([0.5, 1.0]).view(1, 2, 1, 1, 1)
    layers = Layers(background, pixels.expand(1, 2, 1, 4, 4), torch.tensor([1.0, 0.25]).view(1, 2, 1, 1, 1).expand(
        1, 2, 1, 4, 4))  # fmt: skip
    places = torch.zeros(1, 2, 2, 2)
    made = composed(layers, places, torch.tensor([[[1.0, 1.0], [0.5, 0.0]]]))
    assert float(made[0, 0, 0, 4, 4]) == pytest.approx(0.75 * 0.5 + 0.25 * 1.0)
    assert float(made[0, 1, 0, 4, 4]) == pytest.approx(0.5 * -1 + 0.5 * 0.5)
    assert bool((made[..., 0, :] == -1).all())


def test_attention_goes_where_the_thing_goes():
    torch.manual_seed(0)
    attention = Attention(1, 2)
    with torch.no_grad():
        attention.salience.fill_(60)
    blob = torch.rand(1, 1, 16, 16, generator=RNG)
    places = torch.tensor([[[-0.25, -0.25], [0.25, -0.125], [0.0, 0.25]]])
    frames = placed(blob, places, torch.Size((64, 64))).flatten(0, 1) * 2 - 1
    found = attention(frames)
    steps = found - found[:1]
    torch.testing.assert_close(steps[:, 0], places[0] - places[0, :1], atol=0.01, rtol=0)
    dark = attention(-frames)  # what differs counts, not what is bright
    torch.testing.assert_close(dark[:, 0] - dark[:1, 0], places[0] - places[0, :1], atol=0.01, rtol=0)


def test_the_still_code_knows_no_order_the_moving_one_does_and_what_is_not_shown_does_not_matter():
    torch.manual_seed(0)
    encoder = LayerEncoder((1, 32, 32), 2, 8, 4, 3)
    x, times = torch.rand(1, 4, 1, 32, 32, generator=RNG), torch.arange(4.0)[None]
    shown = torch.tensor([[True, True, False, True]])
    encoder.requires_grad_(False)
    mean, log_variance = encoder(x, times, shown)
    turned, _ = encoder(x[:, [3, 0, 2, 1]], times, shown)
    torch.testing.assert_close(turned[:, :4], mean[:, :4])
    assert float((turned - mean)[:, 4:].abs().max()) > 1e-5
    other = x.clone()
    other[:, 2] = 0
    torch.testing.assert_close(encoder(other, times, shown)[0], mean)
    later, _ = encoder(x, times * 2, shown)
    torch.testing.assert_close(later[:, :4], mean[:, :4])
    assert float((later - mean)[:, 4:].abs().max()) > 1e-5
    assert float(log_variance.mean()) < -4  # a fresh code is drawn almost without noise


def test_only_the_moving_part_of_a_code_moves_and_frames_depend_on_both():
    torch.manual_seed(0)
    model = replace(TINY, height=32, width=32, hidden=8, latent=7, moving=3).model()
    assert isinstance(model.decoder, LayerDecoder)
    z = torch.randn(2, 7, generator=RNG)
    path = model.path(z, [0, 5, -2.5])
    assert torch.equal(path[:, :, :4], z[:, None, :4].expand(-1, 3, -1))
    assert float((path[:, 1, 4:] - z[:, 4:]).abs().max().detach()) > 1e-4
    frames = model.decode(path)
    alone = torch.cat([model.decode(path[:, i : i + 1]) for i in range(3)], 1)
    torch.testing.assert_close(frames, alone)
    assert float(frames.detach().abs().max()) <= 1
    for part in (slice(0, 4), slice(4, 7)):
        other = path.clone()
        other[..., part] += 1
        assert float((model.decode(other) - frames).detach().abs().max()) > 1e-3


def test_the_loss_is_of_both_places_and_of_how_far_they_are_apart():
    torch.manual_seed(0)
    recipe = replace(SMALL, shown=1.0)
    model = recipe.model()
    x = torch.rand(3, 6, 1, 32, 48, generator=RNG) * 2 - 1
    code = model.code(x[:, :4], torch.arange(4.0).expand(3, -1))
    rng = Rng.batch(0, 3)
    rng.uniform((4,))  # which frames are shown comes first
    path = model.path(code.mean + (code.log_variance / 2).exp() * rng.normal((7,)), range(6))
    layers, (places, strength) = model.decoder.drawn(path[:, 0, :4]), model.decoder.places(path[..., 4:])
    seen = model.encoder.places(x)
    pixels = (composed(layers, places, strength) - x).square().sum((1, 2, 3, 4))
    pixels = pixels + (composed(layers, seen, torch.ones(3, 6, 2)) - x)[:, :4].square().sum((1, 2, 3, 4))
    apart = (places - seen).square().sum((1, 2, 3))
    wanted = pixels / (2 * 0.09) + apart / (2 * 0.02**2) + 0.1 * divergence(code)
    torch.testing.assert_close(recipe.loss(model, x, Rng.batch(0, 3)), wanted / x[0].numel(), rtol=1e-4, atol=1e-4)


def test_the_verbs_are_served_and_a_frame_depends_on_its_instant_alone():
    product = lively(replace(SMALL, width=32))
    made = product.at(clip(4), [3.3, -2.0, 0.0, 3.3])
    assert np.array_equal(made[:, 0], made[:, 3])
    assert close(product.at(clip(4), [-2.0])[:, 0], made[:, 1])
    assert not close(made[:, 0], made[:, 1], by=3)
    assert product.predict(clip(4), 2).frames.shape == (1, 6, 32, 32, 1)
    uneven = product.at(clip(4), [1.5], stamps=[0, 0.1, 0.2, 9.0])
    assert not np.array_equal(uneven, product.at(clip(4), [1.5]))


@pytest.mark.slow
def test_a_minute_of_training_draws_the_digit_and_not_a_blob():
    """By 150 steps frames that are seen are nearer than black ones, which are the best that knows nothing."""
    torch.manual_seed(0)
    recipe = replace(TINY, warmup=20)
    model, source = recipe.model(), recipe.source("digits", "train")
    adam = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    for step in range(150):
        x = recipe.batch(source, range(16 * step, 16 * step + 16))
        adam.zero_grad()
        recipe.loss(model, x, Rng.batch(0, 16, step)).mean().backward()
        adam.step()
    x = recipe.batch(recipe.source("digits", "val"), range(16))
    with torch.no_grad():
        code = model.code(x[:, :10], torch.arange(10.0).expand(16, -1))
        made = model.decode(model.path(code.mean, range(10)))
    assert float((made - x[:, :10]).square().mean()) < 0.9 * float((x[:, :10] + 1).square().mean())
