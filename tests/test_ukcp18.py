"""UKCP18 local as distributed: joined, coarsened and cut as in paper 003, and its split into seasons."""

import warnings

import numpy as np
import pytest
import torch

from framefill.arrays import Rng
from framefill.checkpoint import Card
from framefill.errors import BadInput, MediaError

pytest.importorskip("xarray", reason="the climate extra is not installed")
cftime = pytest.importorskip("cftime", reason="the climate extra is not installed")
pytest.importorskip("netCDF4", reason="the climate extra is not installed")

from framefill.climate.archive import open_archive  # noqa: E402
from framefill.climate.calendars import Step  # noqa: E402
from framefill.climate.ukcp18 import BIRMINGHAM, open_ukcp18, seasons  # noqa: E402
from framefill.climate.write import write  # noqa: E402
from framefill.recipes.climate import Climate  # noqa: E402
from framefill.recipes.recipe import to_fields  # noqa: E402
from ukcp18_files import axes, hours_since_1970, rain, write_month  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """December 1980 and January 1981, the first 30 hours of each, and a file of another member."""
    place = tmp_path_factory.mktemp("ukcp18")
    (place / "latest").mkdir()
    write_month(place / "latest", 1981, 1, hours=30)
    write_month(place / "latest", 1980, 12, hours=30)
    write_month(place / "latest", 1980, 12, hours=2, member=4)
    return place


