"""Every picture of a verification, as files in a folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from framefill.climate.canvas import save
from framefill.climate.diagnostics import calibration, quantiles, scores, spatial, temporal
from framefill.climate.fans import best_baseline, fans, series
from framefill.climate.maps import maps
from framefill.climate.verification import Hindcasts, Verification

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(hindcasts: Hindcasts, verification: Verification, folder: Path) -> dict[str, Path]:
    """Draws all pictures into `folder`, which is made if need be: captions and files, in the order of a report.

    Maps are of the middle start, at the first and the last lead. Raises NotInstalled without matplotlib.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return {
        caption: save(figure, folder / f"{name}.png")
        for name, (caption, figure) in _figures(hindcasts, verification).items()
    }


def _figures(h: Hindcasts, v: Verification) -> "dict[str, tuple[str, Figure]]":
    middle, other = len(h.starts) // 2, best_baseline(h)
    made = {
        "scores": ("Scores by lead", scores(v)),
        "calibration": ("Calibration", calibration(v)),
        "maps-first": (f"Maps at the first lead, from {h.starts[middle]}", maps(h, middle, 0)),
    }
    if len(h.leads) > 1:
        made["maps-last"] = (f"Maps at the last lead, from {h.starts[middle]}", maps(h, middle, len(h.leads) - 1))
        made["fans"] = ("Area mean over lead", fans(h, other=other))
    made["series"] = ("Area mean over starts", series(h, other=other))
    made["spectra"] = ("Power by wavelength", spatial(v))
    made["quantiles"] = ("Extremes", quantiles(h, v))
    over_time = temporal(v)
    if over_time is not None:
        made["temporal"] = ("Power by period", over_time)
    return made
