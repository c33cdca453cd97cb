"""Frames in files that are not films: NumPy arrays, HDF5 data sets, pages of one TIFF.

Each is read frame by frame with the memory of one frame. An array is (T, H, W) or (T, H, W, C) of uint8, uint16 or
floats in [0, 1], with any number of channels. Where a file holds several arrays, its path names one after two colons:
`scan.h5::volume`, `scan.npz::after`.
"""

import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from framefill.errors import MediaError
from framefill.video.clip import DEPTHS, MAX_CHANNELS, to_words

Frame = Callable[[], np.ndarray]
ARRAYS = (".npy", ".npz", ".h5", ".hdf5")
TIFF = (".tif", ".tiff")
# A header may claim any size, and one frame of it has to fit in memory: this is twice 8K.
MAX_PIXELS = 64_000_000


class Stack(NamedTuple):
    """An array in a file: `shape` (T, H, W, C), its `dtype`, and `rows`, its frames in order."""

    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Iterator[np.ndarray]


def check_size(path: Path, width: int, height: int) -> None:
    """MediaError for a frame of more than 64 million pixels."""
    if width * height > MAX_PIXELS:
        raise MediaError(f"{path}: a frame of {width}x{height} pixels; at most {MAX_PIXELS} pixels are read")


def split_name(path: Path) -> tuple[Path, str]:
    """File and array name of `file::name`; a file that is really called so is meant first."""
    text = str(path)
    if "::" not in text or os.path.lexists(path):
        return path, ""
    file, _, name = text.rpartition("::")
    return Path(file), name


def is_stack(path: Path) -> bool:
    """Whether `path` names an array file, with or without `::name`."""
    return split_name(path)[0].suffix.lower() in ARRAYS


@contextmanager
def opened(path: Path) -> Iterator[Stack]:
    """The array in `path`, checked: kind of numbers, axes, size. Errors of the libraries pass through."""
    file, name = split_name(path)
    with ExitStack() as stack:
        found = _OPENERS[file.suffix.lower()](stack, file, name)
        _check(path, found)
        yield found


def array_frames(path: Path, *, deep: bool) -> Iterator[Frame]:
    """The frames of an array file, uint8 (H, W, C), or uint16 if `deep`."""
    with opened(path) as stack:
        for row in stack.rows:
            yield partial(_levels, path, row if row.ndim == 3 else row[..., None], deep)


def pages(path: Path) -> int:
    """Pages of a picture file; 1 for all but TIFF."""
    if path.suffix.lower() not in TIFF:
        return 1
    with Image.open(path, formats=("TIFF",)) as picture:
        return int(getattr(picture, "n_frames", 1))


def picture(path: Path, *, deep: bool = False, page: int = 0, content: BinaryIO | None = None) -> np.ndarray:
    """Pixels of a picture, uint8 (H, W, 1 or 3), or uint16 if `deep`; of `content`, where that is in no file `path`."""
    with Image.open(content or path, formats=("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")) as image:
        if page:
            image.seek(page)
        check_size(path, *image.size)
        if image.mode.startswith("I;16"):  # Pillow's own conversion would cut off above 255
            words = np.asarray(image).astype(np.uint16)[..., None]
            return words if deep else ((words.astype(np.uint32) + 128) // 257).astype(np.uint8)
        if image.mode in ("I", "F"):
            raise MediaError(f"{path}: 32-bit pictures have no fixed range; save it with 8 or 16 bits")
        grey = image.mode in ("1", "L", "LA")
        pixels = np.array(image.convert("L" if grey else "RGB"))
    pixels = pixels[..., None] if grey else pixels
    return to_words(pixels) if deep else pixels


def of_8_bits(words: np.ndarray, path: Path | str = "it") -> np.ndarray:
    """A `deep` picture as the 8 bits it was made from; MediaError, which names `path`, where there are more."""
    if (words % 257).any():
        raise MediaError(f"{path} has 16 bits, and flows know 8; save it with 8 bits")
    return (words // 257).astype(np.uint8)


def _npy(stack: ExitStack, path: Path, name: str) -> Stack:
    if name:
        raise MediaError(f"{path}: a .npy file holds one array without a name; leave ::{name} away")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise MediaError(f"{path}: holds several arrays; name it .npz")
    return Stack(array.shape, array.dtype, iter(array))


def _npz(stack: ExitStack, path: Path, name: str) -> Stack:
    archive = stack.enter_context(zipfile.ZipFile(path))
    names = [member.removesuffix(".npy") for member in archive.namelist()]
    file = stack.enter_context(archive.open(_chosen(path, names, name) + ".npy"))
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if fortran or dtype.hasobject:
        raise MediaError(f"{path}: is stored column by column or holds objects; save np.ascontiguousarray(frames)")
    return Stack(shape, dtype, _unpacked(file, shape, dtype))  # type: ignore[arg-type]


def _unpacked(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    for i in range(shape[0]):
        data = file.read(size)
        if len(data) < size:
            raise ValueError(f"it ends within frame {i} of {shape[0]}")
        yield np.frombuffer(data, dtype).reshape(shape[1:])


def _hdf5(stack: ExitStack, path: Path, name: str) -> Stack:
    try:
        import h5py
    except ImportError as error:
        raise MediaError(f"{path}: reading HDF5 needs h5py: pip install 'framefill[arrays]'") from error
    file = stack.enter_context(h5py.File(path, "r"))
    names: list[str] = []
    # External links and external storage would let a file name others, so only arrays within it are offered.
    file.visititems(lambda key, item: names.append(key) if _is_film(item) else None)
    data = file[_chosen(path, names, name)]
    return Stack(data.shape, data.dtype, (data[i] for i in range(data.shape[0])))


def _is_film(item: Any) -> bool:
    return hasattr(item, "dtype") and item.ndim in (3, 4) and not item.external and not item.is_virtual


def _chosen(path: Path, names: list[str], name: str) -> str:
    if name in names or (not name and len(names) == 1):
        return name or names[0]
    offered = ", ".join(f"{path.name}::{other}" for other in sorted(names)[:8]) or "none"
    raise MediaError(f"{path}: which array? It has no {name!r}; give one of: {offered}")


_OPENERS: dict[str, Callable[[ExitStack, Path, str], Stack]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}


def _check(path: Path, stack: Stack) -> None:
    shape, dtype = stack.shape, stack.dtype
    if dtype.newbyteorder("=") not in DEPTHS and dtype.kind != "f":
        raise MediaError(f"{path}: holds {dtype}; give uint8, uint16, or floats in [0, 1]")
    if len(shape) not in (3, 4) or 0 in shape or (len(shape) == 4 and shape[3] > MAX_CHANNELS):
        raise MediaError(
            f"{path}: has shape {shape}; give (T, H, W) or (T, H, W, C), nothing empty, C up to {MAX_CHANNELS}"
        )
    check_size(path, shape[2], shape[1])


def _levels(path: Path, frame: np.ndarray, deep: bool) -> np.ndarray:
    if frame.dtype == np.uint8:
        return to_words(np.array(frame)) if deep else np.array(frame)
    if frame.dtype.kind == "u":
        words = frame.astype(np.uint32)
        return words.astype(np.uint16) if deep else ((words + 128) // 257).astype(np.uint8)
    if not ((frame >= 0) & (frame <= 1)).all():  # false for NaN too
        raise MediaError(f"{path}: holds NaN or values outside [0, 1]; give floats in [0, 1], or uint8 or uint16")
    top, kind = (65535, np.uint16) if deep else (255, np.uint8)
    return (np.asarray(frame, np.float64) * top).round().astype(kind)
