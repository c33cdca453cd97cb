"""Work of `predict` with a latent ODE only: frames at any instants, and a picture of the path that leads to them."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from importlib.util import find_spec
from itertools import chain, islice, repeat, tee
from typing import TYPE_CHECKING, Any

from framefill.cli.job import Input, Ready, Work
from framefill.cli.options import Options, latent, of_paths
from framefill.errors import BadInput, MediaError, NotInstalled

if TYPE_CHECKING:
    from pathlib import Path

    from framefill.video.clip import Clip
    from framefill.video.clock import Clock
    from framefill.video.deliver import Target
    from framefill.video.ode_model import ODEVideoModel
    from framefill.video.sinks import Plan

FINEST = Fraction(1, 90_000)
"""Seconds that stamps are rounded to."""
DOTS = 4
"""Instants of a path that are drawn for each frame."""


def check(options: Options, option: str) -> None:
    """BadInput for a model that knows no instants but those of its frames."""
    if not of_paths(options.model):
        raise BadInput(f"{option} is for latent ODEs (ode-video), and {options.model} is none; leave it away")


def instants(text: str) -> list[Fraction]:
    """Times in frames as a user writes them: 0.5,1,2.75."""
    try:
        found = [Fraction(word.strip()) for word in text.split(",")]
    except (ValueError, ZeroDivisionError) as error:
        raise BadInput(f"cannot read --at {text!r}; write times in frames, such as 0.5,1,2.75") from error
    if sorted(set(found)) != found or not 0 < found[0] <= found[-1] <= 10_000:
        raise BadInput(f"--at {text!r}: give times that increase, more than 0 and at most 10000, such as 0.5,1,2.75")
    return found


@dataclass(frozen=True)
class Seen:
    """The frames that the future, or with `before` the past, is told from, and when they are shown, in frames.

    That is by the clip's own clock if `clocked`, else one after the other.
    """

    options: Options
    before: bool
    clocked: bool

    @cached_property
    def model(self) -> "ODEVideoModel":
        """The model, loaded once however many clips there are."""
        return latent(self.options)

    def of(self, source: Input) -> "tuple[Clip, list[float]]":
        """The first ones or the last; times count from the one that is next to what is not known."""
        frames, clock, past = source.frames(deep=self.options.bits > 8), source.clock(), self.model.past
        numbered = enumerate(frames)
        return self.told(list(islice(numbered, past) if self.before else deque(numbered, past)), clock)

    def told(self, held: list[tuple[int, Any]], clock: "Clock") -> "tuple[Clip, list[float]]":
        """The same of numbered frames."""
        import numpy as np

        from framefill.video.clip import Clip

        places = [clock.at(number) * clock.fps if self.clocked else Fraction(number) for number, _ in held]
        shown = [float(place - places[0 if self.before else -1]) for place in places]
        return Clip(np.stack([frame for _, frame in held]), clock.fps), shown


@dataclass(frozen=True)
class AtInstants:
    """The clip, and frames at instants after its last frame or before its first, by the clip's own clock."""

    seen: Seen
    times: list[Fraction]
    """In frames, rising, from the nearest frame that is known."""

    def plan(self, source: Input | None, target: "Target") -> "_Ready":
        """How the result is to be written, and when its frames are shown."""
        from framefill.video.sinks import Plan

        assert source is not None
        _ = source.info
        clock, options = source.clock(), self.seen.options
        return _Ready(self, source, target, Plan(clock.fps, FINEST, options.codec or "", options.bits), clock)


