"""`VideoModel` with a model whose answers are known: every verb, streams, samples, drift."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from framefill.arrays import Rng
from framefill.diffusion.complete import Window, blend, complete, hierarchical, stream
from framefill.errors import BadInput
from framefill.video.clip import Clip
from framefill.video.filled import Filled, drift
from framefill.video.model import VideoModel

WINDOW = Window(3, 2, 3)


def blended(sampler, frames, known, rng):
    """A perfect model of linear motion in time, plus a little noise per sample."""
    frames = blend(frames, known)[:, WINDOW.drawn]
    return frames + 0.02 * rng.normal(frames.shape[1:])


def exact(sampler, frames, known, rng):
    return blend(frames, known)[:, WINDOW.drawn]


@pytest.fixture
def model() -> VideoModel:
    return VideoModel(torch.nn.Identity(), exact, WINDOW, 1, 16, 16, 4)


def ramp(length: int, size: int = 16) -> Clip:
    levels = np.arange(length, dtype=np.uint8) * 8
    return Clip(np.tile(levels[:, None, None, None], (1, size, size, 1)), Fraction(10))


def levels(filled: Filled) -> list[int]:
    return filled.frames[0, :, 0, 0, 0].tolist()


def test_gaps_are_filled_and_given_frames_come_back_as_they_were(model):
    clip = ramp(12)
    known = np.ones(12, bool)
    known[[3, 4, 7, 8, 9]] = False
    filled = model.complete(clip, known)
    assert levels(filled) == list(range(0, 96, 8))
    assert (filled.frames[0, known] == clip.frames[known]).all()


def test_interpolation_puts_frames_between(model):
    filled = model.interpolate(ramp(4), 4)
    assert levels(filled) == list(range(0, 26, 2))
    assert filled.fps == 40
    assert filled.known.tolist() == [True, False, False, False] * 3 + [True]


def test_future_past_and_loop_have_the_right_shape(model):
    assert levels(model.predict(ramp(4), 5)) == [0, 8, 16, 24] + [24] * 5
    assert levels(model.predict_past(ramp(4), 5)) == [0] * 5 + [0, 8, 16, 24]
    loop = model.loop(ramp(5), 3)
    assert len(loop.known) == 8
    assert levels(loop)[5:] == sorted(levels(loop)[5:], reverse=True)


def test_generation_knows_nothing(model):
    made = model.generate(7, samples=3)
    assert made.frames.shape == (3, 7, 16, 16, 1)
    assert not made.known.any()


def test_samples_do_not_depend_on_how_many_are_drawn():
    model = VideoModel(torch.nn.Identity(), blended, WINDOW, 1, 16, 16, 4)
    many, one = model.predict(ramp(4), 6, samples=3, seed=5), model.predict(ramp(4), 6, samples=1, seed=5)
    assert (many.frames[0] == one.frames[0]).all()
    assert (many.frames[0] != many.frames[1]).any()
    assert (model.predict(ramp(4), 6, seed=6).frames != one.frames).any()


def test_spread_is_zero_where_frames_were_given_and_measures_the_noise():
    model = VideoModel(torch.nn.Identity(), blended, WINDOW, 1, 16, 16, 4)
    filled = model.predict(ramp(4), 2, samples=64)
    assert (filled.spread()[:4] == 0).all()
    assert filled.spread()[4:].mean() == pytest.approx(0.02 * 127.5, rel=0.1)
    with pytest.raises(BadInput, match="at least 2 samples"):
        model.predict(ramp(4), 2).spread()


def test_most_different_finds_the_outliers():
    frames = np.full((5, 2, 4, 4, 1), 100, np.uint8)
    frames[3] = 200
    frames[1] = 20
    filled = Filled(frames, np.zeros(2, bool), Fraction(10))
    assert filled.most_different(3) == [0, 3, 1]
    assert filled.most_different(1) == [0]
    assert len(set(filled.most_different(5))) == 5
    with pytest.raises(BadInput, match="between 1 and the 5"):
        filled.most_different(6)


def test_drift_sees_a_change_of_colour_and_of_sharpness():
    rng = np.random.default_rng(0)
    clip = rng.integers(60, 190, (1, 12, 16, 16, 1)).astype(np.uint8)
    known = np.arange(12) < 4
    assert not Filled(clip, known, Fraction(1)).drift()["drifting"]
    darker = clip.copy()
    darker[:, 8:] -= 30
    assert Filled(darker, known, Fraction(1)).drift() | {"sharpness": 0} == {
        "colour": pytest.approx(30, abs=3),
        "sharpness": 0,
        "drifting": True,
    }
    flat = clip.copy()
    flat[:, 8:] = flat[:, 8:].mean()
    assert Filled(flat, known, Fraction(1)).drift()["drifting"]
    assert not drift(np.zeros((1, 3, 1)), np.zeros((1, 3)), np.ones(3, bool))["drifting"]


def test_a_stream_is_the_rollout(model):
    """Constant memory, same frames: for any pattern that begins with a known frame."""
    rng = np.random.default_rng(0)
    noisy = VideoModel(torch.nn.Identity(), blended, WINDOW, 1, 16, 16, 4)
    for _ in range(20):
        known = rng.random(17) < 0.5
        known[0] = True
        clip = Clip(rng.integers(0, 256, (17, 16, 16, 1)).astype(np.uint8), Fraction(10))
        whole = noisy.complete(clip, known, samples=2, seed=3)
        frames = [frame if k else None for frame, k in zip(clip.frames, known, strict=True)]
        out = list(noisy.stream(frames, samples=2, seed=3))
        assert [given for _, given in out] == known.tolist()
        assert (np.stack([f for f, _ in out], 1) == whole.frames).all()


def test_a_stream_looks_only_a_window_ahead(model):
    taken = []

    def endless():
        for i in range(1000):
            taken.append(i)
            yield None if i % 3 == 1 else np.zeros((16, 16, 1), np.uint8)

    out = model.stream(endless())
    for _ in range(10):
        next(out)
    assert len(taken) <= 10 + WINDOW.length


def test_streams_begin_with_a_frame():
    with pytest.raises(BadInput, match="begin with a known frame"):
        list(stream(lambda *a: None, iter([None, torch.zeros(1, 1, 4, 4)]), WINDOW, Rng([0])))


def test_hierarchical_order_completes_too(model):
    filled = model.complete(ramp(13), np.arange(13) % 6 == 0, order=hierarchical)
    assert levels(filled) == list(range(0, 104, 8))


def test_complete_yields_the_input_when_nothing_is_unknown():
    frames = torch.randn(2, 4, 1)
    outputs = list(
        complete(lambda *a: pytest.fail("drawn"), frames, torch.ones(2, 4, dtype=torch.bool), WINDOW, Rng([0, 1]))
    )
    assert torch.equal(outputs[-1], frames)


def test_sizes_keep_the_shape_of_the_clip(model):
    assert model.size_for(16, 16) == (16, 16)
    assert model.size_for(480, 640) == (12, 20)
    assert model.size_for(1, 1000) == (4, 504)
    wide = Clip(np.zeros((4, 90, 160, 3), np.uint8), Fraction(5))
    assert model.predict(wide, 1).frames.shape == (1, 5, 12, 20, 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.predict(ramp(3), 0), "at least 1"),
        (lambda m: m.predict(ramp(3), 2, samples=0), "samples must be at least 1"),
        (lambda m: m.interpolate(ramp(3), 1), "times >= 2"),
        (lambda m: m.interpolate(ramp(1), 2), "2 frames or more"),
        (lambda m: m.complete(ramp(3), np.ones(4, bool)), "one entry per frame"),
        (lambda m: m.generate(-1), "at least 1"),
        (lambda m: m.loop(ramp(3), 0), "at least 1"),
    ],
)
def test_requests_that_make_no_sense(model, call, words):
    with pytest.raises(BadInput, match=words):
        call(model)
