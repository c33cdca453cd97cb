"""Whole numbers kept exactly: stacks of planes, such as channels or times, as few bits as their smoothness allows.

Planes are predicted from coarse to fine (`order`), by laws that the encoder fits to them and sends along (`laws`),
and what is left is coded under `residues`. Nothing is learned beforehand, and everything a decoder does is exact in
whole numbers, a pass at a time (the interpolation of SZ3, Zhao et al. 2021, with weights of their own for every level).
"""

import zlib
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.codec import laws, order, residues
from framefill.codec.coder import Decoder, Encoder
from framefill.codec.fitted import fit
from framefill.codec.header import Limits, Reader, varint
from framefill.codec.laws import Law
from framefill.codec.order import Batch, Floats, Pass, Sight
from framefill.codec.tables import LARGEST, Ints
from framefill.codec.walk import Key, Missing, Visitor, keys, walk
from framefill.errors import BadInput, CodecError

FIRST, SERIES = 1, 2  # versions of a payload
DISTINCT = 256
SEED = 2  # shape of the seeds' residues
FEW = 1 << 18  # numbers of which both versions are tried
NARROW = 16  # a side that may be worth turning to the front
LONGEST = 1 << 20  # slices of a series: its sums stay within 64 bits


class Axis(IntEnum):
    """What follows each other in a stack: channels of one picture, or times."""

    CHANNELS = 0
    TIMES = 1

    def batches(self, count: int) -> list[Batch]:
        """The order of slices."""
        return order.channels(count) if self == Axis.CHANNELS else order.times(count)


@dataclass(frozen=True)
class Front:
    """What a payload says first: values are `levels`[v], or `low` + v, for v in 0..reach, then `spare` bits more.

    `turn`: of a series (version 2), which of the sides was brought to the front; `shape` is that of the turned stack.
    """

    axis: Axis
    shape: tuple[int, int, int]
    low: int
    reach: int
    spare: int
    levels: tuple[int, ...] = ()
    turn: int | None = None

    @property
    def batches(self) -> list[Batch]:
        """The order of slices."""
        return self.axis.batches(self.shape[0]) if self.turn is None else order.series(self.shape[0])

    @property
    def seed(self) -> int:
        """The width of the seeds: a sixteenth of the reach or so."""
        return 8 * max(self.reach.bit_length() - 1, 0)


def encode_planes(whole: NDArray[np.generic], *, axis: Axis = Axis.CHANNELS, missing: Missing = None) -> bytes:
    """The bytes of whole numbers (N, H, W) of any range that int64 has, N channels or times.

    Where `missing` (N, H, W) is true nothing is sent; a decoder must know the same. BadInput for other arrays.
    """
    values = _whole(whole, missing)
    return min((_packed(values, missing, axis, turn) for turn in _turns(axis, values.shape)), key=len)


def _turns(axis: Axis, shape: tuple[int, ...]) -> list[int | None]:
    """The ways that are tried; None is version 1."""
    shortest = int(np.argmin(shape))
    if axis == Axis.CHANNELS or max(shape) >= LONGEST:
        return [None]
    found: list[int | None] = [0] if shape[0] > 2 else []
    if shortest and shape[shortest] <= NARROW:
        found.append(shortest)
    return found if found and int(np.prod(shape)) > FEW else [None, *found]


def _packed(values: Ints, missing: Missing, axis: Axis, turn: int | None) -> bytes:
    if turn:
        values = np.moveaxis(values, turn, 0)
        missing = None if missing is None else np.moveaxis(missing, turn, 0)
    known = values.ravel() if missing is None else values[~missing]
    front = replace(_front(known, axis, values.shape), turn=turn)
    ranks = np.searchsorted(front.levels, values) if front.levels else (values >> front.spare) - front.low
    values = np.clip(ranks, 0, front.reach)
    bits = known & ((1 << front.spare) - 1)
    rest = zlib.compress(_split(bits, front.spare), 6) if front.spare else b""
    return _write(front) + (_encode(values, front, missing) if front.reach else b"") + rest


