"""Completion: which frames are drawn, when, and from what; with draws that record, count, or continue a line."""

import inspect
import itertools
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from framefill.arrays import Rng
from framefill.diffusion import complete as module
from framefill.diffusion.complete import (
    Placement,
    Window,
    blend,
    blockwise,
    complete,
    hierarchical,
    lay,
    stream,
)
from framefill.errors import BadInput

ORDERS = {
    "blockwise": blockwise,
    "hierarchical 2": partial(hierarchical, stride=2),
    "hierarchical 4": partial(hierarchical, stride=4),
}
TASKS = {
    "prediction": "K" * 5 + "u" * 12,
    "past prediction": "u" * 12 + "K" * 5,
    "interpolation": "K" * 5 + "u" * 7 + "K" * 5,
    "both ends open": "u" * 6 + "K" * 5 + "u" * 6,
    "two gaps": "K" * 4 + "u" * 3 + "K" * 5 + "u" * 5,
    "every other": "KKKuKuKuKuKuKuKuK",
}
WINDOWS = [Window(5, 5, 0), Window(5, 5, 5), Window(3, 2, 4), Window(4, 1, 4), Window(0, 5, 5), Window(6, 3, 2)]
every_order = pytest.mark.parametrize("order", list(ORDERS.values()), ids=list(ORDERS))
every_task = pytest.mark.parametrize("task", list(TASKS.values()), ids=list(TASKS))
every_window = pytest.mark.parametrize("window", WINDOWS, ids=lambda w: f"{w.past}-{w.current}-{w.future}")


def pattern(*tasks):
    return torch.tensor([[c == "K" for c in task] for task in tasks])


def sequence(batch, length, seed=0):
    return torch.randn(batch, length, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rng(batch):
    return Rng(range(100, 100 + batch))


class Recorder:
    """Draws frame number n as the constant n, n = 1, 2, ... over all calls, and keeps what it was given."""

    def __init__(self, window):
        self.window, self.seen, self.count = window, [], 0

    def __call__(self, frames, known, rng):
        assert frames.shape[:2] == known.shape == (len(rng), self.window.length)
        self.seen.append((frames.clone(), known.clone()))
        numbers = torch.arange(1, self.window.current + 1, dtype=frames.dtype) + self.count
        self.count += self.window.current
        return numbers.reshape(1, -1, 1, 1).expand_as(frames[:, self.window.drawn]).clone()


class Line:
    """Continues the straight line through the known frames that it is shown, by least squares."""

    def __init__(self, window):
        self.window = window

    def __call__(self, frames, known, rng):
        (here,) = known[0].nonzero(as_tuple=True)
        assert len(here) >= 2, "a line needs two known frames in sight"
        t = torch.arange(self.window.length, dtype=frames.dtype)
        design = torch.stack([torch.ones_like(t), t], 1)
        values = frames[:, here].flatten(2)
        line = (design @ torch.linalg.pinv(design[here]) @ values).reshape(frames.shape)
        return line[:, self.window.drawn]


def noisy_mean(window):
    """A draw that depends on known values, on where they are, and on the stream of each sample."""

    def draw(frames, known, rng):
        weights = known * torch.linspace(1, 2, window.length, dtype=frames.dtype)
        seen = torch.einsum("bl,bl...->b...", weights, frames)[:, None]
        noise = rng.normal((window.current, *frames.shape[2:])).to(frames.dtype)
        return 0.1 * seen + noise

    return draw


def run(draw, frames, known, window, order=blockwise):
    return list(complete(draw, frames, known, window, rng(len(frames)), order=order))


def test_every_order_is_in_the_table():
    public = {
        n for n, f in vars(module).items()
        if inspect.isfunction(f) and f.__module__ == module.__name__ and n[0] != "_"
    }  # fmt: skip
    assert public == {"blockwise", "hierarchical", "blend", "lay", "complete", "stream"}


@every_order
@every_task
@every_window
def test_known_frames_stay_and_unknown_ones_are_drawn_once(order, task, window):
    known, frames = pattern(task, task), sequence(2, len(task))
    steps = run(recorder := Recorder(window), frames, known, window, order)
    assert torch.equal(steps[-1][known], frames[known])
    drawn = steps[-1][~known].reshape(2, -1, 2, 3)
    assert (drawn == drawn[:, :, :1, :1]).all()
    assert drawn.min() >= 1
    assert len(drawn[0, :, 0, 0].unique()) == drawn.shape[1], "one draw fills one frame"
    # A frame is set once and never touched again; before, it is zero.
    for before, after in itertools.pairwise(steps):
        changed = (before != after).flatten(2).any(2)
        assert (before[changed] == 0).all()
        assert changed.any()
    assert (steps[0][~known] == 0).all()
    assert len(steps) == 1 + len(recorder.seen)


@every_order
@every_task
@every_window
def test_draws_see_the_truth(order, task, window):
    """What is flagged as known is the sequence's, given or drawn before; unknown and outside frames are not flagged."""
    known, frames = pattern(task), sequence(1, len(task))
    recorder = Recorder(window)
    steps = run(recorder, frames, known, window, order)
    filled = known[0].tolist()
    places = list(order(window, filled))
    assert len(places) == len(recorder.seen)
    for place, (shown, flags), now in zip(places, recorder.seen, steps, strict=False):
        for i in range(window.length):
            t = place.start + place.stride * (i - window.past)
            assert flags[0, i].item() == (0 <= t < len(task) and filled[t])
            if flags[0, i]:
                assert torch.equal(shown[0, i], now[0, t])
        for i in range(window.current):
            t = place.start + place.stride * i
            if 0 <= t < len(task):
                filled[t] = True
    assert all(filled)


@given(
    st.lists(st.booleans(), max_size=24),
    st.sampled_from(list(ORDERS)),
    st.builds(Window, st.integers(0, 4), st.integers(1, 6), st.integers(0, 4)),
)
@settings(max_examples=300, deadline=None, database=None)
def test_any_mask_is_completed(mask, name, window):
    if not mask:
        return
    known, frames = torch.tensor([mask]), sequence(1, len(mask))
    steps = run(Recorder(window), frames, known, window, ORDERS[name])
    assert torch.equal(steps[-1][known], frames[known])
    numbers = steps[-1][~known][:, 0, 0]
    assert (numbers >= 1).all()
    assert len(numbers.unique()) == len(numbers)
    # Every window draws something: none is wasted.
    assert all((before != after).any() for before, after in itertools.pairwise(steps))


@given(
    st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=5),
    st.sampled_from(list(ORDERS)),
    st.builds(Window, st.integers(0, 3), st.integers(1, 4), st.integers(0, 3)),
)
@settings(max_examples=60, deadline=None, database=None)
def test_mixed_patterns_equal_separate_runs(masks, name, window):
    known, frames = torch.tensor(masks), sequence(len(masks), 9)
    together = run(noisy_mean(window), frames, known, window, ORDERS[name])[-1]
    for i in range(len(masks)):
        one = slice(i, i + 1)
        draw = noisy_mean(window)
        *_, alone = complete(draw, frames[one], known[one], window, Rng([100 + i]), order=ORDERS[name])
        torch.testing.assert_close(alone, together[one], atol=1e-12, rtol=1e-12)


