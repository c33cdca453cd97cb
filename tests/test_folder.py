"""Training data: what is found and kept, how it is split, and which windows are drawn from it."""

import json
import os
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from framefill.errors import BadInput, MediaError
from framefill.video import folder as module
from framefill.video.files import Writer
from framefill.video.folder import Clips, Run, Source, Windows, cuts, split
from framefill.video.shots import distinct

SIZE = {"height": 16, "width": 24, "channels": 3}


def noise(length, seed=0, size=(16, 24), channels=3):
    return np.random.default_rng(seed).integers(0, 256, (length, *size, channels), np.uint8)


def pan(length, seed=0, speed=2, size=(48, 64)):
    """A camera that moves over a smooth picture of its own."""
    rng = np.random.default_rng(seed)
    wide = Image.fromarray(rng.integers(0, 256, (8, 40, 3), np.uint8)).resize((size[1] * 8, size[0]))
    return np.stack([np.asarray(wide)[:, shift * speed : shift * speed + size[1]] for shift in range(length)])


def save(path, frames, fps=25):
    path.parent.mkdir(parents=True, exist_ok=True)
    with Writer(path, Fraction(fps)) as writer:
        for frame in frames:
            writer.write(frame)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    return path


def opened(data, **options):
    return Clips.open(data, **{**SIZE, "cache": data.parent / "cache", **options})


def source(name, length, cuts=()):
    return Source(name, Path(f"{name}.npy"), length, Fraction(25), tuple(cuts))


# What is found and kept


def test_clips_of_every_kind_are_found_in_order(data):
    save(data / "b.npy", noise(4))
    save(data / "a" / "deep" / "c.mp4", pan(5, size=(16, 24)))
    save(data / "a.gif", noise(6))
    save(data / "frames", noise(7))
    save(data / "with video" / "x.npy", noise(3))
    Image.new("RGB", (64, 64)).save(data / "with video" / "poster.png")
    Image.new("RGB", (64, 64)).save(data / "with video" / "poster2.png")
    save(data / ".hidden" / "x.npy", noise(4))
    save(data / ".x.npy", noise(4))
    (data / "readme.txt").write_text("not a clip")
    clips = opened(data)
    assert [(s.name, s.length) for s in clips.sources] == [
        ("a/deep/c.mp4", 5), ("a.gif", 6), ("b.npy", 4), ("frames", 7), ("with video/x.npy", 3),
    ]  # fmt: skip
    assert clips.skipped == []
    assert (np.load(clips.sources[2].path) == noise(4)).all()


def test_clips_are_fitted(data):
    frames = np.zeros((4, 40, 60, 3), np.uint8)
    frames[:, :, 20:40] = np.random.default_rng(0).integers(0, 256, (4, 1, 1, 3))
    save(data / "a.npy", frames)
    save(data / "b.mp4", pan(4))
    clips = opened(data, height=10, width=5, channels=1)
    for item in clips.sources:
        assert item.runs()[0].frames().shape == (4, 10, 5, 1)
    luma = frames[:, 20, 30] @ [0.299, 0.587, 0.114]
    assert np.abs(clips.sources[0].runs()[0].frames()[:, 5, 2, 0] - luma).max() < 3


def test_one_clip_is_a_folder_of_one(data):
    save(data / "a.mp4", noise(5), 30)
    clips = opened(data / "a.mp4")
    assert [(s.name, s.length, s.fps) for s in clips.sources] == [("a.mp4", 5, 30)]


def test_what_cannot_be_read_is_skipped_and_told(data):
    save(data / "good.npy", noise(4))
    (data / "bad.mp4").write_text("nothing of the kind")
    np.save(data / "wrong.npy", np.zeros(3))
    (data / "gone.mp4").symlink_to(data / "nowhere.mp4")
    seen = []
    clips = opened(data, progress=lambda *report: seen.append(report))
    assert [s.name for s in clips.sources] == ["good.npy"]
    assert [path.name for path, _ in clips.skipped] == ["bad.mp4", "gone.mp4", "wrong.npy"]
    assert "cannot be read" in clips.skipped[0][1]
    assert seen == [(1, 4, "bad.mp4"), (2, 4, "gone.mp4"), (3, 4, "good.npy"), (4, 4, "wrong.npy")]


def test_nothing_to_use(data):
    with pytest.raises(MediaError, match="no clips in it"):
        opened(data)
    with pytest.raises(MediaError, match="no such folder"):
        opened(data / "missing")
    (data / "bad.mp4").write_text("nothing of the kind")
    with pytest.raises(MediaError, match=r"none of 1 clips can be used.*bad\.mp4"):
        opened(data)


