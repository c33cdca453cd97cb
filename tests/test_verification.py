"""Ensembles of known quality get the figures that theory gives them, and nothing that is missing counts."""

import json
from dataclasses import replace

import numpy as np
import pytest

from framefill.climate.scores import score
from framefill.climate.shape import LEVELS, spatial_spectra
from framefill.climate.tables import as_json, as_text, format_like, lead_name, some
from framefill.climate.verification import bias_map, verify
from framefill.errors import BadInput
from hindcasts import GLOBE, REGION, gaussian


@pytest.fixture(scope="module")
def reliable():
    found = gaussian(np.random.default_rng(0))
    return found, verify(found, rounds=200)


# ---- closed forms -------------------------------------------------------------------------------------------------


def test_a_reliable_ensemble_has_the_scores_of_theory(reliable):
    _, v = reliable
    for s in v.methods["model"].scores:
        assert s.crps.value == pytest.approx(1 / np.sqrt(np.pi), abs=0.04)  # of N(0, 1) against itself
        assert s.rmse.value == pytest.approx(np.sqrt(1 + 1 / 9), abs=0.06)
        assert s.spread_skill.value == pytest.approx(1, abs=0.06)
        assert s.spread_skill.low < 1.03
        assert s.spread_skill.high > 0.97
    for s in v.methods["far"].scores:
        assert s.crps.value == pytest.approx(np.sqrt(10 / np.pi), abs=0.12)


def test_its_ranks_are_flat_within_their_intervals_and_a_sure_ones_are_not(reliable):
    _, v = reliable
    inside = [(b.low <= 0.1) & (b.high >= 0.1) for b in v.methods["model"].ranks]
    assert all(b.value.sum() == pytest.approx(1) for b in v.methods["model"].ranks)
    assert np.mean(inside) > 0.75
    sure = verify(gaussian(np.random.default_rng(1), spread=0.3, leads=(1,)), rounds=100)
    ranks = sure.methods["model"].ranks[0]
    assert ranks.low[[0, -1]].min() > 0.2
    assert sure.methods["model"].scores[0].spread_skill.high < 0.5


def test_a_paired_difference_says_which_is_better(reliable):
    found, v = reliable
    for d in v.differences:
        assert d.verdict == "better"
        assert d.crps.value == pytest.approx((1 - np.sqrt(10)) / np.sqrt(np.pi), abs=0.12)
        assert d.percent.value == pytest.approx(100 * (1 / np.sqrt(10) - 1), abs=3)
    turned = replace(found, made={"far": found.made["far"], "model": found.made["model"]})
    assert {d.verdict for d in verify(turned, rounds=50).differences} == {"worse"}
    same = replace(found, made={"one": found.made["model"], "two": found.made["model"][:, ::-1]})
    assert {d.verdict for d in verify(same, rounds=50).differences} == {"no clear difference"}


def test_what_is_hard_for_all_is_no_doubt_of_a_difference():
    """Errors common to both cancel: the paired interval is far narrower than those of the scores."""
    rng = np.random.default_rng(2)
    hard = 5 * rng.random(size=(40, 1, 1, 1))
    draws = rng.normal(size=(40, 1, *REGION.shape))
    made = {name: (hard * draws + error)[:, None] for name, error in (("one", 0.0), ("two", 0.3))}
    found = gaussian(rng, leads=(1,), members=1, happened=np.zeros((40, 1, *REGION.shape)), made=made)
    v = verify(found, rounds=200)
    score, apart = v.methods["one"].scores[0].crps, v.differences[0].crps
    assert apart.high - apart.low < (score.high - score.low) / 5


def test_identical_data_have_equal_spectra_and_lie_on_the_diagonal(reliable):
    found, _ = reliable
    for grid in (REGION, GLOBE):
        happened = np.random.default_rng(3).normal(size=(6, 4, *grid.shape))
        starts = tuple("abcdef")
        copy = replace(found, grid=grid, happened=happened, starts=starts, made={"copy": happened[:, None]})
        f = verify(copy, rounds=100).methods["copy"]
        for spectra in (*f.spatial, f.temporal):
            for curve in (spectra.ratio.value, spectra.ratio.low, spectra.ratio.high):
                assert curve == pytest.approx(1)
        q = f.quantiles
        there = np.isfinite(q.truth)
        assert there.sum() > 25
        assert np.array_equal(q.made[there], q.truth[there])
        assert np.abs(q.difference.high - q.difference.low)[there].max() < 1e-9


def test_spectra_are_of_members_not_of_their_mean():
    rng = np.random.default_rng(4)
    made, truth = rng.normal(size=(30, 20, *REGION.shape)), rng.normal(size=(30, *REGION.shape))
    found = spatial_spectra(made, truth, REGION, 50, 1)
    assert found.made.sum() / found.truth.sum() == pytest.approx(1, abs=0.1)  # that of the mean would be 1 / 20
    assert found.frequency[0] == 0
    assert found.frequency[-1] <= 0.5
    twice = spatial_spectra(2 * made, truth, REGION, 50, 1)
    assert twice.ratio.value == pytest.approx(4 * found.ratio.value)
    flat = spatial_spectra(made, np.ones_like(truth), REGION, 20, 1)
    assert np.isnan(flat.ratio.value[3])


