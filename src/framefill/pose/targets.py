"""Handles of all kinds as stacked numbers: how far a pose misses them, and how that changes when joints turn.

Turning what lies below the pivot p_a about the world axis w moves a point p by w x (p - p_a) and a direction u by
w x u. A place is one point, a rotation three directions (its columns), a look one direction and one point.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose import rotations
from framefill.pose.effectors import Effector, Look, Place, Turn
from framefill.pose.skeleton import Skeleton

IDENTITY = torch.eye(3, dtype=torch.float64)
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
        joints = torch.tensor([skeleton.index(e.joint) for e in self.effectors])
        self.places, self.turns, self.looks = joints.split(self.counts)
        stacked = [_stack([e.target for e in effectors if isinstance(e, kind)], batch, kind) for kind in kinds]
        self.place, self.turn, self.look = stacked
        looks = [e.axis.double() for e in effectors if isinstance(e, Look)]
        self.axis = _unit(torch.stack(looks)) if looks else torch.zeros(0, 3, dtype=torch.float64)
        tolerance = torch.tensor([e.tolerance for e in self.effectors], dtype=torch.float64)
        sizes = torch.tensor([3 if isinstance(e, Place) else 9 if isinstance(e, Turn) else 3 for e in self.effectors])
        self.tolerance = tolerance.repeat_interleave(sizes)

    def bind(self, skeleton: Skeleton, pivots: Tensor) -> None:
        """Say which joint (V,) each angular variable turns; the masks say what it moves or turns along."""
        carries = skeleton.carries()
        turns = (carries | torch.eye(len(skeleton), dtype=torch.bool)).double()[:, pivots, None]
        moves = carries.double()[:, pivots, None]
        self._place_moves, self._look_moves = moves[self.places], moves[self.looks]
        self._turn_turns, self._look_turns = turns[self.turns][:, None], turns[self.looks]

    def residual(self, positions: Tensor, turned: Tensor) -> Tensor:
        """(B, R) of a pose, unweighted."""
        rows = [(positions[:, self.places] - self.place).flatten(1)]
        if self.counts[1]:
            rows.append((turned[:, self.turns] - self.turn).mT.flatten(1) / 2**0.5)
        if self.counts[2]:
            rows.append((self._sight(turned) - _unit(self.look - positions[:, self.looks])).flatten(1))
        return torch.cat(rows, 1) if len(rows) > 1 else rows[0]

    def jacobian(self, positions: Tensor, turned: Tensor, axes: Tensor, pivots: Tensor) -> Tensor:
        """(B, 3 + V, R): by the root's place, then by turns about axes (B, V, 3) through pivots (B, V, 3)."""
        parts = [self._of_places(positions, axes, pivots)]
        if self.counts[1]:
            columns = turned[:, self.turns].mT[:, :, :, None] / 2**0.5  # (B, E, 3, 1, 3)
            swept = torch.linalg.cross(axes[:, None, None], columns) * self._turn_turns
            swept = swept.permute(0, 3, 1, 2, 4).flatten(2)
            parts.append(torch.cat([torch.zeros_like(swept[:, :3]), swept], 1))
        if self.counts[2]:
            parts.append(self._of_looks(positions, turned, axes, pivots))
        return torch.cat(parts, 2) if len(parts) > 1 else parts[0]

    def _of_places(self, positions: Tensor, axes: Tensor, pivots: Tensor) -> Tensor:
        arms = positions[:, self.places, None] - pivots[:, None]
        moved = torch.linalg.cross(axes[:, None], arms) * self._place_moves
        with_root = IDENTITY.expand(len(positions), self.counts[0], 3, 3)
        return torch.cat([with_root, moved], 2).transpose(1, 2).flatten(2)

    def _of_looks(self, positions: Tensor, turned: Tensor, axes: Tensor, pivots: Tensor) -> Tensor:
        here = positions[:, self.looks]
        swept = torch.linalg.cross(axes[:, None], self._sight(turned)[:, :, None]) * self._look_turns
        moved = torch.linalg.cross(axes[:, None], here[:, :, None] - pivots[:, None]) * self._look_moves
        flat = _flat(self.look - here)
        return torch.cat([flat, swept + moved @ flat], 2).transpose(1, 2).flatten(2)  # flat is symmetric

    def _sight(self, turned: Tensor) -> Tensor:
        return (turned[:, self.looks] @ self.axis[:, :, None])[..., 0]

    def misses(self, positions: Tensor, turned: Tensor) -> Tensor:
        """(B, E) in the order in which the handles were given: metres for places, radians for the others."""
        goal, look = _unit(self.look - positions[:, self.looks]), self._sight(turned)
        found = torch.cat(
            [
                (positions[:, self.places] - self.place).norm(dim=-1),
                rotations.angle(turned[:, self.turns], self.turn),
                torch.atan2(torch.linalg.cross(look, goal).norm(dim=-1), (look * goal).sum(-1)),
            ],
            1,
        )
        places = {id(effector): i for i, effector in enumerate(self.effectors)}
        return found[:, [places[id(effector)] for effector in self.given]]


def _stack(targets: list[Tensor], batch: int, kind: type) -> Tensor:
    shape = (3, 3) if kind is Turn else (3,)
    if not targets:
        return torch.zeros(batch, 0, *shape, dtype=torch.float64)
    sizes = sorted({len(t) for t in targets if t.ndim > len(shape)} - {1, batch})
    if sizes:
        raise BadInput(f"targets for {sizes[0]} poses in a batch of {batch}; give the same number everywhere")
    return torch.stack([target.double().expand(batch, *shape) for target in targets], 1)


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm(dim=-1, keepdim=True).clamp_min(rotations.SMALLEST)


def _flat(vector: Tensor) -> Tensor:
    """The derivative (..., 3, 3) of -unit(target - p) by p: (I - u u') / |target - p|."""
    size = vector.norm(dim=-1)[..., None, None].clamp_min(CLOSEST)
    unit = _unit(vector)
    return (IDENTITY - unit[..., :, None] * unit[..., None, :]) / size
