"""Handles of all kinds as stacked numbers: how far a pose misses them, and how that changes when joints turn.

Turning what lies below the pivot p_a about the world axis w moves a point p by w x (p - p_a) and a direction u by
w x u. A place is one point, a rotation three directions (its columns), a look one direction and one point.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose.effectors import Effector, Look, Place, Turn
from framefill.pose.skeleton import Skeleton
from framefill.pose.turning import IDENTITY, Floats, angle, cross, cross_matrix, unit

CLOSEST = 1e-3  # metres: a target nearer than this gives no stable direction


class Targets:
    """Effectors of B poses on one skeleton, stacked by kind: places, then turns, then looks, as in `effectors`.

    Residuals are rows: three of a place (metres), nine of a turn and three of a look (chords, in radians when small).
    """

    def __init__(self, skeleton: Skeleton, effectors: Sequence[Effector], batch: int):
        self.given = tuple(effectors)
        kinds = (Place, Turn, Look)
        self.effectors = tuple(e for kind in kinds for e in effectors if isinstance(e, kind))
        self.counts = [sum(isinstance(e, kind) for e in effectors) for kind in kinds]
        joints = np.array([skeleton.index(e.joint) for e in self.effectors], dtype=np.int64)
        self.places, self.turns, self.looks = np.split(joints, np.cumsum(self.counts)[:2])
        stacked = [_stack([e.target for e in effectors if isinstance(e, kind)], batch, kind) for kind in kinds]
        self.place, self.turn, self.look = stacked
        looks = [e.axis.double().numpy() for e in effectors if isinstance(e, Look)]
        self.axis = unit(np.stack(looks)) if looks else np.zeros((0, 3))
        rows = [e.slack if isinstance(e, Place) else (e.tolerance,) * _rows(e) for e in self.effectors]
        self.tolerance = np.array([float(value) for row in rows for value in row])
        self._seen = np.array([[1, 1, 0 if e.depth else 1] for e in effectors if isinstance(e, Place)]).reshape(-1, 3)

    def bind(self, skeleton: Skeleton, pivots: NDArray[np.int64]) -> None:
        """Say which joint (V,) each angular variable turns; the masks (V, 1, E) say what it moves or turns along."""
        carries = skeleton.carries.numpy()
        moves = carries[:, pivots].T[:, None].astype(np.float64)
        turns = (carries | np.eye(len(skeleton), dtype=bool))[:, pivots].T[:, None].astype(np.float64)
        self._follow_root = np.tile(IDENTITY, self.counts[0])
        self._place_moves, self._look_moves = moves[..., self.places], moves[..., self.looks]
        self._turn_turns, self._look_turns = turns[..., np.repeat(self.turns, 3)], turns[..., self.looks]

    def residual(self, positions: Floats, turned: Floats) -> Floats:
        """(B, R) of a pose, unweighted."""
        batch = len(positions)
        rows = [(positions[:, self.places] - self.place).reshape(batch, -1)]
        if self.counts[1]:
            rows.append((turned[:, self.turns] - self.turn).swapaxes(-1, -2).reshape(batch, -1) / 2**0.5)
        if self.counts[2]:
            missed = self._sight(turned) - unit(self.look - positions[:, self.looks])
            rows.append(missed.reshape(batch, -1))
        return np.concatenate(rows, 1) if len(rows) > 1 else rows[0]

    def jacobian(self, positions: Floats, turned: Floats, axes: Floats, pivots: Floats) -> Floats:
        """(B, 3 + V, R): by the root's place, then by turns about axes (B, V, 3) through pivots (B, V, 3)."""
        across, lever = cross_matrix(axes), cross(axes, pivots)[..., None]
        parts = [self._of_places(positions, across, lever)]
        if self.counts[1]:
            columns = turned[:, self.turns].transpose(0, 2, 1, 3).reshape(len(axes), 1, 3, -1) / 2**0.5
            parts.append(_with_root(across @ columns * self._turn_turns))
        if self.counts[2]:
            parts.append(self._of_looks(positions, turned, across, lever))
        return np.concatenate(parts, 2) if len(parts) > 1 else parts[0]

    def _of_places(self, positions: Floats, across: Floats, lever: Floats) -> Floats:
        points = positions[:, None, self.places].swapaxes(-1, -2)
        found = _with_root((across @ points - lever) * self._place_moves)
        found[:, :3] = self._follow_root
        return found

    def _of_looks(self, positions: Floats, turned: Floats, across: Floats, lever: Floats) -> Floats:
        here = positions[:, self.looks]
        swept = across @ self._sight(turned)[:, None].swapaxes(-1, -2) * self._look_turns
        moved = (across @ here[:, None].swapaxes(-1, -2) - lever) * self._look_moves  # (B, V, 3, E)
        flat = _flat(self.look - here)  # (B, E, 3, 3), symmetric
        found = _with_root(swept + (flat[:, None] @ moved.swapaxes(-1, -2)[..., None])[..., 0].swapaxes(-1, -2))
        found[:, :3] = flat.transpose(0, 2, 1, 3).reshape(len(here), 3, -1)
        return found

    def _sight(self, turned: Floats) -> Floats:
        return (turned[:, self.looks] @ self.axis[:, :, None])[..., 0]

    def misses(self, positions: Floats, turned: Floats) -> Floats:
        """(B, E) in the order in which the handles were given: metres for places, radians for the others.

        Of a place with `depth`, how far it is missed across the camera's axis.
        """
        goal, look = unit(self.look - positions[:, self.looks]), self._sight(turned)
        apart = np.linalg.norm(cross(look, goal), axis=-1)
        found = [
            np.linalg.norm((positions[:, self.places] - self.place) * self._seen, axis=-1),
            angle(turned[:, self.turns], self.turn),
            np.arctan2(apart, (look * goal).sum(-1)),
        ]
        places = {id(effector): i for i, effector in enumerate(self.effectors)}
        return np.concatenate(found, 1)[:, [places[id(effector)] for effector in self.given]]


def _rows(effector: Turn | Look) -> int:
    return 9 if isinstance(effector, Turn) else 3


def _with_root(swept: Floats) -> Floats:
    """Columns (B, V, 3, n) as rows of residuals (B, 3 + V, 3 n), after three rows of zeros."""
    batch, variables, _, points = swept.shape
    found = np.zeros((batch, 3 + variables, 3 * points))
    found[:, 3:] = swept.swapaxes(-1, -2).reshape(batch, variables, -1)
    return found


def _stack(targets: list[Tensor], batch: int, kind: type) -> Floats:
    shape = (3, 3) if kind is Turn else (3,)
    if not targets:
        return np.zeros((batch, 0, *shape))
    sizes = sorted({len(t) for t in targets if t.ndim > len(shape)} - {1, batch})
    if sizes:
        raise BadInput(f"targets for {sizes[0]} poses in a batch of {batch}; give the same number everywhere")
    return np.stack([target.double().expand(batch, *shape).numpy() for target in targets], 1)


def _flat(vector: Floats) -> Floats:
    """The derivative (..., 3, 3) of -unit(target - p) by p: (I - u u') / |target - p|."""
    size = np.maximum(np.linalg.norm(vector, axis=-1), CLOSEST)[..., None, None]
    direction = unit(vector)
    return (IDENTITY - direction[..., :, None] * direction[..., None, :]) / size
