"""The distilled codec: what learns and what stays, what it begins with, and what comes of a run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import framefill
from framefill import checkpoint, recipes
from framefill.arrays import Rng
from framefill.checkpoint import Card
from framefill.codec.model import SPREAD
from framefill.codec.picture_codec import PictureCodec
from framefill.codec.pictures import Picture
from framefill.diffusion.consistency import Multistep
from framefill.errors import BadInput
from framefill.recipes.compression import TINY, Compression
from framefill.recipes.distilled import PRESETS, Distilled
from framefill.recipes.recipe import from_fields, to_fields
from framefill.training import train

TEACHER = replace(TINY, side=32, kept=32, similarity=0.0, steps=2, batch_size=4)
SMALL = replace(PRESETS["tiny"][0], side=32, kept=32, similarity=0.0, pieces=4, steps=4)


class Waves:
    """Pictures of coloured waves, each a function of its seed."""

    def sample(self, seed, *, length, strides):
        a, b, c = np.random.default_rng(seed).uniform(0.1, 0.6, 3)
        y, x = np.mgrid[:32, :32]
        waves = [np.sin(a * x + b * y), np.cos(b * x + c * y), np.sin(c * x - a * y)]
        return (127.5 + 120 * np.stack(waves, -1)).astype(np.uint8)[None]


def card(recipe, name) -> Card:
    return Card(name, "tiny", to_fields(recipe), seed=3, about={"data": "waves"})


def stirred(model: torch.nn.Module) -> torch.nn.Module:
    """One whose zero layers are not zero."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return model


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A run of a codec."""
    place = tmp_path_factory.mktemp("teacher")
    start = dict(stirred(TEACHER.model()).named_parameters())
    list(train(TEACHER, Waves(), place, card=card(TEACHER, "compression"), start=start))
    return place


def begun(teacher) -> tuple[Distilled, dict[str, torch.Tensor]]:
    tensors, told = checkpoint.read(teacher / "model.safetensors")
    recipe = SMALL.after(told.fields)
    return recipe, recipe.taken(tensors)


def taught(teacher):
    recipe, start = begun(teacher)
    model = recipe.model()
    model.load_state_dict(start)
    return recipe, model


def pictures(count: int) -> torch.Tensor:
    return SMALL.batch(Waves(), range(count))


# ---- loss --------------------------------------------------------------------------------------------------------


def test_the_painter_alone_learns(teacher):
    recipe, model = taught(teacher)
    recipe.loss(model, pictures(8), Rng(range(8))).sum().backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learning
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n, _ in model.named_parameters() if n.startswith("codec.denoiser.")
    }
    assert all(name.startswith("codec.denoiser.") for name in learning)


def test_the_loss_is_that_of_drawing_or_that_of_the_faithful_decode(teacher):
    recipe, model = taught(teacher)
    x, seeds = pictures(8), list(range(8))
    with torch.no_grad():
        lost = recipe.loss(model, x, Rng(seeds))
        rng = Rng(seeds)
        quality, drawn = rng.integers(recipe.qualities), rng.uniform() < recipe.noisy
        assert 0 < int(drawn.sum()) < 8
        values = model.codec.values(model.codec.symbols(x, quality), quality)
        faithful = recipe.distance(model.codec.mean(values, quality), x, quality) / (1 - recipe.noisy)
        expected = faithful / torch.tensor(recipe.rates)[quality] ** 0.75
    assert torch.allclose(lost[~drawn], expected[~drawn], rtol=1e-4)
    assert not torch.isclose(lost[drawn], expected[drawn], rtol=1e-2).any()


def test_a_teacher_of_one_piece_is_met_by_its_own_student(teacher):
    """One piece from noise to picture is one call, which the student begins with: nothing is left to learn."""
    recipe, model = taught(teacher)
    x = pictures(4)
    quality = torch.tensor([0, 1, 2, 2])
    values = model.codec.values(model.codec.symbols(x, quality), quality)
    with torch.no_grad():
        alike = replace(recipe, pieces=1)._drawing(model, x, values, quality, Rng(range(4)))
        apart = replace(recipe, pieces=4)._drawing(model, x, values, quality, Rng(range(4)))
    assert float(alike.max()) < 1e-9 < float(apart.max())


def test_drawing_in_one_call_is_learnt():
    """A fresh painter is the exact denoiser of a Gaussian of width SPREAD around what the transform says, whose true
    consistency function adds SPREAD times the noise; in one call the teacher adds nothing.
    """
    torch.manual_seed(0)
    recipe = replace(SMALL, pieces=2, widths=(48,), down=(1,), up=(1,))
    model, quality = recipe.model(), torch.tensor([1, 1, 1, 1])
    model.teacher.load_state_dict(model.codec.denoiser.state_dict())
    with torch.no_grad():
        values = model.codec.values(model.codec.symbols(pictures(4), quality), quality)
        plain = model.codec.painter.plain(values)
    noise = torch.randn(4, 3, 32, 32)
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])

    def error():
        with torch.no_grad():
            made = model.codec.sample(values, quality, lambda k: noise, 1)
            return float((made - plain - SPREAD * noise).square().mean() / SPREAD**2)

    assert error() == pytest.approx(1, abs=0.1)
    for step in range(80):
        adam.param_groups[0]["lr"] = 1e-3 * min(1 - step / 80, (step + 1) / 10)
        adam.zero_grad()
        x, rng = plain + SPREAD * torch.randn(4, 3, 32, 32), Rng(range(4 * step, 4 * step + 4))
        recipe._drawing(model, x, values, quality, rng).sum().backward()
        adam.step()
    assert error() < 0.8


# ---- runs --------------------------------------------------------------------------------------------------------


def test_a_run_leaves_all_but_the_painter_as_it_was_and_its_codec_is_a_model_of_its_own(teacher, tmp_path):
    recipe, start = begun(teacher)
    list(train(recipe, Waves(), tmp_path / "run", card=card(recipe, "distilled"), start=start))
    tensors = checkpoint.read(tmp_path / "run" / "model.safetensors")[0]
    for name, value in start.items():
        assert torch.equal(tensors[name], value) or name.startswith("codec.denoiser."), name
    assert not torch.equal(tensors["codec.denoiser.network.line"], start["codec.denoiser.network.line"])
    before, after = framefill.load(teacher), framefill.load(tmp_path / "run")
    assert isinstance(after, PictureCodec)
    assert isinstance(after.model.sampler(2), Multistep)
    assert not isinstance(before.model.sampler(2), Multistep)
    picture = Picture(Waves().sample(9, length=1, strides=(1,))[0])
    one, other = before.compress(picture, quality=1), after.compress(picture, quality=1)
    assert len(one) == len(other)
    assert one != other
    assert not set(before.marks) & set(after.marks)
    drawn = after.decompress(other, steps=2)
    assert np.isfinite(drawn.pixels).all()
    assert isinstance(recipe.sheet(after, Waves()), Image.Image)
    # saved, it is a codec without a teacher, and opens the same files
    framefill.save(after, tmp_path / "few.safetensors")
    again = framefill.load(tmp_path / "few.safetensors")
    assert checkpoint.read_card(tmp_path / "few.safetensors").recipe == "compression"
    assert again.marks == after.marks
    np.testing.assert_array_equal(again.decompress(other, steps=2).pixels, drawn.pixels)
    fewer = checkpoint.read_card(tmp_path / "few.safetensors").fields
    with pytest.raises(BadInput, match="distilled already"):
        SMALL.after(fewer)
    plain = from_fields(Compression, fewer)
    with pytest.raises(BadInput, match="undo few-step drawing"):
        plain.loss(again.model, pictures(2), Rng([1, 2]))


def test_it_must_begin_with_a_codec(teacher, tmp_path):
    recipe, _ = begun(teacher)
    assert recipe.follows
    with pytest.raises(BadInput, match="--from"):
        list(train(recipe, Waves(), tmp_path / "none", card=card(recipe, "distilled")))
    with pytest.raises(BadInput, match="has no qualities"):
        recipe.after({"luma": 3})
    odd = replace(SMALL, luma=7).after(to_fields(replace(TEACHER, luma=5)))
    assert odd.luma == 5


@pytest.mark.parametrize("wrong", [{"pieces": 0}, {"noisy": 1.0}, {"few": False}])
def test_impossible_recipes(wrong):
    with pytest.raises(BadInput, match="pieces"):
        replace(SMALL, **wrong)


def test_presets_travel_and_make_the_codec_they_begin_with():
    for name, (recipe, _, _) in PRESETS.items():
        assert from_fields(Distilled, json.loads(json.dumps(to_fields(recipe)))) == recipe, name
        plain = recipes.find("compression", name).recipe
        with torch.device("meta"):
            own, wanted = recipe.model().codec.state_dict(), plain.model().state_dict()
        assert {n: t.shape for n, t in own.items()} == {n: t.shape for n, t in wanted.items()}
        assert isinstance(recipe.codec(), Compression)
