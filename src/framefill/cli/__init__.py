"""The command line: every verb is a plain typed function, and torch is loaded only by the verbs that need it.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 bad usage or input,
130 stopped by Ctrl-C, 143 by SIGTERM. Training writes a checkpoint before it stops; a second signal ends it at once.
"""

import faulthandler
import io
import os
import sys
from collections.abc import Callable
from typing import Any

from framefill.errors import Failed, FramefillError, one_line
from framefill.signals import Stopped, listening


def main() -> None:
    """Entry point of `framefill`: runs a verb and turns deliberate errors into one line and an exit code."""
    if sys.argv[1:] == ["--version"]:
        from framefill import __version__

        print(f"framefill {__version__}")
        return
    debug = "--debug" in sys.argv
    words = [w for w in sys.argv[1:] if w != "--debug"]
    for stream in (sys.stdout, sys.stderr):  # a file name may be any bytes: they come out as they came in
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    try:
        with listening():
            _run(words)
    except FramefillError as error:
        if debug:
            raise
        print(f"framefill: {one_line(error)}", file=sys.stderr)
        _leave_in_time()
        sys.exit(1 if isinstance(error, Failed) else 2)
    except Stopped as stopped:
        print(f"framefill: {stopped}", file=sys.stderr)
        sys.exit(stopped.code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _leave_in_time(seconds: float = 5.0) -> None:
    """Among several processes, ends this one even if what is left of their connection holds it up at its exit."""
    if "WORLD_SIZE" in os.environ:
        faulthandler.dump_traceback_later(seconds, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115 until the end


def _run(words: list[str]) -> None:
    import tyro

    from framefill.cli import (
        compress,
        convert,
        emulate,
        evaluate,
        fit,
        inspect,
        interpolate,
        pose,
        score,
        training,
        upscale,
        video,
    )

    verbs: dict[str, Callable[..., Any]] = {
        "predict": video.predict,
        "interpolate": interpolate.interpolate,
        "complete": video.complete,
        "generate": video.generate,
        "emulate": emulate.emulate,
        "pose": pose.pose,
        "score": score.score,
        "upscale": upscale.upscale,
        "compress": compress.compress,
        "decompress": compress.decompress,
        "fit": fit.fit,
        "evaluate": evaluate.evaluate,
        "train": training.train,
        "convert": convert.convert,
        "demo": video.demo,
        "info": inspect.info,
        "recipes": inspect.recipes,
        "doctor": inspect.doctor,
    }
    prog, about = "framefill", "Give framefill the frames you have; it fills in the ones you don't."
    if words[:1] == ["pose"]:
        verbs, words, prog, about = pose.verbs(), words[1:], "framefill pose", pose.ABOUT
    tyro.extras.subcommand_cli_from_dict(
        verbs,
        prog=prog,
        description=about,
        args=words,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
