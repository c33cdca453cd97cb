"""The command line as a user meets it: results, names, exit codes, and one clear line for every bad input."""

import json
import shutil
import subprocess
import sys
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import framefill
from framefill import features
from framefill.errors import NotInstalled
from framefill.signals import Stopped
from framefill.video.digits import MovingDigits
from framefill.video.files import Writer, probe, read_clip


@pytest.fixture
def model(small, card, tmp_path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    framefill.save(small.product(small.model().eval(), card=card), path)
    return path


@pytest.fixture
def clip(tmp_path) -> Path:
    path = tmp_path / "in.mp4"
    with Writer(path, Fraction(30000, 1001)) as writer:
        for frame in MovingDigits("test").sample(0, length=9, strides=(1,)):
            writer.write(frame)
    return path


def refused(result, words: str) -> None:
    """Exit 2, nothing on standard output, one line that says what is wrong."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("framefill: ")]
    assert len(lines) == 1, err
    assert words in lines[0], lines[0]
    assert "Traceback" not in err


def test_predict_writes_video_preview_and_sheet(call, model, clip, tmp_path):
    out = tmp_path / "out"
    code, text, _ = call("predict", clip, "-m", model, "-o", out, "--frames", 5, "--json")
    assert code == 0
    result = json.loads(text)
    assert result["videos"] == [str(out / "in-predicted.mp4")]
    assert sorted(p.name for p in out.iterdir()) == [
        "in-predicted-preview.gif",
        "in-predicted-sheet.png",
        "in-predicted.mp4",
    ]
    written = read_clip(out / "in-predicted.mp4", limit=100)
    assert len(written) == 9 + 5
    assert written.fps == Fraction(30000, 1001)
    assert (result["frames"], result["made"]) == (14, 5)
    given = read_clip(clip, limit=100)
    assert np.abs(written.frames[:9].astype(int) - given.frames).mean() < 2


def test_interpolate_doubles_the_rate_and_keeps_the_frames(call, model, clip, tmp_path):
    out = tmp_path / "slow.npy"
    code, text, _ = call("interpolate", clip, "-m", model, "-o", out, "--times", 3)
    assert code == 0
    assert str(out) in text
    frames, given = np.load(out), read_clip(clip, limit=100).frames
    assert len(frames) == 8 * 3 + 1
    assert np.abs(frames[::3].astype(int) - given.mean(axis=-1, keepdims=True)).max() <= 1


def test_samples_differ_spread_is_written_and_most_different_are_kept(call, model, clip, tmp_path):
    code, text, _ = call(
        "predict", clip, "-m", model, "-o", tmp_path / "s", "-n", 4, "--keep", 2, "--frames", 3, "--json"
    )
    assert code == 0
    result = json.loads(text)
    assert len(result["videos"]) == 2
    assert all(Path(p).exists() for p in [*result["videos"], result["spread"], result["sheet"], result["preview"]])
    assert len(list((tmp_path / "s").glob("*-predicted-[0-9].mp4"))) == 2
    a, b = (read_clip(p, limit=100).frames for p in result["videos"])
    assert (a[9:] != b[9:]).any()


def test_a_png_name_gives_a_folder_of_numbered_pictures(call, model, clip, tmp_path):
    for name in ("pictures.png", "array.npy"):
        code, _, err = call("predict", clip, "-m", model, "--frames", 2, "-o", tmp_path / name)
        assert code == 0, err
    names = sorted(p.name for p in (tmp_path / "pictures").iterdir())
    assert names == [f"{i:06d}.png" for i in range(11)]
    assert (read_clip(tmp_path / "pictures", limit=20).frames == np.load(tmp_path / "array.npy")).all()
    refused(call("predict", clip, "-m", model, "--frames", 2, "-o", tmp_path / "pictures.PNG"), "exists")


def test_same_seed_same_bytes(call, model, clip, tmp_path):
    for name in ("a.npy", "b.npy", "c.npy"):
        seed = 1 if name == "c.npy" else 0
        assert call("complete", clip, "-m", model, "-o", tmp_path / name, "--missing", "2-4,7", "--seed", seed)[0] == 0
    a, b, c = (np.load(tmp_path / n) for n in ("a.npy", "b.npy", "c.npy"))
    assert (a == b).all()
    assert (a != c).any()
    changed = (a != c).any(axis=(1, 2, 3))
    assert not changed[[0, 1, 5, 6, 8]].any()


@pytest.mark.parametrize(
    ("words", "frames"),
    [
        (["predict", "CLIP", "--before", "--frames", "4"], 13),
        (["complete", "CLIP", "--loop", "3"], 12),
        (["complete", "CLIP", "--missing", "3-6", "--order", "hierarchical"], 9),
        (["generate", "--frames", "4", "--sampler", "heun", "--calls", "5"], 4),
        (["generate", "--frames", "4", "--sampler", "ddpm", "--calls", "3"], 4),
    ],
)
def test_every_verb_makes_what_was_asked(call, model, clip, tmp_path, words, frames):
    words = [str(clip) if w == "CLIP" else w for w in words]
    code, text, _ = call(*words, "-m", model, "-o", tmp_path / "o.gif", "--json")
    assert code == 0
    assert json.loads(text)["frames"] == frames
    assert probe(tmp_path / "o.gif").width == 64


def test_results_are_never_overwritten_unasked(call, model, clip, tmp_path):
    words = ("predict", clip, "-m", model, "-o", tmp_path / "r.mp4", "--frames", 2)
    assert call(*words)[0] == 0
    before = (tmp_path / "r.mp4").read_bytes()
    refused(call(*words, "--seed", 9), "exists")
    assert (tmp_path / "r.mp4").read_bytes() == before
    assert call(*words, "--overwrite")[0] == 0


def test_dry_run_writes_nothing(call, model, clip, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, text, _ = call("predict", clip, "-m", model, "-o", tmp_path / "x.mp4", "--dry-run")
    assert code == 0
    assert "x.mp4" in text
    assert sorted(tmp_path.rglob("*")) == before


def bad_files(folder: Path, clip: Path) -> dict[str, Path]:
    """Inputs that are not clips."""
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("I am not a video\n" * 50)
    (folder / "cut.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    np.save(folder / "nan.npy", np.full((4, 8, 8), np.nan))
    np.save(folder / "five.npy", np.zeros((4, 8, 8, 5), np.uint8))
    np.save(folder / "flat.npy", np.zeros((8, 8), np.uint8))
    (folder / "folder").mkdir()
    names = ("empty.mp4", "text.mp4", "cut.mp4", "nan.npy", "five.npy", "flat.npy", "folder", "absent.mp4")
    return {name: folder / name for name in names}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty.mp4", "empty.mp4"), ("text.mp4", "text.mp4"), ("cut.mp4", "cut.mp4"), ("nan.npy", "nan.npy"),
        ("five.npy", "five.npy"), ("flat.npy", "flat.npy"), ("folder", "folder"), ("absent.mp4", "absent.mp4"),
    ],
)  # fmt: skip
def test_files_that_are_not_clips(call, model, clip, tmp_path, name, words):
    path = bad_files(tmp_path, clip)[name]
    refused(call("predict", path, "-m", model, "-o", tmp_path / "o.mp4"), words)
    assert not (tmp_path / "o.mp4").exists()


def test_requests_that_make_no_sense(call, model, clip, tmp_path):
    refused(call("predict", clip, "-m", model, "--strength", 0.5, "-o", tmp_path / "a.mp4"), "strength must be 1")
    refused(call("predict", clip, "-m", model, "--strength", 1.5, "-o", tmp_path / "a.mp4"), "strength must lie in")
    out = ("-m", model, "-o", tmp_path / "o.mp4")
    refused(call("predict", clip, *out, "--frames", 0), "--frames must be at least 1")
    refused(call("predict", clip, *out, "--samples", 0), "--samples must be at least 1")
    refused(call("interpolate", clip, *out, "--times", 1), "--times must be 2 or more")
    refused(call("complete", clip, *out), "--missing")
    refused(call("complete", clip, *out, "--missing", "7-12"), "outside the clip, which has frames 0 to 8")
    refused(call("complete", clip, *out, "--missing", "a-b"), "cannot read --missing")
    refused(call("predict", clip, *out, "--device", "tpu"), "device 'tpu' is not here")
    refused(call("predict", clip, "-m", model, "-o", tmp_path / "o.doc"), "suffix")
    refused(call("predict", clip, "-m", model, "-o", clip / "below"), "choose another place")
    refused(call("predict", clip, "-m", "nobody", "-o", tmp_path / "o.mp4"), "no model file")
    refused(call("info", clip), "not a framefill model")
    assert not (tmp_path / "o.mp4").exists()


def test_a_model_that_is_damaged_is_refused(call, model, clip, tmp_path):
    data = bytearray(model.read_bytes())
    data[-5] ^= 4
    model.write_bytes(data)
    refused(call("predict", clip, "-m", model, "-o", tmp_path / "o.mp4"), "damaged")
    model.write_bytes(data[:-50])
    refused(call("generate", "-m", model, "-o", tmp_path / "o.mp4"), "damaged")


def test_train_resumes_and_refuses_nonsense(call, tmp_path):
    run = tmp_path / "run"
    fields = ("features=4", "multipliers=1,2", "attention=false,true", "head_width=4", "patch=4", "batch_size=2")
    words = ["train", "mcvd", "digits", "-o", run, "--json"] + [w for f in fields for w in ("--set", f)]
    code, text, _ = call(*words, "--steps", 2, "--save-every", 2)
    assert code == 0
    assert json.loads(text)["steps"] == 2
    assert (run / "samples" / "step-00000002.png").exists()
    assert (run / "loss.png").exists()
    code, text, _ = call(*words, "--steps", 3, "--save-every", 2)
    assert json.loads(text)["steps"] == 3
    code, text, _ = call("generate", "-m", run, "-o", tmp_path / "g.gif", "--frames", 3, "--calls", 2)
    assert code == 0
    refused(call(*words, "--set", "learning_rate=1", "--steps", 9), "holds another run")
    shown = ["train", "tokenizer", "digits", "-o", tmp_path / "new", "--set", "channels=1", "--set", "batch_size=2"]
    refused(call(*shown, "--steps", 1, "--set", "perceptual=1", "--set", "lpips=none.pt"), "not a TorchScript file")
    assert call(*shown, "--steps", 1, "--set", "pseudo=still")[0] == 0  # what was refused is not in the way
    refused(call("train", "nothing", "digits", "-o", run), "unknown recipe")
    refused(call("train", "mcvd", "digits", "-o", run, "--preset", "huge"), "unknown preset")
    refused(call("train", "mcvd", "digits", "-o", run, "--set", "lr=1"), "has no field 'lr'")
    refused(call("train", "mcvd", "digits", "-o", run, "--set", "batch_size=many"), "batch_size takes int")
    refused(call("train", "mcvd", "digits", "-o", run, "--budget", "soon"), "cannot read --budget")
    refused(call("train", "mcvd", tmp_path / "none", "-o", tmp_path / "r2"), "none")
    refused(
        call("train", "mcvd", "digits", "-o", tmp_path / "r3", "--set", "height=32", "--steps", 1), "frames of 1x32x64"
    )


def test_train_budget_and_dry_run(call, tmp_path):
    code, text, _ = call("train", "mcvd", "digits", "-o", tmp_path / "r", "--budget", "30m", "--dry-run")
    assert code == 0
    plan = json.loads(text)
    assert plan["budget_seconds"] == 1800
    assert plan["parameters"] > 1e6
    assert not (tmp_path / "r").exists()


def test_typos_get_a_hint_and_exit_two(call):
    for words in (("predct",), ("predict",), ("generate", "--sample", "3")):
        code, out, err = call(*words)
        assert code == 2
        assert "Traceback" not in err + out


def test_recipes_info_and_doctor(call, model):
    rows = json.loads(call("recipes", "--json")[1])
    assert {"recipe", "preset", "parameters", "paper_score"} <= set(rows[0])
    assert "27,941,765" in call("recipes")[1]
    card = json.loads(call("info", model, "--json")[1])
    assert card["seed"] == 3
    assert "mcvd / tiny" in call("info", model)[1]
    assert json.loads(call("doctor", "--json")[1])["codecs"]["libx264"]


def test_help_is_instant_and_needs_no_torch():
    start = time.monotonic()
    code = (
        "import sys, framefill.cli as c; sys.argv = ['framefill', '--help']\ntry: c.main()\nexcept SystemExit: pass\n"
    )
    check = "print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False False")
    assert time.monotonic() - start < 5
    done = subprocess.run([sys.executable, "-m", "framefill", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"framefill {framefill.__version__}"


def test_evaluate_a_model_and_two_folders(call, model, tmp_path):
    out = tmp_path / "report"
    words = ("-o", out, "--clips", 2, "--samples", 2, "--networks", "none", "--frames", 3)
    result = json.loads(call("evaluate", model, "digits", *words, "--json")[1])
    scores = {(f["method"], f["score"]) for f in result["figures"]}
    assert {("model", "crps"), ("hold", "psnr"), ("carried", "ssim"), ("model", "spread-skill")} <= scores
    assert "here 2 clips and 2 samples" in result["card"]["what it means"]
    assert (out / "index.html").is_file()
    again = call("evaluate", model, "digits", *words)
    assert str(out / "index.html") in again[1]


def absent(**_):
    raise NotInstalled("these weights are not installed")


def test_evaluations_that_make_no_sense(call, model, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "i3d", absent)  # what is not installed is no second line of an error
    monkeypatch.setattr(features, "efficientnet_lite0", absent)
    out = ("-o", tmp_path / "report")
    refused(call("evaluate", model, *out), "say what to judge")
    refused(call("evaluate", model, "digits", "--clips", 1, *out), "at least 2 clips")
    refused(call("evaluate", tmp_path / "absent", "--made", tmp_path, *out), "no such folder")
    refused(call("evaluate", model, "digits", "--distance-network", tmp_path / "absent.pt", *out), "absent.pt")


def uneven(path):
    """A film with sound whose frames come at odd moments, written without framefill."""
    from test_doors import UNEVEN, film

    return film(path, UNEVEN, sound=18)


def test_interpolate_keeps_clock_and_sound(call, model, tmp_path):
    from test_doors import UNEVEN, packets

    path = uneven(tmp_path / "a.mp4")
    code, text, _ = call("interpolate", path, "-m", model, "-o", tmp_path / "b.mp4", "--json")
    assert code == 0
    assert json.loads(text)["copied"] == ["audio aac"]
    assert packets(tmp_path / "b.mp4", "audio") == packets(path, "audio")
    times = sorted(time for time, _ in packets(tmp_path / "b.mp4", "video"))
    assert times[::2] == [Fraction(t, 1000) for t in UNEVEN]
    assert times[1::2] == [Fraction(a + b, 2000) for a, b in pairwise(UNEVEN)]
    call("interpolate", path, "-m", model, "-o", tmp_path / "c.mp4", "--source-fps", "24000/1001")
    assert probe(tmp_path / "c.mp4").fps == Fraction(48000, 1001)


def test_an_interrupted_command_goes_on_to_the_same_bytes(call, model, tmp_path, monkeypatch):
    path = uneven(tmp_path / "a.mp4")
    call("interpolate", path, "-m", model, "-o", tmp_path / "whole" / "b.mp4")
    from framefill.video import deliver

    class Broken(deliver.Writer):
        def write(self, frame, time=None):
            if len(list((tmp_path / "b").glob(".*.journal"))) and Broken.left == 0:
                raise Stopped(2)
            Broken.left -= 1
            super().write(frame, time)

    Broken.left = 9
    with monkeypatch.context() as patch:
        patch.setattr(deliver, "Writer", Broken)
        code, _, err = call("interpolate", path, "-m", model, "-o", tmp_path / "b" / "b.mp4")
        assert code == 130
    assert [p.suffix for p in (tmp_path / "b").iterdir()] == [".journal"]
    assert "run the same command again" in err
    code, _, err = call("interpolate", path, "-m", model, "-o", tmp_path / "b" / "b.mp4")
    assert code == 0
    assert "went on from" in err
    for result in (tmp_path / "whole").iterdir():
        assert result.read_bytes() == (tmp_path / "b" / result.name).read_bytes()
    assert len(list((tmp_path / "b").iterdir())) == len(list((tmp_path / "whole").iterdir()))


def test_a_folder_of_clips_is_done_clip_by_clip(call, model, clip, tmp_path):
    folder = tmp_path / "clips"
    (folder / "deep").mkdir(parents=True)
    for name in ("one.mp4", "deep/two.mp4", "deep/two.mkv"):
        shutil.copy(clip, folder / name)
    (folder / "bad.mp4").write_text("not a film")
    code, _, err = call("predict", folder, "-m", model, "-o", tmp_path / "out", "--frames", 2)
    assert code == 2
    assert "bad.mp4" in err
    assert "1 of 4 clips could not be used" in err
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.mp4")}
    assert found == {"one.mp4-predicted.mp4", "deep/two.mp4-predicted.mp4", "deep/two.mkv-predicted.mp4"}
    stamps = [p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")]
    (folder / "bad.mp4").unlink()
    assert call("predict", folder, "-m", model, "-o", tmp_path / "out", "--frames", 2)[0] == 0
    assert [p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")] == stamps
    refused(call("predict", folder, "-m", model, "-o", tmp_path / "out.mp4"), "give a folder with -o")


def test_processes_share_a_folder_of_clips(call, model, clip, tmp_path, monkeypatch):
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(3):
        shutil.copy(clip, folder / f"{number}.mp4")
    made = []
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert call("predict", folder, "-m", model, "-o", tmp_path / "out", "--frames", 2)[0] == 0
        made.append({p.name[0] for p in (tmp_path / "out").glob("*.mp4")})
    assert made == [{"0", "2"}, {"0", "1", "2"}]


def test_rates_and_codecs_that_make_no_sense(call, model, clip, tmp_path):
    out = ("-m", model, "-o", tmp_path / "o.mp4")
    refused(call("predict", clip, "--fps", "soon", *out), "--fps")
    refused(call("predict", clip, "--fps", "1/0", *out), "--fps")
    refused(call("predict", clip, "--fps", "-5", *out), "--fps")
    refused(call("predict", clip, "--codec", "ffv1", *out), "give h264, av1, vp9")
    refused(call("predict", clip, "--most", 1e-6, *out), "raise the limit")
    assert not (tmp_path / "o.mp4").exists()


def test_one_frame_has_nothing_between(call, model, tmp_path):
    with Writer(tmp_path / "one.mp4", Fraction(25)) as writer:
        writer.write(MovingDigits("test").sample(0, length=1, strides=(1,))[0])
    refused(call("interpolate", tmp_path / "one.mp4", "-m", model, "-o", tmp_path / "o.mp4"), "has one frame")
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".mp4" and p.name != "one.mp4"]
    assert call("predict", tmp_path / "one.mp4", "-m", model, "-o", tmp_path / "o.mp4", "--frames", 2)[0] == 0


def test_names_that_are_too_long_or_change_the_terminal(call, model, clip, tmp_path):
    long = tmp_path / f"{'x' * 245}.mp4"
    shutil.copy(clip, long)
    refused(call("predict", long, "-m", model, "-o", tmp_path / "out"), "give a short one")
    assert call("predict", long, "-m", model, "-o", tmp_path / "out" / "short.mp4", "--frames", 2)[0] == 0
    _, _, err = call("predict", tmp_path / "a\x1b[31m\nb.mp4", "-m", model)
    assert "a\\x1b[31m b.mp4" in err
    assert "\x1b" not in err


def test_a_job_stopped_among_its_last_files_goes_on(call, model, clip, tmp_path, monkeypatch):
    """The video is there under its name, the previews are not: the same command finishes, another one is refused."""
    from framefill.video import deliver

    words = ("predict", clip, "-m", model, "-o", tmp_path / "out" / "b.mp4", "--frames", 2)

    def stop(*_):
        raise Stopped(15)

    with monkeypatch.context() as patch:
        patch.setattr(deliver, "previews", stop)
        assert call(*words)[0] == 143
    video = tmp_path / "out" / "b.mp4"
    made = video.read_bytes()
    refused(call(*words, "--seed", 5), "exists; use --overwrite")
    assert video.read_bytes() == made
    assert call(*words)[0] == 0
    assert video.read_bytes() == made
    assert (tmp_path / "out" / "b-sheet.png").exists()
    refused(call(*words), "exists; use --overwrite")


def test_clips_from_nothing_need_a_network_to_judge_them(call, model, tmp_path):
    words = ("--task", "generate", "--clips", 2, "--samples", 1, "--frames", 2, "--networks", "none")
    refused(call("evaluate", model, "digits", *words, "-o", tmp_path / "r"), "need a feature network")
