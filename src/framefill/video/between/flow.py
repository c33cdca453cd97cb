"""How the pixels of one frame moved to the next: dense inverse search (Kroeger et al. 2016), as OpenCV has it.

DIS works on 8-bit grey pictures, coarse to fine down to half the resolution. Frames too small for its patches are
padded, and the padding's motion is thrown away.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.errors import NotInstalled

Floats = NDArray[np.float32]
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
SMALLEST = 48  # pixels a side: DIS remembers smaller frames, and what it finds later would depend on them
# Where we leave OpenCV's medium preset (3 and 5): as good for frames between, and a quarter faster.
STRIDE = 4  # pixels between patches
REFINEMENTS = 2  # of the whole field, at every scale


def opencv() -> Any:
    """OpenCV, which the extra `interpolate` brings; NotInstalled without it. It uses as many threads as torch."""
    try:
        import cv2
    except ImportError as error:
        raise NotInstalled("motion needs OpenCV; run: pip install 'framefill[interpolate]'") from error
    import torch

    cv2.setNumThreads(torch.get_num_threads())
    return cv2


def grey(frame: Floats) -> NDArray[np.uint8]:
    """A frame (H, W, C) with pixels in [-1, 1] as 8-bit grey (H, W): luma of 3 channels, else their mean."""
    light = frame @ np.array(LUMA, np.float32) if frame.shape[-1] == 3 else frame.mean(-1)
    return ((light + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


def flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Floats:
    """Where the pixels of `first` (H, W), 8-bit grey, are in `second`: (H, W, 2), x then y, in pixels."""
    H, W = first.shape
    room = ((0, max(SMALLEST - H, 0)), (0, max(SMALLEST - W, 0)))
    found: Floats = _searcher().calc(*(np.pad(x, room, mode="edge") for x in (first, second)), None)
    return found[:H, :W]


@cache
def _searcher() -> Any:
    cv2 = opencv()
    searcher = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    searcher.setPatchStride(STRIDE)
    searcher.setVariationalRefinementIterations(REFINEMENTS)
    return searcher
