"""`framefill evaluate` for models of fields: hindcasts, baselines, a table, pictures and a page."""

import json
from pathlib import Path
from typing import Any

from framefill.errors import BadInput


def of_fields(model: str) -> bool:
    """Whether `model` names a model of fields."""
    from framefill import checkpoint

    place = checkpoint.locate(model)
    return place.is_file() and checkpoint.read_card(place).recipe == "climate"


def evaluate(
    model: str,
    data: str,
    output: Path,
    *,
    leads: tuple[int, ...],
    every: int,
    members: int,
    recalibrated: bool,
    calls: int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Verifies a model on the years after those of its training."""
    from framefill.cli.emulate import emulator_of
    from framefill.cli.options import positive
    from framefill.cli.progress import bar
    from framefill.climate.archive import open_archive
    from framefill.climate.samples import place_of
    from framefill.climate.tables import as_json as in_json
    from framefill.climate.tables import as_text
    from framefill.climate.verification import verify
    from framefill.evaluate import hindcasts
    from framefill.evaluate.fields import write_report
    from framefill.evaluate.hindcasts import Plan

    positive(every=every, samples=members)
    emulator = emulator_of(model, device, calls)
    archive = open_archive(place_of(data), emulator.spec.variables, like=emulator.spec)
    if members < 2:
        raise BadInput("the spread of an ensemble needs 2 members or more: --samples 30")
    name = Path(model).stem
    plan = Plan(tuple(sorted(set(leads))), members, every, seed=seed)
    starts = plan.starts(archive, emulator)
    warning = hindcasts.check(emulator, archive, starts)
    card = {
        "model": model, "step": emulator.card.step, "sampler": str(emulator.sampler), "data": archive.name,
        "trained on": f"{emulator.statistics.source}, {emulator.statistics.years[0]} to {emulator.statistics.years[1]}",
        "members": members, "seed": seed, **({"warning": warning} if warning else {}),
    }  # fmt: skip
    past = _past(emulator, archive, plan) if recalibrated else None
    with bar("evaluating", len(starts) + (len(past.starts(archive, emulator)) if past else 0), of="starts",
             quiet=as_json) as each:  # fmt: skip
        found = hindcasts.made(emulator, archive, plan, output, model=name, each=each)
        before = hindcasts.made(emulator, archive, past, output, model=name, each=each) if past else []
    pages: dict[str, Any] = {}
    for i, h in enumerate(found):
        if before:
            h, correction = hindcasts.corrected(h, before[i])
            card["recalibration"] = json.dumps(correction.to_json())
        verification = verify(h)
        page = write_report(h, verification, output / h.name if len(found) > 1 else output, card=card)
        pages[h.name] = in_json(verification) | {"page": str(page)}
        if not as_json:
            print("\n".join([as_text(verification), *([f"warning: {warning}"] if warning else []), str(page)]))
    if as_json:
        print(json.dumps({"card": card, "variables": pages}))


def _past(emulator: Any, archive: Any, plan: Any) -> Any:
    """The same questions in the years of training, ending before the first truth that is judged."""
    from dataclasses import replace

    first, last = emulator.statistics.years
    return replace(plan, first=first, last=last - max(plan.leads))
