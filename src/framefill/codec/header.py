"""What a compressed file says about itself, in about 16 bytes; docs/bitstream.md has the layout.

      magic (3), version | kind | layers (1), depth | colour | range | extras (1), sampler | steps (1), fingerprint (4),
      seed, sides, more by kind, number of chunks, their lengths: varints

A varint has 7 bits a byte, low ones first, in the fewest bytes. A header stands in one form only: what is read and
written again is the same bytes. Nothing is believed before it is compared with the limits and with the file's size.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from mmap import mmap

from framefill.errors import BadInput, CodecError

Buffer = bytes | mmap
"""A file: its bytes, or itself mapped into memory."""

MAGIC = b"\xf1FC"
VERSION = 1
LAYERS = 4
STEPS = 31
LONGEST = 9  # bytes of a varint: 63 bits


class Kind(IntEnum):
    """What was compressed."""

    IMAGE = 0
    VIDEO = 1
    FIELD = 2


class Depth(IntEnum):
    """Numbers of a sample before it was compressed."""

    BITS_8 = 0
    BITS_10 = 1
    BITS_12 = 2
    BITS_16 = 3
    FLOAT_32 = 4
    FLOAT_64 = 5


class Colour(IntEnum):
    """What the channels are. NONE: just numbers."""

    NONE = 0
    GREY = 1
    GREY_ALPHA = 2
    RGB = 3
    RGBA = 4
    BT601 = 5
    BT709 = 6
    BT2020 = 7


class Sampler(IntEnum):
    """How to decode when nothing else is asked for. MODEL: as the model file says."""

    MODEL = 0
    MEAN = 1
    DDIM = 2
    DDPM = 3
    DPM_SOLVER = 4
    EULER = 5
    HEUN = 6
    CONSISTENCY = 7


@dataclass(frozen=True)
class Limits:
    """What a file may claim before anything is allocated; give larger ones for files that are trusted.

    `pixels` of one picture, `pictures` (frames or times), `channels` of a field, `samples` of all together.
    """

    pixels: int = 100_000_000
    pictures: int = 10_000_000
    channels: int = 4096
    samples: int = 10**12


@dataclass(frozen=True)
class Header:
    """Sides in pixels; `pictures` frames of a video at `rate` a second, or times of a field with `channels` each.

    `fingerprint` is the beginning of the model's sha256. `layers` 1..4 go from coarse to fine. `seed`, `sampler` and
    `steps` (1..31; 0: as the model file says) repeat the sender's decode.
    """

    kind: Kind
    fingerprint: bytes
    width: int
    height: int
    pictures: int = 1
    channels: int = 1
    rate: tuple[int, int] = (0, 1)
    layers: int = 1
    depth: Depth = Depth.BITS_8
    colour: Colour = Colour.RGB
    full_range: bool = True
    seed: int = 0
    sampler: Sampler = Sampler.MODEL
    steps: int = 0

    def __post_init__(self) -> None:
        whole = (self.width, self.height, self.pictures, self.channels, self.rate[1])
        if not 0 <= self.seed < 2**63:
            raise BadInput(f"seed {self.seed}; give 0 to 2^63 - 1")
        if not 0 <= self.steps <= STEPS:
            raise BadInput(f"{self.steps} steps; give 0 (the faithful picture) to {STEPS}")
        if min(whole) < 1 or self.rate[0] < 0 or max(*whole, self.rate[0]) >= 2**63:
            raise BadInput(f"sides, counts and rate are at least 1 and below 2^63; got {self}")
        if len(self.fingerprint) != 4 or not 1 <= self.layers <= LAYERS:
            raise BadInput(f"a header has 4 bytes of fingerprint and 1 to {LAYERS} layers; got {self}")

    def own(self) -> tuple[int, ...]:
        """The varints that only this kind has."""
        return {Kind.IMAGE: (), Kind.VIDEO: (self.pictures, *self.rate), Kind.FIELD: (self.channels, self.pictures)}[
            self.kind
        ]


@dataclass(frozen=True)
class Layout:
    """Where things are: payload lengths of chunks (None: what remains of the file), kinds and lengths of extras."""

    chunks: tuple[int | None, ...]
    extras: tuple[tuple[int, int], ...] = ()


def varint(value: int) -> bytes:
    """Seven bits a byte, low ones first; the eighth says that more follow."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def write(header: Header, layout: Layout) -> bytes:
    """The header's bytes. The last chunk's length is left out where nothing follows it."""
    first = VERSION << 4 | header.kind << 2 | header.layers - 1
    second = header.depth << 5 | header.colour << 2 | header.full_range << 1 | bool(layout.extras)
    numbers = [header.seed, header.width, header.height, *header.own(), len(layout.chunks)]
    numbers += [length or 0 for length in (layout.chunks if layout.extras else layout.chunks[:-1])]
    if layout.extras:
        numbers += [len(layout.extras), *(number for extra in layout.extras for number in extra)]
    third = header.sampler << 5 | header.steps
    return MAGIC + bytes([first, second, third]) + header.fingerprint + b"".join(map(varint, numbers))


