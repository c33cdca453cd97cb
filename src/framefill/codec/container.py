"""One file: a header, then chunks from coarse to fine, each with its own CRC-32, then extras (EXIF, ICC, sound).

      header, payload 0, crc 0, payload 1, crc 1, ...        crc i = CRC-32(header, varint i, payload i)

Because every checksum covers the header, one sound chunk proves it, and no chunk passes in another file or place.
A damaged byte costs one chunk, a truncated file keeps what came before; what is lost is always named. A single image
costs 20 bytes beside its payload (sides from 128 to 16383, seed below 128), a frame of a video 6 (4 of them the CRC).
"""

import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from framefill.codec.header import Header, Kind, Layout, Limits, read, varint, write
from framefill.errors import BadInput, CodecError

CHECK = 4


class PartLost(UserWarning):
    """A file was damaged or cut, and what is missing was filled in; the message says where."""


class ExtraKind(IntEnum):
    """What an extra holds; a reader passes over kinds that it does not know."""

    EXIF = 1
    ICC = 2
    SOUND = 3
    TEXT = 4
    ALPHA = 5


@dataclass(frozen=True)
class Extra:
    """Bytes that travel along; `kind` is an ExtraKind, or one of a later framefill."""

    kind: int
    data: bytes


@dataclass(frozen=True)
class Contents:
    """A file taken apart. Payloads that did not arrive sound are None, and `lost` has their numbers.

    Extras that did not arrive are missing from `extras`, and counted in `extras_lost`.
    """

    header: Header
    chunks: tuple[bytes | None, ...]
    extras: tuple[Extra, ...] = ()
    extras_lost: int = 0

    @property
    def lost(self) -> tuple[int, ...]:
        """Numbers of the chunks that are missing."""
        return tuple(i for i, chunk in enumerate(self.chunks) if chunk is None)

    @property
    def whole(self) -> bool:
        """Did everything arrive?"""
        return not self.lost and not self.extras_lost

    def part(self, index: int) -> tuple[bytes | None, ...]:
        """The layers of one part (a tile, a frame), coarse to fine."""
        header = self.header
        return tuple(self.chunks[number(header, len(self.chunks), index, layer)] for layer in range(header.layers))

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return len(self.chunks) // self.header.layers


def number(header: Header, chunks: int, part: int, layer: int) -> int:
    """Where the layer of a part is: videos go frame by frame, all others send the coarse layer of every tile first."""
    return part * header.layers + layer if header.kind == Kind.VIDEO else layer * (chunks // header.layers) + part


def pack(header: Header, parts: Sequence[Sequence[bytes]], extras: Sequence[Extra] = ()) -> bytes:
    """The file of payloads parts[part][layer]. BadInput unless every part has the layers that the header states."""
    if not parts or any(len(part) != header.layers for part in parts):
        raise BadInput(f"{len(parts)} parts: give at least one, each with {header.layers} layers")
    chunks = [b""] * (len(parts) * header.layers)
    for i, part in enumerate(parts):
        for layer, payload in enumerate(part):
            chunks[number(header, len(chunks), i, layer)] = payload
    layout = Layout(tuple(map(len, chunks)), tuple((extra.kind, len(extra.data)) for extra in extras))
    head = write(header, layout)
    payloads = [*chunks, *(extra.data for extra in extras)]
    start = zlib.crc32(head)
    return head + b"".join(
        payload + check(start, i, payload).to_bytes(CHECK, "little") for i, payload in enumerate(payloads)
    )


def unpack(data: bytes, *, limits: Limits | None = None, known: Collection[bytes] | None = None) -> Contents:
    """What is in a file, from its bytes; parts that did not arrive sound are None.

    `known` has the fingerprints of the models at hand. CodecError for a file of another kind or a later version, for
    claims over `limits`, for an unknown model, and where not one chunk is sound: then the header may be wrong too.
    """
    header, layout, place = read(data, limits or Limits())
    if known is not None and header.fingerprint not in known:
        raise CodecError(
            f"the file was made with model {header.fingerprint.hex()}, which is not here; "
            f"give its file (--model); known are {', '.join(sorted(k.hex() for k in known)) or 'none'}"
        )
    found = list(_payloads(data, place, layout))
    chunks, rest = found[: len(layout.chunks)], found[len(layout.chunks) :]
    if all(chunk is None for chunk in chunks):
        raise CodecError("the file is damaged: not one of its parts has a sound checksum; fetch it again")
    extras = [Extra(kind, held) for (kind, _), held in zip(layout.extras, rest, strict=True) if held is not None]
    return Contents(header, tuple(chunks), tuple(extras), len(rest) - len(extras))


def _payloads(data: bytes, place: int, layout: Layout) -> Iterator[bytes | None]:
    start = zlib.crc32(data[:place])
    lengths = [*layout.chunks, *(length for _, length in layout.extras)]
    for i, length in enumerate(lengths):
        end = len(data) - CHECK if length is None else place + length
        if end < place or end + CHECK > len(data):
            yield None
            place = len(data) if length is None else place + length + CHECK
            continue
        payload = data[place:end]
        sound = check(start, i, payload) == int.from_bytes(data[end : end + CHECK], "little")
        yield payload if sound and (i + 1 < len(lengths) or end + CHECK == len(data)) else None
        place = end + CHECK


def check(start: int, index: int, payload: bytes) -> int:
    """The CRC-32 of a payload; `start` is that of the header."""
    return zlib.crc32(payload, zlib.crc32(varint(index), start))


def fingerprint(tensors: dict[str, NDArray[np.generic]]) -> bytes:
    """The first 4 bytes of the sha256 over names, types, shapes and little-endian values, in the order of the names."""
    digest = sha256()
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name])
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name}\0{values.dtype.str}\0{values.shape}\0".encode() + values.tobytes())
    return digest.digest()[:4]


def truncated(data: bytes, layers: int) -> bytes:
    """The file cut behind so many whole layers of a picture (a smaller file that still opens, with the rest lost)."""
    header, layout, place = read(data, Limits(2**126, 2**63, 2**63, 2**252))
    if header.kind == Kind.VIDEO or not 1 <= layers <= header.layers:
        raise BadInput(
            f"{layers} layers of a {header.kind.name.lower()} with {header.layers}: give 1 to all of a picture's"
        )
    kept = layout.chunks[: layers * len(layout.chunks) // header.layers]
    return data if None in kept else data[: place + sum((length or 0) + CHECK for length in kept)]
