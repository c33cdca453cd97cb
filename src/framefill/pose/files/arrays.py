"""Arrays out of a .npz of others: numbers and text only, and never more bytes than the archive really has.

`numpy.load` makes room for an array as long as its header says before it reads one byte; here the header is compared
with the member first, and a member is read in one call that cannot give more than its limit.
"""

import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from framefill.errors import MediaError

LARGEST = 2**30  # bytes of one array


def names(path: Path) -> list[str]:
    """What the arrays of the archive are called, sorted. Raises MediaError."""
    with _opened(path) as archive:
        return sorted(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))


def read(path: Path, wanted: Collection[str]) -> dict[str, NDArray]:
    """The arrays among `wanted` that the archive has. Raises MediaError for one that is damaged, or holds objects."""
    with _opened(path) as archive:
        members = {name: f"{name}.npy" for name in wanted if f"{name}.npy" in archive.namelist()}
        return {name: _array(archive, member) for name, member in members.items()}


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (OSError, ValueError, EOFError, SyntaxError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        raise MediaError(f"{path} cannot be read as an .npz of plain arrays ({reason}); take another copy") from error


def need(path: Path, arrays: dict[str, NDArray], name: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """One array of finite float64 numbers of that shape, None standing for any size. Raises MediaError."""
    if name not in arrays:
        raise MediaError(f"{path} has no array {name!r}; it has {', '.join(sorted(arrays)) or 'none that is needed'}")
    array = arrays[name]
    fits = array.ndim == len(shape) and all(w in (None, n) for w, n in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        wanted = "x".join("any" if n is None else str(n) for n in shape)
        raise MediaError(f"{path}: {name!r} is {array.dtype} {array.shape}; it must be {wanted} finite numbers")
    return array.astype(np.float64)


def _array(archive: zipfile.ZipFile, member: str) -> NDArray:
    with archive.open(member) as file:
        shape, fortran, dtype = _header(file)
        if dtype.kind not in "fiubSU":
            raise ValueError(f"{member} holds {dtype}")
        size = dtype.itemsize
        for length in shape:
            size *= length
        if size > LARGEST:
            raise ValueError(f"{member} claims {size} bytes, {LARGEST} are allowed")
        data = file.read(size)
        if len(data) != size:
            raise ValueError(f"{member} ends after {len(data)} of {size} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)
