"""An evaluation from beginning to end: plan, measure every case, sum up, write the page."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from framefill import __version__
from framefill.atomic import replacing
from framefill.distributed import Ranks
from framefill.errors import BadInput
from framefill.evaluate import page, parts
from framefill.evaluate.cases import Case, Cases
from framefill.evaluate.measure import Judges, measured
from framefill.evaluate.parts import Numbers
from framefill.evaluate.protocol import Protocol
from framefill.evaluate.summary import FRECHET_ROUNDS, ROUNDS, Figure, figures, warnings
from framefill.features import Distance, Features

SHOWN = 6  # cases whose pictures are on the page
FEWEST = 2


@dataclass(frozen=True)
class Result:
    """What an evaluation found: the `table`, the protocol `card`, `warnings`, and the `page` that shows it all."""

    table: list[Figure]
    card: dict[str, Any]
    warnings: list[str]
    page: Path


def evaluate(
    cases: Cases,
    protocol: Protocol,
    judges: Judges,
    out: Path,
    *,
    card: dict[str, Any],
    seed: int = 0,
    ranks: Ranks | None = None,
    each: Callable[[], None] = lambda: None,
) -> Result | None:
    """Measures every case once, in `out`/parts, and writes `out`/index.html and result.json.

    An evaluation that was interrupted goes on. Of several `ranks` every one measures its share; the one that finds all
    parts there sums up, the others return None. Raises BadInput for fewer than two cases, which have no interval,
    and where no score applies: clips from nothing without a network to judge them.
    """
    check(cases)
    ranks = ranks or Ranks.here()
    card = card | _card(cases, protocol, judges, seed)
    plan = hashlib.sha256(json.dumps(card, sort_keys=True, default=str).encode()).hexdigest()
    folder = out / "parts"
    parts.collect(folder, plan, ranks.mine(range(cases.count)), partial(_measure, cases, protocol, judges, out), each)
    found, missing = parts.gathered(folder, plan, cases.count)
    if missing:
        return None
    table = figures(found, cases.methods, protocol, seed)
    if not table:
        raise BadInput("clips from nothing answer to no truth, so they need a feature network; see docs/evaluation.md")
    result = Result(table, card, warnings(found, cases.methods), out / "index.html")
    _write(result, out)
    return result


def check(cases: Cases) -> None:
    """BadInput for fewer than two cases, which have no interval."""
    if cases.count < FEWEST:
        raise BadInput(f"an evaluation needs at least {FEWEST} clips for an interval, got {cases.count}")


def _measure(cases: Cases, protocol: Protocol, judges: Judges, out: Path, index: int) -> Numbers:
    case = cases.make(index)
    if index < SHOWN:
        _show(case, out / f"case-{index:03d}.png")
    return measured(case, protocol, judges)


def _show(case: Case, path: Path) -> None:
    with replacing(path) as part:
        page.sheet(case).save(part, format="png")


def _write(result: Result, out: Path) -> None:
    with replacing(out / "result.json") as part:
        part.write_text(json.dumps(page.as_json(result.table, result.card, result.warnings), indent=1, default=str))
    pictures = sorted(out.glob("case-*.png"))
    with replacing(result.page) as part:
        part.write_text(page.as_page(result.table, result.card, result.warnings, pictures))


def _card(cases: Cases, protocol: Protocol, judges: Judges, seed: int) -> dict[str, Any]:
    return {
        "protocol": protocol.name,
        "what it means": protocol.says,
        "clips": cases.count,
        "samples": protocol.samples,
        "methods": list(cases.methods),
        "seed": seed,
        "networks": _named(judges.clips) | _named(judges.pictures) | _named(judges.distances),
        "intervals": f"95 %, bootstrap over clips, {ROUNDS} rounds; Frechet distances reflected, "
        f"{list(FRECHET_ROUNDS.values())} rounds (up to 512 features, up to 2048), over single samples fewer, at least "
        "10; precision and recall 10 half samples",
        "framefill": __version__,
    }


def _named(networks: Sequence[Features] | Sequence[Distance]) -> dict[str, Any]:
    return {n.name: {"sha256": n.sha256, "resize": n.resize} for n in networks}


def resized(protocol: Protocol, *, clips: int | None, samples: int | None) -> Protocol:
    """The protocol with other numbers, saying so in its words."""
    changed = replace(protocol, clips=clips or protocol.clips, samples=samples or protocol.samples)
    if changed == protocol:
        return protocol
    note = f"; here {changed.clips} clips and {changed.samples} samples for {protocol.clips} and {protocol.samples}"
    return replace(changed, says=protocol.says + note)
