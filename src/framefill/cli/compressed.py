"""What is in a compressed file, as `info` tells it: no model is loaded for that."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefill.cli.files import bytes_of

if TYPE_CHECKING:
    from framefill.codec.container import Contents
    from framefill.codec.header import Header


def start(path: Path) -> bytes:
    """The first bytes of a file, none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError:
        return b""


def held(data: bytes) -> int | None:
    """The kind (`codec.header.Kind`) that bytes of ours say they hold; None for other bytes."""
    from framefill.codec.header import MAGIC

    kind = data[len(MAGIC) :][:1]
    return kind[0] >> 2 & 3 if data.startswith(MAGIC) and kind else None


def is_ours(path: Path) -> bool:
    """Whether a file begins as compressed files do."""
    from framefill.codec.header import MAGIC

    return start(path).startswith(MAGIC)


def holds_film(path: Path) -> bool:
    """Whether a compressed file holds a film."""
    from framefill import films

    return films.holds_film(start(path))


def tell(path: Path, *, as_json: bool) -> None:
    """Prints what a compressed file says of itself, and how much of it is sound."""
    about = _described_film(path) if holds_film(path) else described(bytes_of(path))
    print(json.dumps(about) if as_json else "\n".join(f"{key:12s} {value}" for key, value in about.items()))


def described(data: bytes) -> dict[str, Any]:
    """What a compressed file is."""
    from framefill.codec.container import ExtraKind, unpack
    from framefill.codec.header import Limits

    contents = unpack(data, limits=Limits(2**62, 2**62, 2**62, 2**126))
    header = contents.header
    names = {int(kind): kind.name for kind in ExtraKind}
    extras = [f"{names.get(extra.kind, extra.kind)} {len(extra.data)}" for extra in contents.extras]
    return {
        "kind": header.kind.name.lower(),
        "size": f"{header.width}x{header.height}",
        "depth": header.depth.name.lower(),
        "colour": header.colour.name,
        "bytes": len(data),
        "bits a pixel": round(8 * len(data) / (header.width * header.height * header.pictures), 4),
        "model": header.fingerprint.hex(),
        "decode": _decode(header),
        "parts": f"{contents.parts} of {header.layers} layers",
        "layers": ", ".join(f"{size} bytes" for size in _layers(contents)),
        "extras": ", ".join(extras) or "none",
        "lost": f"chunks {', '.join(map(str, contents.lost))}" if contents.lost else "nothing",
    }


def _described_film(path: Path) -> dict[str, Any]:
    from framefill import films
    from framefill.codec.container import ExtraKind
    from framefill.codec.header import Limits
    from framefill.codec.stream import opened

    with films.mapped(path) as data:
        file = opened(data, Limits(2**62, 2**62, 2**62, 2**126))
        header, size = file.header, len(data)
        lost = [index for index in range(file.chunks) if file.chunk(index) is None]
        sizes = [length for _, length in file.layout.extras]
        names = {int(kind): kind.name for kind in ExtraKind}
        extras = [f"{names.get(kind, kind)} {n}" for (kind, _), n in zip(file.layout.extras, sizes, strict=True)]
    seconds = header.pictures * header.rate[1] / max(header.rate[0], 1)
    return {
        "kind": "video",
        "size": f"{header.width}x{header.height}",
        "frames": header.pictures,
        "rate": f"{header.rate[0] / header.rate[1]:.3f} a second",
        "depth": header.depth.name.lower(),
        "colour": header.colour.name,
        "bytes": size,
        "bits a pixel": round(8 * size / (header.width * header.height * header.pictures), 4),
        "kbit a second": round(8 * (size - sum(sizes)) / 1000 / seconds, 1) if seconds else 0,
        "model": header.fingerprint.hex(),
        "decode": _decode(header),
        "groups": f"{file.chunks} of 8 frames",
        "extras": ", ".join(extras) or "none",
        "lost": f"groups {', '.join(map(str, lost))}" if lost else "nothing",
    }


def _decode(header: "Header") -> str:
    from framefill.codec.header import Sampler

    return "faithful" if header.sampler == Sampler.MEAN else f"{header.steps} steps, seed {header.seed}"


def _layers(contents: "Contents") -> list[int]:
    return [
        sum(len(contents.part(part)[layer] or b"") for part in range(contents.parts))
        for layer in range(contents.header.layers)
    ]
