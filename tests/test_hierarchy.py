"""Hierarchies: the states against the heat equation, the bound against what can be computed, and what is drawn."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributions import Normal, kl_divergence

import framefill
from framefill.arrays import Rng
from framefill.checkpoint import Card
from framefill.errors import BadInput
from framefill.recipes import hierarchical
from framefill.recipes.hierarchical import TINY, Hierarchical
from framefill.recipes.recipe import from_fields, to_fields
from framefill.training import train
from framefill.video.images.hierarchy import Heat, Hierarchy, HierarchyModel, Learned, divergence, label
from framefill.video.images.stills import Stills
from framefill.video.pseudo.heat import HeatEquation

SMALL = replace(TINY, height=8, width=8, levels=5, most=4.0, features=8, multipliers=(1,), attention=(False,), patch=1,
                batch_size=4, warmup=2, steps=3)  # fmt: skip


def pictures(count=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 8, 8, generator=g) * 2 - 1


def heat(**more) -> Heat:
    return Heat(5, (1, 8, 8), **{"least": 0.5, "most": 4.0, "sigma": 0.02, **more})


class Nothing(torch.nn.Module):
    """A decoder that changes nothing: x_{t-1} is expected to be x_t."""

    def forward(self, x, label):
        return torch.zeros_like(x)


def test_the_states_are_those_of_the_heat_equation():
    x = pictures()
    frames = HeatEquation(6, 0.5, 4.0)(x, Rng(range(4)))  # the last is the image, the first the hottest
    for t in range(1, 6):
        mean, log_spread = heat().eval().moments(x, torch.full((4,), t))
        assert torch.allclose(mean, frames[:, 5 - t], atol=1e-6)
        assert torch.allclose(log_spread.exp(), torch.full_like(x, 0.02))
    mixed = heat().moments(x, torch.tensor([1, 5, 2, 3]))[0]
    assert torch.allclose(mixed[1], frames[1, 0], atol=1e-6)


def test_divergence_is_that_of_gaussians():
    g = torch.Generator().manual_seed(0)
    mean, other, a, b = torch.randn(4, 50, generator=g)
    expected = kl_divergence(Normal(mean, a.exp()), Normal(other, b.exp()))
    assert torch.allclose(divergence(mean, a, other, b), expected, rtol=1e-4, atol=1e-5)


def test_every_level_is_trained_also_the_last():
    """The published program never draws the level K that its samples begin with (facts, section 0.14)."""
    told = []

    class Spy(torch.nn.Module):
        def forward(self, x, label):
            told.append(label)
            return torch.zeros_like(x)

    model = Hierarchy(Spy(), heat(), 5, spread=0.025)
    model.loss(pictures(200), Rng(range(200)))
    counts = torch.bincount((torch.cat(told) / 200).round().long())
    assert counts[0] == 0
    assert counts[1:].tolist() == pytest.approx([40] * 5, abs=20)
    assert label(torch.tensor(5), 5) == 1000


def test_the_terms_are_the_divergences_of_consecutive_states():
    """With a decoder that changes nothing, E|x_t - m_{t-1}|^2 = |m_t - m_{t-1}|^2 + s^2 exactly."""
    x, model = pictures(1).expand(4000, -1, -1, -1), Hierarchy(Nothing(), heat(sigma=0.3).eval(), 5, spread=0.4)
    for t in (1, 2, 5):
        level = torch.full((4000,), t)
        found = float(model.term(x, level, Rng(range(4000))).mean())
        mean = model.states.moments(x[:1], level[:1])[0]
        below = x[:1] if t == 1 else model.states.moments(x[:1], level[:1] - 1)[0]
        error = float((mean - below).square().mean()) + 0.09
        expected = error / 0.32 + math.log(0.4) + math.log(2 * math.pi) / 2
        if t > 1:
            expected = math.log(0.4 / 0.3) + (error + 0.09) / 0.32 - 0.5
        assert found == pytest.approx(expected, rel=0.02), t


def test_a_perfect_decoder_reaches_the_density_of_a_known_picture():
    """One picture, learned states equal to the decoder's steps: the bound is what the last step alone costs."""
    spread, x = 0.5, pictures(1)

    class Same(torch.nn.Module):
        def forward(self, x, label):
            shift = torch.zeros_like(x)
            return torch.cat([shift, torch.full_like(x, math.log(spread) + 1)], 1)

    class Back(torch.nn.Module):
        def forward(self, above, label):
            return x - above

    model = Hierarchy(Back(), Learned(Same(), 3), 3, spread=spread)
    t = torch.tensor([2])
    assert model.term(x, t, Rng([1])).detach().numpy() == pytest.approx(0, abs=1e-6)
    one = model.term(x, torch.tensor([1]), Rng([1])).detach().numpy()
    assert one == pytest.approx(math.log(spread) + math.log(2 * math.pi) / 2, rel=1e-5)
    top = kl_divergence(Normal(x, spread), Normal(0.0, 1.0)).mean()
    assert float(model.states.surprise(x)) == pytest.approx(float(top), rel=1e-4)


