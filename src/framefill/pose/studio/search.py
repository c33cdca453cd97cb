"""Questions that take seconds, asked of a process of its own: the desk's thread stays free for drags.

A thread beside it would not do, for Python runs one thread at a time. One question is asked at a time; what is given
up is ended with its process, at once, whatever it was doing. Both speak lines of text (`answering`).
"""

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from framefill.pose.studio import answering
from framefill.pose.studio.questions import Question

WORDS = (sys.executable, "-P", "-m", answering.__name__)  # -P: nothing is imported from where the user happens to be
TICK = 1.0  # seconds between two words of progress
PARTING = 10.0  # seconds that the process has to end
Process = subprocess.Popen[bytes]


class Search:
    """`put` takes work in which an answer is used, or an error raised; see `Desk.put`."""

    def __init__(self, put: Callable[[Callable[[], None]], None]):
        self._put = put
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._number = 0  # of the last question; an answer to another one is not wanted any more
        self._waiting = False

    @property
    def busy(self) -> bool:
        """Whether a question waits for its answer."""
        return self._waiting

    def ask(self, question: Question, then: Callable[[Any], None], progress: Callable[[float], None]) -> None:
        """`then(answer)` by `put` when it is there; `progress(seconds)` meanwhile. Gives up what was asked before.

        Raises BadInput for a question that cannot be sent.
        """
        self.cancel()
        line = answering.asked(question).encode() + b"\n"
        with self._lock:
            self._number += 1
            self._waiting = True
            words = (self._number, self._running(), line, then, progress)
            threading.Thread(target=self._wait, args=words, name="search", daemon=True).start()

    def cancel(self) -> bool:
        """Gives the question up; False where there is none."""
        with self._lock:
            was, self._waiting = self._waiting, False
            self._number += 1
            if was:
                self._end()
        return was

    def close(self) -> None:
        """Ends the process and waits for its end; one that does not end is killed."""
        self.cancel()
        with self._lock:
            process = self._process
            self._end()
        if process is not None:
            try:
                process.wait(PARTING)
            except subprocess.TimeoutExpired:
                process.kill()

    def _running(self) -> Process:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(WORDS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process

    def _end(self) -> None:
        """Ends the process, if there is one, without waiting: whoever reads from it sees its end."""
        if self._process is not None:
            self._process.terminate()
            self._process = None

    def _wait(
        self,
        number: int,
        process: Process,
        line: bytes,
        then: Callable[[Any], None],
        progress: Callable[[float], None],
    ) -> None:
        begin = time.monotonic()
        heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=lambda: heard.put(_exchanged(process, line)), name="search pipe", daemon=True).start()
        while True:
            try:
                answer = heard.get(timeout=TICK)
                break
            except queue.Empty:
                if number == self._number:
                    progress(time.monotonic() - begin)
        with self._lock:
            if number != self._number:
                return
            self._waiting = False
        self._put(lambda: then(answering.understood(answer)))


def _exchanged(process: Process, line: bytes) -> bytes:
    """The answer to a line; empty where the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
        answer = process.stdout.readline()
    except (OSError, ValueError):
        answer = b""
    if not answer:
        process.wait()  # nothing is left of it in the table of processes
    return answer
