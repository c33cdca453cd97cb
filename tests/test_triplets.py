"""Triplets from film: what is seen of three frames is the same piece, and the wanted one lies where its time says."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from framefill.errors import BadInput, MediaError
from framefill.video.files import Writer
from framefill.video.folder import Clips
from framefill.video.triplets import opening
from framefill.video.triplets.film import Film
from framefill.video.triplets.opening import opened
from framefill.video.triplets.triplet import Mixture, Triplet
from framefill.video.triplets.variation import drawn, plain
from framefill.video.windows import Run


def run(path, frames):
    np.save(path, frames)
    return Run("clip", path, 0, len(frames))


def texture(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def disc(length, speed, size=(72, 96), start=(20.0, 12.0), spread=5.0):
    """A bright spot in the dark that moves by `speed` (rows, columns) a frame."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    places = [np.add(start, np.multiply(speed, t)) for t in range(length)]
    light = [np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * spread**2)) for y, x in places]
    return np.repeat((np.stack(light) * 250).round().astype(np.uint8)[..., None], 3, -1)


def centre(frame):
    """The centre of the light of a frame, or None where its border cuts it off."""
    light = frame.sum(-1).astype(float)
    if max(light[0].max(), light[-1].max(), light[:, 0].max(), light[:, -1].max()) > 6 or not light.any():
        return None
    return np.array([(light.sum(1 - axis) * np.arange(light.shape[axis])).sum() / light.sum() for axis in (0, 1)])


def save(path, frames, fps=25):
    path.parent.mkdir(parents=True, exist_ok=True)
    with Writer(path, Fraction(fps)) as writer:
        for frame in frames:
            writer.write(frame)


# One triplet


def test_a_triplet_is_a_function_of_its_seed_and_seeds_differ(tmp_path):
    film = Film([run(tmp_path / "a.npy", texture((12, 40, 60, 3)))], (24, 32))
    again = Film([run(tmp_path / "a.npy", texture((12, 40, 60, 3)))], (24, 32))
    seen = [film.triplet(seed) for seed in range(20)]
    for seed, one in reversed(list(enumerate(seen))):
        same = again.triplet(seed)
        assert (one.frames == same.frames).all()
        assert one.time == same.time
    assert len({one.frames.tobytes() for one in seen}) == 20


def test_all_frames_of_a_triplet_are_seen_alike(tmp_path):
    still = np.repeat(texture((1, 50, 70, 3)), 9, 0)
    film = Film([run(tmp_path / "a.npy", still)], (16, 24))
    looks = set()
    for seed in range(60):
        frames = film.triplet(seed).frames
        assert frames.shape == (3, 16, 24, 3)
        assert (frames == frames[0]).all()
        looks.add(frames[0].tobytes())
    assert len(looks) == 60


def test_the_wanted_frame_lies_where_its_time_says(tmp_path):
    film = Film([run(tmp_path / "a.npy", disc(9, (2.5, 4.0)))], (56, 64))
    times, ways = set(), set()
    for seed in range(300):
        one = film.triplet(seed)
        first, wanted, last = map(centre, one.frames)
        if first is None or wanted is None or last is None:
            continue
        times.add(round(one.time, 3))
        # Half a pixel of box and rounding of levels is far below the step of one frame, 4.7 pixels (1.6 if shrunk).
        assert wanted == pytest.approx(first + one.time * (last - first), abs=0.12)
        ways.add((*np.sign(last - first), abs(last - first)[0] > abs(last - first)[1]))
    assert times == {0.5, 0.333, 0.667, 0.25, 0.75}
    assert len(ways) == 8  # mirrored either way, transposed, or played backwards


def test_time_runs_backwards_as_often_as_forwards(tmp_path):
    levels = np.repeat(np.arange(40, 220, 10, dtype=np.uint8), 20 * 20 * 3).reshape(-1, 20, 20, 3)
    film = Film([run(tmp_path / "a.npy", levels)], (16, 16))
    rises = []
    for seed in range(200):
        one = film.triplet(seed)
        first, wanted, last = one.frames.mean((1, 2, 3))
        rises.append(last > first)
        # The levels are bent alike in all three, so by their order and distance the time is still known, about.
        assert (wanted - first) / (last - first) == pytest.approx(one.time, abs=0.1)
    assert 70 < sum(rises) < 130


