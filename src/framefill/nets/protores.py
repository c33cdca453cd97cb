"""ProtoRes on SMPL: a whole pose from any number of effectors (Oreshkin et al. 2021; thesis 001, section 5.6.1).

The published network to the number (facts 001, section 3.1). Every effector goes through residual blocks alone; after
each block a weighted mean over effectors, the prototype, is taken from what comes next, so the order of effectors and
those of weight 0 cannot matter. Two decoders follow: joint places, then joint rotations from those places.
Translation equivariance is by centring: the weighted centroid of the position effectors is taken off, and put back.

    b = relu(h + W x), h = MLP(x), e_i = e_{i-1} + F h, p_i = sum w e_i / sum w, x' = relu(b - p_i / i)
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

JOINTS = 24
COMPONENTS = 10
KINDS = 65  # rows of both embedding tables, joint and kind, as published
POSITION, ROTATION, LOOK_AT = range(3)
EFFECTOR = 7  # six numbers and a tolerance
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True)
class Handles:
    """A batch of effectors, E of them for each of B poses.

    values (B, E, 6): a position and three zeros; a rotation's first two rows; or what is looked at and the direction in
    the joint's frame that looks. tolerance, weight (B, E); joint, kind int64 (B, E), kind one of POSITION, ROTATION,
    LOOK_AT. Weight 0 is no effector.
    """

    values: Tensor
    tolerance: Tensor
    weight: Tensor
    joint: Tensor
    kind: Tensor

    def centred(self) -> tuple["Handles", Tensor]:
        """The same around the weighted centroid of positions (B, 3), and that centroid (0 without positions)."""
        weight = self.weight * (self.kind == POSITION)
        total = weight.sum(1, keepdim=True).clamp_min(LEAST_WEIGHT)
        centre = (weight[..., None] * self.values[..., :3]).sum(1) / total
        moves = (self.kind != ROTATION)[..., None]
        places = torch.where(moves, self.values[..., :3] - centre[:, None], self.values[..., :3])
        values = torch.cat([places, self.values[..., 3:]], -1)
        return Handles(values, self.tolerance, self.weight, self.joint, self.kind), centre


class Layers(nn.Module):
    """Dense layers with leaky rectifiers, the first of which is followed by dropout."""

    def __init__(self, inputs: int, width: int, layers: int, dropout: float):
        super().__init__()
        sizes = [inputs, *[width] * layers]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., inputs) to (..., width)."""
        for number, layer in enumerate(self.layers):
            x = F.leaky_relu(layer(x))
            x = self.dropout(x) if number == 0 else x
        return x


class Norm(nn.Module):
    """a (x - mean) / (deviation + 1e-6) + b, the deviation with n - 1: the published program's, not torch's."""

    def __init__(self, width: int):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) to the same shape."""
        return self.scale * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.shift


class Block(nn.Module):
    """x -> (what goes on, relu(MLP(x) + W x); the forecast, F MLP(x)). A decoder's MLP sees x normalised."""

    def __init__(self, inputs: int, width: int, layers: int, outputs: int, dropout: float, *, norm: bool):
        super().__init__()
        self.norm = Norm(inputs) if norm else nn.Identity()
        self.body = Layers(inputs, width, layers, dropout)
        self.forecast = nn.Linear(width, outputs)
        self.skip = nn.Linear(inputs, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (..., inputs) to (..., width) and (..., outputs)."""
        h = self.body(self.norm(x))
        return F.relu(h + self.skip(x)), self.forecast(h)


class Encoder(nn.Module):
    """Effectors to one embedding of the pose."""

    def __init__(self, inputs: int, width: int, blocks: int, layers: int, dropout: float):
        super().__init__()
        sizes = [inputs, *[width] * (blocks - 1)]
        self.blocks = nn.ModuleList(Block(size, width, layers, width, dropout, norm=False) for size in sizes)

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Effectors x (B, E, inputs) with weights (B, E) to embeddings (B, width)."""
        share = weight / weight.sum(1, keepdim=True).clamp_min(LEAST_WEIGHT)
        total, mean = torch.zeros(()).to(x), torch.zeros(()).to(x)
        for number, block in enumerate(self.blocks, 1):
            x, forecast = block(x)
            total = total + forecast
            mean = (share[..., None] * total).sum(1)
            x = F.relu(x - mean[:, None] / number)
        return mean


class Decoder(nn.Module):
    """A residual network that adds up the forecasts of its blocks."""

    def __init__(self, inputs: int, width: int, blocks: int, layers: int, outputs: int, dropout: float):
        super().__init__()
        sizes = [inputs, *[width] * (blocks - 1)]
        self.blocks = nn.ModuleList(Block(size, width, layers, outputs, dropout, norm=True) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, inputs) to (B, outputs)."""
        total = torch.zeros(()).to(x)
        for block in self.blocks:
            x, forecast = block(x)
            total = total + forecast
        return total


class ProtoRes(nn.Module):
    """Effectors and a body shape to joint places and six-number rotations; 39,878,596 parameters as published.

    width and blocks of all three parts; a network of width 128 has 0.8 million parameters.
    """

    def __init__(
        self,
        *,
        width: int = 1024,
        blocks: int = 3,
        layers: int = 3,
        embedding: int = 32,
        dropout: float = 0.01,
        joints: int = JOINTS,
        components: int = COMPONENTS,
    ):
        super().__init__()
        self.joints = joints
        shape = components + 1
        self.joint_embedding = nn.Linear(KINDS, embedding)
        self.kind_embedding = nn.Linear(KINDS, embedding)
        self.encoder = Encoder(EFFECTOR + shape + 2 * embedding, width, blocks, layers, dropout)
        self.places = Decoder(width + shape, width, blocks, layers, 3 * joints, dropout)
        self.turns = Decoder(3 * joints + width + shape, width, blocks, layers, 6 * joints, dropout)

    def forward(self, handles: Handles, shape: Tensor, gender: Tensor, *, root: int = 0) -> tuple[Tensor, Tensor]:
        """Draft places (B, J, 3) in metres and local rotations (B, J, 6), their first two rows before orthonormalising.

        shape (B, components); gender (B,): 0 male, 1 female, 2 neutral, taken as a number, as published.
        The rotations are the same wherever in the world the effectors are; the places move with them.
        """
        centred, centre = handles.centred()
        body = torch.cat([shape, gender.to(shape)[:, None]], 1)
        embedded = self.encoder(self._inputs(centred, body), handles.weight)
        places = self.places(torch.cat([embedded, body], 1)).unflatten(1, (self.joints, 3))
        around = (places - places[:, root, None]).flatten(1)
        turns = self.turns(torch.cat([around, embedded, body], 1)).unflatten(1, (self.joints, 6))
        return places + centre[:, None], turns

    def _inputs(self, handles: Handles, body: Tensor) -> Tensor:
        """What the encoder sees (B, E, inputs): values, tolerance, shape, joint, kind, in this order."""
        count = handles.joint.shape[1]
        joint = self.joint_embedding(F.one_hot(handles.joint, KINDS).to(body))
        kind = self.kind_embedding(F.one_hot(handles.kind, KINDS).to(body))
        parts = [handles.values, handles.tolerance[..., None], body[:, None].expand(-1, count, -1), joint, kind]
        return torch.cat(parts, -1)
