"""The verb that makes frames between those of a film, and what it can be told."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from framefill.cli.between import Between, first, more_than_one
from framefill.cli.drawn import Drawn
from framefill.cli.job import Input, Job
from framefill.cli.options import Options, Writing, of_paths, rate, unheard
from framefill.cli.retime import TIERS_ALONE, Retimed
from framefill.cli.video import Clips, draw
from framefill.errors import BadInput

if TYPE_CHECKING:
    from framefill.video.model import VideoModel

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
    time: str | None = None
    """How long it may take, such as 10s, 5m or 2h: the best tier, and the most network calls, that are done by then."""
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
    if options.preview and options.output and options.output.suffix:
        short = options.output.with_stem(f"{options.output.stem}-{first(options.preview)}")
        options = replace(options, output=short)
    if options.model and of_paths(options.model):
        work = Retimed(options)
        Job(work.options, work.verb, work).run(clip)
    elif options.model and _is_of_videos(options.model):
        _by_video_model(clip, options)
    else:
        between = Between(options)
        Job(between.options, between.verb, between).run(clip)


def _is_of_videos(model: str) -> bool:
    from framefill import checkpoint

    return checkpoint.read_card(checkpoint.locate(model)).recipe == "mcvd"


def _by_video_model(clip: Path, options: Interpolation) -> None:
    """With a model of windows of frames, which works at its own size and divides gaps evenly."""
    unheard(options, TIERS_ALONE)
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
