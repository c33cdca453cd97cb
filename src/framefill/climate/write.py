"""Ensembles as files that other tools read: CF conventions, a `member` axis, and where the numbers come from.

What is written is whole or not there: a NetCDF file, or a folder of Zarr, is made under another name and renamed. Dask
arrays are written chunk by chunk.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefill import __version__
from framefill.atomic import not_written, replacing
from framefill.climate.extra import need
from framefill.errors import BadInput, Failed, NotWritten

if TYPE_CHECKING:
    import xarray as xr

CONVENTIONS = "CF-1.11"
SUFFIXES = (".nc", ".nc4", ".zarr")


def provenance(
    *, model: str, seed: int, members: int, source: str, past: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Global attributes of a forecast: who made it, with which weights and seed, from what.

    `model` is a name or fingerprint of the weights, `source` the input's place, `past` its attributes, whose history
    is kept and added to. No clock: the same request writes the same file.
    """
    past = dict(past or {})
    line = f"framefill {__version__}: {members} members from {source} by {model}, seed {seed}"
    history = "\n".join(text for text in (line, str(past.get("history", ""))) if text)
    return {
        **past, "Conventions": CONVENTIONS, "history": history, "source": f"framefill {__version__}, model {model}",
        "framefill_model": model, "framefill_seed": seed, "framefill_input": source, "framefill_version": __version__,
    }  # fmt: skip


def write(dataset: "xr.Dataset", path: Path, *, overwrite: bool = False) -> Path:
    """Writes a dataset to NetCDF (.nc, .nc4) or Zarr (.zarr) by the name's ending, and gives the path.

    Raises BadInput for another ending or where something is there already, Failed where the disk does not take it.
    """
    if path.suffix not in SUFFIXES:
        raise BadInput(f"{path} ends in '{path.suffix}'; climate fields are written as {', '.join(SUFFIXES)}")
    if path.exists() and not overwrite:
        raise BadInput(f"{path} is there already; choose another name or allow overwriting")
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):  # HDF5 says it in five lines
        raise NotWritten(f"cannot write {path}: nothing can be written in {path.parent}; choose another place")
    need("xarray")
    made = dataset.copy().assign_attrs({"Conventions": CONVENTIONS, **dataset.attrs})
    for name in made.coords:  # CF knows no missing values there, xarray would mark them
        made[name].encoding = {**made[name].encoding, "_FillValue": None}
    if path.suffix == ".zarr":
        _write_folder(made, path)
    else:
        compress = {str(n): {"zlib": True, "complevel": 4, "_FillValue": float("nan")} for n in made.data_vars}
        try:
            with replacing(path) as temporary:
                made.to_netcdf(temporary, engine="h5netcdf", encoding=compress, unlimited_dims=[])
        except RuntimeError as error:  # h5py's word for a full disk
            raise Failed(f"cannot write {path}: {error}; free some space or choose another place") from error
    return path


def _write_folder(dataset: "xr.Dataset", path: Path) -> None:
    if path.is_file():
        raise BadInput(f"{path} is a file, and a Zarr store is a folder; choose another name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _even(dataset).to_zarr(temporary, mode="w", consolidated=False)
        _exchange(temporary, path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _even(dataset: "xr.Dataset") -> "xr.Dataset":
    """With dask chunks of one size, as Zarr has them; files that were joined along time often have others."""
    sizes = dataset.unify_chunks().chunksizes
    uneven = {dim: max(chunks) for dim, chunks in sizes.items() if len({*chunks[:-1]}) > 1 or chunks[-1] > chunks[0]}
    return dataset.chunk(uneven) if uneven else dataset


def _exchange(new: Path, path: Path) -> None:
    """Puts the folder `new` at `path`; what was there goes when that is done, or comes back."""
    if not path.exists():
        new.replace(path)
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    path.replace(aside)
    try:
        new.replace(path)
    except OSError:
        aside.replace(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)
