"""Work of `interpolate` with a latent ODE: another frame rate, or instants in every gap, at the model's own size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import count, repeat
from typing import TYPE_CHECKING, Any

from framefill.cli.job import Input
from framefill.cli.options import loaded, rate, unheard
from framefill.errors import BadInput

if TYPE_CHECKING:
    from framefill.cli.interpolate import Interpolation
    from framefill.video.clock import Clock
    from framefill.video.deliver import Target
    from framefill.video.ode_model import ODEVideoModel
    from framefill.video.sinks import Plan


TIERS_ALONE = ("tier", "time", "cuts", "save_cuts", "at_cuts", "repeats")


@dataclass(frozen=True)
class Retimed:
    """Frames of a clip whose clock may be uneven: `--times` as many or `--fps` a second, evenly; or `--at` in gaps."""

    options: "Interpolation"

    def __post_init__(self) -> None:
        options = self.options
        unheard(options, TIERS_ALONE)
        if options.preview or (options.bits or 8) > 8 or options.calls:
            raise BadInput(f"{options.model} makes frames of 8 bits; leave --preview, --bits and --calls away")

    @property
    def verb(self) -> str:
        """What results are called."""
        if self.options.at:
            return "between"
        return f"{self.options.fps.replace('/', 'over')}fps" if self.options.fps else f"x{self.options.times or 2}"

    @cached_property
    def model(self) -> "ODEVideoModel":
        """The model, loaded once however many clips there are."""
        from framefill.video.ode_model import ODEVideoModel

        return loaded(self.options.model or "", self.options.device, ODEVideoModel, "videos")

    def plan(self, source: Input | None, target: "Target") -> "_Ready":
        """When frames of the source are shown, and when those of the result."""
        assert source is not None
        _ = source.info
        return self._divided(source, target) if self.options.at else self._even(source, target)

    def _even(self, source: Input, target: "Target") -> "_Ready":
        from framefill.video.sinks import Plan, is_film

        options, clock = self.options, source.clock()
        fps = rate(options.fps) or clock.fps * (options.times or 2)
        even = clock.even and options.source_rate is None
        carry = source.film if even and is_film(target.suffix) else None
        plan = Plan(fps, codec=options.codec or "", carry=carry)
        return _Ready(self, source, target, plan, clock, lambda: (i / fps for i in count()))

    def _divided(self, source: Input, target: "Target") -> "_Ready":
        from framefill.video.between import timeline
        from framefill.video.sinks import Plan, is_film

        options = self.options
        carry = source.film if options.source_rate is None and is_film(target.suffix) else None
        clock = source.clock(keep_start=carry is not None).closed()
        line = timeline.at(clock, options.at or "")
        plan = Plan(line.fps, line.base, options.codec or "", carry=carry)
        return _Ready(
            self, source, target, plan, clock, lambda: (moment.time for i in count() for moment in line.gap(i))
        )


@dataclass(frozen=True)
class _Ready:
    work: Retimed
    source: Input
    target: "Target"
    plan: "Plan"
    clock: "Clock"
    times: Callable[[], Iterator[Fraction]]
    """Seconds at which frames of the result are shown, without end."""

    @property
    def fps(self) -> Fraction:
        return self.plan.fps

    @property
    def total(self) -> int | None:
        return None

    def make(self, each: Callable[[], None]) -> dict[str, Any]:
        from framefill.video.deliver import deliver

        options = self.work.options
        result = deliver(
            self._frames(), self.target, self.plan, samples=options.samples, keep=None, overwrite=options.overwrite,
            each=each, times=self.times() if self.plan.base else repeat(None),
        )  # fmt: skip
        return result | {"model": options.model}

    def _frames(self) -> Iterator[Any]:
        per_second = self.clock.fps
        seed = self.work.options.seed if self.work.options.samples > 1 else None
        return self.work.model.retold(
            self.source.frames(), (time * per_second for time in self.times()),
            place=lambda i: self.clock.at(i) * per_second, samples=self.work.options.samples, seed=seed,
        )  # fmt: skip
