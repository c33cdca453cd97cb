"""Rotated and projected grids: the rotation against its closed form, areas, and results that other tools can place."""

import dataclasses

import numpy as np
import pytest
import torch

from framefill.errors import BadInput

xr = pytest.importorskip("xarray", reason="the climate extra is not installed")
cftime = pytest.importorskip("cftime", reason="the climate extra is not installed")

from framefill.climate.archive import open_archive  # noqa: E402
from framefill.climate.calendars import Step, following  # noqa: E402
from framefill.climate.fields import describe, times_of, to_dataset, to_tensor  # noqa: E402
from framefill.climate.grid import RADIUS, grid_of  # noqa: E402
from framefill.climate.pole import Pole, pole_of  # noqa: E402
from framefill.climate.write import write  # noqa: E402

UKCP18 = Pole(37.5, 177.5)
POLES = [UKCP18, Pole(39.25, -162.0), Pole(-20.0, 30.0), Pole(37.5, 177.5, 15.0), Pole(90.0, 0.0)]


def everywhere(count=500):
    rng = np.random.default_rng(0)
    return rng.uniform(-180, 180, count), np.rad2deg(np.arcsin(rng.uniform(-1, 1, count)))


def apart(longitude, latitude):
    """Great-circle angles between neighbours, by the haversine formula."""
    east, north = np.deg2rad(longitude), np.deg2rad(latitude)
    half = np.sin(np.diff(north) / 2) ** 2 + np.cos(north[1:]) * np.cos(north[:-1]) * np.sin(np.diff(east) / 2) ** 2
    return 2 * np.arcsin(np.sqrt(half))


@pytest.mark.parametrize("pole", POLES, ids=str)
def test_the_rotation_is_the_closed_form(pole):
    longitude, latitude = everywhere()
    away, north, p = (np.deg2rad(x) for x in (longitude - pole.longitude, latitude, pole.latitude))
    down = np.arcsin(np.sin(p) * np.sin(north) + np.cos(p) * np.cos(north) * np.cos(away))
    along = np.arctan2(-np.cos(north) * np.sin(away),
                       np.cos(p) * np.sin(north) - np.sin(p) * np.cos(north) * np.cos(away))  # fmt: skip
    east, rotated = pole.rotated(longitude, latitude)
    assert rotated == pytest.approx(np.rad2deg(down), abs=1e-6)
    turn = np.exp(1j * np.deg2rad(east - pole.meridian))
    assert turn == pytest.approx(np.exp(1j * along), abs=1e-6)
    assert ((east >= -180) & (east < 180)).all()


@pytest.mark.parametrize("pole", POLES, ids=str)
def test_a_rotation_keeps_distances_and_is_undone(pole):
    longitude, latitude = everywhere()
    east, north = pole.rotated(longitude, latitude)
    assert apart(east, north) == pytest.approx(apart(longitude, latitude), abs=1e-9)
    back = pole.true(east, north)
    assert np.exp(1j * np.deg2rad(back[0])) == pytest.approx(np.exp(1j * np.deg2rad(longitude)), abs=1e-6)
    assert back[1] == pytest.approx(latitude, abs=1e-6)


def test_the_pole_the_meridian_and_the_region():
    assert UKCP18.rotated(177.5, 37.5)[1] == pytest.approx(90)
    assert np.array(UKCP18.rotated(-2.5, 52.5)) == pytest.approx([0, 0], abs=1e-9)  # the UK is at the equator
    assert Pole(37.5, 177.5, 15.0).rotated(0, 90)[0] == pytest.approx(15)  # CF: the true pole's longitude
    assert UKCP18.rotated(-2.4, 52.5)[0] > 0  # east stays east
    assert UKCP18.rotated([[0, 1]], [[50], [51], [52]])[0].shape == (3, 2)


def test_a_grid_mapping_says_the_pole():
    assert pole_of(UKCP18.attributes()) == UKCP18
    assert pole_of({"grid_north_pole_latitude": 37.5, "grid_north_pole_longitude": 177.5}) == UKCP18
    for bad in ({}, {"grid_north_pole_latitude": 37.5}, {**UKCP18.attributes(), "grid_north_pole_latitude": "north"}):
        with pytest.raises(BadInput, match="a rotated grid needs both, in degrees"):
            pole_of(bad)


# ---- fields -------------------------------------------------------------------------------------------------------


NORTHING, EASTING = np.arange(6) * 12e3, np.arange(5) * 12e3 - 24e3
NORTH, EAST = np.linspace(-1, 1, 6), np.linspace(359, 361, 5)
OS = {"grid_mapping_name": "transverse_mercator", "latitude_of_projection_origin": 49.0, "false_easting": 400000.0,
      "false_northing": -100000.0, "longitude_of_central_meridian": -2.0, "semi_major_axis": 6377563.396,
      "scale_factor_at_central_meridian": 0.9996012717}  # fmt: skip


