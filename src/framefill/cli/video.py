"""Verbs that make video: predict, interpolate, complete, generate, demo."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from framefill.errors import BadInput

if TYPE_CHECKING:
    from framefill.video.filled import Filled
    from framefill.video.model import VideoModel

Clips = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True)
class Options:
    """What every verb that makes video can be told."""

    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = "natural"
    """A model file, a run folder, or the name of a shipped model (see `framefill info`)."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """A file (.mp4 .mov .mkv .webm .gif .npy; name.png: a folder `name` of numbered pictures) or a folder for results;
    by default a name from the input, here."""
    samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1
    """How many different results to draw; from two on, their spread is a video too."""
    keep: int | None = None
    """Write only this many samples: those that differ most."""
    seed: int = 0
    """Same seed, same result."""
    sampler: Literal["dpm", "ddim", "ddpm", "heun"] | None = None
    """How to draw; by default what suits the model."""
    calls: int | None = None
    """Network calls per block: fewer is faster, more is finer."""
    strength: float | None = None
    """How much of the noise to start with, up to 1: less stays nearer to the guess from motion, and varies less."""
    device: str = "auto"
    """cpu, cuda, or auto."""
    overwrite: Annotated[bool, tyro.conf.arg(aliases=["-y"])] = False
    """Replace results that are already there."""
    dry_run: bool = False
    """Say what would be done, and do nothing."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of file names."""


Common = Annotated[Options, tyro.conf.arg(name="")]


def predict(
    clip: Clips,
    /,
    options: Common = Options(),
    *,
    frames: int = 10,
    before: bool = False,
    limit: int = 10_000,
) -> None:
    """The future of a clip, or with --before its past.

    Args:
        clip: A video, a GIF, a folder of numbered images, or a .npy array.
        frames: How many frames to make.
        before: Make the frames that came before the clip.
        limit: With --before, the most frames of the clip to read.
    """
    job = _Job(options, clip, "before" if before else "predicted")
    if before:
        job.run(lambda model: _whole(model.predict_past(_read(clip, limit), frames, **job.draw)))
        return
    _positive(frames=frames)
    job.run(lambda model: model.stream(_then_unknown(_frames(clip), frames), **job.draw), making=frames)


def interpolate(clip: Clips, /, options: Common = Options(), *, times: int = 2) -> None:
    """More frames between those of a clip: the same duration at a higher rate.

    Args:
        clip: A video, a GIF, a folder of numbered images, or a .npy array.
        times: The new rate is this many times the old one.
    """
    if times < 2:
        raise BadInput(f"--times must be 2 or more, got {times}")
    job = _Job(options, clip, f"x{times}")
    job.run(lambda model: model.stream(_spread_out(_frames(clip), times), **job.draw), speed=times)


def complete(
    clip: Clips,
    /,
    options: Common = Options(),
    *,
    missing: str = "",
    loop: int = 0,
    order: Literal["blockwise", "hierarchical"] = "blockwise",
    limit: int = 10_000,
) -> None:
    """The missing frames of a clip, whichever they are.

    Args:
        clip: A video, a GIF, a folder of numbered images, or a .npy array.
        missing: The frames to make anew, counted from 0: "12-16" or "0-3,20,31-35".
        loop: Add this many frames that lead from the end back to the beginning.
        order: Blockwise from the known sides, or hierarchical: far-apart frames first.
        limit: The most frames of the clip to read.
    """
    if bool(missing) == bool(loop):
        raise BadInput("say which frames to make: either --missing 12-16 or --loop 5")
    job = _Job(options, clip, "loop" if loop else "completed")

    def work(model: "VideoModel") -> "Iterable[Any]":
        from framefill.diffusion.complete import blockwise, hierarchical

        given = _read(clip, limit)
        if loop:
            return _whole(model.loop(given, loop, **job.draw))
        known = ~_ranges(missing, len(given))
        return _whole(
            model.complete(given, known, order=hierarchical if order == "hierarchical" else blockwise, **job.draw)
        )

    job.run(work)


