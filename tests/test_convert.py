"""The authors' checkpoints: the same outputs after conversion, nothing run, nothing left out, nothing made up."""

import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import framefill
from framefill import cli, recipes
from framefill.convert import LICENCE, _renamed, convert_mcvd
from framefill.errors import BadInput, CheckpointError
from framefill.recipes import Preset
from framefill.recipes.mcvd import PRESETS, SMMNIST
from published import Published, save

PARITY = json.loads((Path(__file__).parent / "parity" / "mcvd.json").read_text())
SMALL = replace(
    SMMNIST, channels=3, height=16, width=16, past=2, current=2, features=8, multipliers=(1, 2), blocks=1,
    attention=(False, True), head_width=8,
)  # fmt: skip
RECIPES = {
    "concat": SMALL,
    "spatin": replace(SMALL, spatin=12),
    "past-future": replace(SMALL, future=1, drop_past=0.5, drop_future=0.5),
    "deep": replace(SMALL, channels=1, multipliers=(1, 1, 3), blocks=2, attention=(False, True, True), head_width=4),
}


def theirs_for(recipe):
    torch.manual_seed(5)
    return Published(
        recipe.channels * recipe.current, recipe.condition_channels, width=recipe.features,
        multipliers=recipe.multipliers, blocks=recipe.blocks, attention=recipe.attention, head=recipe.head_width,
        spade=recipe.spatin,
    ).eval()  # fmt: skip


@pytest.fixture(params=RECIPES)
def recipe(request, monkeypatch):
    return with_preset(monkeypatch, RECIPES[request.param])


@pytest.fixture
def small(monkeypatch):
    return with_preset(monkeypatch, SMALL)


def with_preset(monkeypatch, recipe):
    monkeypatch.setitem(recipes.PRESETS["mcvd"], "small", Preset(recipe, "nothing"))
    return recipe


@pytest.mark.parametrize("kind", ["concat", "spatin"])
def test_the_opposite_is_the_published_network(kind):
    """Its names and shapes are the recorded ones, in order, and so are its outputs."""
    facts = PARITY["tiny_unets"]["value"][kind]
    spade = 12 if kind == "spatin" else 0
    network = Published(2, 3, width=8, multipliers=(1, 2), blocks=1, attention=(0, 1), head=8, spade=spade).double()
    named = list(network.named_parameters())
    assert [[name, list(p.shape)] for name, p in named] == facts["named_params"]
    with torch.no_grad():
        for i, (name, p) in enumerate(named):
            fill = 0.15 * torch.sin(12.9898 * torch.arange(p.numel(), dtype=torch.float64) + 0.5 * i)
            is_scale = "GroupNorm" in name and name.endswith("weight")
            p.copy_((fill + is_scale).reshape(p.shape))
        x = torch.sin(0.05 * torch.arange(2 * 2 * 256, dtype=torch.float64)).reshape(2, 2, 16, 16)
        cond = torch.cos(0.03 * torch.arange(2 * 3 * 256, dtype=torch.float64)).reshape(2, 3, 16, 16)
        out = network(x, torch.tensor([10, 900]), cond)
    assert out[0, 0, 0, :4].tolist() == pytest.approx(facts["out[0,0,0,:4]"], abs=1e-6)
    assert out[1, 1, 7, 8:12].tolist() == pytest.approx(facts["out[1,1,7,8:12]"], abs=1e-6)
    assert out.std().item() == pytest.approx(facts["out_std"], abs=1e-6)


def test_a_converted_model_answers_as_the_published_one(recipe, tmp_path):
    network = theirs_for(recipe)
    save(network, tmp_path / "checkpoint_700000.pt")
    convert_mcvd(tmp_path / "checkpoint_700000.pt", "small", tmp_path / "ours.safetensors")
    product = framefill.load(tmp_path / "ours.safetensors")
    frames = torch.randn(2, recipe.window.length, recipe.channels, 16, 16)
    known = torch.ones(2, recipe.window.length, dtype=torch.bool)
    cond, _ = recipe.condition(frames, known)
    x, label = frames[:, recipe.window.drawn], torch.tensor([10, 990])
    with torch.no_grad():
        expected = network(x.flatten(1, 2), label, cond)
        answer = product.model.network(x, label.float(), cond)
        torch.testing.assert_close(answer.flatten(1, 2), expected, atol=1e-5, rtol=1e-5)
        assert expected.std() > 0.05
        # The clean estimate: their label counts from most noise, so t = 1 - label / 1000.
        alpha = math.sqrt(network.alphas[10].item())
        clean = (x.flatten(1, 2)[:1] - math.sqrt(1 - alpha**2) * expected[:1]) / alpha
        estimate = product.model(x[:1], torch.tensor([0.99], dtype=torch.float64), cond[:1]).flatten(1, 2)
        torch.testing.assert_close(estimate, clean, atol=1e-3, rtol=1e-3)


