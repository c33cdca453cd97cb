"""Folders of diffusers: tiny ones that diffusers 0.42.1 wrote, with what it answered, and spoilt ones.

tests/golden/diffusers holds an AutoencoderKL, one without convolutions around its latents, and a VQModel, all with
random weights; answers.safetensors are pictures and what diffusers made of them.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from framefill.errors import BadInput, CheckpointError
from framefill.latents.kl import KLVAE
from framefill.latents.published import WEIGHTS, load
from framefill.latents.vqgan import VQGAN

GOLDEN = Path(__file__).parent / "golden" / "diffusers"


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


@pytest.fixture
def folder(tmp_path):
    """A copy of the KL folder, and a way to change words of its config."""
    shutil.copytree(GOLDEN / "kl", tmp_path / "kl")

    def change(**words):
        path = tmp_path / "kl" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | words))
        return tmp_path / "kl"

    return change


@pytest.mark.parametrize("name", ["kl", "bare"])
def test_a_kl_folder_answers_as_diffusers_does(name):
    answers = load_file(GOLDEN / name / "answers.safetensors")
    model = load(GOLDEN / name)
    assert isinstance(model, KLVAE)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    mean, log_variance = model.gaussian(answers["x"])
    close(mean, answers["mean"])
    close(log_variance, answers["log_variance"])
    z = model.encode(answers["x"])
    config = json.loads((GOLDEN / name / "config.json").read_text())
    close(z, (answers["mean"] - (config["shift_factor"] or 0)) * config["scaling_factor"])
    close(model.decode(z), answers["decoded"])


def test_a_vq_folder_answers_as_diffusers_does():
    answers = load_file(GOLDEN / "vq" / "answers.safetensors")
    model = load(GOLDEN / "vq")
    assert isinstance(model, VQGAN)
    z = model.encode(answers["x"])
    close(z * model.std + model.mean, answers["mean"])
    assert torch.equal(model.indices(z), answers["words"])
    assert len(answers["words"].unique()) > 8
    close(model.decode(z), answers["decoded"])
    close(model.decode(model.latents(answers["words"])), answers["decoded"])


def test_statistics_per_channel_are_taken_over(folder):
    mean, std = [0.1, -0.2, 0.3, 0.0], [1.0, 2.0, 0.5, 4.0]
    model = load(folder(latents_mean=mean, latents_std=std, scaling_factor=2.0))
    close(model.mean.flatten(), torch.tensor(mean))
    close(model.std.flatten(), torch.tensor(std) / 2)


def test_old_names_and_half_precision_are_read(folder):
    place = folder()
    tensors = load_file(place / WEIGHTS)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, name in old.items():
        tensors = {key.replace(f".{new}.", f".{name}."): value for key, value in tensors.items()}
    save_file({key: value.half() for key, value in tensors.items()}, place / WEIGHTS)
    answers = load_file(GOLDEN / "kl" / "answers.safetensors")
    found = load(place).gaussian(answers["x"])[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, answers["mean"], rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("words", "message"), [
    ({"_class_name": "AutoencoderTiny"}, "AutoencoderKL or VQModel"),
    ({"_class_name": ["VQModel"]}, "AutoencoderKL or VQModel"),
    ({"act_fn": "relu"}, "'silu'"),
    ({"norm_type": "spatial"}, "'group'"),
    ({"mid_block_add_attention": False}, "True"),
    ({"block_out_channels": [4, 6]}, "multiples"),
    ({"block_out_channels": [0, 4]}, "1 to 8 widths"),
    ({"block_out_channels": "44"}, "1 to 8 widths"),
    ({"block_out_channels": [4, 2**40]}, "1 to 8 widths"),
    ({"block_out_channels": [4] * 9}, "1 to 8 widths"),
    ({"block_out_channels": [4]}, "1 of them"),
    ({"down_block_types": ["DownBlock2D", "DownBlock2D"]}, "AttnDownEncoderBlock2D"),
    ({"down_block_types": 7}, "AttnDownEncoderBlock2D"),
    ({"up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"]}, "as down_block_types"),
    ({"out_channels": 1}, "in_channels, 3"),
    ({"layers_per_block": True}, r"1\.\.16"),
    ({"layers_per_block": 10**9}, r"1\.\.16"),
    ({"latent_channels": "4"}, r"1\.\.1024"),
    ({"scaling_factor": "big"}, "a number"),
    ({"scaling_factor": 0}, "above zero"),
    ({"scaling_factor": -1}, "above zero"),
    ({"scaling_factor": float("nan")}, "a number"),
    ({"latents_mean": [1.0]}, "4 numbers"),
    ({"latents_std": [1.0, 1.0, 1.0, 0.0]}, "above zero"),
])  # fmt: skip
def test_a_config_that_is_not_ours_is_refused(folder, words, message):
    with pytest.raises(BadInput, match=message):
        load(folder(**words))


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b" " * 1_000_001, b"[" * 100_000])
def test_a_config_that_is_not_one_is_refused(folder, content):
    place = folder()
    (place / "config.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"config\.json"):
        load(place)


def test_what_is_missing_is_named(tmp_path, folder):
    with pytest.raises(BadInput, match="No such file"):
        load(tmp_path / "nowhere")
    place = folder()
    (place / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        load(place)


def test_weights_that_do_not_fit_are_refused(folder):
    with pytest.raises(CheckpointError, match="does not fit"):
        load(folder(latent_channels=5))
    place = folder(latent_channels=4)
    tensors = load_file(place / WEIGHTS)
    save_file({k: v for k, v in tensors.items() if "conv_norm_out" not in k}, place / WEIGHTS)
    with pytest.raises(CheckpointError, match="does not fit"):
        load(place)
    save_file(tensors | {"extra.weight": torch.zeros(1)}, place / WEIGHTS)
    with pytest.raises(CheckpointError, match="does not fit"):
        load(place)


def test_damaged_weights_are_refused(folder):
    place = folder()
    content = (place / WEIGHTS).read_bytes()
    for damaged in (content[:-100], content[:4], b"\xff" * 8 + content[8:]):
        (place / WEIGHTS).write_bytes(damaged)
        with pytest.raises(CheckpointError, match="another copy"):
            load(place)
