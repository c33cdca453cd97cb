"""A regular grid of latitudes and longitudes, in one order inside whatever order the file has.

Inside, latitudes rise and longitudes go east. A grid around the globe begins at its first longitude in [0, 360), any
other at its western edge, which is brought into [0, 360). So -180..180 and 0..360 are the same grid, and the part of a
file that crosses Greenwich is one piece. Cells are bounded by edges: the file's own bounds, or the middles between
centres. A cell between latitudes a and b and as wide as w has the area R^2 w (sin b - sin a).

The pole of the grid may be rotated: on a sphere nothing of that changes, the latitudes are then those of the rotated
grid. The axes may also be those of a map, in metres, northing for latitude and easting for longitude: then areas are
those of the map.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput

RADIUS = 6_371_229.0  # of the earth, in metres: the sphere of the Met Office's and ECMWF's models
DEGREES, METRES = "degrees", "metres"
UNEVEN = 0.05  # a Gaussian grid's steps differ by less than this share; those of a stretched grid by more
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Centres (H,) and (W,) of the cells, and their edges (H + 1,) and (W + 1,), all in `unit`, rising.

    `frame` says in words where the axes lie: empty for true latitudes and longitudes, otherwise the grid mapping.
    """

    latitude: tuple[float, ...]
    longitude: tuple[float, ...]
    latitude_edges: tuple[float, ...]
    longitude_edges: tuple[float, ...]
    unit: str = DEGREES
    frame: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """H, W."""
        return len(self.latitude), len(self.longitude)

    @property
    def periodic(self) -> bool:
        """Whether the last column's eastern neighbour is the first."""
        edges = self.longitude_edges
        return self.unit == DEGREES and abs(edges[-1] - edges[0] - 360) < 0.01 * (edges[1] - edges[0])

    @cached_property
    def areas(self) -> Floats:
        """Areas of the cells in square metres, (H, W)."""
        if self.unit == METRES:
            return np.outer(np.diff(self.latitude_edges), np.diff(self.longitude_edges))
        height = np.diff(np.sin(np.deg2rad(self.latitude_edges)))
        return RADIUS**2 * height[:, None] * np.deg2rad(np.diff(self.longitude_edges))

    @property
    def weights(self) -> Floats:
        """Areas as a share of all, (H, W); their sum is 1."""
        return self.areas / self.areas.sum()

    def difference(self, other: "Grid") -> str | None:
        """How another grid differs, in words; None where it is the same to a thousandth of a cell."""
        if (self.unit, self.frame) != (other.unit, other.frame):
            here, there = (grid.frame or "latitude and longitude" for grid in (self, other))
            return f"its axes are of {there}, not of {here}"
        for name in ("latitude", "longitude"):
            mine, its = np.array(getattr(self, name)), np.array(getattr(other, name))
            if len(mine) != len(its):
                return f"{name} has {len(its)} values, not {len(mine)}"
            far = np.abs(its - mine).max()
            if far > 1e-3 * np.abs(np.diff(mine)).min():
                return f"{name} runs {its[0]:g}..{its[-1]:g}, not {mine[0]:g}..{mine[-1]:g}"
        return None


def rows(latitude: Floats, unit: str = DEGREES) -> NDArray[np.int64]:
    """The order of rows in which latitudes rise. Raises BadInput where the values are no axis of latitudes."""
    if unit == METRES:
        return _rising("northing", latitude, unit)
    _numbers("latitude", latitude)
    if np.abs(latitude).max() > 90:
        raise BadInput(
            f"latitude has the value {latitude[np.abs(latitude).argmax()]:g}; latitudes are degrees in -90..90: "
            "for a projection give the axis units='m' and standard_name='projection_y_coordinate'"
        )
    return _rising("latitude", latitude, unit)


