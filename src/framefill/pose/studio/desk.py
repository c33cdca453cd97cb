"""One thread that does everything in order, so that the session needs no lock.

A drag sends targets faster than a slow machine solves: work that waits under the same name is replaced by the newer,
so that the body goes where the hand is and not where it was.
"""

import threading
from collections.abc import Callable

Work = Callable[[], None]


class Desk:
    """Work in order of arrival; errors go to `report` and the desk goes on."""

    def __init__(self, report: Callable[[Exception], None]):
        self._report = report
        self._waiting: list[tuple[str | None, Work]] = []
        self._arrived = threading.Condition()
        self._closed = self._busy = False
        self._thread = threading.Thread(target=self._run, name="studio", daemon=True)
        self._thread.start()

    def put(self, work: Work, name: str | None = None) -> None:
        """Work for later; under a name it takes the place of the last that waits, if that has the same name."""
        with self._arrived:
            if name is not None and self._waiting and self._waiting[-1][0] == name:
                self._waiting.pop()
            self._waiting.append((name, work))
            self._arrived.notify_all()

    def drain(self, seconds: float = 30.0) -> bool:
        """Waits until nothing is left to do; False if that takes longer."""
        with self._arrived:
            return self._arrived.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def close(self) -> None:
        """No more work is begun."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()

    def _run(self) -> None:
        while True:
            with self._arrived:
                self._busy = False
                self._arrived.notify_all()
                self._arrived.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                _, work = self._waiting.pop(0)
                self._busy = True
            try:
                work()
            except Exception as error:  # a broken command must not take the studio down
                self._report(error)
