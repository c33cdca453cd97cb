"""Moving digits: the published trajectories, and splits that share no digit."""

import json
from pathlib import Path

import numpy as np
import pytest

from framefill.errors import BadInput
from framefill.video.digits import CANVAS, DIGIT, MovingDigits, bounce, digits, moving_digits

PUBLISHED = json.loads((Path(__file__).parent / "parity" / "mcvd.json").read_text())["smmnist_generator"]["value"]


@pytest.mark.parametrize("seed", range(3))
def test_trajectories_are_the_published_ones(seed):
    draw = np.random.RandomState(seed)
    draw.randint(256)
    start = [draw.randint(32), draw.randint(32)]
    velocity = [draw.randint(-4, 5), draw.randint(-4, 5)]
    # The published table gives row, column.
    assert bounce(draw, 20, start, velocity)[:, ::-1].tolist() == PUBLISHED["values"][f"seed{seed}"]


def test_two_digits_are_added_and_clipped_as_published():
    ones = np.full((256, DIGIT, DIGIT), 255, np.uint8)
    frames = moving_digits(np.random.RandomState(0), ones, length=20, count=2)
    assert (frames / 255).sum(axis=(1, 2, 3)).tolist() == PUBLISHED["two_digit_seed0_sum_per_frame"]


def test_splits_share_no_digit_and_hold_every_class():
    sets = {name: {d.tobytes() for d in digits(name)} for name in ("train", "val", "test")}
    assert [len(digits(n)) for n in ("train", "val", "test")] == [4000, 500, 500]
    assert not sets["train"] & sets["val"]
    assert not sets["train"] & sets["test"]
    assert not sets["val"] & sets["test"]
    with pytest.raises(BadInput, match="unknown split 'all'"):
        digits("all")


def test_clips_are_functions_of_split_and_seed():
    a, b = (MovingDigits("train").sample(5, length=8) for _ in range(2))
    assert (a == b).all()
    assert (a != MovingDigits("train").sample(6, length=8)).any()
    assert (a != MovingDigits("test").sample(5, length=8)).any()


def test_strides_skip_frames_of_the_same_clip():
    one, two = (MovingDigits("train", count=1).sample(9, length=n, strides=s) for n, s in ((9, (1,)), (5, (2,))))
    assert (one[::2] == two).all()


def test_digits_stay_on_the_canvas_and_move():
    draw = np.random.RandomState(0)
    for _ in range(200):
        path = bounce(draw, 40, [draw.randint(32), draw.randint(32)], [draw.randint(-4, 5), draw.randint(-4, 5)])
        assert path.min() >= 0
        assert path.max() <= CANVAS - DIGIT
        assert np.abs(np.diff(path, axis=0)).max() <= 4
