"""Stations as a table: a CSV file of time, latitude, longitude and values, brought to the cells that they lie in.

A cell with several stations gets their mean. Everything else of the times that the table reaches, after the record, is
unknown, which is what `Emulator.complete` fills. A station is taken for its cell: it has no error here.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from framefill.climate.calendars import Time, following
from framefill.climate.extra import need
from framefill.climate.fields import FieldSpec, Layout, describe, times_of, to_dataset, to_tensor
from framefill.climate.grid import Grid
from framefill.errors import BadInput, MediaError

if TYPE_CHECKING:
    import xarray as xr

PLACE = ("time", "latitude", "longitude")
FORMS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y-%m", "%Y")


class Reading(NamedTuple):
    """One line: when, in which row and column of the grid, and the value of each variable, NaN where it is empty."""

    time: Time
    row: int
    column: int
    values: tuple[float, ...]


def with_stations(fields: "xr.Dataset", spec: FieldSpec, table: Path) -> "xr.Dataset":
    """`fields`, and after its last time those of the `table`, known at its stations only.

    `fields` has the grid, step and calendar of `spec`, and all times before the first of the table. The columns are
    time (2004, 2004-06, 2004-06-01 or 2004-06-01T12:00), latitude, longitude, and one for each variable, in its unit.
    Raises MediaError where the table cannot be read, BadInput, with the line, for what does not fit.
    """
    given, layout = describe(fields, spec.variables)
    spec.check(given)
    if spec.grid.frame:
        raise BadInput("stations are placed by true latitude and longitude; this model's grid has other axes")
    before, times = to_tensor(fields, given, layout)[0], times_of(fields[layout.time])
    readings = list(_read(table, spec, layout))
    if not readings:
        raise BadInput(f"{table} has no readings below its header")
    placed = _placed(readings, times[-1], spec, table)
    later = following(times[-1], spec.step, max(time for time, _, _ in placed) + 1)
    values = np.full((1, len(later), *before.shape[2:]), np.nan, np.float32)
    for (time, row, column), found in placed.items():
        values[0, time, :, row, column] = _means(np.array(found))
    new = to_dataset(before.new_tensor(values), later, spec, layout).isel(member=0, drop=True)
    old = fields[[v.name for v in spec.variables]]
    return need("xarray").concat([old, new[list(old.data_vars)]], layout.time, coords="minimal", compat="override")


def _placed(
    readings: Sequence[Reading], last: Time, spec: FieldSpec, table: Path
) -> Mapping[tuple[int, int, int], list[tuple[float, ...]]]:
    """Readings by time (0 is the first after `last`), row and column; a time between two steps goes to the nearer."""
    placed = defaultdict(list)
    for reading in readings:
        ahead = round(spec.step.between(last, reading.time))
        if ahead < 1:
            raise BadInput(
                f"{table}: {reading.time} is not after the last known time, {last}; end the record before it"
            )
        placed[ahead - 1, reading.row, reading.column].append(reading.values)
    return placed


def _means(values: np.ndarray) -> np.ndarray:
    """Of each column (n, C) without NaN; NaN where nothing else is."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0.0).sum(axis=0) / there.sum(axis=0)


def _read(table: Path, spec: FieldSpec, layout: Layout) -> Iterator[Reading]:
    names = [v.name for v in spec.variables]
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file)
            missing = [name for name in (*PLACE, *names) if name not in (lines.fieldnames or ())]
            if missing:
                raise BadInput(f"{table} has no column {missing[0]}; its header has to be {','.join((*PLACE, *names))}")
            for line in lines:
                yield _reading(line, names, spec, f"{table}, line {lines.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MediaError(f"{table} cannot be read as a table ({error}); give a CSV file in UTF-8") from error


def _reading(line: Mapping[str, Any], names: Sequence[str], spec: FieldSpec, where: str) -> Reading:
    try:
        north, east = float(line["latitude"]), float(line["longitude"])
        values = tuple(float(line[name] or "nan") for name in names)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{where}: {error}; every line needs its numbers") from error
    if np.isinf(values).any():
        raise BadInput(f"{where}: a value is infinite; leave it empty if it is missing")
    return Reading(_time(str(line["time"]), spec.calendar, where), *_cell(spec.grid, north, east, where), values)


def _time(text: str, calendar: str, where: str) -> Time:
    cftime = need("cftime")
    for form in FORMS:
        try:
            return cftime.datetime.strptime(text.strip(), form, calendar=calendar)
        except ValueError:
            continue
    raise BadInput(f"{where}: cannot read the time {text!r}; write 2004-06-01, or 2004-06-01T12:00")


def _cell(grid: Grid, north: float, east: float, where: str) -> tuple[int, int]:
    """Row and column of the cell that a place lies in."""
    west = grid.longitude_edges[0]
    turned = west + (east - west) % 360
    row = int(np.searchsorted(grid.latitude_edges, north, side="right")) - 1
    column = int(np.searchsorted(grid.longitude_edges, turned, side="right")) - 1
    if not (0 <= row < grid.shape[0] and 0 <= column < grid.shape[1]):
        raise BadInput(
            f"{where}: {north:g}, {east:g} is outside the grid, latitudes {grid.latitude_edges[0]:g} to "
            f"{grid.latitude_edges[-1]:g} and longitudes {west:g} to {grid.longitude_edges[-1]:g}"
        )
    return row, column
