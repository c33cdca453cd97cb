"""Distances between distributions against closed forms, and intervals against how often they hold."""

import numpy as np
import pytest

from framefill.errors import BadInput
from framefill.metrics.distribution import (
    bootstrap,
    bootstrap_band,
    frechet_distance,
    half_samples,
    inception_score,
    precision_recall,
    too_small,
)


def with_moments(n, mean, covariance, seed=0):
    """n samples whose own mean and covariance are exactly these."""
    z = np.random.default_rng(seed).normal(size=(n, len(mean)))
    z -= z.mean(axis=0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z, rowvar=False))).T
    return z @ np.linalg.cholesky(covariance).T + mean


def covariance(D, seed):
    a = np.random.default_rng(seed).normal(size=(D, D))
    return a @ a.T / D + 0.1 * np.eye(D)


def by_roots_of_matrices(x, y):
    """tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2) + |m1 - m2|^2 as it is written."""
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    value, vector = np.linalg.eigh(s)
    half = vector * np.sqrt(np.maximum(value, 0)) @ vector.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ t @ half), 0)).sum()
    return np.square(x.mean(axis=0) - y.mean(axis=0)).sum() + np.trace(s) + np.trace(t) - 2 * shared


def test_known_gaussians():
    shift, s = np.array([1.0, -2.0, 0.5]), covariance(3, 1)
    x = with_moments(50, np.zeros(3), s)
    assert frechet_distance(x, with_moments(40, shift, s, seed=2)) == pytest.approx(shift @ shift, abs=1e-10)
    # covariances that commute: the sum of (sigma - tau)^2 over common axes
    sigma, tau = np.array([1.0, 2.0, 0.3]), np.array([0.5, 2.5, 3.0])
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    x = with_moments(30, np.zeros(3), turn * sigma**2 @ turn.T)
    y = with_moments(20, shift, turn * tau**2 @ turn.T, seed=4)
    assert frechet_distance(x, y) == pytest.approx(shift @ shift + np.square(sigma - tau).sum(), abs=1e-10)


@pytest.mark.parametrize(("n", "m", "D"), [(60, 45, 7), (5, 60, 7), (5, 4, 7), (7, 8, 7), (2, 2, 30)])
def test_any_number_of_samples_equals_the_formula_as_written(n, m, D):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, D)), rng.normal(size=(m, D)) @ covariance(D, 5) + 0.2
    # the root of a rounding error of 1e-16 is 1e-8: the formula as written has no more digits where rank is missing
    assert frechet_distance(x, y) == pytest.approx(by_roots_of_matrices(x, y), abs=1e-6)


@pytest.mark.parametrize("n", [4, 300])
def test_identical_sets_in_any_order_are_at_distance_zero(n):
    x = 5 + np.random.default_rng(0).normal(size=(n, 12)) * 100
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-9)


def test_symmetric_and_the_same_after_moving_and_turning_both():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 6)), rng.gamma(2, size=(25, 6))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    distance = frechet_distance(x, y)
    assert frechet_distance(y, x) == pytest.approx(distance)
    assert frechet_distance(x @ turn + 7, y @ turn + 7) == pytest.approx(distance)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * distance)


def test_leading_axes_are_samples():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(6, 5, 3)), rng.normal(size=(30, 3)).astype(np.float32)
    assert frechet_distance(x, y) == frechet_distance(x.reshape(30, 3), y)
    assert precision_recall(x, y) == precision_recall(x.reshape(30, 3), y)


def test_the_bias_that_the_warning_speaks_of():
    rng, D, n = np.random.default_rng(3), 16, 320
    distances = [frechet_distance(rng.normal(size=(n, D)), rng.normal(size=(n, D))) for _ in range(20)]
    assert np.mean(distances) == pytest.approx((D * D + 5 * D) / (2 * n), rel=0.05)
    assert "rank 255" in too_small(256, 400)
    assert "too large" in too_small(4000, 400)
    assert "rank" not in too_small(401, 400)
    assert too_small(4001, 400) is None


def by_loops(x, y, k):
    """Precision, recall, density, coverage point by point."""
    reach = lambda z: [sorted(np.linalg.norm(z - p, axis=1))[k] for p in z]  # noqa: E731
    rx, ry = reach(x), reach(y)
    in_x = np.array([[np.linalg.norm(p - q) <= r for q, r in zip(x, rx, strict=True)] for p in y])
    in_y = np.array([[np.linalg.norm(p - q) <= r for q, r in zip(y, ry, strict=True)] for p in x])
    return in_x.any(1).mean(), in_y.any(1).mean(), in_x.sum(1).mean() / k, in_x.any(0).mean()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_manifolds_equal_a_computation_by_loops(k, monkeypatch):
    monkeypatch.setattr("framefill.metrics.distribution.BLOCK", 7)
    rng = np.random.default_rng(k)
    x, y = 1000 + rng.normal(size=(40, 4)), 1000.5 + 0.7 * rng.normal(size=(25, 4))
    made = precision_recall(x, y, k=k)
    assert (made.precision, made.recall, made.density, made.coverage) == pytest.approx(by_loops(x, y, k))


