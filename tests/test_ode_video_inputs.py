"""What a latent ODE is given on the command line and cannot use ends with one line and exit code 2; the rest works."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import framefill
from framefill.video.clip import Clip
from framefill.video.files import clock, read
from test_doors import UNEVEN, film, patched
from test_ode_video import EVEN, FRAMES, SMALL, lively

pytest.importorskip("torchdiffeq", reason="pip install 'framefill[flows]'")
VERBS = {"predict": ("--frames", "2"), "interpolate": ("--fps", "15")}


def saved(path, product):
    framefill.save(product, path)
    return path


def stiff():
    """A latent ODE that leaves for infinity."""
    product = lively()
    with torch.no_grad():
        for parameter in product.model.motion.parameters():
            parameter.mul_(1e4)
    return product


def run(call, verb, clip, model, out):
    return call(verb, clip, "-m", model, *VERBS[verb], "-o", out, "--json")


def refused(call, verb, clip, model, said):
    out = Path(model).with_name("made.npy")
    code, _, err = run(call, verb, clip, model, out)
    lines = [line for line in err.splitlines() if line.strip()]
    assert (code, said in lines[-1], len(lines)) == (2, True, 1), err
    assert "Traceback" not in err
    assert not list(out.parent.glob("made*"))  # nothing half made is left behind


@pytest.mark.parametrize("verb", VERBS)
def test_stiff_dynamics(call, tmp_path, verb):
    np.save(tmp_path / "clip.npy", FRAMES)
    refused(call, verb, tmp_path / "clip.npy", saved(tmp_path / "m.safetensors", stiff()), "the ODE stopped at t = ")


@pytest.mark.parametrize(
    ("change", "said"),
    [(lambda number, pts, dts: (pts, dts - 100_000 * (number > 5)), "its clock runs backwards at frame 6"),
     (lambda number, pts, dts: (0 if number == 1 else pts, dts), "frames 0 and 1 have the same time stamp")],
)  # fmt: skip
def test_stamps_out_of_order_or_twice_the_same(call, tmp_path, monkeypatch, change, said):
    clip, model = film(tmp_path / "a.mp4", range(0, 400, 40)), saved(tmp_path / "m.safetensors", lively())
    patched(clip, monkeypatch, change)
    refused(call, "interpolate", clip, model, said)


def test_an_uneven_clock_is_for_models_that_are_told_it(call, tmp_path):
    clip = film(tmp_path / "a.mp4", UNEVEN)
    refused(call, "interpolate", clip, saved(tmp_path / "even.safetensors", lively(EVEN)), "trained on an even clock")
    model = saved(tmp_path / "m.safetensors", lively())
    code, _, err = run(call, "interpolate", clip, model, tmp_path / "b.npy")
    assert code == 0, err


def test_frames_are_made_at_the_instants_asked_for_in_every_gap(call, tmp_path):
    """Of an even clock and an uneven one: the film's own stamps stay, and what is made stands between them."""
    model = lively()
    path = saved(tmp_path / "m.safetensors", model)
    for stamps in (range(0, 360, 40), UNEVEN):
        clip, made = film(tmp_path / "a.mp4", stamps), tmp_path / "made.mp4"
        code, _, err = call("interpolate", clip, "-m", path, "--at", "0.25,2/3", "-o", made, "--json", "-y")
        assert code == 0, err
        told, parts = clock(clip).closed(), [Fraction(0), Fraction(1, 4), Fraction(2, 3)]
        wanted = [float(told.at(i, part)) for i in range(9) for part in parts]
        assert [float(clock(made).at(i)) for i in range(27)] == pytest.approx(wanted, abs=2e-4)
    given = list(read(clip))
    code, _, err = call("interpolate", clip, "-m", path, "--at", "0.25,2/3", "-o", tmp_path / "gaps.npy", "--json")
    assert code == 0, err
    places = [float(told.at(i) * told.fps) for i in range(4)]
    part = places[1] + (places[2] - places[1]) / 4
    alone = model.at(Clip(np.stack(given[:4]), told.fps), [part], stamps=places)[0, 0].astype(int)
    assert np.abs(alone - np.load(tmp_path / "gaps.npy")[4]).max() <= 1


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("size", [(33, 35), (5, 48), (1, 1)])
def test_odd_sizes_are_cut_to_that_of_the_model(call, tmp_path, verb, size):
    np.save(tmp_path / "clip.npy", np.random.default_rng(0).integers(0, 256, (5, *size, 3), np.uint8))
    model = saved(tmp_path / "m.safetensors", lively())
    code, _, err = run(call, verb, tmp_path / "clip.npy", model, tmp_path / "made.npy")
    assert code == 0, err
    assert np.load(tmp_path / "made.npy").shape[1:3] == (SMALL.height, SMALL.width)


@pytest.mark.parametrize("verb", VERBS)
def test_sixteen_bits_look_as_eight_do(call, tmp_path, verb):
    """65535 = 257 * 255: the same pictures, so the same answer."""
    model, made = saved(tmp_path / "m.safetensors", lively()), {}
    for name, frames in (("8", FRAMES), ("16", FRAMES.astype(np.uint16) * 257)):
        np.save(tmp_path / f"{name}.npy", frames)
        code, _, err = run(call, verb, tmp_path / f"{name}.npy", model, tmp_path / f"made-{name}.npy")
        assert code == 0, err
        made[name] = np.load(tmp_path / f"made-{name}.npy").astype(int)
    assert np.abs(made["8"] - made["16"]).max() <= 1


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("frames", "said"),
    [(np.zeros((0, 32, 32, 3), np.uint8), "frame"), (np.full((4, 32, 32, 3), np.nan, np.float32), "clip.npy"),
     (np.zeros((4, 32, 32, 7), np.uint8), "channels")],
    ids=["no frames", "not numbers", "seven channels"],
)  # fmt: skip
def test_arrays_that_are_no_clips(call, tmp_path, verb, frames, said):
    np.save(tmp_path / "clip.npy", frames)
    refused(call, verb, tmp_path / "clip.npy", saved(tmp_path / "m.safetensors", lively()), said)


def test_rates_that_mean_nothing(call, tmp_path):
    np.save(tmp_path / "clip.npy", FRAMES)
    model = saved(tmp_path / "m.safetensors", lively())
    for rate in ("0", "-3", "nan", str(Fraction(0))):
        code, _, err = call("interpolate", tmp_path / "clip.npy", "-m", model, "--fps", rate, "-o", tmp_path / "x.npy")
        assert code == 2, (rate, err)
        assert "Traceback" not in err


def test_an_array_file_becomes_a_film_and_nothing_travels_along(call, tmp_path):
    np.save(tmp_path / "clip.npy", FRAMES)
    model = saved(tmp_path / "m.safetensors", lively())
    code, _, err = run(call, "interpolate", tmp_path / "clip.npy", model, tmp_path / "made.mp4")
    assert (code, (tmp_path / "made.mp4").is_file()) == (0, True), err
    code, _, err = call(
        "interpolate", tmp_path / "clip.npy", "--tier", "fast", "--fps", "50", "-o", tmp_path / "b.mp4", "--json"
    )
    assert (code, (tmp_path / "b.mp4").is_file()) == (0, True), err
