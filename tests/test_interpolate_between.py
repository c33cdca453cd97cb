"""The parts of interpolation alone: moments, gaps, cuts, repeats, tiles, budgets."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import framefill
from framefill.arrays import Rng
from framefill.errors import BadInput, Failed, NotInstalled
from framefill.nets.repair import Repair
from framefill.video.between import cuts, repeats
from framefill.video.between.budget import Choice, affordable, measured
from framefill.video.between.engine import Drawing, Known, gaps
from framefill.video.between.policies import Blend, Hold, Nearest
from framefill.video.between.tiles import Tiled, even_spans
from framefill.video.between.timeline import Divided, Moment, Ticking, at, times
from framefill.video.clip import Clip
from framefill.video.clock import Clock
from framefill.video.shots import repeats as equal
from test_video_files import scene

UNEVEN = Clock(Fraction(20), np.array([0, 40, 95, 120, 190, 230, 300, 310, 400]), Fraction(1, 1000), last=50)

# Moments

clocks = st.one_of(
    st.builds(Clock, st.fractions(1, 120, max_denominator=1001)),
    st.builds(
        lambda steps, start: Clock(Fraction(30), np.cumsum([start, *steps]), Fraction(1, 90000)),
        st.lists(st.integers(1, 9000), min_size=12, max_size=12), st.integers(0, 9000),
    ),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(clocks, st.one_of(st.integers(2, 9), st.fractions(1, 9, max_denominator=1001)))
def test_moments_are_in_order_where_they_should_be_and_whole_units(clock, wish):
    timeline = times(clock, wish) if isinstance(wish, int) else Ticking(clock, clock.fps * wish)
    found = [(frame, moment) for frame in range(12) for moment in timeline.gap(frame)]
    assert timeline.count(12) == len(found)
    assert all(a.time < b.time for (_, a), (_, b) in pairwise(found))
    for frame, moment in found:
        left, right = clock.at(frame), clock.at(frame + 1)
        assert 0 <= moment.part < 1
        assert left + moment.part * (right - left) == moment.time
        assert (moment.time / timeline.base).denominator == 1
    assert clock.at(12) <= timeline.end(12) < clock.at(12) + 1 / timeline.fps
    if isinstance(wish, int):
        assert timeline.end(12) == clock.at(12)
        assert [moment.time for _, moment in found][::wish] == [clock.at(i) for i in range(12)]
    else:
        assert [moment.time - clock.at(0) for _, moment in found] == [k / timeline.fps for k in range(len(found))]


def test_the_time_of_the_last_frame_is_known_where_the_file_says_it():
    assert UNEVEN.closed().at(9) == Fraction(450, 1000)
    assert times(UNEVEN.closed(), 2).gap(8)[1].time == Fraction(425, 1000)
    assert Clock(Fraction(25)).closed().at(3) == Fraction(3, 25)


def test_fractions_that_no_file_can_count_are_microseconds():
    words = ",".join(str(Fraction(1, n)) for n in (997, 991, 983, 977))
    assert at(UNEVEN, words).base == Fraction(1, 1_000_000)
    assert at(UNEVEN, "0.3333").parts == (0, Fraction(1, 3))


def test_a_lower_rate_is_refused():
    with pytest.raises(BadInput, match=r"--fps 24 is lower than the source's 30000/1001"):
        Ticking(Clock(Fraction(30000, 1001)), Fraction(24))
    assert Ticking(Clock(Fraction(25)), Fraction(25)).gap(3) == [Moment(Fraction(0), Fraction(3, 25))]


# Gaps


def known(*begins, step=1):
    timeline = times(Clock(Fraction(25)), 2)
    return [
        Known(np.full((2, 3, 1), number * step, np.uint8), timeline.gap(number), begin)
        for number, begin in enumerate(begins)
    ]


def test_what_stands_around_a_gap_never_crosses_a_cut():
    film = known(False, False, False, True, False)
    around = [[int(k.pixels[0, 0, 0]) for k in gap.around] for gap in gaps(film, 2)]
    assert around == [[0, 0, 1, 2], [0, 1, 2, 2], [1, 2, 3, 4], [3, 3, 4, 4], []]
    assert [gap.cut for gap in gaps(film, 2)] == [False, False, True, False, False]


def pixels(shown) -> list[int]:
    return [int(one.pixels()[0, 0, 0, 0]) for one in shown]


@pytest.mark.parametrize(("policy", "between"), [(Hold(), 40), (Nearest(), 80), (Blend(), 60)])
def test_policies_at_a_cut(policy, between):
    film = known(False, False, True, step=40)
    assert pixels(Drawing(Blend(), policy).stream(film)) == [0, 20, 40, between, 80, 80]
    assert pixels(Drawing(Blend(), policy).stream(film, hold=False)) == [0, 20, 40, between, 80]


def test_policies_are_their_formulas():
    x, rng = torch.randn(4, 3, 5, 6), Rng([0, 1])
    a, b = x[1], x[2]
    for policy, wanted in ((Hold(2), [a, a]), (Nearest(2), [a, b]), (Blend(2), [0.75 * a + 0.25 * b, 0.5 * (a + b)])):
        made = policy(x, [0.25, 0.5], rng)
        torch.testing.assert_close(made, torch.stack(wanted).expand(2, -1, -1, -1, -1))


class Noisy:
    """Draws; sees two frames on each side."""

    context = 2

    def __call__(self, frames, times, rng):
        assert len(frames) == 4
        return rng.normal((len(times), *frames.shape[1:])) / 4


def test_a_gap_is_the_same_wherever_the_work_begins_and_however_many_samples_there_are():
    film = known(*[False] * 6)
    drawing = Drawing(Noisy(), Hold(), samples=3, seed=5)
    whole = [one.pixels() for one in drawing.stream(film)]
    late = list(drawing.stream(film))[7:]
    assert all((a.pixels() == b).all() for a, b in zip(late, whole[7:], strict=True))
    alone = [one.pixels() for one in Drawing(Noisy(), Hold(), samples=1, seed=5).stream(film)]
    assert all((a[0] == b[0]).all() for a, b in zip(alone, whole, strict=True))
    assert (whole[1][0] != whole[1][1]).any()
    assert (whole[1][0] != whole[3][0]).any()  # every gap has noise of its own
    assert all((frame == film[i].pixels).all() for i, frame in enumerate(whole[::2]))


def test_many_frames_of_a_gap_are_made_a_few_at_a_time(monkeypatch):
    film = [Known(k.pixels, times(Clock(Fraction(25)), 9).gap(i)) for i, k in enumerate(known(False, False, step=90))]
    asked = []

    class Counting(Blend):
        def __call__(self, frames, times, rng):
            asked.append(len(times))
            return super().__call__(frames, times, rng)

    monkeypatch.setattr("framefill.video.between.engine.AT_ONCE", 18)
    assert pixels(Drawing(Counting(), Hold()).stream(film))[:10] == [*range(0, 91, 10)]
    assert asked == [3, 3, 2]


def test_numbers_that_are_none_are_a_failure_not_a_picture():
    class Broken(Hold):
        def __call__(self, frames, times, rng):
            return super().__call__(frames, times, rng) * float("nan")

    with pytest.raises(Failed, match="frames after frame 0 came out as NaN"):
        pixels(Drawing(Broken(), Hold()).stream(known(False, False)))


# Cuts


def film_of_shots() -> tuple[list[np.ndarray], list[int]]:
    """Shots of 12, 9 and 15 frames, the second with a flash in its middle."""
    one, two, three = scene(12, 60, 80), scene(9, 60, 80)[:, ::-1, :, ::-1].copy(), 255 - scene(15, 60, 80)
    two[4] = np.clip(two[4].astype(int) + 90, 0, 255)
    return [*one, *two, *three], [12, 21]


def numbers(found) -> list[int]:
    return [number for number, (_, begins) in enumerate(found) if begins]


@pytest.mark.parametrize("change", [lambda f: f, lambda f: f[..., :1], lambda f: f.astype(np.uint16) * 257,
                                    lambda f: np.concatenate([f, f[..., :2]], -1)])  # fmt: skip
def test_cuts_are_found_as_the_film_streams_by(change):
    film, truth = film_of_shots()
    read = 0

    def frames():
        nonlocal read
        for frame in film:
            read += 1
            yield change(frame)

    found = cuts.Found()(frames())
    for number, (frame, begins) in enumerate(found):
        assert (frame == change(film[number])).all()
        assert begins == (number in truth)
        assert read <= number + cuts.AHEAD + 1
    assert number == len(film) - 1


@pytest.mark.parametrize("each", [2, 3])
def test_drawings_of_animation_are_no_shots(each):
    drawings = scene(30, 60, 80)[::3]
    film = [*drawings.repeat(each, 0), *(255 - drawings).repeat(each, 0)]
    found = [number for number in numbers(cuts.Found()(film)) if number > each]  # of the first one nothing is known
    assert found == [10 * each]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_films_of_a_few_frames_have_no_cuts(length):
    film = scene(length)
    assert [(f == g).all() and not begins for f, (g, begins) in zip(film, cuts.Found()(film), strict=True)] == [
        True
    ] * length


def test_pysceneDetect_can_be_missing(monkeypatch):  # noqa: N802
    monkeypatch.setitem(__import__("sys").modules, "scenedetect.detectors", None)
    with pytest.raises(NotInstalled, match=r"pip install 'framefill\[interpolate\]', or give --cuts none"):
        list(cuts.Found()(scene(3)))


def test_lists_of_cuts_come_back_as_they_were_written(tmp_path):
    for clock in (Clock(Fraction(30000, 1001), frames=90), UNEVEN):
        cuts.write_list(tmp_path / "cuts.txt", [3, 7], clock)
        assert cuts.read_list(tmp_path / "cuts.txt", clock).numbers == {3, 7}
    (tmp_path / "cuts.txt").write_text("# mine\n\n4\n0.118s # near the third\n0:00.301\n")
    assert cuts.read_list(tmp_path / "cuts.txt", UNEVEN).numbers == {4, 3, 6}
    (tmp_path / "cuts.txt").write_text("1:02.5\n1:00:00\n")
    assert cuts.read_list(tmp_path / "cuts.txt", Clock(Fraction(2))).numbers == {125, 7200}


NO_CUTS = [
    ("soon", "line 2: 'soon' is no cut"), ("-3", "is no cut"), ("4,5", "is no cut"),
    ("0", "cannot begin with frame 0; cuts lie between 1 and 9"), ("10", "cannot begin with frame 10"),
    ("99s", "cannot begin with frame 10"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "told"), NO_CUTS)
def test_lists_of_cuts_that_make_no_sense(tmp_path, line, told):
    (tmp_path / "cuts.txt").write_text(f"# cuts\n{line}\n")
    with pytest.raises(BadInput, match=told):
        cuts.read_list(tmp_path / "cuts.txt", Clock(Fraction(25), frames=10))
    (tmp_path / "cuts.txt").write_bytes(b"\xff\xfe1")
    with pytest.raises(BadInput, match="give a text file"):
        cuts.read_list(tmp_path / "cuts.txt", Clock(Fraction(25)))


# Repeats


def spread(drawings: str, *, times_=2, cut_at=()):
    """What is shown when the film shows these drawings, a letter each, ten levels apart."""
    clock = Clock(Fraction(24))
    timeline = Divided(clock, tuple(Fraction(i, times_) for i in range(times_)))
    film = [
        Known(np.full((4, 4, 1), 20 * (ord(letter) - 97), np.uint8), timeline.gap(i), i in cut_at)
        for i, letter in enumerate(drawings)
    ]
    shown = list(Drawing(Blend(), Hold()).stream(repeats.spread(film, clock)))
    assert [one.time for one in shown] == [Fraction(k, 24 * times_) for k in range(len(drawings) * times_)]
    return pixels(shown)


def test_motion_is_spread_over_animation_on_twos():
    assert spread("aabbcc") == [0, 5, 10, 15, 20, 25, 30, 35, 40, 40, 40, 40]
    assert spread("abc") == [0, 10, 20, 30, 40, 40]
    assert spread("aaab", times_=1) == [0, 7, 13, 20]


def test_scenes_that_stand_still_and_ends_of_shots_pass_as_they_are():
    assert spread("aaaaaabb", times_=1) == [0, 0, 0, 0, 0, 0, 20, 20]
    assert spread("aaaaaaab") == [0] * 13 + [10, 20, 20]
    assert spread("aabbaa", times_=1, cut_at=(2,)) == [0, 0, 20, 10, 0, 0]


def test_noise_of_a_codec_is_no_change():
    frame = np.full((16, 16, 3), 100, np.uint8)
    near, far = frame.copy(), frame.copy()
    near[::4, ::4] += 4
    far[0, 0] += 20
    for change in (lambda f: f, lambda f: f.astype(np.uint16) * 257):
        assert equal(change(near), change(frame))
        assert not equal(change(far), change(frame))


# Tiles


def seen(height: int, width: int, motion: float) -> tuple[torch.Tensor, torch.Tensor]:
    h, w = (-(-n // 2) for n in (height, width))
    half = torch.rand(1, 4 * 3 + 7, h, w)
    half[:, -7:-3] = motion * (2 * torch.rand(1, 4, h, w) - 1)
    return torch.rand(1, 9, height, width), half


@pytest.fixture(scope="module")
def network() -> Repair:
    torch.manual_seed(0)
    made = Repair(3, features=(4, 4, 4, 4)).eval()
    for last in (made.shift, made.finish):
        torch.nn.init.normal_(last.weight, std=0.05)
    return made


@torch.inference_mode()
@pytest.mark.parametrize(("size", "motion"), [((40, 1250), 3.0), ((1400, 37), 20.0)])
def test_tiles_give_what_the_whole_picture_gives(network, size, motion):
    largest = []

    class Watched(torch.nn.Module):
        def forward(self, whole, half):
            largest.append(whole.shape[-2] * whole.shape[-1])
            return network(whole, half)

    torch.manual_seed(1)
    whole, half = seen(*size, motion)
    made = Tiled(Watched(), tile=8)(whole, half)
    torch.testing.assert_close(made, network(whole, half), atol=3e-5, rtol=0)  # float32 places of 1e3 pixels
    assert len(largest) > 1
    assert max(largest) < 0.9 * size[0] * size[1]
    assert Tiled(network)(whole, half).equal(network(whole, half))


@torch.inference_mode()
def test_too_narrow_a_sight_would_be_seen(network):
    torch.manual_seed(1)
    whole, half = seen(32, 900, 1.0)
    apart = (Tiled(network, tile=4, sight=0)(whole, half) - network(whole, half)).abs()
    assert apart.max() > 1e-4


@pytest.mark.parametrize("length", [1, 40, 135, 240, 480])
def test_tiles_are_few_even_and_cover_everything(length):
    found = even_spans(length, most=128, halo=13, fade=4)
    assert (found[0].start, found[-1].stop) == (0, length)
    assert all(0 < b.start <= a.stop - 2 * 13 - 4 for a, b in pairwise(found))
    sizes = {span.stop - span.start for span in found}
    assert len(sizes) == 1
    assert max(sizes) <= 128
    assert len(found) == max(-(-(length - 30) // 98), 1)


# Budgets


def test_a_time_limit_buys_the_best_that_is_done_in_time():
    table = [
        Choice("fast", 0, 0.5, 30),
        Choice("balanced", 0, 1, 32),
        Choice("best", 4, 4, 33),
        Choice("best", 8, 7, 34),
    ]
    bought = [
        affordable(table, limit, 10, 2).calls or affordable(table, limit, 10, 2).tier for limit in (5, 25, 100, 150)
    ]
    assert bought == ["fast", "balanced", 4, 8]
    assert affordable(table[::-1], 0.001, 10, 1).tier == "fast"
    assert affordable([*table, Choice("slow", 0, 6, 34)], 150, 10, 2).tier == "slow"  # as good, and sooner done
    with pytest.raises(BadInput, match="give what was measured"):
        Choice("fast", 0, 0.0, 1)
    assert measured()[0].tier == "fast"


# The library


def test_the_interpolator_is_a_verb(monkeypatch):
    clip = Clip(scene(4, 40, 48), Fraction(10))
    filled = framefill.Interpolator.fast().interpolate(clip, times=3)
    assert filled.frames.shape == (1, 10, 40, 48, 3)
    assert filled.known.tolist() == [i % 3 == 0 for i in range(10)]
    assert filled.fps == 30
    assert (filled.frames[0, ::3] == clip.frames).all()
    one = framefill.Interpolator(Blend()).interpolate(clip, times=2, samples=2)
    mixed = (clip.frames[0].astype(float) + clip.frames[1]) / 2
    assert np.abs(one.frames[1, 1] - mixed).max() <= 0.5
    for call in (lambda i: i.interpolate(clip, times=1), lambda i: i.interpolate(Clip(clip.frames[:1], clip.fps))):
        with pytest.raises(BadInput, match="times >= 2"):
            call(framefill.Interpolator.fast())
    with pytest.raises(BadInput, match="samples must be at least 1"):
        framefill.Interpolator.fast().stream([], Divided(Clock(clip.fps), (Fraction(0),)), samples=0)
    with pytest.raises(AttributeError, match="Nothing"):
        framefill.Nothing  # noqa: B018
