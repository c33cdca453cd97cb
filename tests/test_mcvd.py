"""The MCVD recipe: published sizes, what the network is shown, masks, losses, fields."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from framefill import recipes
from framefill.arrays import Rng
from framefill.diffusion.complete import blend
from framefill.diffusion.sample import DDIM
from framefill.errors import BadInput
from framefill.recipes.mcvd import PRESETS, SMMNIST, TINY
from framefill.recipes.recipe import from_fields, override, to_fields
from framefill.video import motion
from framefill.video.digits import MovingDigits

PARITY = json.loads((Path(__file__).parent / "parity" / "mcvd.json").read_text())
PUBLISHED = {
    "smmnist": 27_941_765, "smmnist-spatin": 53_953_989, "smmnist-past-future": 27_944_645, "kth": 62_831_141,
    "kth-spatin": 367_650_437, "bair": 251_174_991, "bair-1": 251_169_807, "bair-spatin": 328_604_367,
    "cityscapes": 262_133_775, "cityscapes-spatin": 579_159_695, "ucf": 564_990_060, "ucf-spatin": 739_438_572,
}  # fmt: skip
ROWS = {row["preset"]: row for row in recipes.rows()}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_sizes(preset):
    assert ROWS[preset]["parameters"] == PUBLISHED[preset]
    assert ROWS[preset]["paper_score"]


def test_the_condition_is_laid_out_as_published():
    facts = PARITY["conditioning"]["value"]
    frames = torch.arange(12.0).reshape(1, 12, 1, 1, 1).expand(1, 12, 1, 8, 8)
    recipe = replace(SMMNIST, future=2)
    shown, guess = recipe.condition(frames, torch.ones(1, 12, dtype=torch.bool))
    assert shown[0, :, 0, 0].tolist() == facts["cond(past5+future2)"]
    assert frames[0, recipe.window.drawn, 0, 0, 0].tolist() == facts["pred"]
    assert guess.shape == (1, 5, 1, 8, 8)
    assert (guess == 0).all()


@pytest.mark.parametrize("recipe", [replace(SMMNIST, future=2), TINY], ids=["published", "ours"])
def test_unknown_frames_cannot_be_seen(recipe):
    torch.manual_seed(0)
    length = recipe.window.length
    known = torch.rand(3, length) < 0.5
    a = torch.randn(3, length, 1, 8, 8)
    b = torch.where(known[:, :, None, None, None], a, torch.randn_like(a))
    for ours, theirs in zip(recipe.condition(a, known), recipe.condition(b, known), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(recipe.condition(a, known)[0], recipe.condition(a, ~known)[0])


def test_ours_tells_a_grey_frame_from_a_hidden_one():
    grey, length = torch.zeros(1, TINY.window.length, 1, 8, 8), TINY.window.length
    seen, hidden = torch.ones(1, length, dtype=torch.bool), torch.zeros(1, length, dtype=torch.bool)
    assert not torch.equal(TINY.condition(grey, seen)[0], TINY.condition(grey, hidden)[0])


def test_published_masks_hide_whole_blocks_with_the_published_chance():
    recipe = replace(SMMNIST, future=5, drop_past=0.5, drop_future=0.25)
    masks = recipe.masks(Rng.batch(0, 4000)).float()
    past, current, future = masks[:, :5], masks[:, 5:10], masks[:, 10:]
    assert set(past.sum(1).tolist()) == {0.0, 5.0}
    assert current.sum() == 0
    assert past.mean().item() == pytest.approx(0.5, abs=0.03)
    assert future.mean().item() == pytest.approx(0.75, abs=0.03)
    both = (past[:, 0] * future[:, 0]).mean().item()
    assert both == pytest.approx(0.375, abs=0.03)  # independent of each other


def test_our_masks_show_every_task_and_partial_contexts_nearest_first():
    masks = TINY.masks(Rng.batch(1, 4000))
    past, current, future = masks[:, :5], masks[:, 5:10], masks[:, 10:]
    counts = torch.bincount(past.sum(1), minlength=6) / 4000
    assert counts[0].item() == pytest.approx(TINY.drop_past, abs=0.03)
    assert all(counts[1:5] > 0.02)
    # What is kept of a context lies next to the current frames.
    assert (past.long().diff(dim=1) >= 0).all()
    assert (future.long().diff(dim=1) <= 0).all()
    inner = current.any(1).float().mean().item()
    assert 0.1 < inner < 0.2
    assert not current.all(1).any()


def test_published_loss_is_half_the_sum_of_the_noise_error():
    """Against the loss written out: labels, table and reduction of the program."""
    recipe = replace(SMMNIST, features=8, multipliers=(1, 2), attention=(False, True), head_width=8, dropout=0.0)
    torch.manual_seed(0)
    model = recipe.model()
    torch.nn.init.normal_(model.network.head.weight, std=0.1)
    batch = recipe.batch(MovingDigits("train"), [1, 2])
    got = recipe.loss(model, batch, Rng.batch(7, 2))
    rng = Rng.batch(7, 2)
    rng.uniform((6,)), rng.uniform((5,))  # the masks draw first
    k = 1 + rng.integers(1000)
    beta = np.linspace(1e-4, 0.02, 1000)
    kept = torch.tensor(np.cumprod(1 - beta), dtype=torch.float32)[k - 1][:, None, None, None, None]
    x = batch[:, 5:10]
    noise = rng.normal(x.shape[1:])
    guess = model.network(kept.sqrt() * x + (1 - kept).sqrt() * noise, 1000 - k.float(), batch[:, :5])
    torch.testing.assert_close(got.float(), 0.5 * (guess - noise).square().flatten(1).sum(1), rtol=2e-3, atol=0)


def test_only_unknown_frames_are_paid_for():
    recipe = replace(TINY, features=4, multipliers=(1, 2), attention=(False, True), head_width=4, patch=4,
                     residual=0.0)  # fmt: skip
    model = recipe.model()
    batch = recipe.batch(MovingDigits("train"), range(40))
    known = recipe.masks(Rng.batch(3, 40))[:, recipe.window.drawn]
    changed = batch.clone()
    changed[:, recipe.window.drawn][known] += 0.5  # moves the input and the condition, not what is counted
    a, b = (recipe.loss(model, x, Rng.batch(3, 40)) for x in (batch, changed))
    # A fresh network answers nearly zero, so the loss depends on the counted targets only.
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@dataclass(frozen=True)
class Nothing(DDIM):
    """A sampler that draws zero and notes how strong it was to be."""

    strengths: ClassVar[list[float]] = []

    def __call__(self, model, like, cond, rng):
        self.strengths.append(self.strength)
        return torch.zeros_like(like)


@pytest.mark.parametrize("carried", [True, False], ids=["motion", "blend"])
def test_residual_draws_differences_to_the_guess(carried):
    recipe = replace(TINY, features=4, multipliers=(1, 2), attention=(False, True), head_width=4, patch=4,
                     motion=carried)  # fmt: skip
    frames = recipe.batch(MovingDigits("test"), [1])
    known = torch.ones(1, 15, dtype=torch.bool)
    known[:, 5:10] = False

    drawn = recipe.draw(recipe.model(), Nothing(1), frames, known, Rng([0]))
    guess = motion.guess(frames, known, slice(5, 10)) if carried else blend(frames, known)[:, 5:10]
    torch.testing.assert_close(drawn, guess)


def test_strength_is_for_differences_and_for_windows_of_which_something_is_known():
    small = replace(TINY, features=4, multipliers=(1, 2), attention=(False, True), head_width=4, patch=4)
    frames, model = small.batch(MovingDigits("test"), [1]), small.model()
    known = torch.arange(15)[None] < 5
    for flags in (known, known & False):
        small.draw(model, Nothing(1, strength=0.5), frames, flags, Rng([0]))
    assert Nothing.strengths[-2:] == [0.5, 1.0]
    with pytest.raises(BadInput, match="strength must be 1"):
        replace(small, residual=0.0).draw(model, Nothing(1, strength=0.5), frames, known, Rng([0]))


def test_with_motion_the_network_is_shown_the_carried_frames():
    frames = TINY.batch(MovingDigits("test"), [1, 2])
    known = torch.tensor([[True] * 5 + [False] * 10, [True] * 5 + [False] * 5 + [True] * 5])
    shown, _ = TINY.condition(frames, known)
    assert shown.shape[1] == TINY.condition_channels == 15 * 2 + 10
    before, after = motion.carried(frames, known, slice(5, 10))
    assert torch.equal(shown[:, 30:35], before.flatten(1, 2))
    assert torch.equal(shown[:, 35:40], after.flatten(1, 2))
    assert torch.equal(shown[:, :30], replace(TINY, motion=False).condition(frames, known)[0])


def test_blend_is_linear_between_holds_outside_and_zero_when_nothing_is_known():
    frames = torch.tensor([0.0, 2, 9, 9, 8, 9, 9])[None, :, None]
    known = torch.tensor([[False, True, False, False, True, False, False]])
    assert blend(frames, known)[0, :, 0].tolist() == [2, 2, 4, 6, 8, 8, 8]
    assert (blend(frames, torch.zeros_like(known)) == 0).all()
    assert torch.equal(blend(frames, torch.ones_like(known)), frames)


@pytest.mark.parametrize("name", PRESETS)
def test_fields_travel_through_json(name):
    recipe = PRESETS[name][0]
    assert from_fields(type(recipe), json.loads(json.dumps(to_fields(recipe)))) == recipe


def test_overrides():
    recipe = override(TINY, ["batch_size=7", "multipliers=1,2,3", "flip=true", "ema=0", "attention=False,True,True"])
    assert (recipe.batch_size, recipe.multipliers, recipe.flip, recipe.ema) == (7, (1, 2, 3), True, 0.0)
    assert recipe.attention == (False, True, True)
    for word, says in (
        ("batch_size", "write name=value"), ("batch_size=1.5", "takes int"), ("flip=3", "takes bool"),
        ("nothing=1", "has no field"), ("blocks=true", "takes int"), ("multipliers=a", "list"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=says):
            override(TINY, [word])


def test_unknown_names_are_refused():
    with pytest.raises(BadInput, match="choose one of mcvd"):
        recipes.find("mcdv", "tiny")
    with pytest.raises(BadInput, match="unknown preset"):
        recipes.find("mcvd", "vast")


def test_data_of_another_size_is_refused():
    with pytest.raises(BadInput, match="frames of 3x64x64"):
        replace(TINY, channels=3).batch(MovingDigits("train"), [0])
