"""`framefill upscale`: what comes out averages to what went in, to the level."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import framefill
from framefill.errors import Stiff
from framefill.video.images.flow_model import averaged
from test_mrcnf import SMALL, lively

pytest.importorskip("torchdiffeq", reason="pip install 'framefill[flows]'")
RNG = np.random.default_rng(0)


@pytest.fixture
def model(tmp_path):
    framefill.save(lively(replace(SMALL, scales=3, height=16, width=16)), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "in" / "deep"
    place.mkdir(parents=True)
    for i in range(2):
        Image.fromarray(RNG.integers(0, 256, (5, 7), np.uint8)).save(place / f"{i}.png")
    return tmp_path / "in"


def levels(path):
    return np.asarray(Image.open(path))[None, ..., None]


def test_a_folder_is_made_finer_and_averages_to_itself(model, folder, tmp_path, call):
    words = ("upscale", folder, "-m", model, "--times", 4, "-n", 2, "-o", tmp_path / "out", "--json")
    code, out, err = call(*words)
    assert code == 0, err
    made = json.loads(out)["pictures"]
    assert [str(p).rsplit("out/")[-1] for p in made] == [f"deep/{i}-x4-{k}.png" for i in (0, 1) for k in (1, 2)]
    for path, source in zip(made, [0, 0, 1, 1], strict=True):
        fine = levels(path)
        assert fine.shape == (1, 20, 28, 1)
        assert (averaged(fine, 2) == levels(folder / "deep" / f"{source}.png")).all()
    assert not (levels(made[0]) == levels(made[1])).all()
    code, _, err = call(*words)
    assert (code, "is there already" in err) == (2, True)
    before = levels(made[0])
    code, _, err = call(*words, "--overwrite")
    assert code == 0, err
    assert (levels(made[0]) == before).all()


def test_one_picture_goes_where_it_is_told(model, folder, tmp_path, call):
    one, up = folder / "deep" / "0.png", tmp_path / "new" / "up.png"
    assert call("upscale", one, "-m", model, "-o", up)[:2] == (0, f"{up}\n")
    assert (averaged(levels(up), 1) == levels(one)).all()
    for words in ((folder, "-y"), (one, "-y", "-n", 2), (one,)):
        before = up.read_bytes()
        code, _, err = call("upscale", *words, "-m", model, "-o", up)
        assert code == 2
        assert "holds one answer" in err or "is there already" in err
        assert up.read_bytes() == before


def test_pictures_that_differ_in_their_suffix_only_get_names_of_their_own(model, folder, tmp_path, call):
    Image.fromarray(np.full((4, 4), 9, np.uint8)).save(folder / "deep" / "1.bmp")
    code, out, err = call("upscale", folder, "-m", model, "-o", tmp_path / "out")
    assert code == 0, err
    names = [line.rsplit("/")[-1] for line in out.splitlines()]
    assert sorted(names) == ["0-x2.png", "1.bmp-x2.png", "1.png-x2.png"]


def test_what_cannot_be_made_finer_is_one_line(model, folder, tmp_path, call):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no")
    deep = tmp_path / "sixteen.png"
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(deep)
    one = folder / "deep" / "0.png"
    for words, said in (
        ((folder, "-m", model, "--times", 3), "power of two"),
        ((folder, "-m", model, "--times", 8), "at most 4 times larger"),
        ((deep, "-m", model), "sixteen.png has 16 bits, and flows know 8"),
        ((folder, "-m", model, "--samples", 0), "--samples must be at least 1"),
        ((one, "-m", model, "--temperature", -1), "temperature must be"),
        ((one, "-m", "digits"), "not a model of densities"),
        ((bad, "-m", model), "cannot be read as a picture"),
        ((tmp_path / "none", "-m", model), "no pictures here"),
    ):
        code, out, err = call("upscale", *words, "-o", tmp_path / "out")
        assert (code, out) == (2, ""), words
        assert said in err
        assert not list((tmp_path / "out").rglob("*.png"))


def test_a_bad_picture_of_a_folder_is_named_and_the_others_are_done(model, folder, tmp_path, call):
    words = ("upscale", folder, "-m", model, "--json", "-o")
    code, _, err = call(*words, tmp_path / "whole")
    assert code == 0, err
    (folder / "deep" / "0.png").write_bytes(b"no")
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(folder / "sixteen.png")
    code, out, err = call(*words, tmp_path / "out")
    assert (code, json.loads(out)["left_out"]) == (2, 2)
    assert json.loads(out)["pictures"] == [str(tmp_path / "out" / "deep" / "1-x2.png")]
    (one,) = (tmp_path / "out").rglob("*.png")
    assert (levels(one) == levels(tmp_path / "whole" / "deep" / "1-x2.png")).all()
    assert "0.png cannot be read as a picture" in err
    assert "sixteen.png has 16 bits" in err
    assert err.splitlines()[-1].startswith("framefill: 2 of 3 pictures are left out")
    (folder / "deep" / "1.png").write_bytes(b"no")
    code, out, err = call(*words, tmp_path / "none")
    assert (code, out, (tmp_path / "none").exists()) == (2, "", False)
    assert "none of 3 pictures can be made finer" in err


def test_a_picture_too_stiff_is_left_out_of_a_folder(model, folder, tmp_path, call, monkeypatch):
    from framefill.video.images.flow_model import FlowModel

    upscale, asked = FlowModel.upscale, []

    def stiff_first(self, *words, **options):
        asked.append(1)
        if len(asked) == 1:
            raise Stiff("of scale 3 of 3", 0.5, 0, "the state is not finite")
        return upscale(self, *words, **options)

    monkeypatch.setattr(FlowModel, "upscale", stiff_first)
    code, out, err = call("upscale", folder, "-m", model, "-o", tmp_path / "out")
    assert (code, out.splitlines()) == (2, [str(tmp_path / "out" / "deep" / "1-x2.png")])
    assert "0.png is left out: the ODE of scale 3 of 3 stopped at t = 0.5" in err
    asked.clear()
    code, out, err = call("upscale", folder / "deep" / "0.png", "-m", model, "-o", tmp_path / "one")
    assert (code, out, (tmp_path / "one").exists()) == (2, "", False)
    assert "0.png, of scale 3 of 3 stopped" in err