def test_power_is_found_at_its_wavelength_on_a_globe_and_in_time():
    wave = np.cos(2 * np.pi * 3 * np.arange(12) / 12) * np.ones((6, 1))
    beat = np.cos(2 * np.pi * 2 * np.arange(8) / 8)[:, None, None]
    happened = np.tile(beat * wave, (2, 1, 1, 1))
    v = verify(
        gaussian(np.random.default_rng(5), starts=2, leads=tuple(range(6, 54, 6)), grid=GLOBE, happened=happened,
                 made={"model": happened[:, None]}), rounds=20,
    )  # fmt: skip
    assert v.methods["model"].spatial[0].truth.argmax() == 3  # the zonal wavenumber
    over_time = v.methods["model"].temporal
    assert over_time.frequency[over_time.truth.argmax()] == pytest.approx(2 / 48)  # per unit of time, not per lead


def test_the_normal_is_taken_away_before_spectra_alone(reliable):
    found, v = reliable
    mountains = 100 * np.random.default_rng(6).normal(size=REGION.shape)
    raised = replace(
        found, happened=found.happened + mountains, made={k: m + mountains for k, m in found.made.items()},
        normal=mountains,
    )  # fmt: skip
    again = verify(raised, rounds=200)
    assert again.methods["model"].spatial[1].ratio.value == pytest.approx(v.methods["model"].spatial[1].ratio.value)
    assert again.methods["model"].temporal.truth == pytest.approx(v.methods["model"].temporal.truth, rel=1e-6)
    assert again.methods["model"].quantiles.truth[-45] > v.methods["model"].quantiles.truth[-45] + 20


def test_a_known_bias_is_found_with_area_weights():
    tilt = np.linspace(-2, 4, 6)[:, None] * np.ones(7)
    found = gaussian(np.random.default_rng(7), shift=tilt, leads=(1,))
    bias = verify(found, rounds=100).methods["model"].scores[0].bias
    expected = (tilt * REGION.weights).sum()
    assert abs(expected - tilt.mean()) > 0.1  # else the weights would not show
    assert bias.low < expected < bias.high
    assert bias.high - bias.low < 0.2
    assert bias_map(found, "model", 0) == pytest.approx(tilt, abs=0.75)


def test_rare_quantiles_at_both_ends():
    rng = np.random.default_rng(8)
    v = verify(gaussian(rng, leads=(1,), spread=2.0), rounds=100)
    q = v.methods["model"].quantiles
    low, high = (np.flatnonzero(np.isclose(LEVELS, level)) for level in (0.01, 0.99))
    # of variance 10 and 13 about 280
    for i, sign in ((low, -1), (high, 1)):
        expected = sign * 2.326 * (np.sqrt(13) - np.sqrt(10))
        assert q.difference.low[i] < expected < q.difference.high[i]
        assert 280 + sign * 2.326 * np.sqrt(10) == pytest.approx(q.truth[i], abs=0.6)
    assert np.isnan(q.truth[[0, -1]]).all()  # a millionth of 1680 values


def test_intervals_cover():
    """Of 100 hindcasts of one known bias about 95 % have it in their interval; 24 starts make that a little less."""
    rng, covered = np.random.default_rng(10), 0
    for _ in range(100):
        happened = rng.normal(size=(24, 1, 1)) * np.ones((1, 2, 2))  # cells that vary as one are one
        bias = score(np.full((24, 2, 2, 2), 0.5), happened, 1, np.ones((2, 2)), rounds=60).bias
        covered += bias.low <= 0.5 <= bias.high
    assert 84 <= covered <= 99


# ---- missing values -----------------------------------------------------------------------------------------------


def test_missing_cells_change_nothing(reliable):
    """Whatever stands at a cell that one method or the truth lacks has no effect on any figure."""
    found, _ = reliable
    lake = np.zeros(REGION.shape, bool)
    lake[1:3, 2:5] = True
    holes = replace(found, happened=np.where(lake, np.nan, found.happened))
    wild = {k: np.where(lake, -999.0, m) for k, m in holes.made.items()}
    one_lacks = {"model": found.made["model"], "far": np.where(lake, np.nan, found.made["far"])}
    tables = [
        as_json(verify(h, rounds=20))
        for h in (holes, replace(holes, made=wild), replace(found, made=one_lacks))
    ]  # fmt: skip
    assert tables[0] == tables[1] == tables[2]
    assert tables[0]["missing"] == pytest.approx(6 / 42)
    assert tables[0]["methods"]["model"]["scores"][0]["spread_skill"]["value"] == pytest.approx(1, abs=0.08)


