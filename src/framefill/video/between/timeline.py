"""When the frames of the result are shown, in exact fractions of a second.

A result frame lies in the gap between two known ones: `part` of the way, 0 <= part < 1, and part 0 is the known frame
itself. The gap after the last known frame is the time it is shown for, so a result lasts as long as its source, to the
frame. Nothing is rounded here; a file rounds to its own unit, `base`, and only where that cannot hold the fractions.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, reduce
from typing import Protocol

from framefill.errors import BadInput
from framefill.video.clock import Clock

FINEST = 1000  # parts of a gap that --at may name: 0.3333 is then a third
MOST = 1000  # frames for one
_TICKS = 2**31 - 1  # a second of MP4 has no more units
_MICROSECOND = Fraction(1, 1_000_000)


@dataclass(frozen=True)
class Moment:
    """A frame of the result: `part` in [0, 1) of the way to the next known frame, shown at `time` seconds."""

    part: Fraction
    time: Fraction


class Timeline(Protocol):
    """The moments of every gap of a film with `clock`; `fps` is the mean rate, times are multiples of `base`."""

    @property
    def clock(self) -> Clock:
        """When the known frames are shown."""
        ...

    @property
    def fps(self) -> Fraction:
        """Frames per second of the result, the mean where it has no rate."""
        ...

    @property
    def base(self) -> Fraction:
        """Seconds that all times are whole multiples of."""
        ...

    def gap(self, frame: int) -> list[Moment]:
        """From known frame number `frame` until the next one, which is not among them."""
        ...

    def count(self, frames: int) -> int:
        """How many moments there are in a film of `frames` known frames, the time of the last one included."""
        ...

    def end(self, frames: int) -> Fraction:
        """Seconds at which the last of them goes."""
        ...


@dataclass(frozen=True)
class Divided:
    """Every gap divided at the same `parts`, of which the first is 0: the clock of the source, finer."""

    clock: Clock
    parts: tuple[Fraction, ...]

    @property
    def fps(self) -> Fraction:
        """Frames per second, the mean where they are uneven."""
        return self.clock.fps * len(self.parts)

    @cached_property
    def base(self) -> Fraction:
        """The largest unit of all times, or a microsecond where no file could count in it."""
        tick = 1 / self.clock.fps if self.clock.stamps is None else self.clock.base
        unit = _common(self.clock.start, *(tick * part for part in self.parts), tick)
        return unit if unit.denominator <= _TICKS else _MICROSECOND

    def gap(self, frame: int) -> list[Moment]:
        """See `Timeline`."""
        return [Moment(part, self.clock.at(frame, part)) for part in self.parts]

    def count(self, frames: int) -> int:
        """See `Timeline`."""
        return frames * len(self.parts)

    def end(self, frames: int) -> Fraction:
        """See `Timeline`."""
        return self.clock.at(frames)


@dataclass(frozen=True)
class Ticking:
    """An even clock of `fps` frames per second over the same duration; BadInput if that is less than the source's."""

    clock: Clock
    fps: Fraction

    def __post_init__(self) -> None:
        if self.fps < self.clock.fps:
            raise BadInput(
                f"--fps {self.fps} is lower than the source's {_rate(self.clock.fps)} frames per second; give more, or "
                "drop frames with another program"
            )
        if self.fps > MOST * self.clock.fps:
            raise BadInput(f"--fps {self.fps} is more than {MOST} times the source's {_rate(self.clock.fps)}")

    @cached_property
    def base(self) -> Fraction:
        """The time of a frame, or less where the film does not begin at zero."""
        unit = _common(self.clock.at(0), 1 / self.fps)
        return unit if unit.denominator <= _TICKS else _MICROSECOND

    def gap(self, frame: int) -> list[Moment]:
        """See `Timeline`."""
        begin, left, right = (self.clock.at(number) for number in (0, frame, frame + 1))
        ticks = range(self._first(left), self._first(right))
        return [Moment((begin + k / self.fps - left) / (right - left), begin + k / self.fps) for k in ticks]

    def count(self, frames: int) -> int:
        """See `Timeline`."""
        return self._first(self.clock.at(frames))

    def end(self, frames: int) -> Fraction:
        """See `Timeline`."""
        return self.clock.at(0) + self.count(frames) / self.fps

    def _first(self, time: Fraction) -> int:
        """Number of the first tick that is not before `time`."""
        return math.ceil((time - self.clock.at(0)) * self.fps)


def times(clock: Clock, count: int) -> Divided:
    """`count` frames for each one; BadInput unless 2 or more."""
    if not 2 <= count <= MOST:
        raise BadInput(f"--times must be 2 or more, at most {MOST}, got {count}")
    return Divided(clock, tuple(Fraction(i, count) for i in range(count)))


def at(clock: Clock, text: str) -> Divided:
    """Made frames at fractions of every gap, as a user writes them: "0.25,0.5" or "1/3,2/3"."""
    try:
        found = [Fraction(word.strip()).limit_denominator(FINEST) for word in text.split(",")]
    except (ValueError, ZeroDivisionError) as error:
        raise BadInput(f"cannot read --at {text!r}; write fractions of a gap such as 0.25,0.5 or 1/3,2/3") from error
    if len(found) > MOST or sorted(set(found)) != found or not all(0 < part < 1 for part in found):
        raise BadInput(f"--at {text!r}: give fractions that increase, more than 0 and less than 1, such as 0.25,0.5")
    return Divided(clock, (Fraction(0), *found))


def _common(*lengths: Fraction) -> Fraction:
    """The largest length that measures all of them."""
    return reduce(_measure, (length for length in lengths if length))


def _measure(one: Fraction, other: Fraction) -> Fraction:
    common = math.gcd(one.numerator * other.denominator, other.numerator * one.denominator)
    return Fraction(common, one.denominator * other.denominator)


def _rate(fps: Fraction) -> str:
    return str(fps) if fps.denominator in (1, 1001) else f"{float(fps):.3f}"
