"""A record of fields on disk, read piece by piece: NetCDF, Zarr, or a folder of NetCDF files that follow each other.

Opening reads coordinates only and checks them; values are read by the window, so memory does not grow with the record.
A window never crosses a gap in time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from framefill.climate.calendars import CALENDARS, Time, gaps, stretches
from framefill.climate.extra import need
from framefill.climate.fields import FieldSpec, Layout, Variable, describe, times_of, to_tensor
from framefill.errors import BadInput, FramefillError, MediaError

if TYPE_CHECKING:
    import xarray as xr

ENGINES = {b"\x89HDF\r\n\x1a\n": "h5netcdf", b"CDF\x01": "netcdf4", b"CDF\x02": "netcdf4", b"CDF\x05": "netcdf4"}


class Window(NamedTuple):
    """Values (B, T, C, H, W) in units with NaN where missing, where they are there (bool), and their times."""

    values: Tensor
    valid: Tensor
    times: list[Time]


@dataclass(frozen=True, eq=False)
class Archive:
    """An open record: its dataset, whose values are still on disk, and what it holds."""

    name: str
    dataset: "xr.Dataset"
    spec: FieldSpec
    layout: Layout

    @cached_property
    def times(self) -> list[Time]:
        """The time of every field."""
        return times_of(self.dataset[self.layout.time])

    @cached_property
    def runs(self) -> list[slice]:
        """The longest pieces without a gap in time, in order."""
        return stretches(self.times, self.spec.step)

    def __len__(self) -> int:
        return len(self.times)

    def read(self, start: int, length: int) -> Window:
        """The fields `start` to `start + length - 1`. Raises BadInput outside the record and across a gap."""
        if start < 0 or length < 1 or start + length > len(self):
            raise BadInput(f"{self.name}: fields {start}..{start + length - 1}; it has 0..{len(self) - 1}")
        times = self.times[start : start + length]
        holes = gaps(times, self.spec.step)
        if holes:
            raise BadInput(
                f"{self.name}: time has a gap: {times[holes[0]]} is followed by {times[holes[0] + 1]}, steps are "
                f"{self.spec.step}; fill it in or begin after it"
            )
        part = self.dataset.isel({self.layout.time: slice(start, start + length)})
        with in_one_line(self.name, "read"):
            return Window(*to_tensor(part, self.spec, self.layout), times)

    def starts(self, length: int, *, first: int | None = None, last: int | None = None) -> list[int]:
        """Where windows of `length` begin that have no gap and lie in the years `first` to `last`, both included.

        Raises BadInput where there is none.
        """
        found = [
            i
            for s in self.runs
            for i in range(s.start, s.stop - length + 1)
            if (first is None or self.times[i].year >= first)
            and (last is None or self.times[i + length - 1].year <= last)
        ]
        if not found:
            longest = max(s.stop - s.start for s in self.runs)
            raise BadInput(
                f"{self.name}: no {length} fields in a row from {first or self.times[0].year} to "
                f"{last or self.times[-1].year}; the longest run without a gap in time has {longest}"
            )
        return found

    def windows(self, length: int, *, first: int | None = None, last: int | None = None) -> Iterator[Window]:
        """All windows of `starts`, one after another, each read when it is asked for."""
        for start in self.starts(length, first=first, last=last):
            yield self.read(start, length)

    def close(self) -> None:
        """Lets go of the files."""
        self.dataset.close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_archive(place: Path | str, variables: Sequence[Variable | str], *, like: FieldSpec | None = None) -> Archive:
    """The record at `place`: a NetCDF file, a Zarr store, its address, or a folder of NetCDF files.

    `like` is what it has to be: the specification of a model. Raises MediaError where it cannot be opened, BadInput
    where it does not fit.
    """
    name = str(place)
    return archive_of(open_dataset(name), variables, name=name, like=like)


def archive_of(
    dataset: "xr.Dataset", variables: Sequence[Variable | str], *, name: str, like: FieldSpec | None = None
) -> Archive:
    """The record that an open dataset is; `name` is what messages call it. Closes it and raises BadInput, see above."""
    try:
        spec, layout = describe(dataset, variables)
        if like is not None:
            like.check(spec)
    except FramefillError as error:
        dataset.close()
        raise BadInput(f"{name}: {error}") from error
    return Archive(name, dataset, spec, layout)


def open_dataset(place: Path | str) -> "xr.Dataset":
    """The dataset at `place`, as `open_archive` finds it, unread and unchecked. Raises MediaError."""
    with in_one_line(str(place), "opened"):
        return _open(str(place))


def _open(name: str) -> "xr.Dataset":
    xr = need("xarray")
    dates = {"decode_times": xr.coders.CFDatetimeCoder(use_cftime=True), "cache": False}
    if "://" in name:
        need("zarr")
        return xr.open_dataset(name, engine="zarr", **dates)
    place = Path(name)
    if not place.exists():
        raise MediaError(f"{name}: there is no such file or folder")
    if place.is_file():
        return xr.open_dataset(place, engine=engine_of(place), **dates)
    if any((place / mark).exists() for mark in ("zarr.json", ".zgroup", ".zmetadata")):
        need("zarr")
        return xr.open_dataset(place, engine="zarr", consolidated=False, **dates)
    return _folder(place, dates)


def _folder(place: Path, dates: dict[str, Any]) -> "xr.Dataset":
    dates = {"decode_times": dates["decode_times"], "chunks": {}}  # only dask joins files without reading them
    files = sorted(p for p in place.iterdir() if p.suffix in (".nc", ".nc4", ".cdf") and not p.name.startswith("."))
    if not files:
        raise MediaError(f"{place} is a folder without NetCDF files and is no Zarr store; give one of these")
    engines = {engine_of(f) for f in files}
    return need("xarray").open_mfdataset(
        files, engine=engines.pop() if len(engines) == 1 else "netcdf4", combine="by_coords", data_vars="minimal",
        coords="minimal", compat="override", join="exact", **dates,
    )  # fmt: skip


def engine_of(file: Path) -> str:
    """The engine of xarray that reads a NetCDF file. Raises MediaError where it is none."""
    with file.open("rb") as opened:
        head = opened.read(8)
    for magic, engine in ENGINES.items():
        if head.startswith(magic):
            need("netCDF4" if engine == "netcdf4" else engine)
            return engine
    raise MediaError(f"{file} is not a NetCDF file: it begins with {head!r}; GRIB can be converted by cdo -f nc4 copy")


@contextmanager
def in_one_line(name: str, done: str) -> Iterator[None]:
    """Whatever the libraries raise becomes a MediaError; they have a dozen kinds, and no common base."""
    try:
        yield
    except FramefillError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise MediaError(f"{name} cannot be {done}: {_advice(name, text)}") from error


def _advice(name: str, text: str) -> str:
    lower = text.lower()
    short = text if len(text) <= 160 else f"{text[:160]}..."
    if "calendar" in lower or "decode time" in lower:
        return (
            "its time has units or a calendar that are not understood; calendars are "
            f"{', '.join(CALENDARS)}, units such as 'days since 1900-01-01' ({short})"
        )
    if "://" in name and "install" in lower:
        return f"addresses of this kind need a package that is not here ({short}); install it, or copy the store here"
    if "://" in name:
        return f"the store does not answer ({short}); check the address and the network, or copy it here"
    return f"the file is damaged or not complete ({short}); copy it again"