def test_manifolds_of_constructed_sets():
    line = np.arange(10.0)[:, None] * [1, 0]
    same = precision_recall(line, line)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    far = precision_recall(line, line + np.array([0, 100]))
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    # one of two modes: all that was made is real, half of the real was made
    two = np.concatenate([line, line + np.array([0, 100])])
    half = precision_recall(two, line + 0.1)
    assert (half.precision, half.recall, half.coverage) == (1, 0.5, 0.5)
    assert precision_recall(line + 0.1, two).precision == 0.5


@pytest.mark.parametrize("interval", [bootstrap, half_samples])
def test_intervals_of_a_mean_hold_as_often_as_they_say(interval):
    rng, held = np.random.default_rng(0), 0
    for seed in range(200):
        made = interval(np.mean, rng.normal(3, 2, size=60), rounds=200, seed=seed)
        held += made.low <= 3 <= made.high
        assert made.mean == pytest.approx(made.value, abs=0.2)
    assert 0.89 <= held / 200 <= 0.985  # 0.95 within three standard errors


@pytest.mark.parametrize("interval", [bootstrap, half_samples])
def test_reflected_intervals_hold_for_a_frechet_distance_and_plain_ones_do_not(interval):
    rng, D, truth = np.random.default_rng(1), 12, 1.0
    plain = reflected = 0
    for seed in range(40):
        x, y = rng.normal(size=(100, D)), rng.normal(size=(100, D)) + np.sqrt(truth / D)
        made = interval(frechet_distance, x, y, rounds=60, seed=seed)
        back = made.reflected()
        assert back.mean < made.value < made.mean
        plain += made.low <= truth <= made.high
        reflected += back.low <= truth <= back.high
    assert plain < 10
    assert reflected >= 34


def test_pairs_share_what_varies():
    rng = np.random.default_rng(2)
    level = 10 * rng.normal(size=80)
    a, b = level + 1 + 0.1 * rng.normal(size=80), level
    difference = lambda x, y: float(x.mean() - y.mean())  # noqa: E731
    paired, apart = (bootstrap(difference, a, b, rounds=200, paired=p) for p in (True, False))
    assert paired.value == apart.value
    assert 0.9 < paired.low < 1 < paired.high < 1.1
    assert apart.high - apart.low > 20 * (paired.high - paired.low)


def test_intervals_repeat_and_depend_on_the_seed():
    x = np.random.default_rng(3).normal(size=(30, 2))
    assert bootstrap(np.mean, x, rounds=20, seed=1) == bootstrap(np.mean, x, rounds=20, seed=1)
    assert bootstrap(np.mean, x, rounds=20, seed=1) != bootstrap(np.mean, x, rounds=20, seed=2)


@pytest.mark.parametrize(
    ("real", "made", "words"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), "with one D"),
        (np.zeros(5), np.zeros((5, 4)), "with one D"),
        (np.zeros((5, 3)), np.zeros((1, 3)), "2 or more"),
        (np.zeros((5, 3)), np.full((5, 3), np.nan), "NaN or infinite"),
    ],
)
def test_features_that_are_none(real, made, words):
    for score in (frechet_distance, precision_recall):
        with pytest.raises(BadInput, match=words):
            score(real, made)


def test_impossible_neighbours_and_resamplings():
    for k in (0, 5):
        with pytest.raises(BadInput, match=r"it is 1\.\.4"):
            precision_recall(np.zeros((9, 2)), np.zeros((5, 2)), k=k)
    x = np.zeros(4)
    for samples, options in (((x[:1],), {}), ((), {}), ((x,), {"rounds": 0}), ((x, x[:3]), {"paired": True})):
        with pytest.raises(BadInput, match="2 items or more"):
            bootstrap(np.mean, *samples, **options)


def test_a_band_is_the_interval_place_by_place():
    rng = np.random.default_rng(20)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 3)) + 5
    band = bootstrap_band(lambda a, b: (a - b).mean(axis=0), x, y, rounds=80, seed=3, block=4)
    for i in range(3):
        one = bootstrap(lambda a, b: float((a - b).mean()), x[:, i], y[:, i], rounds=80, seed=3, block=4, paired=True)
        assert (band.value[i], band.low[i], band.high[i]) == pytest.approx((one.value, one.low, one.high))
    with pytest.raises(BadInput, match=r"paired samples of \[30, 29\] items"):
        bootstrap_band(lambda a, b: a.mean(axis=0), x, y[1:])
    with pytest.raises(BadInput, match="blocks of 0"):
        bootstrap_band(lambda a: a.mean(axis=0), x, block=0)


def test_the_inception_score_is_the_number_of_kinds_that_are_told_apart():
    assert inception_score(np.eye(10)) == pytest.approx(10)
    assert inception_score(np.repeat(np.eye(10)[:4], 5, 0)) == pytest.approx(4)
    assert inception_score(np.full((7, 10), 0.1)) == pytest.approx(1)
    assert inception_score(np.array([[0.9, 0.1], [0.1, 0.9]])) == pytest.approx(2 * 0.9**0.9 * 0.1**0.1)
    for wrong in (np.eye(3)[0], np.ones((4, 2)), np.zeros((0, 3)), np.array([[1.5, -0.5]])):
        with pytest.raises(BadInput, match="with sum 1 per picture"):
            inception_score(wrong)
