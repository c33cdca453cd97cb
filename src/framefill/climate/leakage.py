"""Does the test hold what training has seen? Fields that are equal to the bit are found, whatever their dates.

Every field becomes a digest of 16 bytes, so two records of any length are compared in one pass each. Single equal
fields happen (no rain anywhere); runs of them do not.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from framefill.climate.calendars import stretches
from framefill.errors import BadInput

if TYPE_CHECKING:
    from framefill.climate.archive import Archive

PIECE = 64  # fields in memory at once


class Stretch(NamedTuple):
    """`length` fields that are the same in two records: from index `first` of one and `second` of the other."""

    first: int
    second: int
    length: int


def digest(field: NDArray) -> bytes | None:
    """What names a field, NaN and -0 in one form; None for a field of one value, which says nothing."""
    values = np.ascontiguousarray(field, np.float32) + np.float32(0)  # -0 becomes 0
    there = values[~np.isnan(values)]
    if not len(there) or (there == there[0]).all():
        return None
    values = np.where(np.isnan(values), np.float32(np.nan), values)
    return hashlib.blake2b(values.tobytes() + repr(values.shape).encode(), digest_size=16).digest()


def identical_stretches(first: Iterable[NDArray], second: Iterable[NDArray], *, shortest: int = 2) -> list[Stretch]:
    """Runs of at least `shortest` equal fields in two sequences of fields (..., H, W), the longest first."""
    return matches([digest(f) for f in first], [digest(f) for f in second], shortest=shortest)


def matches(first: Sequence[bytes | None], second: Sequence[bytes | None], *, shortest: int = 2) -> list[Stretch]:
    """The same of their digests. Of two runs through one pair of fields both are given."""
    if shortest < 1:
        raise BadInput(f"stretches of {shortest} fields; give 1 or more")
    places = defaultdict(list)
    for j, name in enumerate(second):
        if name is not None:
            places[name].append(j)
    open_runs: dict[int, Stretch] = {}  # by how far the second index is ahead of the first
    found = []
    for i, name in enumerate(first):
        here = {j - i: j for j in places.get(name, ())} if name is not None else {}
        found += [run for shift, run in open_runs.items() if shift not in here]
        open_runs = {
            shift: Stretch(*open_runs[shift][:2], open_runs[shift].length + 1)
            if shift in open_runs
            else Stretch(i, j, 1)
            for shift, j in here.items()
        }
    found += open_runs.values()
    return sorted((r for r in found if r.length >= shortest), key=lambda r: (-r.length, r.first, r.second))


def _fields(archive: "Archive", index: Sequence[int]) -> Iterator[NDArray]:
    """The fields of rising indices, read in as long pieces as there are, up to `PIECE`."""
    wanted = set(index)
    for stretch in stretches(archive.times, archive.spec.step):
        places = [i for i in range(stretch.start, stretch.stop) if i in wanted]
        for start in range(0, len(places), PIECE):
            piece = places[start : start + PIECE]
            values = archive.read(piece[0], piece[-1] - piece[0] + 1).values.numpy()
            yield from (values[:, i - piece[0]] for i in piece)


def check_split(
    train: "Archive", test: "Archive", *, train_years: tuple[int, int], test_years: tuple[int, int], shortest: int = 2
) -> None:
    """Raises BadInput, in one line, where fields of the test years are among those of the training years.

    Years are first and last, both included. Records are read piece by piece. With one record for both, years that
    overlap are found like any other copy.
    """
    sets = []
    for archive, (first, last) in ((train, train_years), (test, test_years)):
        index = [i for i, time in enumerate(archive.times) if first <= time.year <= last]
        sets.append((index, [digest(field) for field in _fields(archive, index)]))
    (train_index, seen), (test_index, held) = sets
    runs = matches(seen, held, shortest=shortest)
    if runs:
        run = runs[0]
        a, b = (archive.times[index[k]] for archive, index, k in
                ((train, train_index, run.first), (test, test_index, run.second)))  # fmt: skip
        raise BadInput(
            f"the test holds fields that training has too: {run.length} from {b:%Y-%m-%d} on in {test.name} equal "
            f"those from {a:%Y-%m-%d} on in {train.name}; leave them out of one of the two"
        )
