"""How the verbs that make video do their work: read, make, write, say what was written; file after file, and again.

A job can be interrupted at any moment: run again, the same command goes on and gives the same bytes. What is needed for
that stands beside the target in something hidden whose name names the job; how it is made is the matter of the `Work`.
Given a folder of videos a job makes one result for each and passes over those that are there; under torchrun every
process takes its share of them.
"""

import glob
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from framefill.cli.options import Writing, positive
from framefill.errors import BadInput, FramefillError, MediaError, one_line
from framefill.signals import Stopped

if TYPE_CHECKING:
    from framefill.video.clock import Clock
    from framefill.video.deliver import Target
    from framefill.video.files import Info
    from framefill.video.model import VideoModel


@dataclass(frozen=True)
class Input:
    """One clip to work on: its frames, read when they are asked for."""

    path: Path
    options: Writing

    def frames(self, *, deep: bool = False, own: bool = False) -> Iterator[Any]:
        """Every frame, uint8 or uint16 (H, W, C); with `own` in the colours of the file, not BT.709."""
        from framefill.video.files import read

        return read(self.path, deep=deep, own=own, most=int(self.options.most * 1e9))

    @property
    def film(self) -> Path | None:
        """The file whose sound and subtitles may travel along; an array file and a folder have none."""
        from framefill.video.stacks import is_stack

        return self.path if self.path.is_file() and not is_stack(self.path) else None

    def clip(self, model: "VideoModel", limit: int, *, deep: bool = False) -> Any:
        """Up to `limit` frames in memory, as the model sees them."""
        import numpy as np

        from framefill.video.clip import Clip

        frames = zip(range(limit), self.frames(deep=deep))  # noqa: B905
        small = [model.fitted(Clip(frame[None], Fraction(1))) for _, frame in frames]
        return Clip(np.concatenate(small), self.clock().fps)

    @cached_property
    def info(self) -> "Info":
        """What the file holds; MediaError for one that cannot be read."""
        from framefill.video.files import probe

        return probe(self.path)

    def clock(self, *, keep_start: bool = False) -> "Clock":
        """When its frames are shown."""
        from framefill.video.files import clock

        return clock(self.path, fps=self.options.source_rate, keep_start=keep_start)

    def name(self, *words: Any) -> str:
        """What a job on this input is called: of the same words, versions and files, the results are the same."""
        import torch

        from framefill import __version__
        from framefill.video.stacks import split_name

        place = split_name(self.path)[0]
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        all_words = [__version__, torch.__version__, str(self.path.absolute()), stamps, *words]
        return hashlib.sha256(json.dumps(all_words, default=str).encode()).hexdigest()[:12]


class Ready(Protocol):
    """Work that is planned and may begin."""

    @property
    def fps(self) -> Fraction:
        """Frames per second of the result."""
        ...

    @property
    def total(self) -> int | None:
        """How many frames the result will have, if that is known."""
        ...

    def make(self, each: Callable[[], None]) -> dict[str, Any]:
        """Does the work, calls `each()` after every frame, and says what was written."""
        ...


class Work(Protocol):
    """What a verb does with an input."""

    def plan(self, source: Input | None, target: "Target") -> Ready:
        """Reads what it must to know what it will do; BadInput if that cannot be done."""
        ...


@dataclass(frozen=True)
class Job:
    """A verb with its options and its work."""

    options: Writing
    verb: str
    work: Work

    def run(self, clip: Path) -> None:
        """Does the work for a clip, or for every clip of a folder."""
        self._check()
        clips = _clips(clip)
        output = self.options.output
        if clips and output and output.suffix and not output.is_dir():
            raise BadInput(f"{clip} holds {len(clips)} clips; give a folder with -o, not {output}")
        if clips is None:
            _say(self.options, self._one(Input(clip, self.options), self.options.output))
        else:
            self._all(clip, clips)

    def _check(self) -> None:
        calls = self.options.calls
        positive(samples=self.options.samples, calls=1 if calls is None else calls)

    def make(self) -> None:
        """Does work that needs no clip."""
        self._check()
        _say(self.options, self._one(None, self.options.output))

    def _all(self, folder: Path, clips: list[Path]) -> None:
        from framefill.distributed import Ranks

        failed, done = [], 0
        ranks = Ranks.here()
        for path in ranks.mine(clips):
            output = (self.options.output or Path()) / path.relative_to(folder).parent
            try:
                result = self._one(Input(path, self.options), output, passing=True)
            except FramefillError as error:
                failed.append(f"{path}: {error}")
                print(f"framefill: {one_line(error)}", file=sys.stderr)
                continue
            done += 1
            if result:
                _say(self.options, result)
        print(f"{done} of {done + len(failed)} clips are there", file=sys.stderr)
        if failed:
            raise MediaError(f"{len(failed)} of {done + len(failed)} clips could not be used; the lines above say why")

    def _one(self, source: Input | None, output: Path | None, *, passing: bool = False) -> dict[str, Any] | None:
        from framefill.video.deliver import Target

        options = self.options
        # Clips of a folder may differ in their suffix only.
        stem = "clip" if source is None else source.path.name if passing else source.path.stem
        target = Target.named(output, f"{stem}-{self.verb}")
        if passing and not options.overwrite and target.last.exists():
            return None
        work = self.work.plan(source, target)
        # What an interrupted run of this very job has finished already may be made again; the work knows.
        target.check(options.samples, overwrite=options.overwrite or any(begun(target)))
        if options.dry_run:
            return {"would_write": str(target.video(0, options.samples)), "fps": str(work.fps)}
        try:
            with _progress(self.verb, work.total, options.as_json) as each:
                return work.make(each) | {"seed": options.seed}
        except Stopped as stopped:
            words = "stopped; run the same command again to go on" if any(begun(target)) else str(stopped)
            raise Stopped(stopped.number, words) from None


def begun(target: "Target", name: str = "*", kind: str = "*") -> Iterator[Path]:
    """What interrupted jobs have left beside a target: of all that would write to it, or of the one called `name`."""
    return target.folder.glob(f".{glob.escape(target.stem)}-{name}.{kind}")


def _clips(path: Path) -> list[Path] | None:
    """The clips under a folder that holds some; None for a file, or a folder of pictures, which is one clip."""
    from framefill.video import sources

    if not path.is_dir() or any(map(sources.is_picture, path.iterdir())):
        return None
    found = sources.clips_in(path)
    if not found:
        raise MediaError(f"{path}: no pictures or clips in this folder; framefill reads {sources.READABLE}")
    return found


def _say(options: Writing, result: dict[str, Any] | None) -> None:
    result = result or {}
    if options.as_json:
        print(json.dumps(result))
        return
    drift = result.pop("drift", None)
    for key, value in result.items():
        for one in value if isinstance(value, list) else [value]:
            if value is not None:
                print(f"{key:12s} {one}")
    if drift:
        word = (
            "DRIFTING: the colours or the sharpness of the end are far from those given"
            if drift["drifting"]
            else "none"
        )
        print(f"{'drift':12s} {word} (colour {drift['colour']} levels, sharpness x{drift['sharpness']})")


def _progress(what: str, total: int | None, quiet: bool) -> Any:
    from framefill.cli.progress import bar

    return bar(what, total, quiet=quiet)
