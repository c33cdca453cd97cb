"""Questions that take seconds, asked of a process of its own: the desk's thread stays free for drags.

A thread beside it would not do, for Python runs one thread at a time. One question is asked at a time; what is given
up is ended with its process, at once, whatever it was doing.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from framefill.errors import BadInput, Failed, FramefillError
from framefill.pose.studio.questions import Question

MEEK = 10  # by how much the process gives way to the page's own
TICK = 1.0  # seconds between two words of progress
PARTING = 10.0  # seconds that the process has to end


class Search:
    """`put` takes work in which an answer is used, or an error raised; see `Desk.put`."""

    def __init__(self, put: Callable[[Callable[[], None]], None]):
        self._put = put
        self._lock = threading.Lock()
        self._process: Any = None
        self._link: Connection | None = None
        self._number = 0  # of the last question; an answer to another one is not wanted any more
        self._waiting = False

    @property
    def busy(self) -> bool:
        """Whether a question waits for its answer."""
        return self._waiting

    def ask(self, question: Question, then: Callable[[Any], None], progress: Callable[[float], None]) -> None:
        """`then(answer)` by `put` when it is there; `progress(seconds)` meanwhile. Gives up what was asked before."""
        self.cancel()
        with self._lock:
            self._number += 1
            self._waiting = True
            words = (self._number, self._linked(), question, then, progress)
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
        """Ends the process and waits for its end."""
        self.cancel()
        with self._lock:
            process = self._process
            self._end()
        if process is not None:
            process.join(PARTING)

    def _linked(self) -> Connection:
        if self._link is None or not self._process.is_alive():
            context = multiprocessing.get_context("spawn")
            self._link, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), name="framefill search", daemon=True)
            self._process.start()
            theirs.close()
        return self._link

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process = self._link = None

    def _wait(
        self,
        number: int,
        link: Connection,
        question: Question,
        then: Callable[[Any], None],
        progress: Callable[[float], None],
    ) -> None:
        begin = time.monotonic()
        try:
            link.send(question)  # here, for a process that only begins does not take it yet
            while not link.poll(TICK):
                if number == self._number:
                    progress(time.monotonic() - begin)
            answer = link.recv()
        except (EOFError, OSError):
            answer = Failed("the search ended without an answer; ask again")
        with self._lock:
            if number != self._number:
                return
            self._waiting = False
        self._put(lambda: _use(then, answer))


def _use(then: Callable[[Any], None], answer: Any) -> None:
    if isinstance(answer, Exception):
        raise answer
    then(answer)


def _serve(link: Connection) -> None:
    """The process. Its end from outside is an exit, so that folders are removed and an estimator is stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the studio
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(MEEK)
    with contextlib.suppress(EOFError, OSError):  # the studio is gone
        while True:
            link.send(answer(link.recv()))


def answer(question: Question) -> Any:
    """What is answered, or the error to raise instead."""
    try:
        return question()
    except FramefillError as error:
        return (BadInput if isinstance(error, BadInput) else Failed)(str(error))
    except Exception as error:  # as for the desk: the studio goes on
        traceback.print_exception(error, file=sys.stderr)
        return Failed(f"this did not work: {type(error).__name__}")
