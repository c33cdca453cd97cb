"""Densities of discrete data: uniform dequantisation, and bits per dimension.

A density of continuous values says nothing about pixels until each pixel is spread over its bin, once. Then
-log2(p(x) width^size) / size is, on average, an upper bound of the code length of the discrete values (Theis et al.
2016, section 3.1), and models of any kind can be compared by it.
"""

import math

from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput


def bits_per_dimension(log_p: Tensor, size: int, width: float = 1.0) -> Tensor:
    """-log2(p(x) width^size) / size from log p in nats (B,): bits per element of values that are bins `width` wide.

    For 8-bit pixels scaled to [-1, 1], width = 2 / 256; with `dequantise` the mean is an upper bound of the true code
    length. width = 1 gives the plain differential entropy, which may be negative.
    """
    if size < 1 or not width > 0:
        raise BadInput(f"bits per dimension need size >= 1 and width > 0, got {size} and {width}")
    return -log_p / (size * math.log(2)) - math.log2(width)


def dequantise(x: Tensor, width: float, rng: Rng) -> Tensor:
    """x (B, ...) of bin centres `width` apart, each moved to a uniform place in its bin."""
    return x + width * (rng.uniform(x.shape[1:], x).to(x.dtype) - 0.5)
