"""Sound, subtitles and other tracks of one file on their way into another, packet for packet.

Nothing is decoded: the bytes and the time stamps of every packet arrive as they left. Packets are handed over just
ahead of the pictures of their time, so that neither side waits in memory.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from av.container import OutputContainer
from av.packet import Packet

from framefill.video import sources


class Passengers:
    """The tracks of `source` that `container`, just opened for writing, can hold.

    `taken` and `left` name them, with the coding: "audio aac", "subtitle subrip". What is due after `end` seconds stays
    behind.
    """

    def __init__(self, source: Path, container: OutputContainer, *, end: Fraction | None = None) -> None:
        self._container, self._input, self._end = container, sources.opened(source), end
        self.taken: list[str] = []
        self.left: list[str] = []
        self._places = {}
        for stream in self._input.streams:
            if stream.type not in ("audio", "subtitle"):
                continue
            name = f"{stream.type} {stream.codec_context.name if stream.codec_context else 'of an unknown kind'}"
            place = self._place(stream)
            (self.left if place is None else self.taken).append(name)
            if place is not None:
                self._places[stream.index] = place
        self._packets = self._all()
        self._next = next(self._packets, None)

    def _place(self, stream: object) -> object | None:
        context = getattr(stream, "codec_context", None)
        if context is None or context.name not in self._container.supported_codecs:
            return None
        try:
            return self._container.add_stream_from_template(stream)  # type: ignore[type-var]
        except ValueError:  # what the file format knows of, but not in this form
            return None

    def until(self, time: Fraction) -> None:
        """Hand over what is due up to `time` seconds."""
        while self._next is not None and self._next[0] <= time:
            self._container.mux_one(self._next[1])
            self._next = next(self._packets, None)

    def finish(self) -> None:
        """Hand over the rest and let go of the source."""
        while self._next is not None:
            self.until(self._next[0])
        self._input.close()

    def _all(self) -> Iterator[tuple[Fraction, Packet]]:
        chosen = [stream for stream in self._input.streams if stream.index in self._places]
        for packet in self._input.demux(chosen) if chosen else ():
            stamp = packet.pts if packet.dts is None else packet.dts
            if stamp is None or packet.time_base is None:  # the end of a track
                continue
            due = stamp * packet.time_base
            if self._end is not None and due > self._end:
                continue
            packet.stream = self._places[packet.stream.index]  # type: ignore[assignment]
            yield due, packet
