"""The check against memorisation: what it counts, against direct sums, and that it tells a copier from a learner."""

import numpy as np
import pytest

from framefill.errors import BadInput
from framefill.metrics import copies as module
from framefill.metrics.copies import copies, nearest

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
    assert copies(learnt[:50], learnt[:50], held_out) == 1
    assert copies(pictures(400), learnt, held_out) == pytest.approx(0.5, abs=0.1)  # 4 deviations of 400 coins


def test_as_many_of_each_are_compared_and_ties_count_half():
    many, one = pictures(200), pictures(1)
    assert 0.3 < copies(pictures(200), many, pictures(200)) < 0.7
    assert copies(pictures(9), one, one) == 0.5
    made = pictures(30)
    fair = copies(made, many, one, seed=3)
    assert fair == copies(made, many, one, seed=3)
    assert 0 < fair < 1  # one of the many against the one: else it were 1


@pytest.mark.parametrize("sizes", [((0, 4), (2, 4)), ((2, 4), (0, 4)), ((2, 4), (2, 5))])
def test_nothing_and_other_sizes_are_refused(sizes):
    made, others = (np.zeros((count, side, 4, 3), np.uint8) for count, side in sizes)
    with pytest.raises(BadInput, match="all of one size"):
        nearest(made, others)
