"""A film with more frames, as a stream: known frames in, all frames out, in memory that does not grow.

Around every gap stand the `context` known frames of each side; where the film ends, or a shot, the outermost one
stands in for those beyond. A known frame comes out as it went in. Made ones go through floats in [-1, 1] and are
rounded to levels, which neither darkens nor brightens them, so known and made frames do not flicker. What a gap holds
is drawn from random streams of its own: it does not depend on where the work began. Pixels are made when they are asked
for; a part of the work that is there already costs only the reading.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from itertools import islice, takewhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import Failed
from framefill.video.between.tier import Between
from framefill.video.between.timeline import Moment
from framefill.video.clip import levels, tensor

Frame = NDArray[Any]
"""uint8 or uint16 (H, W, C)."""

AT_ONCE = 64 * 10**6  # numbers of made frames that are in memory together


@dataclass(frozen=True, eq=False)
class Known:
    """A frame of the source: its `moments` until the next one, and whether it `begins` a shot."""

    pixels: Frame
    moments: Sequence[Moment]
    begins: bool = False

    @cached_property
    def tensor(self) -> Tensor:
        """(C, H, W) in [-1, 1]."""
        return tensor(self.pixels)


@dataclass(frozen=True, eq=False)
class Shown:
    """A frame of the result, shown at `time` seconds; `given` says that it is one of the source."""

    time: Fraction
    given: bool
    pixels: Callable[[], Frame]
    """Makes the frame, (N, H, W, C), one for each sample."""


@dataclass(frozen=True)
class Drawing:
    """How gaps are filled: by `maker`, at cuts by `at_cut`, with `samples` results from `seed`, on `device`."""

    maker: Between
    at_cut: Between
    samples: int = 1
    seed: int = 0
    device: str = "cpu"

    def stream(self, known: Iterable[Known], *, hold: bool = True) -> Iterator[Shown]:
        """Every frame of the result; without `hold` it ends with the last known frame, not when that one goes."""
        for number, gap in enumerate(gaps(known, max(self.maker.context, self.at_cut.context))):
            parts = [moment.part for moment in gap.here.moments if moment.part and gap.around]
            filling = _Filling(self, gap, parts, number)
            for moment in gap.here.moments:
                if moment.part in parts:
                    yield Shown(moment.time, False, partial(filling.frame, parts.index(moment.part)))
                elif hold or not moment.part:
                    yield Shown(moment.time, True, filling.given)


@dataclass(frozen=True, eq=False)
class Gap:
    """What follows the frame `here`, the known frames `around` it (none after the last), and whether it is a `cut`."""

    here: Known
    around: list[Known]
    cut: bool


def gaps(known: Iterable[Known], context: int) -> Iterator[Gap]:
    """Every known frame with those `around` the gap behind it, `context` on each side and all of the two shots."""
    source = iter(known)
    before: deque[Known] = deque(maxlen=context)
    ahead = deque(islice(source, context + 1))
    while ahead:
        here = ahead.popleft()
        if here.begins:
            before.clear()
        before.append(here)
        yield Gap(here, _around(before, ahead, context), bool(ahead) and ahead[0].begins)
        ahead.extend(islice(source, 1))


def _around(before: Sequence[Known], ahead: Sequence[Known], context: int) -> list[Known]:
    if not ahead:
        return []
    rest = list(ahead)
    after = rest[:1] + list(takewhile(lambda known: not known.begins, rest[1:context]))
    missing = context - len(before), context - len(after)
    return [before[0]] * missing[0] + list(before) + after + [after[-1]] * missing[1]


@dataclass(eq=False)
class _Filling:
    """The made frames of one gap, several at a time: as many as fit into memory well."""

    drawing: Drawing
    gap: Gap
    parts: list[Fraction]
    number: int
    _made: Frame | None = None
    _first: int = -1

    def given(self) -> Frame:
        """The frame before the gap, (N, H, W, C)."""
        pixels = self.gap.here.pixels
        return np.broadcast_to(pixels, (self.drawing.samples, *pixels.shape))

    def frame(self, index: int) -> Frame:
        """Made frame number `index`, (N, H, W, C)."""
        size = max(AT_ONCE // (self.gap.here.pixels.size * self.drawing.samples), 1)
        first = index - index % size
        if self._made is None or self._first != first:
            self._made, self._first = self._make(self.parts[first : first + size], first), first
        return self._made[:, index - first]

    def _make(self, parts: list[Fraction], first: int) -> Frame:
        drawing, gap = self.drawing, self.gap
        maker = drawing.at_cut if gap.cut else drawing.maker
        middle = len(gap.around) // 2
        near = gap.around[middle - maker.context : middle + maker.context]
        with torch.inference_mode():
            frames = torch.stack([known.tensor for known in near]).to(drawing.device)
            rng = Rng.batch(drawing.seed, drawing.samples, self.number, first)
            made = maker(frames, [float(part) for part in parts], rng)
            if not made.isfinite().all():
                raise Failed(f"frames after frame {self.number} came out as NaN or infinite; try another --tier")
            return levels(made, gap.here.pixels.dtype)
