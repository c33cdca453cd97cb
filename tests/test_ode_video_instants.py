"""`framefill predict` with a latent ODE: frames at any instants, and the picture of the path."""

import json
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import framefill
from framefill.cli import instants
from framefill.curves import draw_trajectories
from framefill.video.clip import Clip
from framefill.video.files import clock, read
from test_doors import UNEVEN, film
from test_ode_video import EVEN, FRAMES, lively

pytest.importorskip("torchdiffeq", reason="pip install 'framefill[flows]'")


@pytest.fixture
def model(tmp_path):
    framefill.save(lively(), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize("before", [False, True])
def test_frames_come_at_the_instants_asked_for_told_by_the_films_own_clock(model, tmp_path, call, before):
    clip, times = film(tmp_path / "a.mp4", UNEVEN), [0.5, 1, 2.75]
    words = ("predict", clip, "-m", model, "--at", "0.5,1,11/4", *(["--before"] if before else []), "--json", "-o")
    for name in ("made.mp4", "b.npy"):
        code, out, err = call(*words, tmp_path / name)
        assert code == 0, err
    assert json.loads(out)["made"] == 3
    stamps, step = [stamp / 1000 for stamp in UNEVEN], 1 / 20  # seconds, and a frame of its mean rate
    later = [stamps[-1] + t * step for t in times]
    earlier = [-t * step for t in reversed(times)]
    wanted = [t - earlier[0] for t in earlier + stamps] if before else stamps + later
    told = clock(tmp_path / "made.mp4")
    assert [float(told.at(i)) for i in range(12)] == pytest.approx(wanted, abs=2e-5)
    given, past = list(read(clip)), lively().past
    some, places = (given[:past], stamps[:past]) if before else (given[-past:], stamps[-past:])
    places = [(t - places[0 if before else -1]) / step for t in places]
    asked = [-t for t in reversed(times)] if before else times
    direct = lively().at(Clip(np.stack(some), Fraction(20)), asked, stamps=places)[0].astype(int)
    made = np.load(tmp_path / "b.npy")[:3] if before else np.load(tmp_path / "b.npy")[9:]
    assert np.abs(made - direct).max() <= 1


def test_samples_at_instants_differ_and_one_is_the_mean_path(model, tmp_path, call):
    np.save(tmp_path / "clip.npy", FRAMES)
    code, _, err = call("predict", tmp_path / "clip.npy", "-m", model, "--at", "3", "-n", 2, "-o", tmp_path / "x.npy")
    assert code == 0, err
    one, two = np.load(tmp_path / "x-1.npy"), np.load(tmp_path / "x-2.npy")
    assert np.array_equal(one[:7], two[:7])
    assert not np.array_equal(one[7], two[7])


@pytest.mark.parametrize("more", [(), ("--before",), ("--at", "0.5,2")])
def test_the_path_is_drawn_beside_the_result(model, tmp_path, call, more):
    np.save(tmp_path / "clip.npy", FRAMES)
    words = ("predict", tmp_path / "clip.npy", "-m", model, *more, "--paths", "-o", tmp_path / "p.npy", "--json")
    code, out, err = call(*words)
    assert code == 0, err
    picture = tmp_path / "p-paths.png"
    assert json.loads(out)["paths"] == str(picture)
    assert np.asarray(Image.open(picture).convert("L")).std() > 5  # something is drawn
    for name in ("p.npy", "p-sheet.png", "p-preview.gif"):
        (tmp_path / name).unlink()
    code, _, err = call(*words)
    assert (code, "p-paths.png exists" in err) == (2, True)
    assert not (tmp_path / "p.npy").exists()


@pytest.mark.parametrize("before", [False, True])
def test_both_parts_of_the_drawn_path_meet(before, tmp_path):
    np.save(tmp_path / "clip.npy", FRAMES)
    asked = instants.Options(model="any")
    seen = instants.Seen(asked, before, clocked=False)
    seen.__dict__["model"] = lively()
    source = instants.Input(tmp_path / "clip.npy", asked)
    parts = instants._Traced(instants.Traced(SimpleNamespace(), seen, 3), SimpleNamespace(), source, tmp_path)._paths()
    known, rest = parts.values()
    assert known.shape == rest.shape == (13, 3)  # 4 frames seen, 3 made, four dots a frame
    np.testing.assert_allclose(known[0 if before else -1], rest[0], atol=1e-4)
    part = FRAMES[:4] if before else FRAMES[3:]
    times = [-3.0] if before else [6.0]
    np.testing.assert_allclose(lively().trajectory(Clip(part, Fraction(10)), times)[0], rest[-1], atol=1e-4)


def test_a_path_is_drawn_where_a_string_says(tmp_path):
    assert draw_trajectories({"one": np.eye(3)}, str(tmp_path / "paths.png"))
    assert (tmp_path / "paths.png").is_file()


def test_what_cannot_be_said_is_one_line(model, tmp_path, call, monkeypatch):
    clip, even = film(tmp_path / "a.mp4", UNEVEN), tmp_path / "even.safetensors"
    framefill.save(lively(EVEN), even)
    for words, said in (
        (("-m", "digits", "--at", "1"), "--at is for latent ODEs (ode-video), and digits is none"),
        (("-m", "digits", "--paths"), "--paths is for latent ODEs"),
        (("-m", model, "--at", "1,0.5"), "times that increase"),
        (("-m", model, "--at", "-1"), "times that increase"),
        (("-m", model, "--at", "0"), "times that increase"),
        (("-m", model, "--at", "1e9"), "at most 10000"),
        (("-m", model, "--at", "1/0"), "cannot read --at"),
        (("-m", model, "--at", "nan"), "cannot read --at"),
        (("-m", model, "--at", "soon"), "cannot read --at"),
        (("-m", model, "--at", "1", "--frames", 3), "give one of them"),
        (("-m", model, "--at", "1", "--calls", 3), "are for diffusion"),
        (("-m", even, "--at", "1"), "trained on an even clock"),
    ):
        code, out, err = call("predict", clip, *words, "-o", tmp_path / "out.npy")
        assert (code, out, said in err, err.count("\n")) == (2, "", True, 1), (words, err)
        assert not list(tmp_path.glob("out*"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(instants, "find_spec", lambda name: None)
    code, _, err = call("predict", clip, "-m", model, "--paths", "-o", tmp_path / "out.npy")
    assert (code, "pip install 'framefill[plot]'" in err) == (2, True)