def fields(names, axes, units, mapping, called):
    """A dataset of rain on two axes, with their grid mapping and (arbitrary) true places."""
    north, east = axes
    times = following(cftime.datetime(2000, 1, 1, calendar="360_day"), Step(seconds=3600), 4)
    values = np.arange(4 * len(north) * len(east), dtype=np.float32).reshape(4, len(north), len(east))
    y, x = np.meshgrid(north, east, indexing="ij")
    return xr.Dataset(
        {"pr": (("time", *names), values, {"units": "mm/hr", "grid_mapping": called, "cell_measures": "area: none"}),
         called: ((), b"", mapping)},
        {"time": times, **{n: (n, v, {"standard_name": n, "units": units}) for n, v in zip(names, axes, strict=True)},
         "latitude": (names, 50 + y / 7, {"standard_name": "latitude", "units": "degrees_north", "bounds": "none"}),
         "longitude": (names, x / 7, {"standard_name": "longitude", "units": "degrees_east"})},
    )  # fmt: skip


def rotated(north=NORTH, east=EAST, pole=UKCP18):
    names = ("grid_latitude", "grid_longitude")
    return fields(names, (north, east), "degrees", pole.attributes(), "rotated_latitude_longitude")


def projected(north=NORTHING, east=EASTING, units="m", mapping=OS):
    return fields(("projection_y_coordinate", "projection_x_coordinate"), (north, east), units, mapping, "crs")


def test_areas_of_a_rotated_grid_are_those_of_its_own_globe():
    spec, _ = describe(rotated(), ["pr"])
    assert spec.grid.areas == pytest.approx(grid_of(NORTH, EAST).areas)
    corners = np.meshgrid(spec.grid.longitude_edges, spec.grid.latitude_edges)
    east, north = UKCP18.true(*corners)
    side, up = apart(east[0, :2], north[0, :2]).item(), apart(east[:2, 0], north[:2, 0]).item()
    assert spec.grid.areas[0, 0] == pytest.approx(side * up * RADIUS**2, rel=1e-3)


def test_areas_of_a_projected_grid_are_equal():
    spec, _ = describe(projected(), ["pr"])
    assert spec.grid.unit == "metres"
    assert spec.grid.areas == pytest.approx(np.full((6, 5), 144e6))
    assert not spec.grid.periodic
    assert spec.grid.longitude_edges[0] == -30e3
    around = dataclasses.replace(spec.grid, longitude_edges=(0.0, 72.0, 144.0, 216.0, 288.0, 360.0))
    assert not around.periodic  # 360 metres are no globe


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("made", [rotated(), rotated(NORTH[::-1]), projected(), projected(NORTHING[::-1])])
def test_results_keep_the_grid_mapping_and_true_places(tmp_path, made, suffix):
    spec, layout = describe(made, ["pr"])
    x, _ = to_tensor(made, spec, layout)
    assert torch.equal(x[0, :, 0], torch.tensor(made.pr.sortby(layout.latitude.name).values))
    path = write(to_dataset(x, times_of(made.time), spec, layout), tmp_path / f"out{suffix}")
    archive = open_archive(path, ["pr"], like=spec)
    back = archive.dataset
    called = made.pr.attrs["grid_mapping"]
    assert back.pr.attrs["grid_mapping"] == called
    assert "cell_measures" not in back.pr.attrs
    assert back.pr.encoding["coordinates"] == "latitude longitude"
    assert back[called].attrs == made[called].attrs
    for name in ("latitude", "longitude"):
        assert np.array_equal(back.pr.coords[name], made[name])
        assert back[name].attrs["standard_name"] == name
        assert "bounds" not in back[name].attrs
    assert np.array_equal(back.pr.isel(member=0), made.pr)
    assert archive.spec == spec  # bounds too
    archive.close()


def test_grids_of_other_frames_differ():
    spec = describe(rotated(), ["pr"])[0]
    plain = rotated().rename(grid_latitude="lat", grid_longitude="lon")
    for name in ("lat", "lon"):
        plain[name].attrs = {}
    plain = plain.drop_vars(["latitude", "longitude"])
    others = {
        "axes are of a pole at 39.25 N 198 E, meridian 0, not of a pole at 37.5 N 177.5 E": rotated(pole=POLES[1]),
        "axes are of latitude and longitude, not": plain,
        "a rotated pole that the file does not say": rotated().drop_vars("rotated_latitude_longitude"),
        "axes are of transverse_mercator, false_easting 400000": projected(),
    }
    for text, made in others.items():
        with pytest.raises(BadInput, match=text):
            spec.check(describe(made, ["pr"])[0])
    on_os = describe(projected(), ["pr"])[0]
    with pytest.raises(BadInput, match="false_easting 0"):
        on_os.check(describe(projected(mapping={**OS, "false_easting": 0.0}), ["pr"])[0])
    on_os.check(describe(projected(mapping={**OS, "crs_wkt": "PROJCS", "inverse_flattening": 299.3}), ["pr"])[0])


def test_bad_axes_are_one_line():
    with pytest.raises(BadInput, match=r"projection_y_coordinate is in km; axes of a projection are in metres"):
        describe(projected(units="km"), ["pr"])
    with pytest.raises(BadInput, match="northing is irregular: steps from 1 to 9 metres"):
        describe(projected(np.array([0, 1, 2, 3, 12, 13.0])), ["pr"])
    with pytest.raises(BadInput, match="easting is not sorted"):
        describe(projected(east=np.array([0, 2, 1, 3, 4.0])), ["pr"])
    made = rotated()
    made["rotated_latitude_longitude"].attrs = {"grid_mapping_name": "rotated_latitude_longitude"}
    with pytest.raises(BadInput, match="a rotated grid needs both"):
        describe(made, ["pr"])