def generate(options: Common = Options(), *, frames: int = 10, fps: float = 10.0) -> None:
    """A clip from nothing.

    Args:
        frames: How many frames to make.
        fps: Frames per second of the result.
    """
    _positive(frames=frames, fps=fps)
    job = _Job(options, None, "generated")
    rate = Fraction(fps).limit_denominator(1001)
    job.run(lambda model: _whole(model.generate(frames, fps=rate, **job.draw)), making=frames, fps=rate)


def demo(*, output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("demo_out"), seed: int = 0) -> None:
    """Fills a gap in, and continues, a real clip and a clip of moving digits that training never saw.

    Args:
        output: The folder for the results.
        seed: Same seed, same result.
    """
    from framefill.cli.demo import run

    run(output, seed=seed)


# ---- how -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    options: Options
    clip: Path | None
    verb: str

    @property
    def draw(self) -> dict[str, Any]:
        return {"samples": self.options.samples, "seed": self.options.seed}

    def run(self, work: Any, *, making: int | None = None, speed: int = 1, fps: Fraction | None = None) -> None:
        """Reads, fills in, writes, and says what was written. `work(model)` gives the frames."""
        options = self.options
        _positive(samples=options.samples)
        from framefill.video.deliver import Target, deliver
        from framefill.video.files import probe

        target = Target.named(options.output, f"{self.clip.stem if self.clip else 'clip'}-{self.verb}")
        info = probe(self.clip) if self.clip else None
        rate = fps or (info.fps * speed if info else Fraction(10))
        target.check(options.samples, overwrite=options.overwrite)
        if options.dry_run:
            _say(
                options,
                {"would_write": str(target.video(0, options.samples)), "fps": str(rate), "input": str(info)},
            )
            return
        with _progress(self.verb, making, options.as_json) as each:
            model = _load(options)
            result = deliver(
                work(model), target, rate, samples=options.samples, keep=options.keep, overwrite=options.overwrite,
                each=each,
            )  # fmt: skip
        _say(options, result | {"seed": options.seed, "model": options.model})


def _say(options: Options, result: dict[str, Any]) -> None:
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


def _load(options: Options) -> "VideoModel":
    from dataclasses import replace

    from framefill import checkpoint
    from framefill.device import choose
    from framefill.video.model import VideoModel

    model = checkpoint.load(options.model, device=choose(options.device))
    if not isinstance(model, VideoModel):
        raise BadInput(f"{options.model} is not a video model")
    return replace(model, sampler=_sampler(options, model.sampler))


def _sampler(options: Options, default: Any) -> Any:
    from framefill.diffusion import sample

    kinds = {"dpm": sample.DPMSolver, "ddim": sample.DDIM, "ddpm": sample.DDPM, "heun": sample.Heun}
    kind = kinds[options.sampler] if options.sampler else type(default)
    calls = options.calls or default.calls
    strength = default.strength if options.strength is None else options.strength
    return kind((calls + 1) // 2 if kind is sample.Heun else calls, strength=strength)


def _progress(what: str, total: int | None, quiet: bool) -> Any:
    from framefill.cli.progress import bar

    return bar(what, total, quiet=quiet)


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value >= (1 if isinstance(value, int) else 1e-3):
            raise BadInput(f"--{name} must be at least 1, got {value}")


def _read(clip: Path, limit: int) -> Any:
    from framefill.video.files import read_clip

    return read_clip(clip, limit=limit)


def _frames(clip: Path) -> Iterator[Any]:
    from framefill.video.files import read

    return read(clip)


def _then_unknown(frames: Iterator[Any], count: int) -> Iterator[Any]:
    yield from frames
    yield from [None] * count


def _spread_out(frames: Iterator[Any], times: int) -> Iterator[Any]:
    for i, frame in enumerate(frames):
        if i:
            yield from [None] * (times - 1)
        yield frame


def _whole(filled: "Filled") -> Iterator[Any]:
    for t, given in enumerate(filled.known):
        yield filled.frames[:, t], bool(given)


def _ranges(text: str, length: int) -> Any:
    import numpy as np

    chosen = np.zeros(length, bool)
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            raise BadInput(f"cannot read --missing {text!r}; write frames and ranges such as 0-3,20")
        start, stop = int(first), int(last or first)
        if not start <= stop < length:
            raise BadInput(f"--missing {part.strip()} lies outside the clip, which has frames 0 to {length - 1}")
        chosen[start : stop + 1] = True
    return chosen
