"""Forecasts without a network against processes whose answer is known, and on real temperatures; copies are found."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from framefill.climate.archive import open_archive
from framefill.climate.baselines import BASELINES, Climatology, Detrended, LinearInverse, Persistence, TrendAR1
from framefill.climate.fields import to_dataset
from framefill.climate.leakage import Stretch, check_split, digest, identical_stretches
from framefill.climate.samples import A1B, E1
from framefill.climate.scores import hindcast, score, truth
from framefill.climate.write import write
from framefill.errors import BadInput, NotInstalled
from framefill.metrics.distribution import bootstrap


def autoregression(T, n, phi, rng, matrix=None):
    """T fields of n places with variance 1 when phi is a number."""
    step = np.eye(n) * phi if matrix is None else matrix
    x = np.zeros((T, n))
    x[0] = rng.normal(size=n)
    for t in range(1, T):
        x[t] = step @ x[t - 1] + np.sqrt(1 - phi**2) * rng.normal(size=n)
    return x


# ---- baselines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_knows_only_the_past_and_keeps_gaps(name):
    rng = np.random.default_rng(0)
    record = rng.normal(size=(50, 3, 4)) + 280
    record[:, 1, 2] = np.nan
    changed = record.copy()
    changed[41:] += 9
    made, other = (hindcast(BASELINES[name], r, [40, 35], (1, 4), members=5, seed=1) for r in (record, changed))
    assert made.shape == (2, 5, 2, 3, 4)
    assert np.array_equal(made, other, equal_nan=True)
    assert np.isnan(made[..., 1, 2]).all()
    assert np.isnan(made).sum() == 2 * 5 * 2
    alone = hindcast(BASELINES[name], record, [35], (1, 4), members=5, seed=1)
    assert np.array_equal(alone[0], made[1], equal_nan=True)
    with pytest.raises(BadInput, match=r"needs .* fields of history, there are 0"):
        BASELINES[name](record[:0], [1], 2, rng)


def test_persistence_of_a_random_walk_is_calibrated():
    rng = np.random.default_rng(1)
    walk = np.cumsum(rng.normal(size=(400, 200)), axis=0)
    made = Persistence(window=300)(walk, [4], 3000, rng)[:, 0]
    assert made.mean(axis=0) == pytest.approx(walk[-1], abs=0.25)
    assert np.sqrt(made.var(axis=0).mean()) == pytest.approx(2, rel=0.05)
    short = Persistence()(walk[:3], [10], 2, rng)  # changes over two steps are all there are
    assert np.isfinite(short).all()


def test_climatology_keeps_the_season_and_uses_fields_once():
    record = (np.arange(40) % 4 * 10.0)[:, None] + np.arange(40)[:, None] / 100
    made = Climatology(season=4, years=6)(record, [1, 2, 7], 6, np.random.default_rng(2))[..., 0]
    assert np.round(made // 10).astype(int).T.tolist() == [[0] * 6, [1] * 6, [2] * 6]
    assert sorted(np.round(made[:, 0] * 100)) == [16, 20, 24, 28, 32, 36]


def test_trend_with_ar1_finds_line_memory_and_spread():
    rng = np.random.default_rng(3)
    t = np.arange(2000.0)
    record = autoregression(2000, 50, 0.6, rng) + 0.01 * t[:, None] + 5
    made = TrendAR1(window=2000)(record, [1, 3], 4000, rng)
    left = record[-1] - 5 - 0.01 * t[-1]
    for i, lead in enumerate((1, 3)):
        assert made[:, i].mean(axis=0) == pytest.approx(5 + 0.01 * (t[-1] + lead) + 0.6**lead * left, abs=0.25)
        assert made[:, i].var(axis=0).mean() == pytest.approx(1 - 0.6 ** (2 * lead), rel=0.05)


def test_trend_with_bootstrap_is_line_plus_whole_fields():
    rng = np.random.default_rng(4)
    t = np.arange(31.0)
    shape = rng.normal(size=7)
    wiggle = np.where(np.arange(31) % 2, 1.0, -1.0)[:, None] * shape
    made = Detrended(Climatology(years=31))(3 + 0.5 * t[:, None] + wiggle, [5], 31, rng)[:, 0]
    slope = (made - made.mean(axis=0)) @ shape / (shape @ shape)
    assert np.abs(slope) == pytest.approx(1, abs=0.1)
    assert made.mean(axis=0) == pytest.approx(3 + 0.5 * 35 - shape / 31, abs=0.02)


def test_linear_inverse_model_finds_a_rotation_that_places_alone_cannot_see():
    rng = np.random.default_rng(5)
    turn = 0.9 * np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    record = autoregression(4000, 2, 0.9, rng, turn) @ np.array([[1, 0.5, -0.2], [0.1, 1, 1]]) + 7
    model = LinearInverse(modes=2)
    made = model(record, [2], 5000, rng)[:, 0]
    z = (record[-1] - 7) @ np.linalg.pinv(np.array([[1, 0.5, -0.2], [0.1, 1, 1]]))
    expected = turn @ turn @ z @ np.array([[1, 0.5, -0.2], [0.1, 1, 1]]) + 7
    assert made.mean(axis=0) == pytest.approx(expected, abs=0.15)
    starts = list(range(3000, 3990, 9))
    errors = {}
    for name, forecast in {"lim": model, "ar": TrendAR1(window=1000)}.items():
        ensemble = hindcast(forecast, record, starts, [2], members=20)[:, :, 0]
        found = score(ensemble[..., None, :], truth(record, starts, [2])[:, 0][:, None], 2, np.ones((1, 3)), rounds=50)
        errors[name] = found.crps.value
        if name == "lim":
            assert found.spread_skill.value == pytest.approx(1, abs=0.15)
    assert errors["lim"] < 0.9 * errors["ar"]
    far = model(record, [500], 4000, rng)[:, 0]
    assert far.var(axis=0) == pytest.approx(record.var(axis=0), rel=0.15)


def test_bad_requests_are_one_line():
    record = np.zeros((40, 2))
    rng = np.random.default_rng(0)
    for leads, members in (([], 2), ([0], 2), ([1], 0)):
        with pytest.raises(BadInput, match="both are 1 or more"):
            Persistence()(record, leads, members, rng)
    with pytest.raises(BadInput, match=r"forecasts from \[39\]; with leads up to 2 the record allows 0..37"):
        hindcast(Persistence(), record, [20, 39], [2], members=2)
    assert replace(Detrended(LinearInverse(modes=20)), window=10).shortest == 60


# ---- scores -------------------------------------------------------------------------------------------------------


def test_scores_of_a_calibrated_forecast_and_of_one_member():
    rng = np.random.default_rng(6)
    made, happened = rng.normal(size=(60, 8, 5, 6)), rng.normal(size=(60, 5, 6))
    found = score(made, happened, 1, np.ones((5, 6)), rounds=200)
    assert found.crps.value == pytest.approx(1 / np.sqrt(np.pi), abs=0.03)
    assert found.crps.low < 1 / np.sqrt(np.pi) < found.crps.high
    assert found.spread_skill.value == pytest.approx(1, abs=0.05)
    assert found.rmse.value == pytest.approx(np.sqrt(1 + 1 / 8), abs=0.05)
    assert found.bias.low < 0 < found.bias.high
    assert np.abs(np.array(found.ranks) - 1 / 9).max() < 0.03
    single = score(made[:, :1], happened, 1, np.ones((5, 6)), rounds=20)
    assert single.crps.value == pytest.approx(np.abs(made[:, 0] - happened).mean())
    assert np.isnan(single.spread_skill.value)


def test_area_weights_count():
    rng = np.random.default_rng(7)
    made, happened = rng.normal(size=(10, 4, 2, 3)), np.zeros((10, 2, 3))
    made[:, :, 1] *= 1000
    only = score(made, happened, 1, np.array([[1.0], [0.0]]) * np.ones(3), rounds=20)
    assert only.crps.value == pytest.approx(
        score(made[:, :, :1], happened[:, :1], 1, np.ones((1, 3)), rounds=20).crps.value
    )
    assert only.crps.value < 2


def test_blocks_widen_the_interval_of_neighbours_that_resemble_each_other():
    series = autoregression(2000, 1, 0.9, np.random.default_rng(8))[:, 0]
    width = {}
    for block in (1, 50):
        found = bootstrap(np.mean, series, rounds=400, block=block)
        width[block] = found.high - found.low
    # the variance of the mean is (1 + phi) / (1 - phi) = 19 times that of independent items
    assert 3 < width[50] / width[1] < 5
    with pytest.raises(BadInput, match="blocks of 0"):
        bootstrap(np.mean, series, block=0)


# ---- leakage ------------------------------------------------------------------------------------------------------


def test_copies_are_found_wherever_they_are():
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=(30, 4, 5)).astype(np.float32), rng.normal(size=(20, 4, 5)).astype(np.float32)
    b[3:9] = a[12:18]
    b[15] = a[0]
    assert identical_stretches(a, b) == [Stretch(12, 3, 6)]
    assert identical_stretches(a, b, shortest=1) == [Stretch(12, 3, 6), Stretch(0, 15, 1)]
    assert identical_stretches(a, a) == [Stretch(0, 0, 30)]
    assert identical_stretches(a, np.nextafter(a, 9)) == []
    with pytest.raises(BadInput, match="stretches of 0"):
        identical_stretches(a, b, shortest=0)


def test_what_makes_fields_equal():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    x[0, 1] = np.nan
    other = x.copy()
    other[0, 1] = -np.nan
    other[0, 0] = -0.0
    assert digest(x) == digest(other)
    assert digest(x) != digest(x.reshape(3, 2))
    assert digest(np.zeros((2, 3))) is None
    assert digest(np.full((2, 3), np.nan)) is None
    assert identical_stretches(np.zeros((5, 2, 2)), np.zeros((5, 2, 2))) == []  # five dry days are no leak


# ---- real temperatures --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def temperatures():
    if importlib.util.find_spec("xarray") is None:
        pytest.skip("the climate extra is not installed")
    try:
        files = [file.find() for file in (A1B, E1)]
    except NotInstalled as reason:
        pytest.skip(str(reason))
    return [open_archive(f, ["air_temperature"]) for f in files]


def test_real_fields_are_read_as_they_are(temperatures):
    spec = temperatures[0].spec
    assert len(temperatures[0]) == 240
    assert (spec.calendar, str(spec.step), spec.variables[0].unit) == ("360_day", "1 year", "K")
    assert spec.grid.shape == (37, 49)
    assert not spec.grid.periodic
    spec.check(temperatures[1].spec)


def test_real_fields_come_back_from_a_file(temperatures, tmp_path):
    archive = temperatures[0]
    values, _, times = archive.read(230, 10)
    path = write(to_dataset(values, times, archive.spec, archive.layout), tmp_path / "out.nc")
    again = open_archive(path, ["air_temperature"], like=archive.spec)
    assert again.times == times
    assert np.array_equal(again.read(0, 10).values, values)
    assert again.dataset.air_temperature.attrs["Model scenario"] == "A1B"


def test_the_two_scenarios_are_one_run_until_1999(temperatures):
    a, b = temperatures
    with pytest.raises(BadInput, match=r"140 from 1860-06-01 on in .*E1.* equal those from 1860-06-01 on in .*A1B"):
        check_split(a, b, train_years=(1860, 1999), test_years=(1860, 2099))
    check_split(a, b, train_years=(1860, 1999), test_years=(2000, 2099))
    check_split(a, b, train_years=(1860, 2099), test_years=(2000, 2099))
    with pytest.raises(BadInput, match="10 from 1990"):
        check_split(a, a, train_years=(1860, 1999), test_years=(1990, 2099))


def test_baselines_reach_the_reference_figures(temperatures):
    """Fair CRPS in K at 1, 5 and 10 years: those of `benchmarks/climate_baselines.py`, which says how."""
    record = temperatures[0].read(0, 240).values[0, :, 0].double().numpy()
    starts, leads = [y - 1860 for y in range(2000, 2090, 3)], (1, 5, 10)
    weights = temperatures[0].spec.grid.weights
    wanted = {"persistence": (0.436, 0.500, 0.551), "trend with AR(1)": (0.362, 0.407, 0.443),
              "trend with residual bootstrap": (0.367, 0.398, 0.439)}  # fmt: skip
    for name, figures in wanted.items():
        made = hindcast(BASELINES[name], record, starts, leads, members=30)
        happened = truth(record, starts, leads)
        found = [
            score(made[:, :, i], happened[:, i], lead, weights, spacing=3, rounds=20) for i, lead in enumerate(leads)
        ]
        assert [s.crps.value for s in found] == pytest.approx(figures, abs=0.006), name
    assert [s.energy.value for s in found] == pytest.approx((0.482, 0.527, 0.568), abs=0.007)
