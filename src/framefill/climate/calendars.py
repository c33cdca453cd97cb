"""Time in the calendar of the data: how far apart two times are, where one is missing, which comes next.

A step is a number of seconds or a number of months: months are not equally long in most calendars, and a monthly mean
may be dated at any day of its month. Times are cftime objects throughout, so a 360-day year has its 30 February.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from framefill.errors import BadInput

Time = Any  # a cftime.datetime of any calendar
CALENDARS = ("standard", "gregorian", "proleptic_gregorian", "noleap", "365_day", "all_leap", "366_day", "360_day",
             "julian")  # fmt: skip
SAME = {"gregorian": "standard", "365_day": "noleap", "366_day": "all_leap"}


@dataclass(frozen=True)
class Step:
    """Time from one field to the next: `months`, or `seconds` where months is 0."""

    months: int = 0
    seconds: float = 0.0

    @property
    def unit(self) -> str:
        """What leads count in: "years", "months", "days", "hours", "minutes", or "steps of 6 hours"."""
        count, _, unit = str(self).partition(" ")
        return f"{unit}s" if count == "1" else f"steps of {self}"

    def __str__(self) -> str:
        if self.months:
            count, unit = (self.months // 12, "year") if self.months % 12 == 0 else (self.months, "month")
            return f"{count} {unit}{'s' * (count > 1)}"
        for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
            if self.seconds % size == 0:
                return f"{self.seconds / size:g} {unit}{'s' * (self.seconds != size)}"
        return f"{self.seconds:g} seconds"

    def between(self, first: Time, second: Time) -> float:
        """How many steps from one time to another; a whole number where none is missing."""
        if self.months:
            return (_month(second) - _month(first)) / self.months
        return (second - first).total_seconds() / self.seconds


def calendar_of(time: Time) -> str:
    """The calendar's name in CF, with one name for one calendar."""
    return SAME.get(time.calendar, time.calendar)


def step_of(times: Sequence[Time]) -> Step:
    """The commonest step between neighbours. Raises BadInput for one time, or times that do not rise."""
    if len(times) < 2:
        raise BadInput(f"time has {len(times)} step(s); a sequence needs 2 or more: give more of the record")
    seconds = np.round(np.diff(_seconds(times)), 3)
    wrong = np.flatnonzero(seconds <= 0)
    if len(wrong):
        a, b = times[wrong[0]], times[wrong[0] + 1]
        raise BadInput(f"time is not sorted: {a} is followed by {b}; sort the file: ds.sortby('time')")
    months = np.diff(_months(times))
    size, count = _commonest(seconds)
    month, month_count = _commonest(months)
    # equal steps may be months as well (a 360-day calendar, years without leap days): then the day stays the same
    same_day = len({t.day for t in times}) == 1
    if month >= 1 and (month_count > count or (month_count == count and same_day)):
        return Step(months=int(month))
    return Step(seconds=float(size))


def gaps(times: Sequence[Time], step: Step) -> list[int]:
    """Places i where times[i] and times[i + 1] are not one step apart."""
    far = np.diff(_months(times)) / step.months if step.months else np.diff(_seconds(times)) / step.seconds
    return np.flatnonzero(np.abs(far - 1) > 1e-3).tolist()  # times in float days are off by seconds


def stretches(times: Sequence[Time], step: Step) -> list[slice]:
    """The longest slices of `times` without a gap, in order; together they are all of it."""
    ends = [0, *(i + 1 for i in gaps(times, step)), len(times)]
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


def following(time: Time, step: Step, count: int) -> list[Time]:
    """The next `count` times after `time`. A day that a month does not have becomes its last."""
    if not step.months:
        return [time + timedelta(seconds=step.seconds) * i for i in range(1, count + 1)]
    return [_shifted(time, step.months * i) for i in range(1, count + 1)]


def _seconds(times: Sequence[Time]) -> np.ndarray:
    """Seconds after the first time: a record has a million times, so no object is kept for each difference."""
    return np.fromiter(((t - times[0]).total_seconds() for t in times), np.float64, len(times))


def _months(times: Sequence[Time]) -> np.ndarray:
    return np.fromiter(map(_month, times), np.int64, len(times))


def _month(time: Time) -> int:
    return 12 * time.year + time.month - 1


def _shifted(time: Time, months: int) -> Time:
    year, month = divmod(_month(time) + months, 12)
    first = time.replace(year=year, month=month + 1, day=1)
    return first.replace(day=min(time.day, first.daysinmonth))


def _commonest(values: np.ndarray) -> tuple[float, int]:
    found, counts = np.unique(values, return_counts=True)
    return float(found[counts.argmax()]), int(counts.max())
