"""The recipe of the codec for films: it begins as the picture codec, and its loss is what a file would cost."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from framefill.arrays import Rng
from framefill.codec import groups
from framefill.codec.film_codec import FilmCodec
from framefill.codec.picture_codec import PictureCodec
from framefill.codec.pictures import Picture
from framefill.codec.stream import opened
from framefill.codec.temporal import KINDS
from framefill.errors import BadInput
from framefill.recipes import find
from framefill.recipes.autoencoder import TINY as AUTOENCODER
from framefill.recipes.recipe import to_fields
from test_video_files import scene, write

PICTURES, FILMS = find("compression", "tiny").recipe, find("video-compression", "tiny").recipe


def clip(count: int = 2) -> torch.Tensor:
    """Clips (B, 8, 3, 64, 64) in [-1, 1]."""
    frames = scene(8 * count, 64, 64).reshape(count, 8, 64, 64, 3)
    return torch.from_numpy(frames).float().movedim(-1, 2) / 127.5 - 1


def taught():
    """A picture codec whose parameters are all its own, and the model for films that begins with them."""
    torch.manual_seed(3)
    model = PICTURES.model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    recipe = FILMS.after(to_fields(PICTURES))
    follower = recipe.model()
    follower.load_state_dict(recipe.taken(model.state_dict()))
    return model.eval(), follower.eval(), recipe


def test_it_begins_as_the_picture_codec_in_every_band():
    model, follower, recipe = taught()
    x, quality = clip(1)[0, :2], torch.tensor([0, 2])
    symbols = model.symbols(x, quality)
    assert torch.equal(follower.symbols(x, quality), symbols)
    assert follower.qualities == model.qualities == 3
    with torch.no_grad():
        expected = model.entropy.bits(symbols, quality)
        for kind in range(KINDS):
            told = torch.tensor([follower.setting(int(q), kind) for q in quality])
            assert torch.equal(follower.entropy.bits(symbols, told), expected)
            assert torch.equal(follower.values(symbols, told), model.values(symbols, quality))
            assert torch.equal(follower.steps(told), model.steps(quality))
    assert len({follower.setting(q, k) for q in range(3) for k in range(KINDS)}) == 3 * KINDS
    assert recipe.taken(follower.state_dict()).keys() == follower.state_dict().keys()
    assert recipe.follows is False
    picture = Picture(scene(1, 40, 40)[0])
    one, other = PictureCodec(model), PictureCodec(follower)
    np.testing.assert_array_equal(
        one.decompress(one.compress(picture, quality=2)).pixels,
        other.decompress(other.compress(picture, quality=2)).pixels,
    )


@pytest.mark.parametrize("depth", range(4))
def test_the_rate_is_that_of_the_message(depth, monkeypatch):
    _, model, recipe = taught()
    monkeypatch.setattr(groups, "ROUNDING", 0.5)  # training rounds to the nearest
    monkeypatch.setattr(groups, "_quiet_bits", lambda *_: float("inf"))
    latents = model.analysis(clip(1)[0]).detach()
    bits, values = (x.detach() for x in recipe._coded(model, latents, 2, depth))
    runs = [groups.rounded(model, part, 2) for part in latents.split(2**depth)]
    message = groups.encode(model, runs, 2)
    modes = 8 * (len(runs) + sum(len(band) for run in runs for band in run[1:]))
    assert 8 * len(message) == pytest.approx(float(bits) + modes, abs=24 + 0.02 * float(bits))
    codec = FilmCodec(PictureCodec(model))
    header = codec.header(2, depth=0)
    decoded = torch.cat([codec._values(run, header) for run in runs])
    torch.testing.assert_close(values, decoded, atol=1e-4, rtol=1e-4)


def test_it_follows_codecs_of_pictures_that_are_not_distilled():
    assert replace(FILMS, temperature=0.5).model().temperature == 0.5
    for fields, said in (
        (to_fields(AUTOENCODER), "recipe compression with --from"),
        (to_fields(find("distilled", "tiny").recipe), "is distilled"),
    ):
        with pytest.raises(BadInput, match=said):
            FILMS.after(fields)
    with pytest.raises(BadInput, match="leave few"):
        replace(FILMS, few=True)


def test_gradients_reach_steps_and_laws_of_bands():
    _, model, recipe = taught()
    model.train()
    loss = recipe.loss(model, clip(2), Rng([1, 4]))
    assert loss.shape == (2,)
    loss.sum().backward()
    assert bool(loss.isfinite().all())
    grown = model.log_steps.grad.abs().sum(1)
    assert 2 < int((grown > 0).sum()) < len(grown)  # of the kinds and qualities that were drawn
    assert model.analysis.line.grad.any()
    assert model.painter.line.grad.any()
    assert model.entropy.networks[0].first.weight.grad.any()


def test_it_learns_from_a_folder_of_clips(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.mp4", scene(12, 64, 80))
    assert FILMS.suited(tmp_path) == FILMS  # there is no picture to measure
    source = FILMS.source(tmp_path, "train", cache=tmp_path / "cache")
    batch = FILMS.batch(source, [1, 2])
    assert batch.shape == (2, 8, 3, 64, 64)
    assert torch.equal(batch, FILMS.batch(source, [1, 2]))
    model = replace(FILMS, noisy=1.0).model()
    optimiser = torch.optim.Adam(model.parameters(), 1e-4)
    found = []
    for _ in range(4):
        loss = FILMS.loss(model, batch, Rng([5, 6])).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(loss.detach()))
    assert found[-1] < found[0]
    sheet = FILMS.sheet(FILMS.product(model.eval()), source)
    assert sheet.width > 64 * 8


def test_films_of_the_taught_model_come_back(tmp_path):
    from framefill.films import compress, decompress

    _, model, _ = taught()
    path = write(tmp_path / "a.mp4", scene(10, 40, 48))
    codec = PictureCodec(model)
    compress(path, tmp_path / "a.ffc", codec)
    assert opened((tmp_path / "a.ffc").read_bytes()).header.fingerprint == codec.marks[1]
    assert decompress(tmp_path / "a.ffc", tmp_path / "b.mp4", codec).frames == 10
