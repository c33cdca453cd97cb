"""What a film says of its colours, in the numbers of ITU-T H.273, so that a film made from it can say the same.

Frames that are only put between others need no other colours: brought to BT.709 a film for wide or bright screens would
lose what makes it one. Where a film does not say its matrix, or none that can be written, BT.709 is the safe way.
"""

from dataclasses import dataclass

import av
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

MATRICES = {  # that can be written: BT.709, FCC, BT.601 of both line counts, SMPTE 240M, BT.2020
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}

# What red and blue count for in luma, by the number of the matrix.
LUMA = {
    1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
    9: (0.2627, 0.0593), 10: (0.2627, 0.0593),
}  # fmt: skip


@dataclass(frozen=True)
class Tags:
    """Numbers of `primaries`, `transfer` and `matrix`, and whether levels fill the `full` range or 16..235."""

    primaries: int = 1
    transfer: int = 1
    matrix: int = 1
    full: bool = False


BT709 = Tags()
_UNSAID = 2


def of(frame: av.VideoFrame) -> Tags:
    """The tags of a decoded frame; `BT709` for grey, for red, green and blue, and where another has to be guessed."""
    matrix, name = int(frame.colorspace), frame.format.name
    if frame.format.is_rgb or name.startswith(("gray", "gbr", "pal")) or matrix not in MATRICES:
        return BT709
    full = frame.color_range == ColorRange.JPEG or name.startswith("yuvj")
    primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
    return Tags(_known(primaries, ColorPrimaries), _known(transfer, ColorTrc), matrix, full)


def _known(number: int, table: type[ColorPrimaries] | type[ColorTrc]) -> int:
    """The number, or "unsaid" for one that no standard has: encoders refuse it."""
    return number if number in [int(one) for one in table] else _UNSAID
