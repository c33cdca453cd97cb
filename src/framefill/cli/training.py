"""The verb that trains."""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from framefill.errors import BadInput, printable
from framefill.signals import Stop, Stopped, listening

if TYPE_CHECKING:
    from framefill.training import Progress

Sheet = Callable[[Any], Any]
"""A picture of what a product does."""


def train(
    recipe: Annotated[str, tyro.conf.Positional],
    data: Annotated[str, tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    preset: str = "tiny",
    set_: Annotated[tuple[str, ...], tyro.conf.arg(name="set"), tyro.conf.UseAppendAction] = (),
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    steps: int | None = None,
    budget: str | None = None,
    seed: int = 0,
    device: str = "auto",
    accumulate: int = 1,
    save_every: int = 200,
    shard: bool = False,
    tensorboard: bool = False,
    dry_run: bool = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Trains a model on clips, pictures, a published data set or "digits". Run it again to go on where it stopped.

    Ctrl-C or SIGTERM ends it after the current step with a checkpoint, a second one at once. Under torchrun all
    processes train one model (see docs/scale.md).

    Args:
        recipe: A recipe, such as mcvd (see `framefill recipes`).
        data: A folder of videos, GIFs, image folders or .npy arrays; the word digits; or a data set as kth:FOLDER, with
            smmnist, kth, bair, cityscapes, ucf101 or vimeo90k, unpacked as its distributor gives it. For recipes of
            pictures, a folder or .zip of them, where folders called train, val and test are the splits.
        output: The run folder: it is only ever added to.
        preset: A setting of the recipe.
        set_: Override a field, such as --set batch_size=16; may be repeated.
        from_: A run folder or model file whose weights a new run begins with; some recipes must have one.
        steps: Training steps; by default those of the preset.
        budget: A time such as 30m or 2h, instead of steps.
        seed: Same seed, same run.
        device: cpu, cuda, or auto.
        accumulate: Split every batch into this many parts, to save memory.
        save_every: Steps between checkpoints, each with a sheet of samples.
        shard: Under torchrun, share out the model over the processes (FSDP2), for models that do not fit one.
        tensorboard: Log to TensorBoard too (needs the extra `track`).
        dry_run: Say what would be trained, and do nothing.
        as_json: Print one JSON object at the end, and nothing else.
    """
    if "WORLD_SIZE" in os.environ:  # torch would warn, in every process, of what is meant (see distributed.spread)
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from framefill import recipes
    from framefill.checkpoint import Card
    from framefill.recipes.recipe import override, to_fields

    found = recipes.find(recipe, preset)
    wanted = override(found.recipe, set_).suited(data)
    chosen, start = _begun(wanted, from_, output)
    if from_:
        _heeded(chosen, set_, from_)
        if found.paper_score:
            _kept(wanted, chosen, preset, from_)
    card = Card(
        recipe, preset, to_fields(chosen), seed=seed, about={"data": data} | ({"from": str(from_)} if from_ else {})
    )
    done, last = carry_out(
        chosen, data, card, start=start, output=output, steps=steps, budget=budget, device=device,
        accumulate=accumulate, save_every=save_every, shard=shard, tensorboard=tensorboard, dry_run=dry_run,
        quiet=as_json,
    )  # fmt: skip
    if done:
        _tell(output, last, as_json)


def carry_out(
    chosen: Any, data: str, card: Any, *, start: dict[str, Any] | None, output: Path, steps: int | None = None,
    budget: str | None = None, device: str = "auto", accumulate: int = 1, save_every: int = 200, shard: bool = False,
    tensorboard: bool = False, dry_run: bool = False, quiet: bool = False,
) -> tuple[bool, "Progress | None"]:  # fmt: skip
    """Trains a recipe as `train` says, which has the arguments; whether the run is whole, to be told of here."""
    from framefill import recipes, training
    from framefill.device import choose
    from framefill.distributed import Ranks, joined

    place, seconds = choose(device), _seconds(budget)
    plan = {
        "recipe": card.recipe,
        "preset": card.preset,
        "parameters": recipes.parameters(chosen),
        "device": place,
        "steps": steps or (None if seconds else chosen.steps),
        "budget_seconds": seconds,
        "run": str(output),
    }
    ranks = Ranks.here()
    quiet = quiet or not ranks.main
    if not quiet:
        print("training " + ", ".join(f"{k} {v}" for k, v in plan.items() if v is not None), file=sys.stderr)
    if dry_run:
        print(json.dumps(plan))
        return False, None
    with joined(place), listening() as stop:
        with ranks.in_turn():
            source = chosen.source(data, "train", progress=lambda done, of, name: _reading(done, of, name, quiet))
            held_out = chosen.source(data, "val")
        if ranks.main and (note := getattr(source, "note", "")):
            print(printable(note), file=sys.stderr)
        card = replace(card, about=card.about | chosen.about(source))
        with stop.finishing():
            loop = training.train(
                chosen, source, output, card=card, steps=steps, budget=seconds, device=place, accumulate=accumulate,
                save_every=save_every, shard=shard, stop=lambda: stop.number > 0, start=start,
            )  # fmt: skip
            last = _follow(
                loop, output, partial(chosen.sheet, source=held_out), stop, quiet=quiet,
                tensorboard=tensorboard and ranks.main,
            )  # fmt: skip
    if last and last.stopped and last.step < last.steps:
        # Where another process got the signal, this one ends as if it had; one line is enough.
        stopped = Stopped(stop.number or signal.SIGTERM, f"stopped at step {last.step}; run again to go on")
        raise stopped if ranks.main else SystemExit(stopped.code)
    return ranks.main, last


def _begun(recipe: Any, place: Path | None, output: Path) -> tuple[Any, dict[str, Any] | None]:
    """The recipe as it follows the run or model file at `place`, and the weights it begins with.

    BadInput, before any data is read, where there must be some and the run at `output` has none either.
    """
    from framefill import checkpoint
    from framefill.recipes.recipe import Follows

    if place is None:
        if isinstance(recipe, Follows) and recipe.follows and not any(output.glob("checkpoints/*.safetensors")):
            raise BadInput("this training begins with the weights of another run; name its folder with --from")
        return recipe, None
    tensors, card = checkpoint.read(checkpoint.locate(place))
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    if not isinstance(recipe, Follows):
        return recipe, tensors
    follower = recipe.after(card.fields)
    return follower, follower.taken(tensors)


def _heeded(chosen: Any, words: Sequence[str], place: Path) -> None:
    """BadInput where the run that training begins with says something else than a `word` such as codes=64."""
    from framefill.recipes.recipe import override

    for word in words:
        name = word.partition("=")[0]
        if getattr(override(chosen, [word]), name) != getattr(chosen, name):
            raise BadInput(f"--set {word}, but {place} has {name}={getattr(chosen, name)}; leave it away")


def _kept(wanted: Any, chosen: Any, preset: str, place: Path) -> None:
    """BadInput where a preset of a paper's figure would be trained on other clips than that was measured with."""
    for name in ("pseudo", "height", "width"):
        own, other = getattr(wanted, name, None), getattr(chosen, name, None)
        if own != other:
            raise BadInput(f"preset {preset} is of {name}={own}, but {place} has {name}={other}; take another of them")


def _tell(output: Path, last: "Progress | None", as_json: bool) -> None:
    result: dict[str, Any] = {
        "run": str(output),
        "model": str(output / "model.safetensors"),
        "curve": str(output / "loss.png"),
    }
    if last:
        result |= {"steps": last.step, "loss": last.loss, "skipped": last.skipped}
    print(json.dumps(result) if as_json else "\n".join(f"{k:8s} {v}" for k, v in result.items()))


def _follow(loop: Any, output: Path, sheet: Sheet, stop: Stop, *, quiet: bool, tensorboard: bool) -> "Progress | None":
    """Runs the loop to its end, showing where it is; draws samples and the loss curve at every checkpoint."""
    from framefill.cli.progress import meter
    from framefill.curves import draw_losses

    board = _board(output) if tensorboard else None
    progress = None
    with meter("training", quiet=quiet) as show:
        for progress in loop:
            show(progress)
            if board:
                board.add_scalar("loss", progress.loss, progress.step)
            if progress.saved and not progress.stopped:
                with suppress(Stopped), stop.at_once():  # a sheet that is being drawn is dropped; the loop then ends
                    _samples(output, sheet, progress.step)
                    draw_losses(output / "metrics.jsonl", output / "loss.png")
    return progress


def _samples(output: Path, sheet: Sheet, step: int) -> None:
    """What the model draws now, beside what it has not seen."""
    from framefill import checkpoint
    from framefill.atomic import replacing

    drawn = sheet(checkpoint.load(output / "model.safetensors"))
    with replacing(output / "samples" / f"step-{step:08d}.png") as part:
        part.parent.mkdir(exist_ok=True)
        drawn.save(part, format="png")


def _board(output: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise BadInput("--tensorboard needs TensorBoard: pip install 'framefill[track]'") from error
    return SummaryWriter(str(output / "tensorboard"))


def _reading(done: int, of: int, name: str, quiet: bool) -> None:
    if not quiet:
        print(f"reading: {done} of {of} ({printable(name)})", file=sys.stderr)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        value = float(text[:-1]) * units[text[-1:]]
    except (ValueError, KeyError) as error:
        raise BadInput(f"cannot read --budget {text!r}; write a time such as 90s, 30m or 2h") from error
    if not value > 0:
        raise BadInput(f"--budget must be more than nothing, got {text!r}")
    return value
