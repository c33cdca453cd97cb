"""The recipe of autoencoders: resumed to the bit with its adversary, logged, loaded, and able to learn by heart."""

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
from framefill.errors import BadInput
from framefill.latents.adversarial import Adversarial
from framefill.latents.autoencoder import Layout
from framefill.latents.distance import absolute, means, squared, weighted
from framefill.latents.kl import KLVAE
from framefill.latents.pictures import PictureCoder
from framefill.latents.vqgan import VQGAN
from framefill.nets.patches import PatchDiscriminator
from framefill.recipes.autoencoder import PRESETS, TINY, Autoencoder
from framefill.recipes.recipe import from_fields, override, to_fields
from framefill.training import Trainer, jumping, train

SMALL = replace(TINY, height=16, width=16, codes=16, features=8, multipliers=(1, 2), attention=(False, True), groups=4,
                perceptual=0.0, adversary_start=3, judge_features=4, judge_layers=1, batch_size=4, warmup=2, steps=7,
                patience=2)  # fmt: skip


class Drawn:
    """Pictures of noise, a function of their seed."""

    def sample(self, seed: int, *, length: int = 1, strides: tuple[int, ...] = (1,)) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)


def card(recipe: Autoencoder) -> Card:
    return Card("autoencoder", "tiny", to_fields(recipe), seed=3, about={"data": "noise"})


def final(out) -> dict[str, torch.Tensor]:
    return checkpoint.read(sorted((out / "checkpoints").glob("*.safetensors"))[-1])[0]


def test_codes_that_are_moved_are_not_averaged():
    recipe = replace(SMALL, patience=1, learning_rate=0.0)  # so that whatever changes in the codebook was moved
    trainer = Trainer(recipe, card(recipe), device="cpu")
    places = []
    for step in range(6):
        trainer.update(torch.rand(4, 3, 16, 16) * 2 - 1, 7, 1)
        places.append(trainer.named["autoencoder.quantiser.codebook"].detach().clone())
        assert torch.equal(trainer.average["autoencoder.quantiser.codebook"], places[-1]), step
        assert torch.equal(trainer.average["autoencoder.quantiser.idle"], trainer.named["autoencoder.quantiser.idle"])
    assert not torch.equal(places[-1], places[-2])


def test_all_else_is_averaged():
    recipe = replace(SMALL, learning_rate=1e-2, warmup=0)
    trainer = Trainer(recipe, card(recipe), device="cpu")
    assert jumping(trainer.model) == ["autoencoder.quantiser.codebook", "autoencoder.quantiser.idle"]
    assert jumping(trainer.model.autoencoder.quantiser) == ["codebook", "idle"]
    assert jumping(replace(SMALL, codes=0).model()) == []
    trainer.update(torch.rand(4, 3, 16, 16) * 2 - 1, 7, 1)
    head = "autoencoder.decoder.head.weight"
    assert not torch.equal(trainer.average[head], trainer.named[head])


@pytest.mark.parametrize("codes", [16, 0])
def test_a_continued_run_is_the_uninterrupted_run(tmp_path, codes):
    recipe = replace(SMALL, codes=codes)
    list(train(recipe, Drawn(), tmp_path / "whole", card=card(recipe), save_every=2))
    loop = train(recipe, Drawn(), tmp_path / "parts", card=card(recipe), save_every=2)
    for progress in loop:
        if progress.step == 3:  # a step past the checkpoint; the adversary has not begun yet
            break
    loop.close()
    list(train(recipe, Drawn(), tmp_path / "parts", card=card(recipe), save_every=2))
    one, other = final(tmp_path / "whole"), final(tmp_path / "parts")
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert float(one["model.kilosteps"]) == 7 / 1024
    assert float(one["adam.exp_avg_sq.discriminator.convs.0.weight"].abs().sum()) > 0
    assert not torch.equal(one["model.autoencoder.moments"][1], torch.ones(4))


def test_the_log_has_the_perplexity_and_the_adversary(tmp_path):
    list(train(SMALL, Drawn(), tmp_path, card=card(SMALL), log_every=1))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 7
    assert all(1 <= line["perplexity"] <= 16 and 0 < line["codes_in_use"] <= 1 for line in lines)
    assert lines[2]["adaptive_weight"] == 0
    assert all(line["adaptive_weight"] > 0 and line["discriminator_loss"] > 0 for line in lines[3:])


def test_other_recipes_log_what_they_did(small, card, tmp_path):
    assert Trainer(small, card, device="cpu").notes() == {}


def test_a_note_that_is_no_number_is_not_logged():
    class Odd(Autoencoder):
        def notes(self, model):
            return {"perplexity": 3.0, "kl": float("nan")}

    recipe = Odd(**to_fields(SMALL))
    assert Trainer(recipe, card(recipe), device="cpu").notes() == {"perplexity": 3.0}


@pytest.mark.parametrize("codes", [16, 0])
@pytest.mark.parametrize("adversary", [0.75, 0.0])
def test_a_trained_model_loads_and_codes_pictures(tmp_path, codes, adversary):
    recipe = replace(SMALL, codes=codes, adversary=adversary, steps=2)
    list(train(recipe, Drawn(), tmp_path, card=card(recipe)))
    coder = framefill.load(tmp_path)
    assert isinstance(coder, PictureCoder)
    assert isinstance(coder.autoencoder, VQGAN if codes else KLVAE)
    assert isinstance(coder.model, Adversarial) == bool(adversary)
    pictures = Drawn().sample(1)
    assert coder.reconstruct(pictures).shape == pictures.shape
    assert isinstance(recipe.sheet(coder, Drawn()), Image.Image)
    state = checkpoint.read(tmp_path / "model.safetensors")[0]
    name = "autoencoder.moments" if adversary else "moments"
    assert torch.equal(coder.autoencoder.moments, state[name])
    checkpoint.save(coder, tmp_path / "half.safetensors", half=True)
    back = framefill.load(tmp_path / "half.safetensors").reconstruct(pictures)
    assert np.abs(back.astype(int) - coder.reconstruct(pictures)).mean() < 8  # a code may change


