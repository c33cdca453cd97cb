"""How the verbs that make video do their work: read, fill in, write, say what was written; file after file, and again.

A job can be interrupted at any moment: run again, the same command goes on (video/journal.py) and gives the same bytes.
Given a folder of videos it makes one result for each and passes over those that are there; under torchrun every
process takes its share of them.
"""

import glob
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import count, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefill.cli.options import Options, load, positive, rate
from framefill.errors import BadInput, FramefillError, MediaError, one_line
from framefill.signals import Stopped

if TYPE_CHECKING:
    from framefill.video.clock import Clock
    from framefill.video.deliver import Target
    from framefill.video.files import Info
    from framefill.video.model import VideoModel
    from framefill.video.sinks import Plan


@dataclass(frozen=True)
class Input:
    """One clip to work on: its frames, read when they are asked for."""

    path: Path
    options: Options

    def frames(self) -> Iterator[Any]:
        """Every frame, uint8 or uint16 (H, W, C)."""
        from framefill.video.files import read

        return read(self.path, deep=self.options.bits > 8, most=int(self.options.most * 1e9))

    def clip(self, model: "VideoModel", limit: int) -> Any:
        """Up to `limit` frames in memory, as the model sees them."""
        import numpy as np

        from framefill.video.clip import Clip

        small = [model.fitted(Clip(frame[None], Fraction(1))) for _, frame in zip(range(limit), self.frames())]  # noqa: B905
        return Clip(np.concatenate(small), self.clock().fps)

    @cached_property
    def info(self) -> "Info":
        """What the file holds; MediaError for one that cannot be read."""
        from framefill.video.files import probe

        return probe(self.path)

    def check(self, model: "VideoModel") -> None:
        """MediaError if the model takes other channels."""
        if self.info.channels != model.channels and not {self.info.channels, model.channels} <= {1, 3}:
            raise MediaError(f"{self.path}: has {self.info.channels} channels; this model takes {model.channels}")

    def clock(self, *, keep_start: bool = False) -> "Clock":
        """When its frames are shown."""
        from framefill.video.files import clock

        return clock(self.path, fps=rate(self.options.fps), keep_start=keep_start)


Work = Callable[["VideoModel", Input], Iterable[Any]]