def test_the_top_looks_like_blurred_training_pictures():
    states, x = heat(most=3.0, sigma=1e-3).train(), pictures(512) * 0.5 + 0.2
    x[:, :, :4] += 0.3
    for _ in range(800):
        states.moments(x, torch.full((512,), 5))
    wanted = states.eval().moments(x, torch.full((512,), 5))[0]
    drawn = states.top(Rng(range(2000)), torch.empty(2000, 1, 8, 8))
    assert torch.allclose(drawn.mean(0), wanted.mean(0), atol=0.02)
    assert torch.allclose(drawn.std(0), wanted.std(0), atol=0.02)
    apart = (torch.corrcoef(drawn.flatten(1).T) - torch.corrcoef(wanted.flatten(1).T)).abs()
    assert float(apart.max()) < 0.2
    assert torch.equal(states.top(Rng([7]), x[:1]), states.top(Rng([5, 7]), x[:2])[1:])


def test_every_class_has_a_top_of_its_own_and_all_together_one():
    """Of 3 classes the third is never told: nothing is known of it but what it is to begin with."""
    states, x = heat(most=3.0, sigma=1e-3, classes=3).train(), pictures(600) * 0.2
    names = torch.arange(600) % 3
    x[names == 0, :, :4] += 0.5  # light above, and below
    x[names == 1, :, 4:] -= 0.5
    told = torch.where((names == 2) | (torch.arange(600) % 10 == 3), 3, names)  # 3: withheld, now and then
    for _ in range(800):
        states.moments(x, torch.full((600,), 5), told)
    wanted, nothing = states.eval().moments(x, torch.full((600,), 5))[0], torch.empty(2000, 1, 8, 8)
    rng = Rng(range(2000))
    for name, of in ((0, told == 0), (1, told == 1), (3, told >= 0)):
        drawn = states.top(rng, nothing, torch.full((2000,), name))
        assert torch.allclose(drawn.mean(0), wanted[of].mean(0), atol=0.02), name
        assert torch.allclose(drawn.std(0), wanted[of].std(0), atol=0.02), name
    assert torch.equal(states.top(Rng([7]), x[:1]), states.top(Rng([7]), x[:1], torch.tensor([3])))


class ByName(torch.nn.Module):
    """A decoder that goes up by the number of the class it is told."""

    def forward(self, x, label, names):
        return torch.zeros_like(x) + names[:, None, None, None]


def test_guidance_leaves_the_means_of_no_class_behind():
    model = Hierarchy(ByName(), heat(classes=4), 5, spread=1e-9)
    product = HierarchyModel(model, 1, 8, 8, classes=4)
    like, label = torch.empty(2, 1, 8, 8), torch.tensor([3, 3])
    for guidance, step in ((0.0, 4), (1.0, 3), (2.0, 2)):  # withheld is called 4
        made = list(model.sample(like, Rng([1, 2]), label, none=label + 1, guidance=guidance))
        assert torch.allclose(made[1] - made[0], torch.full_like(like, float(step)), atol=1e-5)
    assert set(product.generate(2, label=3).flat) == {255}
    assert set(replace(product, guidance=8.0).generate(2, label=3).flat) == {0}  # 5 steps of 4 - 8
    with pytest.raises(BadInput, match="label 4 for a model of 4 classes"):
        product.generate(1, label=4)


def test_training_tells_the_class_of_all_but_a_share():
    told = []

    class Spy(ByName):
        def forward(self, x, label, names):
            told.append(names)
            return torch.zeros_like(x)

    recipe = replace(SMALL, classes=2, withheld=0.25)
    model = Hierarchy(Spy(), heat(classes=2), 5, spread=0.1)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)
    source = Stills(pixels, labels=np.arange(9) % 2, names=("even", "odd"))
    recipe.loss(model, recipe.batch(source, range(400)), Rng(range(400)))
    labels = torch.tensor([source.label(seed) for seed in range(400)])
    shown = torch.cat(told)
    assert float((shown == 2).float().mean()) == pytest.approx(0.25, abs=0.06)
    assert torch.equal(shown[shown < 2], labels[shown < 2])


