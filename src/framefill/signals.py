"""Signals that ask to stop: the first is obeyed where it does no harm, the second at once.

    with listening() as stop:           from here on SIGINT (Ctrl-C) and SIGTERM raise Stopped ...
        with stop.finishing():          ... except in here, where they are only noted in stop.number,
            with stop.at_once():        ... except in here, for work whose loss does not matter.

Python runs its handlers between bytecodes, and a backward pass or a collective is one call that may last long; so a
thread, which is woken in the middle of them, counts the signals and ends the process at the second. Under torchrun it
does not: torchrun passes on signals that its workers may have had already, and kills after 30 seconds itself.
"""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

ASKING = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The work was stopped by signal `number`; `code` is what a process ends with then: 130 (Ctrl-C) or 143."""

    def __init__(self, number: int, words: str = "stopped"):
        super().__init__(words)
        self.number = number

    @property
    def code(self) -> int:
        """The exit code, 128 + the signal."""
        return 128 + self.number


class Stop:
    """What has been asked for: `number` is the first signal that came, 0 as long as none did."""

    def __init__(self) -> None:
        self.number = 0
        self._held = False

    def finishing(self) -> AbstractContextManager[None]:
        """A with-block in which signals are only noted: look at `number` where it is good to stop."""
        return self._holding(True)

    def at_once(self) -> AbstractContextManager[None]:
        """A with-block in which signals, also one noted before, raise Stopped."""
        return self._holding(False)

    @contextmanager
    def _holding(self, held: bool) -> Iterator[None]:
        before, self._held = self._held, held
        try:
            self._obey()
            yield
        finally:
            self._held = before

    def hear(self, number: int, frame: FrameType | None = None) -> None:
        """A signal has come; the handler of both."""
        self.number = self.number or number
        self._obey()

    def _obey(self) -> None:
        if self.number and not self._held:
            raise Stopped(self.number)


_listening: list[Stop] = []


@contextmanager
def listening() -> Iterator[Stop]:
    """Hears SIGINT and SIGTERM until the block ends; a block within a block gets the same Stop.

    Outside the main thread, where Python lets nobody listen, the Stop stays silent.
    """
    if _listening or threading.current_thread() is not threading.main_thread():
        yield _listening[0] if _listening else Stop()
        return
    stop = Stop()
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    handlers = {number: signal.signal(number, stop.hear) for number in ASKING}
    woken = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    counter = threading.Thread(target=_end_at_the_second, args=(ear,), daemon=True)
    counter.start()
    _listening.append(stop)
    try:
        yield stop
    finally:
        _listening.clear()
        signal.set_wakeup_fd(woken)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        mouth.close()
        counter.join()
        ear.close()


def _end_at_the_second(ear: socket.socket) -> None:
    """Reads the number of every signal that comes, until the other end is closed."""
    heard = 0
    while number := ear.recv(1):
        heard += number[0] in ASKING
        if heard > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
            os._exit(128 + number[0])
