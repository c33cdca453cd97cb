"""Animation drawn on twos or threes: frames that repeat the one before, and motion that should not stop for them.

A run of equal frames can be taken for one frame that is shown longer; what is made then moves over its whole duration.
That replaces known frames by made ones, and where a scene really stands still for a moment it would begin to move too
early: so it is done when asked for only, and for runs of up to `LONGEST` frames; longer ones are scenes that do stand
still, and pass as they are.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from framefill.video.between.engine import Known
from framefill.video.between.timeline import Moment
from framefill.video.clock import Clock
from framefill.video.shots import repeats

LONGEST = 4  # frames of a drawing: animation on fours is rare, and looks still
Repeats = Callable[[Iterable[Known], Clock], Iterator[Known]]
"""Known frames in, each with its moments; known frames out, of which one may stand for several."""


def kept(known: Iterable[Known], clock: Clock) -> Iterator[Known]:
    """Every frame for itself, whatever it shows."""
    return iter(known)


def spread(known: Iterable[Known], clock: Clock) -> Iterator[Known]:
    """Runs of equal frames as one; the moments of all of them are then moments of the way to the next drawing.

    The last drawing of a shot has nowhere to go, and stays as it is.
    """
    run: list[Known] = []
    first, standing = 0, False
    for number, frame in enumerate(known):
        if run and (frame.begins or not repeats(frame.pixels, run[0].pixels)):
            if not standing:
                yield from run if frame.begins else [_as_one(run, first, clock)]
            run, first, standing = [], number, False
        if standing:
            yield frame
            continue
        run.append(frame)
        if len(run) > LONGEST:
            yield from run
            run, standing = run[:1], True
    if not standing:
        yield from run


def _as_one(run: Sequence[Known], first: int, clock: Clock) -> Known:
    begin, end = clock.at(first), clock.at(first + len(run))
    return replace(run[0], moments=[_spread(moment, begin, end) for known in run for moment in known.moments])


def _spread(moment: Moment, begin: Fraction, end: Fraction) -> Moment:
    return Moment((moment.time - begin) / (end - begin), moment.time)