def decode_planes(data: bytes, limits: Limits | None = None, *, missing: Missing = None) -> Ints:
    """The whole numbers (N, H, W) int64 that `encode_planes` was given; 0 where `missing`.

    CodecError for anything else, and for claims over `limits` (numbers: 4 times the pixels), before anything is made.
    """
    reader = Reader(data)
    front = _read(reader, limits or Limits())
    if missing is not None:
        missing = np.moveaxis(missing, front.turn or 0, 0)
        if missing.shape != front.shape:
            raise CodecError(f"the planes are {front.shape}, what is missing {missing.shape}: parts of different files")
    values = _decode(reader, front, missing) if front.reach else np.zeros(front.shape, np.int64)
    values = np.array(front.levels)[values] if front.levels else (values + front.low) << front.spare
    if front.spare:
        kept = np.ones(front.shape, bool) if missing is None else ~missing
        values[kept] |= _joined(reader.data[reader.place :], front.spare, int(kept.sum()))
    elif reader.place != len(data):
        raise CodecError("the coded planes are damaged: there are bytes behind their end")
    values = values if missing is None else np.where(missing, 0, values)
    return np.moveaxis(values, 0, front.turn) if front.turn else values


def _whole(whole: NDArray[np.generic], missing: Missing) -> Ints:
    if whole.ndim != 3 or not whole.size or whole.dtype.kind not in "iub":
        raise BadInput(f"planes are whole numbers (N, H, W), none of them 0; got {whole.dtype} {whole.shape}")
    if missing is not None and missing.shape != whole.shape:
        raise BadInput(f"missing is {missing.shape}, the planes are {whole.shape}; give one truth value per number")
    if whole.dtype == np.uint64 and int(whole.max()) >= 1 << 63:
        raise BadInput(f"planes reach {int(whole.max())}; the format takes 64 bits with a sign")
    return whole.astype(np.int64)


