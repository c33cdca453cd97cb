"""Ours: views of a frame, the network that repairs, its latent, and the product, by what they must do."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import framefill
from framefill import checkpoint, recipes
from framefill.arrays import Rng
from framefill.checkpoint import Card
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.sample import DPMSolver
from framefill.diffusion.schedule import cosine
from framefill.diffusion.target import X
from framefill.errors import BadInput
from framefill.latents.distance import means
from framefill.latents.repairer import LatentRepairer, Repairer, Seen
from framefill.latents.together import follow
from framefill.nets.views import Reader, ViewPainter, prior
from framefill.recipes.latent_repair import PRESETS, TINY, LatentRepair
from framefill.recipes.recipe import from_fields, to_fields
from framefill.training import train
from framefill.video.between.latent import LatentInterpolator
from framefill.video.between.tier import Fast
from framefill.video.between.views import Gap
from framefill.video.clip import tensor
from moving import Moving

SMALL = replace(TINY, height=32, width=32, margin=4, widths=(4, 6, 8), perceptual=0.0, warmup=2, steps=6)
SIZE = SMALL.height + 2 * SMALL.margin


def shaken(model: torch.nn.Module, size: float = 0.1) -> torch.nn.Module:
    """Weights that say something: the last layers of fresh networks are zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.add_(size * torch.randn_like(parameter))
    return model.eval()


def frames(seed: int = 0, *, size: int = 48, context: int = 1) -> torch.Tensor:
    """Known frames (2 context, 3, H, W)."""
    found = tensor(Moving(size, context=context).triplet(seed).frames)
    return torch.cat([found[:context], found[context + 1 :]])


def product(recipe: LatentRepair = SMALL, **fields) -> LatentInterpolator:
    recipe = replace(recipe, stage=2, **fields)
    return recipe.product(shaken(recipe.model()).requires_grad_(False))


# ---- views ---------------------------------------------------------------------------------------------------------


def test_reversing_time_only_changes_the_order_of_views():
    for context in (1, 2):
        known = frames(context=context)
        one, other = Gap.around(known).at(0.3), Gap.around(known.flip(0)).at(0.7)
        torch.testing.assert_close(one.guess, other.guess, atol=1e-5, rtol=0)
        order = [3, 2, 1, 0]  # the two guesses change places, and so do their two frames
        mirrored = other.views[:, [4 * k + i for k in range(context) for i in order]]
        torch.testing.assert_close(one.views, mirrored, atol=1e-5, rtol=0)


def test_views_say_how_far_away_they_were_known():
    seen = Gap.around(frames(context=2)).at(0.25)
    distances = seen.views[0, :, 4].mean((1, 2)).tolist()
    assert distances == pytest.approx([0.25, 0.75, 0.25, 0.75, 1.25, 1.75, 1.25, 1.75])


def test_outer_frames_are_carried_to_the_same_time():
    triplet = Moving(64, context=2).triplet(3)
    found = tensor(triplet.frames)
    seen = Gap.around(found[[0, 1, 3, 4]]).at(0.5)
    middle = slice(12, -12)
    for k, view in enumerate(seen.views[0]):
        off = [float((frame - found[2])[:, middle, middle].abs().mean()) for frame in (view[:3], found[0], found[1])]
        assert off[0] < 0.5 * off[1 if k >= 4 else 2], k


def test_what_views_count_at_the_start_makes_the_guess():
    seen = Gap.around(frames()).at(0.3)
    mixed = (prior(seen.views).softmax(1) * seen.views[:, :, :3]).sum(1)
    assert float((mixed - seen.guess).abs().mean()) < 1e-3
    fast = Fast()(frames(), [0.3], Rng([0]))[0]
    torch.testing.assert_close(seen.guess, fast, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(3, 3, 32, 32), (0, 3, 32, 32), (3, 32, 32)])
def test_a_gap_has_as_many_frames_before_as_after(shape):
    with pytest.raises(BadInput, match=r"give \(2 \* context, C, H, W\)"):
        Gap.around(torch.zeros(shape))


@pytest.mark.parametrize("time", [0.0, 1.0, -0.5, math.nan])
def test_a_time_lies_in_the_gap(time):
    with pytest.raises(BadInput, match="between 0 and 1"):
        Gap.around(frames()).at(time)


# ---- networks ------------------------------------------------------------------------------------------------------


def test_a_fresh_painter_paints_the_mixture():
    seen = Gap.around(frames()).at(0.5)
    repairer = Repairer(widths=(4, 6, 8))
    made = repairer.paint(seen, repairer.read(seen), torch.zeros(1, 6, 6, 6))
    assert float((made - seen.guess).abs().mean()) < 1e-3


