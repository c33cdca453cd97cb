"""Rotations in and out of 3x3 matrices, and the angle between two of them with a gradient that stays finite.

The conversions are roma's; here are only their conventions: quaternions have w first, the six-number form is the first
two rows of the matrix (pytorch3d's, and the published network's), axis-angle is axis times angle. arccos of the trace
has an infinite gradient where two rotations agree or are opposite; atan2 of sine and cosine has not.
"""

import torch
from torch import Tensor

from framefill.pose.extra import rotation_library

SMALLEST = 1e-12  # a vector shorter than this has no direction


def from_six(six: Tensor) -> Tensor:
    """Rotations (..., 3, 3) whose first two rows are the orthonormalised halves of `six` (..., 6).

    Zhou et al. 2019, section 4.2, in pytorch3d's row convention (facts 001, section 3.1).
    """
    columns = six.unflatten(-1, (2, 3)).transpose(-1, -2)
    return rotation_library().special_gramschmidt(columns, epsilon=SMALLEST).transpose(-1, -2)


def to_six(rotation: Tensor) -> Tensor:
    """The first two rows of rotations (..., 3, 3), as (..., 6)."""
    return rotation[..., :2, :].flatten(-2)


def from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of quaternions (..., 4), w first, of any length but zero."""
    unit = quaternion / quaternion.norm(dim=-1, keepdim=True).clamp_min(SMALLEST)
    return rotation_library().unitquat_to_rotmat(unit.roll(-1, -1))


def to_quaternion(rotation: Tensor) -> Tensor:
    """Unit quaternions (..., 4), w first and not negative, of rotations (..., 3, 3)."""
    quaternion = rotation_library().rotmat_to_unitquat(rotation).roll(1, -1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def from_axis_angle(vector: Tensor) -> Tensor:
    """Rotations (..., 3, 3) about the directions of `vector` (..., 3) by its lengths in radians."""
    return rotation_library().rotvec_to_rotmat(vector)


def to_axis_angle(rotation: Tensor) -> Tensor:
    """Axis times angle (..., 3), at most pi long, of rotations (..., 3, 3)."""
    return rotation_library().rotmat_to_rotvec(rotation)


def from_euler(angles: Tensor, order: str) -> Tensor:
    """Rotations (..., 3, 3) of angles (..., 3) in radians about the axes in `order`, such as "zxy".

    Every axis moves with the turns before it, so that the matrix is the product from left to right, as BVH means it.
    """
    return rotation_library().euler_to_rotmat(order.upper(), angles)


def to_euler(rotation: Tensor, order: str) -> Tensor:
    """Angles (..., 3) in radians that `from_euler` turns into `rotation` again; the last is 0 where two axes meet."""
    return rotation_library().rotmat_to_euler(order.upper(), rotation)


def nearest(matrix: Tensor) -> Tensor:
    """The rotations nearest to matrices (..., 3, 3), by least squares."""
    return rotation_library().special_procrustes(matrix)


def angle(a: Tensor, b: Tensor) -> Tensor:
    """The angle (...) in [0, pi] by which rotation `a` (..., 3, 3) differs from `b`: GE of thesis 001, eq. 5.6.2.

    Exact to rounding near 0 too; the gradient is finite everywhere, and zero where the angle is 0 or pi.
    """
    turn = a @ b.transpose(-1, -2)
    skew = (turn - turn.transpose(-1, -2)) / 2
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)
    return torch.atan2(length(axis), (turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2)


def length(vector: Tensor) -> Tensor:
    """Euclidean length (...) of `vector` (..., 3), with gradient zero where it is zero."""
    squared = vector.square().sum(-1)
    zero = squared == 0
    return torch.where(zero, torch.zeros_like(squared), torch.where(zero, torch.ones_like(squared), squared).sqrt())


def cross_matrix(vector: Tensor) -> Tensor:
    """The matrices (..., 3, 3) that take x to the cross product of `vector` (..., 3) with x."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
