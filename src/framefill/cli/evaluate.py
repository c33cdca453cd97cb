"""The verb that judges: a model on held-out clips, or two folders of clips."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from framefill.cli import verify
from framefill.errors import BadInput

if TYPE_CHECKING:
    from framefill.evaluate.cases import Cases
    from framefill.evaluate.measure import Judges
    from framefill.evaluate.protocol import Protocol


def evaluate(
    subject: Annotated[str, tyro.conf.Positional],
    data: Annotated[str, tyro.conf.Positional] = "",
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    made: tuple[Path, ...] = (),
    protocol: Literal["strict", "mcvd"] = "strict",
    task: Literal["predict", "interpolate", "generate"] = "predict",
    past: int | None = None,
    frames: int | None = None,
    clips: int | None = None,
    samples: int | None = None,
    split: Literal["test", "val", "train"] = "test",
    leads: tuple[int, ...] = (1, 5, 10),
    every: int = 3,
    recalibrate: bool = False,
    calls: int | None = None,
    strength: float | None = None,
    networks: Literal["installed", "none"] = "installed",
    clip_network: Path | None = None,
    picture_network: Path | None = None,
    distance_network: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """How good a model is on held-out clips, or how near one folder of clips is to another. Run again to go on.

    Args:
        subject: A model (a file, a run folder, a shipped name); or, with --made, the folder of the real clips.
        data: What to judge the model on: digits, NAME:FOLDER for a published data set, or a folder of clips; for a
            model of fields a NetCDF file, a Zarr store, a folder of files, or hadcm3, after the years of training.
        output: The folder for the page, the JSON and what was measured so far.
        made: Folders of made clips, one for every sample, with the names of the real ones.
        protocol: strict, or that of the MCVD paper.
        task: What to ask of the model.
        past: Frames that are known before; by default what the model sees.
        frames: Frames to make; by default 10 to predict or generate, and what the model makes at once to interpolate.
        clips: How many clips, instead of the protocol's number.
        samples: How many samples of each, instead of the protocol's number.
        split: Which part of the data.
        leads: For a model of fields: how many steps ahead, such as --leads 1 5 10.
        every: For a model of fields: steps from one start to the next.
        recalibrate: For a model of fields: also with spread and mean corrected by its errors in the years of training.
        calls: Network calls per block.
        strength: How much of the noise to start with.
        networks: Feature networks: those whose packages are installed, or none.
        clip_network: A TorchScript file of yours for clips, such as an I3D; it is run, so trust it.
        picture_network: A TorchScript file of yours for pictures, such as an Inception.
        distance_network: A TorchScript file of yours for distances between pictures, such as LPIPS.
        seed: Same seed, same figures.
        device: cpu, cuda, or auto.
        as_json: Print one JSON object instead of a table.
    """
    from framefill.cli.progress import bar
    from framefill.device import choose
    from framefill.distributed import Ranks
    from framefill.evaluate import page, run
    from framefill.evaluate.protocol import PROTOCOLS

    if bool(made) == bool(data):
        raise BadInput("say what to judge: a model and data (evaluate digits digits), or real clips and --made FOLDER")
    if data and verify.of_fields(subject):
        verify.evaluate(
            subject, data, output, leads=leads, every=every, members=30 if samples is None else samples,
            recalibrated=recalibrate, calls=calls, seed=seed, device=device, as_json=as_json,
        )  # fmt: skip
        return
    place = choose(device)
    chosen = run.resized(PROTOCOLS[protocol], clips=clips, samples=len(made) or samples)
    if made:
        from framefill.evaluate.cases import files

        cases: Cases = files(Path(subject), made)
        card: dict[str, Any] = {"task": "compare", "real": subject, "made": list(map(str, made))}
        chosen = run.resized(PROTOCOLS[protocol], clips=cases.count, samples=len(made))
    else:
        cases, card = _drawn(
            subject, data, chosen, task=task, past=past, frames=frames, split=split, calls=calls, strength=strength,
            seed=seed, device=place,
        )  # fmt: skip
    run.check(cases)
    judges = _judges(networks, clip_network, picture_network, distance_network, place)
    ranks = Ranks.here()
    with bar("evaluating", len(ranks.mine(range(cases.count))), of="clips", quiet=as_json or not ranks.main) as each:
        result = run.evaluate(cases, chosen, judges, output, card=card, seed=seed, each=each)
    if result is None:
        print(f"parts are in {output / 'parts'}; the last process sums up", file=sys.stderr)
        return
    if as_json:
        print(json.dumps(page.as_json(result.table, result.card, result.warnings), default=str))
        return
    print("\n".join([page.as_text(result.table), *result.warnings, str(result.page)]))


def _drawn(
    subject: str,
    data: str,
    protocol: "Protocol",
    *,
    task: Literal["predict", "interpolate", "generate"],
    past: int | None,
    frames: int | None,
    split: str,
    calls: int | None,
    strength: float | None,
    seed: int,
    device: str,
) -> tuple["Cases", dict[str, Any]]:
    """Windows of held-out data, and what the card says of them."""
    from framefill.cli.options import Options, load
    from framefill.evaluate.cases import drawn
    from framefill.evaluate.protocol import Question
    from framefill.recipes import RECIPES
    from framefill.recipes.recipe import from_fields

    model = load(Options(model=subject, calls=calls, strength=strength, device=device))
    recipe: Any = from_fields(RECIPES[model.card.recipe], model.card.fields)
    source = recipe.source(data, split, progress=lambda *_: None)
    window = model.window
    question = Question.of(
        task, past=window.past if past is None else past,
        frames=frames or (window.current if task == "interpolate" else 10), future=window.future,
    )  # fmt: skip
    card = {
        "task": task,
        "known": "".join("k" if known else "." for known in question.known),
        "data": f"{data}, split {split}",
        "model": {"name": subject, "recipe": model.card.recipe, "preset": model.card.preset, "step": model.card.step},
        "sampler": str(model.sampler),
    }
    return drawn(model, source, question, clips=protocol.clips, samples=protocol.samples, seed=seed), card


def _judges(networks: str, clip: Path | None, picture: Path | None, distance: Path | None, device: str) -> "Judges":
    """The networks that are there, with a word on those that are not."""
    from framefill import features
    from framefill.errors import NotInstalled
    from framefill.evaluate.measure import Judges

    def there(make: Callable[..., Any]) -> list[Any]:
        try:
            return [make(device=device)] if networks == "installed" else []
        except NotInstalled as error:
            print(f"framefill: without {error}", file=sys.stderr)
            return []

    # the user's files first: where one is bad, nothing else is to be said
    clips = [features.clip_file(clip, device=device)] if clip else []
    pictures = [features.picture_file(picture, device=device)] if picture else []
    distances = (features.distance_file(distance, device=device),) if distance else ()
    clips, pictures = [*there(features.i3d), *clips], [*there(features.efficientnet_lite0), *pictures]
    return Judges(tuple(clips), tuple(pictures), distances)
