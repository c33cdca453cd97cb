"""`framefill fit`: one file for both sides, from a codec that is there, on pictures of any size."""

import json

import numpy as np
import pytest
from PIL import Image

from framefill import checkpoint
from framefill.errors import BadInput, MediaError
from framefill.recipes import find
from framefill.recipes.recipe import to_fields
from framefill.video.images.album import shortest_side
from test_cli import refused


@pytest.fixture
def start(tmp_path):
    recipe = find("compression", "tiny").recipe
    path = tmp_path / "start.safetensors"
    checkpoint.write(path, recipe.model().state_dict(), checkpoint.Card("compression", "tiny", to_fields(recipe)))
    return path


@pytest.fixture
def pictures(tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "pictures"
    for i in range(12):
        place = folder / ("train" if i < 9 else "val") / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8)).resize((44, 40 + i), Image.Resampling.BICUBIC).save(
            place
        )
    return folder


def test_it_makes_one_file_that_both_sides_use(call, start, pictures, tmp_path):
    mine, small, back = tmp_path / "mine.safetensors", tmp_path / "a.ffc", tmp_path / "a.png"
    code, out, _ = call("fit", pictures, "-o", mine, "--from", start, "--budget", "2s", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["steps"] > 0
    assert told["bytes"] == mine.stat().st_size < start.stat().st_size * 0.6
    fields = checkpoint.read_card(mine).fields
    assert (fields["kept"], fields["side"]) == (40, 32)
    photo = pictures / "val" / "9.png"
    assert call("compress", photo, "-o", small, "-q", 2, "--model", mine)[0] == 0
    assert call("decompress", small, "-o", back, "--model", mine)[0] == 0
    a, b = (np.asarray(Image.open(path)).astype(float) for path in (photo, back))
    assert np.abs(a - b).mean() < 20
    refused(call("fit", pictures, "-o", mine, "--from", start), "already")


def test_what_it_cannot_begin_with_is_refused(call, pictures, tmp_path):
    refused(call("fit", pictures, "-o", tmp_path / "mine.bin"), "name it mine.safetensors")
    refused(call("fit", pictures, "-o", tmp_path / "mine.safetensors", "--from", "digits"), "recipe mcvd")
    refused(call("fit", tmp_path / "a.nc", "-o", tmp_path / "mine.safetensors"), "fields need no fitting")


def test_pictures_may_be_small_but_not_tiny(pictures, tmp_path):
    recipe = find("compression", "small").recipe
    assert shortest_side(pictures) == 40
    assert recipe.suited(pictures).side == 32
    (pictures / "broken.png").write_bytes(b"no picture")
    assert shortest_side(pictures) == 40
    Image.new("RGB", (500, 20)).save(pictures / "strip.png")
    with pytest.raises(BadInput, match="a side of 20 pixels"):
        recipe.suited(pictures)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match="none of its pictures"):
        shortest_side(tmp_path / "none")
