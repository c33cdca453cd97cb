"""A data set in one file: every variable within its bound, all coordinates and attributes as they were.

Variables of three dimensions and more are cut along the first into groups of at most 4 million numbers, each a chunk
with its own checksum, so that neither packing nor unpacking holds more than one group, and a flipped byte costs one.
All others are kept whole, to the bit. What is where stands in an index, sent twice. NetCDF, Zarr and xarray data sets
come in; what is in the file is not decoded (no mask, scale or time is applied), so nothing is lost on the way.
"""

import json
import math
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from framefill.atomic import replacing
from framefill.codec.bounded import decode_field, encode_field
from framefill.codec.container import Contents, Extra, PartLost, pack, unpack
from framefill.codec.header import Colour, Depth, Header, Kind, Limits
from framefill.errors import BadInput, CodecError, FramefillError, MediaError, NotInstalled

if TYPE_CHECKING:
    import xarray as xr

INDEX = 6  # kind of the extra that has the index
GROUP = 1 << 22  # numbers
NO_MODEL = bytes(4)
SUFFIXES = (".nc", ".nc4", ".cdf", ".zarr")
LONGEST = 1 << 26  # bytes of an index
Bounds = Mapping[str, float] | float


@dataclass(frozen=True)
class Entry:
    """One variable: its shape, attributes (as `_plain` makes them), bound, and rows of the first dimension per group.

    `rows` 0: the variable is one chunk of its own bytes, packed by zlib, or a list of texts.
    """

    name: str
    dims: list[str]
    shape: list[int]
    dtype: str
    attrs: dict[str, Any]
    coordinate: bool
    bound: float
    rows: int

    @property
    def count(self) -> int:
        """How many groups there are."""
        return -(-self.shape[0] // self.rows) * math.prod(self.shape[1:-2]) if self.rows else 1

    @property
    def parts(self) -> list[tuple[int, int, int]]:
        """The groups: first row, row behind the last, and number of the slice along the dimensions in between."""
        if not self.rows:
            return [(0, 0, 0)]
        starts = range(0, self.shape[0], self.rows)
        return [
            (start, min(start + self.rows, self.shape[0]), k)
            for start in starts
            for k in range(math.prod(self.shape[1:-2]))
        ]


def compress_dataset(
    source: "Path | str | xr.Dataset", out: Path, *, max_error: Bounds = 0.0, relative: Bounds | None = None
) -> Path:
    """Writes a data set (NetCDF file, Zarr store or xarray's) to one file, and gives its path.

    `max_error`: how far numbers of floats may be off, in units of the file; one for all, or by variable (others: 0, the
    same bits). `relative`: the same as a share of the variable's range, largest less smallest. Whole numbers, text,
    coordinates, masks and infinities are exact always. BadInput for names that are not there and bounds below 0.
    """
    with _opened(source) as dataset:
        entries = [_entry(dataset, str(name), max_error, relative) for name in dataset.variables]
        for bounds in (max_error, relative or 0.0):
            unknown = {*bounds} - {e.name for e in entries if e.rows} if isinstance(bounds, Mapping) else set()
            if unknown:
                named = ", ".join(e.name for e in entries if e.rows) or "none"
                raise BadInput(f"no field is called {', '.join(sorted(unknown))}; fields of 3 dimensions are {named}")
        payloads = [[payload] for entry in entries for payload in _payloads(dataset, entry)]
        index = _index(dataset, entries)
    if not payloads:
        raise BadInput("the data set has no variables")
    with replacing(out) as temporary:
        temporary.write_bytes(pack(_header(entries), payloads, [Extra(INDEX, index)] * 2))
    return out


def open_compressed(data: bytes | Path, *, limits: Limits | None = None, partial: bool = False) -> "xr.Dataset":
    """The data set in a file, undecoded as `xarray.open_dataset(decode_cf=False)`; groups are decoded when asked for.

    `xarray.decode_cf` makes times and masks of it. CodecError for damage; with `partial` lost groups of floats are NaN,
    with a warning `PartLost`.
    """
    _need("xarray")
    limits = limits or Limits()
    contents = unpack(data if isinstance(data, bytes) else data.read_bytes(), limits=limits)
    if contents.header.kind != Kind.FIELD:
        raise CodecError(f"the file has {contents.header.kind.name.lower()}s, not fields")
    front, entries = _read_index(contents, limits)
    try:
        return _dataset(front, entries, contents, limits, partial)
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # it agrees with the parts, not with itself
        raise CodecError("the file is damaged: its index says what cannot be") from error


def _dataset(
    front: dict[str, Any], entries: list[Entry], contents: Contents, limits: Limits, partial: bool
) -> "xr.Dataset":
    xr = _need("xarray")
    place, variables = 0, {}
    for entry in entries:
        chunks = contents.chunks[place : place + entry.count]
        place += entry.count
        held = _lazy(entry, chunks, limits, partial) if entry.rows else _whole(entry, chunks[0])
        attrs = {name: _back(value) for name, value in entry.attrs.items()}
        variables[entry.name] = xr.Variable(entry.dims, held, attrs)
    coordinates = [entry.name for entry in entries if entry.coordinate]
    found = xr.Dataset(variables, attrs={name: _back(value) for name, value in front["attrs"].items()})
    found = found.set_coords(coordinates)
    found.encoding["unlimited_dims"] = {*front["unlimited"]} & {*map(str, found.dims)}
    return found


def decompress_dataset(data: bytes | Path, out: Path, *, limits: Limits | None = None, partial: bool = False) -> Path:
    """Writes the data set in a file to NetCDF or Zarr, by the ending of `out`, group by group. Errors as above."""
    if out.suffix not in SUFFIXES:
        raise BadInput(f"{out} ends in '{out.suffix}'; fields are written as {', '.join(SUFFIXES)}")
    dataset = open_compressed(data, limits=limits, partial=partial)
    with _need("dask").config.set(scheduler="synchronous"):
        if out.suffix == ".zarr":
            if out.exists():
                raise BadInput(f"{out} is there already; choose another name")
            dataset.to_zarr(out, mode="w-", consolidated=False)
        else:
            _need("h5netcdf")
            with replacing(out) as temporary:
                dataset.to_netcdf(temporary, engine="h5netcdf", unlimited_dims=dataset.encoding["unlimited_dims"])
    return out


def _need(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise NotInstalled(f"fields need {module}, which is not here; run: pip install 'framefill[climate]'") from error


def _opened(source: "Path | str | xr.Dataset") -> "xr.Dataset":
    xr = _need("xarray")
    if isinstance(source, xr.Dataset):
        return _undecoded(source)
    place = Path(source)
    if not place.exists():
        raise MediaError(f"{place}: there is no such file or folder")
    try:
        if place.is_dir():
            _need("zarr")
            return xr.open_dataset(place, engine="zarr", decode_cf=False, cache=False, consolidated=False, chunks=None)
        with place.open("rb") as file:
            engine = "h5netcdf" if file.read(8) == b"\x89HDF\r\n\x1a\n" else "netcdf4"
        return xr.open_dataset(place, engine=engine, decode_cf=False, cache=False)
    except FramefillError:
        raise
    except Exception as error:
        raise MediaError(f"{place} cannot be opened as NetCDF or Zarr: {' '.join(str(error).split())[:160]}") from error


def _undecoded(dataset: "xr.Dataset") -> "xr.Dataset":
    """Times as numbers with units; what the variables were packed with elsewhere is not used again."""
    made = dataset.copy()
    for variable in made.variables.values():
        kept = ("units", "calendar", "_FillValue") if variable.dtype.kind in "mMO" else ("_FillValue",)
        variable.encoding = {key: value for key, value in variable.encoding.items() if key in kept}
        if variable.dtype.kind == "f" and "_FillValue" not in variable.attrs:
            variable.encoding.setdefault("_FillValue", None)  # or xarray would add one
    coordinates = list(made.coords)
    variables, attrs = _need("xarray").conventions.cf_encoder(made.variables, made.attrs)
    return _need("xarray").Dataset(variables, attrs=attrs).set_coords(coordinates)


def _entry(dataset: "xr.Dataset", name: str, max_error: Bounds, relative: Bounds | None) -> Entry:
    variable, shape = dataset.variables[name], list(dataset.variables[name].shape)
    field = len(shape) > 2 and _codable(variable.dtype) and name not in dataset.coords
    rows = max(GROUP // max(math.prod(shape[-2:]), 1), 1) if field and 0 not in shape else 0
    attrs = {str(key): _plain(value) for key, value in variable.attrs.items()}
    dtype = "O" if variable.dtype.kind in "OT" else variable.dtype.newbyteorder("<").str
    dims, rows = [str(dim) for dim in variable.dims], min(rows, shape[0]) if rows else 0
    entry = Entry(name, dims, shape, dtype, attrs, name in dataset.coords, 0.0, rows)
    if not rows or variable.dtype.kind != "f":
        return entry
    bound = max_error.get(name, 0.0) if isinstance(max_error, Mapping) else max_error
    share = relative.get(name, 0.0) if isinstance(relative, Mapping) else relative or 0.0
    for value in (bound, share):
        if not 0 <= value < math.inf:
            raise BadInput(f"{name}: a bound of {value}; give 0 (the same bits) or a positive number")
    if share:
        own = share * _range(dataset, entry)
        bound = min(bound, own) if bound else own
    return replace(entry, bound=float(bound))


def _codable(dtype: np.dtype) -> bool:
    """Whether `encode_field` takes such numbers."""
    return dtype.kind in "fiub" and dtype.itemsize <= 8


def _groups(dataset: "xr.Dataset", entry: Entry) -> Iterator[NDArray[Any]]:
    """The parts of a field (T, H, W), read one group at a time."""
    for start in range(0, entry.shape[0], entry.rows):
        part = np.asarray(dataset.variables[entry.name][start : start + entry.rows].values)
        part = part.reshape(len(part), -1, *entry.shape[-2:])
        for k in range(part.shape[1]):
            yield part[:, k]


def _fills(entry: Entry) -> list[Any]:
    found = (_back(entry.attrs[key]) for key in ("_FillValue", "missing_value") if key in entry.attrs)
    values = [value for found_one in found for value in np.ravel(found_one).tolist()]
    return [value for value in values if isinstance(value, int | float) and value == value]


def _range(dataset: "xr.Dataset", entry: Entry) -> float:
    low, high = math.inf, -math.inf
    for part in _groups(dataset, entry):
        good = np.isfinite(part)
        for fill in _fills(entry):
            good &= part != np.asarray(fill).astype(part.dtype)
        if good.any():
            low, high = min(low, float(part[good].min())), max(high, float(part[good].max()))
    return max(high - low, 0.0) if high >= low else 0.0


def _payloads(dataset: "xr.Dataset", entry: Entry) -> Iterator[bytes]:
    if entry.rows:
        for part in _groups(dataset, entry):
            yield encode_field(part, entry.bound, fills=_fills(entry))
        return
    values = np.asarray(dataset.variables[entry.name].values)
    if entry.dtype == "O":
        if not all(isinstance(value, str) for value in values.ravel().tolist()):
            raise BadInput(f"{entry.name} has objects that are not text; leave it out")
        yield zlib.compress(json.dumps(values.ravel().tolist()).encode(), 9)
    else:
        yield zlib.compress(np.ascontiguousarray(values).astype(entry.dtype).tobytes(), 9)


def _plain(value: Any) -> Any:
    """An attribute as JSON has it: text as it is, numbers with their type."""
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "OUS":
        return {"texts": [v.decode() if isinstance(v, bytes) else str(v) for v in array.ravel().tolist()]}
    single = not isinstance(value, np.ndarray | list | tuple)
    little = array.astype(array.dtype.newbyteorder("<"))
    return {"type": little.dtype.str, "hex": little.tobytes().hex(), "shape": None if single else list(array.shape)}


def _back(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if "texts" in value:
        return value["texts"]
    array = np.frombuffer(bytes.fromhex(value["hex"]), np.dtype(value["type"]))
    array = array.astype(array.dtype.newbyteorder("="))
    return array[0] if value["shape"] is None else array.reshape(value["shape"])


def _index(dataset: "xr.Dataset", entries: list[Entry]) -> bytes:
    unlimited = sorted(map(str, dataset.encoding.get("unlimited_dims", ())))
    attrs = {str(key): _plain(value) for key, value in dataset.attrs.items()}
    index = {"attrs": attrs, "unlimited": unlimited, "variables": [asdict(entry) for entry in entries]}
    return zlib.compress(json.dumps(index).encode(), 9)


def _read_index(contents: Contents, limits: Limits) -> tuple[dict[str, Any], list[Entry]]:
    held = next((extra.data for extra in contents.extras if extra.kind == INDEX), None)
    if held is None:
        raise CodecError("the file is damaged: neither copy of its index, which is at its end, arrived; fetch it again")
    try:
        index = json.loads(zlib.decompressobj().decompress(held, LONGEST))
        entries = [Entry(**entry) for entry in index["variables"]]
        sound = all(_sound(entry, limits) for entry in entries) and len({e.name for e in entries}) == len(entries)
        if not sound or sum(entry.count for entry in entries) != len(contents.chunks):
            raise CodecError("the file is damaged: its index does not fit its parts, or is over the limits")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, zlib.error) as error:
        raise CodecError("the file is damaged: its index cannot be read") from error
    return index, entries


def _sound(entry: Entry, limits: Limits) -> bool:
    sides = [side for side in entry.shape if isinstance(side, int) and 0 <= side < 1 << 40]
    if len(sides) != len(entry.shape) or len(sides) != len(entry.dims) or not 0 <= entry.rows <= max([*sides, 0]):
        return False
    dtype = np.dtype(entry.dtype)
    if (entry.dtype != "O" and dtype.hasobject) or (entry.rows and not _codable(dtype)) or type(entry.rows) is not int:
        return False
    return math.prod(sides) <= limits.samples and (not entry.rows or (len(sides) > 2 and math.prod(sides) > 0))


def _whole(entry: Entry, chunk: bytes | None) -> NDArray[Any]:
    if chunk is None:
        raise CodecError(f"{entry.name} is damaged; fetch the file again")
    try:
        if entry.dtype == "O":
            texts = json.loads(zlib.decompressobj().decompress(chunk, LONGEST))
            return np.array(texts, object).reshape(entry.shape)
        size = math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
        held = zlib.decompressobj().decompress(chunk, size + 1) if size else b""
        return np.frombuffer(held, np.dtype(entry.dtype)).reshape(entry.shape).copy()
    except (ValueError, RecursionError, zlib.error) as error:
        raise CodecError(f"{entry.name} is damaged: its numbers cannot be unpacked") from error


def _lazy(entry: Entry, chunks: tuple[bytes | None, ...], limits: Limits, partial: bool) -> Any:
    """A dask array whose chunks are groups."""
    array = _need("dask.array")
    between, (height, width) = entry.shape[1:-2], entry.shape[-2:]
    lost = [i for i, chunk in enumerate(chunks) if chunk is None]
    if lost and not (partial and np.dtype(entry.dtype).kind == "f"):
        first = entry.parts[lost[0]]
        raise CodecError(f"{entry.name} is damaged: {len(lost)} groups of {len(chunks)} are lost, first {first[:2]}")
    if lost:
        words = f"{len(lost)} of {len(chunks)} groups of {entry.name} are lost; they are NaN now"
        warnings.warn(words, PartLost, stacklevel=2)
    per = math.prod(between)
    rows = []
    for i in range(0, len(chunks), per):
        start, stop, _ = entry.parts[i]
        shape = (stop - start, *between, height, width)
        task = _need("dask").delayed(_group, pure=False)(entry, chunks[i : i + per], shape, limits)
        rows.append(array.from_delayed(task, shape, np.dtype(entry.dtype)))
    return array.concatenate(rows)


def _group(entry: Entry, chunks: tuple[bytes | None, ...], shape: tuple[int, ...], limits: Limits) -> NDArray[Any]:
    flat, dtype = (shape[0], *shape[-2:]), np.dtype(entry.dtype)
    parts = []
    for chunk in chunks:
        part = np.full(flat, np.nan, dtype) if chunk is None else decode_field(chunk, dtype, limits)
        if part.shape != flat:
            raise CodecError(f"{entry.name} is damaged: a group of {part.shape} where {flat} should be")
        parts.append(part)
    return np.stack(parts, 1).reshape(shape)


def _header(entries: list[Entry]) -> Header:
    fields = [entry for entry in entries if entry.rows]
    wide = any(entry.dtype.endswith("8") for entry in fields)
    height, width, times = (max((e.shape[k] for e in fields), default=1) for k in (-2, -1, 0))
    depth = Depth.FLOAT_64 if wide else Depth.FLOAT_32
    return Header(Kind.FIELD, NO_MODEL, width, height, times, max(len(fields), 1), depth=depth, colour=Colour.NONE)
