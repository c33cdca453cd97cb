"""A verification in words: a table for the terminal, and everything for json.dumps.

Numbers that do not exist, such as the spread of one member, are "-" in the table and null in JSON.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.climate.scores import Score
from framefill.climate.shape import Spectra
from framefill.climate.verification import Verification
from framefill.metrics.distribution import Interval

Rows = list[tuple[str, list[str]]]
Blocks = list[tuple[str, Rows]]
SCORES = {
    "crps": "fair CRPS, {unit}",
    "energy": "energy score, {unit}",
    "rmse": "RMSE of the ensemble mean, {unit}",
    "bias": "bias, {unit}",
    "spread_skill": "spread over skill, adjusted (1 if calibrated)",
}


def as_text(verification: Verification, *, most: int = 5) -> str:
    """The table: a block for every score, a row for every method, a column for each of at most so many leads."""
    v = verification
    shown = some(len(v.leads), most)
    head = [lead_name(v.leads[i], v.time_unit) for i in shown]
    by_lead = [(title, [(name, [cells[i] for i in shown]) for name, cells in rows]) for title, rows in _by_lead(v)]
    over_leads = _over_leads(v)
    widths = [max(len(row[i]) for row in [head, *_cells(by_lead)]) for i in range(len(head))]
    first = max(len(name) for _, rows in by_lead + over_leads for name, _ in rows)
    lines = [*headline(v), "", _line("", head, first, widths)]
    for title, rows in by_lead + over_leads:
        lines += ["", title, *(_line(name, cells, first, widths) for name, cells in rows)]
    return "\n".join(lines)


def headline(verification: Verification) -> list[str]:
    """What was verified, in two or three lines."""
    v = verification
    members = sorted({f.members for f in v.methods.values()})
    said = [
        f"{v.name} in {v.unit}: {len(v.starts)} starts {v.starts[0]} .. {v.starts[-1]}, "
        f"{' or '.join(map(str, members))} members, cells weighted by area",
        "mean [95 % interval over starts, by block bootstrap]; fair scores, so ensembles of any size compare",
    ]
    if v.missing:
        said.append(
            f"{_percent(v.missing)} of the values are missing in the truth or in a method, and left out for all"
        )
    return said


def as_json(verification: Verification) -> dict[str, Any]:
    """All figures and curves, in names of `Verification` and its parts; verdicts with the differences."""
    made = _plain(verification)
    for said, difference in zip(made["differences"], verification.differences, strict=True):
        said["verdict"] = difference.verdict
    return made


def worst(spectra: Spectra) -> int | None:
    """The wave whose ratio is furthest from 1 as a factor, the mean left out; None where no ratio exists."""
    ratio = spectra.ratio.value[1:]
    there = np.isfinite(ratio) & (ratio > 0)
    if not there.any():
        return None
    return 1 + int(np.where(there, np.abs(np.log(np.where(there, ratio, 1))), -1).argmax())


def some(count: int, most: int) -> list[int]:
    """At most so many of 0..count - 1, evenly spread, the ends among them."""
    return sorted({round(float(i)) for i in np.linspace(0, count - 1, min(count, most))})


def lead_name(lead: int, unit: str) -> str:
    """`1 year`, `5 years`."""
    return f"{lead} {unit.removesuffix('s') if lead == 1 else unit}"


def format_like(values: Iterable[float]) -> Callable[[float], str]:
    """How to print numbers of about this size: three digits of the middle one."""
    sizes = sorted(abs(v) for v in values if math.isfinite(v) and v)
    middle = sizes[len(sizes) // 2] if sizes else 1.0
    digits = 2 - math.floor(math.log10(middle))
    style = ".2e" if digits > 6 else f".{max(digits, 0)}f"
    return lambda value: format(value, style) if math.isfinite(value) else "-"


def _by_lead(v: Verification) -> Blocks:
    """Blocks of which every row has a cell for every lead."""
    blocks = [(title.format(unit=v.unit), _scores(v, kind)) for kind, title in SCORES.items()]
    if v.differences:
        blocks.append((f"fair CRPS of {v.model} less that of", _differences(v)))
    furthest = [(name, [_furthest(s, "cells") for s in f.spatial]) for name, f in v.methods.items()]
    close = [(name, [_within(s.ratio.value[1:]) for s in f.spatial]) for name, f in v.methods.items()]
    return [
        *blocks,
        ("power of members over that of the truth, at the wavelength where it is furthest from 1", furthest),
        ("waves at which that ratio is within 10 % of 1", close),
    ]


def _over_leads(v: Verification) -> Blocks:
    found = [(name, f.temporal) for name, f in v.methods.items()]
    rows: Rows = [(name, [_furthest(s, v.time_unit)]) for name, s in found if s is not None]
    blocks = [("the same over leads, at the period where it is furthest from 1", rows)] if rows else []
    return [*blocks, (f"quantiles less those of the truth, {v.unit}, all leads", _quantiles(v))]


def _cells(blocks: Blocks) -> list[list[str]]:
    return [cells for _, rows in blocks for _, cells in rows]


def _scores(v: Verification, kind: str) -> Rows:
    found = {name: [_interval_of(s, kind) for s in f.scores] for name, f in v.methods.items()}
    # a bias is printed as finely as the error that it is part of
    like = [_interval_of(s, "crps" if kind == "bias" else kind).value for f in v.methods.values() for s in f.scores]
    said = format_like(like)
    return [(name, [_cell(i, said) for i in row]) for name, row in found.items()]


def _interval_of(score: Score, kind: str) -> Interval:
    found: Interval = getattr(score, kind)
    return found


def _differences(v: Verification) -> Rows:
    said = format_like(d.crps.value for d in v.differences)
    rows: Rows = []
    for baseline in list(v.methods)[1:]:
        own = [d for d in v.differences if d.baseline == baseline]
        rows.append((baseline, [_cell(d.crps, said) for d in own]))
        rows.append(("", [f"{_cell(d.percent, lambda p: f'{p:+.1f}')} %" for d in own]))
        rows.append(("", [d.verdict for d in own]))
    return rows


def _furthest(s: Spectra, unit: str) -> str:
    i = worst(s)
    if i is None:
        return "-"
    return f"{s.ratio.value[i]:.2f} [{s.ratio.low[i]:.2f}, {s.ratio.high[i]:.2f}] at {1 / s.frequency[i]:.3g} {unit}"


def _within(ratio: NDArray) -> str:
    there = ratio[np.isfinite(ratio)]
    return f"{(np.abs(there - 1) <= 0.1).sum()} of {len(there)}"


def _quantiles(v: Verification) -> Rows:
    """At the rarest levels at either end that the truth has, in whole decades."""
    rows: Rows = []
    for name, f in v.methods.items():
        q = f.quantiles
        there = np.isfinite(q.truth)
        decades = [level for n in (4, 3, 2, 1) for level in (10.0**-n, 1 - 10.0**-n)]
        at = [i for level in decades for i in np.flatnonzero(there & np.isclose(q.levels, level, rtol=0, atol=1e-9))][
            :2
        ]
        said = format_like(q.difference.value[at])
        cells = [
            f"{q.levels[i]:g}: {said(q.difference.value[i])} [{said(q.difference.low[i])}, "
            f"{said(q.difference.high[i])}] of {said(q.truth[i])}"
            for i in at
        ]
        rows.append((name, cells))
    return rows


def _cell(interval: Interval, said: Callable[[float], str]) -> str:
    if not math.isfinite(interval.value):
        return "-"
    return f"{said(interval.value)} [{said(interval.low)}, {said(interval.high)}]"


def _line(name: str, cells: Sequence[str], first: int, widths: Sequence[int]) -> str:
    padded = [c.ljust(w) for c, w in zip(cells, [*widths, *[0] * len(cells)], strict=False)]
    return f"  {name.ljust(first)}  {'  '.join(padded)}".rstrip()


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
