"""The check against memorisation: what it counts, against direct sums, and that it tells a copier from a learner."""

import numpy as np
import pytest

from framefill.errors import BadInput
from framefill.metrics import copies as module
from framefill.metrics.copies import Memory, copies, memory, nearest

RNG = np.random.default_rng(5)


def pictures(count):
    return RNG.integers(0, 256, (count, 5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("chunk", [3, 1000])
def test_the_nearest_are_those_of_direct_sums(chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    made, others = pictures(6), pictures(10)
    direct = np.square(made[:, None].astype(float) - others[None]).mean((2, 3, 4))
    found = nearest(made, others)
    assert found.index.tolist() == direct.argmin(1).tolist()
    assert found.error == pytest.approx(direct.min(1))


def test_a_copier_has_all_and_a_learner_half():
    learnt, held_out = pictures(300), pictures(120)
    noisy = learnt[:40].astype(int) + RNG.integers(-3, 4, (40, 5, 4, 3))
    assert nearest(np.clip(noisy, 0, 255).astype(np.uint8), learnt).index.tolist() == list(range(40))
    assert copies(held_out[:50], learnt, held_out) == 0
    assert copies(learnt[:50], learnt, held_out) == 1
    assert copies(pictures(400), learnt, held_out) == pytest.approx(0.5, abs=0.11)  # 4 deviations


def test_a_copier_of_most_among_eight_times_as_much_to_learn_from_stands_out():
    """A share of as many learnt as held-out pictures would miss seven of eight copies, and come to 0.55."""
    learnt, held_out = pictures(800), pictures(100)
    found = memory(np.concatenate([learnt[:350], pictures(50)]), learnt, held_out)
    assert found.copies > 0.8 > found.limit
    assert memory(learnt, learnt, held_out) == Memory(1, 0.5 + 0.5 / np.sqrt(800 * 8 / 81))


def test_the_limit_is_two_deviations_of_a_learner():
    """Some pictures are near to many: in one dimension those in a gap. Without their part, limits would be too low."""
    above = []
    for seed in range(300):
        x = np.random.default_rng(seed).integers(0, 256, (100, 1, 1, 3), dtype=np.uint8)
        found = memory(x[:60], x[60:92], x[92:])
        above.append(found.copies > found.limit)
    assert 0.003 < np.mean(above) < 0.06  # of a Gaussian 0.023
    alike = memory(np.repeat(pictures(1), 50, 0), pictures(60), pictures(60))
    assert alike.limit == pytest.approx(1.5)  # fifty times the same says as much as once


def test_ties_count_half():
    one = pictures(1)
    assert copies(pictures(9), one, one) == 0.5
    assert copies(pictures(9), np.repeat(one, 8, 0), one) == pytest.approx(1 / 9)  # half of the nearest, of 8 to 1


@pytest.mark.parametrize("sizes", [((0, 4), (2, 4)), ((2, 4), (0, 4)), ((2, 4), (2, 5))])
def test_nothing_and_other_sizes_are_refused(sizes):
    made, others = (np.zeros((count, side, 4, 3), np.uint8) for count, side in sizes)
    with pytest.raises(BadInput, match="all of one size"):
        nearest(made, others)