@pytest.mark.parametrize("option", [{"height": 0}, {"width": -1}, {"channels": 2}])
def test_impossible_sizes(data, option):
    with pytest.raises(BadInput, match="at least 1x1"):
        opened(data, **option)


# The cache


@pytest.fixture
def decoded(monkeypatch):
    """The paths that were decoded."""
    paths = []
    read = module.read
    monkeypatch.setattr(module, "read", lambda path, **options: paths.append(path) or read(path, **options))
    return paths


def test_a_clip_is_decoded_once(data, decoded):
    save(data / "a.mp4", noise(5))
    save(data / "frames", noise(3))
    first = opened(data)
    assert len(decoded) == 2
    assert opened(data) == first
    assert len(decoded) == 2


def test_changed_files_and_wishes_are_decoded_again(data, decoded):
    save(data / "a.npy", noise(5))
    save(data / "frames", noise(3))
    opened(data)
    opened(data, height=8)
    opened(data, channels=1)
    opened(data, drop_duplicates=False)
    assert len(decoded) == 8
    opened(data)
    assert len(decoded) == 8  # each wish has an entry of its own
    Image.new("RGB", (24, 16)).save(data / "frames" / "000001.png")
    np.save(data / "a.npy", noise(5, seed=1))
    os.utime(data / "a.npy", ns=(1, 1))
    clips = opened(data)
    assert len(decoded) == 10
    assert (clips.sources[0].runs()[0].frames() == noise(5, seed=1)).all()
    assert (clips.sources[1].runs()[0].frames()[1] == 0).all()


def shorten(path):
    path.write_bytes(path.read_bytes()[:-7])


DAMAGE = {
    "short array": lambda array: shorten(array),
    "empty array": lambda array: array.write_bytes(b""),
    "other array": lambda array: np.save(array, noise(5, size=(9, 9))),
    "no array": lambda array: array.unlink(),
    "no note": lambda array: array.with_suffix(".json").unlink(),
    "short note": lambda array: shorten(array.with_suffix(".json")),
    "other note": lambda array: array.with_suffix(".json").write_text(json.dumps([1])),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_again(data, damage):
    save(data / "a.npy", noise(5))
    first = opened(data)
    DAMAGE[damage](first.sources[0].path)
    assert opened(data) == first
    assert (first.sources[0].runs()[0].frames() == noise(5)).all()


def test_a_failure_leaves_no_entry(data):
    cache = data.parent / "cache"
    save(data / "bad.npy", noise(5))
    frames = np.load(data / "bad.npy") / 255
    frames[3] = np.nan
    np.save(data / "bad.npy", frames)
    save(data / "good.npy", noise(3))
    opened(data)
    assert sorted(entry.suffix for entry in cache.iterdir()) == [".json", ".npy"]


def test_the_cache_may_lie_in_the_folder_and_has_a_place_of_its_own(data, monkeypatch):
    save(data / "a.npy", noise(3))
    for _ in range(2):
        assert len(opened(data, cache=data / "cache").sources) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(data.parent / "home"))
    assert opened(data / "a.npy", cache=None).sources[0].path.parent == data.parent / "home" / "framefill"


def test_a_cache_that_cannot_be_made(data):
    save(data / "a.npy", noise(3))
    with pytest.raises(MediaError, match="no cache"):
        opened(data, cache=data / "a.npy" / "cache")


# Duplicates and cuts


def test_repeated_frames_are_dropped_unless_asked(data):
    frames = pan(6, size=(16, 24))
    save(data / "a.npy", np.repeat(frames, [1, 3, 1, 1, 2, 1], axis=0))
    assert (opened(data).sources[0].runs()[0].frames() == frames).all()
    assert opened(data, drop_duplicates=False).sources[0].length == 9


def test_what_is_distinct():
    still = np.full((64, 64, 1), 100, np.uint8)
    noisy = still + (np.arange(64 * 64).reshape(64, 64, 1) % 8 == 0).astype(np.uint8)
    small = still.copy()
    small[3, 3:5] = 200  # moves the mean by 0.05 levels, and yet something is there
    brighter = still + 1
    kept = list(distinct([still, still, noisy, small, small, still, brighter]))
    assert [id(frame) for frame in kept] == [id(still), id(small), id(still), id(brighter)]


def test_slow_change_is_not_lost():
    fade = [np.full((8, 8, 1), 100, np.uint8) for _ in range(20)]
    for number, frame in enumerate(fade):
        frame.flat[: 2 * number] += 5  # each step is below the threshold
    assert 3 < len(list(distinct(fade))) < 20


def test_cuts_are_where_shots_meet():
    shots = [pan(12, seed) for seed in range(5)]
    assert cuts(np.concatenate(shots)) == [12, 24, 36, 48]


