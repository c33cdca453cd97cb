"""Files of chunks written and read one chunk at a time, however long: what `container` does for those in memory.

A header says how long every chunk is and every checksum covers the header, so chunks wait in a temporary file until
the last is there; only their lengths are held. A reader maps the file and looks at one chunk at a time.
"""

import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from tempfile import TemporaryFile
from typing import BinaryIO

from framefill.codec.container import CHECK, check
from framefill.codec.header import Buffer, Header, Layout, Limits, read, varint, write
from framefill.errors import BadInput, CodecError

PIECE = 1 << 20


class Chunks:
    """Context manager that takes chunks one by one, and then writes the file of them. `count` is how many came."""

    def __init__(self) -> None:
        self._file: BinaryIO = TemporaryFile()  # noqa: SIM115  # closed in __exit__
        self._lengths = array("Q")

    def __enter__(self) -> "Chunks":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return len(self._lengths)

    @property
    def size(self) -> int:
        """Bytes of all chunks, and of their checksums."""
        return sum(self._lengths) + CHECK * self.count

    def add(self, payload: bytes) -> None:
        """One more."""
        self._file.write(payload)
        self._lengths.append(len(payload))

    def write(self, target: BinaryIO, header: Header, extras: Sequence[tuple[int, BinaryIO]] = ()) -> None:
        """The whole file. Extras are a kind and a file each, copied piece by piece. BadInput where nothing came."""
        if not self.count:
            raise BadInput("there is nothing to write; a file has one chunk or more")
        layout = Layout(tuple(self._lengths), tuple((kind, length_of(held)) for kind, held in extras))
        head = write(header, layout)
        target.write(head)
        start = zlib.crc32(head)
        self._file.seek(0)
        sources = [(self._file, length) for length in self._lengths]
        sources += [(held, length) for (_, held), (_, length) in zip(extras, layout.extras, strict=True)]
        for _, held in extras:
            held.seek(0)
        for index, (source, length) in enumerate(sources):
            _copy(source, length, target, zlib.crc32(varint(index), start))


def length_of(file: BinaryIO) -> int:
    """Bytes in a file."""
    return file.seek(0, 2)


def _copy(source: BinaryIO, length: int, target: BinaryIO, checksum: int) -> None:
    while length:
        piece = source.read(min(length, PIECE))
        if not piece:
            raise BadInput("a temporary file became shorter while it was read; free some space and try again")
        target.write(piece)
        checksum, length = zlib.crc32(piece, checksum), length - len(piece)
    target.write(checksum.to_bytes(CHECK, "little"))


@dataclass(frozen=True)
class Opened:
    """A file whose chunks are looked at one by one, as they are asked for."""

    data: Buffer
    header: Header
    layout: Layout
    places: Sequence[int]
    start: int

    @property
    def chunks(self) -> int:
        """How many the header says there are."""
        return len(self.layout.chunks)

    def chunk(self, index: int) -> bytes | None:
        """A payload, or an extra's behind the chunks; None where it did not arrive sound."""
        place, length = self.places[index], self._length(index)
        if length < 0 or place + length + CHECK > len(self.data):
            return None
        payload = bytes(self.data[place : place + length])
        return payload if check(self.start, index, payload) == self._said(place + length) else None

    def arrived(self) -> int:
        """How many chunks were not cut off: they lie within the file, sound or not.

        The last one's length may not be written; then it counts if it is sound.
        """
        known = [length for length in self.layout.chunks if length is not None]
        within = [p + n + CHECK <= len(self.data) for p, n in zip(self.places, known, strict=False)]
        return sum(within) + (len(known) < self.chunks and self.chunk(self.chunks - 1) is not None)

    def extras(self) -> Iterator[tuple[int, int]]:
        """Kind and index of every extra that lies within the file; `pieces` gives what is in it."""
        for number, (kind, length) in enumerate(self.layout.extras):
            index = self.chunks + number
            if self.places[index] + length + CHECK <= len(self.data):
                yield kind, index

    def pieces(self, index: int) -> Iterator[bytes]:
        """A payload, piece by piece; CodecError behind the last where it did not arrive sound."""
        place, left = self.places[index], self._length(index)
        checksum = zlib.crc32(varint(index), self.start)
        while left > 0:
            piece = bytes(self.data[place : place + min(left, PIECE)])
            if not piece:
                break
            yield piece
            checksum, place, left = zlib.crc32(piece, checksum), place + len(piece), left - len(piece)
        if left or checksum != self._said(place):
            raise CodecError("what travels along with the film is damaged; fetch the file again")

    def _length(self, index: int) -> int:
        """Of a chunk or extra; below zero where the last one's is not known, for the file is cut."""
        lengths = self.layout.chunks
        length = lengths[index] if index < len(lengths) else self.layout.extras[index - len(lengths)][1]
        return len(self.data) - CHECK - self.places[index] if length is None else length

    def _said(self, place: int) -> int:
        return int.from_bytes(self.data[place : place + CHECK], "little")


def opened(data: Buffer, limits: Limits | None = None) -> Opened:
    """The file; CodecError for one of another kind, a later version or claims over the limits."""
    header, layout, place = read(data, limits or Limits())
    lengths = [*(length or 0 for length in layout.chunks), *(length for _, length in layout.extras)]
    places = list(accumulate((length + CHECK for length in lengths), initial=place))[:-1]
    return Opened(data, header, layout, places, zlib.crc32(data[:place]))