@every_order
@pytest.mark.parametrize("task", [t for n, t in TASKS.items()], ids=list(TASKS))
@pytest.mark.parametrize("window", [Window(5, 5, 5), Window(8, 3, 8), Window(9, 1, 9)], ids=["5-5-5", "8-3-8", "9-1-9"])
def test_a_line_is_continued_exactly(order, task, window):
    known = pattern(task, task)
    t = torch.arange(len(task), dtype=torch.float64)[None, :, None, None]
    line = sequence(2, 1, seed=1) + t * sequence(2, 1, seed=2)
    spoilt = torch.where(known[:, :, None, None], line, float("nan"))  # what is unknown must not matter
    *_, filled = run(Line(window), spoilt, known, window, order)
    torch.testing.assert_close(filled, line, atol=1e-9, rtol=0)


def test_prediction_goes_forwards_from_the_past():
    window = Window(5, 5, 0)
    recorder = Recorder(window)
    run(recorder, sequence(1, 17), pattern(TASKS["prediction"]), window)
    assert [p.start for p in blockwise(window, pattern(TASKS["prediction"])[0].tolist())] == [5, 10, 15]
    assert [flags[0].tolist() for _, flags in recorder.seen] == [[True] * 5 + [False] * 5] * 3


def test_past_prediction_goes_backwards_from_the_future():
    window = Window(5, 5, 5)
    known = pattern(TASKS["past prediction"])
    starts = [p.start for p in blockwise(window, known[0].tolist())]
    assert starts == [7, 2, 0]
    recorder = Recorder(window)
    run(recorder, sequence(1, 17), known, window)
    for _, flags in recorder.seen:
        assert not flags[0, :5].any(), "nothing is known before"
        assert flags[0, 10:].all(), "all is known after"
    assert [flags[0, 5:10].sum() for _, flags in recorder.seen] == [0, 0, 3]


