"""Frames between two: the motion found, both guesses of it, what is made of them, and the network that repairs it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from framefill import errors
from framefill.arrays import Rng
from framefill.nets.repair import FAVOUR, MOTION_UNIT, Pair, Repair
from framefill.video.between import flow as flows
from framefill.video.between.tier import Balanced, Fast, as_given
from framefill.video.between.warp import Motion, fused, halved, places, read, resized, seen

cv2 = pytest.importorskip("cv2")


def texture(size, seed=0, channels=3, fineness=4.0):
    """A smooth random picture (H, W, C) in [-1, 1]."""
    noise = np.random.default_rng(seed).standard_normal((*size, channels)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, None, fineness).reshape(*size, channels)
    return np.clip(smooth / (2.5 * smooth.std()), -1, 1)


def view(picture, x, y, size):
    """The window of `size` whose corner lies at (x, y) of a larger picture: moving it moves what is seen."""
    return read(picture, places(size) + np.array([x, y], np.float32))


def tensor(*frames):
    return torch.from_numpy(np.stack(frames)).movedim(-1, 1)


def inner(x, border=16):
    return x[border:-border, border:-border]


def error(a, b):
    return float(np.abs(inner(a) - inner(b)).mean())


@pytest.mark.parametrize(("dx", "dy"), [(3.0, -2.0), (0.5, 0.25), (-11.0, 6.5)])
def test_flow_finds_a_shift(dx, dy):
    picture = texture((160, 192))
    first, last = view(picture, 20, 20, (96, 128)), view(picture, 20 - dx, 20 - dy, (96, 128))
    found = flows.flow(flows.grey(first), flows.grey(last))
    assert np.abs(np.median(inner(found), (0, 1)) - (dx, dy)).max() < 0.1


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (31, 33), (8, 200)])
def test_flow_takes_any_size(size):
    picture = flows.grey(texture(size))
    assert np.abs(flows.flow(picture, picture)).max() < 0.5


def test_grey_is_luma_and_rounds():
    colours = np.array([[[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [0.001, 0.001, 0.001]]], np.float32)
    assert flows.grey(colours).tolist() == [[76, 150, 29, 128]]
    assert flows.grey(np.full((1, 1, 5), -1, np.float32)).tolist() == [[0]]


def test_without_opencv_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(errors.NotInstalled, match=r"pip install 'framefill\[interpolate\]'"):
        flows.opencv()


@pytest.mark.parametrize("time", [0.25, 0.5, 0.8])
def test_a_shifted_picture_is_found_between(time):
    picture = texture((200, 240))

    def at(t):
        return view(picture, 40 - 12 * t, 40 + 7 * t, (112, 128))

    first, last = at(0), at(1)
    guesses = Motion.between(first, last).guesses(time)
    for guess in guesses:
        assert np.abs(np.median(inner(2 * guess.motion), (0, 1)) - (12, -7)).max() < 0.2
        assert error(guess.before, at(time)) < 0.02
        assert error(guess.after, at(time)) < 0.02
        assert np.median(guess.trust) > 0.8
    made = fused(guesses, time)
    assert error(made, at(time)) < 0.015 < 0.2 * error((1 - time) * first + time * last, at(time))


def test_acceleration_of_place_is_followed():
    """A zoom: motion differs from place to place, and must be that of where the pixel was, not of where it is."""
    picture = texture((160, 160), fineness=4)

    def at(t):
        return read(picture, 80 + (places((160, 160)) - 80) / (1 + 0.3 * t))

    first, last = at(0), at(1)
    made = fused(Motion.between(first, last).guesses(0.5), 0.5)
    motion = flows.flow(flows.grey(first), flows.grey(last))
    careless = read(first, places((160, 160)) - 0.5 * motion)
    assert error(made, at(0.5)) < 0.5 * error(careless, at(0.5))


def over(t, size=(112, 144)):
    """A square that moves 16 pixels to the right over another texture that stands still, and its outline."""
    back, square = texture((160, 200), 1), texture((40, 40), 2)
    picture = view(back, 10, 10, size)
    x = round(40 + 10 * t)
    picture[36:76, x : x + 40] = square
    outline = np.zeros(size, bool)
    outline[36:76, x : x + 40] = True
    return picture, outline


def test_the_guess_that_is_trusted_counts_more():
    (first, _), (truth, outline), (last, _) = over(0), over(0.5), over(1)
    one, other = Motion.between(first, last).guesses(0.5)
    around = cv2.dilate(outline.astype(np.uint8), np.ones((25, 25))).astype(bool)

    def wrong(x):
        return float(np.abs(x - truth)[around].mean())

    crossed = replace(one, trust=other.trust), replace(other, trust=one.trust)
    assert wrong(fused((one, other), 0.5)) < 0.97 * wrong(fused(crossed, 0.5))
    assert wrong(fused((one, other), 0.5)) < 0.25 * wrong((first + last) / 2)


def test_trust_is_low_where_the_guesses_are_wrong():
    (first, _), (truth, _), (last, _) = over(0), over(0.5), over(1)
    for guess in Motion.between(first, last).guesses(0.5):
        wrong = np.abs((guess.before + guess.after) / 2 - truth).mean(-1)
        trust = resized(guess.trust, wrong.shape)
        assert trust[wrong > 0.2].mean() < 0.5 * trust[wrong < 0.02].mean()
        assert guess.trust.min() > 0
        assert guess.trust.max() <= 1.001


def test_time_reversed_is_the_same_frame():
    (first, _), (last, _) = over(0), over(1)
    made = fused(Motion.between(first, last).guesses(0.3), 0.3)
    again = fused(Motion.between(last, first).guesses(0.7), 0.7)
    assert np.abs(made - again).max() < 1e-5


def test_what_stands_still_comes_back_to_the_bit_of_a_level():
    still = texture((64, 80))
    made = fused(Motion.between(still, still).guesses(0.4), 0.4)
    assert np.abs(made - still).max() < 0.05 / 127.5  # a twentieth of a grey level
    assert abs(float((made - still).mean())) < 0.005 / 127.5


def test_seen_is_what_the_network_unpacks():
    (first, _), (last, _) = over(0), over(1)
    motion = Motion.between(first, last)
    guesses = motion.guesses(0.3)
    parts = Pair.of(*(torch.from_numpy(view)[None] for view in seen(motion, guesses, 0.3)))
    assert torch.equal(torch.cat([parts.first, parts.last, parts.guess]), tensor(first, last, fused(guesses, 0.3)))
    assert torch.equal(parts.motion[0, :2], tensor(guesses[0].motion)[0])
    assert torch.equal(parts.trust[0, 1], torch.from_numpy(guesses[1].trust))
    assert parts.time.unique().tolist() == [pytest.approx(0.3)]
    for number, guess in enumerate(guesses):
        before, after = (
            parts.carried[0, 6 * number : 6 * number + 6]
            .movedim(0, -1)
            .numpy()
            .reshape(56, 72, 2, 3)
            .swapaxes(0, 2)
            .swapaxes(1, 2)
        )
        assert error(before, halved(guess.before)) < 0.02
        assert error(after, halved(guess.after)) < 0.02
    lowest, highest = (f(*(g.motion for g in guesses)) for f in (np.minimum, np.maximum))
    mean = parts.mean_motion()[0].movedim(0, -1).numpy()
    assert (mean >= lowest - 1e-4).all()
    assert (mean <= highest + 1e-4).all()


def test_halved_rounds_up_and_keeps_the_mean():
    x = texture((7, 9), channels=6)
    assert halved(x).shape == (4, 5, 6)
    even = texture((8, 10), channels=6)
    assert np.allclose(halved(even).mean((0, 1)), even.mean((0, 1)), atol=1e-6)


# ---- tiers ---------------------------------------------------------------------------------------------------------


def test_fast_takes_any_number_of_channels_and_says_the_same_for_each():
    picture = texture((80, 96), channels=1)
    grey = tensor(view(picture, 10, 10, (48, 56)), view(picture, 13, 10, (48, 56)))
    one = Fast()(grey, [0.5], Rng([0]))
    many = Fast()(grey.expand(-1, 16, -1, -1), [0.5], Rng([0, 1]))
    assert many.shape == (2, 1, 16, 48, 56)
    assert torch.allclose(many, one.expand_as(many), atol=2e-2)


def test_fast_gives_the_times_in_order():
    picture = texture((120, 160))
    ends = tensor(view(picture, 30, 20, (64, 96)), view(picture, 18, 20, (64, 96)))
    made = Fast()(ends, [0.25, 0.75], Rng([0]))[0]
    for frame, x in zip(made, (27, 21), strict=True):
        assert error(frame.movedim(0, -1).numpy(), view(picture, x, 20, (64, 96))) < 0.02


def network():
    torch.manual_seed(0)
    return Repair(features=(8, 8, 16, 16)).eval()


def views(ends, time=0.5):
    motion = Motion.between(*ends.movedim(1, -1).contiguous().numpy())
    return [torch.from_numpy(view)[None] for view in seen(motion, motion.guesses(time), time)]


@pytest.mark.parametrize("size", [(48, 64), (37, 51), (5, 3)])
def test_an_untrained_network_makes_the_guess(size):
    picture = texture((120, 160))
    ends = tensor(view(picture, 30, 20, size), view(picture, 27, 21, size))
    guess = Fast()(ends, [0.5], Rng([0]))[0, 0]
    with torch.inference_mode():
        made = network()(*views(ends))[0]
    # The rest of the weight is with both readings along the mean of the motions: nearly the same here.
    share = np.exp(FAVOUR) / (np.exp(FAVOUR) + 2)
    assert 0.9 < share < 0.92
    assert (made - guess).abs().mean() < 0.01


def test_corrections_move_what_is_read():
    picture = texture((120, 160))
    ends = tensor(view(picture, 30, 20, (64, 64)), view(picture, 33, 20, (64, 64)))
    net = network()
    with torch.inference_mode():
        net.finish.bias[:4] = 50.0  # all weight on the first frame, read where it is corrected to
        plain = net(*views(ends))[0].movedim(0, -1).numpy()
        net.shift.bias[:2] = torch.tensor([2.0, -1.0]) / MOTION_UNIT
        made = net(*views(ends))[0].movedim(0, -1).numpy()
    assert error(plain, view(picture, 31.5, 20, (64, 64))) < 0.01
    assert error(made, view(picture, 35.5, 18, (64, 64))) < 0.01


def test_what_stands_still_is_not_repaired():
    picture = texture((120, 160))
    still, moved = view(picture, 30, 20, (64, 64)), view(picture, 30, 20, (64, 64)).copy()
    moved[:24] = view(picture, 33, 20, (24, 64))
    net = network()
    with torch.inference_mode():
        net.finish.bias[12:] = 0.5  # adds half of the range everywhere
        seen_, (whole, half) = tensor(still, moved), views(tensor(still, moved))
        added = (net(whole, half) - whole[:, 6:])[0].mean(0)
    assert seen_[0, :, 40:].equal(seen_[1, :, 40:])
    assert added[40:].abs().max() == 0
    assert added[4:16, 8:-8].median() > 0.4


def test_every_part_of_what_is_seen_and_every_weight_matters():
    net = network()
    torch.manual_seed(1)
    for p in net.parameters():
        p.data += 0.05 * torch.randn_like(p)
    whole, half = torch.rand(1, 9, 32, 32) * 0.5 + 0.2, torch.rand(1, 19, 16, 16) * 0.5 + 0.2
    net(whole.requires_grad_(), half.requires_grad_()).square().sum().backward()
    assert (whole.grad.abs().sum((0, 2, 3)) > 0).all()
    assert (half.grad.abs().sum((0, 2, 3)) > 0).all()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_balanced_shows_grey_as_grey_and_refuses_other_channels():
    picture = texture((80, 96), channels=1)
    grey = tensor(view(picture, 10, 10, (48, 56)), view(picture, 13, 10, (48, 56)))
    tier = Balanced(network())
    made = tier(grey, [0.5], Rng([0, 1, 2]))
    assert made.shape == (3, 1, 1, 48, 56)
    assert torch.equal(made[0], made[2])
    with pytest.raises(errors.BadInput, match="1 or 3 channels, got 16; the tier fast takes any"):
        tier(grey.expand(-1, 16, -1, -1), [0.5], Rng([0]))


@pytest.mark.parametrize("small", [(5, 7), (31, 33), (40, 47), (200, 20)])
def test_what_was_looked_at_before_does_not_matter(small):
    (first, _), (last, _) = over(0), over(1)
    before = flows.flow(flows.grey(first), flows.grey(last))
    flows.flow(*(flows.grey(texture(small, seed)) for seed in (3, 4)))
    assert np.array_equal(flows.flow(flows.grey(first), flows.grey(last)), before)


def test_what_is_made_of_grey_frames_is_the_mean_of_its_colours():
    made = torch.randn(2, 5, 3, 4, 6)
    grey, colour = torch.zeros(2, 1, 4, 6, dtype=torch.float64), torch.zeros(2, 3, 4, 6)
    found = as_given(made, grey)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found[:, :, 0].float(), (made[:, :, 0] + made[:, :, 1] + made[:, :, 2]) / 3)
    assert torch.equal(as_given(made, colour), made)
