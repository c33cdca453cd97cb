"""Films that were written in parts, joined packet for packet into one, with sound and subtitles aboard.

Every part begins with a picture that needs no other, so joining is bookkeeping: nothing is decoded, and the stamps are
given anew, exact, in the unit of the whole film. A decoder must have a picture before it is shown; where pictures are
stored in another order than they are shown, all decoding times therefore lie as many frames earlier as any needs.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

from framefill.video.passengers import Passengers
from framefill.video.sinks import MUXING, Plan


def join(parts: Sequence[Path], goal: Path, plan: Plan, ticks: NDArray[np.int64]) -> Passengers | None:
    """Writes `parts` as the film `goal`: frame i is shown from `ticks[i]` to `ticks[i + 1]`, so one more than frames.

    Ticks are in units of `plan.base`. `plan` also says what goes along, which ends where the film does if `plan.until`
    is set. Returns who is aboard. Errors of the libraries pass through.
    """
    base = plan.base or 1 / plan.fps
    ticks = np.maximum.accumulate(ticks - np.arange(len(ticks))) + np.arange(len(ticks))  # no two at one moment
    orders = [_order(part) for part in parts]
    delay = max(int((np.arange(len(order)) - order).max()) for order in orders)
    options = MUXING.get(goal.suffix.lower(), {})
    with av.open(str(goal), "w", options=options) as container, av.open(str(parts[0])) as first:
        stream = container.add_stream_from_template(first.streams.video[0])
        stream.time_base = base
        aboard = (
            Passengers(plan.carry, container, end=int(ticks[-1]) * base if plan.until else None) if plan.carry else None
        )
        for packet in _stamped(parts, orders, ticks, delay):
            packet.stream, packet.time_base = stream, base
            if aboard:
                aboard.until((packet.dts or 0) * base)
            container.mux_one(packet)
        if aboard:
            aboard.finish()
    return aboard


def _order(part: Path) -> NDArray[np.int64]:
    """For every packet in turn, which frame of the part it is as they are shown."""
    with av.open(str(part)) as container:
        stamps = np.array([packet.pts for packet in container.demux(video=0) if packet.size], np.int64)
    return stamps.argsort(kind="stable").argsort(kind="stable")


def _stamped(
    parts: Sequence[Path], orders: Sequence[NDArray[np.int64]], ticks: NDArray[np.int64], delay: int
) -> Iterator[Packet]:
    before = ticks[0] - (ticks[1] - ticks[0]) * np.arange(delay, 0, -1)
    decoded, last = np.concatenate([before, ticks]), len(ticks) - 2
    # MP4 adds up the times between decoding, and what that gives is the length of the film.
    rest = int((ticks[-1] - ticks[0]) - (decoded[last] - decoded[0]))
    done = 0
    for part, order in zip(parts, orders, strict=True):
        with av.open(str(part)) as container:
            packets = (packet for packet in container.demux(video=0) if packet.size)
            for number, (packet, place) in enumerate(zip(packets, order, strict=True)):
                packet.pts, packet.dts = int(ticks[done + place]), int(decoded[done + number])
                duration = int(ticks[done + place + 1] - ticks[done + place])
                packet.duration = max(rest, 1) if done + number == last else duration
                yield packet
        done += len(order)
