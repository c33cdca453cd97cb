"""Reading pictures between their pixels: what moves frames along a motion, in a way that gradients pass through."""

import torch
import torch.nn.functional as F
from torch import Tensor


def fetch(x: Tensor, moved: Tensor) -> Tensor:
    """`x` (N, C, H, W) read at every pixel plus `moved` (N, 2, H, W), x then y, linearly; the border repeats."""
    H, W = x.shape[-2:]
    size = torch.tensor([W, H], dtype=x.dtype, device=x.device)
    place = (2 * (places(x) + moved).movedim(1, -1) + 1) / size - 1
    return F.grid_sample(x, place, padding_mode="border", align_corners=False)


def places(x: Tensor) -> Tensor:
    """The place (2, H, W) of every pixel, x then y."""
    rows, columns = (torch.arange(n, dtype=x.dtype, device=x.device) for n in x.shape[-2:])
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))
