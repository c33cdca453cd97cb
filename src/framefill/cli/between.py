"""The verb that makes frames between those of a film, at its own size, with its sound, and what it can be told."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from framefill.cli.drawn import Drawn
from framefill.cli.job import Input, Job
from framefill.cli.options import Options, Writing, rate
from framefill.cli.video import Clips, draw
from framefill.errors import BadInput, MediaError

if TYPE_CHECKING:
    from framefill.video.between.interpolator import Interpolator
    from framefill.video.between.timeline import Timeline
    from framefill.video.clock import Clock
    from framefill.video.deliver import Target
    from framefill.video.model import VideoModel
    from framefill.video.sinks import Plan

Bits = Literal[8, 10, 16]


@dataclass(frozen=True)
class Interpolation(Writing):
    """What `interpolate` can be told."""

    times: int | None = None
    """This many frames for each one; 2 where neither this nor --fps nor --at is said."""
    fps: str | None = None
    """Frames per second of the result, such as 60 or 60000/1001, not below the source's."""
    at: str | None = None
    """Where in every gap frames are made: 0.25,0.5 or 1/3,2/3."""
    tier: Literal["fast", "balanced", "best"] | None = None
    """How: by motion alone, with a small network that repairs, or with a diffusion model."""
    model: Annotated[str | None, tyro.conf.arg(aliases=["-m"])] = None
    """A model of your own instead of a tier: of `framefill train`, or a video model, which has a size of its own."""
    bits: Bits | None = None
    """Bits of a level of the result; by default those of the source, as far as the file can hold them."""
    source_fps: str | None = None
    """The source's frames per second, instead of its own time stamps."""
    preview: str | None = None
    """Only the first seconds, such as 2s, under a name that says so."""

    @property
    def source_rate(self) -> Fraction | None:
        """See `Writing`."""
        return rate(self.source_fps, "--source-fps")


def interpolate(
    clip: Clips, /, options: Annotated[Interpolation, tyro.conf.arg(name="")] = Interpolation()
) -> None:  # fmt: skip
    """More frames between those of a clip: the same duration, size and depth, with its sound and subtitles.

    Args:
        clip: A video, a GIF, a folder of numbered images, an array (.npy .npz .h5); or a folder of such clips.
    """
    if sum(wish is not None for wish in (options.times, options.fps, options.at)) > 1:
        raise BadInput("--times, --fps and --at each say which frames to make; give one of them")
    if options.times is not None and options.times < 2:
        raise BadInput(f"--times must be 2 or more, got {options.times}")
    if options.model and _is_of_videos(options.model):
        _by_video_model(clip, options)
    else:
        work = Between(options)
        Job(work.options, work.verb, work).run(clip)


def _is_of_videos(model: str) -> bool:
    from framefill import checkpoint

    return checkpoint.read_card(checkpoint.locate(model)).recipe == "mcvd"


def _by_video_model(clip: Path, options: Interpolation) -> None:
    """With a model of windows of frames, which works at its own size and divides gaps evenly."""
    if options.fps or options.at or options.preview:
        raise BadInput(f"{options.model} divides every gap evenly; give --times instead of --fps, --at or --preview")
    times = options.times or 2
    shared = {name: getattr(options, name) for name in Writing.__dataclass_fields__}
    told = Options(**shared, model=options.model or "", bits=options.bits or 8, fps=options.source_fps)

    def work(model: "VideoModel", source: Input) -> Iterator[Any]:
        return model.stream(_spread_out(source, times, deep=told.bits > 8), **draw(told))

    Drawn(told, f"x{times}", work, (times,), speed=times, lasting=True).job().run(clip)


def _spread_out(source: Input, times: int, *, deep: bool) -> Iterator[Any]:
    for number, frame in enumerate(more_than_one(source, source.frames(deep=deep))):
        if number:
            yield from [None] * (times - 1)
        yield frame


def more_than_one(source: Input, frames: Iterator[Any]) -> Iterator[Any]:
    """The frames, or BadInput if there is only one."""
    count = 0
    for count, frame in enumerate(frames, 1):  # noqa: B007 looked at below
        yield frame
    if count == 1:
        raise BadInput(f"{source.path} has one frame; interpolation needs two or more")


