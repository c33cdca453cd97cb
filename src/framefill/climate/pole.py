"""Grids whose north pole is elsewhere: a region moved to the equator of its own globe has cells of nearly equal size.

With the pole of the grid at latitude p and longitude l, the axes of the rotated globe are x' = (-sin p, 0, cos p),
y' = (0, -1, 0) and z' = (cos p, 0, sin p), seen from a frame that is turned by l about the earth's axis: z' is the new
pole and the true one lies on the meridian 0, which is CF's rotated_latitude_longitude with north_pole_grid_longitude 0.
A rotation keeps distances and areas, so the cells of a rotated grid are weighted by their rotated latitude.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from framefill.errors import BadInput

Floats = NDArray[np.float64]
ROTATED = "rotated_latitude_longitude"
ATTRIBUTES = ("grid_north_pole_latitude", "grid_north_pole_longitude", "north_pole_grid_longitude")


@dataclass(frozen=True)
class Pole:
    """The north pole of a rotated grid, in true degrees, and the rotated `meridian` on which the true pole lies."""

    latitude: float
    longitude: float
    meridian: float = 0.0

    @property
    def axes(self) -> Floats:
        """The rotation (3, 3) from the turned frame to the rotated one; its rows are x', y', z'."""
        p = np.deg2rad(self.latitude)
        return np.array([[-np.sin(p), 0, np.cos(p)], [0, -1, 0], [np.cos(p), 0, np.sin(p)]])

    def rotated(self, longitude: ArrayLike, latitude: ArrayLike) -> tuple[Floats, Floats]:
        """Rotated longitudes in [-180, 180) and latitudes of true ones, in degrees, of the same shape."""
        east, north = _angles(_vectors(np.subtract(longitude, self.longitude), latitude) @ self.axes.T)
        return _within(east + self.meridian), north

    def true(self, longitude: ArrayLike, latitude: ArrayLike) -> tuple[Floats, Floats]:
        """True longitudes in [-180, 180) and latitudes of rotated ones, in degrees, of the same shape."""
        east, north = _angles(_vectors(np.subtract(longitude, self.meridian), latitude) @ self.axes)
        return _within(east + self.longitude), north

    def attributes(self) -> dict[str, Any]:
        """As attributes of a CF grid mapping."""
        places = zip(ATTRIBUTES, (self.latitude, self.longitude, self.meridian), strict=True)
        return {"grid_mapping_name": ROTATED, **dict(places)}


def pole_of(mapping: Mapping[str, Any]) -> Pole:
    """The pole that the attributes of a grid mapping say. Raises BadInput where they do not."""
    try:
        latitude, longitude = (float(mapping[key]) for key in ATTRIBUTES[:2])
        return Pole(latitude, longitude, float(mapping.get(ATTRIBUTES[2], 0.0)))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"the grid mapping has {ATTRIBUTES[0]} {mapping.get(ATTRIBUTES[0])} and {ATTRIBUTES[1]} "
            f"{mapping.get(ATTRIBUTES[1])}; a rotated grid needs both, in degrees"
        ) from error


def _vectors(longitude: ArrayLike, latitude: ArrayLike) -> Floats:
    east, north = np.broadcast_arrays(np.deg2rad(longitude), np.deg2rad(latitude))
    return np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=-1)


def _angles(vectors: Floats) -> tuple[Floats, Floats]:
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.rad2deg(np.arctan2(y, x)), np.rad2deg(np.arctan2(z, np.hypot(x, y)))


def _within(longitude: Floats) -> Floats:
    return (longitude + 180) % 360 - 180
