"""Scores of a model and of what can be had without one, on clips whose answer is known."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from framefill.diffusion.complete import Window
from framefill.metrics.image import psnr
from framefill.video.digits import MovingDigits
from framefill.video.model import VideoModel
from framefill.video.report import guesses, sample_sheet, scores


@dataclass
class Ramp:
    """Clips of flat frames that brighten by `step` levels per frame."""

    step: int

    def sample(self, seed, *, length, strides):
        levels = 50 + seed % 7 + self.step * np.arange(length)
        return np.broadcast_to(levels[:, None, None, None], (length, 16, 16, 1)).astype(np.uint8)


def model(draw, future=2):
    window = Window(2, 3, future)
    return VideoModel(None, draw, window, channels=1, height=16, width=16, stride=1)


def grey(sampler, frames, known, rng):
    return torch.zeros_like(frames[:, 2:5])


def shades(sampler, frames, known, rng):
    return torch.zeros_like(frames[:, 2:5]) + rng.uniform((1, 1, 1, 1)) - 0.5


def test_holding_is_perfect_when_nothing_changes_and_blending_when_change_is_steady():
    still, steady = (scores(model(grey), Ramp(step), clips=4) for step in (0, 6))
    assert still["predicted"]["hold"]["psnr"] == (100.0, 0.0)
    assert still["predicted"]["carried"]["ssim"] == (1.0, 0.0)
    assert steady["filled in"]["blend"]["psnr"] == (100.0, 0.0)
    off = np.array([6.0, 12, 18])
    held = 10 * np.log10(255**2 / np.mean(off**2))
    for task in ("predicted", "filled in"):
        assert steady[task]["hold"]["psnr"][0] == pytest.approx(held, abs=1e-3)


def test_a_model_is_scored_with_its_interval():
    table = scores(model(grey), Ramp(0), clips=8)
    each = np.array([10 * np.log10(255**2 / (128 - (50 + (1_000_000 + i) % 7)) ** 2) for i in range(8)])
    mean, half = table["predicted"]["model"]["psnr"]
    assert mean == pytest.approx(each.mean(), abs=1e-3)
    assert half == pytest.approx(1.96 * each.std(ddof=1) / 8**0.5, abs=1e-3)
    assert set(table["predicted"]["model"]) == {"psnr", "ssim", "crps"}
    off = np.array([abs(128 - (50 + (1_000_000 + i) % 7)) for i in range(8)])
    assert table["predicted"]["model"]["crps"][0] == pytest.approx(off.mean(), abs=1e-3)


def test_several_samples_give_their_mean_and_their_best():
    table = scores(model(shades), Ramp(0), clips=3, samples=4)["predicted"]
    assert table["model"]["best psnr"][0] > table["model"]["psnr"][0] + 1
    assert "best psnr" not in table["hold"]


def test_a_model_without_a_future_is_not_asked_to_fill_in():
    assert set(scores(model(grey, future=0), Ramp(0), clips=2)) == {"predicted"}


def test_the_guesses_know_only_what_is_known():
    truth = MovingDigits("test").sample(3, length=7)
    known = np.array([1, 1, 0, 0, 0, 1, 1], bool)
    hidden = np.where(known[:, None, None, None], truth, 7).astype(np.uint8)
    ours, theirs = guesses(truth, known), guesses(hidden, known)
    for name, frames in ours.items():
        assert (frames[2:5] == theirs[name][2:5]).all()
        assert frames.dtype == np.uint8
    assert (ours["hold"][2:5] == truth[1]).all()
    assert np.abs(ours["blend"][3] - (truth[1] / 2.0 + truth[5] / 2.0)).max() <= 0.51
    scored = {name: float(psnr(frames[2:5], truth[2:5], axes=4)) for name, frames in ours.items()}
    assert scored["carried"] > scored["blend"] > scored["hold"]


def test_the_sheet_shows_truth_tasks_and_a_clip_from_nothing():
    sheet = sample_sheet(model(grey), Ramp(3), clips=2)
    assert sheet.width > 7 * 16
    assert sheet.height > (2 * 3 + 1) * 16