def test_a_cut_amid_motion_is_seen_by_its_levels():
    assert cuts(np.concatenate([pan(12, 0, speed=9) // 2, pan(12, 1, speed=9) // 2 + 30])) == [12]


@pytest.mark.parametrize("channels", [1, 3])
def test_cuts_between_grey_shots_and_at_the_ends(channels):
    frames = np.concatenate([pan(1, 0), pan(9, 1), pan(1, 2)])[..., :channels]
    assert cuts(frames) == [1, 10]


@pytest.mark.parametrize(
    "frames",
    [
        pan(30, speed=6),
        np.concatenate([pan(10), np.full((1, 48, 64, 3), 255, np.uint8), pan(20)[10:]]),  # a flash
        np.concatenate([pan(10), np.full((2, 48, 64, 3), 255, np.uint8), pan(20)[10:]]),
        noise(20),
        np.stack([np.full((8, 8, 1), 255 * (number % 2), np.uint8) for number in range(20)]),
        np.stack([np.full((8, 8, 1), 12 * number, np.uint8) for number in range(20)]),  # a fade
        np.repeat(np.array([100, 104], np.uint8), 6)[:, None, None, None] * np.ones((12, 8, 8, 1), np.uint8),
        np.zeros((10, 8, 8, 3), np.uint8),
        noise(1),
        noise(2)[:0],
    ],
    ids=["pan", "flash", "long flash", "noise", "flicker", "fade", "small step", "still", "one", "none"],
)
def test_what_is_no_cut(frames):
    assert cuts(frames) == []


def test_cuts_survive_the_codec(data):
    save(data / "a.mp4", np.concatenate([pan(12, seed, size=(48, 64)) for seed in range(3)]))
    clips = opened(data, height=24, width=32)
    assert clips.sources[0].cuts == (12, 24)
    assert [(run.start, run.stop) for run in clips.sources[0].runs()] == [(0, 12), (12, 24), (24, 36)]
    assert [(run.start, run.stop) for run in clips.sources[0].runs(5, 24)] == [(5, 12), (12, 24)]


# Splits


@given(
    st.integers(3, 40),
    st.integers(0, 1000),
    st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.98, 0.01, 0.01), (0.0, 0.5, 0.5), (0.7, 0.3, 0.0)]),
)
def test_splits_divide_the_files(count, seed, fractions):
    clips = Clips([source(f"{number:02d}", 10 + number, [4]) for number in range(count)], [])
    parts = split(clips, seed=seed, fractions=fractions)
    names = {part: {run.name for run in runs} for part, runs in parts.items()}
    assert list(parts) == ["train", "val", "test"]
    assert sum(map(len, names.values())) == len(set.union(*names.values())) == count
    for part, fraction in zip(names, fractions, strict=True):
        assert (len(names[part]) > 0) == (fraction > 0)
        assert abs(len(names[part]) - fraction * count) < 2
    assert all(sum(len(r) for r in runs if r.name == "05") in (0, 15) for runs in parts.values())


def test_a_split_depends_on_names_and_seed_alone():
    items = [source(f"{number}.mp4", 9) for number in range(10)]
    others = [source(item.name, 50, [20]) for item in reversed(items)]

    def names(sources, seed):
        return {part: {r.name for r in runs} for part, runs in split(Clips(sources, []), seed=seed).items()}

    assert names(items, 3) == names(others, 3)
    assert len({str(sorted(names(items, seed)["test"])) for seed in range(20)}) > 5
    assert names(items, 0)["val"] == {"5.mp4"}  # for ever: what was held out stays held out


@pytest.mark.parametrize("count", [1, 2])
def test_few_clips_are_split_by_time(count):
    clips = Clips([source(str(number), 50, [10, 42]) for number in range(count)], [])
    assert "by time" in clips.warning
    parts = split(clips)
    frames = Counter()
    for part, (start, stop) in {"train": (0, 40), "val": (40, 45), "test": (45, 50)}.items():
        assert {(run.start, run.stop) for run in parts[part]} <= {
            (0, 10),
            (10, 40),
            (40, 42),
            (42, 45),
            (45, 50),
        }
        assert min(run.start for run in parts[part]) == start
        assert max(run.stop for run in parts[part]) == stop
        frames.update((run.name, number) for run in parts[part] for number in range(run.start, run.stop))
    assert len(frames) == 50 * count
    assert set(frames.values()) == {1}
    assert Clips([source(str(number), 9) for number in range(3)], []).warning is None


@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_that_are_none(fractions):
    with pytest.raises(BadInput, match="sum to 1"):
        split(Clips([source("a", 9)], []), fractions=fractions)


# Windows


