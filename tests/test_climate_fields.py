"""Fields at the door: any order of axes, calendars, files, and every bad input as one line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from framefill.errors import BadInput, Failed, MediaError, NotInstalled, NotWritten

xr = pytest.importorskip("xarray", reason="the climate extra is not installed")
cftime = pytest.importorskip("cftime", reason="the climate extra is not installed")

from framefill.climate import extra  # noqa: E402
from framefill.climate.archive import open_archive  # noqa: E402
from framefill.climate.calendars import Step, following, gaps, step_of, stretches  # noqa: E402
from framefill.climate.fields import Variable, describe, times_of, to_dataset, to_tensor  # noqa: E402
from framefill.climate.grid import RADIUS, grid_of  # noqa: E402
from framefill.climate.write import provenance, write  # noqa: E402

NORTH = np.linspace(-75, 75, 6)
EAST = np.arange(0, 360, 45.0)


def days(count, calendar="360_day", year=2000, month=2, day=28):
    first = cftime.datetime(year, month, day, calendar=calendar)
    return following(first, Step(seconds=86400), count)


def dataset(north=NORTH, east=EAST, times=None, **attrs):
    """Two variables whose every value says where it is, whatever the order of the axes."""
    times = days(5) if times is None else times
    t, y, x = np.meshgrid(np.arange(len(times)), north, np.asarray(east) % 360, indexing="ij")
    values = (1000 * t + y + x / 1000).astype(np.float32)
    axes = ("time", "lat", "lon")
    made = xr.Dataset(
        {"tas": (axes, values, {"units": "K", "cell_methods": "time: mean", **attrs}),
         "pr": (axes, values * 2, {"units": "mm day-1"})},
        {"time": times, "lat": ("lat", north, {"units": "degrees_north"}),
         "lon": ("lon", east, {"units": "degrees_east"})},
    )  # fmt: skip
    made["time"].encoding = {
        "units": "days since 1990-01-01",
        "calendar": times[0].calendar if len(times) else "noleap",
    }
    return made


def tensor(made, variables=("tas", "pr")):
    spec, layout = describe(made, variables)
    return (*to_tensor(made, spec, layout), spec, layout)


def line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


# ---- order --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [
        dataset(NORTH[::-1]),
        dataset(NORTH, np.arange(-180, 180, 45.0)),
        dataset(NORTH[::-1], np.arange(-180, 180, 45.0)[::-1]),
        dataset(NORTH, np.array([315, 0, 45, 90, 135, 180, 225, 270.0])),
        dataset().transpose("lon", "time", "lat"),
        dataset().expand_dims(height=[2.0]),
    ],
    ids=["descending", "-180..180", "both", "rolled", "transposed", "one height"],
)
def test_every_order_is_the_same_tensor_and_comes_back_as_given(made):
    expected, _, plain, _ = tensor(dataset())
    x, valid, spec, layout = tensor(made)
    assert torch.equal(x, expected)
    assert valid.all()
    assert plain.grid.difference(spec.grid) is None
    back = to_dataset(x, times_of(made.time), spec, layout)
    for name in ("tas", "pr"):
        flat = made[name].squeeze(drop=True).transpose("time", "lat", "lon")
        assert np.array_equal(back[name].isel(member=0).values, flat.values)
    assert np.array_equal(back.lat, made.lat)
    assert np.array_equal(back.lon, made.lon)
    assert back.tas.attrs["cell_methods"] == "time: mean"


def test_a_region_across_greenwich_is_one_piece():
    split = dataset(NORTH, np.array([0, 5, 10, 350, 355.0]))
    x, _, spec, layout = tensor(split)
    assert spec.grid.longitude == (350, 355, 360, 365, 370)
    assert not spec.grid.periodic
    assert layout.columns.tolist() == [3, 4, 0, 1, 2]
    assert torch.equal(x, tensor(dataset(NORTH, np.array([-10, -5, 0, 5, 10.0])))[0])


def test_members_are_the_batch():
    one = dataset()
    two = xr.concat([one, one + 1], dim="member").assign_coords(member=[0, 1])
    for name in ("tas", "pr"):
        two[name].attrs = one[name].attrs
    x = tensor(two)[0]
    assert x.shape == (2, 5, 2, 6, 8)
    assert torch.equal(x[0], tensor(one)[0][0])
    assert not torch.equal(x[1], x[0])


def test_missing_values_are_masked():
    made = dataset()
    made["tas"][1, 2, 3] = np.nan
    x, valid, *_ = tensor(made)
    assert (~valid).sum() == 1
    assert torch.isnan(x[~valid]).all()
    assert not valid[0, 1, 0, 2, 3]


# ---- areas --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("north", [np.linspace(-75, 75, 6), np.linspace(-90, 90, 73), np.linspace(88.75, -88.75, 72)])
def test_the_cells_of_a_globe_cover_it(north):
    grid = grid_of(north, np.arange(0.0, 360, 2.5))
    if abs(north[0]) == 75:
        assert grid.latitude_edges[0] == -90
    assert grid.periodic
    assert grid.areas.sum() == pytest.approx(4 * np.pi * RADIUS**2, rel=1e-12)
    assert grid.weights.sum() == pytest.approx(1)
    assert grid.areas.shape == grid.shape


def test_one_cell_by_integration_and_bounds_of_the_file():
    bounds = np.array([[20, 10], [10, -10.0]])  # centres 18 and 2 are not in the middle, the file says
    grid = grid_of(np.array([18, 2.0]), np.array([-1, 1.0]), bounds, np.array([[-2, 0], [0, 2.0]]))
    assert grid.latitude_edges == (-10, 10, 20)
    assert grid.longitude_edges == (358, 360, 362)
    fine = np.deg2rad(np.linspace(10, 20, 100_001))
    area = np.trapezoid(np.cos(fine), fine) * np.deg2rad(2) * RADIUS**2
    assert grid.areas[1] == pytest.approx([area, area], rel=1e-9)
    with pytest.raises(BadInput, match="bounds of latitude leave gaps"):
        grid_of(np.array([18, 2.0]), np.array([-1, 1.0]), bounds + np.array([[1], [0]]))


def test_bounds_are_taken_from_the_file():
    made = dataset(np.array([0, 10.0])).assign_coords(edges=(("lat", "two"), np.array([[-2, 5], [5, 15.0]])))
    made["lat"].attrs["bounds"] = "edges"
    assert tensor(made)[2].grid.latitude_edges == (-2, 5, 15)


# ---- time ---------------------------------------------------------------------------------------------------------


def test_a_360_day_year_has_its_30_february():
    times = days(4)
    assert [t.day for t in times] == [29, 30, 1, 2]
    assert step_of(times) == Step(seconds=86400)
    assert str(step_of(times)) == "1 day"


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day", "proleptic_gregorian"])
def test_months_are_months_in_every_calendar(calendar):
    first = cftime.datetime(1999, 12, 31 if calendar != "360_day" else 30, calendar=calendar)
    times = following(first, Step(months=1), 30)
    assert step_of(times) == Step(months=1)
    if calendar != "360_day":
        assert times[0].day == 31
        assert times[1].day == (28 if calendar == "noleap" else 29)
    assert gaps(times, Step(months=1)) == []
    assert gaps(times[:7] + times[8:], Step(months=1)) == [6]
    years = following(first, Step(months=12), 9)
    assert step_of(years) == Step(months=12)
    assert step_of(following(first, Step(seconds=30 * 86400), 30)).months == (calendar == "360_day")
    assert str(Step(months=12)) == "1 year"


def test_stretches_are_all_of_it():
    times = days(10)
    kept = times[:3] + times[4:5] + times[6:]
    assert stretches(kept, Step(seconds=86400)) == [slice(0, 3), slice(3, 4), slice(4, 8)]
    assert [str(Step(seconds=s)) for s in (3600, 90, 7200)] == ["1 hour", "90 seconds", "2 hours"]


def test_numpy_dates_are_dates():
    made = dataset().assign_coords(time=np.arange("2000-02-27", "2000-03-03", dtype="datetime64[D]").astype("M8[ns]"))
    spec = tensor(made)[2]
    assert spec.calendar == "standard"
    assert [t.day for t in times_of(made.time)] == [27, 28, 29, 1, 2]


# ---- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_a_round_trip_keeps_numbers_axes_calendar_and_names(tmp_path, suffix):
    made = dataset(NORTH[::-1], np.arange(-180, 180, 45.0))
    x, _, spec, layout = tensor(made)
    ensemble = torch.cat([x, x + 1, x - 1])
    ensemble[0, 0, 0, 0, 0] = torch.nan
    about = provenance(model="abc", seed=7, members=3, source="in.nc", past={"history": "made", "title": "t"})
    ahead = following(times_of(made.time)[-1], spec.step, 5)
    out = to_dataset(ensemble, ahead, spec, layout).assign_attrs(about)
    path = write(out, tmp_path / f"out{suffix}")
    archive = open_archive(path, ("tas", "pr"), like=spec)
    back, valid, times = archive.read(0, 5)
    assert torch.equal(back.nan_to_num(-1), ensemble.nan_to_num(-1))
    assert (~valid).sum() == 1
    assert times[0].calendar == "360_day"
    assert (times[0].month, times[0].day) == (3, 4)
    file = archive.dataset
    assert file.tas.dims == ("member", "time", "lat", "lon")
    assert file.member.attrs["standard_name"] == "realization"
    assert file.attrs["Conventions"].startswith("CF-1")
    assert (file.attrs["framefill_seed"], file.attrs["framefill_model"], file.attrs["title"]) == (7, "abc", "t")
    assert file.attrs["history"].splitlines()[1] == "made"
    assert np.array_equal(file.lon, made.lon)
    assert file.lon_bnds.values[0].tolist() == [-202.5, -157.5]
    assert archive.spec.grid.areas.sum() == pytest.approx(4 * np.pi * RADIUS**2)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    archive.close()
    with pytest.raises(BadInput, match="is there already"):
        write(out, path)
    write(out.isel(member=[0]), path, overwrite=True)
    assert open_archive(path, ["tas"]).dataset.sizes["member"] == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_attributes_name_no_variables_that_are_not_there():
    x, _, spec, layout = tensor(dataset(grid_mapping="crs", cell_measures="area: areacella", long_name="warmth"))
    out = to_dataset(x, days(5), spec, layout)
    assert out.tas.attrs == {"units": "K", "cell_methods": "time: mean", "long_name": "warmth"}
    assert out.lat.attrs["bounds"] in out.coords


def test_coordinates_have_no_fill_value(tmp_path):
    x, _, spec, layout = tensor(dataset())
    path = write(to_dataset(x, days(5), spec, layout), tmp_path / "x.nc")
    with xr.open_dataset(path, engine="h5netcdf", decode_cf=False) as raw:
        assert [n for n in raw.variables if "_FillValue" in raw[n].attrs] == ["tas", "pr"]
        assert raw.time.attrs["calendar"] == "360_day"
        assert raw.time.attrs["units"].startswith("days since 1990-01-01")


def test_a_store_that_cannot_be_exchanged_stays(tmp_path, monkeypatch):
    path = write(dataset(), tmp_path / "x.zarr")
    replace = Path.replace

    def stuck(self, target):
        if self.suffix == ".part":
            raise OSError(13, "Permission denied")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stuck)
    with pytest.raises(NotWritten, match="Permission denied"):
        write(dataset() + 1, path, overwrite=True)
    assert open_archive(path, ["tas"]).read(0, 1).values[0, 0, 0, 0, 0] == -75
    assert [p.name for p in tmp_path.iterdir()] == ["x.zarr"]
    (tmp_path / "y.zarr").write_text("a file")
    with pytest.raises(BadInput, match="a Zarr store is a folder"):
        write(dataset(), tmp_path / "y.zarr", overwrite=True)


def test_old_netcdf_is_read(tmp_path):
    dataset().to_netcdf(tmp_path / "x.nc", format="NETCDF3_CLASSIC", engine="netcdf4")
    assert torch.equal(open_archive(tmp_path / "x.nc", ["tas"]).read(0, 5).values, tensor(dataset(), ["tas"])[0])


def test_a_window_reads_its_own_chunks_and_a_damaged_one_is_one_line(tmp_path):
    dataset().chunk(time=1).to_zarr(tmp_path / "x.zarr", consolidated=False)
    chunk = tmp_path / "x.zarr" / "tas" / "c" / "3" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:9])
    archive = open_archive(tmp_path / "x.zarr", ["tas"])
    assert torch.equal(archive.read(0, 3).values, tensor(dataset(), ["tas"])[0][:, :3])
    with pytest.raises(MediaError, match="cannot be read: the file is damaged") as error:
        archive.read(2, 2)
    line(error)


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="ends in"):
        write(dataset(), tmp_path / "x.csv")
    with pytest.raises(BadInput, match="there is no folder"):
        write(dataset(), tmp_path / "no" / "x.nc")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    def broken(*_, **__):
        raise RuntimeError("Can't flush")

    monkeypatch.setattr(xr.Dataset, "to_zarr", full)
    with pytest.raises(Failed, match="No space left"):
        write(dataset(), tmp_path / "x.zarr")
    monkeypatch.setattr(xr.Dataset, "to_netcdf", broken)
    with pytest.raises(Failed, match="free some space"):
        write(dataset(), tmp_path / "x.nc")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_one_record_read_by_the_window(tmp_path):
    times = days(12)
    kept = times[:4] + times[5:]
    for i, part in enumerate((kept[:4], kept[4:8], kept[8:])):
        write(dataset(times=part), tmp_path / f"{i}.nc")
    archive = open_archive(tmp_path, ["tas"])
    assert len(archive) == 11
    assert archive.dataset.tas.chunks is not None  # nothing has been read
    assert archive.starts(3) == [0, 1, 4, 5, 6, 7, 8]
    windows = list(archive.windows(3))
    assert len(windows) == 7
    assert torch.equal(windows[5].values, archive.read(7, 3).values)
    assert windows[5].values[0, 0, 0, 0, 0] == pytest.approx(3000 - 75)  # the last file's first day but one
    with pytest.raises(BadInput, match=r"time has a gap: 2000-03-02.* is followed by 2000-03-04"):
        archive.read(2, 4)
    with pytest.raises(BadInput, match=r"fields 9..11; it has 0..10"):
        archive.read(9, 3)
    with pytest.raises(BadInput, match=r"no 8 fields in a row from 2000 to 2000; the longest run .* has 7"):
        archive.starts(8)
    with pytest.raises(BadInput, match="no 2 fields in a row from 2001"):
        archive.starts(2, first=2001)
    assert archive.starts(3, last=2000) == archive.starts(3)


# ---- bad input ----------------------------------------------------------------------------------------------------


def broken(name):
    made = dataset()
    match name:
        case "missing":
            return made.drop_vars("tas")
        case "text":
            return made.assign(tas=("time", list("abcde")))
        case "no units":
            del made.tas.attrs["units"]
        case "units":
            made.tas.attrs["units"] = "degC"
        case "no latitude":
            return made.rename(lat="rows").drop_vars("rows")
        case "no values":
            return made.drop_vars("lat")
        case "level":
            return made.expand_dims(plev=[1, 2])
        case "other axes":
            return made.assign(pr=made.pr.isel(time=0, drop=True))
        case "unsorted latitude":
            return made.isel(lat=[0, 2, 1, 3, 4, 5])
        case "unsorted longitude":
            return made.isel(lon=[0, 2, 1, 3, 4, 5, 6, 7])
        case "irregular":
            return made.isel(lat=[0, 1, 2, 4, 5])
        case "irregular longitude":
            return made.isel(lon=[0, 1, 2, 4])
        case "twice":
            return dataset(NORTH, np.arange(0, 361, 45.0))
        case "beyond":
            return dataset(NORTH * 2)
        case "metres":
            return dataset(NORTH, EAST * 1000)
        case "nan":
            return dataset(np.where(NORTH > 70, np.nan, NORTH))
        case "one row":
            return made.isel(lat=[0])
        case "one time":
            return made.isel(time=[0])
        case "unsorted time":
            return made.isel(time=[0, 2, 1, 3, 4])
        case "numbers":
            return made.assign_coords(time=np.arange(5))
        case "no date":
            days = np.array(["2000-01-01", "NaT", "2000-01-03", "2000-01-04", "2000-01-05"], "M8[ns]")
            return made.assign_coords(time=days)
    return made


LINES = {
    "missing": "there is no variable tas; the file has pr",
    "text": "tas holds .*, not numbers",
    "no units": "tas has no units; say what it is in",
    "units": "tas is in degC, wanted is K; convert",
    "no latitude": "none is latitude; rename it",
    "no values": "lat has no coordinate values",
    "level": "tas has a further axis plev of 2; choose one place",
    "other axes": "pr has no axis time",
    "unsorted latitude": "latitude is not sorted: -75, -15, -45, 15, ...; sort",
    "unsorted longitude": "longitude is not sorted: 0, 90, 45",
    "irregular": "latitude is irregular: steps from 30 to 60 degrees; regrid",
    "irregular longitude": "longitude is irregular: steps from 45 to 90",
    "twice": r"longitude has 360 twice|longitude has 0 twice",
    "beyond": "latitude has the value 150|latitude has the value -150",
    "metres": "longitude has the value 315000",
    "nan": "latitude holds missing values",
    "one row": r"latitude has shape \(1,\); a regular grid",
    "one time": r"time has 1 step\(s\); a sequence needs 2",
    "unsorted time": "time is not sorted: 2000-03-01.* is followed by 2000-02-30",
    "numbers": "time holds int64 numbers, not dates",
    "no date": "time holds missing values",
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_bad_fields_are_one_line(name):
    with pytest.raises(BadInput, match=LINES[name]) as error:
        describe(broken(name), [Variable("tas", "K"), Variable("pr", "mm day-1")])
    line(error)


def test_bad_values_are_one_line():
    made = dataset()
    made["pr"][3] = np.nan
    with pytest.raises(BadInput, match=r"pr is missing everywhere at 2000-03-02"):
        tensor(made)
    made["pr"][3] = np.inf
    with pytest.raises(BadInput, match="pr holds infinite values"):
        tensor(made)
    with pytest.raises(BadInput, match="no variable was chosen"):
        describe(made, [])
    x, _, spec, layout = tensor(dataset())
    with pytest.raises(BadInput, match="are not members, 2 times"):
        to_dataset(x, days(2), spec, layout)


def test_input_of_another_kind_than_the_model_is_one_line():
    spec = tensor(dataset())[2]
    others = {
        "latitude has 3 values, not 6": dataset(NORTH[1:4]),
        r"longitude runs 22.5..337.5, not 0..315": dataset(NORTH, EAST + 22.5),
        "calendar noleap, the model 360_day": dataset(times=days(5, "noleap")),
        "steps of 2 days, the model's are 1 day": dataset(times=days(9)[::2]),
    }
    for text, made in others.items():
        with pytest.raises(BadInput, match=text) as error:
            spec.check(tensor(made)[2])
        line(error)
    with pytest.raises(BadInput, match="the input has 1 variables, the model 2"):
        spec.check(tensor(dataset(), ["tas"])[2])
    with pytest.raises(BadInput, match="has pr in mm day-1 where the model has tas in K"):
        spec.check(tensor(dataset(), ["pr", "tas"])[2])


def test_bad_files_are_one_line(tmp_path):
    good = write(dataset(), tmp_path / "good.nc").read_bytes()
    (tmp_path / "empty").mkdir()
    files = {"text.nc": b"hello", "cut.nc": good[: len(good) // 2], "cut3.nc": b"CDF\x01\x00\x00", "nil.nc": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MediaError, match=r"not a NetCDF file|is damaged or not complete") as error:
            open_archive(tmp_path / name, ["tas"])
        line(error)
    with pytest.raises(MediaError, match="no such file"):
        open_archive(tmp_path / "none.nc", ["tas"])
    with pytest.raises(MediaError, match="folder without NetCDF"):
        open_archive(tmp_path / "empty", ["tas"])
    with pytest.raises(BadInput, match=r"good.nc: there is no variable ta;"):
        open_archive(tmp_path / "good.nc", ["ta"])


def test_a_store_that_does_not_answer_is_one_line(monkeypatch):
    with pytest.raises(MediaError, match=r"the store does not answer|need a package that is not here") as error:
        open_archive("http://127.0.0.1:9/store.zarr", ["tas"])
    line(error)

    def refused(*_, **__):
        raise ConnectionError("Cannot connect to host climate.example:443\n[Connect call failed]")

    monkeypatch.setattr(xr, "open_dataset", refused)
    with pytest.raises(MediaError, match=r"the store does not answer \(Cannot connect.*\); check the address") as error:
        open_archive("https://climate.example/store.zarr", ["tas"])
    line(error)

    def absent(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(xr, "open_dataset", absent)
    with pytest.raises(MediaError, match="need a package that is not here"):
        open_archive("s3://bucket/store.zarr", ["tas"])


def test_a_store_with_an_address_is_read():
    dataset().to_zarr("memory://framefill-test.zarr", consolidated=True, zarr_format=2)
    archive = open_archive("memory://framefill-test.zarr", ["tas"])
    assert torch.equal(archive.read(1, 2).values, tensor(dataset(), ["tas"])[0][:, 1:3])


def test_a_calendar_that_nobody_knows(tmp_path):
    made = dataset()
    bare = made.assign_coords(time=("time", np.arange(5), {"units": "days since 2000-01-01", "calendar": "martian"}))
    bare.to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    with pytest.raises(MediaError, match="calendars are standard") as error:
        open_archive(tmp_path / "x.nc", ["tas"])
    line(error)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # h5netcdf closes what never opened
def test_flipped_bytes_are_values_or_one_line(tmp_path):
    good = bytearray(write(dataset(), tmp_path / "good.nc").read_bytes())
    rng = np.random.default_rng(0)
    for i in range(40):
        bad = bytearray(good)
        for place in rng.integers(len(bad), size=20):
            bad[place] = rng.integers(256)
        path = tmp_path / f"{i}.nc"
        path.write_bytes(bad)
        try:
            open_archive(path, ["tas", "pr"]).read(0, 5)
        except BadInput as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_without_the_extra_there_is_a_command(monkeypatch):
    with pytest.raises(NotInstalled, match=r"pip install 'framefill\[climate\]'"):
        extra.need("xarray_of_nowhere")
