"""Which of all that can make frames between two a user asks for: a tier, a model of their own, what a time allows."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from framefill.cli.drawn import digest
from framefill.cli.options import Options, sampler, seconds
from framefill.errors import BadInput

if TYPE_CHECKING:
    from framefill.cli.interpolate import Interpolation
    from framefill.video.between.tier import Between

TIERS = ("fast", "balanced", "best")


@dataclass(frozen=True)
class Chosen:
    """A `maker` under its `name`; `calls` of its network for a frame, 0 where there is nothing to choose."""

    name: str
    maker: "Between"
    calls: int = 0

    def fingerprint(self) -> str:
        """What it is, and all numbers of its networks."""
        import torch

        parts = vars(self.maker)
        networks = [digest(part) for part in parts.values() if isinstance(part, torch.nn.Module)]
        plain = {name: str(part) for name, part in parts.items() if not isinstance(part, torch.nn.Module)}
        return " ".join([type(self.maker).__name__, str(plain), *networks])


def shipped() -> list[str]:
    """The tiers that are there, `fast` first."""
    from framefill import checkpoint

    return [tier for tier in TIERS if tier == "fast" or tier in checkpoint.shipped()]


def asked_for(options: "Interpolation", channels: int) -> Chosen | None:
    """What --model, --tier or nothing names for frames of so many channels; None where --time decides."""
    if sum(wish is not None for wish in (options.model, options.tier, options.time)) > 1:
        raise BadInput("--model, --tier and --time each say what makes the frames; give one of them")
    if options.time is not None and options.calls:
        raise BadInput("--time says how many network calls there are; leave --calls away, or give --tier best instead")
    if options.time is not None:
        seconds(options.time, "--time")
        return None
    usual = "balanced" if "balanced" in shipped() and channels in (1, 3) else "fast"
    return named(options, options.model or options.tier or usual, options.calls)


def named(options: "Interpolation", name: str, calls: int | None = None) -> Chosen:
    """A tier or a model file by name; BadInput for one that is not there, or cannot do what is asked of it."""
    from framefill.video.between.tier import Fast

    maker: Any = Fast() if name == "fast" else _loaded(options, name)
    draws = getattr(maker, "sampler", None)
    if draws is None and (calls or options.samples > 1):
        raise BadInput(f"{name} has one answer for every frame; leave away --calls and --samples, or give --tier best")
    if draws is not None and calls:
        maker = replace(maker, sampler=sampler(Options(calls=calls), draws))
    return Chosen(name, maker, maker.sampler.calls if draws is not None else 0)


def affordable(options: "Interpolation", frames: Sequence[Any], count: int) -> Chosen:
    """The best that makes `count` frames within --time, by the first two `frames` of the film; says which."""
    from framefill.video.between import budget

    choices = [choice for choice in budget.measured() if choice.tier in shipped()]
    if options.samples > 1:
        choices = [choice for choice in choices if choice.calls] or choices
    limit, megapixels = float(seconds(options.time or "", "--time")), frames[0].shape[0] * frames[0].shape[1] / 1e6
    slowness = _time_of(frames) / (choices[0].seconds * megapixels)
    choice = budget.affordable(choices, limit, count * megapixels, slowness)
    expected = choice.seconds * count * megapixels * slowness
    words = f"{choice.tier}{f' with {choice.calls} calls' if choice.calls else ''}"
    print(f"framefill: {words}, about {expected:.0f} s for {count} frames (--time {options.time})", file=sys.stderr)
    return named(options, choice.tier, choice.calls or None)


def _time_of(frames: Sequence[Any]) -> float:
    """Seconds that `fast` takes for a frame here."""
    import torch

    from framefill.arrays import Rng
    from framefill.video.between.tier import Fast
    from framefill.video.clip import tensor

    ends = torch.stack([tensor(frame) for frame in frames])
    Fast()(ends, [0.5], Rng([0]))  # the first call prepares
    begin = time.perf_counter()
    Fast()(ends, [0.5], Rng([0]))
    return time.perf_counter() - begin


def _loaded(options: "Interpolation", name: str) -> "Between":
    from framefill import checkpoint
    from framefill.device import choose
    from framefill.video.between.tier import Balanced
    from framefill.video.between.tiles import Tiled

    if name in TIERS and name not in shipped():
        raise BadInput(f"the tier {name} is not there: no weights came with this framefill; give --tier fast")
    maker: Any = checkpoint.load(name, device=choose(options.device))
    if not callable(maker) or not hasattr(maker, "context"):
        raise BadInput(f"{name} is not a model of frames between two; `framefill info {name}` says what it is")
    return replace(maker, model=Tiled(maker.model)) if isinstance(maker, Balanced) else maker
