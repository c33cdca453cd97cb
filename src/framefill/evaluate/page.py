"""An evaluation as a table for the terminal, as JSON, and as a page with the pictures that were judged."""

import html
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from framefill.evaluate.cases import Case
from framefill.evaluate.summary import Figure
from framefill.video.sheet import contact_sheet

LABELS = {"psnr": "PSNR, dB", "ssim": "SSIM", "crps": "CRPS, levels", "precision": "precision", "recall": "recall"}
ARROWS = {"up": "↑", "down": "↓", "one": "→ 1"}
COLUMNS = 16  # frames of a sheet
NOTE = (
    "Mean and 95 % interval over clips; ↑ higher is better, ↓ lower is better. Intervals of Frechet distances are of "
    "the distance less its bias, and may lie below it; those of precision and recall come from half samples."
)
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1d2433;
       background: #fff }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { text-align: right; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid #d8dde6; white-space: nowrap }
tr > :first-child { text-align: left } td.number { font-variant-numeric: tabular-nums } td.best { font-weight: 700 }
img { max-width: 100%; border: 1px solid #d8dde6 } .warning { border-left: 4px solid #b45309; padding-left: .8rem }
small { color: #5b6472 } dt { font-weight: 600 } dd { margin: 0 0 .4rem; overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) { body { color: #e6e9ef; background: #14171c } small { color: #9aa3b2 } }
"""


def sheet(case: Case) -> Image.Image:
    """The truth and up to two samples of every method, frame by frame, known frames marked."""
    columns = np.unique(np.linspace(0, len(case.truth) - 1, min(len(case.truth), COLUMNS)).round().astype(int))
    rows, marks = [("truth", case.truth[columns])], [None]
    for method, videos in case.made.items():
        for number, video in enumerate(videos[:2]):
            rows.append((f"{method} {number + 1}" if len(videos) > 1 else method, video[columns]))
            marks.append(case.known[columns] if case.known.any() else None)
    return contact_sheet(rows, known=marks)


def as_json(table: Sequence[Figure], card: dict[str, Any], warnings: Sequence[str]) -> dict[str, Any]:
    """Everything that was found, ready for json.dumps."""
    return {"card": card, "warnings": list(warnings), "figures": [asdict(figure) for figure in table]}


def as_text(table: Sequence[Figure]) -> str:
    """The table with one row a score and one column a method."""
    methods, scores = _axes(table)
    cells = [["", *methods]]
    for score in scores:
        cells.append([_label(table, score), *(_cell(table, method, score) for method in methods)])
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join("  ".join(word.ljust(w) for word, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def as_page(table: Sequence[Figure], card: dict[str, Any], warnings: Sequence[str], pictures: Sequence[Path]) -> str:
    """The page; `pictures` lie beside it."""
    methods, scores = _axes(table)
    rows = ["<tr><th>score</th>" + "".join(f"<th>{html.escape(m)}</th>" for m in methods) + "</tr>"]
    for score in scores:
        best = _best(table, score)
        cells = "".join(
            f'<td class="number{" best" if method == best else ""}">{_cell(table, method, score)}</td>'
            for method in methods
        )
        rows.append(f"<tr><td>{html.escape(_label(table, score))}</td>{cells}</tr>")
    said = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(_words(v))}</dd>" for k, v in card.items())
    warned = "".join(f'<p class="warning">{html.escape(line)}</p>' for line in warnings)
    shown = "".join(
        f'<h3>{html.escape(p.stem)}</h3><img src="{html.escape(p.name)}" alt="frames of {html.escape(p.stem)}">'
        for p in pictures
    )
    title = f"{card.get('task', 'Evaluation')}, protocol {card.get('protocol')}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>framefill: {html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<table>{''.join(rows)}</table><p><small>{NOTE}</small></p>{warned}<h2>What was judged</h2>{shown}"
        f"<h2>Protocol card</h2><dl>{said}</dl></html>\n"
    )


def _axes(table: Sequence[Figure]) -> tuple[list[str], list[str]]:
    return list(dict.fromkeys(f.method for f in table)), list(dict.fromkeys(f.score for f in table))


def _cell(table: Sequence[Figure], method: str, score: str) -> str:
    figure = next((f for f in table if (f.method, f.score) == (method, score)), None)
    if figure is None:
        return "-"
    digits = 3 if abs(figure.value) < 10 else 2
    return f"{figure.value:.{digits}f} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def _label(table: Sequence[Figure], score: str) -> str:
    name, comma, rest = score.partition(", ")
    better = next(f.better for f in table if f.score == score)
    return f"{LABELS.get(name, name)}{comma}{rest} {ARROWS[better]}"


def _best(table: Sequence[Figure], score: str) -> str:
    """The method to print in bold: none where there is but one."""
    own = [f for f in table if f.score == score]
    if len(own) < 2:
        return ""
    distance = {"up": lambda f: -f.value, "down": lambda f: f.value, "one": lambda f: abs(f.value - 1)}
    return min(own, key=lambda f: distance[f.better](f)).method


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_words(v)}" for k, v in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list | tuple) else str(value)
