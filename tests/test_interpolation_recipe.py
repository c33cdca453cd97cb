"""The recipe of the repair of interpolated frames: what it packs, what it is paid for, and that it learns."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

import framefill
from framefill import recipes, training
from framefill.arrays import Rng
from framefill.checkpoint import Card
from framefill.recipes.interpolation import FINEST, Interpolation
from framefill.recipes.recipe import to_fields
from framefill.video.between.tier import Balanced, Fast
from framefill.video.between.warp import Motion, seen
from framefill.video.clip import tensor
from framefill.video.triplets.triplet import Triplet

pytest.importorskip("cv2")
SMALL = Interpolation(height=48, width=48, features=(8, 8, 8, 8), batch_size=4, warmup=0, cooldown=0.0, ema=0.9)


class Sliding:
    """Stripes and spots that slide by up to 6 pixels: any number of triplets."""

    def __init__(self, size=48):
        rng = np.random.default_rng(0)
        small = Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8))
        self.picture, self.size = np.asarray(small.resize((160, 160), Image.Resampling.BICUBIC)), size

    def triplet(self, seed):
        rng = np.random.default_rng(seed)
        (x, y), (dx, dy) = rng.integers(20, 80, 2), rng.integers(-3, 4, 2)
        shown = [self.picture[y + k * dy :, x + k * dx :][: self.size, : self.size] for k in (0, 1, 2)]
        return Triplet(np.stack(shown), 0.5)


def test_a_batch_is_the_truth_and_what_is_seen_of_it():
    source = Sliding()
    batch = SMALL.batch(source, [3, 4])
    triplet = source.triplet(4)
    assert torch.equal(batch[1, :3], tensor(triplet.frames)[1])
    first, _, last = triplet.frames.astype(np.float32) / 127.5 - 1
    motion = Motion.between(first, last)
    whole, half = seen(motion, motion.guesses(0.5), 0.5)
    assert np.array_equal(batch[1, 3:12].numpy(), whole)
    told = []
    SMALL.loss(lambda whole, half: told.append(half) or whole[:, 6:9], batch, Rng([0, 1]))
    assert np.array_equal(told[0][1].numpy(), half)


@pytest.mark.parametrize("level", [1, 8, 40])
def test_the_loss_is_minus_the_psnr(level):
    batch = SMALL.batch(Sliding(), [0])
    off = level / 127.5
    loss = SMALL.loss(lambda whole, half: batch[:, :3] + off, batch, Rng([0]))
    psnr = 20 * math.log10(255 / level)
    exact = math.log(4 * 10 ** (-psnr / 10) + FINEST)
    assert float(loss) == pytest.approx(exact, abs=1e-4)


def trained(folder, steps, recipe=SMALL):
    card = Card("interpolation", "tiny", to_fields(recipe), seed=0)
    return list(training.train(recipe, Sliding(), folder, card=card, steps=steps, save_every=steps))


def test_it_learns_and_what_was_learned_is_kept(tmp_path):
    trained(tmp_path / "run", 40)
    product = framefill.load(tmp_path / "run")
    assert isinstance(product, Balanced)
    framefill.save(product, tmp_path / "copy.safetensors")
    copy = framefill.load(tmp_path / "copy.safetensors")
    better = []
    for seed in range(100, 106):
        frames = tensor(Sliding().triplet(seed).frames)
        made = product(frames[::2], [0.5], Rng([0]))[0, 0]
        assert torch.equal(made, copy(frames[::2], [0.5], Rng([0]))[0, 0])
        fast = Fast()(frames[::2], [0.5], Rng([0]))[0, 0]
        better.append(float(((made - frames[1]) ** 2).mean() / ((fast - frames[1]) ** 2).mean()))
    assert np.median(better) < 0.95


def test_the_sheet_shows_truth_and_tiers():
    product = SMALL.product(SMALL.model())
    assert SMALL.sheet(product, Sliding()).size[0] > 8 * 48


def test_the_shipped_network_has_its_size():
    assert recipes.parameters(recipes.find("interpolation", "balanced").recipe) == 1_492_700
