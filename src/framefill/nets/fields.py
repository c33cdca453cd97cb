"""Vector fields of continuous flows: networks f(t, v, cond) -> dv/dt with the shape of v, smooth in v.

The published field of RNODE and MRCNF is four 3 x 3 convolutions with softplus between and the time as one more
channel of every layer (thesis 001, section 4.5.1; facts, section 2.2). Softplus, because the divergence is
differentiated again in training. The last weights start at zero, so that a fresh flow nearly stands still.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.flows.cnf import CNF
from framefill.flows.maps import Identity, Logit, Map
from framefill.flows.multires import MultiRes, gain
from framefill.flows.ode import Solver
from framefill.flows.trace import Gaussian

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class ConvField(nn.Module):
    """Convolutions over 1, 2 or 3 axes of v (B, C, ...); `cond` (B, cond_channels, ...) enters the first layer."""

    def __init__(self, channels: int, cond_channels: int = 0, *, hidden: Sequence[int] = (64, 64, 64), axes: int = 2):
        super().__init__()
        if axes not in CONVOLUTIONS:
            raise BadInput(f"a convolutional field has 1, 2 or 3 axes, got {axes}")
        widths = [channels + cond_channels, *hidden, channels]
        make = CONVOLUTIONS[axes]
        self.cond_channels = cond_channels
        self.layers = nn.ModuleList([make(1 + i, o, 3, padding=1) for i, o in pairwise(widths)])
        nn.init.zeros_(self.layers[-1].get_parameter("weight"))

    def forward(self, t: Tensor, v: Tensor, cond: Tensor | None = None) -> Tensor:
        """dv/dt (B, C, ...) at t (B,)."""
        _expect(cond, self.cond_channels)
        clock = t.to(v.dtype).reshape(-1, *[1] * (v.ndim - 1)).expand(-1, 1, *v.shape[2:])
        h = v if cond is None else torch.cat([v, cond.to(v.dtype)], 1)
        for i, layer in enumerate(self.layers):
            h = layer(torch.cat([clock, h if i == 0 else F.softplus(h)], 1))
        return h


class DenseField(nn.Module):
    """Dense layers over v (B, D); `cond` (B, cond_size) and t enter the first layer, t every layer."""

    def __init__(self, size: int, cond_size: int = 0, *, hidden: Sequence[int] = (64, 64)):
        super().__init__()
        widths = [size + cond_size, *hidden, size]
        self.cond_size = cond_size
        self.layers = nn.ModuleList([nn.Linear(1 + i, o) for i, o in pairwise(widths)])
        nn.init.zeros_(self.layers[-1].get_parameter("weight"))

    def forward(self, t: Tensor, v: Tensor, cond: Tensor | None = None) -> Tensor:
        """dv/dt (B, D) at t (B,)."""
        _expect(cond, self.cond_size)
        h = v if cond is None else torch.cat([v, cond.to(v.dtype)], 1)
        for i, layer in enumerate(self.layers):
            h = layer(torch.cat([t.to(v.dtype)[:, None], h if i == 0 else F.softplus(h)], 1))
        return h


def _expect(cond: Tensor | None, channels: int) -> None:
    given = 0 if cond is None else cond.shape[1]
    if given != channels:
        raise BadInput(f"this field takes a condition of {channels} channels, got {given}")


PUBLISHED = Solver("bosh3", rtol=1e-3, atol=1e-3, first=1.0)
"""The solver of the published training script; its evaluation uses 1e-5 (facts, section 2.2).

Paper: the first step is guessed from the slope. The paths of a regularised flow are nearly straight, so here a block is
tried in one step first: 4 evaluations instead of 11 where that keeps the tolerance.
"""


def mrcnf(
    scales: int,
    blocks: int,
    *,
    channels: int = 3,
    kind: str = "unimodular",
    margin: float = 0.05,
    hidden: Sequence[int] = (64, 64, 64),
    solver: Solver = PUBLISHED,
) -> MultiRes:
    """The published multi-resolution flow for images in [-1, 1], dequantised 8-bit ones included (Table 4.1).

    `blocks` fields at each scale, one Gaussian probe. The coarsest scale starts with a logit, the details do not.
    Paper: the condition is the raw coarse image, clamped in density and not in generation; here never, so that both
    directions are one map, and in the units of the pyramid.
    """

    def flow(inputs: int, given: int, before: Map) -> CNF:
        fields = [ConvField(inputs, given, hidden=hidden) for _ in range(blocks)]
        return CNF(fields, before=before, trace=Gaussian(1), solver=solver)

    reach = gain(kind) ** (scales - 1) * (1 + 1 / 255)
    finer = [flow(3 * channels, channels, Identity()) for _ in range(scales - 1)]
    return MultiRes([*finer, flow(channels, 0, Logit(-reach, reach, margin))], kind)
