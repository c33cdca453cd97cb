"""What benchmarks/pseudo_videos.py and hierarchies.py claim: nothing without intervals that do not overlap."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

from framefill.recipes import PRESETS
from framefill.recipes.recipe import override

FOLDER = Path(__file__).parents[1] / "benchmarks"


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench():
    return loaded("pseudo_videos")


def said(values, arm, kind="diffusion"):
    return {f"{kind}|{arm}": [{"FD": v, "steps": 7, "calls": 50} for v in values]}


def test_intervals_are_students(bench):
    mean, low, high = bench.interval([1.0, 2.0, 3.0])
    assert (mean, high - mean) == (2, pytest.approx(4.303 / math.sqrt(3), rel=1e-3))
    assert mean - low == pytest.approx(high - mean)
    assert bench.interval([5.0]) == (5, -math.inf, math.inf)


def test_an_ordering_is_claimed_only_where_intervals_are_apart(bench):
    clear = said([10, 10.1, 9.9], "high-order-4") | said([20, 20.1, 19.9], "still")
    assert "| 3 | diffusion | high-order-4 | still | reproduced |" in bench.orderings(clear)
    turned = said([30, 30.1, 29.9], "high-order-4") | said([20, 20.1, 19.9], "still")
    assert "| still | not reproduced |" in bench.orderings(turned)
    for wide in (said([10], "high-order-4") | said([20], "still"),
                 said([10, 19, 14], "high-order-4") | said([20, 20.1, 19.9], "still")):  # fmt: skip
        assert "| still | undecided |" in bench.orderings(wide)
    assert "first-order" not in bench.orderings(clear)
    assert "after 7 to 7 steps" in bench.orderings(clear)
    assert "| diffusion | high-order-4 | 10.0 ± 0.2 |" in bench.table(clear)


def test_what_is_compared_is_equal_where_it_says_so(bench):
    def bits(name):
        arm = bench.TOKENS[name]
        return bench.bits(override(PRESETS["tokenizer"][arm.preset].recipe, arm.changes))

    assert bits("still, same bits") == bits("blur-8") == bits("noise-8") == 4 * bits("still")
    known = {*bench.TOKENS, *bench.DIFFUSION}
    assert all({better, worse} <= known for _, _, better, worse in bench.ORDERINGS)
    for arm in bench.DIFFUSION.values():
        override(PRESETS["video-diffusion"][arm.preset].recipe, arm.changes)
    still, more = (bench.DIFFUSION[name].calls for name in ("still", "still, as many calls"))
    assert more == 3 * still  # a video of 4 frames and context 2 takes 3 runs


def test_copies_are_pictures_that_are_nearer_to_what_was_learnt(bench):
    rng = np.random.default_rng(0)
    learnt, held_out = rng.integers(0, 256, (2, 6, 4, 4, 1), dtype=np.uint8)
    near = [bench._nearest(learnt[:3], others) for others in (learnt, held_out)]
    assert near[0].tolist() == [0, 0, 0]
    direct = [min(np.square(a.astype(float) - b).sum() for b in held_out) for a in learnt[:3]]
    assert near[1] == pytest.approx(direct)


def test_hierarchies_are_ordered_by_their_ends():
    table = loaded("hierarchies").table
    row = lambda low, high: [{"DS": (low + high) / 2, "low": low, "high": high, "classes": 9}]  # noqa: E731
    assert table({"tiny": row(5, 6), "tiny-learned": row(2, 3)}).endswith(": reproduced")
    assert table({"tiny": row(5, 6), "tiny-learned": row(2, 5.1)}).endswith(": undecided")
    assert table({"tiny": row(1, 2), "tiny-learned": row(3, 4)}).endswith(": not reproduced")