def test_scores_with_missing_cells_are_those_of_the_rest():
    rng = np.random.default_rng(9)
    found = gaussian(rng, leads=(1, 2))
    left = replace(
        REGION, longitude=REGION.longitude[:4], longitude_edges=REGION.longitude_edges[:5],
    )  # fmt: skip
    cut = replace(
        found, grid=left, happened=found.happened[..., :4], made={k: m[..., :4] for k, m in found.made.items()}
    )
    holes = replace(found, happened=np.where(np.arange(7) < 4, found.happened, np.nan))
    for a, b in zip(*(verify(h, rounds=30).methods["model"].scores for h in (cut, holes)), strict=True):
        for kind in ("crps", "energy", "rmse", "bias", "spread_skill"):
            assert getattr(a, kind).value == pytest.approx(getattr(b, kind).value)
        assert a.ranks == pytest.approx(b.ranks)


def test_no_spectrum_over_time_where_there_is_none(reliable):
    found, _ = reliable
    for leads in ((1, 2, 3, 5), (1, 2, 4, 8)):
        assert verify(replace(found, leads=leads), rounds=20).methods["model"].temporal is None
    gone = found.happened.copy()
    gone[3, 1, :, :3], gone[3, 2, :, 3:] = np.nan, np.nan
    assert verify(replace(found, happened=gone), rounds=20).methods["model"].temporal is None
    gone[3, 2, 0, 3] = 280
    assert verify(replace(found, happened=gone), rounds=20).methods["model"].temporal is not None


# ---- words --------------------------------------------------------------------------------------------------------


def test_the_table_has_every_figure_aligned(reliable):
    _, v = reliable
    lines = as_text(v).splitlines()
    assert lines[0] == "air_temperature in K: 40 starts 2000 .. 2039, 9 members, cells weighted by area"
    head = next(line for line in lines if "1 year" in line)
    at = [head.index(lead) for lead in ("1 year ", "2 years", "3 years", "4 years")]
    crps = v.methods["model"].scores[1].crps
    row = lines[lines.index("fair CRPS, K") + 1]
    assert row[at[1] :].startswith(f"{crps.value:.3f} [{crps.low:.3f}, {crps.high:.3f}]") or row[at[1] :].startswith(
        f"{crps.value:.2f} [{crps.low:.2f}, {crps.high:.2f}]"
    )
    assert all(row[i - 2 : i] == "  " and row[i] != " " for i in at)
    assert sum("better" in line for line in lines) == 1
    shorter = as_text(v, most=2)
    assert "4 years" in shorter
    assert "3 years" not in shorter


def test_json_holds_everything_and_no_nan(reliable):
    found, v = reliable
    read = json.loads(json.dumps(as_json(v), allow_nan=False))
    assert read["differences"][0]["verdict"] == "better"
    assert read["methods"]["model"]["scores"][2]["rmse"]["value"] == v.methods["model"].scores[2].rmse.value
    assert read["methods"]["far"]["quantiles"]["truth"][0] is None
    single = replace(found, made={"one": found.made["model"][:, :1]})
    said = as_json(verify(single, rounds=20))
    assert said["methods"]["one"]["scores"][0]["spread_skill"]["value"] is None
    assert said["differences"] == []
    assert "spread over skill, adjusted (1 if calibrated)\n  one  -" in as_text(verify(single, rounds=20))


def test_numbers_are_rounded_to_their_size():
    assert format_like([0.4, 0.5, 1.2])(0.43651) == "0.437"
    assert format_like([288.0, 290.0])(289.6) == "290"
    assert format_like([2e-6])(2.346e-6) == "2.35e-06"
    assert format_like([])(float("nan")) == "-"
    assert [lead_name(i, "hours") for i in (1, 6)] == ["1 hour", "6 hours"]
    assert (some(10, 3), some(2, 5), some(1, 3)) == ([0, 4, 9], [0, 1], [0])


# ---- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": ("2000",)}, "1 starts and 4 leads; an interval needs 2"),
        ({"leads": (4, 3, 2, 1)}, "leads rise from 1 on"),
        ({"leads": (0, 1, 2, 3)}, "leads rise from 1 on"),
        ({"spacing": 0}, "starts lie 1 apart or more"),
        ({"happened": np.zeros((40, 4, 6, 6))}, r"what happened has shape \(40, 4, 6, 6\); .* \(40, 4, 6, 7\)"),
        ({"made": {}}, "no method was given"),
        ({"made": {"m": np.zeros((40, 4, 6, 7))}}, "m made .*with members between"),
        ({"made": {"m": np.zeros((40, 0, 4, 6, 7))}}, "m made .*with members between"),
        ({"made": {"m": np.full((40, 1, 4, 6, 7), np.inf)}}, "m holds infinite values"),
        ({"happened": np.full((40, 4, 6, 7), np.nan)}, "no cell has a value .* from 2000 at 1 years"),
        ({"normal": np.zeros((7, 6))}, "does not broadcast"),
        ({"normal": np.zeros((2, 40, 4, 6, 7))}, "does not broadcast"),
        ({"normal": np.full((6, 7), np.nan)}, "the normal is missing"),
    ],
)
def test_hindcasts_that_do_not_fit_are_one_line(changes, message):
    found = gaussian(np.random.default_rng(0))
    with pytest.raises(BadInput, match=message):
        replace(found, **changes)
