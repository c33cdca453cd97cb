"""Work of `interpolate` with a latent ODE: another frame rate, any at all, at the model's own size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import repeat
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
    """Frames of a clip at even times, whatever its own are: `--times` as many, or `--fps` a second."""

    options: "Interpolation"

    def __post_init__(self) -> None:
        options = self.options
        unheard(options, TIERS_ALONE)
        if options.at or options.preview or (options.bits or 8) > 8 or options.calls:
            raise BadInput(
                f"{options.model} makes frames of 8 bits at even times; leave --at, --preview, --bits and --calls away"
            )

    @property
    def verb(self) -> str:
        """What results are called."""
        return f"{self.options.fps.replace('/', 'over')}fps" if self.options.fps else f"x{self.options.times or 2}"

    @cached_property
    def model(self) -> "ODEVideoModel":
        """The model, loaded once however many clips there are."""
        from framefill.video.ode_model import ODEVideoModel

        return loaded(self.options.model or "", self.options.device, ODEVideoModel, "videos")

    def plan(self, source: Input | None, target: "Target") -> "_Ready":
        """The rate of the result, and when frames of the source are shown."""
        from framefill.video.sinks import Plan, is_film

        assert source is not None
        _ = source.info
        clock = source.clock()
        fps = rate(self.options.fps) or clock.fps * (self.options.times or 2)
        even = clock.even and self.options.source_rate is None
        carry = source.film if even and is_film(target.suffix) else None
        return _Ready(self, source, target, Plan(fps, codec=self.options.codec or "", carry=carry), clock)


@dataclass(frozen=True)
class _Ready:
    work: Retimed
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

        options = self.work.options
        result = deliver(
            self._frames(), self.target, self.plan, samples=options.samples, keep=None, overwrite=options.overwrite,
            each=each, times=repeat(None),
        )  # fmt: skip
        return result | {"model": options.model}

    def _frames(self) -> Iterator[Any]:
        per_second = self.clock.fps
        seed = self.work.options.seed if self.work.options.samples > 1 else None
        return self.work.model.retimed(
            self.source.frames(), per_second / self.plan.fps, place=lambda i: self.clock.at(i) * per_second,
            samples=self.work.options.samples, seed=seed,
        )  # fmt: skip
