"""How far a pose is from the truth: joint places in millimetres, rotations in radians.

MPJPE is the mean distance of joints (thesis 001, eq. 5.6.1), with the two bodies as they stand, or with their pelvises
put together, which is what the published program prints (facts 001, section 3.3). PA-MPJPE first moves, turns and
scales each pose onto its truth by Procrustes. GE is the mean angle between rotations (eq. 5.6.2); give it local ones.
"""

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput

Floats = NDArray[np.float64]
MILLIMETRES = 1000.0


def mpjpe(made: NDArray, truth: NDArray) -> Floats:
    """Mean distance (...) in mm of joints (..., J, 3) in metres from their true places, nothing aligned."""
    made, truth = _places(made, truth)
    return np.linalg.norm(made - truth, axis=-1).mean(-1) * MILLIMETRES


def aligned_mpjpe(made: NDArray, truth: NDArray, *, pelvis: int = 0) -> Floats:
    """MPJPE (...) in mm after both poses (..., J, 3) are moved so that their joint `pelvis` is at the origin."""
    made, truth = _places(made, truth)
    return mpjpe(made - made[..., pelvis, None, :], truth - truth[..., pelvis, None, :])


def procrustes_mpjpe(made: NDArray, truth: NDArray) -> Floats:
    """MPJPE (...) in mm after each made pose (..., J, 3) is moved, turned and scaled onto its truth."""
    made, truth = _places(made, truth)
    return mpjpe(procrustes(made, truth), truth)


def procrustes(made: NDArray, truth: NDArray) -> Floats:
    """The poses `made` (..., J, 3) moved, turned and scaled to the least squared distance from `truth`; no mirroring.

    Umeyama 1991: with H = made' truth = U S V' of the centred poses, the turn is U D V', D mends the determinant, and
    the scale is tr(S D) / |made|^2. A made pose that is one point stays one: it is put on the truth's centre.
    """
    made, truth = _places(made, truth)
    centre = truth.mean(-2, keepdims=True)
    x, y = made - made.mean(-2, keepdims=True), truth - centre
    u, s, v = np.linalg.svd(np.swapaxes(x, -1, -2) @ y)
    mend = np.ones_like(s)
    mend[..., -1] = np.sign(np.linalg.det(u @ v))
    size = np.square(x).sum((-1, -2))
    scale = (s * mend).sum(-1) / np.where(size > 0, size, 1)
    return scale[..., None, None] * (x @ (u * mend[..., None, :] @ v)) + centre


def geodesic(made: NDArray, truth: NDArray) -> Floats:
    """GE: mean angle (...) in radians between rotations (..., J, 3, 3), in [0, pi].

    From sine and cosine, not from arccos of the trace: two equal rotations give zero, not the root of rounding.
    """
    made, truth = np.asarray(made, np.float64), np.asarray(truth, np.float64)
    if made.shape != truth.shape or made.ndim < 3 or made.shape[-2:] != (3, 3):
        raise BadInput(f"rotations {made.shape} and {truth.shape}; give the same (..., J, 3, 3) twice")
    turn = made @ np.swapaxes(truth, -1, -2)
    skew = (turn - np.swapaxes(turn, -1, -2)) / 2
    sine = np.linalg.norm(np.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1), axis=-1)
    return np.arctan2(sine, (np.trace(turn, axis1=-2, axis2=-1) - 1) / 2).mean(-1)


def _places(made: NDArray, truth: NDArray) -> tuple[Floats, Floats]:
    made, truth = np.asarray(made, np.float64), np.asarray(truth, np.float64)
    if made.shape != truth.shape or made.ndim < 2 or made.shape[-1] != 3:
        raise BadInput(f"joints {made.shape} and {truth.shape}; give the same (..., J, 3) twice")
    return made, truth
