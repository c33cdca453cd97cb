"""Motion: known displacements are found, frames land where they should, unknown frames are never looked at."""

import math

import pytest
import torch
import torch.nn.functional as F

from framefill.diffusion.complete import blend
from framefill.nets.warp import fetch
from framefill.video import motion
from framefill.video.digits import MovingDigits

SIZE = 48
HARD = torch.Generator().manual_seed(0)


def waves(shift=(0.0, 0.0), *, size=(SIZE, SIZE), seed=0):
    """A smooth texture (1, 1, H, W), moved by `shift` pixels (x, y): sums of waves, so any fraction is exact."""
    draw = torch.Generator().manual_seed(seed)
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in size)
    picture = torch.zeros(size, dtype=torch.float64)
    for _ in range(24):
        fx, fy, phase = (torch.rand(3, generator=draw, dtype=torch.float64) - 0.5).tolist()
        angle = (columns - shift[0])[None] * fx + (rows - shift[1])[:, None] * fy + 2 * math.pi * phase
        picture += torch.cos(2 * angle) / 8
    return picture.clamp(-1, 1).float()[None, None]


def inner(x, edge=10):
    return x[..., edge:-edge, edge:-edge]


def clip_of(velocity, frames, **options):
    """A clip (1, frames, 1, H, W) of a texture at constant velocity."""
    return torch.stack([waves((velocity[0] * t, velocity[1] * t), **options)[0] for t in range(frames)])[None]


def decibels(a, b):
    return 10 * math.log10(4 / (a - b).square().mean().item())


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, -2), (3, 5), (-7, 4), (0.5, 0.25), (-2.5, 3.3), (6.4, -6.6)])
def test_the_displacement_of_a_texture_is_its_shift(shift):
    found = motion.displacement(waves(), waves(shift))
    assert found.shape == (1, 2, SIZE, SIZE)
    error = inner(found, 16) - torch.tensor(shift)[None, :, None, None]
    assert error.abs().median() < 0.15
    assert error.abs().quantile(0.95) < 0.45


def test_a_flat_frame_does_not_move():
    flat = torch.full((2, 3, 20, 24), -0.7)
    assert (motion.displacement(flat, flat) == 0).all()


def test_two_things_move_on_their_own():
    a, b = (torch.full((1, 1, 64, 64), -1.0) for _ in range(2))
    left, right = waves(size=(16, 16), seed=1)[0], waves(size=(16, 16), seed=2)[0]
    a[0, :, 8:24, 8:24], b[0, :, 11:27, 8:24] = left, left  # 3 down
    a[0, :, 40:56, 40:56], b[0, :, 40:56, 36:52] = right, right  # 4 to the left
    found = motion.displacement(a, b)
    assert found[0, :, 12:20, 12:20].flatten(1).median(1).values.tolist() == pytest.approx([0, 3], abs=0.1)
    assert found[0, :, 44:52, 44:52].flatten(1).median(1).values.tolist() == pytest.approx([-4, 0], abs=0.1)


def test_displacement_knows_no_direction():
    """Mirrored frames have mirrored displacements, transposed ones transposed."""
    a, b = waves(seed=3), waves((2.3, -1.6), seed=3)
    found = inner(motion.displacement(a, b))
    mirrored = inner(motion.displacement(a.flip(-1), b.flip(-1))).flip(-1) * torch.tensor([-1.0, 1.0])[:, None, None]
    turned = inner(motion.displacement(a.mT, b.mT)).mT.flip(1)
    assert (found - mirrored).abs().median() < 1e-3
    assert (found - turned).abs().median() < 1e-3


def test_carrying_nowhere_changes_nothing():
    x = torch.rand(2, 3, 20, 30, generator=HARD) * 2 - 1
    torch.testing.assert_close(motion.carry(x, torch.zeros(2, 2, 20, 30)), x, atol=0.05, rtol=0)


@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (-3, 2), (5, -6)])
def test_carrying_by_whole_pixels_shifts(shift):
    x = waves(seed=4).expand(-1, 3, -1, -1)
    moved = torch.tensor(shift, dtype=torch.float32)[None, :, None, None].expand(1, 2, SIZE, SIZE)
    torch.testing.assert_close(inner(motion.carry(x, moved)), inner(x.roll((shift[1], shift[0]), (-2, -1))),
                               atol=0.02, rtol=0)  # fmt: skip


def test_carrying_invents_no_colour():
    x = torch.rand(4, 2, 16, 18, generator=HARD)
    moved = torch.randn(4, 2, 16, 18, generator=HARD) * 8
    made = motion.carry(x, moved)
    assert made.isfinite().all()
    assert (made >= x.amin() - 1e-6).all()
    assert (made <= x.amax() + 1e-6).all()
    far = motion.carry(x, torch.full_like(moved, 1e6))  # everything leaves: what was there stays
    torch.testing.assert_close(far, x, atol=1e-5, rtol=0)


def test_where_two_land_the_one_with_contrast_is_seen():
    x = torch.full((1, 1, 40, 40), -1.0)
    x[..., 4:12, 4:12] = waves(size=(8, 8), seed=7)[0]
    moved = torch.zeros(1, 2, 40, 40)
    moved[..., 2:14, 2:14] = 20.0  # the textured square and its rim go where the flat background stays
    made = motion.carry(x, moved)
    torch.testing.assert_close(made[..., 24:32, 24:32], x[..., 4:12, 4:12], atol=0.1, rtol=0)