def test_values_are_means_of_four_by_four_cells(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        archive = open_ukcp18(folder, cells=4)
    assert len(archive) == 60
    assert archive.runs == [slice(0, 30), slice(30, 60)]
    assert archive.dataset.pr.chunks[1] == (24, 6, 24, 6)  # nothing has been read
    # Birmingham is in cell 13, 14 of the file, so in coarse cell 3, 3, and the crop begins one before the first
    window = archive.read(31, 3)
    fine = rain(hours_since_1970(1981, 1) + 1, 3)[:, 4:20, 4:20].astype(np.float64)
    expected = fine.reshape(3, 4, 4, 4, 4).mean(axis=(2, 4))
    assert window.values[0, :, 0].numpy() == pytest.approx(expected, rel=1e-6)
    assert str(window.times[0]) == "1981-01-01 01:30:00"
    assert archive.spec.step == Step(seconds=3600)
    assert archive.spec.calendar == "360_day"
    assert archive.spec.variables[0].unit == "mm/hr"
    archive.close()


def test_the_middle_is_birmingham_and_cells_have_true_places(folder):
    made = open_ukcp18(folder, cells=4).dataset
    away = np.hypot(made.latitude - BIRMINGHAM[1], (made.longitude - BIRMINGHAM[0]) * np.cos(np.deg2rad(52.5)))
    assert np.unravel_index(away.values.argmin(), away.shape) == (2, 2)
    assert float(away.min()) < 0.04 * 2**0.5  # half a cell of 8.8 km, diagonally
    north, east = axes()
    assert made.grid_latitude.values == pytest.approx(north[4:20].reshape(4, 4).mean(axis=1))
    assert made.grid_longitude.values == pytest.approx(east[4:20].reshape(4, 4).mean(axis=1))
    assert made[made.pr.attrs["grid_mapping"]].attrs["grid_north_pole_latitude"] == 37.5
    assert made[made.pr.attrs["grid_mapping"]].attrs["earth_radius"] == 6371229


def test_a_store_made_of_it_is_the_same_record(folder, tmp_path):
    archive = open_ukcp18(folder, cells=4)
    again = open_archive(write(archive.dataset, tmp_path / "rain.zarr"), ["pr"], like=archive.spec)
    assert again.times == archive.times
    for start in (0, 20, 45):
        assert (again.read(start, 10).values == archive.read(start, 10).values).all()


def test_chunks_of_joined_files_become_even(folder, tmp_path):
    made = open_ukcp18(folder, cells=4).dataset
    assert made.pr.chunks[1] == (24, 6, 24, 6)
    store = open_archive(write(made.isel(time=slice(20, 60)), tmp_path / "rain.zarr"), ["pr"])
    assert store.dataset.pr.encoding["chunks"][1] == 24


def test_units_by_another_name_are_the_same(tmp_path):
    write_month(tmp_path, 1980, 12, hours=3, units="mm h-1")
    assert open_ukcp18(tmp_path, cells=2).spec.variables[0].unit == "mm/hr"


def test_bad_folders_are_one_line(tmp_path):
    with pytest.raises(MediaError, match="is no folder; give the one with the files of UKCP18"):
        open_ukcp18(tmp_path / "none")
    with pytest.raises(MediaError, match=r"has no files pr_rcp85_land-cpm_uk_2.2km_01_1hr_\*.nc"):
        open_ukcp18(tmp_path)
    first = write_month(tmp_path, 1980, 12, hours=3)
    with pytest.raises(BadInput, match=r"grid_latitude has 30 values, 7 of 4 together: 64 of these around"):
        open_ukcp18(tmp_path)
    with pytest.raises(BadInput, match="choose fewer cells or another centre"):
        open_ukcp18(tmp_path, cells=2, centre=(30.0, 52.0))
    second = write_month(tmp_path, 1981, 1, hours=3, shift=0.1)
    with pytest.raises(BadInput, match=r"19810130.nc is on another grid than the first file"):
        open_ukcp18(tmp_path, cells=2)
    write_month(tmp_path, 1981, 1, hours=3, units="mm/day")
    with pytest.raises(BadInput, match="pr is in mm/day, wanted is mm/hr; is this the hourly rain"):
        open_ukcp18(tmp_path, cells=2)
    second.write_bytes(first.read_bytes()[:3000])
    with pytest.raises(MediaError, match=r"19810130.nc cannot be opened: the file is damaged"):
        open_ukcp18(tmp_path, cells=2)
    second.unlink()
    (tmp_path / "v2").mkdir()
    write_month(tmp_path / "v2", 1980, 12, hours=3)
    with pytest.raises(BadInput, match=r"has 2 files .*19801201-19801230.nc; give the folder of one version"):
        open_ukcp18(tmp_path, cells=2)


def test_a_file_of_something_else_is_one_line(tmp_path):
    netCDF4 = pytest.importorskip("netCDF4")
    path = write_month(tmp_path, 1980, 12, hours=3)
    with netCDF4.Dataset(path, "a") as file:
        file["pr"].delncattr("grid_mapping")
    with pytest.raises(BadInput, match="the first file has no grid mapping; it is no file of UKCP18 local"):
        open_ukcp18(tmp_path, cells=2)
    with netCDF4.Dataset(path, "a") as file:
        file.renameVariable("pr", "tas")
    with pytest.raises(BadInput, match="the first file has no pr; it is"):
        open_ukcp18(tmp_path, cells=2)


# ---- seasons ------------------------------------------------------------------------------------------------------


def hourly(year, hours, month=12):
    first = hours_since_1970(year, month) + 0.5
    return list(cftime.num2date(first + np.arange(hours), "hours since 1970-01-01", "360_day"))


def test_a_whole_block_has_the_papers_windows():
    """Five seasons, one to test on; the paper's record has 48 times as much: 414,288 and 10,368 windows."""
    split = seasons(hourly(1980, 5 * 2160))
    assert len(split.train) * 48 == 414_288
    assert len(split.test) * 48 == 10_368
    assert split.test == list(range(0, 2160, 10))
    assert split.train == list(range(2160, 5 * 2160 - 9))


def test_the_split_is_the_same_whatever_is_there():
    later = seasons(hourly(2020, 2 * 2160))  # 160 seasons after the first
    assert later.test[0] == 0
    assert later.train[0] == 2160
    spring = hourly(1981, 720, month=3) + hourly(1981, 720, month=5)  # April is not there
    assert seasons(spring).train == [*range(711), *range(720, 1431)]
    assert seasons(spring).test == []
    across = seasons(hourly(1982, 3 * 720, month=1))  # January and February train, March begins the sixth season
    assert across.train == list(range(2 * 720 - 9))
    assert across.test == list(range(1440, 2160, 10))


def test_no_window_of_two_kinds_and_none_is_one_line():
    times = hourly(1980, 2165)
    split = seasons(times, length=7)
    assert split.test[-1] + 7 <= 2160
    assert split.train == []
    with pytest.raises(BadInput, match="no 10 hours in a row in one season; the record has 5 times"):
        seasons(times[:5])


@pytest.mark.slow
def test_the_papers_model_learns_its_transform_and_forecasts_from_five_hours(tmp_path):
    for year, month in ((1980, 12), (1981, 3)):
        write_month(tmp_path, year, month, hours=30)
    recipe = Climate(variables="pr:learned", height=4, width=4, features=8, multipliers=(1,), blocks=1, heads=1,
                     head_width=8, batch_size=2, calls=3)  # fmt: skip
    source = recipe.source(f"ukcp18:{tmp_path}", "train")
    starts = {tuple(source.sample(seed, length=10)[0].ravel()) for seed in range(200)}
    assert len(starts) == 21  # March is of season 1, which is for training; December is not
    batch = recipe.batch(source, range(4))
    assert float(batch.min()) >= -1
    assert float(batch.max()) <= 1
    model = recipe.model()
    before = {name: p.detach().clone() for name, p in model.maps.named_parameters()}
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(3):
        optimiser.zero_grad()
        recipe.loss(model, batch, Rng.batch(step, 4)).mean().backward()
        optimiser.step()
    assert all(not torch.equal(before[name], p) for name, p in model.maps.named_parameters())
    card = Card("climate", "ukcp18-learned", to_fields(recipe), about=recipe.about(source))
    product = recipe.product(model.eval().requires_grad_(False), card=card)
    known = source.archive.dataset.isel(time=slice(30, 35)).load()
    made = product.forecast(known, 7, members=2)
    assert made.pr.shape == (2, 7, 4, 4)
    assert np.isfinite(made.pr.values).all()
    assert made.pr.attrs["grid_mapping"] in made
    whole = product.members(torch.from_numpy(known.pr.values)[:, None], 2)
    np.testing.assert_allclose(whole[:, :, 0], np.stack([known.pr.values] * 2))
