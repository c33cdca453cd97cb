"""Files laid out as UKCP18 local is at CEDA: dimensions, names, attributes and derived coordinates, a small region.

Written by netCDF4 from what is known of the layout (UKCP18 guidance, CF-1.7): the files themselves were not at hand.
"""

import netCDF4
import numpy as np

from framefill.climate.pole import Pole
from framefill.climate.ukcp18 import BIRMINGHAM

POLE = Pole(37.5, 177.5)
STEP = 0.02  # degrees: 2.2 km
ROWS, COLUMNS = 30, 27  # of 4 cells: 7 and 6, with 2 and 3 left over


def axes(around=(13, 14)):
    """Rotated latitudes and longitudes (from 0 to 720, as in the files) with Birmingham in one cell."""
    east, north = POLE.rotated(*BIRMINGHAM)
    latitude = north + 0.004 + STEP * (np.arange(ROWS) - around[0])
    return latitude, 360 + east - 0.003 + STEP * (np.arange(COLUMNS) - around[1])


def rain(first, hours):
    """Hourly rain whose every value says where and when it is, (hours, ROWS, COLUMNS)."""
    t, y, x = np.meshgrid(first + np.arange(hours), np.arange(ROWS), np.arange(COLUMNS), indexing="ij")
    return (t % 1000 + y / 100 + (x / 1000) ** 2).astype(np.float32)


def hours_since_1970(year, month):
    return 24 * 30 * (12 * (year - 1970) + month - 1)


def write_month(folder, year, month, *, hours=720, member=1, units="mm/hr", shift=0.0):
    """One month (its first `hours`) as a file under its name; gives the path."""
    path = folder / f"pr_rcp85_land-cpm_uk_2.2km_{member:02d}_1hr_{year}{month:02d}01-{year}{month:02d}30.nc"
    latitude, longitude = axes()
    first = hours_since_1970(year, month)
    with netCDF4.Dataset(path, "w") as file:
        file.setncatts({"Conventions": "CF-1.7", "collection": "land-cpm", "domain": "uk", "frequency": "1hr",
                        "project": "UKCP18", "resolution": "2.2km", "scenario": "rcp85"})  # fmt: skip
        for name, size in {"ensemble_member": 1, "time": None, "grid_latitude": ROWS, "grid_longitude": COLUMNS,
                           "bnds": 2, "string27": 27, "string64": 64}.items():  # fmt: skip
            file.createDimension(name, size)
        whole = ("ensemble_member", "time", "grid_latitude", "grid_longitude")
        pr = file.createVariable("pr", "f4", whole, fill_value=1e20, zlib=True, chunksizes=(1, 1, ROWS, COLUMNS))
        pr.setncatts({"standard_name": "lwe_precipitation_rate", "long_name": "Precipitation rate", "units": units,
                      "cell_methods": "time: mean", "grid_mapping": "rotated_latitude_longitude",
                      "coordinates": "ensemble_member_id latitude longitude month_number year yyyymmddhh"})  # fmt: skip
        pr[:] = rain(first, hours)[None]
        _time(file, first, hours, year, month)
        _place(file, latitude + shift, longitude)
        file.createVariable("ensemble_member", "i4", ("ensemble_member",))[:] = member
        file.createVariable("ensemble_member_id", "S1", ("ensemble_member", "string27"))[:] = _text("HadREM3-RA11M", 27)
    return path


def _time(file, first, hours, year, month):
    time = file.createVariable("time", "f8", ("time",))
    time.setncatts({"axis": "T", "bounds": "time_bnds", "units": "hours since 1970-01-01 00:00:00",
                    "calendar": "360_day", "standard_name": "time"})  # fmt: skip
    time[:] = first + 0.5 + np.arange(hours)
    file.createVariable("time_bnds", "f8", ("time", "bnds"))[:] = (first + np.arange(hours))[:, None] + [0.0, 1.0]
    file.createVariable("year", "i4", ("time",))[:] = year
    file.createVariable("month_number", "i4", ("time",))[:] = month
    names = [_text(f"{year}{month:02d}{1 + h // 24:02d}{h % 24:02d}", 64) for h in range(hours)]
    file.createVariable("yyyymmddhh", "S1", ("time", "string64"))[:] = np.stack(names)


def _place(file, latitude, longitude):
    mapping = file.createVariable("rotated_latitude_longitude", "i4", ())
    mapping.setncatts({"grid_mapping_name": "rotated_latitude_longitude", "earth_radius": 6371229.0,
                       "longitude_of_prime_meridian": 0.0, "grid_north_pole_latitude": 37.5,
                       "grid_north_pole_longitude": 177.5, "north_pole_grid_longitude": 0.0})  # fmt: skip
    for name, values, axis in (("grid_latitude", latitude, "Y"), ("grid_longitude", longitude, "X")):
        made = file.createVariable(name, "f8", (name,))
        made.setncatts({"axis": axis, "bounds": f"{name}_bnds", "units": "degrees", "standard_name": name})
        made[:] = values
        file.createVariable(f"{name}_bnds", "f8", (name, "bnds"))[:] = values[:, None] + [-STEP / 2, STEP / 2]
    east, north = POLE.true(*np.meshgrid(longitude, latitude))
    for name, values, unit in (("latitude", north, "degrees_north"), ("longitude", east, "degrees_east")):
        made = file.createVariable(name, "f8", ("grid_latitude", "grid_longitude"))
        made.setncatts({"units": unit, "standard_name": name})
        made[:] = values


def _text(text, size):
    return np.array(list(text.ljust(size, "\0")), "S1")