def test_held_out_triplets_are_pieces_of_the_clip_as_it_is(tmp_path):
    clip = texture((5, 20, 30, 3))
    film = Film([run(tmp_path / "a.npy", clip)], (20, 30), varied=False)
    for seed in range(20):
        one = film.triplet(seed)
        numbers = [int(np.flatnonzero((clip == frame).all((1, 2, 3)))[0]) for frame in one.frames]
        assert numbers == sorted(numbers)
        assert (numbers[1] - numbers[0]) / (numbers[2] - numbers[0]) == one.time


def test_further_known_frames_lie_a_gap_apart(tmp_path):
    levels = np.repeat(np.arange(20, dtype=np.uint8), 8 * 8 * 3).reshape(-1, 8, 8, 3)
    film = Film([run(tmp_path / "a.npy", levels)], (8, 8), context=2, varied=False)
    for seed in range(50):
        one = film.triplet(seed)
        number = one.frames[:, 0, 0, 0].astype(int)
        before, first, wanted, last, after = number
        assert first - before == last - first == after - last
        assert (wanted - first) / (last - first) == one.time
    with pytest.raises(BadInput, match="known frames on either side"):
        Film([], (8, 8), context=0)


def test_no_triplet_crosses_a_cut(tmp_path):
    first, second = (
        run(tmp_path / "a.npy", texture((40, 8, 8, 3)) // 4),
        replace(run(tmp_path / "b.npy", texture((60, 8, 8, 3)) // 4 + 128), start=50),
    )
    film = Film([first, second], (8, 8), varied=False)
    assert len(film) == 38 + 8
    sides = [{bool(frame.mean() > 127) for frame in film.triplet(seed).frames} for seed in range(300)]
    assert all(len(side) == 1 for side in sides)
    assert (
        20 < sum(side == {True} for side in sides) < 90
    )  # every place is equally likely: 8 of 46, fewer at longer gaps


def test_what_moves_is_taken_before_what_stands_still(tmp_path):
    clip = np.full((30, 32, 128, 3), 90, np.uint8)
    clip[:, :, :32] = texture((30, 32, 32, 3))
    film = Film([run(tmp_path / "a.npy", clip)], (16, 16), varied=False)
    moving = [np.ptp(film.triplet(seed).frames, axis=0).any() for seed in range(300)]
    # Columns 0 to 31 of the first of 113 places move, 28 percent; in one of three tries, 63 percent.
    assert 0.52 < np.mean(moving) < 0.74


def test_a_run_too_short_or_too_small_is_refused(tmp_path):
    short = run(tmp_path / "a.npy", texture((2, 8, 8, 3)))
    with pytest.raises(BadInput, match="takes 3 frames and the longest run has 2"):
        Film([short], (8, 8))
    with pytest.raises(BadInput, match="takes 3 frames and the longest run has 0"):
        Film([], (8, 8))
    with pytest.raises(BadInput, match="cannot crop"):
        Film([run(tmp_path / "b.npy", texture((5, 8, 8, 3)))], (9, 8)).triplet(0)


# How it is seen


def test_a_variation_that_changes_nothing_is_the_piece_itself():
    frames = texture((3, 20, 30, 3))
    seen = plain((20, 30, 3), (12, 10), np.random.default_rng(0))
    top, left, _, _ = seen.box
    assert (seen(frames) == frames[:, top : top + 12, left : left + 10]).all()
    turned = replace(seen, transposed=True, mirrored=(True, False), channels=(2, 0, 1))(frames)
    piece = frames[:, top : top + 12, left : left + 10]
    assert (turned == piece[:, ::-1].swapaxes(1, 2)[..., [2, 0, 1]]).all()


def test_a_shrunk_piece_keeps_its_light_and_shows_the_whole_of_its_box():
    ramp = np.repeat(np.add.outer(np.arange(90), np.arange(120))[None, ..., None], 3, -1).astype(np.uint8)
    same = plain((90, 120, 3), (90, 120), np.random.default_rng(0))
    small = replace(same, size=(36, 48))(ramp)
    assert small.shape == (1, 36, 48, 3)
    expected = np.add.outer(np.arange(36) + 0.5, np.arange(48) + 0.5) * 2.5 - 1  # centres stay where they are
    assert np.abs(small[0, 2:-2, 2:-2, 0] - expected[2:-2, 2:-2]).max() <= 1
    grey = replace(same, size=(36, 48), channels=(0,))(ramp[..., :1])
    assert (grey == small[..., :1]).all()


def test_variations_shrink_at_most_three_times_and_stay_inside():
    rng, scales = np.random.default_rng(0), []
    for _ in range(400):
        seen = drawn((100, 300, 3), (20, 40), rng)
        top, left, height, width = seen.box
        assert min(top, left) >= 0
        assert top + height <= 100
        assert left + width <= 300
        assert seen.size == ((40, 20) if seen.transposed else (20, 40))
        assert (np.diff(seen.levels.astype(int)) >= 0).all()
        scales.append(width / seen.size[1])
    assert max(scales) <= 3
    assert sum(scale == 1 for scale in scales) / 400 == pytest.approx(0.5, abs=0.1)
    assert not any(drawn((30, 50, 3), (20, 40), rng).transposed for _ in range(20))  # 40 rows are not there


# Mixtures


class Constant:
    """A source of one level."""

    def __init__(self, level):
        self.level = level

    def triplet(self, seed):
        return Triplet(np.full((3, 1, 1, 1), self.level, np.uint8), 0.5)


def test_a_mixture_draws_from_each_source_by_its_share():
    mixture = Mixture([Constant(1), Constant(2), Constant(3)], [3, 0, 1])
    drawn = [int(mixture.triplet(seed).frames[0, 0, 0, 0]) for seed in range(1000)]
    assert drawn == [int(mixture.triplet(seed).frames[0, 0, 0, 0]) for seed in range(1000)]
    assert set(drawn) == {1, 3}
    assert drawn.count(1) / 1000 == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("shares", [[], [1], [1, -1], [0, 0], [1, float("nan")], [1, float("inf")]])
def test_shares_that_say_no_proportions_are_refused(shares):
    with pytest.raises(BadInput, match="one each"):
        Mixture([Constant(1), Constant(2)], shares)


# Folders


@pytest.fixture
def folder(tmp_path):
    """Five clips of different sizes; in one of them a cut."""
    for number, size in enumerate([(48, 64), (40, 80), (64, 48), (48, 64)]):
        save(tmp_path / "clips" / f"{number}.npy", disc(9, (1, 2), size, (12, 10)) // 2 + 16 * number)
    two = np.concatenate([disc(6, (2, 1), (48, 64)) // 4, 255 - disc(7, (1, 2), (48, 64)) // 4])
    save(tmp_path / "clips" / "cut.npy", two)
    return tmp_path / "clips"


def test_clips_are_kept_in_their_own_size_and_split_as_clips(folder, tmp_path):
    parts = {part: opened(folder, part, size=(32, 40), cache=tmp_path / "cache") for part in ("train", "val", "test")}
    names = {part: {run.name for run in film.runs} for part, film in parts.items()}
    assert sum(map(len, names.values())) == 5
    assert set.union(*names.values()) == {"0.npy", "1.npy", "2.npy", "3.npy", "cut.npy"}
    runs = {run.name: run for film in parts.values() for run in film.runs}
    assert runs["1.npy"].frames().shape == (9, 40, 80, 3)
    assert parts["train"].varied
    assert not parts["val"].varied
    edges = sorted((run.start, run.stop) for film in parts.values() for run in film.runs if run.name == "cut.npy")
    assert edges == [(0, 6), (6, 13)]
    assert parts["train"].triplet(0).frames.shape == (3, 32, 40, 3)


def test_large_clips_are_shrunk_small_ones_enlarged_repeats_dropped(tmp_path):
    save(tmp_path / "large" / "a.npy", np.repeat(texture((4, 120, 90, 3)), 2, 0))
    save(tmp_path / "large" / "b.npy", texture((3, 20, 40, 3)))
    clips = Clips.open_unfitted(tmp_path / "large", lines=60, smallest=(24, 24), channels=3, cache=tmp_path / "cache")
    shapes = [np.load(source.path, mmap_mode="r").shape for source in clips.sources]
    assert shapes == [(4, 80, 60, 3), (3, 24, 48, 3)]


def test_what_cannot_be_learnt_from_is_refused(tmp_path, folder):
    with pytest.raises(MediaError, match="no such folder"):
        opened(tmp_path / "nothing", "train", size=(16, 16), cache=tmp_path / "cache")
    with pytest.raises(BadInput, match="at least 1x1"):
        opened(folder, "train", size=(0, 16), cache=tmp_path / "cache")
    with pytest.raises(BadInput, match="at most 0 lines"):
        Clips.open_unfitted(folder, lines=0, smallest=(1, 1), channels=3, cache=tmp_path / "cache")
    (tmp_path / "bair").mkdir()
    with pytest.raises(BadInput, match="no film to learn interpolation from"):
        opened(f"bair:{tmp_path / 'bair'}", "train", size=(16, 16), cache=tmp_path / "cache")


def test_bars_beside_the_picture_are_not_seen(tmp_path):
    clip = np.random.default_rng(0).integers(0, 12, (12, 80, 60, 3), np.uint8)
    clip[:, 20:60, 10:] = texture((12, 40, 50, 3)) // 2 + 100
    clip[3] = 0  # as in a fade
    clip[:, 5, 30] = clip[:, 70, 2] = 255  # specks of noise
    save(tmp_path / "bars" / "a.npy", clip)
    film = opened(tmp_path / "bars", "train", size=(32, 40), cache=tmp_path / "cache")
    assert list(film.boxes.values()) == [(20, 60, 10, 60)]
    seen = np.stack([film.triplet(seed).frames for seed in range(20)])
    assert (seen.max((1, 3, 4)) > 60).all()  # every row
    assert (seen.max((1, 2, 4)) > 60).all()  # every column
    whole = opened(tmp_path / "bars", "train", size=(64, 40), cache=tmp_path / "cache")
    assert list(whole.boxes.values()) == [(0, 80, 0, 60)]  # the picture alone would be too small
    save(tmp_path / "dark" / "a.npy", clip // 30)
    assert list(opened(tmp_path / "dark", "train", size=(8, 8), cache=tmp_path / "cache").boxes.values()) == [
        (0, 80, 0, 60)
    ]


# Vimeo-90k as distributed


def vimeo(root, kind, length, train, test):
    """Sequences of noise, each of its own brightness, and the lists of them."""
    top = root / f"vimeo_{kind}"
    for number, name in enumerate((*train, *test)):
        place = top / "sequences" / name
        place.mkdir(parents=True)
        for i in range(length):
            Image.fromarray(texture((32, 56, 3), 10 * number + i)).save(place / f"im{i + 1}.png")
    (top / f"{kind[:3]}_trainlist.txt").write_text("\n".join(train) + "\n\n")
    (top / f"{kind[:3]}_testlist.txt").write_text("\n".join(test) + "\n")


@pytest.mark.parametrize(
    ("name", "kind", "length"), [("vimeo90k", "triplet", 3), ("vimeo90k-septuplet", "septuplet", 7)]
)
def test_vimeo_is_read_as_distributed(tmp_path, monkeypatch, name, kind, length):
    monkeypatch.setitem(opening.SIZES, "vimeo90k", (32, 56))
    vimeo(tmp_path, kind, length, ["00001/0001", "00001/0002", "00020/0001"], ["00002/0005"])
    parts = {
        part: opened(f"{name}:{tmp_path}", part, size=(32, 56), cache=tmp_path / "cache")
        for part in ("train", "val", "test")
    }
    assert {part: len(film) for part, film in parts.items()} == {
        "train": 2 * (length - 2), "val": length - 2, "test": length - 2,
    }  # fmt: skip
    pictures = [texture((32, 56, 3), 30 + i) for i in range(length)]
    for seed in range(10):
        one = parts["test"].triplet(seed)
        numbers = [next(i for i, p in enumerate(pictures) if (p == frame).all()) for frame in one.frames]
        assert (numbers[1] - numbers[0]) / (numbers[2] - numbers[0]) == one.time
    (tmp_path / f"vimeo_{kind}" / "sequences" / "00001" / "0001" / "im2.png").unlink()
    with pytest.raises(BadInput, match=r"has no .*im2\.png"):
        opened(f"{name}:{tmp_path}", "train", size=(16, 16), cache=tmp_path / "cache")
