"""Pictures show the data they are given: other data, other pixels; axes and colours say what is there."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from framefill.climate.canvas import canvas, colours, label_axis, save, squared
from framefill.climate.diagnostics import calibration, quantiles, scores, spatial, temporal
from framefill.climate.fans import best_baseline, fans, series
from framefill.climate.maps import maps, relative_bias_map
from framefill.climate.plots import draw
from framefill.climate.verification import verify
from framefill.errors import Failed, NotInstalled
from framefill.evaluate.fields import as_page, write_report
from hindcasts import GLOBE, REGION, gaussian

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def found():
    h = gaussian(np.random.default_rng(0), starts=6, leads=(1, 2, 3, 4))
    return h, verify(h, rounds=20)


NAMES = ["scores", "calibration", "maps-first", "maps-last", "fans", "series", "spectra", "quantiles", "temporal"]


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def report(found, tmp_path_factory):
    h, v = found
    return write_report(h, v, tmp_path_factory.mktemp("report") / "out", card={"model": "a & b", "seed": 3})


@pytest.mark.slow
def test_all_pictures_are_written_and_equal_data_give_equal_files(found, report, tmp_path):
    h, v = found
    names = {"report.html", "result.json", "table.txt", *(f"{name}.png" for name in NAMES)}
    assert {p.name for p in report.parent.iterdir()} == names  # and no rests
    for name in NAMES:
        shown = pixels(report.parent / f"{name}.png")
        assert shown.shape[1] == 1100
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 20
    for name, figure in (("scores", scores(v)), ("maps-first", maps(h, 3, 0))):
        assert save(figure, tmp_path / "again.png").read_bytes() == (report.parent / f"{name}.png").read_bytes()


@pytest.mark.slow
def test_other_data_give_other_pixels(report, tmp_path):
    other = gaussian(np.random.default_rng(1), starts=6, leads=(1, 2, 3, 4), shift=1.0, spread=0.5)
    made = draw(other, verify(other, rounds=20), tmp_path / "a" / "b")
    assert [p.stem for p in made.values()] == NAMES
    for path in made.values():
        one, two = pixels(path), pixels(report.parent / path.name)
        assert one.shape != two.shape or (one != two).any(axis=2).mean() > 0.002, path.name


def test_one_lead_and_no_baseline_have_fewer_pictures(found, tmp_path):
    h, _ = found
    few = replace(h, leads=(1,), happened=h.happened[:, :1], made={"model": h.made["model"][:, :1, :1]})
    made = draw(few, verify(few, rounds=20), tmp_path)
    assert [p.stem for p in made.values()] == ["scores", "calibration", "maps-first", "series", "spectra", "quantiles"]


def test_maps_hold_the_fields_cell_by_cell_and_share_a_scale(found):
    h, _ = found
    h = replace(h, happened=np.where(np.arange(7) == 3, np.nan, h.happened))
    figure = maps(h, 2, 1)
    shown = [axis.collections[0] for axis in figure.axes if axis.collections and axis.get_title(loc="left")]
    truth, mean, member, error, spread, bias = (s.get_array() for s in shown)
    made, there = h.made["model"][2, :, 1], np.arange(7) != 3
    assert np.array_equal(truth.mask, np.broadcast_to(~there, REGION.shape))
    assert truth.data[:, there] == pytest.approx(h.happened[2, 1][:, there])
    assert mean.data[:, there] == pytest.approx(made.mean(axis=0)[:, there])
    assert member.data[:, there] == pytest.approx(made[0][:, there])
    assert error.data[:, there] == pytest.approx((made.mean(axis=0) - h.happened[2, 1])[:, there])
    assert spread.data[:, there] == pytest.approx(made.std(axis=0, ddof=1)[:, there])
    expected = (h.made["model"][:, :, 1].mean(axis=1) - h.happened[:, 1]).mean(axis=0)
    assert bias.data[:, there] == pytest.approx(expected[:, there])
    assert len({s.get_clim() for s in shown[:3]}) == 1
    for s in (shown[3], shown[5]):
        assert s.get_clim()[0] == -s.get_clim()[1]
    assert shown[4].get_clim()[0] == 0
    corners = np.asarray(shown[0].get_coordinates())
    assert corners[0, :, 0] == pytest.approx(np.array(REGION.longitude_edges))
    assert corners[:, 0, 1] == pytest.approx(np.array(REGION.latitude_edges))


def test_departures_and_amounts_have_their_own_colours(found):
    h, _ = found
    about = maps(replace(h, normal=np.full(REGION.shape, 280.0)), 0, 0)
    assert any("departure from normal (K)" in axis.get_xlabel() for axis in about.axes)
    rain = np.maximum(h.happened - 280, 0)
    wet = replace(h, happened=rain, made={"model": 2 * rain[:, None]}, name="rain", unit="mm/h")
    assert wet.amounts
    assert not h.amounts
    relative = relative_bias_map(wet, "model", 0)
    assert relative[np.isfinite(relative)] == pytest.approx(100)
    dry = rain.copy()
    dry[:, :, 0, 0] = 0
    assert np.isnan(relative_bias_map(replace(wet, happened=dry), "model", 0)[0, 0])
    assert any(axis.get_xlabel() == "mean - truth (%)" for axis in maps(wet, 0, 0).axes)
    assert all(axis.get_ylim()[0] == 0 for axis in fans(wet).axes if axis.get_visible())


@pytest.mark.slow
def test_a_globe_and_a_calm_field_are_drawn(tmp_path):
    h = gaussian(np.random.default_rng(2), starts=3, leads=(1, 2), grid=GLOBE, time_unit="hours")
    still = replace(h, happened=np.ones_like(h.happened), made={"model": np.ones_like(h.made["model"])})
    for i, case in enumerate((h, still)):
        assert save(maps(case, 0, 0), tmp_path / f"{i}.png").stat().st_size > 5000
    assert len(draw(still, verify(still, rounds=20), tmp_path)) == 8


def test_fans_are_area_means_or_one_cell(found):
    h, _ = found
    axis = fans(h, other="far").axes[1]
    truth = next(line for line in axis.lines if line.get_label() == "truth")
    assert truth.get_ydata() == pytest.approx((h.happened[1] * REGION.weights).sum(axis=(1, 2)))
    cell = series(h, cell=(2, 3)).axes[0]
    lines = {line.get_label(): line.get_ydata() for line in cell.lines}
    assert lines["truth"] == pytest.approx(h.happened[:, 0, 2, 3])
    assert lines["median"] == pytest.approx(np.median(h.made["model"][:, :, 0, 2, 3], axis=1))
    band = cell.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(np.quantile(h.made["model"][:, :, 0, 2, 3], 0.05, axis=1).min())
    better = replace(h, made={"model": h.made["model"], "far": h.made["far"], "near": h.made["model"]})
    assert best_baseline(better) == "near"
    assert best_baseline(replace(h, made={"model": h.made["model"]})) is None


def test_every_axis_says_what_it_shows(found):
    h, v = found
    figures = [scores(v), calibration(v), spatial(v), temporal(v), quantiles(h, v)]
    for figure in figures:
        assert all(axis.get_title(loc="left") for axis in figure.axes)
        assert any("K" in axis.get_ylabel() or "spread" in axis.get_ylabel() for axis in figure.axes)
        assert figure.axes[-1].get_xlabel()
    points = figures[0].axes[0].containers[0].lines[0]
    assert points.get_ydata() == pytest.approx([s.crps.value for s in v.methods["model"].scores])
    assert (squared("K"), squared("mm/h")) == ("K²", "(mm/h)²")
    assert colours([str(i) for i in range(9)])["7"] == colours(["0", "1"])["1"]  # they come again


def test_long_names_of_starts_are_thinned_out():
    axis = canvas(2).subplots()
    label_axis(axis, [f"1981-01-{i:02d}T00:00:00" for i in range(1, 31)], "start", most=10)
    assert 2 <= len(axis.get_xticks()) <= 5
    assert len(set(np.diff(axis.get_xticks()))) == 1


def test_a_picture_is_whole_or_not_there(found, tmp_path, monkeypatch):
    _, v = found
    path = save(scores(v), tmp_path / "scores.png")
    before, figure = path.read_bytes(), calibration(v)

    def full(part, **_):
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", full)
    with pytest.raises(Failed, match="No space left"):
        save(figure, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scores.png"]


def test_the_report_holds_table_pictures_and_figures(found, report):
    text = report.read_text()
    for name in NAMES:
        assert f'src="{name}.png"' in text
    assert "a &amp; b" in text
    said = json.loads((report.parent / "result.json").read_text())
    assert said["card"]["seed"] == 3
    assert said["verification"]["differences"][0]["verdict"] in ("better", "worse", "no clear difference")
    assert "fair CRPS, K" in (report.parent / "table.txt").read_text()
    assert "<b>" not in as_page(replace(found[1], name="<b>rain</b>"), {"<b>": "<b>"}, {})


def test_without_matplotlib_there_is_a_report_that_says_so(found, tmp_path, monkeypatch):
    h, v = found
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(NotInstalled, match=r"pictures need matplotlib.*pip install 'framefill\[plot\]'"):
        draw(h, v, tmp_path)
    text = write_report(h, v, tmp_path / "out", card={}).read_text()
    assert "framefill[plot]" in text
    assert "<img" not in text
