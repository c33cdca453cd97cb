"""Symbols to bytes at the cost their tables state: a range coder, exact in whole numbers.

The state is an interval [low, low + range) of 64 bits. A symbol with frequencies before it c and its own f, in units
of 2^-24, shrinks it:  step = range >> 24,  low += step c,  range = step f;  below 2^32 both move up by 32 bits.
The message is the shortest byte string that, followed by zeros, lies in the last interval.

constriction does this in Rust. Its Categorical takes floats, scales them so that they sum to 2^24 - n, floors their
running sums and gives every symbol 1 more. Fed with f - 1 the scale is 1 and nothing is rounded, so our whole numbers
pass exactly; a test holds it to that, and so does its first use. Where it is not installed, or a later one codes
otherwise, Python does the same, to the byte, 4 times slower.
"""

import importlib.util
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.codec.tables import BITS, LARGEST, TOTAL, Ints, Tables, unzigzag, zigzag
from framefill.errors import BadInput, CodecError

PRECISION = 24
SCALE = PRECISION - BITS
WORD, FULL = 1 << 32, (1 << 64) - 1
MOST_DIGITS = 5
BYTES = Tables([np.full(256, TOTAL // 256, np.int64)], [0])  # of escapes; here the last entry is a byte like others


class Engine(ABC):
    """What codes entries of one row: constriction, or Python."""

    @abstractmethod
    def encode(self, entries: Ints, tables: Tables, row: int) -> None:
        """Appends entries (n,) of a row."""

    @abstractmethod
    def decode(self, count: int, tables: Tables, row: int) -> Ints:
        """The next `count` entries, all of one row."""

    @abstractmethod
    def interval(self) -> tuple[int, int, int]:
        """(low, range, bits): the message lies in [low, low + range) / 2^bits."""


@lru_cache(1)
def native() -> bool:
    """Is constriction installed, and does this version of it still write the bytes that Python writes?"""
    return importlib.util.find_spec("constriction") is not None and agrees()


def agrees() -> bool:
    """Do both engines come to the same interval on a message that has rare, common and equal symbols?"""
    table = Tables([np.array([1, TOTAL - 6, 2, 3], np.int64)], [0])
    entries = np.arange(64) * 7 // 3 % 4
    made = []
    for engine in (Native(), Plain()):
        engine.encode(entries, table, 0)
        engine.encode(entries, BYTES, 0)
        made.append(engine.interval())
    return made[0] == made[1]


class Native(Engine):
    """constriction's range coder."""

    def __init__(self, message: bytes | None = None):
        from constriction import stream

        self._model, queue = stream.model.Categorical, stream.queue
        if message is None:
            self._coder = queue.RangeEncoder()
        else:
            padded = message + bytes(12 - len(message) % 4)
            self._coder = queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))

    def _table(self, tables: Tables, row: int) -> Any:
        if row not in tables.models:
            weights = (tables.row(row) << SCALE) - 1
            tables.models[row] = self._model(weights.astype(np.float64), perfect=False)
        return tables.models[row]

    def encode(self, entries: Ints, tables: Tables, row: int) -> None:
        """Appends entries (n,) of a row."""
        self._coder.encode(entries.astype(np.int32), self._table(tables, row))

    def decode(self, count: int, tables: Tables, row: int) -> Ints:
        """The next `count` entries; CodecError where no symbol has these bits."""
        try:
            return self._coder.decode(self._table(tables, row), count).astype(np.int64)
        except (AssertionError, ValueError) as error:
            raise CodecError("the coded symbols are damaged: no symbol has these bits") from error

    def interval(self) -> tuple[int, int, int]:
        """From the sealed message, which lies in it, and the state."""
        words, (low, span) = self._coder.pos()
        bits = 64 + 32 * words
        sealed = self._coder.get_compressed()
        inside = int.from_bytes(sealed.astype(">u4").tobytes(), "big") << (bits - 32 * len(sealed))
        return inside - (inside - low) % (FULL + 1), span, bits


class Plain(Engine):
    """The same in Python: for machines without constriction, and as the definition."""

    def __init__(self, message: bytes | None = None):
        self._low, self._range = 0, FULL
        self._done: list[int] = []  # words that have left the state; a carry may still reach them
        self._words = _words(message or b"")
        self._point = next(self._words) << 32 | next(self._words)

    def encode(self, entries: Ints, tables: Tables, row: int) -> None:
        """Appends entries (n,) of a row."""
        before = np.cumsum(tables.row(row)) - tables.row(row)
        for start, own in zip(before[entries].tolist(), tables.row(row)[entries].tolist(), strict=True):
            step = self._range >> PRECISION
            self._low += step * (start << SCALE)
            self._range = step * (own << SCALE)
            if self._low > FULL:
                self._carry()
            if self._range < WORD:
                self._done.append(self._low >> 32)
                self._low, self._range = self._low % WORD << 32, self._range << 32

    def _carry(self) -> None:
        self._low -= FULL + 1
        place = len(self._done) - 1
        while self._done[place] == WORD - 1:
            self._done[place] = 0
            place -= 1
        self._done[place] += 1

    def decode(self, count: int, tables: Tables, row: int) -> Ints:
        """The next `count` entries; CodecError where no symbol has these bits. The state is the point less low."""
        ends = (np.cumsum(tables.row(row)) << SCALE).tolist()
        found = []
        for _ in range(count):
            step = self._range >> PRECISION
            entry = bisect_right(ends, self._point // step)
            if entry == len(ends):
                raise CodecError("the coded symbols are damaged: no symbol has these bits")
            start = ends[entry - 1] if entry else 0
            self._point -= step * start
            self._range = step * (ends[entry] - start)
            if self._range < WORD:
                self._point, self._range = self._point << 32 | next(self._words), self._range << 32
            found.append(entry)
        return np.array(found, np.int64)

    def interval(self) -> tuple[int, int, int]:
        """All words and the state as one number."""
        words = np.array(self._done, ">u4").tobytes()
        return int.from_bytes(words, "big") << 64 | self._low, self._range, 64 + 32 * len(self._done)


def _words(message: bytes) -> Iterator[int]:
    """The message in words of 32 bits, then zeros for ever."""
    for place in range(0, len(message), 4):
        yield int.from_bytes(message[place : place + 4].ljust(4, b"\0"), "big")
    while True:
        yield 0


def shortest(low: int, span: int, bits: int) -> bytes:
    """The shortest bytes that, read as a binary fraction, lie in [low, low + span) / 2^bits."""
    if low == 0:
        return b""
    for length in range(max((bits - span.bit_length()) // 8 - 1, 0), bits // 8 + 1):
        unit = bits - 8 * length
        value = -(-low >> unit)
        if value << unit < low + span and value >> 8 * length == 0:
            return value.to_bytes(length, "big").rstrip(b"\0")
    raise AssertionError("an interval of the coder always holds a number of its own length")


def _groups(rows: Ints) -> tuple[Ints, list[tuple[int, int, int]]]:
    """The stable order by row, and (row, start, end) of every row that occurs."""
    order = np.argsort(rows.astype(np.uint16) if rows.max() < 1 << 16 else rows, kind="stable")  # 16 bits: by radix
    ordered = rows[order]
    cuts = np.flatnonzero(np.diff(ordered)) + 1
    starts, ends = [0, *cuts.tolist()], [*cuts.tolist(), len(rows)]
    return order, [(int(ordered[a]), a, b) for a, b in zip(starts, ends, strict=True)]


class Encoder:
    """Writes batches of symbols, each with its rows, and gives one message for all of them."""

    def __init__(self, engine: type[Native] | type[Plain] | None = None):
        self._engine = (engine or (Native if native() else Plain))()

    def write(self, symbols: NDArray[Any], rows: NDArray[Any], tables: Tables) -> None:
        """Appends symbols (N,), symbol i under row rows[i]; BadInput for symbols beyond 2^31 - 1."""
        symbols, rows = symbols.astype(np.int64), rows.astype(np.int64)
        if symbols.shape != rows.shape or symbols.ndim != 1:
            raise BadInput(f"symbols {symbols.shape} and rows {rows.shape} are not two lists of one length")
        if not len(symbols):
            return
        if max(-symbols.min(), symbols.max()) > LARGEST:
            raise BadInput(f"symbols reach {symbols.min()}..{symbols.max()}; the format takes +-{LARGEST}")
        entries, escaped = tables.entries(symbols, rows)
        order, groups = _groups(rows)
        ordered = entries[order]
        for row, start, end in groups:
            self._engine.encode(ordered[start:end], tables, row)
        left = zigzag(symbols[escaped])
        while len(left):
            more = left > 127
            self._engine.encode(left % 128 + 128 * more, BYTES, 0)
            left = left[more] >> 7

    def message(self) -> bytes:
        """Everything written so far."""
        return shortest(*self._engine.interval())


class Decoder:
    """Reads a message back, in the same batches with the same rows."""

    def __init__(self, message: bytes, engine: type[Native] | type[Plain] | None = None):
        self._engine = (engine or (Native if native() else Plain))(message)

    def read(self, rows: NDArray[Any], tables: Tables) -> Ints:
        """Symbols (N,) of rows (N,); CodecError where the message cannot be one of ours."""
        rows = rows.astype(np.int64)
        symbols = np.zeros(len(rows), np.int64)
        if not len(rows):
            return symbols
        order, groups = _groups(rows)
        ordered = np.concatenate([self._engine.decode(end - start, tables, row) for row, start, end in groups])
        symbols[order] = ordered
        escaped = symbols == tables.sizes[rows] - 1
        symbols += tables.lows[rows]
        symbols[escaped] = unzigzag(self._escapes(int(escaped.sum())))
        return symbols

    def _escapes(self, count: int) -> Ints:
        codes, open_ones = np.zeros(count, np.int64), np.arange(count)
        for digit in range(MOST_DIGITS):
            if not len(open_ones):
                break
            read = self._engine.decode(len(open_ones), BYTES, 0)
            codes[open_ones] |= (read & 127) << (7 * digit)
            open_ones = open_ones[read > 127]
        if len(open_ones) or (count and codes.max() > 2 * LARGEST):
            raise CodecError("the coded symbols are damaged: an escaped symbol is larger than the format takes")
        return codes
