"""When frames are shown: the time stamps of a film, found without decoding it.

Most films tick evenly, and a rate says all. Others (phones, screen recordings, cut and joined files) have a stamp for
every frame; what is made between two of them is shown between them. A clock that runs backwards or stands still is
said at once, not after an hour of work.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from framefill.errors import MediaError
from framefill.video import sources, stacks


@dataclass(frozen=True, eq=False)
class Clock:
    """Time of every frame: `stamps` (T,) int64 in units of `base` seconds, or None for an even `fps` from `start` on.

    `last` is for how many units the last of the stamped frames is shown, 0 where nobody says; `frames` how many there
    are, None where only reading them tells.
    """

    fps: Fraction
    stamps: NDArray[np.int64] | None = None
    base: Fraction = Fraction(1)
    start: Fraction = Fraction(0)
    last: int = 0
    frames: int | None = None

    @property
    def even(self) -> bool:
        """Whether the rate says all."""
        return self.stamps is None and not self.start

    def at(self, frame: int, part: Fraction = Fraction(0)) -> Fraction:
        """Seconds at which frame number `frame` is shown, and then `part` (0 to 1) of the way to the next one.

        What lies past the last stamp follows at the mean rate.
        """
        return self._at(frame) * (1 - part) + self._at(frame + 1) * part if part else self._at(frame)

    def closed(self) -> "Clock":
        """The same, with the moment at which the last frame goes as one more stamp, where it is known."""
        if self.stamps is None or not self.last:
            return self
        return replace(self, stamps=np.append(self.stamps, self.stamps[-1] + self.last), last=0)

    def _at(self, frame: int) -> Fraction:
        if self.stamps is None:
            return self.start + frame / self.fps
        last = len(self.stamps) - 1
        return int(self.stamps[min(frame, last)]) * self.base + max(frame - last, 0) / self.fps


def film_clock(path: Path, *, fps: Fraction | None = None, keep_start: bool = False) -> Clock:
    """The clock of a file; with `fps` its stamps are not believed.

    The first frame is shown at zero, or, with `keep_start`, when the file says: as sound that goes along needs it.
    Raises MediaError if stamps run backwards, and if two frames have the same one.
    """
    if fps is not None:
        return Clock(fps)
    if path.is_dir() or sources.is_picture(path) or stacks.is_stack(path):
        return Clock(sources.DEFAULT_FPS)
    with sources.opened(path) as container:
        stream = sources.track(path, container)
        rate, base, gif = sources.rate(stream), stream.time_base, stream.codec_context.name == "gif"
        shown, decoded, last = [], [], (-1, 0)
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                shown.append(packet.pts)
                decoded.append(packet.dts)
                last = max(last, (packet.pts or 0, packet.duration or 0))
    if gif or base is None or not shown or None in shown:  # nothing to go by, or hundredths that alternate
        return Clock(rate, frames=len(shown) or None)
    _check_order(path, [stamp for stamp in decoded if stamp is not None], base)
    stamps = np.sort(np.array(shown, np.int64))
    repeated = np.flatnonzero(np.diff(stamps) == 0)
    if len(repeated):
        raise MediaError(
            f"{path}: frames {repeated[0]} and {repeated[0] + 1} have the same time stamp "
            f"({_seconds(int(stamps[repeated[0]]), base)}); give --fps to space frames evenly"
        )
    if _is_even(stamps - stamps[0], base, rate):
        return Clock(rate, start=int(stamps[0]) * base if keep_start else Fraction(0), frames=len(stamps))
    begin = 0 if keep_start else stamps[0]
    return Clock(_mean(stamps, base, rate), stamps - begin, base, last=last[1], frames=len(stamps))


def _check_order(path: Path, stamps: list[int], base: Fraction) -> None:
    steps = np.diff(np.array(stamps, np.int64))
    back = np.flatnonzero(steps < 0)
    if len(back):
        before, after = stamps[back[0]], stamps[back[0] + 1]
        raise MediaError(
            f"{path}: its clock runs backwards at frame {back[0] + 1}, from {_seconds(before, base)} to "
            f"{_seconds(after, base)}; give --fps to space frames evenly"
        )


def _is_even(stamps: NDArray[np.int64], base: Fraction, rate: Fraction) -> bool:
    """Whether stamps are those of an even clock from zero, but for rounding to a unit."""
    ticks = float(1 / (rate * base))
    return bool(np.abs(stamps - np.arange(len(stamps)) * ticks).max() <= 1)


def _mean(stamps: NDArray[np.int64], base: Fraction, rate: Fraction) -> Fraction:
    span = int(stamps[-1] - stamps[0]) * base
    return (len(stamps) - 1) / span if span else rate


def _seconds(stamp: int, base: Fraction) -> str:
    return f"{float(stamp * base):.3f} s"
