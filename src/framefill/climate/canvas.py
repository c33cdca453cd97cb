"""What all pictures of a verification share: one size, one colour for one method, axes that say lead and start.

Colours are those of Okabe and Ito, which people who see few colours tell apart. Pictures need no display.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefill.atomic import replacing
from framefill.climate.extra import need

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRUTH, MODEL = "black", "#0072b2"
OTHERS = ("#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c8c8c")
DOTS = 110  # per inch: ten inches are 1100 pixels
WIDTH = 10.0


def canvas(height: float) -> "Figure":
    """An empty figure ten inches wide. Raises NotInstalled without matplotlib."""
    figure = need("matplotlib.figure", by="pictures", extra="plot").Figure
    return figure(figsize=(WIDTH, height), layout="constrained")


def save(figure: "Figure", path: Path) -> Path:
    """Writes the picture as PNG, whole or not at all; equal figures are equal files."""
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=DOTS, metadata={"Software": None})
    return path


def colours(methods: Sequence[str]) -> dict[str, str]:
    """The model, which comes first, is always of one colour."""
    return {name: MODEL if i == 0 else OTHERS[(i - 1) % len(OTHERS)] for i, name in enumerate(methods)}


def label_axis(axis: Any, names: Sequence[str], title: str, *, most: int) -> None:
    """Ticks at 0, 1, ...: the names of leads or starts, at most so many, fewer if they are long."""
    most = max(2, min(most, 80 // max(map(len, names))))
    shown = range(0, len(names), -(-len(names) // most))
    axis.set_xticks(shown, [names[i] for i in shown])
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.set_xlabel(title)


def squared(unit: str) -> str:
    """`K²`, `(mm/h)²`."""
    return f"{unit}²" if unit.isalpha() else f"({unit})²"


def finish(axis: Any, title: str, y: str) -> None:
    """Title, label and a faint grid."""
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_ylabel(y)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def legend_below(figure: "Figure", axis: Any, columns: int) -> None:
    """One legend for all panels, under them."""
    lines, names = axis.get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
