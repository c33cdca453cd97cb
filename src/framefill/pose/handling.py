"""Which handles a network learns from, drawn from poses: the published law (facts 001, section 3.2).

    count uniform in 3..16, the first three places, the others of any kind; joints uniform, also twice
    tolerance = 0.1 u^13, noise N(0, tolerance) on places (metres) and rotations (radians)
    weight = 1 / max(tolerance, 0.001)
    a look: a random direction of the joint, seen 0.001 + 5 |N(0, 1)| metres away, of tolerance 0

Paper: one count for a whole batch, and Euler angles as noise; here each row has its own count, the rest of its handles
have weight 0, and noise is an axis-angle vector, alike about every axis.
"""

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.nets.protores import LOOK_AT, POSITION, ROTATION, Handles
from framefill.pose import rotations

FEWEST, MOST, PLACES = 3, 16, 3
WIDEST, POWER, FINEST = 0.1, 13, 1e-3
NEAREST, FAR = 1e-3, 5.0  # metres


def draw(positions: Tensor, turned: Tensor, rng: Rng) -> Handles:
    """16 handles of poses (B, J, 3) and global rotations (B, J, 3, 3), of which 3 to 16 weigh anything."""
    batch, joints = positions.shape[:2]
    chance, noise = rng.uniform((3 * MOST + 1,), positions), rng.normal((2, MOST, 3), positions)
    count = FEWEST + (chance[:, -1] * (MOST - FEWEST + 1)).long()
    number = torch.arange(MOST, device=positions.device)
    joint = (chance[:, :MOST] * joints).long().clamp_max(joints - 1)
    kind = (chance[:, MOST : 2 * MOST] * 3).long().clamp_max(LOOK_AT)
    kind = torch.where(number < PLACES, POSITION, kind)
    tolerance = torch.where(kind == LOOK_AT, 0, WIDEST * chance[:, 2 * MOST : 3 * MOST] ** POWER)
    row = torch.arange(batch, device=positions.device)[:, None]
    values = _values(positions[row, joint], turned[row, joint], kind, tolerance, noise)
    return Handles(values, tolerance, weights(tolerance) * (number < count[:, None]), joint, kind)


def weights(tolerance: Tensor) -> Tensor:
    """What a handle weighs: 10 to 1000."""
    return 1 / tolerance.clamp_min(FINEST)


def _values(place: Tensor, turn: Tensor, kind: Tensor, tolerance: Tensor, noise: Tensor) -> Tensor:
    """The six numbers (B, E, 6) of handles at places (B, E, 3) with rotations (B, E, 3, 3); noise (B, 2, E, 3)."""
    shift = tolerance[..., None] * noise[:, 0]
    about = rotations.to_six(rotations.from_axis_angle(shift) @ turn)
    axis = torch.nn.functional.normalize(noise[:, 0], dim=-1)
    far = NEAREST + FAR * noise[:, 1, :, :1].abs()
    ahead = place + far * (turn @ axis[..., None])[..., 0]
    at = torch.cat([place + shift, torch.zeros_like(place)], -1)
    looks = torch.cat([ahead, axis], -1)
    return torch.where(kind[..., None] == POSITION, at, torch.where(kind[..., None] == ROTATION, about, looks))
