"""A verification of fields in a folder: the table, JSON, every picture, and a page that shows them."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framefill.atomic import replacing
from framefill.climate.plots import draw
from framefill.climate.tables import as_json, as_text
from framefill.climate.verification import Hindcasts, Verification
from framefill.errors import NotInstalled
from framefill.evaluate.page import STYLE


def write_report(hindcasts: Hindcasts, verification: Verification, out: Path, *, card: Mapping[str, Any]) -> Path:
    """Writes `out`/report.html, result.json, table.txt and the pictures; gives the page.

    `card` says what was verified: model, data, years, seed. Without matplotlib the page has no pictures and says so.
    """
    out.mkdir(parents=True, exist_ok=True)
    said = {"card": dict(card), "verification": as_json(verification)}
    _write(out / "result.json", json.dumps(said, indent=1, default=str, allow_nan=False))
    _write(out / "table.txt", as_text(verification) + "\n")
    try:
        pictures, missing = draw(hindcasts, verification, out), ""
    except NotInstalled as error:
        pictures, missing = {}, str(error)
    return _write(out / "report.html", as_page(verification, card, pictures, missing))


def as_page(
    verification: Verification, card: Mapping[str, Any], pictures: Mapping[str, Path], warning: str = ""
) -> str:
    """The page; `pictures`, by their captions, lie beside it."""
    title = html.escape(f"{verification.name}: {verification.model} against {len(verification.methods) - 1} baselines")
    shown = "".join(
        f'<h2>{html.escape(caption)}</h2><img src="{html.escape(path.name)}" alt="{html.escape(caption)}">'
        for caption, path in pictures.items()
    )
    rows = "".join(f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(str(v))}</dd>" for k, v in card.items())
    warned = f'<p class="warning">{html.escape(warning)}</p>' if warning else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>framefill: {title}</title><style>{STYLE} pre {{ overflow-x: auto; font-size: 0.75em }}</style>"
        f"<h1>{title}</h1>"
        f"{warned}<pre>{html.escape(as_text(verification))}</pre>{shown}<h2>Card</h2><dl>{rows}</dl></html>\n"
    )


def _write(path: Path, text: str) -> Path:
    with replacing(path) as part:
        part.write_text(text)
    return path
