"""The verbs that make files smaller: compress, and decompress for the way back."""

import io
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from framefill.atomic import with_folder
from framefill.cli import datasets
from framefill.cli.compressed import held, holds_film
from framefill.cli.files import Going, Task, run
from framefill.errors import BadInput

if TYPE_CHECKING:
    from framefill import films
    from framefill.codec.header import Limits
    from framefill.codec.picture_codec import PictureCodec
    from framefill.codec.pictures import Picture

SUFFIX, PICTURE, FILM, FIELDS = ".ffc", ".png", ".mp4", ".nc"
WHITE = 0.25  # of full range: the standard deviation that is white in a map of what was invented
UNITS = {"k": 1000, "m": 1000**2, "g": 1000**3}
To = Annotated[Going, tyro.conf.arg(name="")]
HERE = Going()
Device = Annotated[str, tyro.conf.arg(metavar="cpu|cuda|auto")]


@dataclass(frozen=True)
class Wish:
    """How large a file may be: a quality, or bytes, or bits a pixel."""

    quality: int | None
    size: int | None
    bpp: float | None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.quality, self.size, self.bpp)) > 1:
            raise BadInput("--quality, --size and --bpp all say how large the file is; give one of them")
        if self.bpp is not None and not 0 < self.bpp < 1000:
            raise BadInput(f"--bpp is more than 0 and below 1000 bits a pixel, got {self.bpp}")

    def bytes(self, picture: "Picture") -> int | None:
        """The most bytes that the picture's file may have, if that is how it was said."""
        height, width = picture.size
        return int(self.bpp * height * width / 8) if self.bpp is not None else self.size


def compress(
    source: Annotated[str, tyro.conf.Positional],
    /,
    *,
    quality: Annotated[int | None, tyro.conf.arg(aliases=["-q"])] = None,
    size: str | None = None,
    bpp: float | None = None,
    max_error: str | None = None,
    relative: str | None = None,
    steps: int = 0,
    seed: int = 0,
    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = "",
    device: Device = "auto",
    to: To = HERE,
) -> None:
    """Pictures, films and data sets to small files (.ffc): one file, a folder, or - for a picture on standard input.

    Args:
        source: A picture (png, jpg, tif, webp, avif, ...), a film (mp4, mkv, webm, ...), a NetCDF file or Zarr store, a
            folder, or -.
        quality: 0 is the smallest file; by default the middle of what the model has.
        size: The best quality whose file has at most so many bytes, such as 20k or 1.5M.
        bpp: The same in bits a pixel.
        max_error: No level of a picture is off by more than this, 0 is lossless. For data sets it is in the units of
            the file, 0.1 for all fields or tas=0.1,pr=1e-6 by name; without it they keep every bit.
        relative: Data sets only: the same as a share of a field's range, such as 1e-3.
        steps: How the file is decoded unless something else is asked for: 0 is faithful, 1 to 31 steps draw detail.
        seed: Of that detail.
        model: A model file or the name of a shipped codec.
        device: Where the networks run.
    """
    if datasets.is_dataset(source):
        datasets.refuse(quality=quality, size=size, bpp=bpp, steps=steps or None, seed=seed or None, model=model)
        _told(datasets.compress(source, to, max_error=max_error, relative=relative), to)
        return
    if relative is not None:
        raise BadInput("--relative is for data sets; give pictures --max-error in levels")
    wish, bound = Wish(quality, None if size is None else size_of(size), bpp), datasets.whole_levels(max_error)
    codec = _codec(model, device)

    def work(task: Task) -> dict[str, Any]:
        from framefill import films
        from framefill.codec.pictures import read

        if task.source and films.is_moving(task.source):
            return _film(task, codec, films.Wish(wish.quality, wish.size, wish.bpp, steps, seed), bound)
        picture = read(task.source or io.BytesIO(task.read()), most=to.limit_pixels)
        data = made(codec, picture, wish, steps=steps, seed=seed, max_error=bound)
        task.write(data)
        return {"bytes": len(data), "bits a pixel": round(8 * len(data) / (picture.size[0] * picture.size[1]), 4)}

    from framefill.codec.pictures import SUFFIXES
    from framefill.video.sources import VIDEOS

    run(source, to, work, suffix=SUFFIX, takes=SUFFIXES | VIDEOS)


def _film(task: Task, codec: "PictureCodec", wish: "films.Wish", max_error: int | None) -> dict[str, Any]:
    """Compresses a film."""
    from framefill import films

    if max_error is not None:
        raise BadInput(f"--max-error is for pictures; {task.name} is a film, give --quality, --size or --bpp")
    assert task.source is not None
    with task.file(SUFFIX) as target:
        done = films.compress(task.source, target, codec, wish)
    pixels = done.width * done.height * done.frames
    told = {"frames": done.frames, "bytes": done.bytes, "bits a pixel": round(8 * done.bytes / pixels, 4)}
    return told | ({"left behind": "; ".join(done.left)} if done.left else {})


def made(
    codec: "PictureCodec", picture: "Picture", wish: Wish, *, steps: int, seed: int, max_error: int | None
) -> bytes:
    """The file of a picture as it was wished for."""
    most = wish.bytes(picture)
    options: dict[str, Any] = {"steps": steps, "seed": seed}
    if max_error is not None:
        options["max_error"] = max_error
    if most is None:
        return codec.compress(picture, quality=wish.quality, **options)
    return codec.fitted(picture, most, **options)


