"""What a user is told when something cannot be done: one line that says what was given, what is allowed, what to do.

Everything framefill raises on purpose is a `FramefillError`; the command line prints its message and exits with 2
(bad usage or input) or 1 (`Failed`: the input was fine, the work did not finish). Anything else is a bug.
"""

import re


class FramefillError(Exception):
    """Base of every deliberate error. Its message is one clear line: what was given, what is allowed, what to do."""


class BadInput(FramefillError):
    """A value, shape or option that framefill cannot take."""


class MediaError(BadInput):
    """A video, image or array file that cannot be read as one, or written."""


class NotWritten(MediaError):
    """A result that could not be written: the disk is full or locked, or the format does not take these frames."""


class CheckpointError(BadInput):
    """A model file that is damaged, foreign, or newer than this framefill."""


class CodecError(BadInput):
    """A compressed file that is damaged, foreign, too new, over a limit, or made with a model that is not here."""


class NotInstalled(BadInput):
    """Something optional that the work needs is not on this machine; the message has the command that installs it."""


class Stiff(BadInput):
    """An ODE that a solver could not finish: at `t`, in `sample` of those given, because of `reason`.

    `where` says in which part of a model, such as "of scale 1 of 2, of block 3 of 8".
    """

    def __init__(self, where: str, t: float, sample: int, reason: str):
        super().__init__(
            f"the ODE {where + ' ' if where else ''}stopped at t = {t:.6g} in sample {sample}: {reason}; raise rtol "
            "and atol, train with stronger regularisers, or leave this sample out"
        )
        self.where, self.t, self.sample, self.reason = where, t, sample, reason

    def within(self, where: str, first: int = 0) -> "Stiff":
        """The same as part of something larger, in which the samples are counted from `first`."""
        whole = ", ".join(part for part in (where, self.where) if part)
        return Stiff(whole, self.t, self.sample + first, self.reason)


class Failed(FramefillError):
    """The request was valid, but the work could not be finished (training diverged, disk full)."""


def one_line(error: FramefillError) -> str:
    """The message of an error as one line."""
    return printable(str(error))


def printable(text: str) -> str:
    """Text as one line: a file may be named with line breaks, or codes that change the terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda code: f"\\x{ord(code[0]):02x}", " ".join(text.split()))
