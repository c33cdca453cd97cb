"""Work of the verbs whose frames a video model draws: a journal of what was drawn lets an interrupted job go on."""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import count, repeat
from typing import TYPE_CHECKING, Any

from framefill.cli.job import Input, Job, begun
from framefill.cli.options import Options, load
from framefill.errors import MediaError

if TYPE_CHECKING:
    from framefill.video.deliver import Target
    from framefill.video.model import VideoModel
    from framefill.video.sinks import Plan

Draws = Callable[["VideoModel", Input], Iterable[Any]]


@dataclass(frozen=True)
class Drawn:
    """What `draws(model, input)` gives: pairs of frames (N, H, W, C) and whether they were given.

    `words` are what the verb was told: with the options and the input they name the job. `speed` is how many frames
    come for each that was there, `lasting` says that the duration stays, so that sound can; `making` is how many frames
    are made, if that is known.
    """

    options: Options
    verb: str
    draws: Draws
    words: tuple[Any, ...] = ()
    speed: int = 1
    lasting: bool = False
    timed: bool = True
    making: int | None = None

    @cached_property
    def loaded(self) -> "_Loaded":
        """The model, for every clip the same."""
        return _Loaded(self.options)

    def job(self) -> Job:
        """The job that does it."""
        return Job(self.options, self.verb, self)

    def plan(self, source: Input | None, target: "Target") -> "_Ready":
        """How the result is to be written, and when its frames are shown."""
        from framefill.video.sinks import Plan, is_film

        options = self.options
        film = is_film(target.suffix)
        plan = Plan(options.source_rate or Fraction(10), codec=options.codec or "", bits=options.bits)
        if source is None:
            return _Ready(self, source, target, plan, repeat(None))
        given = options.source_rate is not None
        carry = source.film if self.lasting and film and not given else None
        _ = source.info  # what cannot be read is said before a model is loaded
        clock = source.clock(keep_start=carry is not None)
        plan = replace(plan, fps=clock.fps * self.speed, carry=carry)
        if clock.even or not (self.timed and film):
            return _Ready(self, source, target, plan, repeat(None))
        times = (clock.at(i // self.speed, Fraction(i % self.speed, self.speed)) for i in count())
        unit = clock.base if clock.stamps is not None else Fraction(1, 90_000)
        return _Ready(self, source, target, replace(plan, base=unit / self.speed), times)


@dataclass(frozen=True)
class _Ready:
    work: Drawn
    source: Input | None
    target: "Target"
    plan: "Plan"
    times: Iterator[Fraction | None]

    @property
    def fps(self) -> Fraction:
        return self.plan.fps

    @property
    def total(self) -> int | None:
        return self.work.making

    def make(self, each: Callable[[], None]) -> dict[str, Any]:
        from framefill.video.deliver import deliver

        options = self.work.options
        with self.work.loaded.journal(self.work, self.source, self.target) as (model, going_on):
            frames = self.work.draws(model, self.source)  # type: ignore[arg-type]
            result = deliver(
                frames, self.target, self.plan, samples=options.samples, keep=options.keep,
                overwrite=options.overwrite or going_on, each=each, times=self.times,
            )  # fmt: skip
        return result | {"model": options.model}


class _Loaded:
    """The model of the options, loaded once however many clips there are."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @cached_property
    def _model(self) -> "VideoModel":
        return load(self._options)

    @cached_property
    def _digest(self) -> str:
        return f"{self._model.sampler} {digest(self._model.model)}"

    def journal(self, work: Drawn, source: Input | None, target: "Target") -> AbstractContextManager[Any]:
        """A context: the model, remembering what it draws where there is a clip, and whether this job had begun."""
        if source is None:
            return nullcontext((self._model, False))
        channels = source.info.channels
        if channels != self._model.channels and not {channels, self._model.channels} <= {1, 3}:
            raise MediaError(f"{source.path}: has {channels} channels; this model takes {self._model.channels}")
        options = replace(self._options, output=None, overwrite=False, as_json=False, codec=None, keep=None)
        return _journaled(self._model, target, source.name(work.verb, work.words, str(options), self._digest))


def digest(network: Any) -> str:
    """Of all numbers of a network."""
    import torch

    total = hashlib.sha256()
    for tensor in network.state_dict().values():
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


@contextmanager
def _journaled(model: "VideoModel", target: "Target", name: str) -> Iterator[tuple["VideoModel", bool]]:
    from framefill.video.journal import journal

    going_on = any(begun(target, name))
    with journal(target.folder / f".{target.stem}-{name}.journal") as kept:
        yield replace(model, draw=kept.remembered(model.draw, model.window.current)), going_on
    if kept.found:
        print(f"framefill: went on from {kept.found} blocks of an interrupted run", file=sys.stderr)
