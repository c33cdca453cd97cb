"""Transparency, kept exactly: a plane of whole numbers (`codec.planes`)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.codec.header import Limits
from framefill.codec.planes import decode_planes, encode_planes
from framefill.errors import CodecError


def encode(plane: NDArray[Any]) -> bytes:
    """The bytes of a plane uint8 or uint16 (H, W)."""
    return encode_planes(plane[None])


def decode(data: bytes, shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
    """The plane; CodecError where the bytes are not one of this shape and type."""
    found = decode_planes(data, Limits(pixels=shape[0] * shape[1]))
    if found.shape != (1, *shape) or found.min() < 0 or found.max() > np.iinfo(dtype).max:
        raise CodecError("the file's transparency is not that of a picture of its size; fetch it again")
    return found[0].astype(dtype)
