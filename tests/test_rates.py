"""Curves of rate and quality whose crossings and areas are known in closed form."""

import math

import numpy as np
import pytest

from framefill.errors import BadInput
from framefill.metrics.rates import bits_per_pixel, rate_at, rate_saved


def test_bits_per_pixel():
    assert bits_per_pixel(1000, 4000) == 2
    for size, pixels in ((-1, 4), (1, 0)):
        with pytest.raises(BadInput, match="1 pixel or more"):
            bits_per_pixel(size, pixels)


def test_a_logarithmic_curve_is_met_exactly_everywhere():
    rates = [0.8, 0.1, 0.2, 3.2]  # in any order
    quality = lambda rate: 30 + 10 * math.log2(rate)  # noqa: E731
    for rate in (0.1, 0.13, 0.5, 2.9, 3.2):
        found = rate_at(rates, [quality(r) for r in rates], quality(rate))
        assert found == pytest.approx(rate)
        falling = rate_at(rates, [-quality(r) for r in rates], -quality(rate), rising=False)
        assert falling == pytest.approx(rate)


def test_a_mark_between_two_points_is_at_the_geometric_mean():
    assert rate_at([0.1, 0.4], [10, 30], 20) == pytest.approx(0.2)
    assert rate_at([0.1, 0.4], [4.0, 2.0], 3.0, rising=False) == pytest.approx(0.2)


def test_beyond_the_points_nothing_is_claimed():
    assert math.isnan(rate_at([0.1, 0.4], [10, 30], 31))
    assert math.isnan(rate_at([0.1, 0.4], [10, 30], 9))
    assert math.isnan(rate_at([0.1, 0.4], [4, 2], 5, rising=False))


def test_a_curve_that_wavers_counts_where_it_first_passes():
    rates, qualities = [4, 1, 8, 2], [10, 0, 30, 20]
    assert rate_at(rates, qualities, 15) == pytest.approx(2**0.75)
    assert rate_at([1, 2, 4, 8], [0, 10, 10, 20], 10) == pytest.approx(2)
    assert rate_at([1, 2], [5, 5], 5) == 1


def test_a_codec_that_spends_a_fixed_share_saves_the_rest():
    rates = np.array([0.1, 0.3, 0.5, 2.0])
    qualities = np.array([5.0, 9, 11, 30])
    assert rate_saved(rates, qualities, rates, qualities) == pytest.approx(0)
    assert rate_saved(0.6 * rates, qualities, rates, qualities) == pytest.approx(0.4)
    assert rate_saved(rates, qualities, 0.6 * rates, qualities) == pytest.approx(1 - 1 / 0.6)
    # Only what both reach counts: cut off, the answer is the same.
    assert rate_saved(0.6 * rates[1:], qualities[1:], rates[:3], qualities[:3]) == pytest.approx(0.4)


def test_savings_are_a_mean_of_logarithms_over_quality():
    # Log2 rates 0..2 against 0..1 over qualities 0..4, then a kink: means by hand.
    assert rate_saved([1, 4], [0, 4], [1, 2], [0, 4]) == pytest.approx(1 - 2**0.5)
    found = rate_saved([1, 1.0001, 4], [0, 2, 4], [1, 2], [0, 4])
    assert found == pytest.approx(1 - 2 ** (0.5 - 0.5), abs=1e-3)


def test_curves_that_share_nothing_or_are_none():
    assert math.isnan(rate_saved([1, 2], [0, 1], [1, 2], [2, 3]))
    with pytest.raises(BadInput, match="does not rise"):
        rate_saved([1, 2, 3], [0, 2, 1], [1, 2], [0, 1])
    for rates, qualities in (
        ([1], [1]),
        ([1, 2], [1]),
        ([0, 1], [1, 2]),
        ([1, 2], [1, math.nan]),
        ([[1, 2]], [[1, 2]]),
    ):
        with pytest.raises(BadInput, match="2 or more of each"):
            rate_at(rates, qualities, 1)
