"""The verb for fields, from the command line and from a dataset: files, messages, and that nothing is lost."""

import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from framefill import checkpoint
from framefill.errors import BadInput
from framefill.recipes.recipe import to_fields
from framefill.training import train

xr = pytest.importorskip("xarray", reason="the climate extra is not installed")

from framefill.accessor import emulator  # noqa: E402
from framefill.climate.archive import open_dataset  # noqa: E402
from framefill.recipes.climate import HADCM3_TINY  # noqa: E402

SHIPPED = str(files("framefill").joinpath("data/hadcm3.nc"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of the fields that ship, hardly trained."""
    recipe = replace(HADCM3_TINY, features=8, multipliers=(1,), heads=1, head_width=8, patch=4, batch_size=1, calls=1)
    out = tmp_path_factory.mktemp("run")
    source = recipe.source(SHIPPED, "train")
    card = checkpoint.Card("climate", "hadcm3", to_fields(recipe), about=recipe.about(source))
    list(train(recipe, source, out, card=card, steps=1))
    return str(out / "model.safetensors")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)


def line(said) -> str:
    code, out, error = said
    assert code == 2
    assert out == ""
    assert error.count("\n") == 1
    return error


def test_without_a_file_the_next_ten_years_of_the_fields_that_ship(call, model, tmp_path):
    code, out, _ = call("emulate", "-m", model, "-n", 2, "--json")
    assert code == 0
    said = json.loads(out)
    made = open_dataset(tmp_path / said["fields"])
    assert made.air_temperature.sizes == {"member": 2, "time": 10, "latitude": 37, "longitude": 49}
    assert [t.year for t in made.time.values.tolist()] == list(range(2000, 2010))
    assert np.isfinite(made.air_temperature.values).all()
    assert made.attrs["framefill_seed"] == 0
    assert "sha256" in made.attrs["framefill_model"]
    assert (tmp_path / said["maps"]).read_bytes().startswith(b"\x89PNG")
    assert said["drift"][0]["known_mean"] == pytest.approx(287.8, abs=0.1)
    before = (tmp_path / said["fields"]).read_bytes()
    assert "hadcm3-forecast.nc exists; use --overwrite" in line(call("emulate", "-m", model))
    assert (tmp_path / said["fields"]).read_bytes() == before
    assert call("emulate", "-m", model, "-n", 2, "-y")[0] == 0
    again = open_dataset(tmp_path / said["fields"])
    np.testing.assert_array_equal(again.air_temperature.values, made.air_temperature.values)


@pytest.mark.slow
def test_stations_states_between_and_a_finer_grid(call, model, tmp_path):
    whole = open_dataset(SHIPPED).load()
    stations = xr.DataArray(np.random.default_rng(0).random((37, 49)) < 0.05, dims=("latitude", "longitude"))
    few = whole.where((whole.time.dt.year < 1990) | stations)
    few.air_temperature.attrs = whole.air_temperature.attrs
    few.transpose("time", ...).to_netcdf(tmp_path / "stations.nc", engine="h5netcdf")
    assert call("emulate", "stations.nc", "--task", "complete", "-m", model, "-n", 2, "-o", "all.nc")[0] == 0
    made = open_dataset(tmp_path / "all.nc").air_temperature.values
    given = few.air_temperature.transpose("time", "latitude", "longitude").values
    np.testing.assert_array_equal(made[:, ~np.isnan(given)], np.stack([given[~np.isnan(given)]] * 2))
    assert np.isfinite(made).all()

    whole.isel(time=[*range(45), 49, 54, 59]).to_netcdf(tmp_path / "some.nc", engine="h5netcdf")
    assert call("emulate", "some.nc", "--task", "interpolate", "-m", model, "-n", 1, "-o", "between.zarr")[0] == 0
    assert open_dataset(tmp_path / "between.zarr").sizes["time"] == 60

    late = whole.isel(time=slice(50, 54), latitude=slice(0, 36), longitude=slice(0, 48))
    area = np.cos(np.deg2rad(late.latitude))
    coarse = (late.air_temperature * area).coarsen(latitude=4, longitude=4).sum() / (
        area * xr.ones_like(late.longitude)
    ).coarsen(latitude=4, longitude=4).sum()
    coarse = coarse.transpose("time", "latitude", "longitude").to_dataset(name="air_temperature")
    coarse.air_temperature.attrs["units"] = "K"
    for name in ("latitude", "longitude"):
        coarse[name].attrs = late[name].attrs
    coarse.to_netcdf(tmp_path / "coarse.nc", engine="h5netcdf")
    words = ("emulate", "coarse.nc", "--task", "super-resolve", "-m", model, "-n", 1)
    assert call(*words, "--like", SHIPPED, "-o", "fine.nc")[0] == 0
    assert open_dataset(tmp_path / "fine.nc").air_temperature.sizes["latitude"] == 37
    assert "--like FILE belongs to --task super-resolve" in line(call(*words))


def test_bad_input_is_one_line(call, model, tmp_path):
    assert "not a model of fields" in line(call("emulate", "-m", "digits"))
    assert "there is no such file" in line(call("emulate", "nothing.nc", "-m", model))
    assert "its suffix must be one of .nc" in line(call("emulate", "-m", model, "-o", "a.txt"))
    assert "there is no folder nowhere" in line(call("emulate", "-m", model, "-o", "nowhere/a.nc"))
    assert "--members must be at least 1" in line(call("emulate", "-m", model, "-n", 0))
    assert "from nothing there is none" in line(call("emulate", "-m", model, "--task", "climatology"))
    (tmp_path / "broken.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 100)
    assert "damaged" in line(call("emulate", "broken.nc", "-m", model))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.nc"]


def test_a_plan_costs_nothing(call, model, tmp_path):
    code, out, _ = call("emulate", "-m", model, "--dry-run")
    assert code == 0
    assert json.loads(out)["fields"] == "hadcm3-forecast.nc"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_evaluation_goes_on_where_it_stopped_and_never_judges_on_training(call, model, tmp_path, monkeypatch):
    monkeypatch.setattr("framefill.evaluate.fields.draw", lambda *a: {})  # pictures have tests of their own
    words = ("evaluate", model, SHIPPED, "-o", "out", "--samples", 2, "--every", 3, "--leads", 1, 2, "--json")
    assert "allows 0 forecast(s) from 2000 on" in line(call(*words[:-3], 1, 10, "--every", 1))
    code, out, error = call(*words)
    assert code == 0, error
    said = json.loads(out)
    assert set(said["variables"]) == {"air_temperature"}
    assert "1950 to 1999" in said["card"]["trained on"]
    assert (tmp_path / "out" / "report.html").exists()
    parts = sorted((tmp_path / "out" / "parts").iterdir())
    assert len(parts) == 3
    monkeypatch.setattr("framefill.climate.emulator.Emulator.ahead", None)  # nothing is forecast again
    assert json.loads(call(*words)[1])["variables"] == said["variables"]


def test_copies_of_training_fields_are_found_under_other_dates(call, model, tmp_path):
    whole = open_dataset(SHIPPED).load()
    later = whole.assign_coords(time=[t.replace(year=t.year + 40) for t in whole.time.values.tolist()])
    later.to_netcdf(tmp_path / "later.nc", engine="h5netcdf")
    said = line(call("evaluate", model, "later.nc", "-o", "out", "--samples", 2, "--leads", 1))
    assert "the test holds fields that training has too" in said


@pytest.mark.slow
def test_recalibration_is_learned_in_the_years_of_training(call, model):
    words = ("evaluate", model, SHIPPED, "-o", "out", "--samples", 3, "--every", 3, "--leads", 1, "--recalibrate")
    code, out, error = call(*words, "--json")
    assert code == 0, error
    said = json.loads(out)
    assert "model, recalibrated" in said["variables"]["air_temperature"]["methods"]
    assert json.loads(said["card"]["recalibration"])["leads"] == [1]


def test_a_dataset_has_the_verbs(model):
    known = open_dataset(SHIPPED).isel(time=slice(0, 40))
    loaded = emulator(model)
    made = known.framefill.forecast(model, steps=3, members=2, seed=4)
    xr.testing.assert_identical(made, loaded.forecast(known, 3, members=2, seed=4))
    with pytest.raises(BadInput, match="not a model of fields"):
        known.framefill.forecast("digits")
    gap = known.isel(time=[*range(35), 39])
    xr.testing.assert_identical(gap.framefill.interpolate(loaded, members=1), loaded.interpolate(gap, members=1))
    xr.testing.assert_identical(gap.framefill.complete(loaded, members=1), loaded.complete(gap, members=1))


@pytest.mark.slow
def test_a_recipe_takes_grid_and_variables_from_the_data(call, tmp_path):
    whole = open_dataset(SHIPPED).load().isel(latitude=slice(0, 8), longitude=slice(0, 12))
    both = whole.assign(other=whole.air_temperature * 2)
    both.other.attrs = whole.air_temperature.attrs
    both.to_netcdf(tmp_path / "two.nc", engine="h5netcdf")
    small = ("features=8", "multipliers=1", "heads=1", "head_width=8", "batch_size=1", "calls=1")
    words = [word for field in small for word in ("--set", field)]
    code, _, error = call("train", "climate", "two.nc", "-o", "run", "--steps", 1, *words)
    assert code == 0, error
    assert (tmp_path / "run" / "samples" / "step-00000001.png").exists()
    assert call("emulate", "two.nc", "-m", "run", "-n", 2, "--steps", 3, "-o", "out.nc")[0] == 0
    made = open_dataset(tmp_path / "out.nc")
    assert made.other.shape == (2, 3, 8, 12)
    assert (tmp_path / "out-maps-air_temperature.png").exists()
    assert call("emulate", "two.nc", "-m", "run", "-n", 2, "--task", "climatology", "-o", "free.nc")[0] == 0
