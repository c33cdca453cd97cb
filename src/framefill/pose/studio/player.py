"""Playing: a clock beside the desk asks it for a frame at a time, so that everything else goes on meanwhile.

The clock's thread makes the frames of a state, which does not change, and touches nothing else but the desk: frames are
drawn by the desk's thread, as all else. It asks for a frame only when the last is drawn, so that on a busy machine
frames are left out and drags do not wait behind them. The show is over at its end, when it is stopped, or when the
session is no longer in the state that is shown.
"""

import threading
import time
from collections.abc import Callable

from framefill.errors import BadInput
from framefill.pose.studio import drawn
from framefill.pose.studio.session import Session, tweened
from framefill.pose.turning import Floats

RATE = 30.0  # frames per second


class Show:
    """One playing: of which state, and, once made, places (T, J, 3) and turns (T, J, 4), and when it began."""

    def __init__(self, session: Session):
        if len(session.state.keys) < 2:
            raise BadInput("there is nothing to play; keep two keys at different times first")
        self.state, self._skeleton = session.state, session.character.rig.skeleton
        self.over, self.seen = threading.Event(), threading.Event()
        self.seen.set()

    def make(self) -> None:
        """Makes the frames, 30 a second, which may take a second for a minute of them, and begins."""
        places, turned = tweened(self._skeleton, self.state.keys, RATE).world()
        self.places, self.turns = places.numpy(), drawn.quaternions(turned.numpy())
        self.begin = time.monotonic()

    def frame(self) -> int | None:
        """Which frame it is time for; none after the last."""
        number = round((time.monotonic() - self.begin) * RATE)
        return number if number < len(self.places) else None


class Player:
    """`draw` shows places (J, 3) and turns (J, 4); `put` is the desk's; `ended` is told, on the desk, of every end.

    `start`, `stop` and `check` are for the desk's thread.
    """

    def __init__(
        self,
        session: Session,
        draw: Callable[[Floats, Floats], None],
        put: Callable[[Callable[[], None]], None],
        ended: Callable[[], None],
    ):
        self._session, self._draw, self._put, self._ended = session, draw, put, ended
        self._show: Show | None = None

    @property
    def playing(self) -> bool:
        """Whether a show is on."""
        return self._show is not None

    def start(self) -> None:
        """Plays the keys from the first. Raises BadInput where there are no two."""
        self.stop()
        self._show = show = Show(self._session)
        threading.Thread(target=self._clock, args=(show,), name="play", daemon=True).start()

    def stop(self) -> None:
        """Ends the show, if one is on."""
        show, self._show = self._show, None
        if show is not None:
            show.over.set()
            self._ended()

    def check(self) -> None:
        """Ends the show if the session has changed since it began."""
        if self._show is not None and self._show.state is not self._session.state:
            self.stop()

    def close(self) -> None:
        """No more frames are asked for, by whatever thread this is called."""
        show = self._show
        if show is not None:
            show.over.set()

    def _clock(self, show: Show) -> None:
        try:
            show.make()
        except Exception as error:
            broken = error
            self._put(lambda: self._break(show, broken))
            return
        while not show.over.wait(1 / RATE):
            if show.seen.is_set():
                show.seen.clear()
                self._put(lambda: self._tick(show))

    def _break(self, show: Show, error: Exception) -> None:
        """Where a show could not be made: the desk says why, if it is still wanted."""
        if show is self._show:
            self.stop()
            raise error

    def _tick(self, show: Show) -> None:
        """A frame, unless the show that asked for it is not on any more."""
        self.check()
        if show is not self._show:
            return
        frame = show.frame()
        if frame is None:
            self.stop()
            return
        self._draw(show.places[frame], show.turns[frame])
        show.seen.set()
