"""What `generate` does with a model of pictures: a folder of numbered PNGs, and a sheet of the first beside it."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from framefill.cli.options import Options, loaded, positive, product
from framefill.errors import BadInput

ON_SHEET = 60
FLOW = "mrcnf"
NEED_A_CLIP = ("keep", "strength", "codec", "fps")


def drawn_by(model: str) -> bool:
    """Whether a model draws pictures, not clips."""
    from framefill import checkpoint

    return checkpoint.read_card(checkpoint.locate(model)).recipe in ("nonisotropic", FLOW)


def generate(options: Options, *, temperature: float | None = None) -> None:
    """Draws `options.samples` pictures into the folder `options.output`, which is whole or not there."""
    from framefill.atomic import replacing
    from framefill.cli.progress import bar
    from framefill.video.files import Writer
    from framefill.video.sheet import contact_sheet

    positive(samples=options.samples)
    folder, sheet = _targets(options)
    if options.dry_run:
        _say({"would_write": str(folder), "sheet": str(sheet)}, options)
        return
    model, how = _drawing(options, temperature)
    shown: list[Any] = []
    with (
        bar("drawing", options.samples, of="pictures", quiet=options.as_json) as each,
        Writer(folder, Fraction(1), overwrite=options.overwrite) as writer,
    ):
        for batch in model.stream(options.samples, seed=options.seed, **how):
            for picture in batch:
                writer.write(picture)
                each()
            shown += list(batch[: ON_SHEET - len(shown)])
    with replacing(sheet) as part:
        contact_sheet(_rows(shown)).save(part, format="png")
    _say({"pictures": str(folder), "sheet": str(sheet), "seed": options.seed, "model": options.model}, options)


def _drawing(options: Options, temperature: float | None) -> tuple[Any, dict[str, float]]:
    """The model, and what it is told besides number and seed."""
    from framefill.video.images.flow_model import FlowModel
    from framefill.video.images.model import ImageModel

    if not flows(options.model):
        if temperature is not None:
            raise BadInput(f"--temperature is for flows, and {options.model} is none; leave it away")
        return product(options, ImageModel, "pictures"), {}
    if options.sampler or options.calls:
        raise BadInput(f"--sampler and --calls are for diffusion; {options.model} is a flow, which takes --temperature")
    return loaded(options.model, options.device, FlowModel, "pictures"), {
        "temperature": 1.0 if temperature is None else temperature
    }


def flows(model: str) -> bool:
    """Whether a model is a flow, with densities."""
    from framefill import checkpoint

    return checkpoint.read_card(checkpoint.locate(model)).recipe == FLOW


def _targets(options: Options) -> tuple[Path, Path]:
    """The folder and the sheet; BadInput for a file, for what is there already, and for options of clips."""
    for name in NEED_A_CLIP:
        if getattr(options, name) is not None:
            raise BadInput(f"--{name} says how to make a clip, and {options.model} makes pictures; leave it away")
    folder = options.output or Path("pictures")
    if folder.suffix:
        raise BadInput(f"pictures go to a folder of numbered PNGs; give -o a name without a suffix, not {folder}")
    sheet = folder.with_name(f"{folder.name}-sheet.png")
    if sheet.exists() and not options.overwrite:
        raise BadInput(f"{sheet} is there already; choose another name, or add --overwrite")
    return folder, sheet


def _rows(pictures: list[Any], across: int = 12) -> list[tuple[str, Any]]:
    import numpy as np

    starts = range(0, len(pictures), across)
    return [(str(start), np.stack(pictures[start : start + across])) for start in starts]


def _say(result: dict[str, Any], options: Options) -> None:
    print(json.dumps(result) if options.as_json else "\n".join(f"{key:12s} {value}" for key, value in result.items()))