def test_outside_the_picture_the_border_goes_on():
    x = torch.rand(1, 1, 6, 7, generator=HARD)
    for axis, edge in ((0, x[..., :, -1:]), (1, x[..., -1:, :])):
        moved = torch.zeros(1, 2, 6, 7)
        moved[:, axis] = 50.0
        torch.testing.assert_close(fetch(x, moved), edge.expand_as(x))


PATTERNS = {
    "past": [1, 1, 1, 0, 0, 0, 0, 0, 0], "two": [0, 1, 1, 0, 0, 0, 0, 0, 0], "future": [0, 0, 0, 0, 0, 0, 1, 1, 1],
    "both": [1, 1, 1, 0, 0, 0, 1, 1, 1], "ends": [0, 0, 1, 0, 0, 0, 1, 0, 0], "gaps": [1, 0, 1, 0, 0, 0, 0, 1, 0],
    "inside": [0, 1, 1, 0, 1, 0, 0, 0, 0], "three and one": [1, 1, 1, 0, 0, 0, 1, 0, 0],
}  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("velocity", [(1.0, -0.5), (-1.5, 1.25)])
def test_constant_motion_is_continued_from_any_two_known_frames(pattern, velocity):
    truth = clip_of(velocity, 9, seed=5)
    known = torch.tensor([PATTERNS[pattern]], dtype=torch.bool)
    made = motion.guess(truth * known[:, :, None, None, None], known, slice(3, 6))
    assert decibels(inner(made), inner(truth[:, 3:6])) > 30


def test_sides_without_a_known_frame_are_zero_and_one_frame_stays():
    frames = torch.rand(3, 6, 1, 16, 16, generator=HARD)
    known = torch.tensor([[0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]], dtype=torch.bool)
    before, after = motion.carried(frames, known, slice(1, 5))
    assert (before[[0, 2]] == 0).all()
    assert (after[[0, 1]] == 0).all()
    torch.testing.assert_close(before[1], frames[1, :1].expand(4, -1, -1, -1), atol=0.05, rtol=0)
    torch.testing.assert_close(after[2], frames[2, 5:].expand(4, -1, -1, -1), atol=0.05, rtol=0)
    made = motion.guess(frames, known, slice(1, 5))
    assert torch.equal(made, before + after)


def test_unknown_frames_are_not_looked_at_and_known_ones_come_back():
    frames = torch.rand(4, 8, 2, 16, 16, generator=HARD)
    known = torch.rand(4, 8, generator=HARD) < 0.5
    hidden = frames.masked_fill(~known[:, :, None, None, None], float("nan"))
    wanted = slice(2, 7)
    made = motion.guess(hidden, known, wanted)
    assert made.isfinite().all()
    assert torch.equal(made, motion.guess(frames, known, wanted))
    assert torch.equal(made[known[:, wanted]], frames[:, wanted][known[:, wanted]])


def test_a_guess_does_not_depend_on_the_batch():
    frames = torch.cat([clip_of((v, 1 - v), 6, seed=v) for v in range(4)])
    known = torch.tensor([[1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1], [1, 1, 1, 0, 1, 0]]).bool()
    together = motion.guess(frames, known, slice(1, 5))
    for i in range(4):
        torch.testing.assert_close(motion.guess(frames[i : i + 1], known[i : i + 1], slice(1, 5))[0], together[i])


def test_the_guess_is_computed_in_full_precision_under_autocast():
    frames = clip_of((1.5, 0.5), 5, seed=6)
    known = torch.tensor([[1, 1, 0, 0, 1]]).bool()
    with torch.autocast("cpu", torch.bfloat16):
        cast = motion.guess(frames, known, slice(2, 4))
    assert torch.equal(cast, motion.guess(frames, known, slice(2, 4)))


def test_box_means_are_those_of_pooling():
    x = torch.randn(2, 3, 13, 20, generator=HARD)
    for side in (3, 7, 31):
        pooled = F.avg_pool2d(x, side, 1, side // 2, count_include_pad=False)
        torch.testing.assert_close(motion._box(x, side), pooled, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 64), (33, 17)])
def test_any_size(size):
    frames = torch.rand(1, 4, 3, *size, generator=HARD)
    known = torch.tensor([[1, 1, 0, 1]]).bool()
    made = motion.guess(frames, known, slice(2, 3))
    assert made.shape == (1, 1, 3, *size)
    assert made.isfinite().all()


def test_moving_digits_are_guessed_far_better_than_by_holding_or_blending():
    source = MovingDigits("test")
    clips = torch.stack([torch.from_numpy(source.sample(i, length=15)) for i in range(16)])
    frames = clips.permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    index = torch.arange(15)
    for mask, gain in ((index < 5, 2.5), ((index < 5) | (index >= 10), 3.0)):
        known = mask.expand(16, -1)
        ours, plain = (
            decibels(g, frames[:, 5:10])
            for g in (motion.guess(frames, known, slice(5, 10)), blend(frames, known)[:, 5:10])
        )
        assert ours > plain + gain
