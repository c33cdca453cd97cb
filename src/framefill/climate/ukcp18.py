"""UKCP18 local: hourly rain at 2.2 km as the Met Office distributes it, coarsened and cut as the paper did.

The files hold a month each (pr_rcp85_land-cpm_uk_2.2km_01_1hr_19801201-19801230.nc), on a grid with a rotated pole, in
a calendar of 360 days, for 20 years from December of 1980, 2020 and 2060. Four by four cells become one of 8.8 km,
their mean; cells that are left over at the end of an axis are dropped; 64x64 of them around Birmingham are kept.
Nothing is read before it is asked for.

Every fifth season of three months, beginning with the first, is for testing; windows to train on slide by an hour
inside the four seasons between (paper 003 and its author's program: 414,288 windows of ten hours, 10,368 to test on).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framefill.climate.archive import Archive, archive_of, engine_of, in_one_line
from framefill.climate.calendars import Step, Time, stretches
from framefill.climate.extra import need
from framefill.climate.places import LINKS, Places
from framefill.climate.pole import ROTATED, pole_of
from framefill.errors import BadInput, MediaError

if TYPE_CHECKING:
    import xarray as xr

BIRMINGHAM = (-1.898575, 52.489471)  # longitude and latitude
FILES = "pr_rcp85_land-cpm_uk_2.2km_{member:02d}_1hr_*.nc"
NORTH, EAST = "grid_latitude", "grid_longitude"
UNIT = "mm/hr"
UNITS = (UNIT, "mm/hour", "mm/h", "mm h-1", "mm hr-1", "mm hour-1")
DERIVED = ("ensemble_member_id", "latitude", "longitude", "month_number", "year", "yyyymmddhh", "time_bnds",
           "grid_latitude_bnds", "grid_longitude_bnds")  # fmt: skip
DAY = 24  # fields of a piece that is read at once: a window of ten hours needs one or two
FIRST = 12 * 1980 + 11  # the month in which season 0 begins, counted from the year 0
HOUR = Step(seconds=3600)


@dataclass(frozen=True)
class Crop:
    """The part of a file's grid that is kept: where it begins, in cells of the file, and what it becomes.

    `latitude` and `longitude` are the file's axes; of each, `cells * coarsening` values are kept. `mapping` has the
    attributes of the grid mapping.
    """

    latitude: np.ndarray
    longitude: np.ndarray
    row: int
    column: int
    cells: int
    coarsening: int
    mapping: dict[str, Any]

    @property
    def slices(self) -> dict[str, slice]:
        """Of the file's axes."""
        size = self.cells * self.coarsening
        return {NORTH: slice(self.row, self.row + size), EAST: slice(self.column, self.column + size)}

    def coordinates(self) -> dict[str, Any]:
        """Coordinates of what is kept: both axes, and true latitudes and longitudes of their cells."""
        axes = {name: axis[self.slices[name]] for name, axis in ((NORTH, self.latitude), (EAST, self.longitude))}
        north, east = (axis.reshape(-1, self.coarsening).mean(axis=1) for axis in axes.values())
        longitude, latitude = pole_of(self.mapping).true(*np.meshgrid(east, north))
        return {
            NORTH: (NORTH, north, {"standard_name": NORTH, "units": "degrees", "axis": "Y"}),
            EAST: (EAST, east, {"standard_name": EAST, "units": "degrees", "axis": "X"}),
            "latitude": ((NORTH, EAST), latitude, {"standard_name": "latitude", "units": "degrees_north"}),
            "longitude": ((NORTH, EAST), longitude, {"standard_name": "longitude", "units": "degrees_east"}),
        }


@dataclass(frozen=True)
class Split:
    """Where windows begin: those to train on, and those to test on, which do not overlap."""

    train: list[int]
    test: list[int]


def open_ukcp18(
    place: Path | str,
    *,
    member: int = 1,
    cells: int = 64,
    coarsening: int = 4,
    centre: tuple[float, float] = BIRMINGHAM,
) -> Archive:
    """Hourly rain `pr` in mm/hr of the files in `place` and the folders in it: (1, T, 1, cells, cells) by the window.

    `centre` is a true longitude and latitude; its cell is row and column cells // 2. Joining many files costs time
    with every window: to train, write the dataset to Zarr once, `write(archive.dataset, path)`, and open that. Raises
    MediaError where there are no such files or one cannot be read, BadInput where they do not fit each other or the
    region is not in them.
    """
    files = _files(Path(place), member)
    first = _opened(files[0])
    crop = _crop(first, cells, coarsening, centre)
    parts = [first, *(_opened(file) for file in files[1:])]
    rain = [_kept(part, crop, file) for part, file in zip(parts, files, strict=True)]
    joined = need("xarray").concat(rain, "time", join="override", coords="minimal", compat="override")
    coarse = joined.coarsen({NORTH: coarsening, EAST: coarsening}).reduce(np.mean, keep_attrs=True)
    made = _finished(coarse, crop, rain[0]["time"].encoding["calendar"])
    made.set_close(partial(_close, parts))
    return archive_of(made, ["pr"], name=str(place))


