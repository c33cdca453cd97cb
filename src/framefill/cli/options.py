"""What every verb that makes video can be told, and what it means."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from framefill.errors import BadInput

if TYPE_CHECKING:
    from framefill.video.model import VideoModel
    from framefill.video.ode_model import ODEVideoModel

P = TypeVar("P")


@dataclass(frozen=True)
class Writing:
    """What every verb that makes video can be told, whatever makes it."""

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """A file (.mp4 .mov .mkv .webm .gif .npy; name.png: a folder `name` of numbered pictures) or a folder for results;
    by default a name from the input, here."""
    samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1
    """How many different results to draw; from two on, their spread is a video too."""
    seed: int = 0
    """Same seed, same result."""
    calls: int | None = None
    """Network calls per block: fewer is faster, more is finer."""
    codec: Literal["h264", "av1", "vp9", "ffv1"] | None = None
    """How to code video; by default H.264, VP9 in .webm. FFV1 in .mkv is lossless."""
    most: float = 16_000.0
    """How much of one file to decode at most, in gigapixels: a small file can claim to be endless."""
    device: str = "auto"
    """cpu, cuda, or auto."""
    overwrite: Annotated[bool, tyro.conf.arg(aliases=["-y"])] = False
    """Replace results that are already there."""
    dry_run: bool = False
    """Say what would be done, and do nothing."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of file names."""

    @property
    def source_rate(self) -> Fraction | None:
        """The rate the source is said to have, instead of its own."""
        return None


@dataclass(frozen=True)
class Options(Writing):
    """What every verb can be told that draws video from a model."""

    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = "natural"
    """A model file, a run folder, or the name of a shipped model (see `framefill info`)."""
    keep: int | None = None
    """Write only this many samples: those that differ most."""
    sampler: Literal["dpm", "ddim", "ddpm", "heun"] | None = None
    """How to draw; by default what suits the model."""
    strength: float | None = None
    """How much of the noise to start with, up to 1: less stays nearer to the guess from motion, and varies less."""
    bits: Literal[8, 10, 16] = 8
    """Bits of a level, read and written: 10 for H.264, AV1 and FFV1; 16 for FFV1, .npy, .h5 and numbered pictures."""
    fps: str | None = None
    """Frames per second, such as 25 or 30000/1001, instead of the file's own time stamps."""

    @property
    def source_rate(self) -> Fraction | None:
        """See `Writing`."""
        return rate(self.fps)


Common = Annotated[Options, tyro.conf.arg(name="")]


DEFAULTS = Options()


def rate(text: str | None, option: str = "--fps") -> Fraction | None:
    """Frames per second as a user writes them."""
    if text is None:
        return None
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise BadInput(f"cannot read {option} {text!r}; write a rate such as 25, 29.97 or 30000/1001") from error
    if not 0 < value <= 100_000:
        raise BadInput(f"{option} must lie between 0 and 100000, got {text}")
    return value


def seconds(text: str, option: str) -> Fraction:
    """Seconds as a user writes them: 10s, 5m, 2h, or a number."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        value = Fraction(text[:-1] if unit else text) * (unit or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise BadInput(f"cannot read {option} {text!r}; write a time such as 10s, 5m or 2h") from error
    if not 0 < value <= 10**7:
        raise BadInput(f"{option} must be more than 0 and at most 10000000 seconds, got {text}")
    return value


def positive(**values: float) -> None:
    """BadInput, naming the option, unless each value is at least 1 (or, a float, more than nothing)."""
    for name, value in values.items():
        if not value >= (1 if isinstance(value, int) else 1e-3):
            raise BadInput(f"--{name} must be at least 1, got {value}")


def unheard(options: Writing, names: Sequence[str]) -> None:
    """BadInput for the first of these options that was given: the model has no use for it."""
    for name in names:
        if getattr(options, name) != getattr(type(options), name):
            raise BadInput(f"--{name.replace('_', '-')} is for the tiers; leave it away with this model")


def load(options: Options) -> "VideoModel":
    """The video model they name, drawing as they say."""
    from framefill.video.model import VideoModel

    return latent(options).windows() if of_paths(options.model) else product(options, VideoModel, "videos")


def latent(options: Options) -> "ODEVideoModel":
    """The latent ODE they name; BadInput where they say how diffusion is to draw."""
    from framefill.video.ode_model import ODEVideoModel

    if options.sampler or options.calls or options.strength is not None:
        raise BadInput(f"--sampler, --calls and --strength are for diffusion, and {options.model} is none")
    return loaded(options.model, options.device, ODEVideoModel, "videos")


def of_paths(model: str) -> bool:
    """Whether a model is a latent ODE, which knows all instants."""
    from framefill import checkpoint

    return checkpoint.read_card(checkpoint.locate(model)).recipe == "ode-video"


def product(options: Options, kind: type[P], of: str) -> P:
    """The model they name, drawing as they say; BadInput if it is none of `kind`, which draws what `of` says."""
    from dataclasses import replace

    model: Any = loaded(options.model, options.device, kind, of)
    return replace(model, sampler=sampler(options, model.sampler))


def loaded(name: str, device: str, kind: type[P], of: str) -> P:
    """The model of that name; BadInput if it is none of `kind`, which draws what `of` says."""
    from framefill import checkpoint
    from framefill.device import choose

    model = checkpoint.load(name, device=choose(device))
    if not isinstance(model, kind):
        raise BadInput(f"{name} is not a model of {of}; `framefill info {name}` says what it is")
    return model


def sampler(options: Options, default: Any) -> Any:
    """The way of drawing they name, with as many calls as they say; else as `default` does."""
    from dataclasses import replace

    from framefill.diffusion import sample

    kinds = {"dpm": sample.DPMSolver, "ddim": sample.DDIM, "ddpm": sample.DDPM, "heun": sample.Heun}
    kind = kinds[options.sampler] if options.sampler else type(default)
    calls = options.calls or default.calls
    strength = default.strength if options.strength is None else options.strength
    steps = (calls + 1) // 2 if kind is sample.Heun else calls
    return replace(default, steps=steps, strength=strength) if kind is type(default) else kind(steps, strength=strength)
