"""TensorFlow's "SAME" padding: the result has ceil(size / stride) positions, and an odd pixel of padding goes behind.

Torch pads both sides alike, so a network that was trained in TensorFlow sees its strided layers shifted by half a
stride unless its maps are padded first.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int], *, value: float = 0.0) -> Tensor:
    """Pads the last len(kernel) axes of x (B, C, ...) for a window of size `kernel` that moves by `stride`."""
    margins: list[int] = []
    for size, width, step in zip(x.shape[-len(kernel) :], kernel, stride, strict=True):
        total = max((-(-size // step) - 1) * step + width - size, 0)
        margins = [total // 2, total - total // 2, *margins]  # F.pad names the last axis first
    return F.pad(x, margins, value=value) if any(margins) else x
