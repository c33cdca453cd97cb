"""CRPS against closed forms and the double sum."""

import numpy as np
import pytest

from framefill.metrics.forecast import crps


def test_equals_the_double_sum():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3, 4)), rng.normal(size=(3, 4))
    pairs = np.abs(x[:, None] - x[None]).sum(axis=(0, 1)) / (2 * 5 * 4)
    assert crps(x, y) == pytest.approx(np.abs(x - y).mean(axis=0) - pairs)


def test_a_standard_normal_at_zero():
    x = np.random.default_rng(1).normal(size=(200_000,))
    assert crps(x, np.zeros(())) == pytest.approx((np.sqrt(2) - 1) / np.sqrt(np.pi), abs=2e-3)  # 0.2337


def test_one_sample_is_the_absolute_error_and_few_are_unbiased():
    assert crps(np.array([[3.0]]), np.array([1.0])) == [2.0]
    rng = np.random.default_rng(2)
    few = crps(rng.normal(size=(2, 100_000)), np.zeros(100_000)).mean()
    assert few == pytest.approx(0.2337, abs=0.01)
