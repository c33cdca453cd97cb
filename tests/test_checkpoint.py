"""Model files: round trips, and every kind of damage refused in one line."""

import dataclasses
import json
import random

import pytest
import torch
from safetensors.torch import save_file

import framefill
from framefill import checkpoint
from framefill.checkpoint import FORMAT, Card
from framefill.errors import BadInput, CheckpointError, Failed
from framefill.video.model import VideoModel


@pytest.fixture
def product(small, card) -> VideoModel:
    torch.manual_seed(0)
    model = small.model().eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return small.product(model, card=card)


@pytest.fixture
def path(product, tmp_path):
    framefill.save(product, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_what_is_loaded_is_what_was_saved(product, path):
    loaded = framefill.load(path)
    for (name, a), (_, b) in zip(product.model.state_dict().items(), loaded.model.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert loaded.card == dataclasses.replace(product.card, fields=loaded.card.fields)
    assert (loaded.generate(3, seed=5).frames == framefill.load(path).generate(3, seed=5).frames).all()


def test_half_precision_is_half_the_size_and_close(product, path, tmp_path):
    framefill.save(product, tmp_path / "h.safetensors", half=True)
    assert (tmp_path / "h.safetensors").stat().st_size < 0.75 * path.stat().st_size
    a, b = product.model.state_dict(), framefill.load(tmp_path / "h.safetensors").model.state_dict()
    assert all(torch.allclose(a[k], b[k], atol=1e-3, rtol=1e-3) and b[k].dtype == torch.float32 for k in a)


def test_every_flipped_bit_is_refused(path):
    whole = path.read_bytes()
    draw = random.Random(0)
    places = [*range(0, 400, 7), *(draw.randrange(len(whole)) for _ in range(150))]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            checkpoint.read(path)


def test_every_truncation_is_refused(path):
    whole = path.read_bytes()
    for length in [*range(0, 40), *random.Random(1).sample(range(len(whole)), 60), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            checkpoint.read(path)


def rewritten(path, **changes):
    tensors, card = checkpoint.read(path)
    checkpoint.write(path, tensors, dataclasses.replace(card, **changes))


def test_newer_format(path):
    rewritten(path, format=FORMAT + 1)
    with pytest.raises(CheckpointError, match="newer framefill"):
        framefill.load(path)


def test_unknown_recipe(path):
    rewritten(path, recipe="telepathy")
    with pytest.raises(CheckpointError, match="'telepathy' model"):
        framefill.load(path)


@pytest.mark.parametrize("fields", [{"blocks": 3}, {"nonsense": 1}, {"features": "many"}])
def test_fields_that_do_not_fit(path, card, fields):
    rewritten(path, fields=card.fields | fields)
    with pytest.raises(CheckpointError, match="does not fit its recipe"):
        framefill.load(path)


def test_foreign_files(tmp_path):
    plain, text, claims = (tmp_path / n for n in ("plain.safetensors", "text", "claims"))
    save_file({"a": torch.zeros(2)}, plain)
    text.write_text("hello there, this is not a model")
    claims.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    for path, words in (
        (plain, "has no 'framefill' entry"),
        (text, "not a framefill model"),
        (claims, "header claims"),
    ):
        with pytest.raises(CheckpointError, match=words):
            framefill.load(path)
    with pytest.raises(CheckpointError, match="no model file"):
        framefill.load(tmp_path / "absent")
    for card in ("[1]", '{"format": 1}', '{"format": "x"}'):
        save_file({"a": torch.zeros(2)}, plain, {"framefill": card, "sha256": ""})
        with pytest.raises(CheckpointError, match="card cannot be read"):
            checkpoint.read_card(plain)


def test_saving_never_overwrites_and_fails_cleanly(product, path, tmp_path):
    with pytest.raises(BadInput, match="exists"):
        framefill.save(product, path)
    with pytest.raises(Failed, match="cannot write"):
        framefill.save(product, path / "below.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_shipped_models_are_whole_small_and_say_where_they_come_from():
    models = checkpoint.shipped()
    tokens = {"digits-tokens", "digits-ar", "digits-masked"}
    assert set(models) == {"balanced", "best", "digits", "hadcm3", "natural", "photos"} | tokens
    assert sum(p.stat().st_size for p in models.values()) < 40e6
    for path in models.values():
        _, card = checkpoint.read(path)
        assert {"data", "licence", "machine", "scores", "seconds"} <= set(card.about)
        json.dumps(dataclasses.asdict(card))
    assert isinstance(Card("a", "b", {}), Card)