def seasons(times: Sequence[Time], *, length: int = 10) -> Split:
    """The paper's split of hourly times into windows of `length`.

    Seasons are counted from December 1980, so it is the same whichever of the files are there. A window crosses no
    gap. Raises BadInput where not one fits.
    """
    number = np.fromiter(((12 * t.year + t.month - 1 - FIRST) // 3 for t in times), np.int64, len(times))
    train: list[int] = []
    test: list[int] = []
    for whole in stretches(times, HOUR):
        ends = np.flatnonzero(np.diff(number[whole] % 5 == 0)) + 1 + whole.start
        for start, stop in zip([whole.start, *ends], [*ends, whole.stop], strict=True):
            testing = number[start] % 5 == 0
            (test if testing else train).extend(range(start, stop - length + 1, length if testing else 1))
    if not train and not test:
        raise BadInput(f"no {length} hours in a row in one season; the record has {len(times)} times: give more of it")
    return Split(train, test)


def _files(place: Path, member: int) -> list[Path]:
    """The files of a member in the order of their months, which their names say."""
    if not place.is_dir():
        raise MediaError(f"{place} is no folder; give the one with the files of UKCP18")
    pattern = FILES.format(member=member)
    files = sorted(place.rglob(pattern), key=lambda file: file.name)
    if not files:
        raise MediaError(f"{place} has no files {pattern}; give the folder with the hourly files of member {member}")
    name, count = Counter(file.name for file in files).most_common(1)[0]
    if count > 1:
        raise BadInput(f"{place} has {count} files {name}; give the folder of one version, such as 'latest'")
    return files


def _opened(file: Path) -> "xr.Dataset":
    xr = need("xarray")
    with in_one_line(str(file), "opened"):
        dates = xr.coders.CFDatetimeCoder(use_cftime=True)
        # half of the time to open hundreds of files goes into what is not used
        return xr.open_dataset(file, engine=engine_of(file), decode_times=dates, drop_variables=DERIVED)


def _close(parts: "list[xr.Dataset]") -> None:
    for part in parts:
        part.close()


def _crop(first: "xr.Dataset", cells: int, coarsening: int, centre: tuple[float, float]) -> Crop:
    """Which cells are kept. A file's longitudes may go from 360 to 0 inside the region."""
    missing = [name for name in ("pr", "time", NORTH, EAST) if name not in first.variables]
    name = first["pr"].attrs.get("grid_mapping") if not missing else None
    if missing or name not in first.variables:
        raise BadInput(f"the first file has no {', '.join(missing) or 'grid mapping'}; it is no file of UKCP18 local")
    mapping = dict(first[str(name)].attrs)
    latitude = np.asarray(first[NORTH].values, np.float64)
    longitude = np.unwrap(np.asarray(first[EAST].values, np.float64), period=360)
    east, north = (float(angle) for angle in pole_of(mapping).rotated(*centre))
    row = _begin(latitude - north, cells, coarsening, NORTH)
    column = _begin((longitude - east + 180) % 360 - 180, cells, coarsening, EAST)
    return Crop(latitude, longitude, row, column, cells, coarsening, mapping)


def _begin(away: np.ndarray, cells: int, coarsening: int, name: str) -> int:
    """The first value of an axis that is kept, from how far each is away from the centre."""
    whole = len(away) // coarsening
    distances = np.abs(away[: whole * coarsening].reshape(whole, coarsening).mean(axis=1))
    middle = int(distances.argmin()) if whole else 0
    first = middle - cells // 2
    outside = whole and distances[middle] > coarsening * np.abs(np.diff(away)).max()
    if outside or first < 0 or first + cells > whole:
        raise BadInput(
            f"{name} has {len(away)} values, {whole} of {coarsening} together: {cells} of these around the centre do "
            "not fit; choose fewer cells or another centre"
        )
    return first * coarsening


def _kept(part: "xr.Dataset", crop: Crop, file: Path) -> "xr.DataArray":
    """The rain of one file in the crop, without what is derived from the time."""
    if "pr" not in part or any(
        part.sizes.get(name) != len(axis) or np.abs(np.unwrap(part[name].values, period=360) - axis).max() > 1e-3
        for name, axis in ((NORTH, crop.latitude), (EAST, crop.longitude))
    ):
        raise BadInput(f"{file} is on another grid than the first file; put it into another folder")
    rain = part["pr"]
    if rain.attrs.get("units") not in UNITS:
        raise BadInput(f"{file}: pr is in {rain.attrs.get('units')}, wanted is {UNIT}; is this the hourly rain?")
    axes = ("time", NORTH, EAST)
    return rain.isel(crop.slices).drop_vars([name for name in rain.coords if name not in axes]).chunk(time=DAY)


def _finished(coarse: "xr.DataArray", crop: Crop, calendar: str) -> "xr.Dataset":
    """The dataset of the coarse rain, with what says where its cells lie."""
    made = need("xarray").Dataset({"pr": coarse}).assign_coords(crop.coordinates())
    made["pr"].attrs = {k: v for k, v in coarse.attrs.items() if k not in LINKS} | {"units": UNIT}
    made["pr"].encoding = {}
    made["time"].attrs = {"standard_name": "time", "axis": "T"}
    made["time"].encoding = {"units": "hours since 1970-01-01", "calendar": calendar}
    return Places(ROTATED, crop.mapping, (made["latitude"], made["longitude"])).put(made)
