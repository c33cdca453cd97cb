"""Films as files: through the codec into a .ffc file and back, with their clock, sound and subtitles.

Frames are read, coded and written a group at a time; chunks wait in a temporary file for the header. Sound and
subtitles go along packet for packet, in a container of their own that is one extra of the file. Pictures are upright
and have the colours of BT.709, as everywhere in framefill (`video.sources`, `video.colour`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import av
from PIL import Image

from framefill.atomic import replacing
from framefill.codec.container import ExtraKind
from framefill.codec.film_codec import FilmCodec, bits_of, depth_of
from framefill.codec.header import MAGIC, Buffer, Header, Kind, Limits
from framefill.codec.picture_codec import PictureCodec
from framefill.codec.stamps import Stamps, unit_of
from framefill.codec.stream import Chunks, Opened, opened
from framefill.errors import BadInput, CodecError
from framefill.video import files, sources
from framefill.video.clock import Clock
from framefill.video.passengers import Passengers
from framefill.video.sinks import CODECS, USUAL, Plan, is_film

SUFFIX = ".mp4"  # of a film whose name nobody gave
HOLDS = (".mp4", ".mkv")  # containers for sound and subtitles, the one that keeps finer stamps first


@dataclass(frozen=True)
class Wish:
    """How a film is to be compressed: a quality (None: the middle), or the most `size` in bytes, or `bpp` bits a pixel.

    `steps` 0 (faithful) to 31 and `seed` are how it is decoded if nothing else is asked for.
    """

    quality: int | None = None
    size: int | None = None
    bpp: float | None = None
    steps: int = 0
    seed: int = 0


@dataclass
class Report:
    """What became of a film: `frames`, `bytes` of the compressed file, size in pixels, and what could not go along."""

    frames: int = 0
    bytes: int = 0
    width: int = 0
    height: int = 0
    left: list[str] = field(default_factory=list)


def is_moving(path: Path) -> bool:
    """Whether a file is a film: by its name, or a GIF with more than one picture."""
    suffix = path.suffix.lower()
    if suffix != ".gif":
        return suffix in sources.VIDEOS
    try:
        with Image.open(path, formats=("GIF",)) as image:
            return bool(getattr(image, "n_frames", 1) > 1)
    except (OSError, ValueError, SyntaxError):
        return False


def holds_film(beginning: bytes) -> bool:
    """Whether a compressed file that begins so (4 bytes or more) holds a film."""
    return beginning[: len(MAGIC)] == MAGIC and len(beginning) > len(MAGIC) and beginning[3] >> 2 & 3 == Kind.VIDEO


def compress(source: Path, target: Path, codec: PictureCodec, wish: Wish | None = None) -> Report:
    """Writes the film `source` as the compressed file `target`, whole or not at all; memory does not grow with length.

    MediaError for what cannot be read, BadInput for a size that even the lowest quality exceeds.
    """
    wish = wish or Wish()
    with TemporaryDirectory() as folder:
        sound, left = luggage(source, Path(folder))
        with sound or nullcontext(), replacing(target) as part, part.open("wb") as file:
            header = _fitted(source, codec, wish, file, sound)
        return Report(header.pictures, target.stat().st_size, header.width, header.height, left)


def decompress(
    source: Path | bytes,
    target: Path,
    codec: PictureCodec,
    *,
    steps: int | None = None,
    seed: int | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
) -> Report:
    """Writes what is in a compressed file as the film `target`: any that `video.files.Writer` writes.

    What is lost stands still or is left out, with a warning `PartLost`. CodecError for what cannot be used.
    """
    with TemporaryDirectory() as folder, mapped(source) as data:
        file, report = opened(data, limits), Report(bytes=len(data))
        sound = carried(file, Path(folder), report) if is_film(target.suffix) else None
        plan = _plan(file, target, sound)
        with files.Writer(target, plan, overwrite=overwrite) as writer:
            for shown in FilmCodec(codec).frames(file, steps=steps, seed=seed):
                writer.write(shown.pixels, shown.time)
                report.frames += 1
            if writer.passengers:
                report.left += writer.passengers.left
        report.width, report.height = file.header.width, file.header.height
    return report


@contextmanager
def mapped(source: Path | bytes) -> Iterator[Buffer]:
    """The bytes of a compressed file, which stay on disk until they are looked at."""
    if isinstance(source, bytes):
        yield source
        return
    try:
        with source.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            yield data
    except (OSError, ValueError) as error:
        raise CodecError(f"cannot read {source}: {error}") from error


def stamps_of(clock: Clock) -> Stamps:
    """A film's clock as its compressed file keeps it."""
    return Stamps(clock.fps.limit_denominator(10**6), clock.start, clock.stamps, clock.base)


