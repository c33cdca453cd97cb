"""FDM: which frames see which, the sets training draws, the paper's protocol, and the sizes of its networks."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

import framefill
from framefill.arrays import Rng
from framefill.checkpoint import Card
from framefill.diffusion.complete import Placement, Window
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.sample import DDPM
from framefill.diffusion.schedule import ddpm
from framefill.diffusion.target import X
from framefill.errors import BadInput
from framefill.nets.frames import FrameUNet
from framefill.recipes import video_diffusion
from framefill.recipes.recipe import from_fields, to_fields
from framefill.recipes.video_diffusion import TINY, VideoDiffusion, step_label
from framefill.training import train
from framefill.video.frames import Framewise, condition, frame_by_frame, placed, training_sets, without_class
from framefill.video.images.films import FrameDiffusion
from framefill.video.images.stills import Stills

SMALL = replace(TINY, channels=1, height=8, width=8, features=8, multipliers=(1, 2), attention=(False, True), heads=2,
                patch=1, calls=4, batch_size=4, warmup=2, steps=3)  # fmt: skip


def stirred(network):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.double().eval()


def small(**more) -> FrameUNet:
    return stirred(FrameUNet(2, 1, width=8, multipliers=(1, 2), blocks=1, attention=(True, True), heads=2, **more))


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def stills(count=12, classes=0):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % max(classes, 1)
    pixels = rng.integers(0, 40, (count, 8, 8, 1)) + 200 * labels[:, None, None, None]
    return Stills(pixels.astype(np.uint8), False, labels if classes else None, ("dark", "bright")[:classes])


# ---- the network ---------------------------------------------------------------------------------------------------


def test_the_networks_have_the_sizes_that_the_authors_programs_have():
    """49.07 and 39.63 million parameters at 32 pixels, 115.99 and 92.03 at 64: facts, section 0.10."""
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in video_diffusion.PRESETS[name][0].network().parameters()) / 1e6
            for name in (
                "cifar10-high-order-4",
                "cifar10-1",
                "celeba-first-order-8",
                "celeba-1",
                "cifar10-1-wide",
                "celeba-1-wide",
            )
        }
    assert list(sizes.values()) == pytest.approx([49.07, 39.63, 115.99, 92.03, 50.14, 116.45], abs=0.006)


def test_frames_that_are_not_there_change_nothing_and_the_others_do():
    network, label = small(), torch.tensor([300.0, 300.0])
    x, numbers = random(2, 3, 2, 8, 8), torch.tensor([[0, 1, 2], [0, 1, 2]])
    there = torch.tensor([[True, True, False], [True, True, True]])
    with torch.no_grad():
        one = network(x, label, numbers, there)
        other = x.clone()
        other[:, 2] = random(2, 2, 8, 8, seed=5)
        two = network(other, label, numbers, there)
    assert torch.equal(one[0, :2], two[0, :2])
    assert float((one[1, :2] - two[1, :2]).abs().amax((1, 2, 3)).min()) > 1e-6
    with torch.no_grad():
        alone = network(x[:1, :2], label[:1], numbers[:1, :2], there[:1, :2])
    assert torch.allclose(alone[0], one[0, :2], atol=1e-12)


class _Products(TorchDispatchMode):
    """Remembers the operands of all batched matrix products."""

    def __init__(self):
        super().__init__()
        self.operands = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.bmm.default:
            self.operands += args
        return func(*args, **(kwargs or {}))


def test_no_product_has_a_copy_of_its_weights_for_every_place():
    network = small().requires_grad_(False)
    with _Products() as products:
        network(random(2, 3, 2, 8, 8), torch.full((2,), 500.0), torch.arange(3.0).expand(2, -1), torch.ones(2, 3) > 0)
    assert products.operands
    # an expanded operand is copied as often as it is shown, inside the product
    assert not [x.shape for x in products.operands if len(x) > 1 and x.stride(0) == 0]


def test_only_distances_count_and_the_order_of_a_set_does_not():
    network, label, there = small(), torch.tensor([300.0]), torch.ones(1, 3, dtype=torch.bool)
    x, numbers = random(1, 3, 2, 8, 8), torch.tensor([[0, 1, 5]])
    with torch.no_grad():
        made = network(x, label, numbers, there)
        assert torch.allclose(network(x, label, numbers + 7, there), made, atol=1e-12)
        turned = network(x.flip(1), label, numbers.flip(1), there).flip(1)
        assert torch.allclose(turned, made, atol=1e-12)
        assert not torch.allclose(network(x, label, numbers.flip(1), there), made, atol=1e-6)
        assert not torch.allclose(network(x, label, torch.tensor([[0, 1, 2]]), there), made, atol=1e-6)


def test_observed_frames_are_seen_as_they_are_whatever_the_noise():
    network = Framewise(small(), single=False)
    frames, known = random(1, 3, 1, 8, 8), torch.tensor([[True, True, False]])
    cond = condition(frames, placed(known), torch.zeros(1))
    x = random(1, 3, 1, 8, 8, seed=1)
    other = x.clone()
    other[:, :2] = 9.0
    label = torch.tensor([500.0])
    with torch.no_grad():
        assert torch.equal(network(x, label, cond), network(other, label, cond))
        changed = condition(-frames, placed(known), torch.zeros(1))
        assert not torch.allclose(network(x, label, changed)[:, 2], network(x, label, cond)[:, 2], atol=1e-6)
        hidden = frames.clone()
        hidden[:, 2] = 5.0  # the truth of what is to be drawn
        assert torch.equal(condition(hidden, placed(known), torch.zeros(1)), cond)


def test_a_width_that_its_heads_do_not_divide_is_refused():
    with pytest.raises(BadInput, match="multiple of 3 heads"):
        FrameUNet(2, 1, width=8, heads=3)


# ---- the sets of training ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "most"), [(4, 3), (8, 5), (18, 6), (1, 1), (5, 5)])
def test_sets_hold_different_frames_at_least_one_of_them_latent(frames, most):
    sets = training_sets(Rng(range(400)), frames, most)
    seen = set()
    for numbers, observed, there in zip(sets.numbers, sets.observed, sets.there, strict=True):
        chosen = numbers[there].tolist()
        assert chosen == sorted(set(chosen))
        assert 0 <= chosen[0] <= chosen[-1] < frames
        assert not (observed & ~there).any()
        assert (there & ~observed).any()
        seen |= set(chosen)
    assert seen == set(range(frames))
    assert torch.equal(sets.numbers[7], training_sets(Rng([7]), frames, most).numbers[0])
    if most > 1:
        share = float(sets.observed.sum() / sets.there.sum())
        assert 0.1 < share < 0.5
        # the set that sampling asks for does occur: all before the last, which is drawn
        wanted = [True] * (most - 1) + [False]
        assert any(o.tolist() == wanted and bool(t.all()) for o, t in zip(sets.observed, sets.there, strict=True))


def test_the_frames_of_a_set_are_those_of_its_numbers():
    clips = torch.arange(2 * 6).view(2, 6, 1, 1, 1).float()
    sets = training_sets(Rng([1, 2]), 6, 3)
    assert torch.equal(sets.of(clips)[:, :, 0, 0, 0].long(), sets.numbers + torch.tensor([[0], [6]]))
    with pytest.raises(BadInput, match="sets of up to 7 of 6"):
        training_sets(Rng([1]), 6, 7)


# ---- sampling ------------------------------------------------------------------------------------------------------


def test_the_papers_protocol_costs_3000_and_5000_steps():
    """{0, 1}, 2, 3 for 4 frames; {0..3}, 4, .., 7 for 8: facts, section 2.3."""
    window = Window(0, 3, 0)
    places = list(frame_by_frame(window, [False] * 4))
    assert [p.frames(window) for p in places] == [[-1, 0, 1], [0, 1, 2], [1, 2, 3]]
    assert list(frame_by_frame(Window(0, 1, 0), [False])) == [Placement(0)]
    for name, calls in (("cifar10-high-order-4", 3000), ("cifar10-high-order-8", 5000), ("cifar10-1-4000", 4000)):
        recipe = video_diffusion.PRESETS[name][0]
        with torch.device("meta"):
            assert recipe.product(recipe.model()).calls == calls
    for wrong in ([True, False, False], [False]):
        with pytest.raises(BadInput, match="unknown frames in windows"):
            list(frame_by_frame(window, wrong))


class Chain(torch.nn.Module):
    """Says that a frame is the one before it, and the first ones grey."""

    def forward(self, x, label, cond):
        self.told.append(cond[:, :, 1:, 0, 0].clone())
        return torch.where(cond[:, :, 1:2].any(), cond[:, 1:2, :1], 0.5).expand_as(x)


def test_every_frame_is_drawn_given_those_before_it():
    chain = Chain()
    chain.told = []
    product = FrameDiffusion(Denoiser(chain, ddpm(), X()), 5, 2, 1, 2, 2, sampler=DDPM(2))
    films = next(product.films(3))
    assert (films == films[:1, :1]).all()
    assert films.max() - 191 <= 1
    told = chain.told[::2]
    assert len(told) == 4
    assert told[0][0, :, 0].tolist() == [0, 0, 0]  # nothing is observed
    assert told[0][0, :, 2].tolist() == [0, 1, 1]  # and the first place is empty
    for later in told[1:]:
        assert later[0, :, 0].tolist() == [1, 1, 0]
        assert later[0, :, 2].tolist() == [1, 1, 1]


def test_labels_withheld_are_the_last_class_everywhere():
    cond = condition(random(2, 3, 1, 2, 2), placed(torch.zeros(2, 3, dtype=torch.bool)), torch.tensor([0.0, 1.0]))
    null = without_class(2, cond)
    assert torch.equal(null[:, :, :-1], cond[:, :, :-1])
    assert (null[:, :, -1] == 2).all()
    assert cond[1, :, -1].unique().tolist() == [1]


def test_the_label_is_the_published_one_for_every_table():
    t = torch.tensor([1 / 1000, 1.0], dtype=torch.float64)
    assert step_label(1000, t, t, t).tolist() == pytest.approx([0, 999])
    assert step_label(4000, torch.tensor([1 / 4000, 1.0]), t, t).tolist() == pytest.approx([0, 999.75], abs=1e-3)
    short, long = (replace(SMALL, table=n).model().schedule(torch.tensor([1.0]))[0] for n in (1000, 4000))
    assert math.log(float(long)) == pytest.approx(math.log(float(short)), rel=0.01)  # as much noise in all


def test_presets_travel_and_impossible_contexts_are_refused():
    for name, (recipe, _, _) in video_diffusion.PRESETS.items():
        assert from_fields(VideoDiffusion, json.loads(json.dumps(to_fields(recipe)))) == recipe, name
    assert video_diffusion.PRESETS["cifar10-first-order-8"][0].context == 4
    for wrong in ({"context": 0}, {"context": 4}, {"pseudo": "still"}):
        with pytest.raises(BadInput, match="a context of"):
            replace(SMALL, **wrong)
    for wrong in ({"table": 0}, {"calls": 0}, {"withheld": 1.0}, {"withheld": -0.1}):
        with pytest.raises(BadInput, match=r"a share in \[0, 1\)"):
            replace(SMALL, **wrong)
    for wrong, says in (({"height": 9}, "multiples of"), ({"patch": 5}, "multiples of"), ({"dropout": 1.5}, "dropout")):
        with pytest.raises(BadInput, match=says):
            replace(SMALL, **wrong).model()


# ---- training ------------------------------------------------------------------------------------------------------


def learned(recipe, source, out):
    card = Card("video-diffusion", "tiny", to_fields(recipe), seed=1, about=recipe.about(source))
    list(train(recipe, source, out, card=card))
    return framefill.load(out)


@pytest.mark.parametrize(
    "changes", [{}, {"pseudo": "still", "context": 0}, {"pseudo": "blocks-5", "context": 3}], ids=str
)
def test_a_trained_model_draws_the_same_pictures_alone_and_together(tmp_path, changes):
    recipe = replace(SMALL, **changes)
    product = learned(recipe, stills(), tmp_path)
    assert isinstance(product, FrameDiffusion)
    films = next(product.films(3, seed=2))
    assert films.shape == (3, recipe.frames, 8, 8, 1)
    alone = product.generate(3, seed=2, batch=1)
    assert np.abs(alone.astype(int) - films[:, -1]).max() <= 1
    assert isinstance(recipe.sheet(product, stills()), Image.Image)
    for wrong in (lambda: product.generate(0), lambda: product.generate(1, batch=0)):
        with pytest.raises(BadInput, match="at least 1 of each"):
            wrong()
    with pytest.raises(BadInput, match="a model of 0 classes"):
        product.generate(1, label=0)


@pytest.mark.parametrize("name", [name for name in video_diffusion.PRESETS if name.startswith("tiny")])
def test_presets_for_a_cpu_can_be_trained(name):
    """Every one makes a step: a preset whose size alone was looked at may fit no network."""
    recipe = video_diffusion.PRESETS[name][0]
    pixels = np.random.default_rng(0).integers(0, 256, (2, recipe.height, recipe.width, recipe.channels))
    source = Stills(pixels.astype(np.uint8), False, np.arange(2) if recipe.classes else None)
    batch = recipe.batch(source, [0, 1])
    assert bool(recipe.loss(recipe.model(), batch, Rng.batch(0, 2)).isfinite().all())


def test_only_latent_frames_count_in_the_loss():
    recipe = replace(SMALL, pseudo="blocks-4", context=3)
    batch = recipe.batch(stills(), range(6))
    model = recipe.model()  # fresh: eps_hat = 0, so the loss is the mean of eps^2 over latent frames
    assert recipe.loss(model, batch, Rng(range(6))).detach().numpy() == pytest.approx(1, abs=0.5)
    sets = training_sets(Rng(range(6)), 4, 4)
    assert len(set(sets.latent.sum(1).tolist())) > 1


def test_training_withholds_the_class_of_a_share_and_tells_the_others_rightly():
    recipe = replace(SMALL, pseudo="still", context=0, classes=2, withheld=0.3)
    batch, model, told = recipe.batch(stills(20, classes=2), range(400)), recipe.model(), []
    model.network.network.register_forward_pre_hook(lambda _, args: told.append(args[-1]))
    recipe.loss(model, batch, Rng(range(400)))
    withheld = told[0] == 2
    assert float(withheld.double().mean()) == pytest.approx(0.3, abs=0.07)  # 3 deviations of 400
    labels = recipe.unpacked(batch)[1]
    assert torch.equal(told[0][~withheld], labels[~withheld])
    assert set(labels[withheld].tolist()) == {0, 1}


@pytest.mark.slow
def test_classes_are_learnt_and_the_command_line_draws_them(tmp_path, call):
    recipe = replace(SMALL, pseudo="still", context=0, classes=2, steps=200, batch_size=16, learning_rate=5e-3,
                     multipliers=(1,), attention=(False,), table=100)  # fmt: skip
    product = learned(recipe, stills(20, classes=2), tmp_path / "run")
    quick = replace(product, sampler=DDPM(10))
    means = [quick.generate(12, label=label).mean((1, 2, 3)) for label in (0, 1)]
    assert np.median(means[0]) + 60 < np.median(means[1])
    assert not np.array_equal(replace(quick, guidance=2.0).generate(2, label=1), quick.generate(2, label=1))
    words = ("generate", "-m", tmp_path / "run", "-n", 4, "--calls", 3, "--label", "1", "--guidance", 2)
    code, _, err = call(*words, "-o", tmp_path / "sheet.png")
    assert code == 0, err
    assert Image.open(tmp_path / "sheet.png").height > 60