def test_the_last_step_is_without_noise_and_the_others_are_not():
    model = Hierarchy(Nothing(), heat(), 5, spread=0.5)
    made = list(model.sample(torch.empty(300, 1, 8, 8), Rng(range(300))))
    assert len(made) == 6
    assert torch.equal(made[5], made[4])
    for t in range(4):
        assert float((made[t + 1] - made[t]).std()) == pytest.approx(0.5, rel=0.02)


def test_ink_is_drawn_with_the_level_of_the_picture():
    source = Stills(np.full((1, 8, 8, 1), 64, np.uint8))
    batch = SMALL.batch(source, range(200))
    assert set(batch.unique().tolist()) == {-1.0, 1.0}
    assert float((batch > 0).float().mean()) == pytest.approx(64 / 255, abs=0.02)
    assert torch.equal(SMALL.batch(source, [7])[0], batch[7])
    assert replace(SMALL, binary=False).batch(source, [1]).unique().tolist() == pytest.approx([64 / 127.5 - 1])


def test_wrong_hierarchies_are_refused():
    for wrong, says in (
        ({"pseudo": "blur-4"}, "leave pseudo=still"), ({"withheld": 1.0}, r"in \[0, 1\), got 1"),
        ({"sigma": 0.0}, "noise of 0.0 on the states"), ({"dropout": 2.0}, "dropout 2.0"),
        ({"multipliers": (1, 2), "attention": (False, False), "height": 9}, "multiples of 2, got 9x8"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=says):
            replace(SMALL, **wrong).model()
    for learned in (False, True):
        with pytest.raises(BadInput, match="at least 1 level, got 0"):
            replace(SMALL, levels=0, learned=learned)
    with pytest.raises(BadInput, match="a spread of 0"):
        replace(SMALL, spread=0.0).model()
    with pytest.raises(BadInput, match="a hierarchy of 0 levels"):
        Hierarchy(torch.nn.Identity(), torch.nn.Identity(), 0, spread=0.1)


def test_the_two_have_the_same_decoder_and_the_heat_has_no_more_to_learn():
    for name, (recipe, _, _) in hierarchical.PRESETS.items():
        assert from_fields(Hierarchical, json.loads(json.dumps(to_fields(recipe)))) == recipe, name
    fixed, free = SMALL.model(), replace(SMALL, learned=True).model()
    count = lambda m: sum(p.numel() for p in m.parameters() if p.requires_grad)  # noqa: E731
    assert count(fixed) == count(fixed.network) == count(free.network)
    assert count(free) == count(free.network) + count(free.states) + 6


@pytest.mark.parametrize(("learned", "classes"), [(False, 0), (True, 2), (False, 2)])
def test_a_trained_hierarchy_draws_the_same_pictures_alone_and_together(tmp_path, learned, classes, call):
    recipe = replace(SMALL, learned=learned, classes=classes)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)
    source = Stills(pixels, labels=np.arange(9) % 2, names=("even", "odd"))
    card = Card("hierarchical", "tiny", to_fields(recipe), seed=1, about=recipe.about(source))
    list(train(recipe, source, tmp_path / "run", card=card))
    product = framefill.load(tmp_path / "run")
    assert isinstance(product, HierarchyModel)
    films = next(product.films(3, seed=4))
    assert films.shape == (3, 6, 8, 8, 1)
    assert np.abs(product.generate(3, seed=4, batch=1).astype(int) - films[:, -1]).max() <= 1
    assert isinstance(recipe.sheet(product, source), Image.Image)
    with pytest.raises(BadInput, match="at least 1 of each"):
        product.generate(0)
    code, _, err = call("generate", "-m", tmp_path / "run", "-n", 2, "-o", tmp_path / "s.png")
    assert (code, (tmp_path / "s.png").exists()) == (0, True), err
    of_class = ("--label", "odd", "--guidance", 2, "-o", tmp_path / "odd.png")
    code, _, err = call("generate", "-m", tmp_path / "run", "-n", 2, *of_class)
    assert (code, (tmp_path / "odd.png").exists()) == ((0, True) if classes else (2, False)), err
    code, _, err = call("generate", "-m", tmp_path / "run", "--calls", 3, "-o", tmp_path / "t.png")
    assert (code, "--calls" in err) == (2, True)
