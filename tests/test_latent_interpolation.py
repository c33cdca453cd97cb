"""Seed 004's latent diffusion: its network to the parameter, its conditions in order, and none of its tints."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

import framefill
from framefill import checkpoint, recipes
from framefill.arrays import Rng
from framefill.checkpoint import Card
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.sample import DDPM, DPMSolver
from framefill.diffusion.schedule import ddpm
from framefill.diffusion.target import X
from framefill.errors import BadInput
from framefill.latents.neighbours import Middle, Neighbours
from framefill.recipes.autoencoder import Autoencoder
from framefill.recipes.latent_interpolation import PAPER, PRESETS, SMALL, LatentInterpolation, step_label
from framefill.recipes.recipe import from_fields, to_fields
from framefill.training import train
from framefill.video.between.middle import MiddleInterpolator
from framefill.video.clip import tensor
from moving import Moving

CODER = Autoencoder(height=32, width=32, codes=16, features=4, multipliers=(1, 2), blocks=1, attention=(False,) * 2,
                    groups=4, perceptual=0.0, adversary_start=0, judge_features=4, judge_layers=1)  # fmt: skip
TOY = replace(SMALL, height=32, width=32, features=8, multipliers=(1, 2), attention=(False, True), batch_size=2,
              warmup=1, steps=5, calls=3)  # fmt: skip


def toy(**fields) -> LatentInterpolation:
    return replace(TOY, **fields).after(to_fields(CODER))


def seeded(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def frames(seed: int = 0, size: int = 32) -> torch.Tensor:
    return tensor(Moving(size).triplet(seed).frames)[::2]


# ---- the network ---------------------------------------------------------------------------------------------------


def count(ins: int, outs: int, widths: tuple, attention: tuple, blocks: int) -> int:
    """The parameters of diffusers' UNet2DModel, added up layer by layer."""
    embedding = 4 * widths[0]

    def conv(i, o, k=3):
        return i * o * k * k + o

    def block(i, o):
        return 2 * i + conv(i, o) + embedding * o + o + 2 * o + conv(o, o) + (conv(i, o, 1) if i != o else 0)

    def attend(c):
        return 2 * c + 4 * (c * c + c)

    total = (widths[0] + 1) * embedding + (embedding + 1) * embedding + conv(ins, widths[0])
    skips, inputs = [widths[0]], widths[0]
    for i, (width, here) in enumerate(zip(widths, attention, strict=True)):
        for _ in range(blocks):
            total += block(inputs, width) + here * attend(width)
            inputs = width
            skips.append(width)
        if i < len(widths) - 1:
            total += conv(width, width)
            skips.append(width)
    total += 2 * block(inputs, inputs) + attend(inputs)
    for i, (width, here) in reversed(list(enumerate(zip(widths, attention, strict=True)))):
        for _ in range(blocks + 1):
            total += block(inputs + skips.pop(), width) + here * attend(width)
            inputs = width
        total += conv(width, width) * (i > 0)
    return total + 2 * inputs + conv(inputs, outs)


