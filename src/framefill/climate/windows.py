"""Training windows of a record: read where they begin, one at a time, so that memory does not grow with the record.

The record is split by time, never at random: neighbouring windows overlap, and a model that has seen one knows the
other. What is learned of the record as a whole (`Statistics`) comes from its training years alone.
"""

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.arrays import derive
from framefill.climate.archive import Archive
from framefill.climate.statistics import LARGEST, Statistics, lines
from framefill.climate.transforms import Scaling, fit_scaling
from framefill.climate.ukcp18 import seasons
from framefill.errors import BadInput

LOOKED_AT = 4096  # fields that the statistics are taken from, spread evenly over the training years
AT_ONCE = 32


Begins = Callable[[int], list[int]]
"""Where windows of a length begin that belong to a split."""


@dataclass(frozen=True, eq=False)
class FieldWindows:
    """Windows of one split of a record, and the statistics of its training split."""

    archive: Archive
    begins: Begins
    statistics: Statistics

    def sample(self, seed: int, *, length: int, strides: tuple[int, ...] = (1,)) -> NDArray[np.float32]:
        """A window (length, C, H, W) in units, NaN where missing; a pure function of `seed`."""
        starts = self._starts(length)
        start = starts[derive(seed, length) % len(starts)]
        return self.archive.read(start, length).values[0].numpy()

    def _starts(self, length: int) -> list[int]:
        known = self._found
        if length not in known:
            known[length] = self.begins(length)
        return known[length]

    @cached_property
    def _found(self) -> dict[int, list[int]]:
        return {}


def years_of(archive: Archive, split: str, until: int) -> tuple[int, int]:
    """First and last year of a split: training ends with the year `until`, or, if that is 0, after 80 % of the years.

    Validation is the half of the rest that comes first, test what is left. Raises BadInput where nothing would be.
    """
    first, last = archive.times[0].year, archive.times[-1].year
    until = until or first + round(0.8 * (last - first + 1)) - 1
    middle = until + max((last - until) // 2, 1)
    parts = {"train": (first, until), "val": (until + 1, middle), "test": (middle + 1, last)}
    if split not in parts:
        raise BadInput(f"unknown split {split!r}; choose one of {', '.join(parts)}")
    begins, ends = parts[split]
    if begins > min(ends, last) or ends < first:
        raise BadInput(
            f"{archive.name} has the years {first} to {last}, which leaves none for {split} with training until "
            f"{until}; choose another: --set until=YEAR"
        )
    return begins, min(ends, last)


def by_year(archive: Archive, split: str, until: int, *, before: int = 0) -> Begins:
    """Windows that lie in the years of a split, see `years_of`.

    Those of "val" and "test" may have their first `before` fields, which are known, in years before. Where not one fits
    into the years of "val", those of "test" are taken too: it is for looking at while training, not for scores.
    """
    first, last = years_of(archive, split, until)
    if split == "train":
        return partial(archive.starts, first=first, last=last)

    def begins(length: int) -> list[int]:
        years = [t.year for t in archive.times]
        later = [i for i in archive.starts(length) if years[i + min(before, length - 1)] >= first]
        inside = [i for i in later if years[i + length - 1] <= last]
        if not inside and (split == "test" or not later):
            raise BadInput(
                f"{archive.name}: no {length} fields in a row of which all but {before} are in {split}, {first} to "
                f"{last}; give more of the record, shorter windows (--set current=...), or end training earlier "
                "(--set until=YEAR)"
            )
        return inside or later

    return begins


def by_season(archive: Archive, split: str) -> Begins:
    """Windows of the seasons that the paper trains on, or ("val", "test") tests on, see `ukcp18.seasons`."""
    return lambda length: (found := seasons(archive.times, length=length)).train if split == "train" else found.test


def gather(
    archive: Archive,
    begins: Begins,
    *,
    trend: int,
    in_range: Sequence[bool],
    progress: Callable[[int, int, str], None] | None = None,
) -> Statistics:
    """The statistics of the windows that begin there.

    A variable that is `in_range` is scaled from its range, not its moments; its values then lie in [-1, 1], which is
    what a learned transform takes. `trend` is how many fields a line is put
    through, 0 for none.
    """
    transforms = [v.transform for v in archive.spec.variables]
    every = begins(1)
    length = trend or (AT_ONCE if len(every) > LOOKED_AT else 1)  # of a long record, whole runs: they are read faster
    starts = begins(length)
    years = archive.times[every[0]].year, archive.times[every[-1]].year
    chosen = [
        starts[i] for i in np.unique(np.linspace(0, len(starts) - 1, LOOKED_AT // length + 1).round().astype(int))
    ]

    def read() -> Iterator[Tensor]:
        for done, start in enumerate(chosen):
            if progress and done % 32 == 0:
                progress(done, len(chosen), archive.name)
            yield archive.read(start, length).values

    scaling = _ranged(fit_scaling(transforms, read()), in_range, read)
    spread = _spread(scaling, read, trend) if trend else ()
    return Statistics(archive.spec, scaling, spread, _absent(read), archive.name, years)


def _absent(read: Callable[[], Iterator[Tensor]]) -> str:
    """The cells that have no value in any field, one bit each; see `Statistics`."""
    never = np.ones((), bool)
    for part in read():
        never = never & part[0].isnan().all(0).numpy()
    return base64.b64encode(np.packbits(never).tobytes()).decode() if never.any() else ""


def _ranged(scaling: Scaling, in_range: Sequence[bool], read: Callable[[], Iterator[Tensor]]) -> Scaling:
    if not any(in_range):
        return scaling
    lowest, highest = [np.inf] * len(in_range), [-np.inf] * len(in_range)
    for part in read():
        for c, transform in enumerate(scaling.transforms):
            values = transform.forward(part[:, :, c])
            values = values[~values.isnan()]
            if len(values):
                lowest[c] = min(lowest[c], float(values.min()))
                highest[c] = max(highest[c], float(values.max()))
    middle = [(h + low) / 2 for low, h in zip(lowest, highest, strict=True)]
    half = [(h - low) / 2 for low, h in zip(lowest, highest, strict=True)]
    mean = tuple(c if r else m for c, r, m in zip(middle, in_range, scaling.mean, strict=True))
    std = tuple(h if r else s for h, r, s in zip(half, in_range, scaling.std, strict=True))
    return Scaling(scaling.transforms, mean, std)


def _spread(scaling: Scaling, read: Callable[[], Iterator[Tensor]], trend: int) -> tuple[float, ...]:
    """Standard deviations of the cells around lines through `trend` fields, (C, H, W) flattened, to four digits."""
    square = count = torch.zeros(())
    for part in read():
        scaled = scaling.encode(part).masked_fill(part.isnan(), torch.nan).double()
        rest = scaled - lines(scaled, trend, first=0)
        square = square + rest.nan_to_num(0.0).square().sum((0, 1))
        count = count + (~rest.isnan()).sum((0, 1)) * ((trend - 2) / trend)  # a line takes two degrees of freedom
    if square.numel() > LARGEST:
        raise BadInput(
            f"the spread of {square.numel()} cells does not fit into a model's card ({LARGEST} at most); coarsen the "
            "grid, or train without a trend: --set trend=0"
        )
    spread = (square / count.clamp(min=1)).sqrt()
    # A cell that never changes, or is never there, has no spread; any number serves, since it comes back multiplied.
    spread = torch.where(spread > 0, spread, spread[spread > 0].mean() if (spread > 0).any() else 1.0)
    return tuple(float(f"{v:.4g}") for v in spread.flatten().tolist())
