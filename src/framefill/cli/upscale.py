"""The verb that makes pictures finer with a flow: every block of the result averages to the pixel it came from."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

from framefill.cli.options import loaded, positive
from framefill.errors import BadInput, MediaError, Stiff, one_line, printable


def upscale(
    place: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    model: Annotated[str, tyro.conf.arg(aliases=["-m"])],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("finer"),
    times: int = 2,
    samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1,
    temperature: float = 1.0,
    seed: int = 0,
    device: str = "auto",
    overwrite: Annotated[bool, tyro.conf.arg(aliases=["-y"])] = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Pictures made 2, 4, ... times larger by a flow; the mean of every block is, exactly, the pixel it came from.

    A flow has learnt this for pictures of its own size divided by `times`: those look best. Of a folder, pictures that
    cannot be read or made finer are left out and named.

    Args:
        place: A picture, or a folder of them.
        model: A flow: a run of `framefill train mrcnf`, or a model file.
        output: The folder for the results, PNG files; of one picture, and one answer, a name such as up.png.
        times: A power of two, less than two to the number of the flow's scales.
        samples: Different answers for each picture.
        temperature: Below 1 for safer details.
        seed: Same seed, same result.
        device: cpu, cuda, or auto.
        overwrite: Replace results that are there.
        as_json: Print one JSON object.
    """
    from framefill.arrays import derive
    from framefill.video.images.album import pictures_in
    from framefill.video.images.flow_model import FlowModel

    positive(samples=samples)
    doublings = times.bit_length() - 1
    if times < 2 or times != 1 << doublings:
        raise BadInput(f"--times must be a power of two such as 2 or 4, got {times}")
    sources = [place / name for name in pictures_in(place)]
    targets = _targets(sources, place, output, times, samples)
    there = [target for row in targets for target in row if target.exists()]
    if there and not overwrite:
        raise BadInput(f"{there[0]} is there already; choose another folder, or add --overwrite")
    flow = loaded(model, device, FlowModel, "densities")
    most = 1 << len(flow.model.flows) - 1
    if times > most:
        able = f"at most {most} times larger" if most > 1 else "no larger: it has one scale"
        raise BadInput(f"--times {times}: {model} makes pictures {able}; more scales make more")

    def finer(i: int, picture: Any) -> list[Any]:
        seeds = [derive(seed, i, k) for k in range(samples)]
        return [flow.upscale(picture[None], doublings, seed=own, temperature=temperature)[0] for own in seeds]

    made, failed = _all(sources, targets, finer, alone=place.is_file())
    result = {"pictures": made, "left_out": failed, "seed": seed, "model": model}
    print(json.dumps(result) if as_json else "\n".join(made))
    if failed:
        raise MediaError(f"{failed} of {len(sources)} pictures are left out, see above; {output} has the others")


def _all(
    sources: list[Path], targets: list[list[Path]], finer: Callable[[int, Any], list[Any]], *, alone: bool
) -> tuple[list[str], int]:
    """What was written, and how many pictures of a folder were left out, which are named; MediaError if all were."""
    made: list[str] = []
    failed = 0
    for i, (source, row) in enumerate(zip(sources, targets, strict=True)):
        try:
            answers = finer(i, _read(source))
        except (MediaError, Stiff) as error:
            if alone:
                raise (error.within(f"for {source}") if isinstance(error, Stiff) else error) from error
            failed += 1
            name, words = printable(str(source)), one_line(error)
            print(f"framefill: {words if name in words else f'{name} is left out: {words}'}", file=sys.stderr)
            continue
        for picture, target in zip(answers, row, strict=True):
            _write(picture, target)
            made.append(str(target))
    if failed == len(sources):
        raise MediaError(f"none of {failed} pictures can be made finer; the lines above say why")
    return made, failed


def _targets(sources: list[Path], place: Path, output: Path, times: int, samples: int) -> list[list[Path]]:
    """The files of each picture; folders are kept, and suffixes of those that differ in nothing else."""
    if output.suffix.lower() == ".png" and not output.is_dir():
        if place.is_dir() or samples > 1:
            raise BadInput(f"{output} holds one answer for one picture; name a folder for more")
        return [[output]]
    stems = [source.relative_to(place) if source != place else Path(source.name) for source in sources]
    plain = [stem.with_suffix("") for stem in stems]
    named = [stem if plain.count(short) > 1 else short for stem, short in zip(stems, plain, strict=True)]
    endings = [f"-x{times}" + (f"-{k + 1}" if samples > 1 else "") + ".png" for k in range(samples)]
    return [[output / name.parent / (name.name + ending) for ending in endings] for name in named]


def _read(path: Path) -> Any:
    from framefill.video import stacks

    try:
        return stacks.of_8_bits(stacks.picture(path, deep=True), path)
    except MediaError:
        raise
    except Exception as error:  # the list of what Pillow raises is open
        raise MediaError(f"{path} cannot be read as a picture: {error}; leave it out") from error


def _write(picture: Any, target: Path) -> None:
    from PIL import Image

    from framefill.atomic import replacing, with_folder

    with replacing(with_folder(target)) as part:
        Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(part, format="png")