def test_the_network_is_theirs_to_the_parameter():
    with torch.device("meta"):
        network = PAPER.network()
    mine = sum(p.numel() for p in network.parameters())
    # 75,381,252 is also what diffusers 0.42.1 has for UNet2DModel(in_channels=12, out_channels=4, layers_per_block=2,
    # block_out_channels=(128, 256, 256, 512)) with attention in the last three levels down and the first three up
    assert mine == count(12, 4, (128, 256, 256, 512), (False, True, True, True), 2) == 75_381_252
    assert recipes.parameters(PAPER) == mine  # the autoencoder is not trained
    heads = {stage.attention.heads for stage in network.middle if stage.attention is not None}
    assert heads == {512 // 8}


def test_the_schedule_and_its_steps_are_theirs():
    model = Denoiser(nn.Identity(), ddpm(1000, 1e-4, 0.02), X())
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    t = torch.tensor([1, 500, 1000]).double() / 1000
    alpha, sigma = model.schedule(t)
    torch.testing.assert_close(alpha.square(), (1 - beta).cumprod(0)[[0, 499, 999]])
    assert step_label(t, alpha, sigma).tolist() == pytest.approx([0, 499, 999])


class Echo(nn.Module):
    """Answers the sum of channels that it sees, weighted by their number."""

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        self.seen, self.label = x, label
        return x[:, :4]


def test_the_latent_stands_between_its_neighbours_and_the_step_is_told():
    echo = Echo()
    denoiser = Denoiser(Neighbours(echo), ddpm(1000), X(), label=step_label)
    first, x, last = (torch.full((2, 4, 3, 3), float(n)) for n in (1, 2, 3))
    denoiser(x, torch.tensor([0.25, 1.0]), torch.cat([first, last], 1))
    for i, n in enumerate((1, 2, 3)):
        torch.testing.assert_close(echo.seen[:, 4 * i : 4 * i + 4], torch.full((2, 4, 3, 3), float(n)))
    assert echo.label.tolist() == pytest.approx([249, 999])


def test_the_condition_of_training_is_first_and_last():
    model = seeded(toy().model()).eval()
    triplets = toy().batch(Moving(32), [4, 5])
    z, cond = model.encoded(triplets)
    torch.testing.assert_close(z, model.autoencoder.encode(triplets[:, 1]))
    torch.testing.assert_close(cond[:, :4], model.autoencoder.encode(triplets[:, 0]))
    torch.testing.assert_close(cond[:, 4:], model.autoencoder.encode(triplets[:, 2]))


def test_pictures_enter_in_their_whole_range():
    triplets = toy().batch(Moving(32), range(4))
    assert float(triplets.min()) < -0.2  # not in [0, 1]
    assert triplets.shape == (4, 3, 3, 32, 32)


def test_only_middles_are_learnt():
    source = Moving(32, times=(0.25, 0.5, 0.75))
    triplets = toy().batch(source, range(8))
    assert torch.equal(triplets, toy().batch(source, range(8)))
    speeds = (
        (triplets[:, 1] - triplets[:, 0]).abs().mean((1, 2, 3)),
        (triplets[:, 2] - triplets[:, 1]).abs().mean((1, 2, 3)),
    )
    torch.testing.assert_close(*speeds, rtol=0.5, atol=0)  # a step at 1/4 or 3/4 would be three times the other
    with pytest.raises(BadInput, match="no frame in the middle"):
        toy().batch(Moving(32, times=(0.25,)), [0])


# ---- the product ---------------------------------------------------------------------------------------------------


class Pixels(nn.Module):
    """An autoencoder that changes nothing."""

    stride = 1

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return z


class Mean(nn.Module):
    """A perfect answer where the middle is the mean: the clean latent itself, times `scale`."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor, label: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        first, last = cond.chunk(2, 1)
        return self.scale * (first + last) / 2


def exact(scale: float = 1.0, **fields) -> MiddleInterpolator:
    return MiddleInterpolator(Middle(Pixels(), Denoiser(Mean(scale), ddpm(1000), X())), 1, **fields)


@pytest.mark.parametrize("sampler", [DDPM(20), DPMSolver(8)])
def test_no_tint_through_the_whole_way(sampler):
    known = frames()
    made = exact(sampler=sampler)(known, [0.5], Rng([0, 1]))
    truth = known.mean(0)
    assert float(((made - truth) * 127.5).abs().max()) < 0.05


@pytest.mark.parametrize("sampler", [DDPM(20), DPMSolver(8)])
def test_latents_are_never_clipped(sampler):
    model = exact(5.0, sampler=sampler)
    z = model._at(torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4), 32, 64, Rng([0]))
    torch.testing.assert_close(z, torch.full_like(z, 5.0), atol=1e-4, rtol=0)


def test_other_times_are_middles_of_middles():
    known = torch.stack([torch.full((3, 8, 8), -0.8), torch.full((3, 8, 8), 0.8)])
    times = [1 / 64, 0.25, 0.5, 0.625]
    made = exact(sampler=DPMSolver(4))(known, times, Rng([0]))[0, :, 0, 0, 0]
    torch.testing.assert_close(made, torch.tensor([1.6 * t - 0.8 for t in times]), atol=1e-4, rtol=0)
    for wrong in (0.3, 0.0, 1.0, 1 / 128):
        with pytest.raises(BadInput, match="multiple of 1/64"):
            exact()(known, [wrong], Rng([0]))


def test_samples_and_times_do_not_depend_on_each_other():
    model = toy().product(seeded(toy().model()).eval().requires_grad_(False))
    together = model(frames(), [0.25, 0.5], Rng([1, 2]))
    for i, seed in enumerate((1, 2)):
        torch.testing.assert_close(model(frames(), [0.5], Rng([seed]))[0, 0], together[i, 1], atol=1e-4, rtol=1e-3)
    assert float((together[0] - together[1]).abs().mean()) > 1e-3


def test_any_size_and_grey_frames():
    model = toy().product(seeded(toy().model()).eval().requires_grad_(False))
    assert model(frames(size=40)[:, :, :33], [0.5], Rng([1])).shape == (1, 1, 3, 33, 40)
    assert model(frames().mean(1, keepdim=True), [0.5], Rng([1])).shape == (1, 1, 1, 32, 32)
    with pytest.raises(BadInput, match=r"takes \(2, C, H, W\)"):
        model(torch.zeros(4, 3, 32, 32), [0.5], Rng([1]))


def test_v_may_be_asked_for_where_noise_would_be_divided_by_almost_nothing():
    for velocity, most in ((False, 100.0), (True, 1.1)):
        denoiser = toy(velocity=velocity).model().denoiser
        for parameter in denoiser.parameters():
            parameter.data.zero_()  # an answer of zero is an error of about 1 in both
        x, cond = torch.ones(1, 4, 4, 4), torch.zeros(1, 8, 4, 4)
        estimate = denoiser(x, torch.ones(1), cond)
        assert (float(estimate.abs().max()) > most) == (not velocity)


def test_calls_choose_the_sampler():
    assert PAPER.sampler == DDPM(1000)
    assert replace(PAPER, calls=8).sampler == DPMSolver(8)


# ---- training ------------------------------------------------------------------------------------------------------


def card(recipe: LatentInterpolation) -> Card:
    return Card("latent-interpolation", "tiny", to_fields(recipe), seed=3, about={"data": "moving"})


@pytest.mark.parametrize("adversary", [0.75, 0.0])
def test_training_begins_with_an_autoencoder_and_leaves_it_alone(adversary, tmp_path):
    coder = seeded(replace(CODER, adversary=adversary).model())
    tensors = dict(coder.state_dict())
    recipe = toy()
    start = recipe.taken(tensors)
    options = {"card": card(recipe), "save_every": 2, "start": start}
    list(train(recipe, Moving(32), tmp_path / "whole", **options))
    loop = train(recipe, Moving(32), tmp_path / "parts", **options)
    for progress in loop:
        if progress.step == 3:
            break
    loop.close()
    list(train(recipe, Moving(32), tmp_path / "parts", **options))
    one, other = (
        checkpoint.read(sorted((tmp_path / name / "checkpoints").glob("*.safetensors"))[-1])[0]
        for name in ("whole", "parts")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert start.keys() == {n for n, _ in recipe.model().named_parameters() if n.startswith("autoencoder.")}
    for name, value in start.items():
        assert torch.equal(one[f"model.{name}"], value), name
        assert torch.equal(one[f"average.{name}"], value), name
    model = framefill.load(tmp_path / "whole")
    assert isinstance(model, MiddleInterpolator)
    assert model.stride == 4
    assert isinstance(recipe.sheet(model, Moving(32)), Image.Image)


def test_it_must_begin_with_an_autoencoder(tmp_path):
    with pytest.raises(BadInput, match="--from"):
        list(train(toy(), Moving(32), tmp_path, card=card(toy())))
    with pytest.raises(BadInput, match="has no codes"):
        TOY.after({"features": 3})
    assert toy().coder_multipliers == (1, 2)
    assert toy().features == TOY.features  # the network's own


def test_the_command_line_takes_the_run_to_begin_from(call, tmp_path):
    coder = tmp_path / "coder.safetensors"
    framefill.save(CODER.product(CODER.model(), card=Card("autoencoder", "tiny", to_fields(CODER))), coder)
    words = ("train", "latent-interpolation", tmp_path, "-o", tmp_path / "run", "--dry-run")
    code, _, err = call(*words)
    assert code == 2
    assert "name its folder with --from" in err  # before the folder, which holds no clips, is looked at
    assert not (tmp_path / "run").exists()
    code, text, _ = call(*words, "--from", coder)
    assert code == 0
    assert json.loads(text)["parameters"] == recipes.parameters(SMALL.after(to_fields(CODER)))
    code, _, err = call("train", "latent-repair", tmp_path, "-o", tmp_path / "run", "--from", coder, "--dry-run")
    assert code == 2
    assert "give one of the recipe latent-repair with --from" in err


def test_presets_travel():
    for name, (recipe, _, _) in PRESETS.items():
        assert from_fields(LatentInterpolation, json.loads(json.dumps(to_fields(recipe)))) == recipe, name
