"""What `generate` does with a model of pictures: a folder of numbered PNGs and a sheet of the first beside it, or where
the result is called NAME.png, that sheet alone."""

import json
import math
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from framefill.cli.options import Options, positive, sampler
from framefill.errors import BadInput

ON_SHEET = 60
FLOW = "mrcnf"
RECIPES = ("nonisotropic", "token-prior", "video-diffusion", "hierarchical", FLOW)
NEED_A_CLIP = ("keep", "strength", "codec", "fps")


def drawn_by(model: str) -> bool:
    """Whether a model draws pictures, not clips."""
    from framefill import checkpoint

    return checkpoint.read_card(checkpoint.locate(model)).recipe in RECIPES


def generate(
    options: Options,
    *,
    label: str = "",
    guidance: float | None = None,
    order: str | None = None,
    temperature: float | None = None,
    data: str = "",
) -> None:
    """Draws `options.samples` pictures into the folder `options.output`, which is whole or not there, or on a sheet.

    `label` is the name or number of a class, `guidance` how much of it there is to be; `order` is of a masked prior,
    `temperature` of a flow. With `data`, says how many of them are copies of what is in it (see `against`).
    """
    from framefill.atomic import replacing
    from framefill.cli.against import MOST, against
    from framefill.cli.progress import bar
    from framefill.video.files import Writer
    from framefill.video.sheet import contact_sheet

    positive(samples=options.samples, calls=1 if options.calls is None else options.calls)
    if guidance is not None and not math.isfinite(guidance):
        raise BadInput(f"--guidance must be a finite number, got {guidance}")
    folder, sheet = _targets(options)
    result: dict[str, Any] = {"sheet": str(sheet)} if folder is None else {"pictures": str(folder), "sheet": str(sheet)}
    if options.dry_run:
        _say({f"would_write_{name}": place for name, place in result.items()}, options)
        return
    model = _ordered(_model(options, guidance), order, options)
    if guidance is not None and not label:
        raise BadInput("--guidance says how much of a class there is; say which with --label")
    asked: dict[str, Any] = {"label": _label(model, label)} if label else {}
    if temperature is not None:
        if not flows(options.model):
            raise BadInput(f"--temperature is for flows, and {options.model} is none; leave it away")
        asked["temperature"] = temperature
    if model.card.fields.get("pseudo", "").startswith("clips-"):
        if data:
            raise BadInput(f"--against compares pictures, and {options.model} draws clips; leave it away")
        _clips(model, options, folder, sheet)
        return
    kept: list[Any] = []
    with ExitStack() as stack:
        each = stack.enter_context(bar("drawing", options.samples, of="pictures", quiet=options.as_json))
        writer = stack.enter_context(Writer(folder, Fraction(1), overwrite=options.overwrite)) if folder else None
        for batch in model.stream(options.samples, seed=options.seed, **asked):
            for picture in batch:
                if writer:
                    writer.write(picture)
                each()
            kept += list(batch[: (max(ON_SHEET, MOST * bool(data)) if folder else options.samples) - len(kept)])
    rows = _rows(kept[:ON_SHEET] if folder else kept)
    if data:
        found = against(data, kept[:MOST])
        rows, result = rows + found.rows, result | found.report
    with replacing(sheet) as part:
        contact_sheet(rows).save(part, format="png")
    _say(result | {"seed": options.seed, "model": options.model}, options)


def flows(model: str) -> bool:
    """Whether a model is a flow, with densities."""
    from framefill import checkpoint

    return checkpoint.read_card(checkpoint.locate(model)).recipe == FLOW


def _clips(model: Any, options: Options, folder: Path | None, sheet: Path) -> None:
    """Whole clips from nothing, one below the other on a sheet; BadInput for a folder."""
    from framefill.atomic import replacing
    from framefill.video.sheet import contact_sheet

    if folder is not None:
        raise BadInput(f"{options.model} draws clips of {model.frames} frames; give -o a sheet, such as {folder}.png")
    films = [film for batch in model.films(options.samples, seed=options.seed) for film in batch]
    with replacing(sheet) as part:
        contact_sheet([(str(i), film) for i, film in enumerate(films)]).save(part, format="png")
    _say({"sheet": str(sheet), "seed": options.seed, "model": options.model}, options)


def _model(options: Options, guidance: float | None) -> Any:
    """The model they name, drawing as they say; BadInput for what it cannot be told."""
    from framefill import checkpoint
    from framefill.device import choose

    model: Any = checkpoint.load(options.model, device=choose(options.device))
    samples = hasattr(model, "sampler")
    if guidance is not None and not getattr(model, "classes", 0):
        raise BadInput(f"{options.model} knows no guidance, because it knows no classes; leave --guidance away")
    if (options.sampler or options.calls) and flows(options.model):
        raise BadInput(f"--sampler and --calls are for diffusion; {options.model} is a flow, which takes --temperature")
    if options.sampler and not samples:
        raise BadInput(f"{options.model} draws without a --sampler; leave it away")
    if options.calls and not samples and not getattr(model, "masked", False):
        raise BadInput(f"{options.model} draws in as many steps as it has tokens or levels; leave --calls away")
    if samples:
        model = replace(model, sampler=sampler(options, model.sampler))
    elif options.calls:
        model = replace(model, calls=options.calls)
    return model if guidance is None else replace(model, guidance=guidance)


def _ordered(model: Any, order: str | None, options: Options) -> Any:
    """The model with the tokens that a step keeps chosen by `order`, if any; BadInput where none are chosen."""
    if order is None:
        return model
    from framefill.latents.priors import orders

    if not getattr(model, "masked", False):
        raise BadInput(f"--order is for masked token priors, and {options.model} is none; leave it away")
    kinds = {"confidence": orders.Confidence, "halton": orders.Halton, "scattered": orders.Scattered}
    return replace(model, order=kinds[order]())


def _label(model: Any, text: str) -> int:
    """The number of the class that a user names; BadInput if there is none."""
    names = [str(name) for name in model.card.about.get("classes", [])]
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise BadInput(f"there is no class {text!r}; this model has {', '.join(names) or 'none'}")


def _targets(options: Options) -> tuple[Path | None, Path]:
    """The folder, if any, and the sheet; BadInput for what is there already, and for options of clips."""
    for name in NEED_A_CLIP:
        if getattr(options, name) is not None:
            raise BadInput(f"--{name} says how to make a clip, and {options.model} makes pictures; leave it away")
    folder = options.output or Path("pictures")
    alone = folder.suffix.lower() == ".png"
    if folder.suffix and not alone:
        raise BadInput(f"pictures go to a folder of numbered PNGs, or on one sheet NAME.png; {folder} is neither")
    sheet = folder if alone else folder.with_name(f"{folder.name}-sheet.png")
    if sheet.exists() and not options.overwrite:
        raise BadInput(f"{sheet} is there already; choose another name, or add --overwrite")
    return None if alone else folder, sheet


def _rows(pictures: list[Any], across: int = 12) -> list[tuple[str, Any]]:
    import numpy as np

    starts = range(0, len(pictures), across)
    return [(str(start), np.stack(pictures[start : start + across])) for start in starts]


def _say(result: dict[str, Any], options: Options) -> None:
    print(json.dumps(result) if options.as_json else "\n".join(f"{key:12s} {value}" for key, value in result.items()))