def test_the_order_of_views_does_not_matter_and_their_number_is_free():
    model = shaken(Repairer(widths=(4, 6, 8)))
    seen = Gap.around(frames(context=3)).at(0.4)
    z = torch.randn(1, 6, 6, 6)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    turned = Seen(seen.guess, seen.views[:, order])
    one, other = (model.paint(s, model.read(s), z) for s in (seen, turned))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    fewer = Seen(seen.guess, seen.views[:, :4])
    assert float((model.paint(fewer, model.read(fewer), z) - one).abs().mean()) > 1e-3


def test_shares_sum_to_one_and_the_shift_moves_the_view():
    painter = ViewPainter(2, (4, 6, 8), 1)
    views = torch.zeros(1, 2, 5, 16, 16)
    views[:, :, 3], views[:, :, 4] = 1.0, 0.5
    views[:, 0, :3] = torch.arange(16.0) / 16  # a ramp from left to right
    views[:, 1, :3] = 0.25
    features = torch.zeros(1, 2, 4, 8, 8)
    even = painter._mixed(views, features)
    torch.testing.assert_close(even, views[:, :, :3].mean(1))
    with torch.no_grad():
        painter.choice.bias[-2] = 0.5  # times 4 pixels, to the right
    moved = painter._mixed(views, features)
    torch.testing.assert_close((moved - even)[..., 2:12], torch.full((1, 3, 16, 10), 1 / 16))


