"""The solver's own rotations, in NumPy: exponential with its derivative, logarithm, cross products, chains of joints.

A solve takes some thirty steps on matrices of 3x3, and on those what a library adds around every operation costs more
than the operation: NumPy adds about a fifth of what torch does. Conventions are those of `rotations`.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
IDENTITY = np.eye(3)
_NEXT, _AFTER = [1, 2, 0], [2, 0, 1]
_SIGNS = np.zeros((3, 9))  # v -> the nine entries of its cross matrix
for _entry, _axis, _sign in ((5, 0, -1), (7, 0, 1), (2, 1, 1), (6, 1, -1), (1, 2, -1), (3, 2, 1)):
    _SIGNS[_axis, _entry] = _sign


def cross(a: Floats, b: Floats) -> Floats:
    """The cross product (..., 3)."""
    return a[..., _NEXT] * b[..., _AFTER] - a[..., _AFTER] * b[..., _NEXT]


def cross_matrix(vector: Floats) -> Floats:
    """The matrices (..., 3, 3) that take x to the cross product of `vector` (..., 3) with x."""
    return (vector @ _SIGNS).reshape(*vector.shape, 3)


def exponential(vector: Floats) -> tuple[Floats, Floats]:
    """Rotations (..., 3, 3) of axis-angle vectors (..., 3), and the left Jacobians: exp(v + d) = exp(J d) exp(v)."""
    across = cross_matrix(vector)
    square = across @ across
    size = np.maximum((vector * vector).sum(-1), 1e-8)[..., None, None]  # series of order 2 are exact to 1e-16 below
    angle = np.sqrt(size)
    sine, rest = np.sin(angle) / angle, (1 - np.cos(angle)) / size
    return IDENTITY + sine * across + rest * square, IDENTITY + rest * across + (1 - sine) / size * square


def logarithm(rotation: Floats) -> Floats:
    """Axis times angle (..., 3), at most pi long: through that quaternion's component which is greatest."""
    r = rotation
    trace = np.trace(r, axis1=-2, axis2=-1)
    table = np.empty((*trace.shape, 4, 4))  # four times the products of the quaternion's components
    table[..., 0, 0] = 1 + trace
    for i in range(3):
        j, k = _NEXT[i], _AFTER[i]
        table[..., i + 1, i + 1] = 1 - trace + 2 * r[..., i, i]
        table[..., 0, i + 1] = table[..., i + 1, 0] = r[..., k, j] - r[..., j, k]
        table[..., j + 1, k + 1] = table[..., k + 1, j + 1] = r[..., j, k] + r[..., k, j]
    best = table.diagonal(axis1=-2, axis2=-1).argmax(-1)
    quaternion = np.take_along_axis(table, best[..., None, None], -2)[..., 0, :]
    quaternion = quaternion * np.where(quaternion[..., :1] < 0, -1, 1)
    quaternion = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    size = np.linalg.norm(quaternion[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(size, quaternion[..., :1])
    return quaternion[..., 1:] * np.where(size > 1e-9, angle / np.maximum(size, 1e-9), 2)


def nearest(matrix: Floats) -> Floats:
    """The rotations nearest to matrices (..., 3, 3), by least squares."""
    u, _, v = np.linalg.svd(matrix)
    u[..., -1] *= np.sign(np.linalg.det(u @ v))[..., None]
    return u @ v


def angle(a: Floats, b: Floats) -> Floats:
    """The angle (...) in [0, pi] by which rotation `a` (..., 3, 3) differs from `b`."""
    turn = a @ np.swapaxes(b, -1, -2)
    skew = (turn - np.swapaxes(turn, -1, -2)) / 2
    sine = np.sqrt(skew[..., 2, 1] ** 2 + skew[..., 0, 2] ** 2 + skew[..., 1, 0] ** 2)
    return np.arctan2(sine, (np.trace(turn, axis1=-2, axis2=-1) - 1) / 2)


def unit(vector: Floats) -> Floats:
    """Directions (..., 3); zero stays zero."""
    return vector / np.maximum(np.sqrt((vector * vector).sum(-1, keepdims=True)), 1e-12)


def chain(jumps: tuple[NDArray[np.int64], ...], local: Floats, shift: Floats) -> tuple[Floats, Floats]:
    """World positions (B, J, 3) and rotations (B, J, 3, 3), as `kinematics.forward` with `Skeleton.jumps`.

    shift (B, J, 3): every joint's offset from its parent, and the root's place.
    """
    batch, joints = local.shape[:2]
    pairs = np.zeros((batch, joints + 1, 3, 4))  # rotation and shift side by side: one product composes both
    pairs[:, :-1, :, :3], pairs[:, :-1, :, 3], pairs[:, -1, :, :3] = local, shift, IDENTITY
    for above in jumps:
        base = pairs[:, above]
        pairs = base[..., :3] @ pairs
        pairs[..., 3] += base[..., 3]
    return pairs[:, :-1, :, 3], pairs[:, :-1, :, :3]
