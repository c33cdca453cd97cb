"""The orthonormal Haar transform along time: 2^d pictures to one low band and d levels of differences, and back.

      low = (a + b) / sqrt 2,     high = (a - b) / sqrt 2,     and again on the lows

An error in a band is an error of the same size in the pictures, so all bands may have equal steps. A still scene is
its low band and nothing else. The inverse is what seed 002 calls deflating (its temporal compression of 2, 4 and 8).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from framefill.errors import BadInput

DEEPEST = 3
HALF = math.sqrt(0.5)


def depth(frames: int) -> int:
    """log2 of a number of frames; BadInput unless it is 1, 2, 4 or 8."""
    if frames not in (1, 2, 4, 8):
        raise BadInput(f"a transform along time takes 1, 2, 4 or {2**DEEPEST} frames, got {frames}")
    return frames.bit_length() - 1


def forward(x: Tensor) -> list[Tensor]:
    """Bands of x (T, ...): the low one (1, ...), then differences from coarse to fine, (1, ...), ..., (T / 2, ...)."""
    highs: list[Tensor] = []
    for _ in range(depth(len(x))):
        first, second = x[0::2], x[1::2]
        highs.insert(0, (first - second) * HALF)
        x = (first + second) * HALF
    return [x, *highs]


def inverse(bands: Sequence[Tensor]) -> Tensor:
    """x (T, ...) of its bands."""
    x = bands[0]
    for high in bands[1:]:
        x = torch.stack([(x + high) * HALF, (x - high) * HALF], 1).flatten(0, 1)
    return x