@dataclass
class Reader:
    """Takes a header apart from the front; CodecError where it ends too soon."""

    data: Buffer
    place: int = field(default=0)

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if self.place + count > len(self.data):
            raise CodecError(f"the file ends inside its header, after {len(self.data)} bytes; fetch it again")
        self.place += count
        return bytes(self.data[self.place - count : self.place])

    def number(self) -> int:
        """The next varint."""
        value = 0
        for digit in range(LONGEST):
            byte = self.take(1)[0]
            value |= (byte & 127) << 7 * digit
            if byte < 128:
                if byte == 0 and digit:
                    break
                return value
        raise CodecError("the header is damaged: a number is not in its shortest form")

    def count(self, least: int) -> int:
        """A count of things that take at least `least` bytes each in this file, so it cannot be absurd."""
        count = self.number()
        if count * least > len(self.data) - self.place + least:
            raise CodecError(f"the header is damaged: {count} parts in a file of {len(self.data)} bytes")
        return count


def read(data: Buffer, limits: Limits) -> tuple[Header, Layout, int]:
    """The header of a file, where its parts are, and its own length in bytes. CodecError for anything else.

    What it says has not been checked against a checksum yet: that of every chunk covers the header.
    """
    reader = Reader(data)
    if data[: len(MAGIC)] != MAGIC[: max(len(data), 1)]:
        raise CodecError(f"this is not a framefill codec file: it begins with {data[:3]!r}, not {MAGIC!r}")
    reader.take(len(MAGIC))
    first = reader.take(1)[0]
    if first >> 4 != VERSION:
        raise CodecError(f"the file has format version {first >> 4}; this framefill reads {VERSION}: update framefill")
    second, third = reader.take(2)
    fingerprint, seed, sides = reader.take(4), reader.number(), (reader.number(), reader.number())
    try:
        kind, depth = Kind(first >> 2 & 3), Depth(second >> 5)
        more = {Kind.IMAGE: 0, Kind.VIDEO: 3, Kind.FIELD: 2}[kind]
        pictures, channels, rate = _own(kind, [reader.number() for _ in range(more)])
        header = Header(
            kind, fingerprint, *sides, pictures, channels, rate, (first & 3) + 1, depth, Colour(second >> 2 & 7),
            bool(second & 2), seed, Sampler(third >> 5), third & 31,
        )  # fmt: skip
    except (ValueError, BadInput) as error:
        raise CodecError(f"the header is damaged or absurd: {error}") from error
    _allowed(header, limits)
    return header, _layout(reader, header, bool(second & 1)), reader.place


def _own(kind: Kind, numbers: list[int]) -> tuple[int, int, tuple[int, int]]:
    """Pictures, channels and rate from the varints of a kind."""
    if kind == Kind.VIDEO:
        return numbers[0], 1, (numbers[1], numbers[2])
    return (numbers[1], numbers[0], (0, 1)) if kind == Kind.FIELD else (1, 1, (0, 1))


def _allowed(header: Header, limits: Limits) -> None:
    pixels = header.width * header.height
    claims = {
        "pixels": pixels, "pictures": header.pictures, "channels": header.channels,
        "samples": pixels * header.pictures * header.channels,
    }  # fmt: skip
    for name, claimed in claims.items():
        most = getattr(limits, name)
        if claimed > most:
            raise CodecError(
                f"the file claims {claimed} {name}, over {most}; if it is trusted, raise Limits({name}=...)"
                + (f", or give --limit-pixels {claimed}" if name == "pixels" else "")
            )


def _layout(reader: Reader, header: Header, extras: bool) -> Layout:
    count = reader.count(1)
    if count < 1 or count % header.layers:
        raise CodecError(f"the header is damaged: {count} chunks in {header.layers} layers")
    lengths: list[int | None] = [reader.number() for _ in range(count if extras else count - 1)]
    if not extras:
        return Layout((*lengths, None))
    more = reader.count(2)
    if not more:
        raise CodecError("the header is damaged: extras are announced and there are none")
    return Layout(tuple(lengths), tuple((reader.number(), reader.number()) for _ in range(more)))
