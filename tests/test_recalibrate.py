"""A wrong mean and a wrong spread are put right, what is right stays as it is, and nothing else is touched."""

import json
from dataclasses import replace

import numpy as np
import pytest

from framefill.climate.baselines import Persistence
from framefill.climate.recalibrate import Recalibrated, Recalibration, recalibrate
from framefill.climate.verification import verify
from framefill.errors import BadInput
from hindcasts import gaussian


@pytest.mark.parametrize("spread", [0.4, 2.0])
def test_a_known_inflation_and_shift_are_found(spread):
    found = gaussian(np.random.default_rng(0), starts=120, spread=spread, shift=0.7, leads=(1, 5))
    fixed = recalibrate(found)
    expected = np.sqrt((1 + spread**2 / 9) / (spread**2 + spread**2 / 9))
    assert fixed.shifts == pytest.approx((-0.7, -0.7), abs=0.05)
    assert fixed.inflations == pytest.approx((expected, expected), rel=0.04)
    again = replace(found, made={"model": fixed(found.made["model"], (1, 5))})
    before, after = (verify(h, rounds=50).methods["model"].scores[0] for h in (found, again))
    assert after.spread_skill.value == pytest.approx(1, abs=1e-6)
    assert after.bias.value == pytest.approx(0, abs=1e-6)
    assert after.crps.value < before.crps.value


def test_calibrated_ensembles_are_left_alone():
    """Each of 16 intervals of 95 % may miss by chance; the correction is small even then."""
    corrections = [recalibrate(gaussian(np.random.default_rng(s), starts=60, leads=(1, 2))) for s in range(4)]
    shifts, inflations = (np.array([getattr(c, k) for c in corrections]) for k in ("shifts", "inflations"))
    assert (shifts == 0).sum() >= 6
    assert (inflations == 1).sum() >= 6
    assert np.abs(shifts).max() < 0.1
    assert np.abs(inflations - 1).max() < 0.1


def test_it_helps_on_starts_that_it_has_not_seen():
    train, test = (gaussian(np.random.default_rng(s), spread=0.3, shift=1.0, leads=(1,)) for s in (1, 2))
    fixed = recalibrate(train)
    made = {"corrected": fixed(test.made["model"], (1,)), "raw": test.made["model"]}
    v = verify(replace(test, made=made), rounds=100)
    assert v.differences[0].verdict == "better"
    assert v.methods["corrected"].scores[0].spread_skill.value == pytest.approx(1, abs=0.08)


def test_leads_missing_cells_and_lowest():
    fixed = Recalibration((1, 5), (1.0, -3.0), (2.0, 1.0), lowest=0.0)
    made = np.array([[1.0, 3.0], [3.0, np.nan]])[:, None, None]  # two members, one lead, one row, two cells
    assert fixed(made, [1])[:, 0, 0, 0] == pytest.approx([1, 5])
    assert np.isnan(fixed(made, [1])[:, 0, 0, 1]).all()
    assert fixed(made, [5])[:, 0, 0, 0] == pytest.approx([0, 0])
    swapped = fixed(np.concatenate([made, made], axis=1), [5, 1])
    assert swapped[:, 1, 0, 0] == pytest.approx([1, 5])
    with pytest.raises(BadInput, match=r"no correction for lead 2; it was fitted to \[1, 5\]"):
        fixed(made, [2])


def test_a_forecast_and_its_correction_are_a_forecast():
    record = 280 + np.random.default_rng(3).normal(size=(40, 3, 4))
    fixed = Recalibration((1, 2), (10.0, 20.0), (1.0, 3.0))
    plain, corrected = (
        f(record, [2], 50, np.random.default_rng(4)) for f in (Persistence(), Recalibrated(Persistence(), fixed))
    )
    assert corrected.mean(axis=0) == pytest.approx(plain.mean(axis=0) + 20)
    assert corrected.std(axis=0) == pytest.approx(3 * plain.std(axis=0))


def test_it_survives_json_and_nothing_else_passes():
    fixed = Recalibration((1, 5), (0.25, -3.0), (2.0, 1.0), lowest=0.0)
    words = json.loads(json.dumps(fixed.to_json()))
    assert Recalibration.from_json(words) == fixed
    for wrong, message in (
        ({}, "no recalibration: KeyError"),
        (words | {"leads": 3}, "no recalibration: TypeError"),
        (words | {"shifts": ["a", 1]}, "no recalibration: ValueError"),
        (words | {"lowest": "deep"}, "no recalibration: ValueError"),
        (words | {"shifts": [1.0]}, "one finite shift"),
        (words | {"shifts": [1.0, float("nan")]}, "one finite shift"),
        (words | {"inflations": [1.0, -1.0]}, "inflation of -1.0"),
    ):
        with pytest.raises(BadInput, match=message):
            Recalibration.from_json(wrong)


def test_what_has_no_spread_has_no_inflation():
    found = gaussian(np.random.default_rng(5), members=1)
    with pytest.raises(BadInput, match="model has 1 member"):
        recalibrate(found)
    equal = replace(found, made={"model": np.repeat(found.made["model"], 3, axis=1)})
    with pytest.raises(BadInput, match="members that are all equal, or without error, 1 years ahead"):
        recalibrate(equal)
    exact = gaussian(np.random.default_rng(5), members=2, leads=(1,))
    mirrored = exact.happened[:, None] + np.array([1.0, -1.0])[:, None, None, None]
    with pytest.raises(BadInput, match="without error"):
        recalibrate(replace(exact, made={"model": mirrored}))