def test_sharpness_is_given_back():
    painter = ViewPainter(2, (4, 6, 8), 1)
    seen = torch.zeros(1, 1, 5, 16, 16)
    seen[:, :, 3], seen[:, :, 4] = 1.0, 0.5
    seen[..., 8:] += torch.tensor([1.0, 1, 1, 0, 0])[:, None, None]  # an edge
    read = torch.zeros(1, 1, 4, 8, 8), [torch.zeros(1, n, 8 // k, 8 // k) for n, k in ((4, 1), (6, 2), (8, 4))]
    with torch.no_grad():
        painter.repair.bias[:4] = 0.3
    made = painter(seen, read, torch.zeros(1, 2, 2, 2))[0, 0, 8]
    torch.testing.assert_close(made[6:10], torch.tensor([0.0, -0.1, 1.1, 1.0]))


def test_a_network_without_normalisation_sees_its_surroundings_only():
    model = shaken(Repairer(widths=(4, 6, 8)))
    seen = Gap.around(frames(size=192)).at(0.5)
    z = torch.randn(1, 6, 24, 24)
    whole = model.paint(seen, model.read(seen), z)
    part = Seen(seen.guess[..., :128], seen.views[..., :128])
    torch.testing.assert_close(
        model.paint(part, model.read(part), z[..., :16])[..., :64], whole[..., :64], atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("widths", [(4, 6), (4, 6, 0), (4, 6, 8, 8)])
def test_three_widths_are_wanted(widths):
    with pytest.raises(BadInput, match="three widths"):
        Repairer(widths=widths)
    with pytest.raises(BadInput, match="three widths"):
        Reader(8, widths, 1)


def test_sizes_are_multiples_of_eight():
    with pytest.raises(BadInput, match="multiples of 8, got 12x16"):
        Reader(8, (4, 6, 8), 1)(torch.zeros(1, 2, 8, 12, 16))


@pytest.mark.parametrize("wrong", [{"latent": 0}, {"dropped": 1.0}, {"roughened": -0.1}])
def test_impossible_repairers(wrong):
    with pytest.raises(BadInput, match="must be 1 or more"):
        Repairer(**wrong)


# ---- the latent ----------------------------------------------------------------------------------------------------


def batch(recipe: LatentRepair = SMALL, seeds: tuple[int, ...] = (1, 2, 3)) -> torch.Tensor:
    return recipe.batch(Moving(recipe.height + 2 * recipe.margin, context=recipe.context, times=(0.25, 0.5)), seeds)


def test_a_batch_is_truth_guess_and_views_of_the_cut():
    triplet = Moving(SIZE, times=(0.25, 0.5)).triplet(2)
    truth, seen = SMALL.unpacked(batch(seeds=(2,)))
    found, cut = tensor(triplet.frames), slice(4, -4)
    assert torch.equal(truth[0], found[1][:, cut, cut])
    known = Gap.around(found[::2]).at(triplet.time)
    torch.testing.assert_close(seen.guess, known.guess[..., cut, cut], atol=0.01, rtol=0)
    torch.testing.assert_close(seen.views, known.views[..., cut, cut], atol=0.1, rtol=0)


def test_more_known_frames_are_more_views():
    truth, seen = SMALL.unpacked(batch(replace(SMALL, context=2))[:, :26])
    assert seen.views.shape[1] == 4
    truth, seen = replace(SMALL, context=2).unpacked(batch(replace(SMALL, context=2)))
    assert seen.views.shape[1] == 8
    assert truth.shape == (3, 3, 32, 32)


def test_frames_of_another_context_are_refused():
    with pytest.raises(BadInput, match="takes 5 frames of 3 channels, the data has 3"):
        replace(SMALL, context=2).batch(Moving(SIZE), [0])


def test_the_latent_reaches_every_pixel_and_zero_is_not_the_same():
    model = shaken(Repairer(widths=(4, 6, 8)))
    truth, seen = SMALL.unpacked(batch())
    read, z = model.read(seen), model.encode(truth, seen)
    told, silent = model.paint(seen, read, z), model.paint(seen, read, torch.zeros_like(z))
    assert float((told - silent).abs().mean()) > 0.002  # a decoder must need its latent
    assert bool(((told - silent).abs().amax((0, 1)) > 0).all())


def test_latents_tell_the_difference_to_the_truth_and_are_standardised():
    model = shaken(Repairer(widths=(4, 6, 8)))
    truth, seen = SMALL.unpacked(batch())
    with torch.no_grad():
        model.moments[0], model.moments[1] = 0.0, 1.0
    z = model.encode(truth, seen)
    assert float((z - model.encode(seen.guess, seen)).abs().mean()) > 1e-3
    with torch.no_grad():
        model.moments[0], model.moments[1] = 2.0, 9.0
    torch.testing.assert_close(model.encode(truth, seen), (z - 2) / 3)
    z = model.train().encode(truth, seen)  # by the batch
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(6), atol=1e-2, rtol=0)


def test_training_drops_and_roughens_latents():
    z, rng = torch.full((400, 1, 2, 2), 3.0), Rng.batch(0, 400)
    spoilt = Repairer(dropped=0.5, roughened=0.0)._spoilt(z, rng)
    zero = (spoilt == 0).flatten(1)
    assert bool((zero.all(1) == zero.any(1)).all())  # whole samples
    assert float(zero.all(1).float().mean()) == pytest.approx(0.5, abs=0.08)
    assert bool((spoilt[~zero.all(1)] == 3).all())
    rough = Repairer(dropped=0.0, roughened=0.6)._spoilt(z, rng)
    assert float(rough.std()) == pytest.approx(0.6 / 3**0.5, abs=0.03)  # E u^2 = 1/3


def test_the_statistics_follow_training_and_travel():
    model = Repairer(widths=(4, 6, 8))
    truth, seen = SMALL.unpacked(batch())
    before = model.moments.clone()
    model.eval().loss(truth, seen, Rng([0, 1, 2]), means)
    with torch.no_grad():
        model.train().encode(truth, seen)
    assert torch.equal(model.moments, before)
    model.loss(truth, seen, Rng([0, 1, 2]), means)
    assert not torch.equal(model.moments, before)
    for _ in range(600):
        follow(model.moments, torch.stack([torch.full((6,), 3.0), torch.full((6,), 4.0)]))
    assert model.moments[:, 0].tolist() == pytest.approx([3, 4], rel=0.02)
    follow(model.moments, torch.full((2, 6), math.nan))
    assert bool(model.moments.isfinite().all())
    assert "moments" in dict(model.named_parameters())
    assert not model.moments.requires_grad
    assert model.notes()["latent_scale"] == pytest.approx(2, rel=0.02)


def test_the_loss_of_a_sample_is_its_own_and_its_logarithm():
    model = shaken(Repairer(widths=(4, 6, 8)))
    truth, seen = SMALL.unpacked(batch())
    together = model.loss(truth, seen, Rng([0, 1, 2]), SMALL.distance())
    alone = [
        model.loss(truth[i : i + 1], Seen(*(x[i : i + 1] for x in seen)), Rng([i]), SMALL.distance()) for i in range(3)
    ]
    torch.testing.assert_close(together, torch.cat(alone))
    made = model.paint(seen, model.read(seen), model.encode(truth, seen))
    torch.testing.assert_close(together, (SMALL.distance()(made, truth) + 1e-3).log())


# ---- the product ---------------------------------------------------------------------------------------------------


def test_frames_between_are_of_any_size_time_and_number():
    made = product()(frames(size=45)[:, :, :37], [0.2, 0.5, 0.9], Rng([1, 2]))
    assert made.shape == (2, 3, 3, 37, 45)
    assert bool((made.abs() <= 1).all())


def test_a_sample_depends_on_its_seed_alone():
    model = product()
    together = model(frames(), [0.5], Rng([1, 2, 3]))
    for i, seed in enumerate((1, 2, 3)):
        torch.testing.assert_close(model(frames(), [0.5], Rng([seed]))[0], together[i], atol=1e-5, rtol=0)
    assert float((together[0] - together[1]).abs().mean()) > 1e-3


def test_a_time_does_not_depend_on_the_others():
    model = product()
    several, one = model(frames(), [0.25, 0.5], Rng([5])), model(frames(), [0.5], Rng([5]))
    assert torch.equal(several[:, 1], one[:, 0])
    assert float((several[:, 0] - several[:, 1]).abs().mean()) > 1e-3


def test_the_time_is_seen_by_the_network():
    still = frames()[:1].expand(2, -1, -1, -1)  # where nothing moves, views differ in their distance alone
    made = product()(still, [0.2, 0.5], Rng([5]))
    assert float((made[0, 0] - made[0, 1]).abs().mean()) > 1e-4


@pytest.mark.parametrize("context", [1, 2])
def test_reversing_time_gives_the_same_frames(context):
    model, known = product(context=context), frames(context=context)
    forwards, backwards = model(known, [0.3, 0.5], Rng([5])), model(known.flip(0), [0.5, 0.7], Rng([5]))
    torch.testing.assert_close(forwards, backwards.flip(1), atol=1e-4, rtol=0)


def test_outer_frames_matter():
    model, known = product(context=2), frames(context=2)
    other = known.clone()
    other[0] = -other[0]
    assert float((model(known, [0.5], Rng([5])) - model(other, [0.5], Rng([5]))).abs().mean()) > 1e-4


def test_temperature_zero_draws_the_same_for_all():
    model = replace(product(), temperature=0.0)
    made = model(frames(), [0.5], Rng([1, 2]))
    torch.testing.assert_close(made[0], made[1])
    for wrong in (-0.1, 1.1):
        with pytest.raises(BadInput, match=r"temperature must lie in \[0, 1\]"):
            replace(model, temperature=wrong)


def test_grey_frames_stay_grey_and_other_channels_are_refused():
    model = product()
    made = model(frames().mean(1, keepdim=True), [0.5], Rng([1]))
    assert made.shape == (1, 1, 1, 48, 48)
    with pytest.raises(BadInput, match="1 or 3 channels, got 4"):
        model(torch.zeros(2, 4, 32, 32), [0.5], Rng([1]))
    with pytest.raises(BadInput, match=r"takes \(2, C, H, W\)"):
        model(frames(context=2), [0.5], Rng([1]))


class Knows(torch.nn.Module):
    """A network that answers x itself: a latent of 5, far outside the range of pixels."""

    def forward(self, x: torch.Tensor, label: torch.Tensor, cond: torch.Tensor | None) -> torch.Tensor:
        return torch.full_like(x, 5.0)


def test_latents_are_never_clipped():
    repairer = shaken(Repairer(widths=(4, 6, 8)))
    model = LatentInterpolator(LatentRepairer(repairer, Denoiser(Knows(), cosine(), X())), sampler=DPMSolver(4))
    z = model._latent(torch.zeros(1, 8, 4, 4), Rng([0]))
    torch.testing.assert_close(z, torch.full((1, 6, 4, 4), 5.0), atol=1e-4, rtol=0)


def test_no_tint_where_the_painter_says_nothing_new():
    recipe = replace(SMALL, stage=2)
    model = recipe.product(recipe.model().eval())  # fresh: the painter mixes what it sees, the latents are noise
    known = frames(size=64)
    made, fast = model(known, [0.5], Rng([0]))[0], Fast()(known, [0.5], Rng([0]))[0]
    levels = ((made - fast) * 127.5).mean((0, 2, 3))
    assert float(levels.abs().max()) < 0.05


def test_calls_are_those_of_the_sampler():
    assert product().calls == 8
    first = SMALL.product(shaken(SMALL.model()))
    assert first.calls == 0
    made = first(frames(), [0.5], Rng([1, 2]))
    assert torch.equal(made[0], made[1])  # a first stage draws nothing


# ---- training ------------------------------------------------------------------------------------------------------


def card(recipe: LatentRepair) -> Card:
    return Card("latent-repair", "tiny", to_fields(recipe), seed=3, about={"data": "moving"})


def final(out) -> dict[str, torch.Tensor]:
    return checkpoint.read(sorted((out / "checkpoints").glob("*.safetensors"))[-1])[0]


@pytest.fixture
def first(tmp_path):
    """The run of a first stage."""
    list(train(SMALL, Moving(SIZE), tmp_path / "first", card=card(SMALL)))
    return tmp_path / "first"


def second(first) -> tuple[LatentRepair, dict[str, torch.Tensor]]:
    tensors, told = checkpoint.read(first / "model.safetensors")
    recipe = replace(SMALL, stage=2, widths=(9, 9, 9)).after(told.fields)
    return recipe, recipe.taken(tensors)


def test_the_second_stage_continues_to_the_bit_and_leaves_the_first_alone(first, tmp_path):
    recipe, start = second(first)
    assert recipe == replace(SMALL, stage=2)
    options = {"card": card(recipe), "save_every": 2, "start": start}
    list(train(recipe, Moving(SIZE), tmp_path / "whole", **options))
    loop = train(recipe, Moving(SIZE), tmp_path / "parts", **options)
    for progress in loop:
        if progress.step == 3:
            break
    loop.close()
    list(train(recipe, Moving(SIZE), tmp_path / "parts", **options))
    one, other = final(tmp_path / "whole"), final(tmp_path / "parts")
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name
    for name, value in start.items():
        assert torch.equal(one[f"model.{name}"], value), name
        assert torch.equal(one[f"average.{name}"], value), name
        assert f"adam.exp_avg.{name}" not in one
    fresh = dict(recipe.model().named_parameters())
    moved = [n for n in fresh if n.startswith("denoiser") and not torch.equal(one[f"model.{n}"], fresh[n])]
    assert moved


def test_a_trained_model_loads_and_is_what_was_trained(first, tmp_path):
    recipe, start = second(first)
    list(train(recipe, Moving(SIZE), tmp_path / "second", card=card(recipe), start=start))
    model = framefill.load(tmp_path / "second")
    assert isinstance(model, LatentInterpolator)
    assert (model.context, model.calls) == (1, 8)
    state = checkpoint.read(tmp_path / "second" / "model.safetensors")[0]
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert isinstance(recipe.sheet(model, Moving(SIZE)), Image.Image)
    assert framefill.load(first).calls == 0
    assert np.isfinite(model(frames(), [0.5], Rng([0])).numpy()).all()


def test_the_first_stage_is_logged(first):
    lines = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    assert all(line["latent_scale"] > 0 for line in lines)


def test_the_second_stage_must_begin_with_a_first(first, tmp_path):
    recipe, start = second(first)
    with pytest.raises(BadInput, match="--from"):
        list(train(recipe, Moving(SIZE), tmp_path / "none", card=card(recipe)))
    odd = replace(recipe, widths=(4, 6, 10))
    with pytest.raises(BadInput, match="give a run of the same layout"):
        list(train(odd, Moving(SIZE), tmp_path / "odd", card=card(odd), start=start))
    with pytest.raises(BadInput, match="no such tensor"):
        list(train(SMALL, Moving(SIZE), tmp_path / "other", card=card(SMALL), start={"what": torch.zeros(1)}))
    with pytest.raises(BadInput, match="has no context"):
        recipe.after({"features": 3})


@pytest.mark.parametrize("wrong", [{"stage": 0}, {"stage": 3}, {"context": 0}, {"margin": -1}])
def test_impossible_recipes(wrong):
    with pytest.raises(BadInput, match="must"):
        replace(SMALL, **wrong)


def test_presets_travel_and_can_be_built():
    assert recipes.parameters(PRESETS["best"][0]) < recipes.parameters(PRESETS["best-large"][0]) / 10
    for name, (recipe, _, _) in PRESETS.items():
        assert from_fields(LatentRepair, json.loads(json.dumps(to_fields(recipe)))) == recipe, name


def test_the_distance_has_its_three_terms(tmp_path):
    class Apart(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a - b).square().mean((1, 2, 3))

    torch.jit.script(Apart()).save(str(tmp_path / "lpips.pt"))
    recipe = replace(SMALL, perceptual=2.0, tint=3.0, lpips=str(tmp_path / "lpips.pt"))
    a, b = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.5)
    assert float(recipe.distance()(a, b)) == pytest.approx(0.5 + 2 * 0.25 + 3 * 0.5, rel=1e-5)
    assert float(replace(recipe, perceptual=0.0).distance()(a, b)) == pytest.approx(0.5 + 3 * 0.5)
