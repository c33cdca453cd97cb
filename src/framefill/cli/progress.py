"""Progress on standard error: a bar with an estimate on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def bar(what: str, total: int | None, *, of: str = "frames", quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Gives a function to call after each of `total` (or unknown many) pieces of work, which are called `of`."""
    if quiet or not sys.stderr.isatty():
        yield _lines(what, total, of, quiet)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def _lines(what: str, total: int | None, of: str, quiet: bool) -> Callable[[], None]:
    start = last = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, last
        done += 1
        if not quiet and time.monotonic() - last > 10:
            last = time.monotonic()
            rate = done / (last - start)
            left = f", {max(total - done, 0) / rate:.0f} s left" if total else ""
            print(f"{what}: {done}{f' of {total}' if total else ''} {of}, {rate:.1f}/s{left}", file=sys.stderr)

    return advance


@contextmanager
def meter(what: str, *, quiet: bool = False) -> Iterator[Callable[[Any], None]]:
    """Gives a function to call with every `Progress` of a training: step, loss, speed, time left."""
    if quiet or not sys.stderr.isatty():
        yield _training_lines(what, quiet)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("")
        yield lambda p: progress.update(task, completed=p.step, total=p.steps, description=_words(p))


def _words(p: Any) -> str:
    if not p.planned:
        return f"loss {p.loss:.4f}, measuring the speed"
    left = f"{p.left / 3600:.1f} h" if p.left > 5400 else f"{p.left / 60:.0f} min" if p.left > 90 else f"{p.left:.0f} s"
    skipped = f", {p.skipped} steps skipped" if p.skipped else ""
    return f"loss {p.loss:.4f}, {p.rate:.1f} examples/s, {left} left{skipped}"


def _training_lines(what: str, quiet: bool) -> Callable[[Any], None]:
    last = 0.0

    def show(p: Any) -> None:
        nonlocal last
        if not quiet and (time.monotonic() - last > 15 or p.step == p.steps):
            last = time.monotonic()
            print(f"{what}: step {p.step}{f' of {p.steps}' if p.planned else ''}, {_words(p)}", file=sys.stderr)

    return show
