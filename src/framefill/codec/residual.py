"""What is missing from a decoded picture, so that no level is off by more than a bound; whole numbers throughout.

      q = nearest((x - p) / step),     x' = p + step q within 0..top,     |x' - x| <= (step - 1) / 2 + drift

Over the decode p, drift is what rounding on another machine may change of it (`ROOM` levels), so the step for a bound e
is 2 (e - ROOM) + 1. From nothing, p is 0, nothing drifts, the step is 2 e + 1, and `codec.planes` predicts by itself;
with e = 0 that is lossless. The encoder takes what is shorter.
"""

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.codec.header import Depth, Limits, Reader, varint
from framefill.codec.planes import decode_planes, encode_planes
from framefill.errors import BadInput, CodecError

# Levels that the faithful decode may be apart on two machines, where floats in [-1, 1] are about 1e-4 apart.
ROOM = {Depth.BITS_8: 1, Depth.BITS_16: 8}


class Base(IntEnum):
    """What the residual is added to."""

    NOTHING = 0
    DECODE = 1


def encode(truth: NDArray[Any], decoded: NDArray[Any], bound: int, depth: Depth) -> bytes:
    """The shorter payload for levels (H, W, C) of the truth and of the decode. BadInput for a negative bound."""
    if bound < 0:
        raise BadInput(f"a bound of {bound} levels cannot be kept; give 0 (lossless) or more")
    bound = min(bound, int(np.iinfo(truth.dtype).max))  # no level can be off by more
    plain = _payload(truth.astype(np.int64), 2 * bound + 1, Base.NOTHING)
    if bound < ROOM[depth]:
        return plain
    missing = truth.astype(np.int64) - decoded
    return min(plain, _payload(missing, 2 * (bound - ROOM[depth]) + 1, Base.DECODE), key=len)


def _payload(missing: NDArray[np.int64], step: int, base: Base) -> bytes:
    return varint(step) + varint(base) + encode_planes(((missing + step // 2) // step).transpose(2, 0, 1))


def leans(payload: bytes) -> Base:
    """What the residual is added to; CodecError for anything else."""
    return _front(payload)[1]


def _front(payload: bytes) -> tuple[int, Base, bytes]:
    reader = Reader(payload)
    step, base = reader.number(), reader.number()
    if not (step % 2 and step < 2**18 and base in tuple(Base)):
        raise CodecError(f"the file's residual has step {step} over base {base}; it is damaged, fetch it again")
    return step, Base(base), payload[reader.place :]


def decode(payload: bytes, decoded: NDArray[Any]) -> NDArray[Any]:
    """Levels (H, W, C) of the type of `decoded`. CodecError unless the payload is one of this shape."""
    step, base, rest = _front(payload)
    height, width, channels = decoded.shape
    found = decode_planes(rest, Limits(pixels=height * width, channels=channels))
    if found.shape != (channels, height, width):
        raise CodecError(f"the file's residual has shape {found.shape}, not {(channels, height, width)}")
    start = decoded.astype(np.int64) if base == Base.DECODE else np.zeros(decoded.shape, np.int64)
    reach = 2**20  # a damaged payload can claim any number
    whole = start + step * np.clip(found, -reach, reach).transpose(1, 2, 0)
    return whole.clip(0, np.iinfo(decoded.dtype).max).astype(decoded.dtype)
