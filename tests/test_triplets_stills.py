"""Triplets whose motion is made up: it is known exactly, so the frames are held against it."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from framefill.errors import BadInput, MediaError
from framefill.video.triplets import shapes
from framefill.video.triplets.film import Film
from framefill.video.triplets.motion import STEEPEST, Motion, Waves, inverse
from framefill.video.triplets.opening import opened
from framefill.video.triplets.scene import Layer, Scene
from framefill.video.triplets.staging import FASTEST, Stage
from framefill.video.triplets.stills import Stills
from framefill.video.triplets.triplet import Mixture
from framefill.video.windows import Run

cv2 = pytest.importorskip("cv2")


def picture(seed=0, size=(200, 240), detail=8):
    """Soft spots of colour."""
    rough = np.random.default_rng(seed).integers(0, 256, (size[0] // detail, size[1] // detail, 3), np.uint8)
    return np.asarray(Image.fromarray(rough).resize(size[::-1], Image.Resampling.BICUBIC))


def stills(path, count=6, **options):
    np.save(path, np.stack([picture(seed) for seed in range(count)]))
    return Stills([Run("pictures", path, 0, count)], **{"size": (64, 80), **options})


def bending(seed=0, density=2.0):
    rng = np.random.default_rng(seed)
    numbers = rng.uniform(0.02, 0.1, (2, 2))
    amplitudes = rng.uniform(-1, 1, (2, 2))
    steep = (np.linalg.norm(amplitudes, axis=1) * np.linalg.norm(numbers, axis=1)).sum()
    waves = Waves((amplitudes * STEEPEST / steep).astype(np.float32), numbers.astype(np.float32), np.float32([1, 2]))
    return Motion((80.0, 70.0), (30.0, 25.0), density, (9.0, -6.0), 0.2, 0.1, 0.05, 0.3, waves)


# Motion


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(-0.5, 1.5))
def test_what_is_seen_somewhere_is_where_it_is_seen(seed, time):
    motion = bending(seed)
    where = np.random.default_rng(seed).uniform(0, 60, (50, 2)).astype(np.float32)
    assert motion.places(motion.sources(where, time), time) == pytest.approx(where, abs=2e-3)


def test_a_shift_turn_and_growth_are_what_they_are_called():
    still = Motion((5.0, 7.0), (20.0, 30.0), 2.0, (8.0, -4.0))
    anchor = np.float32([[5, 7], [9, 7]])
    for time in (0.0, 0.25, 1.0):
        lies = np.array([20 + 8 * (time - 0.5), 30 - 4 * (time - 0.5)])
        assert still.places(anchor, time) == pytest.approx(np.stack([lies, np.add(lies, (2, 0))]), abs=1e-5)
    turned = replace(still, shift=(0.0, 0.0), turn=np.pi / 2, growth=np.log(4.0))
    angles = np.pi / 2 * np.array([-0.5, 0.5])
    for time, angle, factor in zip((0.0, 1.0), angles, (0.5, 2.0), strict=True):
        arm = 2 * factor * np.array([np.cos(angle), np.sin(angle)])
        assert turned.places(anchor, time)[1] == pytest.approx(np.add((20, 30), arm), abs=1e-5)


def test_a_motion_in_a_hurry_begins_and_ends_in_time():
    hurried = Motion((0.0, 0.0), (0.0, 0.0), 1.0, (10.0, 0.0), hurry=0.4)
    lies = [float(hurried.places(np.zeros((1, 2), np.float32), time)[0, 0]) for time in (0, 0.5, 1)]
    assert lies == pytest.approx([-5, -1, 5])


def test_a_finer_piece_is_bent_by_as_much():
    waves, where = bending().waves, np.random.default_rng(0).uniform(0, 90, (20, 2)).astype(np.float32)
    assert waves.at(2.5)(where * 2.5) == pytest.approx(2.5 * waves(where), abs=1e-3)


def test_the_inverse_of_two_by_two():
    matrix = np.array([[2.0, 1.0], [-3.0, 0.5]])
    assert inverse(matrix) @ matrix == pytest.approx(np.eye(2))


# Scenes


def scene(seed=0, *, difficulty=1.0, size=(64, 80), context=1, detail=8):
    """One with motion only."""
    pictures = [picture(n, detail=detail) for n in range(5)]
    stage = Stage(lambda rng: pictures[int(rng.integers(5))], size, context, difficulty)
    return replace(stage.scene(np.random.default_rng(seed)), exposure=0.0, gain=0.0, offset=0.0, noise=0.0)


def test_a_layer_is_read_where_its_motion_says():
    """The light of a ramp is its place, so that a frame shows the places it was read from, to a 32nd of a pixel."""
    ramp = np.repeat(np.add.outer(np.zeros(200), np.arange(200))[..., None], 3, -1).astype(np.uint8)
    grid = np.dstack(np.meshgrid(np.arange(60, dtype=np.float32), np.arange(50, dtype=np.float32)))
    for motion in (bending(), replace(bending(), waves=Waves(*(np.zeros(s, np.float32) for s in ((0, 2), (0, 2), 0))))):
        motion = replace(motion, anchor=(100.0, 100.0))
        for time in (0.0, 0.3, 1.0):
            seen = Scene((Layer.cut(ramp, None, motion),), (50, 60)).light(time)
            assert np.abs(seen[..., 0] - motion.sources(grid, time)[..., 0]).max() < 0.6  # half a level is rounding


def away_from_edges(made, time):
    """1 where only one layer is seen for two pixels around, else 0; float32 (H, W)."""
    owner = np.zeros(made.size, np.uint8)
    grid = np.dstack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in made.size[::-1])))
    for number, layer in enumerate(made.layers):
        owner[layer.covers(grid, time)] = number
    around = np.ones((5, 5))
    return (cv2.erode(owner, around) == cv2.dilate(owner, around)).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_the_first_frame_carried_by_the_flow_is_the_wanted_one(seed):
    made = scene(seed, detail=20)
    first, wanted, last = (made.light(t) for t in (0.0, 0.4, 1.0))
    for start, frame, stop, other in ((0.4, wanted, 0.0, first), (0.4, wanted, 1.0, last), (0.0, first, 1.0, last)):
        flow, visible = made.flow(start, stop)
        grid = np.dstack(np.meshgrid(np.arange(80, dtype=np.float32), np.arange(64, dtype=np.float32)))
        carried = cv2.remap(other, grid + flow, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        error = np.abs(carried - frame).mean(-1)
        # At an edge, then or now, a pixel is a mixture; everywhere else the two are the same picture.
        later = cv2.remap(away_from_edges(made, stop), grid + flow, None, cv2.INTER_LINEAR)
        inside = visible & (later == 1) & (away_from_edges(made, start) == 1)
        assert visible.mean() > 0.2
        assert error[inside].mean() < 1.5
        assert np.quantile(error[inside], 0.98) < 6
        assert np.abs(frame - other).mean() > 2 * error[inside].mean()  # or the flow would have said nothing


def test_a_bent_thing_is_painted_whole():
    motion = replace(bending(2), centre=(48.0, 40.0), anchor=(40.0, 40.0))
    motion = replace(motion, waves=Waves(np.float32([[8.0, 0.0]]), np.float32([[0.0, 0.06]]), np.float32([1.0])))
    mask = np.full((80, 80), 255, np.uint8)
    mask[:2] = mask[-2:] = mask[:, :2] = mask[:, -2:] = 0
    thing = Layer.cut(np.full((80, 80, 3), 200, np.uint8), mask, motion)
    ground = Layer.cut(np.zeros((8, 8, 3), np.uint8), None, Motion((4.0, 4.0), (4.0, 4.0), 1.0, (0.0, 0.0)))
    grid = np.dstack(np.meshgrid(np.arange(96, dtype=np.float32), np.arange(80, dtype=np.float32)))
    for time in (-1.0, 0.0, 1.0, 2.0):
        covered = cv2.remap(thing.pixels[..., 3], motion.sources(grid, time), None, cv2.INTER_LINEAR)
        seen = Scene((ground, thing), (80, 96)).light(time)
        assert np.abs(seen[..., 0] - covered * (200 / 255)).max() < 1.5


def test_what_is_covered_or_has_left_is_not_visible():
    ground = Layer.cut(picture(0), None, Motion((100.0, 100.0), (32.0, 32.0), 2.0, (0.0, 0.0)))
    square = np.zeros((48, 48), np.uint8)
    square[8:40, 8:40] = 255
    thing = Layer.cut(picture(1)[:48, :48], square, Motion((23.5, 23.5), (32.0, 32.0), 2.0, (20.0, 0.0)))
    flow, visible = Scene((ground, thing), (64, 64)).flow(0.0, 1.0)
    assert flow[32, 22] == pytest.approx((20, 0), abs=1e-4)  # 16 pixels wide, from 14 to 30, and to 34 to 50
    assert visible[32, 22]
    assert flow[32, 40] == pytest.approx((0, 0), abs=1e-4)
    assert not visible[32, 40]
    assert visible[32, 8]
    assert visible[10, 40]
    gone = Scene((ground, replace(thing, motion=replace(thing.motion, shift=(90.0, 0.0)))), (64, 64))
    flow, visible = gone.flow(0.5, 1.0)
    assert flow[32, 32] == pytest.approx((45, 0), abs=1e-4)
    assert not visible[32, 32]


def test_edges_are_smooth_and_cover_what_they_should():
    mask = np.zeros((60, 60), np.uint8)
    mask[10:50, 10:50] = 255
    white, black = (np.full((60, 60, 3), level, np.uint8) for level in (255, 0))
    for place in (30.0, 30.3, 30.75):
        thing = Layer.cut(white, mask, Motion((29.5, 29.5), (place, 30.0), 2.0, (0.0, 0.0)))
        seen = Scene((Layer.cut(black, None, Motion((30.0, 30.0), (30.0, 30.0), 1.0, (0.0, 0.0))), thing), (60, 60))
        row = seen.light(0.5)[30, :, 0] / 255
        assert row.sum() == pytest.approx(20, abs=0.1)  # 40 pixels of the piece
        assert (row * np.arange(60)).sum() / row.sum() == pytest.approx(place, abs=0.05)
        assert ((row > 0.02) & (row < 0.98)).sum() in (2, 3, 4, 5, 6)


def test_an_exposure_is_the_mean_of_its_instants_and_blurs_along_the_motion():
    sharp = scene(3)
    blurred = replace(sharp, exposure=0.3)
    count = blurred.instants
    ticks = 0.5 + 0.3 * ((np.arange(count) + 0.5) / count - 0.5)
    assert blurred.light(0.5) == pytest.approx(np.mean([sharp.light(tick) for tick in ticks], 0), abs=1e-3)
    still = Scene(tuple(replace(one, motion=replace(one.motion, shift=(0.0, 0.0))) for one in sharp.layers), (64, 80))
    assert replace(still, exposure=0.3).instants == 1


def test_light_changes_evenly_and_noise_has_its_size():
    grey = Layer.cut(np.full((80, 80, 3), 100, np.uint8), None, Motion((40.0, 40.0), (32.0, 32.0), 1.0, (0.0, 0.0)))
    lit = Scene((grey,), (64, 64), gain=0.2, offset=10.0)
    rng = np.random.default_rng(0)
    assert [lit.frame(t, rng).mean() for t in (0.0, 0.5, 1.0)] == [85, 100, 115]
    noisy = [replace(lit, noise=3.0).frame(0.5, rng).astype(float) for _ in range(2)]
    assert noisy[0].std() == pytest.approx(np.hypot(3, 1 / 12**0.5), rel=0.03)
    assert np.corrcoef(noisy[0].ravel(), noisy[1].ravel())[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("seed", range(6))
def test_difficulty_bounds_the_motion(seed):
    for difficulty, most in ((0.0, 4.0), (1.0, FASTEST)):
        made = scene(seed, difficulty=difficulty)
        assert np.hypot(*made.layers[0].motion.shift) <= most + 1e-9
        assert all(np.hypot(*layer.motion.shift) <= 2 * most + 1e-9 for layer in made.layers)
        assert difficulty or not any(one.motion.bent or one.motion.turn or one.motion.hurry for one in made.layers)
        assert 2 <= len(made.layers) <= 5


@pytest.mark.parametrize(("context", "size"), [(1, (32, 40)), (1, (90, 110)), (2, (40, 50))])
def test_the_ground_is_never_beyond_its_picture(context, size):
    for seed in range(20):
        made = scene(seed, size=size, context=context)
        h, w = made.layers[0].pixels.shape[:2]
        grid = np.dstack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in size[::-1])))
        for time in (1.0 - context, 0.5, float(context)):
            where = made.layers[0].motion.sources(grid, time)
            assert where.min() >= -0.5
            assert where[..., 0].max() <= w - 0.5
            assert where[..., 1].max() <= h - 0.5


def test_a_picture_smaller_than_the_frame_is_mirrored_at_its_border():
    stage = Stage(lambda rng: picture(0, (24, 32)), (64, 80), 1, 1.0)
    for seed in range(5):
        made = stage.scene(np.random.default_rng(seed))
        assert made.layers[0].motion.density == 0.5
        light = Scene(made.layers[:1], (64, 80)).light(0.0)
        assert light.min() >= picture(0, (24, 32)).min()  # black would be darker
        assert light[:, :8].std() > 3
        assert light[:, -8:].std() > 3


@pytest.mark.parametrize("kind", [shapes.ellipse, shapes.polygon, shapes.blob])
def test_shapes_are_neither_empty_nor_all(kind):
    areas = [(kind(60, 26.0, np.random.default_rng(seed)) > 0).mean() for seed in range(60)]
    assert min(areas) > 0.01
    assert max(areas) < 0.8
    assert np.std(areas) > 0.03


def test_shapes_keep_their_margin():
    for seed in range(60):
        mask = shapes.drawn(40, 4, np.random.default_rng(seed))
        assert set(np.unique(mask)) == {0, 255}
        assert not mask[:4].any()
        assert not mask[-4:].any()
        assert not mask[:, :4].any()
        assert not mask[:, -4:].any()


# The source


def test_a_made_up_triplet_is_a_function_of_its_seed(tmp_path):
    source, again = stills(tmp_path / "a.npy"), stills(tmp_path / "a.npy")
    made = [source.triplet(seed) for seed in range(12)]
    for seed, one in reversed(list(enumerate(made))):
        assert (one.frames == again.triplet(seed).frames).all()
        assert one.time == again.triplet(seed).time
        assert one.frames.shape == (3, 64, 80, 3)
    assert len({one.frames.tobytes() for one in made}) == 12
    times = [source.triplet(seed).time for seed in range(60)]
    assert 0.5 < times.count(0.5) / 60 < 0.9
    assert len(set(times)) == 5


def test_the_wanted_frame_is_between_its_neighbours(tmp_path):
    source = stills(tmp_path / "a.npy", context=2, difficulty=0.2)
    for seed in range(5):
        one = source.triplet(seed)
        assert one.frames.shape == (5, 64, 80, 3)
        known = [np.abs(one.frames[i].astype(float) - one.frames[2]).mean() for i in (0, 1, 3, 4)]
        assert max(known[1:3]) < min(known[0], known[3])


@pytest.mark.parametrize(
    "options", [{"difficulty": 1.5}, {"difficulty": float("nan")}, {"size": (0, 4)}, {"context": 0}]
)
def test_what_cannot_be_made_up_is_refused(tmp_path, options):
    with pytest.raises(BadInput, match="give"):
        stills(tmp_path / "a.npy", **options)
    with pytest.raises(BadInput, match="0 pictures"):
        Stills([], (8, 8))


# What a user names


def save_photographs(folder, sizes):
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        Image.fromarray(picture(number, size)).save(folder / f"{number}.png")
    return folder


def test_photographs_are_told_from_the_frames_of_a_clip(tmp_path):
    cache = tmp_path / "cache"
    mixed = save_photographs(tmp_path / "mixed", [(96, 120), (120, 96)] * 15)
    alike = save_photographs(tmp_path / "alike", [(96, 120)] * 30)
    assert isinstance(opened(mixed, "train", size=(32, 40), cache=cache), Stills)
    assert isinstance(opened(alike, "train", size=(32, 40), cache=cache), Film)
    named = opened(f"stills:{alike}", "train", size=(32, 40), cache=cache)
    held_out = opened(f"stills:{alike}", "val", size=(32, 40), cache=cache)
    assert isinstance(named, Stills)
    assert 0 < len(held_out) < len(named) < 30
    assert named.triplet(0).frames.shape == (3, 32, 40, 3)


def test_an_archive_of_photographs_and_clips_make_a_mixture(tmp_path):
    folder = save_photographs(tmp_path / "photos", [(96, 120)] * 20)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    np.save(tmp_path / "clip.npy", np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8))
    names = f"{tmp_path / 'clip.npy'}=3,{tmp_path / 'photos.zip'}"
    both = opened(names, "train", size=(32, 40), cache=tmp_path / "cache")
    assert isinstance(both, Mixture)
    assert [type(source) for source in both.sources] == [Film, Stills]
    assert list(both.shares) == [3, 1]
    with pytest.raises(BadInput, match="cannot read the share 'much'"):
        opened(f"{tmp_path / 'clip.npy'}=much", "train", size=(32, 40))
    with pytest.raises(MediaError, match="no such folder"):
        opened(f"{tmp_path / 'clip.npy'},nothing", "train", size=(32, 40), cache=tmp_path / "cache")
    with pytest.raises(MediaError, match=r"no such folder or \.zip"):
        opened("nothing.zip", "train", size=(32, 40), cache=tmp_path / "cache")


def test_a_path_with_commas_and_shares_in_its_name_is_one(tmp_path):
    path = tmp_path / "a,b=c.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8))
    assert isinstance(opened(path, "train", size=(32, 40), cache=tmp_path / "cache"), Film)
