"""Transparency, kept exactly: a plane of whole numbers as bytes that stand for themselves."""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.errors import CodecError


def encode(plane: NDArray[Any]) -> bytes:
    """A plane uint8 or uint16 (H, W): differences to the left, zlib."""
    steps = np.diff(plane, axis=1, prepend=np.zeros((len(plane), 1), plane.dtype))
    return zlib.compress(steps.astype(plane.dtype.newbyteorder("<")).tobytes(), 9)


def decode(data: bytes, shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
    """The plane; CodecError where the bytes are not one of this shape. No more is unpacked than it has."""
    kind = np.dtype(dtype).newbyteorder("<")
    size = shape[0] * shape[1] * kind.itemsize
    try:
        unpacker = zlib.decompressobj()
        found = unpacker.decompress(data, size + 1)
    except zlib.error as error:
        raise CodecError("the file's transparency is damaged; fetch it again") from error
    if len(found) != size:
        raise CodecError("the file's transparency is not that of a picture of its size; fetch it again")
    return np.cumsum(np.frombuffer(found, kind).reshape(shape), axis=1, dtype=np.dtype(dtype))
