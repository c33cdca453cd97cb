"""An ensemble of the next ten years of temperature, and how the chance of a warm year rises: xarray in, xarray out."""

from importlib.resources import as_file, files

import xarray as xr

import framefill.accessor  # noqa: F401  gives datasets the verbs

with as_file(files("framefill").joinpath("data/hadcm3.nc")) as path:
    record = xr.open_dataset(path, decode_times=xr.coders.CFDatetimeCoder(use_cftime=True)).load()

past = record.isel(time=slice(0, 50))  # 1950 to 1999, which is as far as training of the shipped model went
ensemble = past.framefill.forecast("hadcm3", steps=10, members=8, seed=0)

place = {"latitude": 40, "longitude": 260, "method": "nearest"}  # the Great Plains, in degrees east
warm = past.air_temperature.sel(**place).quantile(0.9, "time")
chance = (ensemble.air_temperature.sel(**place) > warm).mean("member")
for year, share in zip(ensemble.time.values.tolist(), chance.values.tolist(), strict=True):
    print(f"{year.year}: {share:.0%} of members are warmer there than nine years of ten were")