@pytest.fixture
def numbered(tmp_path):
    """Runs whose pixels say where they are: red the run, green the frame, blue the row and column."""

    def make(*lengths, size=(6, 8)):
        runs = []
        for run, length in enumerate(lengths):
            frames = np.empty((length + 2, *size, 3), np.uint8)
            frames[..., 0], frames[..., 1] = run, np.arange(length + 2)[:, None, None]
            frames[..., 2] = np.arange(size[0])[:, None] * 16 + np.arange(size[1])
            np.save(tmp_path / f"{run}.npy", frames)
            runs.append(Run(str(run), tmp_path / f"{run}.npy", 1, length + 1))
        return runs

    return make


def test_a_window_is_frames_of_one_run(numbered):
    runs = numbered(5, 9, 3)
    windows = Windows(runs)
    for seed in range(200):
        window = windows.sample(seed, length=3, strides=(1, 2))
        assert window.shape == (3, 6, 8, 3)
        run, numbers = window[0, 0, 0, 0], window[:, 0, 0, 1].astype(int)
        assert (window[..., 0] == run).all()
        assert set(np.diff(numbers)) in ({1}, {2})
        assert numbers[0] > 0
        assert numbers[-1] <= len(runs[run])


def test_every_window_is_equally_likely(numbered):
    windows = Windows(numbered(5, 9, 2))
    assert windows.count(length=3, strides=(1, 2, 4)) == 3 + 7 + 1 + 5 + 1
    seen = Counter()
    for seed in range(3400):
        window = windows.sample(seed, length=3, strides=(1, 2, 4))
        seen[tuple(window[:, 0, 0, 1]), window[0, 0, 0, 0]] += 1
    assert len(seen) == 17
    assert all(140 < count < 270 for count in seen.values())  # 200 each, five standard deviations


def test_a_window_is_a_pure_function(numbered):
    windows = Windows(numbered(9, 9))
    options = {"length": 4, "strides": (1, 2), "size": (3, 4), "flip": True}
    first = [windows.sample(seed, **options) for seed in range(20)]
    again = [windows.sample(seed, **options) for seed in reversed(range(20))]
    assert all((a == b).all() for a, b in zip(first, reversed(again), strict=True))
    assert len({window.tobytes() for window in first}) > 15
    first[0][:] = 0  # the caller's own, not the file's
    assert (windows.sample(0, **options) == again[-1]).all()


def test_crops_and_mirrors_reach_every_place(numbered):
    windows = Windows(numbered(4))
    places, mirrored = Counter(), Counter()
    for seed in range(600):
        window = windows.sample(seed, length=2, size=(5, 6), flip=True)
        assert window.shape == (2, 5, 6, 3)
        blue = window[0, ..., 2].astype(int)
        step = blue[0, 1] - blue[0, 0]
        assert (np.diff(blue, axis=1) == step).all()
        assert (window[1, ..., 2] == blue).all()  # all frames of a window alike
        mirrored[step] += 1
        places[blue.min()] += 1
    assert set(places) == {0, 1, 2, 16, 17, 18}
    assert set(mirrored) == {-1, 1}
    assert 240 < mirrored[1] < 360
    assert {int(np.diff(windows.sample(s, length=1)[0, 0, :2, 2].astype(int))[0]) for s in range(50)} == {1}


def test_a_window_never_crosses_a_cut(data):
    shots = [pan(11, seed, size=(16, 24)) // 4 + 60 * seed for seed in range(4)]
    save(data / "a.npy", np.concatenate(shots))
    windows = Windows(split(opened(data), fractions=(1, 0, 0))["train"])
    assert len(windows.runs) == 4
    for seed in range(100):
        window = windows.sample(seed, length=5, strides=(1, 2))
        assert np.ptp(window.mean((1, 2, 3))) < 30


def test_no_run_is_long_enough(numbered):
    windows = Windows(numbered(5, 9))
    assert windows.count(length=5, strides=(3,)) == 0
    with pytest.raises(BadInput, match=r"takes 13 frames and the longest run has 9"):
        windows.sample(0, length=5, strides=(3, 4))
    with pytest.raises(BadInput, match="more clips"):
        Windows([])


@pytest.mark.parametrize("options", [{"length": 0}, {"length": 2, "strides": ()}, {"length": 2, "strides": (1, 0)}])
def test_windows_that_are_none(numbered, options):
    with pytest.raises(BadInput, match="at least 1"):
        Windows(numbered(5)).sample(0, **options)


@pytest.mark.parametrize("size", [(7, 8), (6, 9), (0, 4)])
def test_crops_that_do_not_fit(numbered, size):
    with pytest.raises(BadInput, match="cannot crop"):
        Windows(numbered(5)).sample(0, length=2, size=size)
