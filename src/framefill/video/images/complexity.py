"""How much there is in a picture, whatever a model says: the bits per value of its best lossless compression.

Likelihoods follow complexity: a smooth picture is likely under any model. Taken from the bits of the model, those of a
codec that knows no data leave what the model knows or does not: S = bits - complexity (Serra et al. 2020; thesis 001,
eq. 4.7.1). Paper: they take FLIF, which no package brings; the shorter of PNG and lossless WebP serves here.
"""

import io
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from framefill.errors import BadInput

Codec = Callable[[NDArray[np.uint8]], int]
"""A picture (H, W, C) to the bytes it takes."""


def png(picture: NDArray[np.uint8]) -> int:
    """The bytes of a PNG file."""
    return _saved(picture, "PNG", optimize=True)


def webp(picture: NDArray[np.uint8]) -> int:
    """The bytes of a lossless WebP file."""
    return _saved(picture, "WEBP", lossless=True, quality=100, method=6)


CODECS: dict[str, Codec] = {"png": png, "webp": webp}


def complexity(pictures: NDArray[np.uint8], codecs: Mapping[str, Codec] = CODECS) -> NDArray[np.float64]:
    """Bits per value (N,) of pictures uint8 (N, H, W, 1 or 3), by the codec that needs least for each."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] not in (1, 3) or not pictures.size:
        raise BadInput(f"complexity is that of 8-bit pictures (N, H, W, 1 or 3), got {pictures.dtype} {pictures.shape}")
    least = [min(codec(picture) for codec in codecs.values()) for picture in pictures]
    return 8 * np.array(least, np.float64) / pictures[0].size


def _saved(picture: NDArray[np.uint8], kind: str, **how: object) -> int:
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(file, kind, **how)
    return len(file.getvalue())