def luggage(source: Path, folder: Path) -> tuple[BinaryIO | None, list[str]]:
    """Sound and subtitles of a film, in a container in `folder` (None: there are none), and what it cannot hold."""
    tried = [_packed(source, folder / f"sound{suffix}") for suffix in _holders(source)]
    taken, left, path = min(tried, key=lambda found: len(found[1]))
    return (path.open("rb") if taken else None), left


def carried(file: Opened, folder: Path, report: Report) -> Path | None:
    """The container with sound and subtitles of a compressed file, if it arrived; what did not is put on the report."""
    found = [index for kind, index in file.extras() if kind == ExtraKind.SOUND]
    expected = sum(kind == ExtraKind.SOUND for kind, _ in file.layout.extras)
    try:
        for index in found[:1]:
            path = folder / "sound"
            with path.open("wb") as target:
                target.writelines(file.pieces(index))
            return path
    except CodecError:
        expected = 1
    report.left += ["sound and subtitles, which are damaged"] if expected else []
    return None


def _holders(source: Path) -> tuple[str, ...]:
    with sources.opened(source) as container:
        return HOLDS[::-1] if "matroska" in container.format.name else HOLDS


def _packed(source: Path, target: Path) -> tuple[list[str], list[str], Path]:
    with av.open(str(target), "w") as container:
        passengers = Passengers(source, container)
        if passengers.taken:
            container.start_encoding()
        passengers.finish()
    return passengers.taken, passengers.left, target


def _fitted(source: Path, codec: PictureCodec, wish: Wish, file: BinaryIO, sound: BinaryIO | None) -> Header:
    """Writes the file of the best quality that is as small as was wished; another quality is another pass."""
    code = partial(_coded, source, codec, wish, file, sound)
    if wish.size is None and wish.bpp is None:
        return code(wish.quality)
    best, least, most = None, 0, codec.model.qualities - 1
    while least <= most:
        quality = (least + most) // 2
        header = code(quality)
        allowed = _allowed(wish, header)
        if file.tell() <= allowed:
            best, least = quality, quality + 1
        else:
            smallest, most = file.tell(), quality - 1
    if best is None:
        raise BadInput(f"the smallest file of this film has {smallest} bytes, {allowed} are allowed; allow more")
    return header if header.fingerprint == codec.marks[best] else code(best)


def _allowed(wish: Wish, header: Header) -> int:
    if wish.size is not None:
        return wish.size
    assert wish.bpp is not None
    return int(wish.bpp * header.width * header.height * header.pictures / 8)


def _coded(
    source: Path, codec: PictureCodec, wish: Wish, file: BinaryIO, sound: BinaryIO | None, quality: int | None
) -> Header:
    """One pass: the whole file, from its beginning."""
    about = files.probe(source)
    made = FilmCodec(codec)
    with Chunks() as chunks:
        start = made.header(quality, depth=depth_of(about.bits), steps=wish.steps, seed=wish.seed)
        stamps = stamps_of(files.clock(source, keep_start=True))
        header = made.compress(files.read(source, deep=about.bits > 8), stamps, start, chunks)
        file.seek(0)
        file.truncate()
        chunks.write(file, header, [(ExtraKind.SOUND, sound)] if sound else [])
    return header


def _plan(file: Opened, target: Path, sound: Path | None) -> Plan:
    payloads = (file.chunk(index) for index in range(file.chunks))
    first = next((payload for payload in payloads if payload is not None), None)
    bits, suffix = bits_of(file.header.depth), target.suffix.lower()
    able = CODECS[USUAL[suffix]].even if suffix in USUAL else (8, 16)
    return Plan(
        Fraction(*file.header.rate), unit_of(first) if first else None, carry=sound,
        bits=min((b for b in able if b >= bits), default=max(able)),
    )  # fmt: skip