def decompress(
    source: Annotated[str, tyro.conf.Positional],
    /,
    *,
    steps: int | None = None,
    seed: int | None = None,
    invented: Path | None = None,
    samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 8,
    suffix: str = "",
    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = "",
    device: Device = "auto",
    to: To = HERE,
) -> None:
    """Pictures, films and data sets from .ffc files: one file, a folder of them, or - for a picture on standard input.

    A damaged or cut file gives what is left of it, with a warning.

    Args:
        source: A .ffc file, a folder, or -.
        steps: 0 for the faithful one, 1 to 31 to draw detail; by default as the sender said.
        seed: Of that detail; by default the sender's.
        invented: Also write a map (PNG) of what was drawn, not sent: how far several seeds are apart, white from a
            quarter of full range on.
        samples: How many seeds that map compares.
        suffix: What to write where no file is named: .png, .jpg, .tif, .webp, ...; of films .mp4, .mkv, ...
        model: A model file to read with, beside the shipped ones.
        device: Where the networks run.
    """
    from framefill.codec.pictures import encode, kind_of

    if datasets.is_compressed(source):
        datasets.refuse(steps=steps, seed=seed, invented=invented, model=model)
        with _warned(source) as lost:
            about = datasets.decompress(source, to, suffix=suffix or FIELDS)
        _told(about | _missing(lost), to)
        return
    named = Path(to.output).suffix if to.output else ""
    if (named or suffix).lower() not in _films():
        kind_of(named or suffix or PICTURE)
    if invented is not None:
        _check_map(invented, source, to)
    codec = _codec(model, device)

    def work(task: Task) -> dict[str, Any]:
        if task.target and task.source and datasets.is_compressed(str(task.source)):
            with _warned(task.name) as lost:
                datasets.restore(task.source, task.target)
            return {"held": "fields"} | _missing(lost)
        if task.source and holds_film(task.source):
            return _shown(task, codec, {"steps": steps, "seed": seed, "limits": _limits(to)}, suffix, invented)
        data = _picture_alone(task.read(), task)
        with _warned(task.name) as lost:
            picture = codec.decompress(data, steps=steps, seed=seed, limits=_limits(to))
        made = encode(picture, task.target.suffix if task.target else suffix or PICTURE)
        if invented is not None:  # before the picture is written: where one cannot be, neither is
            _write_map(codec.invented(data, samples=samples, steps=steps, limits=_limits(to)), invented)
        task.write(made)
        height, width = picture.size
        return {"pixels": f"{width}x{height}"} | _missing(lost)

    def ending(path: Path | None) -> str:
        if path and datasets.is_compressed(str(path)):
            return FIELDS
        return suffix or (FILM if path and holds_film(path) else PICTURE)

    run(source, to, work, suffix=ending, takes=(SUFFIX,))


def _shown(
    task: Task, codec: "PictureCodec", options: dict[str, Any], suffix: str, invented: Path | None
) -> dict[str, Any]:
    """Decompresses a film."""
    from framefill import films

    if invented is not None:
        raise BadInput(f"--invented maps one picture, and {task.name} is a film")
    assert task.source is not None
    with task.file(suffix or FILM) as target, _warned(task.name) as lost:
        done = films.decompress(task.source, target, codec, overwrite=True, **options)
    told = {"frames": done.frames, "pixels": f"{done.width}x{done.height}"}
    return told | _missing([*lost, *done.left])


def _picture_alone(data: bytes, task: Task) -> bytes:
    """The same bytes; BadInput for a film or a data set that does not come from a file."""
    from framefill.codec.header import Kind

    if held(data) in (Kind.VIDEO, Kind.FIELD):
        raise BadInput(f"{task.name} holds a film or a data set; write it to a file, and decompress that")
    return data


def _missing(lost: list[str]) -> dict[str, str]:
    """What did not arrive, to be told with the rest."""
    return {"lost": "; ".join(lost)} if lost else {}


def _films() -> set[str]:
    from framefill.video.sinks import SINKS

    return set(SINKS) - {""}


def _told(about: dict[str, Any], to: Going) -> None:
    """One line or one JSON object."""
    print(json.dumps(about) if to.as_json else "  ".join(str(value) for value in about.values()))


def _check_map(target: Path, source: str, to: Going) -> None:
    if Path(source).is_dir():
        raise BadInput(f"--invented makes one map of one file, and {source} is a folder")
    if target.suffix.lower() != ".png":
        raise BadInput(f"--invented writes a PNG; name it .png, not {target}")
    if target.exists() and not to.overwrite:
        raise BadInput(f"{target} is there already; choose another name, or add --overwrite")


def _write_map(spread: Any, target: Path) -> None:
    import numpy as np

    from framefill.codec.pictures import Picture, write

    write(Picture((spread / WHITE * 255).round().clip(0, 255).astype(np.uint8)[..., None]), with_folder(target))


@contextmanager
def _warned(name: str) -> Iterator[list[str]]:
    """Collects the warnings of damaged files, and says them when all is done."""
    from framefill.codec.container import PartLost

    lost: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PartLost)
        yield lost
    for warning in caught:
        if issubclass(warning.category, PartLost):
            lost.append(str(warning.message))
            print(f"framefill: warning: {name}: {warning.message}", file=sys.stderr)


def _limits(to: Going) -> "Limits":
    from framefill.codec.header import Limits

    return Limits(pixels=to.limit_pixels)


def _codec(model: str, device: str) -> "PictureCodec":
    from framefill import codecs
    from framefill.device import choose

    return codecs.codec(model, device=choose(device))


def size_of(text: str) -> int:
    """Bytes as a user writes them: 20000, 20k, 1.5M."""
    unit = UNITS.get(text[-1:].lower(), 0)
    try:
        value = float(text[:-1] if unit else text) * (unit or 1)
    except ValueError as error:
        raise BadInput(f"cannot read --size {text!r}; write bytes, such as 20000, 20k or 1.5M") from error
    if not 1 <= value < 2**50:
        raise BadInput(f"--size is at least 1 byte, got {text}")
    return int(value)
