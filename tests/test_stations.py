"""Stations in a table: in the right cell, at the right time, and every bad line told."""

import numpy as np
import pytest

from framefill.errors import BadInput, MediaError

xr = pytest.importorskip("xarray", reason="the climate extra is not installed")
cftime = pytest.importorskip("cftime", reason="the climate extra is not installed")

from framefill.climate.fields import describe  # noqa: E402
from framefill.climate.stations import with_stations  # noqa: E402
from test_emulator import EAST, NORTH, emulator, noisy, record, values  # noqa: E402

HEADER = "time,latitude,longitude,tas\n"


def table(tmp_path, text, header=HEADER):
    path = tmp_path / "stations.csv"
    path.write_text(header + text)
    return path


def with_them(tmp_path, text, header=HEADER):
    known = record(12)
    return with_stations(known, describe(known, ["tas"])[0], table(tmp_path, text, header))


def test_a_station_is_known_in_its_cell_and_nothing_else_is(tmp_path):
    made = with_them(tmp_path, "1913-06-01,44.9,9.1,290.5\n1913,45.1,8,291.5\n1912-05-30,54,-1,270\n1914-06,40,25,\n")
    assert [t.year for t in made.time.values[-3:]] == [1912, 1913, 1914]
    x = values(made)
    np.testing.assert_array_equal(x[:12], values(record(12)))
    wanted = np.full((3, 4, 6), np.nan)
    wanted[0, 3, 0] = 270  # 54 N, 1 W: nearest to 55 N, 0 E
    wanted[1, 1, 2] = 291  # two in the cell of 45 N, 10 E
    np.testing.assert_array_equal(x[12:], wanted.astype(np.float32))


def test_order_of_axes_and_origin_of_longitudes_do_not_matter(tmp_path):
    known = record(12).isel(lat=slice(None, None, -1)).assign_coords(lon=EAST + 340 - 360)
    known["lon"].attrs = {"units": "degrees_east"}
    made = with_stations(known, describe(known, ["tas"])[0], table(tmp_path, "1912,40,341,270\n1912,40,-19,272\n"))
    assert float(made.tas.sel(lat=NORTH[0], lon=-20).isel(time=-1)) == 271
    assert int(np.isfinite(made.tas.isel(time=-1).values).sum()) == 1


def test_what_stations_say_comes_back_in_every_member(tmp_path):
    made = emulator(noisy, trend=9).complete(with_them(tmp_path, "1913,45,10,290.5\n"), members=3)
    assert (made.tas.sel(lat=45, lon=10).isel(time=-1).values == np.float32(290.5)).all()
    assert np.isfinite(made.tas.values).all()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "no readings"),
        ("1913,45,10,warm\n", "line 2.*could not convert"),
        ("1913,45,10,inf\n", "line 2: a value is infinite"),
        ("soon,45,10,290\n", "line 2: cannot read the time 'soon'"),
        ("1913-02-31,45,10,290\n", "cannot read the time"),
        ("1913,70,10,290\n", "outside the grid, latitudes"),
        ("1913,45,60,290\n", "outside the grid"),
        ("1911,45,10,290\n", "not after the last known time"),
        ("1913,45\n", "line 2"),
    ],
)
def test_bad_lines_are_told(tmp_path, text, line):
    with pytest.raises(BadInput, match=line):
        with_them(tmp_path, text)


def test_tables_that_are_none_are_told(tmp_path):
    with pytest.raises(BadInput, match="no column tas; its header has to be time,latitude,longitude,tas"):
        with_them(tmp_path, "1913,45,10,290\n", "time,latitude,longitude,pr\n")
    known = record(12)
    spec = describe(known, ["tas"])[0]
    with pytest.raises(MediaError, match="cannot be read as a table"):
        with_stations(known, spec, tmp_path / "nothing.csv")
    (tmp_path / "binary.csv").write_bytes(HEADER.encode() + b"\xff\xfe\x00")
    with pytest.raises(MediaError, match="cannot be read as a table"):
        with_stations(known, spec, tmp_path / "binary.csv")


def test_the_outlook_shows_what_changed_since_the_last_whole_field():
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    from framefill.climate.outlook import outlook

    draw = np.random.default_rng(0)
    known = draw.normal(size=(4, 4, 6))
    known[3, 1:] = np.nan
    made = draw.normal(size=(5, 2, 4, 6))
    spec = describe(record(12), ["tas"])[0]
    times = (["1900", "1901", "1902", "1903"], ["1903", "1904"])
    figure = outlook(spec.variables[0], spec.grid, known, made, times)
    maps = [a.collections[0].get_array() for a in figure.axes if a.collections and a.get_title(loc="left")][:3]
    np.testing.assert_allclose(maps[0].reshape(4, 6), made[:, 1].mean(0) - known[2])
    np.testing.assert_allclose(maps[1].reshape(4, 6), made[0, 1] - known[2])
    np.testing.assert_allclose(maps[2].reshape(4, 6), made[:, 1].std(0, ddof=1))
    figure = outlook(spec.variables[0], spec.grid, known[:0], made, ([], times[1]))
    assert "change" not in str([a.get_xlabel() for a in figure.axes])
