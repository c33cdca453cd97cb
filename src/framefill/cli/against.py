"""The report of `generate --against DATA`: how many of the pictures it drew are nearer to what the model learnt than to
what it never saw, and the nearest of those beside the drawn ones."""

import math
from dataclasses import dataclass
from typing import Any

MOST = 1000  # pictures that are compared
SHOWN = 12  # and shown beside their nearest
SAYING = 0.7  # a share that must tell a model which knows by heart from one that does not


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

    from framefill.metrics.copies import memory, nearest
    from framefill.video.images.stills import Stills

    pictures = np.stack(drawn)
    height, width, channels = pictures.shape[1:]
    learnt, held_out = (
        np.asarray(Stills.open(data, split, height=height, width=width, channels=channels).pixels)
        for split in ("train", "test")
    )
    found = nearest(pictures[:SHOWN], learnt)
    known = memory(pictures, learnt, held_out)
    report = {
        "copies": round(known.copies, 3),
        "copies_of": f"{len(pictures)} drawn; {_meaning(known.limit, len(pictures))}",
        "learnt": len(learnt),
        "held_out": len(held_out),
    }
    return Against(report, [("drawn", pictures[:SHOWN]), ("nearest learnt", learnt[found.index])])


def _meaning(least: float, count: int) -> str:
    """What a share says whose limit is `least`; it falls with the root of `count`."""
    if least > SAYING:
        enough = math.ceil(count * ((least - 0.5) / (SAYING - 0.5)) ** 2 - 1e-6)
        return f"too few to tell, so draw {enough} or more"
    return f"by heart from about {least:.2f} on"
