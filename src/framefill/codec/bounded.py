"""Fields of numbers within a bound, never further off than was asked.

      q = round(x / step),     x' = step q,     step 2 e, less what rounding needs

With bound 0 they are sent as their bits, in order of size. What is no ordinary number (NaN, infinities, fill values)
is kept to the bit. A field is decoded and compared before anything is returned.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.codec.header import Limits, Reader, varint
from framefill.codec.planes import Axis, decode_planes, encode_planes
from framefill.codec.tables import Ints
from framefill.errors import BadInput, CodecError

BITS, STEPS, WHOLE = 0, 1, 2  # how the numbers of a field are sent
ROOM = (1 - 2.0**-20, 0.999, 0.99, 0.9)  # of the step 2 e, tried in turn
MOST = 2.0**61
SPECIALS = 64


def encode_field(values: NDArray[Any], bound: float = 0.0, *, fills: Sequence[Any] = ()) -> bytes:
    """Numbers (T, H, W) of any float or whole type within `bound` (absolute; 0: the same bits).

    Numbers equal to one of `fills` are kept exactly, like NaN and infinities. BadInput for other types and bounds.
    """
    if not 0 <= bound < np.inf:
        raise BadInput(f"a bound of {bound}; give 0 (the same bits) or a positive number")
    if values.ndim != 3 or not values.size or values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        raise BadInput(f"a field is (T, H, W) of floats or whole numbers to 64 bits, got {values.dtype} {values.shape}")
    values = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))
    codes, specials = _specials(values, fills)
    missing = codes > 0 if codes.any() else None
    front = varint(len(specials)) + b"".join(special.tobytes() for special in specials)
    if missing is not None:
        mask = encode_planes(codes, axis=Axis.TIMES)
        front += varint(len(mask)) + mask
    for room in ROOM if bound and values.dtype.kind == "f" else ():
        step = 2 * bound * room
        whole = np.where(missing, 0, values.astype(np.float64)) if missing is not None else values.astype(np.float64)
        with np.errstate(over="ignore"):
            whole = np.round(whole / step)
        if step > 0 and np.abs(whole).max() < MOST and _keeps(values, whole.astype(np.int64), step, bound, missing):
            packed = encode_planes(whole.astype(np.int64), axis=Axis.TIMES, missing=missing)
            return bytes([STEPS]) + struct.pack("<d", step) + front + packed
    kind = BITS if values.dtype.kind == "f" else WHOLE
    return bytes([kind]) + front + encode_planes(ordered(values), axis=Axis.TIMES, missing=missing)


def _keeps(values: NDArray[Any], whole: Ints, step: float, bound: float, missing: NDArray[np.bool_] | None) -> bool:
    """Is what a decoder makes of `whole` within the bound, everywhere?"""
    made = _stepped(whole, step, values.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(made.astype(np.longdouble) - values.astype(np.longdouble))
    return bool(np.all((apart <= bound) | (False if missing is None else missing)))


def _stepped(whole: Ints, step: float, dtype: np.dtype) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        return (whole.astype(np.float64) * step).astype(dtype)


def decode_field(data: bytes, dtype: np.dtype, limits: Limits | None = None) -> NDArray[Any]:
    """The field (T, H, W) of `dtype`, which the payload does not say. CodecError for damage."""
    dtype = np.dtype(dtype).newbyteorder("=")
    reader = Reader(data)
    kind = reader.take(1)[0]
    if kind > WHOLE or (kind == WHOLE) != (dtype.kind != "f"):
        raise CodecError(f"the field is damaged, or not of {dtype}")
    step = struct.unpack("<d", reader.take(8))[0] if kind == STEPS else 1.0
    if not 0 < step < np.inf:
        raise CodecError("the field is damaged: its step is no positive number")
    count = reader.number()
    if count > SPECIALS:
        raise CodecError(f"the field is damaged: {count} special numbers")
    specials = np.frombuffer(reader.take(count * dtype.itemsize), dtype)
    codes = decode_planes(reader.take(reader.number()), limits) if count else None
    missing = None if codes is None else codes > 0
    if codes is not None and not 0 <= codes.min() <= codes.max() <= count:
        raise CodecError("the field is damaged: a special number that is not there")
    whole = decode_planes(data[reader.place :], limits, missing=missing)
    found = _stepped(whole, step, dtype) if kind == STEPS else disordered(whole, dtype)
    if codes is not None and missing is not None:
        found[missing] = specials[codes[missing] - 1]
    return found


def _specials(values: NDArray[Any], fills: Sequence[Any]) -> tuple[Ints, list[NDArray[Any]]]:
    """0 for ordinary numbers, k for the k-th pattern of bits of the others; and those patterns."""
    odd = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    for fill in fills:
        odd |= values == np.asarray(fill).astype(values.dtype)
    bits = _bits(values)
    patterns = np.unique(bits[odd])
    if len(patterns) > SPECIALS:
        raise BadInput(f"the field has {len(patterns)} kinds of NaN; make them one (numpy.nan), {SPECIALS} are allowed")
    codes = np.zeros(values.shape, np.int64)
    codes[odd] = np.searchsorted(patterns, bits[odd]) + 1
    return codes, [pattern.view(values.dtype) for pattern in patterns]


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    return values.view(f"i{values.dtype.itemsize}")


def ordered(values: NDArray[Any]) -> Ints:
    """Numbers as int64 of the same order, one to one: whole ones as they are, floats by their bits."""
    if values.dtype.kind != "f":
        return values.astype(np.int64)  # 64 bits without a sign wrap around
    bits = _bits(values).astype(np.int64)
    return np.where(bits < 0, bits ^ ((1 << (8 * values.dtype.itemsize - 1)) - 1), bits)


def disordered(whole: Ints, dtype: np.dtype) -> NDArray[Any]:
    """The inverse of `ordered`. CodecError for what does not fit."""
    size = 8 * dtype.itemsize
    if size < 64:
        low, high = (
            (0, 1 << (1 if dtype.kind == "b" else size)) if dtype.kind in "ub" else (-1 << size - 1, 1 << size - 1)
        )
        if whole.min() < low or whole.max() >= high:
            raise CodecError(f"the field is damaged: numbers that {dtype} does not have")
    if dtype.kind != "f":
        return whole.astype(dtype)
    bits = np.where(whole < 0, whole ^ ((1 << (size - 1)) - 1), whole)
    return bits.astype(f"i{dtype.itemsize}").view(dtype)
