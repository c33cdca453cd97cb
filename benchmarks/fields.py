"""Bytes that codecs need for gridded fields at equal bound: ours, JPEG XL at 16 bits, SZ3 and zfp, in one run.

    pip install imagecodecs iris-sample-data      # without them: "not installed", and the one field that ships
    python benchmarks/fields.py

Ours is the whole file that `framefill compress` writes for the field alone, with its header and both copies of the
index; the others are bare streams, without shape, type or mask. What is missing in a field is kept to the bit by ours;
the others get the mean in its place. JPEG XL codes whole numbers, x / step rounded, step twice the bound less what
rounding to float32 needs, as frames by themselves or as one tall picture, whichever is smaller. zfp stays well within
the tolerance that it is given: the last column is the loosest of 1, 2, 4, 8, 16 times the bound that still keeps it.
Every stream is decoded, and its largest error compared with the bound: "over" where it is larger.
"""

import argparse
import platform
import sys
import time
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import xarray as xr

from framefill.codec.fields import compress_dataset, open_compressed

SHIPPED = Path(__file__).parents[1] / "src" / "framefill" / "data" / "hadcm3.nc"
# Field: file, variable, bounds in units of the file.
FIELDS = {
    "HadCM3, K": (SHIPPED, "air_temperature", (0.001, 0.01, 0.1)),
    "A1B, K": ("A1B_north_america.nc", "air_temperature", (0.001, 0.01, 0.1)),
    "OSTIA sea surface, K": ("ostia_monthly.nc", "surface_temperature", (0.001, 0.01, 0.1)),
    "ORCA2 corners of cells, degrees": ("orca2_votemper.nc", "nav_lat_bnds", (0.01, 0.1)),
}
ROOM = (1.0, 1 - 2.0**-20, 0.999, 0.99, 0.9)  # of the step 2 e, tried in turn: float32 rounds what is decoded
LOOSER = (1, 2, 4, 8, 16)
DEEPEST = 1 << 16


@dataclass(frozen=True)
class Coded:
    """What a codec made of a field: how many bytes, and the field again."""

    size: int
    made: np.ndarray


def ours(values, bound):
    """The file of a data set of this one field."""
    dims = ("time", "latitude", "longitude")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "field.ffc"
        compress_dataset(xr.Dataset({"field": (dims, values)}), path, max_error=bound)
        return Coded(path.stat().st_size, open_compressed(path)["field"].values)


def jpeg_xl(values, bound):
    """Lossless JPEG XL of the rounded field; None where 16 bits do not hold it, or no step keeps the bound."""
    for room in ROOM:
        step = 2 * bound * room
        whole = np.round(values.astype(np.float64) / step)
        lowest = whole.min()
        made = (whole * step).astype(values.dtype)
        if whole.max() - lowest < DEEPEST and largest_error(made, values) <= bound:
            break
    else:
        return None
    levels = (whole - lowest).astype(np.uint16)
    layouts = [levels, levels.reshape(1, -1, levels.shape[2])]
    streams = min(([lossless(frame) for frame in frames] for frames in layouts), key=lambda found: sum(map(len, found)))
    read = np.stack([codecs().jpegxl_decode(stream) for stream in streams]).reshape(values.shape)
    return Coded(sum(map(len, streams)), ((read + lowest) * step).astype(values.dtype))


def lossless(frame):
    return codecs().jpegxl_encode(np.ascontiguousarray(frame), lossless=True, effort=7, numthreads=1)


def sz3(values, bound):
    stream = codecs().sz3_encode(values, mode="abs", abs=bound)
    return Coded(len(stream), codecs().sz3_decode(stream, shape=values.shape, dtype=values.dtype))


def zfp(values, bound):
    stream = codecs().zfp_encode(values, level=bound, mode="a", numthreads=1)
    return Coded(len(stream), codecs().zfp_decode(stream))


def loosest_zfp(values, bound):
    """zfp at the largest tolerance whose result keeps the bound all the same."""
    tried = [zfp(values, factor * bound) for factor in LOOSER]
    return min((c for c in tried if largest_error(c.made, values) <= bound), key=lambda c: c.size, default=tried[0])


CODECS = {"ours": ours, "JPEG XL, 16 bits": jpeg_xl, "SZ3": sz3, "zfp": zfp, "zfp, loosest": loosest_zfp}


def codecs():
    return import_module("imagecodecs")


def largest_error(made, values):
    """In float64; NaN where NaN was counts as equal, anywhere else as infinitely far."""
    there = np.isfinite(values)
    if not np.array_equal(np.isfinite(made), there):
        return np.inf
    return float(np.abs(made[there].astype(np.float64) - values[there].astype(np.float64)).max())


def found(name):
    """The field (T, H, W), NaN where it is missing; None where the sample data are not installed."""
    path, variable, _ = FIELDS[name]
    if not isinstance(path, Path):
        try:
            path = Path(import_module("iris_sample_data").__path__[0]) / "sample_data" / path
        except ImportError:
            return None
    with path.open("rb") as file:
        engine = "h5netcdf" if file.read(8) == b"\x89HDF\r\n\x1a\n" else "netcdf4"
    with xr.open_dataset(path, engine=engine, decode_times=False) as dataset:
        return np.ascontiguousarray(dataset[variable].values)


def cell(name, values, bound):
    """One cell of the table."""
    if name != "ours":
        values = np.where(np.isfinite(values), values, np.nanmean(values, dtype=np.float64)).astype(values.dtype)
    try:
        coded = CODECS[name](values, bound)
    except ImportError:
        return "not installed"
    if coded is None:
        return "more than 16 bits"
    error = largest_error(coded.made, values)
    return f"{coded.size:,}" + ("" if error <= bound else f" (over: {error:.3g})")


def versions():
    try:
        said = [part for part in codecs().version().split(", ") if part.startswith(("libjxl", "sz3", "zfp"))]
    except ImportError:
        said = ["no imagecodecs"]
    return ", ".join([f"framefill {metadata.version('framefill')}", f"numpy {np.__version__}", *said])


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--only", nargs="*", help="fields whose names begin with one of these")
    given = words.parse_args()
    print(f"{platform.machine()}, {versions()}; bytes\n")
    print("| field, bound | shape, type | missing | " + " | ".join(CODECS) + " |\n" + "|---" * (len(CODECS) + 3) + "|")
    for name, (_, _, bounds) in FIELDS.items():
        if given.only and not name.startswith(tuple(given.only)):
            continue
        values = found(name)
        if values is None:
            print(f"| {name} | not installed |" + " |" * (len(CODECS) + 1))
            continue
        size = "x".join(map(str, values.shape))
        for bound in bounds:
            start = time.process_time()
            cells = " | ".join(cell(codec, values, bound) for codec in CODECS)
            missing = f"{np.isnan(values).mean():.0%}"
            print(f"| {name}, {bound:g} | {size}, {values.dtype} | {missing} | {cells} |", flush=True)
            print(f"{name}, {bound:g}: {time.process_time() - start:.0f} CPU-s", file=sys.stderr)


if __name__ == "__main__":
    main()