def columns(longitude: Floats, unit: str = DEGREES) -> NDArray[np.int64]:
    """The order of columns that goes east from the western edge. Raises BadInput where there is none."""
    if unit == METRES:
        return _rising("easting", longitude, unit)
    _numbers("longitude", longitude)
    if np.abs(longitude).max() > 720:
        raise BadInput(f"longitude has the value {np.abs(longitude).max():g}; longitudes are degrees in -180..360")
    order = np.arange(len(longitude))
    if np.median(np.diff(longitude)) < 0:
        order = order[::-1]
    round_globe = np.round(longitude[order], 6) % 360
    steps = np.diff(round_globe, append=round_globe[0]) % 360
    again = np.flatnonzero(steps == 0)
    if len(again):
        raise BadInput(
            f"longitude has {longitude[order][again[0]]:g} twice, counting 360 as 0; drop one: "
            "ds.isel(longitude=slice(0, -1))"
        )
    if abs(steps.sum() - 360) > 1e-3:
        raise BadInput(f"longitude is not sorted: {_some(longitude)}; sort the file: ds.sortby('longitude')")
    widest = int(steps.argmax())
    around = steps[widest] < (1 + UNEVEN) * np.median(steps)
    first = int(round_globe.argmin()) if around else widest + 1
    order, steps = np.roll(order, -first), np.roll(steps, -first)
    _even("longitude", steps if around else steps[:-1], longitude)
    return order


def grid_of(
    latitude: Floats,
    longitude: Floats,
    latitude_bounds: Floats | None = None,
    longitude_bounds: Floats | None = None,
    *,
    unit: str = DEGREES,
    frame: str = "",
) -> Grid:
    """The grid of coordinates in a file's order, (H,) and (W,); bounds (H, 2) and (W, 2) where the file has them."""
    row, column = rows(latitude, unit), columns(longitude, unit)
    globe = unit == DEGREES
    east = _unwrapped(longitude[column]) if globe else longitude[column]
    north = latitude[row]
    north_edges = _edges("latitude", north, None if latitude_bounds is None else latitude_bounds[row])
    sides = None if longitude_bounds is None else longitude_bounds[column]
    if sides is not None and globe:
        sides = np.sort(sides + 360 * np.round((east - sides.mean(axis=1)) / 360)[:, None], axis=1)
    east_edges = _edges("longitude", east, sides)
    north_edges = np.clip(north_edges, -90, 90) if globe else north_edges
    y, x, y_edges, x_edges = (tuple(map(float, values)) for values in (north, east, north_edges, east_edges))
    return Grid(y, x, y_edges, x_edges, unit, frame)


def _rising(name: str, values: Floats, unit: str) -> NDArray[np.int64]:
    _numbers(name, values)
    order = np.arange(len(values))
    if values[-1] < values[0]:
        order = order[::-1]
    _even(name, np.diff(values[order]), values, unit)
    return order


def _unwrapped(east: Floats) -> Floats:
    start = np.round(east[0], 6) % 360
    return start + np.concatenate([[0.0], np.cumsum(np.diff(east) % 360)])


def _edges(name: str, centres: Floats, bounds: Floats | None) -> Floats:
    if bounds is None:
        middle = (centres[1:] + centres[:-1]) / 2
        return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
    bounds = np.sort(bounds, axis=1)
    width = bounds[:, 1] - bounds[:, 0]
    if (
        np.abs(bounds[1:, 0] - bounds[:-1, 1]).max() > 1e-3 * width.min()
        or not ((bounds[:, 0] <= centres) & (centres <= bounds[:, 1])).all()
    ):
        raise BadInput(
            f"the bounds of {name} leave gaps, overlap or miss their centres; drop them: framefill puts edges midway"
        )
    return np.append(bounds[:, 0], bounds[-1, 1])


def _numbers(name: str, values: Floats) -> None:
    if values.ndim != 1 or len(values) < 2:
        raise BadInput(
            f"{name} has shape {values.shape}; a regular grid has one axis of 2 or more values: regrid the data"
        )
    if not np.isfinite(values).all():
        raise BadInput(f"{name} holds missing values; every row and column needs its coordinate")


def _even(name: str, steps: Floats, values: Floats, unit: str = DEGREES) -> None:
    if (steps <= 0).any():
        raise BadInput(f"{name} is not sorted: {_some(values)}; sort the file: ds.sortby('{name}')")
    if steps.max() - steps.min() > UNEVEN * np.median(steps):
        raise BadInput(
            f"{name} is irregular: steps from {steps.min():g} to {steps.max():g} {unit}; regrid to even steps, "
            f"or fill in the rows that are left out"
        )


def _some(values: Floats) -> str:
    shown = ", ".join(f"{v:g}" for v in values[:4])
    return f"{shown}, ..." if len(values) > 4 else shown
