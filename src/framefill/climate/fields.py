"""What a dataset holds: variables with units, a grid, a calendar and a step; and the way to tensors and back.

`describe` reads that from an xarray Dataset and raises one line where it cannot. `to_tensor` gives (B, T, C, H, W) in
the units of the file, latitudes rising, `to_dataset` the same numbers with the file's own coordinates in its own order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from framefill.climate.calendars import CALENDARS, Step, Time, calendar_of, step_of
from framefill.climate.extra import need
from framefill.climate.grid import Grid, columns, grid_of, rows
from framefill.climate.places import LINKS, Places, places_of, unit_of
from framefill.climate.transforms import Identity, Transform
from framefill.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr

AXES = {
    "time": {"standard_name": ("time",), "axis": ("T",), "name": ("time", "t", "date", "valid_time")},
    "latitude": {"standard_name": ("latitude", "grid_latitude", "projection_y_coordinate"),
                 "units": ("degrees_north", "degree_north", "degrees_N"),
                 "name": ("latitude", "lat", "nav_lat", "grid_latitude", "rlat", "projection_y_coordinate", "y")},
    "longitude": {"standard_name": ("longitude", "grid_longitude", "projection_x_coordinate"),
                  "units": ("degrees_east", "degree_east", "degrees_E"),
                  "name": ("longitude", "lon", "nav_lon", "grid_longitude", "rlon", "projection_x_coordinate", "x")},
    "member": {"standard_name": ("realization",),
               "name": ("member", "realization", "ensemble", "number", "ensemble_member")},
}  # fmt: skip


@dataclass(frozen=True)
class Variable:
    """One field: its `name` in the file, the `unit` it must have there, and the transform that suits its distribution.

    An empty unit is that of the file, whatever it is.
    Temperature takes the identity; rain, of which most is none, sqrt, log1p or a learned map.
    """

    name: str
    unit: str
    transform: Transform = field(default_factory=Identity)


@dataclass(frozen=True)
class FieldSpec:
    """What a model was trained on, and what its input has to be."""

    variables: tuple[Variable, ...]
    grid: Grid
    calendar: str
    step: Step

    def check(self, other: "FieldSpec") -> None:
        """BadInput, in one line, where `other` is not what this is."""
        for mine, its in zip(self.variables, other.variables, strict=False):
            if (mine.name, mine.unit) != (its.name, its.unit):
                raise BadInput(f"the input has {its.name} in {its.unit} where the model has {mine.name} in {mine.unit}")
        if len(self.variables) != len(other.variables):
            raise BadInput(f"the input has {len(other.variables)} variables, the model {len(self.variables)}")
        difference = self.grid.difference(other.grid)
        if difference:
            raise BadInput(f"the input's grid is not the model's: {difference}; interpolate it: ds.interp(...)")
        if self.calendar != other.calendar:
            raise BadInput(
                f"time has the calendar {other.calendar}, the model {self.calendar}; convert it: "
                f"ds.convert_calendar('{self.calendar}')"
            )
        if self.step != other.step:
            raise BadInput(f"time goes in steps of {other.step}, the model's are {self.step}; resample the input")


@dataclass(frozen=True, eq=False)
class Layout:
    """How one file holds its fields: its coordinates as they are, and the order that makes them a `Grid`.

    `rows` and `columns` are indices: inside[i, j] = file[rows[i], columns[j]]. `about` has each variable's attributes,
    `places` what says where rotated or projected cells lie: the grid mapping, and coordinates of two dimensions.
    """

    time: str
    latitude: "xr.DataArray"
    longitude: "xr.DataArray"
    rows: np.ndarray
    columns: np.ndarray
    encoding: dict[str, Any]
    about: dict[str, dict[str, Any]]
    member: str | None = None
    places: Places = field(default_factory=Places)


def describe(dataset: "xr.Dataset", variables: Sequence[Variable | str]) -> tuple[FieldSpec, Layout]:
    """Specification and layout of a dataset; a variable given by name takes the unit of the file.

    Raises BadInput: which coordinate or variable, what was found, what to do.
    """
    found = tuple(_variable(dataset, v) for v in variables)
    if not found:
        raise BadInput(f"no variable was chosen; the file has {_names(dataset)}")
    names = {axis: _axis(dataset, found[0].name, axis) for axis in AXES}
    time, north, east = (_needed(dataset, found[0].name, names, axis) for axis in ("time", "latitude", "longitude"))
    for variable in found:
        _check_axes(dataset, variable.name, [n for n in names.values() if n], (time, north, east))
    times = times_of(dataset[time])
    latitude, longitude = dataset[north], dataset[east]
    values = [np.asarray(c.values, np.float64) for c in (latitude, longitude)]
    places = places_of(dataset, found[0].name, latitude, longitude)
    unit, frame = unit_of(latitude, longitude), places.frame(latitude)
    grid = grid_of(*values, *(_bounds(dataset, c) for c in (latitude, longitude)), unit=unit, frame=frame)
    layout = Layout(time, latitude, longitude, rows(values[0], unit), columns(values[1], unit),
                    dict(dataset[time].encoding), {v.name: dict(dataset[v.name].attrs) for v in found},
                    names["member"], places)  # fmt: skip
    return FieldSpec(found, grid, calendar_of(times[0]) if len(times) else "standard", step_of(times)), layout


def fields_in(dataset: "xr.Dataset") -> list[str]:
    """The names of its variables that have a time and a grid. Raises BadInput where there are none."""
    found = [
        str(name)
        for name in dataset.data_vars
        if all(_axis(dataset, str(name), axis) for axis in ("time", "latitude", "longitude"))
    ]
    if not found:
        raise BadInput(f"no variable has a time, a latitude and a longitude; the file has {_names(dataset)}")
    return found


def times_of(time: "xr.DataArray") -> list[Time]:
    """The times as cftime objects, datetime64 among them. Raises BadInput where they are numbers without a unit."""
    values = np.atleast_1d(time.values)
    if values.dtype.kind == "M":
        if np.isnat(values).any():
            raise BadInput("time holds missing values; every field needs its date")
        return [_from_numpy(v) for v in values]
    if values.dtype.kind != "O" or not all(hasattr(kind, "calendar") for kind in set(map(type, values))):
        raise BadInput(
            f"time holds {values.dtype} numbers, not dates; give it units such as 'days since 1900-01-01' and a "
            f"calendar, one of {', '.join(CALENDARS)}"
        )
    return list(values)


def to_tensor(dataset: "xr.Dataset", spec: FieldSpec, layout: Layout, *, sparse: bool = False) -> tuple[Tensor, Tensor]:
    """Values (B, T, C, H, W) in float32 and the units of the file, and where they are there, bool of the same shape.

    B counts the members, 1 where there is no such axis. What is missing is NaN. Raises BadInput for a time at which
    a variable is missing everywhere, unless `sparse`, and for infinite values.
    """
    parts = [_array(dataset[v.name], layout) for v in spec.variables]
    values = np.stack(parts, axis=2)[:, :, :, layout.rows][..., layout.columns]
    if np.isinf(values).any():
        raise BadInput(f"{_first_name(spec, np.isinf(values))} holds infinite values; mark them as missing")
    valid = ~np.isnan(values)
    empty = np.argwhere(~valid.any(axis=(3, 4)))
    if len(empty) and not sparse:
        _, t, c = empty[0]
        raise BadInput(
            f"{spec.variables[c].name} is missing everywhere at {times_of(dataset[layout.time])[t]}; "
            "leave that time out or fill it in"
        )
    return torch.from_numpy(np.ascontiguousarray(values)), torch.from_numpy(np.ascontiguousarray(valid))


def to_dataset(x: Tensor, times: Sequence[Time], spec: FieldSpec, layout: Layout) -> "xr.Dataset":
    """A dataset of `x` (B, T, C, H, W) with axes (member, time, latitude, longitude), coordinates as in the file.

    It has the edges of the cells as CF bounds, the file's grid mapping and coordinates of two dimensions, and of the
    variables' attributes those that do not name other variables.
    """
    xr = need("xarray")
    B, T, C, H, W = x.shape
    if (len(times), len(spec.variables), *spec.grid.shape) != (T, C, H, W):
        raise BadInput(
            f"fields of shape {tuple(x.shape)} are not members, {len(times)} times, {len(spec.variables)} variables "
            f"and {spec.grid.shape[0]}x{spec.grid.shape[1]} cells"
        )
    values = x.detach().cpu().numpy()[..., np.argsort(layout.rows), :][..., np.argsort(layout.columns)]
    north, east = str(layout.latitude.dims[0]), str(layout.longitude.dims[0])
    axes = ("member", layout.time, north, east)
    about = {v.name: {k: a for k, a in layout.about[v.name].items() if k not in LINKS} for v in spec.variables}
    fields = {v.name: (axes, values[:, :, i], about[v.name]) for i, v in enumerate(spec.variables)}
    made = xr.Dataset(fields, {"member": np.arange(B, dtype=np.int32), layout.time: list(times)})
    made = made.assign_coords({c.name: (c.dims, c.values, c.attrs) for c in (layout.latitude, layout.longitude)})
    made["member"].attrs = {"standard_name": "realization", "long_name": "member of the ensemble", "units": "1"}
    made[layout.time].attrs = {"standard_name": "time", "axis": "T"}
    made[layout.time].encoding = {k: v for k, v in layout.encoding.items() if k in ("units", "calendar")}
    return layout.places.put(_with_cells(made, spec.grid, layout))


def _with_cells(made: "xr.Dataset", grid: Grid, layout: Layout) -> "xr.Dataset":
    """The dataset with the edges of its cells, in the order of the file."""
    pairs = ((layout.latitude, grid.latitude, grid.latitude_edges, layout.rows),
             (layout.longitude, grid.longitude, grid.longitude_edges, layout.columns))  # fmt: skip
    for coordinate, centres, edges, order in pairs:
        name = str(coordinate.name)
        bounds = np.stack([edges[:-1], edges[1:]], axis=1)
        # a file counts its longitudes from -180 or from 0, and its cells have to lie around them
        turn = 360 * np.round((np.asarray(coordinate.values, np.float64)[order] - np.array(centres)) / 360)
        bounds = (bounds + turn[:, None])[np.argsort(order)]
        made = made.assign_coords({f"{name}_bnds": ((coordinate.dims[0], "bnds"), bounds)})
        made[name].attrs = {**coordinate.attrs, "bounds": f"{name}_bnds"}
    return made


def _from_numpy(value: np.datetime64) -> Time:
    moment = value.astype("datetime64[us]").item()
    cftime = need("cftime")
    fields = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond)
    return cftime.datetime(*fields, calendar="standard")


def _names(dataset: "xr.Dataset") -> str:
    return ", ".join(map(str, dataset.data_vars)) or "no variables"


def _variable(dataset: "xr.Dataset", variable: Variable | str) -> Variable:
    name = variable if isinstance(variable, str) else variable.name
    if name not in dataset.data_vars:
        raise BadInput(f"there is no variable {name}; the file has {_names(dataset)}")
    if dataset[name].dtype.kind not in "fiu":
        raise BadInput(f"{name} holds {dataset[name].dtype}, not numbers; choose another of {_names(dataset)}")
    unit = dataset[name].attrs.get("units")
    if unit is None:
        raise BadInput(f"{name} has no units; say what it is in: ds['{name}'].attrs['units'] = 'K'")
    if isinstance(variable, str):
        return Variable(name, str(unit))
    if not variable.unit:
        return replace(variable, unit=str(unit))
    if str(unit) != variable.unit:
        raise BadInput(f"{name} is in {unit}, wanted is {variable.unit}; convert the values and say so in its units")
    return variable


def _axis(dataset: "xr.Dataset", name: str, axis: str) -> str | None:
    """The dimension of `name` that is this axis, by CF attributes first, then by name."""
    dims = [str(d) for d in dataset[name].dims]
    for key, allowed in AXES[axis].items():
        for dim in dims:
            value = dim.lower() if key == "name" else dataset[dim].attrs.get(key) if dim in dataset.coords else None
            if value in allowed:
                return dim
    return None


def _needed(dataset: "xr.Dataset", name: str, names: dict[str, str | None], axis: str) -> str:
    found = names[axis]
    if found is None:
        raise BadInput(
            f"{name} has the axes {tuple(dataset[name].dims)}: none is {axis}; rename it to '{axis}' or give it "
            f"standard_name='{axis}'"
        )
    if found not in dataset.coords:
        raise BadInput(f"{found} has no coordinate values; add them: ds.assign_coords({found}=...)")
    return found


def _check_axes(dataset: "xr.Dataset", name: str, known: list[str], needed: Sequence[str]) -> None:
    sizes = dataset[name].sizes
    for dim in needed:
        if dim not in sizes:
            raise BadInput(f"{name} has no axis {dim}; all variables need time, latitude and longitude")
    for further, size in sizes.items():
        if further not in known and size > 1:
            raise BadInput(f"{name} has a further axis {further} of {size}; choose one place: ds.isel({further}=0)")


def _bounds(dataset: "xr.Dataset", coordinate: "xr.DataArray") -> np.ndarray | None:
    name = coordinate.attrs.get("bounds", coordinate.encoding.get("bounds"))
    if name is None or name not in dataset or dataset[name].shape != (len(coordinate), 2):
        return None
    return np.asarray(dataset[name].values, np.float64)


def _array(array: "xr.DataArray", layout: Layout) -> np.ndarray:
    axes = [layout.time, str(layout.latitude.dims[0]), str(layout.longitude.dims[0])]
    first = [layout.member] if layout.member and layout.member in array.dims else []
    array = array.squeeze([d for d in array.dims if d not in (*axes, *first)]).transpose(*first, *axes)
    values = np.asarray(array.values, np.float32)
    return values if first else values[None]


def _first_name(spec: FieldSpec, where: np.ndarray) -> str:
    return spec.variables[int(np.argwhere(where)[0][2])].name
