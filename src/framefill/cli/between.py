"""The verb that makes frames between those of a film, at its own size, with its sound, and what it can be told."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from framefill.cli.drawn import Drawn, digest
from framefill.cli.job import Input, Job
from framefill.cli.options import Options, Writing, rate
from framefill.cli.video import Clips, draw
from framefill.errors import BadInput, MediaError

if TYPE_CHECKING:
    from framefill.video.between.cuts import Cuts
    from framefill.video.between.interpolator import Interpolator
    from framefill.video.between.tier import Between as Made
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
    cuts: str = "found"
    """Where shots begin: found, none, or a text file with the number or time of the first frame of each, one a line."""
    save_cuts: Path | None = None
    """Write such a list of the cuts that were found."""
    at_cuts: Literal["hold", "nearest", "blend"] = "hold"
    """What is shown between the last frame of a shot and the first of the next."""
    repeats: Literal["keep", "spread"] = "keep"
    """Frames that repeat the one before, as in animation on twos: kept, or motion spread over them."""
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
    def maker(self) -> "Made":
        """What makes the frames."""
        from framefill.device import choose
        from framefill.video.between.tier import Fast

        _ = choose(self.options.device)
        return Fast()

    def interpolator(self, clock: "Clock") -> "Interpolator":
        """All that is asked for, for a film with this clock."""
        from framefill.device import choose
        from framefill.video.between import policies, repeats
        from framefill.video.between.interpolator import Interpolator

        options = self.options
        named: dict[str, Made] = {"hold": policies.Hold(), "nearest": policies.Nearest(), "blend": policies.Blend()}
        spread = repeats.spread if options.repeats == "spread" else repeats.kept
        return Interpolator(self.maker, named[options.at_cuts], _cuts(options, clock), spread, choose(options.device))

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
        _check_list(options.save_cuts, overwrite=options.overwrite)
        plan = Plan(timeline.fps, timeline.base, options.codec or "", bits, carry, until=options.preview is not None)
        check_plan(target.video(0, 1), plan)
        return _Ready(self, source, target, plan, timeline, self.interpolator(timeline.clock), film)


def _cuts(options: Interpolation, clock: "Clock") -> "Cuts":
    from framefill.video.between import cuts

    if options.cuts in ("found", "none"):
        return cuts.Found() if options.cuts == "found" else cuts.OneShot()
    return cuts.read_list(Path(options.cuts), clock)


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


def _check_list(path: Path | None, *, overwrite: bool) -> None:
    """Whether a list of cuts can be written: better said before the work than after it."""
    if path and (path.is_dir() or not path.parent.is_dir()):
        raise BadInput(f"--save-cuts {path}: give a file in a folder that exists")
    if path and path.exists() and not overwrite:
        raise BadInput(f"{path} is there already; choose another name, or add --overwrite")


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
    interpolator: "Interpolator"
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
        from framefill.video.between import cuts
        from framefill.video.parts import Parts, kept

        options, noted = self.work.options, _Noted(self.interpolator.cuts)
        frames = more_than_one(self.source, islice(self.source.frames(deep=self.plan.bits > 8), self._limit))
        with kept(self.target.folder / f".{self.target.stem}-{self._name()}.parts") as folder:
            parts = Parts(folder, self.target, self.plan, options.samples)
            shown = replace(self.interpolator, cuts=noted).stream(
                frames, self.timeline, samples=options.samples, seed=options.seed, hold=self.film
            )
            parts.make(shown, each)
            result = parts.finish(self.timeline.end(noted.frames))
        if options.save_cuts:
            cuts.write_list(options.save_cuts, noted.numbers, self.timeline.clock)
        if parts.found:
            print(f"framefill: went on from {parts.found} parts of an interrupted run", file=sys.stderr)
        return result | {"cuts": len(noted.numbers)}

    def _name(self) -> str:
        options = replace(self.work.options, output=None, overwrite=False, as_json=False, dry_run=False, save_cuts=None)
        cuts = self.interpolator.cuts
        listed = sorted(getattr(cuts, "numbers", ()))
        return self.source.name(self.work.verb, str(options), self.target.suffix, listed, fingerprint(self.work.maker))


class _Noted:
    """Cuts, and what they were: `numbers` of the first frames of shots, and how many `frames` there are."""

    def __init__(self, cuts: "Cuts") -> None:
        self._cuts = cuts
        self.numbers: list[int] = []
        self.frames = 0

    def __call__(self, frames: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
        for frame, begins in self._cuts(frames):
            if begins:
                self.numbers.append(self.frames)
            self.frames += 1
            yield frame, begins


def fingerprint(maker: Any) -> str:
    """What a maker is, and all numbers of its networks."""
    import torch

    modules = [value for value in vars(maker).values() if isinstance(value, torch.nn.Module)]
    plain = {name: str(value) for name, value in vars(maker).items() if not isinstance(value, torch.nn.Module)}
    return " ".join([type(maker).__name__, str(plain), *map(digest, modules)])


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