@dataclass(frozen=True)
class Job:
    """A verb with its options: `work(model, input)` gives pairs of frames (N, H, W, C) and whether they were given.

    `words` are what the verb was told: with the options and the input they name the job. `speed` is how many frames
    come for each that was there, `lasting` says that the duration stays, so that sound can; `making` is how many frames
    are made, if that is known.
    """

    options: Options
    verb: str
    work: Work
    words: tuple[Any, ...] = ()
    speed: int = 1
    lasting: bool = False
    timed: bool = True
    making: int | None = None

    def run(self, clip: Path) -> None:
        """Does the work for a clip, or for every clip of a folder."""
        positive(samples=self.options.samples)
        clips = _clips(clip)
        output = self.options.output
        if clips and output and output.suffix and not output.is_dir():
            raise BadInput(f"{clip} holds {len(clips)} clips; give a folder with -o, not {output}")
        if clips is None:
            _say(self.options, self._one(Input(clip, self.options), self.options.output, _Models(self.options)))
        else:
            self._all(clip, clips)

    def make(self) -> None:
        """Does work that needs no clip."""
        positive(samples=self.options.samples)
        _say(self.options, self._one(None, self.options.output, _Models(self.options)))

    def _all(self, folder: Path, clips: list[Path]) -> None:
        from framefill.distributed import Ranks

        models, failed, done = _Models(self.options), [], 0
        ranks = Ranks.here()
        for path in ranks.mine(clips):
            output = (self.options.output or Path()) / path.relative_to(folder).parent
            try:
                result = self._one(Input(path, self.options), output, models, passing=True)
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

    def _one(
        self, source: Input | None, output: Path | None, models: "_Models", *, passing: bool = False
    ) -> dict[str, Any] | None:
        from framefill.video.deliver import Target, deliver

        options = self.options
        # Clips of a folder may differ in their suffix only.
        stem = "clip" if source is None else source.path.name if passing else source.path.stem
        target = Target.named(output, f"{stem}-{self.verb}")
        if passing and not options.overwrite and target.last.exists():
            return None
        plan, times = self._plan(source, target)
        # What an interrupted run of this very job has finished already may be made again; `begun` says if it was this.
        target.check(options.samples, overwrite=options.overwrite or any(_journals(target)))
        if options.dry_run:
            return {"would_write": str(target.video(0, options.samples)), "fps": str(plan.fps)}
        with (
            _progress(self.verb, self.making, options.as_json) as each,
            models.journal(self, source, target) as (model, begun),
        ):
            frames = self.work(model, source)  # type: ignore[arg-type]
            result = deliver(
                frames, target, plan, samples=options.samples, keep=options.keep,
                overwrite=options.overwrite or begun, each=each, times=times,
            )  # fmt: skip
        return result | {"seed": options.seed, "model": options.model}

    def _plan(self, source: Input | None, target: "Target") -> tuple["Plan", Iterator[Fraction | None]]:
        """How the result is to be written, and when its frames are shown."""
        from framefill.video.sinks import CODECS, Plan

        options = self.options
        given = rate(options.fps)
        film = any(target.suffix in codec.suffixes for codec in CODECS.values()) and target.suffix != ".gif"
        plan = Plan(given or Fraction(10), codec=options.codec or "", bits=options.bits)
        if source is None:
            return plan, repeat(None)
        carry = source.path if self.lasting and film and given is None and source.path.is_file() else None
        _ = source.info  # what cannot be read is said before a model is loaded
        clock = source.clock(keep_start=carry is not None)
        plan = replace(plan, fps=clock.fps * self.speed, carry=carry)
        if clock.even or not (self.timed and film):
            return plan, repeat(None)
        times = (clock.at(i // self.speed, Fraction(i % self.speed, self.speed)) for i in count())
        return replace(plan, base=clock.base / self.speed), times


class _Models:
    """The model of the options, loaded once however many clips there are."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @cached_property
    def _model(self) -> "VideoModel":
        return load(self._options)

    @cached_property
    def _digest(self) -> str:
        import torch

        total = hashlib.sha256(str(self._model.sampler).encode())
        for tensor in self._model.model.state_dict().values():  # type: ignore[attr-defined]
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return total.hexdigest()

    def journal(self, job: Job, source: Input | None, target: "Target") -> Any:
        """A context: the model, remembering what it draws where there is a clip, and whether this job had begun."""
        if source is None:
            return nullcontext((self._model, False))
        source.check(self._model)
        return _journaled(self._model, target, _name(job, source, self._digest))


def _journals(target: "Target", name: str = "*") -> Iterator[Path]:
    """The journals beside a target: of all jobs that would write to it, or of the one called `name`."""
    return target.folder.glob(f".{glob.escape(target.stem)}-{name}.journal")


def _journaled(model: "VideoModel", target: "Target", name: str) -> Any:
    from contextlib import contextmanager

    from framefill.video.journal import journal

    @contextmanager
    def opened() -> Iterator[tuple["VideoModel", bool]]:
        begun = any(_journals(target, name))
        try:
            with journal(target.folder / f".{target.stem}-{name}.journal") as kept:
                yield replace(model, draw=kept.remembered(model.draw, model.window.current)), begun
        except Stopped as stopped:
            raise Stopped(stopped.number, "stopped; run the same command again to go on") from None
        if kept.found:
            print(f"framefill: went on from {kept.found} blocks of an interrupted run", file=sys.stderr)

    return opened()


def _name(job: Job, source: Input, model: str) -> str:
    """What job this is: of the same name, the draws are the same."""
    import torch

    from framefill import __version__
    from framefill.video.stacks import split_name

    place = split_name(source.path)[0]
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    options = replace(job.options, output=None, overwrite=False, as_json=False, codec=None, keep=None)
    words = [
        __version__,
        torch.__version__,
        str(source.path.absolute()),
        stamps,
        job.verb,
        job.words,
        str(options),
        model,
    ]
    return hashlib.sha256(json.dumps(words, default=str).encode()).hexdigest()[:12]


def _clips(path: Path) -> list[Path] | None:
    """The clips under a folder that holds some; None for a file, or a folder of pictures, which is one clip."""
    from framefill.video import sources

    if not path.is_dir() or any(map(sources.is_picture, path.iterdir())):
        return None
    found = sources.clips_in(path)
    if not found:
        raise MediaError(f"{path}: no pictures or clips in this folder; framefill reads {sources.READABLE}")
    return found


def _say(options: Options, result: dict[str, Any] | None) -> None:
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
