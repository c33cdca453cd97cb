"""How a picture is cut for the codec, and levels to floats and back.

Messages are of parts of up to 128 x 128 latents. Beyond the picture its last row and column go on to a multiple of the
stride, and grey is all colours; back from there the colours' mean is grey. Levels are rounded once, at the end.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.codec.pictures import Picture
from framefill.errors import CodecError

PART = 128  # latents on a side of what is one message


def parts(h: int, w: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of every part, row by row."""
    for top, left in product(range(0, h, PART), range(0, w, PART)):
        yield slice(top, min(top + PART, h)), slice(left, min(left + PART, w))


def around(start: int, core: int, halo: int, end: int) -> slice:
    """A core with its margin, as far as there is one."""
    return slice(max(start - halo, 0), min(start + core + halo, end))


def times(part: slice, scale: int) -> slice:
    """The pixels of latents."""
    return slice(part.start * scale, part.stop * scale)


def floats(picture: Picture, rows: slice, columns: slice, stride: int) -> Tensor:
    """A tile (1, 3, H, W) in [-1, 1]; beyond the picture its last row and column go on, and grey is all colours."""
    height, width = picture.size
    y = np.arange(rows.start * stride, rows.stop * stride).clip(max=height - 1)
    x = np.arange(columns.start * stride, columns.stop * stride).clip(max=width - 1)
    tile = picture.colours[y[0] : y[-1] + 1, x[0] : x[-1] + 1][y - y[0]][:, x - x[0]]
    whole = torch.from_numpy(tile.astype(np.float32)).movedim(-1, 0)[None]
    return (whole * (2 / picture.top) - 1).expand(-1, 3, -1, -1).contiguous()


def levels(band: Tensor, colours: int, dtype: Any) -> NDArray[Any]:
    """Pixels (rows, width, colours), rounded, of a band (3, rows, width). CodecError for what is not a number."""
    top = np.iinfo(dtype).max
    kept = band.float() if colours == 3 else band.float().mean(0, keepdim=True)
    if not bool(kept.isfinite().all()):
        raise CodecError("the decoded picture has values that are not numbers; the file is damaged, fetch it again")
    found: NDArray[Any] = ((kept.double() + 1) * (top / 2)).round().clamp(0, top).movedim(0, -1).cpu().numpy()
    return found.astype(dtype)
