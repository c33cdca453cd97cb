"""Where the cells of a rotated or projected grid lie: what a file says of it, kept so that results say it too.

CF gives such axes the standard names grid_latitude or projection_y_coordinate, describes the rotation or projection in
the attributes of a variable without values, the grid mapping, and may add true latitudes and longitudes as coordinates
of two dimensions.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from framefill.climate.grid import DEGREES, METRES
from framefill.climate.pole import pole_of
from framefill.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr

LINKS = ("grid_mapping", "ancillary_variables", "cell_measures", "coordinates", "bounds")  # name other variables
METRE = ("m", "metre", "metres", "meter", "meters")
TURNED = ("grid_latitude", "grid_longitude", "rlat", "rlon")
MAPPED = ("projection_y_coordinate", "projection_x_coordinate")
SHAPE = ("earth_radius", "semi_major_axis", "semi_minor_axis", "inverse_flattening", "longitude_of_prime_meridian")


@dataclass(frozen=True, eq=False)
class Places:
    """The grid mapping's name and attributes, and the coordinates over both axes of the grid."""

    mapping: str | None = None
    about: dict[str, Any] = field(default_factory=dict)
    coordinates: "tuple[xr.DataArray, ...]" = ()

    def frame(self, axis: "xr.DataArray") -> str:
        """In words, what the axes are of: empty for true latitude and longitude. Two of one frame are comparable."""
        kind = _kind(axis)
        if kind in TURNED:
            if not self.about:
                return "a rotated pole that the file does not say"
            pole = pole_of(self.about)
            return f"a pole at {pole.latitude:g} N {pole.longitude % 360:g} E, meridian {pole.meridian:g}"
        if kind not in MAPPED:
            return ""
        numbers = {k: np.ravel(v) for k, v in self.about.items() if k not in SHAPE and not isinstance(v, str)}
        said = (f"{key} {', '.join(f'{v:g}' for v in numbers[key])}" for key in sorted(numbers))
        return ", ".join((str(self.about.get("grid_mapping_name", "a projection that the file does not say")), *said))

    def put(self, made: "xr.Dataset") -> "xr.Dataset":
        """The dataset with them, every variable with its link to the grid mapping."""
        more: dict[str, Any] = {str(c.name): (c.dims, c.values, _alone(c.attrs)) for c in self.coordinates}
        if self.mapping is not None:
            more[self.mapping] = ((), np.int32(0), self.about)  # CF: its value means nothing
        made = made.assign_coords(more)
        for name in made.data_vars if self.mapping is not None else ():
            made[name].attrs["grid_mapping"] = self.mapping
            if self.coordinates:  # said here: xarray takes the name rotated_latitude_longitude for a link to latitude
                made[name].attrs["coordinates"] = " ".join(str(c.name) for c in self.coordinates)
        return made


def places_of(dataset: "xr.Dataset", name: str, latitude: "xr.DataArray", longitude: "xr.DataArray") -> Places:
    """What the dataset says about the places of the cells of a variable; the coordinates are read."""
    axes = {latitude.dims[0], longitude.dims[0]}
    flat = tuple(c.load() for n, c in dataset[name].coords.items() if n not in axes and set(c.dims) == axes)
    field = dataset[name]
    mapping = field.attrs.get("grid_mapping", field.encoding.get("grid_mapping"))
    if not isinstance(mapping, str) or mapping not in dataset.variables:
        return Places(coordinates=flat)
    return Places(mapping, _alone(dataset[mapping].attrs), flat)


def unit_of(latitude: "xr.DataArray", longitude: "xr.DataArray") -> str:
    """The unit of the two axes, degrees or metres. Raises BadInput for a projection in another one."""
    for axis in (latitude, longitude):
        unit = str(axis.attrs.get("units", "")).lower()
        if _kind(axis) in MAPPED and unit not in METRE:
            raise BadInput(f"{axis.name} is in {unit or 'no units'}; axes of a projection are in metres: convert them")
    return METRES if _kind(latitude) in MAPPED else DEGREES


def _kind(axis: "xr.DataArray") -> str:
    return str(axis.attrs.get("standard_name", axis.name)).lower()


def _alone(attributes: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in attributes.items() if k not in LINKS}