def _front(known: Ints, axis: Axis, shape: tuple[int, ...]) -> Front:
    low, high = (int(known.min()), int(known.max())) if known.size else (0, 0)
    spare = max((high - low).bit_length() - 31, 0)
    spare += (high >> spare) - (low >> spare) > LARGEST
    depth, height, width = shape
    front = Front(axis, (depth, height, width), low >> spare, (high >> spare) - (low >> spare), spare)
    levels = np.unique(known[:: max(known.size // 10_000, 1)])
    if spare == 0 and 1 < 2 * len(levels) <= high - low + 2:
        levels = np.unique(known)
        if len(levels) <= DISTINCT and 2 * len(levels) <= high - low + 2:
            return Front(axis, front.shape, 0, len(levels) - 1, 0, tuple(levels.tolist()))
    return front


def _write(front: Front) -> bytes:
    way = [FIRST, int(front.axis)] if front.turn is None else [SERIES, front.turn]
    head = [*way, *front.shape, *_signed(front.levels[0] if front.levels else front.low)]
    head += [len(front.levels), *(np.diff(front.levels).tolist() if front.levels else [front.reach, front.spare])]
    return b"".join(map(varint, head))


def _signed(value: int) -> tuple[int, int]:
    code = -2 * value - 1 if value < 0 else 2 * value
    return code & 0xFFFFFFFF, code >> 32


def _read(reader: Reader, limits: Limits) -> Front:
    way, shape = _read_shape(reader, limits)
    code = reader.number() | reader.number() << 32
    low, count = -(code + 1) // 2 if code & 1 else code // 2, reader.number()
    if not count:
        reach, spare = reader.number(), reader.number()
        if (
            reach > LARGEST
            or spare > 33
            or not -(1 << 63) <= low << spare <= ((low + reach + 1) << spare) - 1 < 1 << 63
        ):
            raise CodecError("the coded planes are damaged: they reach beyond 64 bits")
        return Front(shape=shape, low=low, reach=reach, spare=spare, **way)
    if count > DISTINCT:
        raise CodecError(f"the coded planes are damaged: a list of {count} values")
    levels = tuple(accumulate([low, *(reader.number() for _ in range(count - 1))]))
    if not -(1 << 63) <= levels[0] <= levels[-1] < 1 << 63:
        raise CodecError("the coded planes are damaged: they reach beyond 64 bits")
    return Front(shape=shape, low=0, reach=count - 1, spare=0, levels=levels, **way)


def _read_shape(reader: Reader, limits: Limits) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """Axis and turn, and the sides of the stack as it is coded."""
    version = reader.number()
    if version not in (FIRST, SERIES):
        raise CodecError("the coded planes have a later version: update framefill")
    way, *shape = (reader.number() for _ in range(4))
    if way > (max(Axis) if version == FIRST else 2) or min(shape) < 1 or (version == SERIES and shape[0] >= LONGEST):
        raise CodecError("the coded planes are damaged: their sides or their axis have no meaning")
    back = [*shape]
    if version == SERIES:
        back.insert(way, back.pop(0))
    depth, height, width = back
    samples = depth * height * width
    if height * width > limits.pixels or depth > limits.pictures or samples > min(limits.samples, 4 * limits.pixels):
        raise CodecError(f"planes of {depth} x {height} x {width} are over the limits; raise Limits to read them")
    found = {"axis": Axis(way), "turn": None} if version == FIRST else {"axis": Axis.TIMES, "turn": way}
    return found, (shape[0], shape[1], shape[2])


class _Send(Visitor):
    """Codes values."""

    def __init__(self, values: Ints, missing: Missing, held: dict[Key, Law], front: Front):
        self.values, self.missing, self.laws, self.front = values, missing, held, front
        self.coder = Encoder()
        self.low = [np.zeros(0, np.uint8)]

    def seeds(self, batch: Batch, base: Floats) -> Floats:
        own = order.seeds(self.values[batch.slices])
        means = 16 * base if len(batch.seen) else base + 16 * (self.front.reach // 2)
        flat = np.zeros(own.size, np.int64)
        gone = None if self.missing is None else order.seeds(self.missing[batch.slices]).ravel()
        return self._send(own.ravel(), means.ravel(), flat + SEED, flat + self.front.seed, gone).reshape(own.shape)

    def visit(self, batch: Batch, own: Pass, sight: Sight) -> tuple[Floats, Floats]:
        law = self.laws[batch.kind, own.kind]
        means = law.means(sight, self.front.reach)
        values = order.sites(self.values[batch.slices], own).ravel()
        gone = None if self.missing is None else order.sites(self.missing[batch.slices], own).ravel()
        return self._send(values, means, *law.widths(sight), gone).astype(means.dtype), means

    def _send(self, values: Ints, means: Floats, shapes: Ints, widths: Ints, gone: Missing) -> Ints:
        rows, base, bits = residues.law(shapes, widths, means.astype(np.int64))
        if gone is not None:
            values = np.where(gone, (means.astype(np.int64) + 8) >> 4, values)
            there = ~gone
            self._code((values - base)[there], rows[there], bits[there])
        else:
            self._code(values - base, rows, bits)
        return values

    def _code(self, left: Ints, rows: Ints, bits: Ints) -> None:
        self.coder.write(left >> bits, rows, residues.tables())
        if bits.any():
            self.low.append(residues.pack(left, bits))


class _Receive(Visitor):
    """Decodes values."""

    def __init__(self, message: bytes, low: NDArray[np.uint8], missing: Missing, front: Front):
        self.coder, self.low, self.missing, self.front = Decoder(message), low, missing, front
        self.laws: dict[Key, Law] = {}

    def seeds(self, batch: Batch, base: Floats) -> Floats:
        means = 16 * base if len(batch.seen) else base + 16 * (self.front.reach // 2)
        flat = np.zeros(base.size, np.int64)
        gone = None
        if self.missing is not None:
            gone = order.seeds(self.missing[batch.slices]).ravel()
        return self._take(means.ravel(), flat + SEED, flat + self.front.seed, gone).reshape(base.shape)

    def visit(self, batch: Batch, own: Pass, sight: Sight) -> tuple[Floats, Floats]:
        law = self.laws[batch.kind, own.kind]
        means = law.means(sight, self.front.reach)
        gone = None if self.missing is None else order.sites(self.missing[batch.slices], own).ravel()
        return self._take(means, *law.widths(sight), gone).astype(means.dtype), means

    def _take(self, means: Floats, shapes: Ints, widths: Ints, gone: Missing) -> Ints:
        rows, base, bits = residues.law(shapes, widths, means.astype(np.int64))
        if gone is None:
            values = base + self._code(rows, bits)
        else:
            values, there = (means.astype(np.int64) + 8) >> 4, ~gone
            values[there] = base[there] + self._code(rows[there], bits[there])
        if len(values) and not 0 <= values.min() <= values.max() <= self.front.reach:
            raise CodecError("the coded planes are damaged: a value is out of their range")
        return values

    def _code(self, rows: Ints, bits: Ints) -> Ints:
        left, count = self.coder.read(rows, residues.tables()), int(bits.sum())
        if not count:
            return left
        if count > len(self.low):
            raise CodecError("the coded planes are damaged: they end too soon")
        own, self.low = self.low[:count], self.low[count:]
        return (left << bits) | residues.unpack(own, bits)


def _encode(values: Ints, front: Front, missing: Missing) -> bytes:
    batches = front.batches
    held = fit(values, batches, front.reach, missing)
    sender = _Send(values, missing, held, front)
    wanted = keys(front.shape, batches)
    laws.write([held[key] for key in wanted], sender.coder)
    walk(front.shape, batches, sender, laws.container(list(held.values()), front.reach))
    message, low = sender.coder.message(), np.concatenate(sender.low)
    return varint(len(message)) + message + varint(len(low)) + np.packbits(low, bitorder="little").tobytes()


def _decode(reader: Reader, front: Front, missing: Missing) -> Ints:
    message = reader.take(reader.number())
    bits = reader.number()
    low = np.frombuffer(reader.take((bits + 7) // 8), np.uint8)
    receiver = _Receive(message, np.unpackbits(low, count=bits, bitorder="little"), missing, front)
    batches = front.batches
    wanted = keys(front.shape, batches)
    sizes = [(order.features(own, seen), order.sizes(seen)) for own, seen in wanted.values()]
    held = laws.read(sizes, receiver.coder)
    receiver.laws = dict(zip(wanted, held, strict=True))
    return walk(front.shape, batches, receiver, laws.container(held, front.reach)).astype(np.int64)


def _split(bits: Ints, spare: int) -> bytes:
    """Numbers (N,) of `spare` bits as planes of bytes, low ones first."""
    return b"".join((bits >> shift & 255).astype(np.uint8).tobytes() for shift in range(0, spare, 8))


def _joined(data: bytes, spare: int, count: int) -> Ints:
    expected = count * -(-spare // 8)
    opened = zlib.decompressobj()
    try:
        found = opened.decompress(data, expected + 1)
    except zlib.error as error:
        raise CodecError("the coded planes are damaged: their low bits cannot be unpacked") from error
    if len(found) != expected or not opened.eof or opened.unused_data:
        raise CodecError("the coded planes are damaged: their low bits are too few or too many")
    parts = np.frombuffer(found, np.uint8).reshape(-1, count).astype(np.int64)
    joined = (parts << 8 * np.arange(len(parts))[:, None]).sum(0)
    if count and joined.max() >> spare:
        raise CodecError("the coded planes are damaged: their low bits are too large")
    return joined
