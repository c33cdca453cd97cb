"""Interpolation as a job: what is asked of a film is planned in full before any frame is made."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefill.cli import tiers
from framefill.cli.job import Input
from framefill.cli.options import rate, seconds
from framefill.errors import BadInput, MediaError

if TYPE_CHECKING:
    from framefill.cli.interpolate import Interpolation
    from framefill.video.between.cuts import Cuts
    from framefill.video.between.interpolator import Interpolator
    from framefill.video.between.tier import Between as Made
    from framefill.video.between.timeline import Timeline
    from framefill.video.clock import Clock
    from framefill.video.deliver import Target
    from framefill.video.sinks import Plan
    from framefill.video.tags import Tags


@dataclass(frozen=True)
class Between:
    """The work: which frames, made by what, and how they are written."""

    options: "Interpolation"
    _found: dict[int, "tiers.Chosen | None"] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def verb(self) -> str:
        """What is added to the name of the input."""
        options, fps = self.options, rate(self.options.fps)
        name = f"{fps}fps".replace("/", "-") if fps else "between" if options.at else f"x{options.times or 2}"
        return f"{name}-{first(options.preview)}" if options.preview else name

    def chosen(self, source: Input) -> "tiers.Chosen | None":
        """What makes the frames, loaded once for all clips of a kind; None where --time leaves that to each."""
        channels = source.info.channels
        if channels not in self._found:
            self._found[channels] = tiers.asked_for(self.options, channels)
        return self._found[channels]

    def plan(self, source: Input | None, target: "Target") -> "_Ready":
        """Looks at the input; BadInput for what cannot be made of it, or written."""
        from framefill.video.sinks import Plan, check_plan, is_film
        from framefill.video.sources import has_alpha

        assert source is not None
        options, film = self.options, is_film(target.suffix)
        _check_channels(source, target)
        self.chosen(source)
        bits = options.bits or _bits(source.info.bits, target.suffix, options.codec)
        carry = source.film if film and options.source_rate is None else None
        clock = source.clock(keep_start=carry is not None).closed()
        timeline = _timeline(options, clock)
        _check_list(options, source, target)
        own = _tags(source, target.suffix, options.codec, bits)
        plan = Plan(
            timeline.fps, timeline.base, options.codec or "", bits, carry, until=options.preview is not None, tags=own
        )
        check_plan(target.video(0, 1), plan)
        return _Ready(
            self, source, target, plan, timeline, _cuts(options, timeline.clock), film, has_alpha(source.path)
        )


def _cuts(options: "Interpolation", clock: "Clock") -> "Cuts":
    from framefill.video.between import cuts

    if options.cuts in ("found", "none"):
        return cuts.Found() if options.cuts == "found" else cuts.OneShot()
    return cuts.read_list(Path(options.cuts), clock)


def first(preview: str) -> str:
    """What a preview is called."""
    return f"first-{float(seconds(preview, '--preview')):g}s"


def _timeline(options: "Interpolation", clock: "Clock") -> "Timeline":
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


def _tags(source: Input, suffix: str, codec: str | None, bits: int) -> "Tags":
    """What the result says of its colours: what the source does, where it is a film of luma that is no shallower."""
    from framefill.video.sinks import CODECS, USUAL, is_film, is_rgb
    from framefill.video.sources import colour_tags
    from framefill.video.tags import BT709

    coding = CODECS.get(codec or USUAL.get(suffix.lower(), ""))
    able = is_film(suffix) and coding is not None and not is_rgb(coding.even[8])
    return colour_tags(source.path) if able and bits >= min(source.info.bits, 10) else BT709


def _check_list(options: "Interpolation", source: Input, target: "Target") -> None:
    """Whether a list of cuts can be written: better said before the work than after it."""
    path, overwrite = options.save_cuts, options.overwrite
    if path and path.absolute() in {file.absolute() for file in (source.path, *target.files(options.samples))}:
        raise BadInput(f"--save-cuts {path}: that is the film itself, or a result; give the list a name of its own")
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
    cuts: "Cuts"
    film: bool
    transparent: bool

    @property
    def fps(self) -> Fraction:
        return self.timeline.fps

    @cached_property
    def _limit(self) -> int | None:
        """How many frames of the source are asked for."""
        return _frames_in(self.work.options.preview, self.timeline.clock)

    @property
    def total(self) -> int | None:
        return self.timeline.count(self._there) if self._there else None

    @cached_property
    def _there(self) -> int:
        """How many frames of the source will be read; 0 where only reading tells."""
        claimed = self.timeline.clock.frames or self.source.info.frames or 0
        return min(claimed, self._limit) if self._limit else claimed

    def make(self, each: Callable[[], None]) -> dict[str, Any]:
        from framefill.video.between import cuts
        from framefill.video.parts import Parts, kept

        options, noted = self.work.options, _Noted(self.cuts)
        with kept(self.target.folder / f".{self.target.stem}-{self._name()}.parts") as folder:
            chosen = self.work.chosen(self.source) or self._affordable(folder / "tier.json")
            parts = Parts(folder, self.target, self.plan, options.samples)
            shown = self._interpolator(chosen.maker, noted).stream(
                more_than_one(self.source, self._frames(self._limit)), self.timeline,
                samples=options.samples, seed=options.seed, hold=self.film,
            )  # fmt: skip
            parts.make(shown, each)
            result = parts.finish(self.timeline.end(noted.frames))
        if options.save_cuts:
            cuts.write_list(options.save_cuts, noted.numbers, self.timeline.clock)
        if parts.found:
            print(f"framefill: went on from {parts.found} parts of an interrupted run", file=sys.stderr)
        if self.transparent:
            print(
                f"framefill: {self.source.path}: its alpha channel is left out; arrays (.npy) keep one", file=sys.stderr
            )
            result["left_out"] = [*result["left_out"], "alpha"]
        return result | {"cuts": len(noted.numbers), "tier": chosen.name, "calls": chosen.calls}

    def _frames(self, limit: int | None) -> Iterator[Any]:
        from framefill.video.tags import BT709

        own = self.plan.tags != BT709
        return islice(self.source.frames(deep=self.plan.bits > 8, own=own), limit)

    def _interpolator(self, maker: "Made", cuts: "Cuts") -> "Interpolator":
        """All that is asked for."""
        from framefill.device import choose
        from framefill.video.between import policies, repeats
        from framefill.video.between.interpolator import Interpolator

        options = self.work.options
        named: dict[str, Made] = {"hold": policies.Hold(), "nearest": policies.Nearest(), "blend": policies.Blend()}
        spread = repeats.spread if options.repeats == "spread" else repeats.kept
        return Interpolator(maker, named[options.at_cuts], cuts, spread, choose(options.device))

    def _affordable(self, note: Path) -> "tiers.Chosen":
        """What --time allows, as this machine is now; what an interrupted run has chosen stays."""
        from framefill.atomic import replacing

        options = self.work.options
        if note.exists():
            return tiers.named(options, *json.loads(note.read_text()))
        there = max(self._there, 2)
        made = max(self.timeline.count(there) - there, 1) * options.samples
        choice = tiers.affordable(options, list(more_than_one(self.source, self._frames(2))), made)
        with replacing(note) as part:
            part.write_text(json.dumps([choice.name, choice.calls]))
        return choice

    def _name(self) -> str:
        options = replace(self.work.options, output=None, overwrite=False, as_json=False, dry_run=False, save_cuts=None)
        listed, chosen = sorted(getattr(self.cuts, "numbers", ())), self.work.chosen(self.source)
        made_by = chosen.fingerprint() if chosen else "as time allows"
        return self.source.name(self.work.verb, str(options), self.target.suffix, listed, made_by)


def more_than_one(source: Input, frames: Iterator[Any]) -> Iterator[Any]:
    """The frames, or BadInput if there is only one."""
    count = 0
    for count, frame in enumerate(frames, 1):  # noqa: B007 looked at below
        yield frame
    if count == 1:
        raise BadInput(f"{source.path} has one frame; interpolation needs two or more")


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


def _frames_in(wish: str | None, clock: "Clock") -> int | None:
    """How many frames there are in the seconds of --preview, two at least."""
    if wish is None:
        return None
    length = seconds(wish, "--preview")
    count = 2
    while clock.at(count) - clock.at(0) < length:
        count += 1
    return count
