"""When the frames of a group are shown: nothing where a rate says all, else whole numbers of a unit, to the last one.

A payload begins with a varint: 0, frame i is shown at i / rate; 1, then unit (two varints, its numerator and
denominator in seconds) and the first frame's stamp, the others follow at the rate; 2, then unit, first stamp, and the
distance of every other from the one before. A stamp z is 2 z, or -2 z - 1 below zero.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from framefill.codec.header import Reader, varint
from framefill.errors import BadInput, CodecError

EVEN, FIRST, ALL = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Stamps:
    """Frames at a `rate` a second, from `start` seconds on; or at rising `stamps` (T,), in units of `base` seconds."""

    rate: Fraction
    start: Fraction = Fraction(0)
    stamps: NDArray[np.int64] | None = None
    base: Fraction = Fraction(1)

    def of(self, first: int, count: int) -> bytes:
        """How the payload of frames first .. first + count - 1 begins."""
        if self.stamps is None:
            moment = self.start + first / self.rate
            if not self.start:
                return varint(EVEN)
            unit = Fraction(1, moment.denominator)
            return _numbers(FIRST, unit.numerator, unit.denominator, _folded(moment.numerator))
        own = self.stamps[first : first + count]
        if len(own) != count:
            raise BadInput(f"there are {len(self.stamps)} time stamps, and more frames than that; save the film again")
        apart = np.diff(own).tolist()
        return _numbers(ALL, self.base.numerator, self.base.denominator, _folded(int(own[0])), *apart)


def taken(payload: bytes, first: int, count: int, rate: Fraction) -> tuple[list[Fraction], bytes]:
    """The times of a group's frames in seconds, and the rest of its payload; CodecError for another beginning."""
    reader = Reader(payload)
    way = reader.number()
    if way == EVEN:
        return [(first + i) / rate for i in range(count)], payload[reader.place :]
    if way not in (FIRST, ALL):
        raise CodecError("the time stamps of a group are damaged; fetch the file again")
    unit, code = _unit(reader), reader.number()
    stamp = code // 2 if code % 2 == 0 else -(code + 1) // 2
    if way == FIRST:
        return [stamp * unit + i / rate for i in range(count)], payload[reader.place :]
    stamps = [stamp]
    for _ in range(count - 1):
        stamps.append(stamps[-1] + reader.number())
    return [s * unit for s in stamps], payload[reader.place :]


def unit_of(payload: bytes) -> Fraction | None:
    """The unit that a group's stamps are counted in; None where frames are even from zero on. CodecError for none."""
    reader = Reader(payload)
    return None if reader.number() == EVEN else _unit(reader)


def _unit(reader: Reader) -> Fraction:
    above, below = reader.number(), reader.number()
    if not (above and below):
        raise CodecError("the time stamps of a group are damaged: a unit of nothing")
    return Fraction(above, below)


def _numbers(*values: int) -> bytes:
    return b"".join(map(varint, values))


def _folded(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1
