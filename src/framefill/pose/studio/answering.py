"""The process that answers questions: one on a line of its input, its answer on a line of its output (`letters`).

    python -P -m framefill.pose.studio.answering

The first line out says that it listens. What answering prints goes to standard error, not among the answers. It ends
with its input.
"""

import os
import signal
import sys
import traceback
from typing import BinaryIO

from framefill.errors import BadInput, Failed, FramefillError, one_line
from framefill.pose.studio import letters
from framefill.pose.studio.questions import Question

MEEK = 10  # by how much the process gives way to the page's own
ANSWER, REFUSED, FAILED = "answer", "refused", "failed"  # what the first half of an answer's line may say


def asked(question: Question) -> str:
    """The line that asks a question. Raises BadInput for what cannot be sent."""
    return letters.write([question.name, question.told])


def answer(line: str | bytes) -> str:
    """The line that answers a line: what was found, or why not."""
    try:
        return letters.write([ANSWER, Question(*letters.read(line))()])
    except FramefillError as error:
        return letters.write([REFUSED if isinstance(error, BadInput) else FAILED, one_line(error)])
    except Exception as error:  # as for the desk: the studio goes on
        traceback.print_exception(error, file=sys.stderr)
        return letters.write([FAILED, f"this did not work: {type(error).__name__}"])


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Line after line, until there is none, or nobody who reads."""
    try:
        for line in questions:
            answers.write(answer(line).encode() + b"\n")
            answers.flush()
    except BrokenPipeError:  # the studio is gone
        return


def understood(line: bytes) -> object:
    """What a line answers. Raises what it says went wrong, and Failed where it is none."""
    try:
        kind, found = letters.read(line)
    except (BadInput, TypeError, ValueError):
        raise Failed("the search ended without an answer; ask again") from None
    if kind != ANSWER:
        raise (BadInput if kind == REFUSED else Failed)(found)
    return found


def main() -> None:
    """The process. Its end from outside is an exit, so that folders are removed and an estimator is stopped."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the studio
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(MEEK)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
