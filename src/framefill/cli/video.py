"""Verbs whose video a model draws: predict, complete, generate, demo."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from framefill.cli import instants, pictures
from framefill.cli.drawn import Drawn
from framefill.cli.job import Input, Job, Work
from framefill.cli.options import DEFAULTS, Common, Options, positive, rate
from framefill.errors import BadInput

if TYPE_CHECKING:
    from framefill.video.filled import Filled
    from framefill.video.model import VideoModel

Clips = Annotated[Path, tyro.conf.Positional]


def predict(
    clip: Clips,
    /,
    options: Common = DEFAULTS,
    *,
    frames: int | None = None,
    before: bool = False,
    at: str = "",
    paths: bool = False,
    limit: int = 10_000,
) -> None:
    """The future of a clip, or with --before its past.

    Args:
        clip: A video, a GIF, a folder of numbered images, an array (.npy .npz .h5); or a folder of such clips.
        frames: How many frames to make; 10 where neither this nor --at is said.
        before: Make the frames that came before the clip.
        at: Of a latent ODE: when frames are made, in frames from the nearest known one, such as 0.5,1,2.75.
        paths: Of a latent ODE: also draw the path through its latent space, as a picture beside the result.
        limit: With --before, the most frames of the clip to read; with --at all of it is.
    """
    if at and frames is not None:
        raise BadInput("--frames and --at say which frames to make; give one of them")
    count = 10 if frames is None else frames
    positive(frames=count)
    deep = options.bits > 8

    def past(model: "VideoModel", source: Input) -> "Iterable[Any]":
        return _whole(model.predict_past(source.clip(model, limit, deep=deep), count, **draw(options)))

    def future(model: "VideoModel", source: Input) -> "Iterable[Any]":
        return model.stream(_then_unknown(source.frames(deep=deep), count), **draw(options))

    verb = "before" if before else "predicted"
    work: Work = Drawn(options, verb, past if before else future, (count, limit), timed=not before)
    for option, asked in (("--at", at), ("--paths", paths)):
        if asked:
            instants.check(options, option)
    seen = instants.Seen(options, before, clocked=bool(at))
    times = instants.instants(at) if at else []
    work = instants.AtInstants(seen, times) if at else work
    work = instants.Traced(work, seen, float(times[-1]) if at else count) if paths else work
    Job(options, verb, work).run(clip)


def complete(
    clip: Clips,
    /,
    options: Common = DEFAULTS,
    *,
    missing: str = "",
    loop: int = 0,
    order: Literal["blockwise", "hierarchical"] = "blockwise",
    limit: int = 10_000,
) -> None:
    """The missing frames of a clip, whichever they are.

    Args:
        clip: A video, a GIF, a folder of numbered images, an array (.npy .npz .h5); or a folder of such clips.
        missing: The frames to make anew, counted from 0: "12-16" or "0-3,20,31-35".
        loop: Add this many frames that lead from the end back to the beginning.
        order: Blockwise from the known sides, or hierarchical: far-apart frames first.
        limit: The most frames of the clip to read.
    """
    if bool(missing) == bool(loop):
        raise BadInput("say which frames to make: either --missing 12-16 or --loop 5")

    def work(model: "VideoModel", source: Input) -> "Iterable[Any]":
        from framefill.diffusion.complete import blockwise, hierarchical

        given = source.clip(model, limit, deep=options.bits > 8)
        if loop:
            return _whole(model.loop(given, loop, **draw(options)))
        known = ~_ranges(missing, len(given))
        chosen = hierarchical if order == "hierarchical" else blockwise
        return _whole(model.complete(given, known, order=chosen, **draw(options)))

    words = (missing, loop, order, limit)
    Drawn(options, "loop" if loop else "completed", work, words, lasting=not loop).job().run(clip)


def generate(
    options: Common = DEFAULTS,
    *,
    frames: int | None = None,
    label: str = "",
    guidance: float | None = None,
    order: Literal["confidence", "halton", "scattered"] | None = None,
    temperature: float | None = None,
    against: str = "",
) -> None:
    """A clip from nothing, of 10 frames per second unless --fps says otherwise; pictures from a model of pictures.

    Args:
        frames: How many frames of a clip to make, 10 unless given.
        label: The class of the pictures, by name or number, where the model was taught classes.
        guidance: How much of its class a picture is to have: 1 as it was taught, above that more.
        order: Of a masked prior: which tokens a step keeps, the likeliest, those far apart, or any; by default what its
            critic doubts least, or if it has none the likeliest.
        temperature: Of a flow: below 1 for safer pictures.
        against: What a model of pictures was taught with, a folder, a .zip or the word digits: says whether it
            remembers, by the share of pictures nearer to a training picture than to a test picture; one half is right.
    """
    count = 10 if frames is None else frames
    positive(frames=count)
    if pictures.drawn_by(options.model):
        if frames is not None:
            raise BadInput(f"--frames is how long a clip is to be, which {options.model} was taught; leave it away")
        pictures.generate(options, label=label, guidance=guidance, order=order, temperature=temperature, data=against)
        return
    if against:
        raise BadInput(f"--against compares pictures, and {options.model} draws clips; leave it away")
    if label or guidance is not None or order:
        raise BadInput(f"{options.model} makes clips, not of tokens; leave --label, --guidance and --order away")
    if temperature is not None:
        raise BadInput(f"--temperature is for flows, and {options.model} is none; leave it away")
    fps = rate(options.fps) or Fraction(10)

    def work(model: "VideoModel", source: Input) -> "Iterable[Any]":
        return _whole(model.generate(count, fps=fps, **draw(options)))

    Drawn(options, "generated", work, making=count).job().make()


def demo(*, output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("demo_out"), seed: int = 0) -> None:
    """Fills a gap in, and continues, a real clip and a clip of moving digits that training never saw.

    Args:
        output: The folder for the results.
        seed: Same seed, same result.
    """
    from framefill.cli.demo import run

    run(output, seed=seed)


# ---- how -----------------------------------------------------------------------------------------------------------


def draw(options: Options) -> dict[str, Any]:
    """What a verb tells a video model of samples."""
    return {"samples": options.samples, "seed": options.seed}


def _then_unknown(frames: Iterator[Any], count: int) -> Iterator[Any]:
    yield from frames
    yield from [None] * count


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