@dataclass(frozen=True)
class _Ready:
    work: AtInstants
    source: Input
    target: "Target"
    plan: "Plan"
    clock: "Clock"

    @property
    def fps(self) -> Fraction:
        return self.plan.fps

    @property
    def total(self) -> int | None:
        return None

    def make(self, each: Callable[[], None]) -> dict[str, Any]:
        from framefill.video.deliver import deliver

        options = self.work.seen.options
        made, again = tee(self._frames())
        result = deliver(
            ((frame, given) for frame, given, _ in made), self.target, self.plan, samples=options.samples,
            keep=options.keep, overwrite=options.overwrite, each=each, times=(time for *_, time in again),
        )  # fmt: skip
        return result | {"model": options.model}

    def _frames(self) -> Iterator[tuple[Any, bool, Fraction]]:
        """Frames (N, H, W, C), whether they were given, and when they are shown, the first one at zero."""
        seen, clock = self.work.seen, self.clock
        numbered = enumerate(self.source.frames(deep=seen.options.bits > 8))
        steps = [time / clock.fps for time in self.work.times]
        if seen.before:
            held = list(islice(numbered, seen.model.past))
            yield from zip(
                self._told(held), repeat(False), [steps[-1] - step for step in reversed(steps)], strict=False
            )
            yield from (self._given(one, steps[-1]) for one in chain(held, numbered))
            return
        last: deque[tuple[int, Any]] = deque(maxlen=seen.model.past)
        for one in numbered:
            last.append(one)
            yield self._given(one)
        now = clock.at(last[-1][0])
        yield from zip(self._told(list(last)), repeat(False), [now + step for step in steps], strict=False)

    def _given(self, one: tuple[int, Any], after: Fraction = Fraction(0)) -> tuple[Any, bool, Fraction]:
        import numpy as np

        from framefill.video.clip import Clip

        seen, (number, frame) = self.work.seen, one
        fitted = seen.model.fitted(Clip(frame[None], self.fps))
        return np.repeat(fitted, seen.options.samples, 0), True, self.clock.at(number) + after

    def _told(self, held: list[tuple[int, Any]]) -> Any:
        """The frames that were not there, (T, N, H, W, C), in the order of time."""
        seen, options = self.work.seen, self.work.seen.options
        clip, stamps = seen.told(held, self.clock)
        times = [float(time) for time in self.work.times]
        times = [-time for time in reversed(times)] if seen.before else times
        seed = options.seed if options.samples > 1 else None
        return seen.model.at(clip, times, stamps=stamps, samples=options.samples, seed=seed).swapaxes(0, 1)


@dataclass(frozen=True)
class Traced:
    """Some other work, and beside its result a picture of the path that the model sees clip and prediction on."""

    work: Work
    seen: Seen
    furthest: float
    """Frames from the nearest known one to the end of the path."""

    def __post_init__(self) -> None:
        if find_spec("matplotlib") is None:
            raise NotInstalled("--paths draws with matplotlib: pip install 'framefill[plot]'")

    def plan(self, source: Input | None, target: "Target") -> "_Traced":
        """The plan of the other; MediaError where the picture is there already."""
        picture = target.beside("paths.png")
        if picture.exists() and not self.seen.options.overwrite:
            raise MediaError(f"{picture} exists; use --overwrite, or another name with -o")
        assert source is not None
        return _Traced(self, self.work.plan(source, target), source, picture)


@dataclass(frozen=True)
class _Traced:
    work: Traced
    other: Ready
    source: Input
    picture: "Path"

    @property
    def fps(self) -> Fraction:
        return self.other.fps

    @property
    def total(self) -> int | None:
        return self.other.total

    def make(self, each: Callable[[], None]) -> dict[str, Any]:
        from framefill.curves import draw_trajectories

        result = self.other.make(each)
        draw_trajectories(self._paths(), self.picture)
        return result | {"paths": str(self.picture)}

    def _paths(self) -> dict[str, Any]:
        """Through the frames that are known, and from the nearest of these on."""
        seen = self.work.seen
        clip, stamps = seen.of(self.source)
        name, end = ("past", -self.work.furthest) if seen.before else ("predicted", self.work.furthest)
        times = {"frames given": _dots(stamps[0], stamps[-1]), name: _dots(0, end)}
        return {name: seen.model.trajectory(clip, own, stamps=stamps) for name, own in times.items()}


def _dots(start: float, end: float) -> list[float]:
    """Instants from one to the other."""
    count = max(round(abs(end - start) * DOTS), 1)
    return [start + (end - start) * i / count for i in range(count + 1)]
