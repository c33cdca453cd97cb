"""MRCNF: likelihoods against closed forms, scales learnt apart or grown, finer pictures that keep their averages."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import framefill
from framefill import recipes
from framefill.arrays import Rng
from framefill.checkpoint import Card
from framefill.density import dequantise
from framefill.errors import BadInput
from framefill.flows import ode
from framefill.flows.cnf import CNF
from framefill.flows.multires import average
from framefill.flows.trace import Exact
from framefill.recipes.mrcnf import MRCNF, PRESETS, TINY
from framefill.recipes.recipe import from_fields, override, to_fields
from framefill.training import train
from framefill.video.images.flow_model import WIDTH, FlowModel, averaged
from framefill.video.images.rounding import averaging_to

pytest.importorskip("torchdiffeq", reason="pip install 'framefill[flows]'")
SMALL = replace(TINY, channels=1, height=8, width=8, blocks=1, hidden=(4,), batch_size=4, warmup=1, steps=2, flip=False)
LEVELS = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
SIZES = {"cifar10-1-2": 158_268, "cifar10-1-4": 316_536, "cifar10-1-14": 1_107_876, "cifar10-2-8": 1_335_744,
         "cifar10-2-20": 3_339_360, "imagenet32-2-40": 6_678_720, "cifar10-3-6": 1_528_812, "imagenet64-3-8": 2_038_416,
         "cifar10-3-20": 5_096_040}  # fmt: skip


def lively(recipe=SMALL, seed=1):
    """A model with weights that say something: the last layers of a fresh one are zero."""
    torch.manual_seed(seed)
    model = recipe.model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return recipe.product(model, card=Card("mrcnf", "tiny", to_fields(recipe)))


@pytest.fixture
def data(tmp_path):
    for part in ("train", "val", "test"):
        for i in range(6):
            place = tmp_path / "pictures" / part / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(LEVELS[i % 4, :, :, 0], i, 0) // 2).save(place)
    return tmp_path / "pictures"


# ---- recipe --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
def test_the_sizes_are_the_published_ones(name):
    assert recipes.parameters(recipes.find("mrcnf", name).recipe) == SIZES[name]


def test_the_grown_model_has_the_size_of_table_4_3():
    grown = PRESETS["imagenet128-4-8"][0]
    assert round(recipes.parameters(grown) / 1e6, 2) == 2.74
    assert grown.after(to_fields(PRESETS["imagenet64-3-8"][0])) == grown


@pytest.mark.parametrize("name", PRESETS)
def test_fields_travel_through_json(name):
    recipe = PRESETS[name][0]
    assert from_fields(MRCNF, json.loads(json.dumps(to_fields(recipe)))) == recipe


@pytest.mark.parametrize(
    ("word", "said"),
    [("kind=cubic", "unimodular or haar"), ("scale=3", "learns one of its scales"), ("height=33", "multiples of 2"),
     ("blocks=0", "1 block or more"), ("width=0", "multiples of 2"), ("kinetic=-1", "weights of the regularisers"),
     ("jacobian=-0.1", "weights of the regularisers"), ("gradients=forward", "'direct', 'adjoint' or 'auto'")],
)  # fmt: skip
def test_fields_that_mean_nothing_are_refused(word, said):
    with pytest.raises(BadInput, match=said):
        override(TINY, [word])
    with pytest.raises(BadInput, match="only an unimodular flow"):
        replace(TINY, kind="haar", grown=True)


def test_the_loss_is_the_likelihood_of_the_dequantised_picture_and_its_regularisers():
    model = lively().model
    batch = torch.from_numpy(LEVELS).movedim(-1, 1).float() / 127.5 - 1
    found = replace(SMALL, kinetic=0.0, jacobian=0.0).loss(model, batch, Rng.batch(3, 4))
    rng = Rng.batch(3, 4)
    nats = model.log_prob(dequantise(batch, WIDTH, rng), rng=rng).nats
    torch.testing.assert_close(found, -nats / 64, rtol=1e-4, atol=1e-4)
    full = SMALL.loss(model, batch, Rng.batch(3, 4))
    assert bool((full > found).all())
    told = SMALL.notes(model)
    assert told["evaluations"] > 3
    wanted = found.mean() + math.log(2) * 0.01 * (told["kinetic"] + told["jacobian"])
    assert float(full.detach().mean()) == pytest.approx(float(wanted), rel=1e-4)


def test_gradients_by_the_adjoint_are_those_of_the_graph():
    found = {}
    for way in ("direct", "adjoint"):
        model = lively(replace(SMALL, gradients=way)).model
        assert {part.solver.gradients for part in model.modules() if isinstance(part, CNF)} == {way}
        for part in model.modules():
            if isinstance(part, CNF):
                part.solver = replace(part.solver, rtol=1e-5, atol=1e-5)
        batch = torch.from_numpy(LEVELS).movedim(-1, 1).float() / 127.5 - 1
        SMALL.loss(model, batch, Rng.batch(0, 4)).mean().backward()
        found[way] = torch.cat([p.grad.flatten() for p in model.parameters()])
    torch.testing.assert_close(found["adjoint"], found["direct"], rtol=1e-3, atol=1e-4)
    assert found["direct"].norm() > 0.1


def test_the_adjoint_is_taken_by_itself_where_memory_is_short_and_the_log_says_so(monkeypatch):
    """Where there is enough the training is that of direct gradients, to the bit."""
    found = {}
    for way, free in (("direct", 1 << 40), ("auto", 1 << 40), ("adjoint", 1 << 40), ("auto", 0)):
        monkeypatch.setattr(ode, "free_memory", lambda device, free=free: free)
        recipe = replace(SMALL, gradients=way)
        model = lively(recipe).model
        batch = torch.from_numpy(LEVELS).movedim(-1, 1).float() / 127.5 - 1
        recipe.loss(model, batch, Rng.batch(0, 4)).mean().backward()
        found[way, free] = torch.cat([p.grad.flatten() for p in model.parameters()])
        solves = sum(len(part.fields) for part in model.modules() if isinstance(part, CNF))
        said = recipe.notes(model).get("adjoint_solves")
        assert said == (None if way != "auto" else 0 if free else solves)
    assert torch.equal(found["auto", 1 << 40], found["direct", 1 << 40])
    assert torch.equal(found["auto", 0], found["adjoint", 1 << 40])
    assert not torch.equal(found["auto", 0], found["direct", 1 << 40])


def test_one_scale_learns_alone_and_the_scales_add_up_to_the_whole():
    """Nats of the scales, weighed by their dimensions, are the nats of the joint loss: training them apart is exact."""
    model = lively().model
    batch = torch.rand(4, 1, 8, 8) * 1.8 - 0.9
    plain = replace(SMALL, kinetic=0.0, jacobian=0.0)

    class Off:
        """The dequantisation and the probes of every call alike."""

        @staticmethod
        def exact(recipe):
            for flow in model.flows:
                flow.trace = Exact()
            return recipe.loss(model, batch, Rng.batch(3, 4))

    joint = Off.exact(plain)
    coarse, fine = (Off.exact(replace(plain, scale=scale)) for scale in (1, 2))
    torch.testing.assert_close(0.25 * coarse + 0.75 * fine, joint, rtol=1e-3, atol=1e-4)
    for scale, learnt, still in ((1, 1, 0), (2, 0, 1)):
        model.zero_grad()
        replace(SMALL, scale=scale).loss(model, batch, Rng.batch(3, 4)).sum().backward()
        assert all(p.grad is None for p in model.flows[still].parameters())
        assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.flows[learnt].parameters())


def test_flow_matching_is_least_where_the_velocity_is_known():
    """With the coarsest scale alone: E|f - (z - x)|^2 for f = 0 is E|z|^2 + |x|^2 per dimension."""
    recipe = replace(SMALL, scales=1, matching=True)
    model = recipe.model()  # fresh: the field is its bias, here zeroed
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    grey = torch.zeros(400, 1, 8, 8)
    found = recipe.loss(model, grey, Rng.batch(0, 400)).mean()
    assert float(found.detach()) == pytest.approx(1.0, abs=0.03)  # logit(1/2) = 0
    assert recipe.notes(model) == {}


# ---- training ------------------------------------------------------------------------------------------------------


def run(recipe, data, place, **how):
    card = Card("mrcnf", "tiny", to_fields(recipe), seed=3)
    steps = list(train(recipe, recipe.source(data, "train", cache=place / "cache"), place, card=card, **how))
    return steps, framefill.load(place)


def test_scales_trained_apart_go_together(data, tmp_path):
    _, coarse = run(replace(SMALL, scale=1), data, tmp_path / "coarse")
    _, fine = run(replace(SMALL, scale=2), data, tmp_path / "fine")
    both = fine.together([coarse, fine])
    for mine, its in ((both.model.flows[1], coarse.model.flows[1]), (both.model.flows[0], fine.model.flows[0])):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), its.parameters(), strict=True))
    framefill.save(both, tmp_path / "both.safetensors")
    again = framefill.load(tmp_path / "both.safetensors")
    np.testing.assert_allclose(again.bits(LEVELS).bits, both.bits(LEVELS).bits, rtol=1e-6)
    assert again.card.fields["scale"] == 0
    with pytest.raises(BadInput, match="models of one scale each"):
        fine.together([both])
    with pytest.raises(BadInput, match="another layout"):
        fine.together([lively(replace(SMALL, scale=1, hidden=(5,)))])


def test_a_grown_run_keeps_the_coarse_scales_and_learns_the_finest(data, tmp_path):
    small = replace(SMALL, height=4, width=4)
    _, before = run(small, data, tmp_path / "small")
    grown = replace(SMALL, scales=3, grown=True, learning_rate=0.1, ema=0.0, warmup=0)
    with pytest.raises(BadInput, match="--from"):
        run(grown, data, tmp_path / "none")
    start = grown.after(to_fields(small)).taken(before.model.state_dict())
    _, after = run(grown, data, tmp_path / "grown", start=start)
    for old, new in zip(before.model.flows, after.model.flows[1:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
    fresh = grown.model().flows[0]
    torch.manual_seed(3)
    assert not all(
        torch.equal(a, b) for a, b in zip(fresh.parameters(), after.model.flows[0].parameters(), strict=True)
    )
    for other in (replace(small, blocks=2), replace(small, height=8)):
        with pytest.raises(BadInput, match="begins with one whose"):
            grown.after(to_fields(other))
    assert SMALL.taken({"flows.0.a": torch.ones(1)}).keys() == {"flows.0.a"}
    assert not SMALL.follows


def test_training_makes_pictures_likelier(data, tmp_path):
    recipe = replace(SMALL, scales=1, steps=20, learning_rate=0.02, batch_size=6, ema=0.5)
    steps, model = run(recipe, data, tmp_path / "run")
    assert steps[-1].loss < steps[0].loss - 0.1
    sheet = recipe.sheet(model, recipe.source(data, "val", cache=tmp_path / "cache"))
    assert sheet.width > 12 * 8


# ---- product -------------------------------------------------------------------------------------------------------


def test_a_flow_that_stands_still_has_the_likelihood_of_its_logit():
    """z = logit(u), u = m + (1 - 2 m)(x + r) / (2 r): bits = -log2[N(z) dz/dx w], in closed form."""
    recipe = replace(SMALL, scales=1)
    model = recipe.model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    found = recipe.product(model).bits(LEVELS, trace=Exact())
    rng = Rng([framefill.arrays.derive(0, i, 0) for i in range(4)])
    x = dequantise(torch.from_numpy(LEVELS).movedim(-1, 1).float() / 127.5 - 1, WIDTH, rng).double()
    r, m = 1 + 1 / 255, 0.05
    u = m + (1 - 2 * m) * (x + r) / (2 * r)
    z = (u / (1 - u)).log()
    each = -z.square() / 2 - math.log(2 * math.pi) / 2 + math.log((1 - 2 * m) / (2 * r)) - (u * (1 - u)).log()
    np.testing.assert_allclose(found.bits, -(each + math.log(WIDTH)).mean((1, 2, 3)) / math.log(2), atol=1e-5)
    assert (found.error == 0).all()


def test_the_reported_error_is_that_of_the_probes():
    product = replace(lively(replace(SMALL, height=4, width=4)), tolerance=1e-4)
    pictures = LEVELS[:, :4, :4]
    exact = product.bits(pictures, trace=Exact()).bits
    inside = []
    for seed in range(8):
        found = product.bits(pictures, probes=8, seed=seed)
        truth = product.bits(pictures, trace=Exact(), seed=seed).bits
        inside += list(np.abs(found.bits - truth) < 3 * found.error + 1e-4)
    assert np.mean(inside) > 0.85
    assert np.isnan(product.bits(pictures, probes=1).error).all()
    several = product.bits(pictures, draws=8, trace=Exact())
    assert (several.error > 0).all()
    assert (np.abs(several.bits - exact) < 6 * several.error + 0.05).all()
    nats = product.log_prob(pictures, trace=Exact())
    np.testing.assert_allclose(nats.bits, -exact * 16 * math.log(2), rtol=1e-12)


def test_alone_a_picture_does_not_feel_its_neighbours():
    alone = replace(lively(), alone=True, tolerance=1e-2)
    together = alone.bits(LEVELS).bits
    apart = np.concatenate([alone.bits(LEVELS[:1]).bits, alone.bits(LEVELS, batch=1).bits[1:]])
    np.testing.assert_allclose(together, apart, rtol=1e-5)


def test_pictures_of_another_kind_are_refused():
    product = lively()
    for wrong, said in (
        (LEVELS[:, :6], "8x6 pixels"),
        (LEVELS.astype(np.uint16), "8 bits"),
        (LEVELS[0], "frames|clip"),
    ):
        with pytest.raises(BadInput, match=said):
            product.bits(wrong)
    with pytest.raises(BadInput, match="draws must be at least 1"):
        product.bits(LEVELS, draws=0)
    for wrong in (lambda: product.generate(1, temperature=-1.0), lambda: product.upscale(LEVELS, temperature=-1.0)):
        with pytest.raises(BadInput, match="temperature"):
            wrong()
    with pytest.raises(BadInput, match="1 to 1 times"):
        product.upscale(LEVELS, 2)
    constant = np.full((1, 8, 8, 1), 255, np.uint8)
    assert np.isfinite(product.bits(constant).bits).all()
    assert product.fitted(np.zeros((20, 9, 3), np.uint8)).shape == (8, 8, 1)


@pytest.mark.parametrize("kind", ["unimodular", "haar"])
def test_finer_pictures_average_to_the_coarse_one_exactly(kind):
    product = lively(replace(SMALL, height=16, width=16, scales=3, kind=kind))
    coarse = torch.from_numpy(LEVELS).movedim(-1, 1).float() / 127.5 - 1
    for times in (1, 2):
        finer = product.finer(coarse, times, seed=2)
        assert finer.shape[-2:] == (8 << times, 8 << times)
        torch.testing.assert_close(average(finer, times), coarse, rtol=0, atol=1e-5)
        made = product.upscale(LEVELS, times, seed=2)
        n = 2**times
        sums = made.astype(int).reshape(4, 8, n, 8, n, 1).sum((2, 4))
        assert (sums == n * n * LEVELS.astype(int)).all()
        assert (averaged(made, times) == LEVELS).all()
    assert not np.array_equal(product.upscale(LEVELS, 1, seed=2), product.upscale(LEVELS, 1, seed=3))


def test_rounding_that_keeps_averages_moves_a_pixel_by_less_than_a_level_where_nothing_is_clipped():
    rng = torch.Generator().manual_seed(0)
    coarse = torch.randint(60, 200, (3, 5, 4, 2), generator=rng)
    noise = torch.randn(3, 2, 5, 2, 4, 2, generator=rng, dtype=torch.float64) * 9
    noise = noise - noise.mean((3, 5), keepdim=True)
    values = coarse.permute(0, 3, 1, 2)[:, :, :, None, :, None] + noise
    finer = values.reshape(3, 2, 10, 8) / 127.5 - 1
    made = averaging_to(coarse.numpy().astype(np.uint8), finer)
    wanted = values.reshape(3, 2, 10, 8).permute(0, 2, 3, 1).numpy()
    assert np.abs(made - wanted).max() < 1
    assert (averaged(made) == coarse.numpy()).all()


def test_rounding_reaches_every_average_whatever_it_is_given():
    coarse = np.array([0, 1, 127, 254, 255], np.uint8).reshape(1, 1, 5, 1)
    for value in (-3.0, 0.0, 0.3, 5.0):
        finer = torch.full((1, 1, 2, 10), value) + 3 * torch.randn(
            1, 1, 2, 10, generator=torch.Generator().manual_seed(1)
        )
        assert (averaging_to(coarse, finer).reshape(2, 5, 2).sum((0, 2)) == 4 * coarse.ravel().astype(int)).all()
    with pytest.raises(BadInput, match="equal blocks"):
        averaging_to(coarse, torch.zeros(1, 1, 3, 10))
    with pytest.raises(BadInput, match="no blocks of 2x2"):
        averaged(coarse)


def test_pictures_come_from_nothing_alone_or_among_many():
    product = lively()
    together = product.generate(3, seed=4).astype(int)
    assert together.shape == (3, 8, 8, 1)
    assert np.abs(together - product.generate(3, seed=4, batch=1)).max() <= 1
    assert np.abs(together - product.generate(3, seed=5)).max() > 20
    cold = product.generate(3, seed=4, temperature=0.0)
    assert (cold == cold[0]).all()


def test_the_command_line_trains_and_draws(data, tmp_path, call):
    words = ["--set", "channels=1", "--set", "height=8", "--set", "width=8", "--set", "blocks=1", "--set", "hidden=4"]
    code, _, err = call("train", "mrcnf", data, "-o", tmp_path / "run", "--steps", 1, *words, "--json")
    assert code == 0, err
    line = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(line)["evaluations"] > 0
    assert isinstance(framefill.load(tmp_path / "run"), FlowModel)
    made = tmp_path / "made"
    code, _, err = call("generate", "--model", tmp_path / "run", "-n", 2, "--temperature", 0, "-o", made, "--json")
    assert code == 0, err
    assert len(list(made.glob("*.png"))) == 2
    code, _, err = call("generate", "--model", tmp_path / "run", "--calls", 3, "-o", tmp_path / "other")
    assert (code, "takes --temperature" in err) == (2, True)
    code, _, err = call("generate", "--model", "digits", "--temperature", 1, "-o", tmp_path / "other.mp4")
    assert (code, "is for flows" in err) == (2, True)