def test_presets_are_the_published_ones():
    rows = {row["preset"]: row for row in recipes.rows() if row["recipe"] == "autoencoder"}
    assert rows.keys() == PRESETS.keys()
    judge = {layers: sum(p.numel() for p in PatchDiscriminator(3, layers=layers).parameters()) for layers in (2, 3)}
    assert rows["vq-f8"]["parameters"] == 67_717_295 + judge[2]
    assert rows["kl-f8"]["parameters"] == 83_653_863 + judge[3]
    assert rows["taming-f16"]["parameters"] == 76_073_859 + judge[3]
    for name, (recipe, _, _) in PRESETS.items():
        assert from_fields(Autoencoder, json.loads(json.dumps(to_fields(recipe)))) == recipe, name
    assert override(TINY, ["codes=0", "lpips=my.pt"]) == replace(TINY, codes=0, lpips="my.pt")


def test_the_distance_is_absolute_with_or_without_a_network(tmp_path, monkeypatch):
    assert SMALL.distance() is absolute

    class Apart(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a - b).square().mean((1, 2, 3))

    torch.jit.script(Apart()).save(str(tmp_path / "lpips.pt"))
    distance = replace(SMALL, perceptual=2.0, lpips=str(tmp_path / "lpips.pt")).distance()
    a, b = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
    assert float(distance(a, b)) == pytest.approx(0.5 + 2 * 0.25, rel=1e-5)
    with pytest.raises(BadInput, match="not a TorchScript file"):
        replace(SMALL, perceptual=1.0, lpips=str(tmp_path / "none.pt")).distance()


def test_a_tint_counts_in_full_and_a_texture_does_not():
    rng = np.random.default_rng(0)
    truth = torch.tensor(rng.uniform(-0.5, 0.5, (2, 3, 32, 48)), dtype=torch.float32)
    tint = torch.tensor([0.1, -0.2, 0.0])[:, None, None]
    stripes = 0.2 * torch.tensor([1.0, -1.0]).repeat(24)
    assert torch.allclose(means(truth + tint, truth), torch.full((2,), 0.1), atol=1e-6)
    assert torch.allclose(means(truth + tint + stripes, truth), torch.full((2,), 0.1), atol=1e-6)
    assert float(absolute(truth + stripes, truth)[0]) == pytest.approx(0.2, abs=1e-6)
    halves = torch.where(torch.arange(48) < 16, 0.3, -0.15)  # two tints that the whole picture would forgive
    assert torch.allclose(means(truth + halves, truth), torch.full((2,), 0.2), atol=1e-6)
    small = truth[..., :8, :8]
    assert torch.allclose(means(small + tint, small), torch.full((2,), 0.1), atol=1e-6)
    recipe = replace(SMALL, colour=2.0)
    assert float(recipe.distance()(truth + tint, truth)[0]) == pytest.approx(0.1 + 2 * 0.1, abs=1e-6)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(BadInput, match="the data has 3x16x16"):
        replace(SMALL, height=32).batch(Drawn(), [1])


# ---- learning ------------------------------------------------------------------------------------------------------


def figures() -> torch.Tensor:
    """Eight pictures (8, 3, 32, 32): a disc and a bar before a gradient, all of random colours and places."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 32), indexing="ij")
    made = []
    for _ in range(8):
        back, disc, bar = rng.uniform(-0.8, 0.8, (3, 3, 1, 1))
        a, b, c, d = rng.uniform(-1, 1, 4)
        picture = back + 0.4 * disc * x + 0.4 * bar * y
        picture = np.where((x - 0.6 * a) ** 2 + (y - 0.6 * b) ** 2 < 0.12, disc, picture)
        made.append(np.where(np.abs(c * x + d * y) < 0.1, bar, picture))
    return torch.tensor(np.clip(made, -1, 1), dtype=torch.float32)


@pytest.mark.slow
def test_a_small_vqgan_learns_eight_pictures_by_heart_without_a_tint():
    torch.manual_seed(0)
    layout = Layout(width=8, multipliers=(1, 2, 2), blocks=1, attention=(False,) * 3, groups=8)
    model, x, steps = VQGAN(layout, codes=64, patience=20).train(), figures(), 260
    adam = torch.optim.Adam(model.parameters(), fused=True)
    for step in range(steps):
        adam.param_groups[0]["lr"] = 1e-2 * min(1, (step + 1) / 20, 2 * (steps - step) / steps)
        model.quantiser.patience = 20 if step < 0.7 * steps else 0
        adam.zero_grad()
        model.loss(x, Rng.batch(step, 8), weighted((1.0, absolute), (1.0, squared))).mean().backward()
        adam.step()
    model.eval().requires_grad_(False)
    model.measure([x])
    z = model.encode(x)
    back = ((model.decode(z).clamp(-1, 1) + 1) * 127.5).round()
    levels = (x + 1) * 127.5
    psnr = 10 * torch.log10(255**2 / (back - levels).square().mean())
    assert float(psnr) > 24
    assert len(model.indices(z).unique()) > 0.9 * 64
    assert float((back - levels).mean((0, 2, 3)).abs().max()) < 0.5
    assert float((model.decode(0 * z) - model.decode(z)).abs().mean()) > 0.1