def test_the_card_says_where_it_comes_from(small, tmp_path):
    save(theirs_for(small), tmp_path / "checkpoint_9.pt", step=9)
    card = convert_mcvd(tmp_path / "checkpoint_9.pt", "small", tmp_path / "ours.safetensors")
    kept = framefill.load(tmp_path / "ours.safetensors").card
    assert json.dumps(asdict(kept)) == json.dumps(asdict(card))
    assert (card.recipe, card.preset, card.step, card.fields["published"]) == ("mcvd", "small", 9, True)
    assert card.about["licence"] == LICENCE
    assert "checkpoint_9.pt" in card.about["source"]


def refused(path, tmp_path, words, preset="small"):
    out = tmp_path / "ours.safetensors"
    with pytest.raises(CheckpointError, match=words) as caught:
        convert_mcvd(path, preset, out)
    assert "\n" not in str(caught.value)
    assert not out.exists()


class Trap:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", [0, 1, 2, 4])
def test_nothing_in_a_checkpoint_is_run(small, tmp_path, where, zipped):
    """Not in the weights, nor in the parts that are not used."""
    sprung = tmp_path / "sprung"
    save(theirs_for(small), tmp_path / "good.pt")
    states = torch.load(tmp_path / "good.pt", weights_only=True)
    states[where] = Trap(f"touch {sprung}")
    torch.save(states, tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
    refused(tmp_path / "bad.pt", tmp_path, r"it asks for \w+.system")
    assert not sprung.exists()
    states[where] = {"unet.all_modules.0.weight": Trap(f"touch {sprung}")}
    torch.save(states, tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
    refused(tmp_path / "bad.pt", tmp_path, r"it asks for \w+.system")
    assert not sprung.exists()
    torch.load(tmp_path / "bad.pt", weights_only=False)
    assert sprung.exists()  # the trap was a real one


def test_an_old_file_format_is_read(small, tmp_path):
    save(theirs_for(small), tmp_path / "new.pt")
    states = torch.load(tmp_path / "new.pt", weights_only=True)
    torch.save(states, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("new", "old"):
        convert_mcvd(tmp_path / f"{name}.pt", "small", tmp_path / f"{name}.safetensors")
    assert (tmp_path / "new.safetensors").stat().st_size == (tmp_path / "old.safetensors").stat().st_size


@pytest.mark.parametrize(
    "states",
    [
        {"state_dict": {}},
        [],
        [{}, {}, 0, 0, {}],
        [{"a": torch.zeros(1)}, {}, 0, 0],
        [{"a": torch.zeros(1)}, {}, 0, 0, {"a": 1}],
        [{"a": torch.zeros(1)}, {}, 0, 0, {1: torch.zeros(1)}],
        [{"a": torch.zeros(1)}, {}, 0, 0, {"a": torch.zeros(2, 2).to_sparse()}],
        [{"a": torch.zeros(1)}, {}, 0, 0, {"a": torch.zeros(2, device="meta")}],
        torch.zeros(3),
    ],
)
def test_other_files_of_torch_are_refused(small, tmp_path, states):
    torch.save(states, tmp_path / "other.pt")
    refused(tmp_path / "other.pt", tmp_path, "is not a checkpoint of mcvd-pytorch")


def test_damaged_and_missing_files(small, tmp_path):
    path = tmp_path / "a.pt"
    refused(path, tmp_path, "there is no checkpoint")
    path.write_text("no checkpoint")
    refused(path, tmp_path, "is damaged")
    save(theirs_for(small), path)
    for keep in (10, 1000, path.stat().st_size // 2, path.stat().st_size - 30):
        whole = path.read_bytes()
        (tmp_path / "cut.pt").write_bytes(whole[:keep])
        refused(tmp_path / "cut.pt", tmp_path, "is damaged")


KERNEL = "unet.all_modules.2.weight"
QUERY = "unet.all_modules.6.NIN_1.W"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {n: v for n, v in s.items() if n != KERNEL}, f"has no {KERNEL}, which is stem.weight here"),
        (lambda s: {n: v for n, v in s.items() if n != QUERY}, f"has no {QUERY}"),
        (lambda s: s | {"unet.all_modules.99.weight": torch.zeros(1)}, r"1 tensors without a place.*modules.99"),
        (lambda s: s | {KERNEL: s[KERNEL][:, 1:]}, rf"{KERNEL} is torch.float32 \(8, 11, 3, 3\), stem.weight .*takes"),
        (lambda s: s | {QUERY: s[QUERY][:, 1:]}, rf"{QUERY} is"),
        (lambda s: s | {QUERY: torch.tensor(1.0)}, rf"{QUERY} is"),
        (lambda s: s | {KERNEL: s[KERNEL].flatten()}, rf"{KERNEL} is"),
        (lambda s: s | {KERNEL: s[KERNEL].long()}, rf"{KERNEL} is torch.int64"),
        (lambda s: s | {KERNEL: s[KERNEL] * math.inf}, f"{KERNEL} holds NaN"),
        (lambda s: s | {QUERY: torch.zeros(1).expand(10**9, 10**9)}, rf"{QUERY} is"),
    ],
)
def test_every_tensor_has_its_place_and_shape(small, tmp_path, change, words):
    save(theirs_for(small), tmp_path / "a.pt", average=change)
    refused(tmp_path / "a.pt", tmp_path, words)


def test_another_preset_is_refused(small, tmp_path):
    save(theirs_for(small), tmp_path / "a.pt")
    refused(tmp_path / "a.pt", tmp_path, "choose the preset it was trained with", "smmnist")
    save(theirs_for(replace(small, spatin=12)), tmp_path / "b.pt")
    refused(tmp_path / "b.pt", tmp_path, "choose the preset it was trained with")


def test_another_noise_schedule_is_refused(small, tmp_path):
    network = theirs_for(small)
    for betas in (network.betas.flip(0), network.betas[:100], network.betas * 1.01):
        network.betas = betas
        save(network, tmp_path / "a.pt")
        refused(tmp_path / "a.pt", tmp_path, "another noise schedule")


def test_presets_and_places_that_are_none(small, tmp_path):
    for preset in ("tiny", "no such"):
        with pytest.raises(BadInput, match=r"is no published preset.*smmnist, smmnist-spatin"):
            convert_mcvd(tmp_path / "a.pt", preset, tmp_path / "b")
    (tmp_path / "b").touch()
    with pytest.raises(BadInput, match="exists; choose another name"):
        convert_mcvd(tmp_path / "a.pt", "small", tmp_path / "b")


@pytest.mark.parametrize("preset", [name for name, row in PRESETS.items() if row[0].published])
def test_every_published_size_has_a_place_for_every_tensor(preset, monkeypatch):
    """Names and shapes only: theirs and ours at the true sizes, without their numbers."""
    recipe = PRESETS[preset][0]
    with torch.device("meta"):
        theirs, ours = theirs_for(recipe), recipe.network()
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda tensor: torch.ones(1))
    renamed = dict(_renamed(Path("a"), dict(theirs.named_parameters()), ours))
    assert {name: p.shape for name, p in renamed.items()} == {name: p.shape for name, p in ours.state_dict().items()}


def test_the_command(small, tmp_path, monkeypatch, capsys):
    save(theirs_for(small), tmp_path / "a.pt")
    words = ["convert", tmp_path / "a.pt", "--preset", "small", "-o", tmp_path / "m.safetensors", "--json"]
    monkeypatch.setattr("sys.argv", ["framefill", *map(str, words)])
    cli.main()
    result = json.loads(capsys.readouterr().out)
    assert result["model"] == str(tmp_path / "m.safetensors")
    assert (result["preset"], result["step"], result["licence"]) == ("small", 700_000, LICENCE)
    with pytest.raises(SystemExit) as caught:
        cli.main()  # it is there now
    assert caught.value.code == 2
    assert "exists" in capsys.readouterr().err
