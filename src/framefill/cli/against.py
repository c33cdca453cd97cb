"""The report of `generate --against DATA`: how many of the pictures it drew are nearer to what the model learnt than to
what it never saw, and the nearest of those beside the drawn ones."""

from dataclasses import dataclass
from typing import Any

MOST = 1000  # pictures that are compared
SHOWN = 12  # and shown beside their nearest
FEWEST = 25  # of which a share says something


@dataclass(frozen=True)
class Against:
    """What was found: words for the report, and rows for the sheet."""

    report: dict[str, Any]
    rows: list[tuple[str, Any]]


def against(data: str, drawn: list[Any]) -> Against:
    """`drawn` (H, W, C) beside the training and the test pictures of `data`, cut to their size.

    `data` is a folder or .zip, or "digits"; errors as of `Stills.open`.
    """
    import numpy as np

    from framefill.metrics.copies import copies, nearest
    from framefill.video.images.stills import Stills

    pictures = np.stack(drawn)
    height, width, channels = pictures.shape[1:]
    learnt, held_out = (
        np.asarray(Stills.open(data, split, height=height, width=width, channels=channels).pixels)
        for split in ("train", "test")
    )
    found = nearest(pictures[:SHOWN], learnt)
    report = {
        "copies": round(copies(pictures, learnt, held_out), 3),
        "copies_of": f"{len(pictures)} drawn; {_meaning(len(pictures))}",
        "learnt": len(learnt),
        "held_out": len(held_out),
    }
    return Against(report, [("drawn", pictures[:SHOWN]), ("nearest learnt", learnt[found.index])])


def _meaning(count: int) -> str:
    """From which share on, two deviations of so many coins above a half, a model knows pictures by heart."""
    if count < FEWEST:
        return f"too few to tell, so draw {FEWEST} or more"
    return f"by heart from about {0.5 + count**-0.5:.2f} on"
