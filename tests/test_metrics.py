"""Scores against closed forms, and a second way of computing them."""

import numpy as np
import pytest

from framefill.errors import BadInput
from framefill.metrics.image import colour_error, mean_colour, ms_ssim, psnr, sharpness, ssim
from framefill.metrics.video import flicker


def test_psnr_closed_forms():
    truth = np.zeros((2, 8, 8, 1), np.uint8)
    assert psnr(truth + 1, truth) == pytest.approx([48.1308, 48.1308], abs=1e-4)
    assert psnr(np.full_like(truth, 255), truth, axes=4) == pytest.approx(0.0)
    assert np.isinf(psnr(truth, truth)).all()
    # Per clip, errors are averaged before the logarithm; per frame, after.
    mixed = truth.copy()
    mixed[0] += 10
    mixed[1] += 1
    assert psnr(mixed, truth, axes=4) == pytest.approx(10 * np.log10(255**2 / 50.5))
    assert psnr(mixed, truth).mean() == pytest.approx(10 * np.log10(255**2 / 10.0))


def test_ssim_against_a_direct_computation():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (2, 14, 15, 1)).astype(np.uint8)
    y = (0.7 * x + 0.3 * y).astype(np.uint8)
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(taps, taps) / taps.sum() ** 2
    values = []
    for i in range(4):
        for j in range(5):
            a, b = (z[i : i + 11, j : j + 11, 0].astype(float) for z in (x, y))
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            c1, c2 = 6.5025, 58.5225
            values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    assert ssim(x, y) == pytest.approx(np.mean(values), abs=1e-9)
    assert ssim(x, x) == pytest.approx(1.0)


def waves(strength):
    """A picture of whole numbers, and the same with steps of up to `strength` added."""
    y, x = np.mgrid[:192, :208]
    truth = np.stack([(x * y // 7) % 256, (3 * x + y * y // 11) % 256, (x * x // 5 + 2 * y) % 200], -1)
    steps = (np.arange(truth.size) * 7919 % (2 * strength + 1)).reshape(truth.shape) - strength
    return np.clip(truth + steps, 0, 255).astype(np.uint8), truth.astype(np.uint8)


@pytest.mark.parametrize(("strength", "score"), [(1, 0.9999972251), (24, 0.979152535), (120, 0.845383749)])
def test_ms_ssim_is_that_of_another_implementation(strength, score):
    """Scores of the package pytorch-msssim 1.0.0, which computes in float32 exponents."""
    assert ms_ssim(*waves(strength)) == pytest.approx(score, abs=1e-6)


def test_ssim_needs_room_for_its_window():
    assert ssim(np.zeros((11, 11, 3)), np.zeros((11, 11, 3))) == 1
    with pytest.raises(BadInput, match="needs 11 pixels"):
        ssim(np.zeros((11, 10, 3)), np.zeros((11, 10, 3)))


def test_ms_ssim_closed_forms():
    made, truth = waves(24)
    assert ms_ssim(truth, truth) == pytest.approx(1, abs=1e-12)
    assert ms_ssim(np.stack([made, truth]), np.stack([truth, truth])) == pytest.approx([ms_ssim(made, truth), 1])
    # Plain pictures have no contrast: what is left is the light of the last scale.
    dark, bright = np.full((180, 177, 1), 100, np.uint8), np.full((180, 177, 1), 110, np.uint8)
    light = (2 * 100 * 110 + 6.5025) / (100**2 + 110**2 + 6.5025)
    assert ms_ssim(dark, bright) == pytest.approx(light**0.1333, abs=1e-12)
    assert ms_ssim(255 - truth, truth) < 0.1  # means below zero count as zero, not as NaN
    with pytest.raises(BadInput, match="176"):
        ms_ssim(truth[:175], truth[:175])


def test_sharpness_falls_with_blur_and_rises_with_noise():
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 256, (8, 8)), np.ones((4, 4)))[..., None]
    blurred = (picture + np.roll(picture, 1, 0) + np.roll(picture, 1, 1) + np.roll(picture, (1, 1), (0, 1))) / 4
    assert sharpness(blurred) < 0.7 * sharpness(picture) < 0.7 * sharpness(picture + rng.normal(0, 20, picture.shape))
    ramp = np.add.outer(np.arange(9.0), np.arange(9.0))[..., None]
    assert sharpness(ramp) == 0


def test_mean_colour_is_per_channel():
    picture = np.zeros((3, 4, 4, 3), np.uint8)
    picture[1, :2, :, 2] = 200
    assert mean_colour(picture).tolist() == [[0, 0, 0], [0, 0, 100], [0, 0, 0]]


def test_colour_error_is_that_of_the_worst_channel_whatever_the_sign():
    truth = np.full((2, 4, 4, 3), 100, np.uint8)
    made = truth.copy()
    made[0, ..., 1] -= 3
    made[1, :2, :, 2] += 4
    made[1, ..., 0] += 1
    assert colour_error(made, truth).tolist() == [3, 2]
    made[0, :2] += 6  # errors of both signs that cancel are no tint
    assert colour_error(made[:1, ..., 1:2], truth[:1, ..., 1:2]).tolist() == [0]


def test_flicker_closed_forms():
    rng = np.random.default_rng(0)
    truth = rng.integers(50, 200, (7, 6, 5, 3)).astype(np.uint8)
    error = np.zeros((7, 1, 1, 1))
    error[1::2] = 4  # every second frame too bright
    assert flicker(truth + error, truth) == pytest.approx([8] * 5)
    error[1::2] = np.reshape([4, -4, 4], (3, 1, 1, 1))  # of changing sign: only the made frames themselves stand out
    assert flicker(truth + error, truth) == pytest.approx([8, 0, 8, 0, 8])
    drift = np.arange(7.0).reshape(7, 1, 1, 1)
    assert flicker(truth + 3 - drift, truth) == pytest.approx([0] * 5)
    assert flicker(truth, truth).tolist() == [0] * 5
    frozen = np.repeat(truth[:1], 7, 0)  # smoother than the truth is an error as well
    second = np.abs(np.diff(truth.astype(float), 2, axis=0)).mean((1, 2, 3))
    assert flicker(frozen, truth) == pytest.approx(second)


@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (4, 4, 3), (5, 4, 5, 3)])
def test_flicker_says_what_it_needs(shape):
    truth = np.zeros((5, 4, 4, 3)) if shape[0] == 5 else np.zeros(shape)
    with pytest.raises(BadInput, match="T at least 3"):
        flicker(np.zeros(shape), truth)