def test_interpolation_sees_both_sides():
    window = Window(5, 5, 5)
    task = "K" * 5 + "u" * 5 + "K" * 5
    recorder = Recorder(window)
    frames = sequence(1, 15)
    run(recorder, frames, pattern(task), window)
    ((shown, flags),) = recorder.seen
    assert torch.equal(flags, pattern(task))
    assert torch.equal(shown[flags], frames[pattern(task)])
    # A longer gap is filled from the left, its last window sees both sides again.
    recorder = Recorder(window)
    run(recorder, sequence(1, 20), pattern("K" * 5 + "u" * 10 + "K" * 5), window)
    assert [flags[0].int().tolist() for _, flags in recorder.seen] == [
        [1] * 5 + [0] * 10,
        [1] * 5 + [0] * 5 + [1] * 5,
    ]


def test_generation_knows_nothing_at_first():
    window = Window(4, 3, 2)
    recorder = Recorder(window)
    *_, filled = run(recorder, sequence(1, 8), pattern("u" * 8), window)
    assert not recorder.seen[0][1].any()
    assert filled[0, :, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("stride", [2, 3, 4])
@every_task
@every_window
def test_hierarchical_draws_a_coarse_sequence_first(stride, task, window):
    known = pattern(task)[0].tolist()
    places = list(hierarchical(window, known, stride=stride))
    strides = [p.stride for p in places]
    assert strides == sorted(strides, reverse=True), "coarse windows come first"
    assert set(strides) <= {stride, 1}
    drawn, count = [], 0
    for place in places:
        new = [t for t in place.frames(window)[window.drawn] if t < len(known) and not known[t] and t not in drawn]
        assert new, "no window is laid in vain"
        drawn += new
        if place.stride == stride:
            count = len(drawn)
    unknown = [t for t, flag in enumerate(known) if not flag]
    assert sorted(drawn) == unknown, "each frame once"
    # The coarse windows draw one grid, and all of it (nothing where the grid was known).
    grids = [{t for t in unknown if t % stride == phase} for phase in range(stride)]
    assert set(drawn[:count]) in grids


def test_hierarchical_continues_what_is_given():
    window = Window(5, 5, 0)
    places = list(hierarchical(window, [True] * 5 + [False] * 12, stride=4))
    # The grid 0, 4, 8, ... passes through the last known frame, 4; the first coarse window begins one stride after it.
    assert places[0] == Placement(8, 4)
    assert places[0].frames(window) == [-12, -8, -4, 0, 4, 8, 12, 16, 20, 24]
    assert [p.stride for p in places[1:]] == [1] * (len(places) - 1)
    assert next(hierarchical(window, [True] * 6 + [False] * 6, stride=4)) == Placement(9, 4)


@every_order
@every_task
def test_a_hierarchy_of_stride_one_is_blockwise(order, task):
    known = pattern(task)[0].tolist()
    for window in WINDOWS:
        assert list(hierarchical(window, known, stride=1)) == list(blockwise(window, known))


@every_order
def test_orders_do_not_change_their_input(order):
    known = [True, False, False, True, False]
    list(order(Window(1, 2, 1), known))
    assert known == [True, False, False, True, False]


def test_outside_the_sequence_is_unknown():
    frames, known = sequence(2, 4), torch.ones(2, 4, dtype=torch.bool)
    window = Window(3, 2, 3)
    for start, stride in itertools.product(range(-2, 6), (1, 2, 3)):
        shown, flags = lay(frames, known, Placement(start, stride), window)
        for i in range(window.length):
            t = start + stride * (i - 3)
            assert (flags[:, i] == (0 <= t < 4)).all()
            if 0 <= t < 4:
                assert torch.equal(shown[:, i], frames[:, t])
    known[1, 2] = False
    _, flags = lay(frames, known, Placement(2), window)
    assert flags.int().tolist() == [[0, 1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 0, 0, 0]]


@every_order
def test_nothing_unknown_gives_the_input_once(order):
    frames = sequence(2, 6)
    (only,) = run(None, frames, torch.ones(2, 6, dtype=torch.bool), Window(2, 2, 2), order)
    assert torch.equal(only, frames)


def test_the_input_is_left_alone_and_unknown_values_do_not_matter():
    frames, known, window = sequence(2, 9), pattern("KKuuuuuKK", "uuuuKKuuu"), Window(2, 2, 2)
    copy, flags = frames.clone(), known.clone()
    filled = run(noisy_mean(window), frames, known, window)[-1]
    assert torch.equal(frames, copy)
    assert torch.equal(known, flags)
    spoilt = frames.masked_fill(~known[:, :, None, None], float("nan"))
    assert torch.equal(run(noisy_mean(window), spoilt, known, window)[-1], filled)


@pytest.mark.parametrize("shape", [(2, 5), (3, 6), (2,), (2, 6, 1)])
def test_a_mask_of_another_shape_is_refused(shape):
    with pytest.raises(BadInput, match=r"known must have shape \(2, 6\), got \("):
        run(None, sequence(2, 6), torch.ones(shape, dtype=torch.bool), Window(1, 1, 1))


@pytest.mark.parametrize(("past", "current", "future"), [(1, 0, 1), (-1, 1, 0), (0, 1, -2)])
def test_impossible_windows_are_refused(past, current, future):
    with pytest.raises(BadInput, match=f"past={past}, current={current}, future={future}"):
        Window(past, current, future)


def test_a_window_knows_its_parts():
    window = Window(3, 2, 4)
    assert window.length == 9
    assert list(range(9))[window.drawn] == [3, 4]
    assert Placement(10, 3).frames(window) == [1, 4, 7, 10, 13, 16, 19, 22, 25]


# --- streams ----------------------------------------------------------------------------------------------------------


def streamed(draw, frames, known, window):
    """The frames and flags of a stream of one sample, and how far it ever read ahead."""
    read = itertools.count()

    def source():
        for frame, flag in zip(frames[0], known[0], strict=True):
            next(read)
            yield frame[None] if flag else None

    out, lead = [], 0
    for i, pair in enumerate(stream(draw, source(), window, Rng([100]))):
        out.append(pair)
        lead = max(lead, int(repr(read)[6:-1]) - i)
    return torch.stack([frame for frame, _ in out], 1), [was_given for _, was_given in out], lead


@given(
    st.lists(st.booleans(), max_size=20),
    st.builds(Window, st.integers(0, 4), st.integers(1, 5), st.integers(0, 4)),
)
@settings(max_examples=150, deadline=None, database=None)
def test_a_stream_is_the_completion(mask, window):
    known = torch.tensor([[True, *mask]])
    frames = sequence(1, known.shape[1])
    filled, given_flags, lead = streamed(noisy_mean(window), frames, known, window)
    *_, expected = complete(noisy_mean(window), frames, known, window, Rng([100]))
    assert torch.equal(filled, expected)
    assert given_flags == known[0].tolist()
    assert lead <= window.current + window.future


def test_an_empty_stream_is_empty_and_one_without_frames_is_refused():
    assert list(stream(None, iter([]), Window(1, 1, 1), Rng([0]))) == []
    with pytest.raises(BadInput, match="a stream must begin with a known frame"):
        list(stream(None, iter([None, None]), Window(1, 1, 1), Rng([0])))
    # Nor may the first known frame be one that was only read ahead.
    with pytest.raises(BadInput, match="a stream must begin with a known frame"):
        list(stream(Recorder(Window(1, 1, 1)), iter([None, torch.zeros(1, 2, 3)]), Window(1, 1, 1), Rng([0])))


# --- the guess --------------------------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None, database=None)
def test_blend_is_linear_between_known_frames_and_holds_beyond(mask):
    known, frames = torch.tensor([mask]), sequence(1, len(mask)).float()
    here = [t for t, flag in enumerate(mask) if flag]
    guess = blend(frames.masked_fill(~known[:, :, None, None], float("nan")), known)
    for t in range(len(mask)):
        before = max((k for k in here if k <= t), default=None)
        after = min((k for k in here if k >= t), default=None)
        if before is None and after is None:
            expected = torch.zeros(2, 3)
        elif before is None or after is None:
            expected = frames[0, after if before is None else before]
        else:
            share = (t - before) / max(after - before, 1)
            expected = (1 - share) * frames[0, before] + share * frames[0, after]
        torch.testing.assert_close(guess[0, t], expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(guess[known], frames[known])


def test_blend_treats_samples_apart():
    known = pattern("KuuuK", "uKuuu", "uuuuu")
    frames = sequence(3, 5)
    together = blend(frames, known)
    for i in range(3):
        assert torch.equal(together[i], blend(frames[i : i + 1], known[i : i + 1])[0])
