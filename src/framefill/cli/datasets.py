"""Data sets of fields through `compress` and `decompress`: which files they are, and what a bound on errors says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framefill.atomic import with_folder
from framefill.cli.compressed import held, start
from framefill.cli.files import PIPE, Going
from framefill.errors import BadInput

SUFFIXES = (".nc", ".nc4", ".cdf", ".zarr")


def is_dataset(source: str) -> bool:
    """A NetCDF file or a Zarr store, by its name."""
    return Path(source).suffix.lower() in SUFFIXES


def is_compressed(source: str) -> bool:
    """A compressed file that holds fields."""
    from framefill.codec.header import Kind

    return source != PIPE and held(start(Path(source))) == Kind.FIELD


def bounds(text: str | None) -> float | dict[str, float]:
    """A bound as it is written: 0.1 for all fields, tas=0.1,pr=1e-6 by name (others: exact); nothing is exact."""
    if text is None:
        return 0.0
    try:
        if "=" not in text:
            return float(text)
        found = {name: float(value) for name, _, value in (word.partition("=") for word in text.split(","))}
    except ValueError as error:
        raise BadInput(f"cannot read the bound {text!r}; write 0.1, or name=0.1,other=1e-6") from error
    if len(found) != text.count(",") + 1:
        raise BadInput(f"the bound {text!r} names a field twice; give each one bound")
    return found


def refuse(**options: object) -> None:
    """BadInput for the first option that was given: data sets have no use for it."""
    for name, value in options.items():
        if value not in (None, ""):
            raise BadInput(f"--{name} is for pictures and films, and this is a data set; leave it away")


def compress(source: str, to: Going, *, max_error: str | None, relative: str | None) -> dict[str, Any]:
    """Writes a data set's file, and says how large it is."""
    from framefill.codec.fields import compress_dataset

    target = with_folder(_target(source, to, ".ffc"))
    shares = None if relative is None else bounds(relative)
    compress_dataset(Path(source), target, max_error=bounds(max_error), relative=shares)
    return {"output": str(target), "bytes": target.stat().st_size}


def decompress(source: str, to: Going, *, suffix: str) -> dict[str, Any]:
    """Writes the data set of a file, as NetCDF or Zarr; what is damaged becomes NaN where it can."""
    target = _target(source, to, suffix)
    restore(Path(source), target)
    return {"output": str(target)}


def restore(source: Path, target: Path) -> None:
    """Writes the data set of a file; what is damaged becomes NaN where it can, with a warning."""
    from framefill.codec.fields import decompress_dataset

    with_folder(target)
    decompress_dataset(source, target, partial=True)


def _target(source: str, to: Going, suffix: str) -> Path:
    if to.output == PIPE:
        raise BadInput("a data set is written to a file; name one with -o, not -")
    target = Path(to.output or Path(source).with_suffix(suffix).name)
    if target.is_dir():  # a Zarr may hold what nobody wants to lose
        raise BadInput(f"{target} is a folder that is there already; choose another name with -o, or remove it")
    if target.exists() and not to.overwrite:
        raise BadInput(f"{target} is there already; choose another name with -o, or add --overwrite")
    return target


def whole_levels(text: str | None) -> int | None:
    """A bound on the levels of a picture."""
    found = bounds(text)
    if text is None:
        return None
    if isinstance(found, Mapping) or not found.is_integer():
        raise BadInput(f"--max-error {text}: a picture's is a whole number of levels, 0 (lossless) or more")
    return int(found)