@dataclass(frozen=True)
class Between:
    """The work: which frames, made by what, and how they are written."""

    options: Interpolation

    @cached_property
    def verb(self) -> str:
        """What is added to the name of the input."""
        wishes = self.options
        name = (
            f"{wishes.fps.replace('/', '-')}fps" if wishes.fps else "between" if wishes.at else f"x{wishes.times or 2}"
        )
        return f"{name}-first-{wishes.preview}" if wishes.preview else name

    @cached_property
    def maker(self) -> "Interpolator":
        """What makes the frames."""
        from framefill.device import choose
        from framefill.video.between.interpolator import Interpolator

        return Interpolator.fast(choose(self.options.device))

    def plan(self, source: Input | None, target: "Target") -> "_Ready":
        """Looks at the input; BadInput for what cannot be made of it, or written."""
        from framefill.video.sinks import Plan, check_plan, is_film

        assert source is not None
        options, film = self.options, is_film(target.suffix)
        _check_channels(source, target)
        bits = options.bits or _bits(source.info.bits, target.suffix, options.codec)
        carry = source.path if film and options.source_rate is None and source.path.is_file() else None
        clock = source.clock(keep_start=carry is not None).closed()
        timeline = _timeline(options, clock)
        plan = Plan(timeline.fps, timeline.base, options.codec or "", bits, carry, until=options.preview is not None)
        check_plan(target.video(0, 1), plan)
        return _Ready(self, source, target, plan, timeline, film)


def _timeline(options: Interpolation, clock: "Clock") -> "Timeline":
    from framefill.video.between import timeline

    if options.at:
        return timeline.at(clock, options.at)
    fps = rate(options.fps)
    return timeline.Ticking(clock, fps) if fps else timeline.times(clock, options.times or 2)


def _bits(given: int, suffix: str, codec: str | None) -> int:
    """The depth of the source where the file can hold it, else the nearest below."""
    from framefill.video.sinks import CODECS, USUAL

    if given <= 8:
        return 8
    if suffix.lower() not in USUAL:
        return 16
    able = CODECS[codec or USUAL[suffix.lower()]].even if (codec or USUAL[suffix.lower()]) in CODECS else {8: ""}
    return min([bits for bits in able if bits >= given] or [max(able)])


def _check_channels(source: Input, target: "Target") -> None:
    channels = source.info.channels
    if channels not in (1, 3) and target.suffix.lower() not in (".npy", ".h5"):
        raise MediaError(
            f"{source.path}: has {channels} channels, and {target.suffix or 'pictures'} can hold 1 or 3; give -o a "
            "name with .npy or .h5"
        )


@dataclass(frozen=True)
class _Ready:
    work: Between
    source: Input
    target: "Target"
    plan: "Plan"
    timeline: "Timeline"
    film: bool

    @property
    def fps(self) -> Fraction:
        return self.timeline.fps

    @cached_property
    def _limit(self) -> int | None:
        """How many frames of the source are asked for."""
        return _frames_in(self.work.options.preview, self.timeline.clock)

    @property
    def total(self) -> int | None:
        there = self.timeline.clock.frames or self.source.info.frames
        if there and self._limit:
            there = min(there, self._limit)
        return there and self.timeline.count(there)

    def make(self, each: Callable[[], None]) -> dict[str, Any]:
        from framefill.video.parts import Parts, kept

        options, name, count = self.work.options, self._name(), 0

        def read() -> Iterator[Any]:
            nonlocal count
            frames = islice(self.source.frames(deep=self.plan.bits > 8), self._limit)
            for count, frame in enumerate(more_than_one(self.source, frames), 1):  # noqa: B007 for the end
                yield frame

        with kept(self.target.folder / f".{self.target.stem}-{name}.parts") as folder:
            parts = Parts(folder, self.target, self.plan, options.samples)
            shown = self.work.maker.stream(
                read(), self.timeline, samples=options.samples, seed=options.seed, hold=self.film
            )
            parts.make(shown, each)
            result = parts.finish(self.timeline.end(count))
        if parts.found:
            print(f"framefill: went on from {parts.found} parts of an interrupted run", file=sys.stderr)
        return result

    def _name(self) -> str:
        options = replace(self.work.options, output=None, overwrite=False, as_json=False, dry_run=False)
        return self.source.name(self.work.verb, str(options), self.target.suffix, str(self.work.maker))


def _frames_in(wish: str | None, clock: "Clock") -> int | None:
    """How many frames there are in the seconds of --preview, two at least."""
    if wish is None:
        return None
    try:
        seconds = Fraction(wish.removesuffix("s"))
    except (ValueError, ZeroDivisionError) as error:
        raise BadInput(f"cannot read --preview {wish!r}; write seconds such as 2s") from error
    if not 0 < seconds <= 3600:
        raise BadInput(f"--preview must be more than 0 and at most 3600 seconds, got {wish}")
    count = 2
    while clock.at(count) - clock.at(0) < seconds:
        count += 1
    return count
