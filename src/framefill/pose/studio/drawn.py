"""A session as numbers for a renderer: a mesh that follows bones, dots at the joints, lines from joints to targets.

The mesh is sent once; a new pose is one turn and one place for each joint. A skeleton without a skin is worn by sticks,
each an octahedron that belongs to the joint where its bone begins.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from framefill.pose import rotations
from framefill.pose.characters import Character
from framefill.pose.studio.session import Session
from framefill.pose.turning import IDENTITY, Floats, cross, exponential, logarithm, unit

THICK = 0.09  # of a bone's length: half the width of its stick
BELLY = 0.2  # of its length: where a stick is thickest
KNOWN, UNKNOWN = np.array([46, 111, 180]), np.array([214, 76, 28])  # colours of sure and of unsure joints
VAGUE = 0.15  # metres of uncertainty that have the last colour
MISSED = 0.005  # metres between joint and target that are worth a line


@dataclass(frozen=True)
class Skin:
    """vertices (V, 3) at rest, faces (F, 3), weights (V, J), and the joints at rest: places (J, 3), turns (J, 4)."""

    vertices: Floats
    faces: NDArray[np.int64]
    weights: Floats
    places: Floats
    turns: Floats


def skin(character: Character) -> Skin:
    """What is drawn of a character."""
    body, rig = character.body, character.rig
    if body is None:
        vertices, faces, owners = _sticks(rig.positions, rig.skeleton.parents)
        return Skin(vertices, faces, np.eye(len(rig.skeleton))[owners], rig.positions, _still(len(rig.skeleton)))
    rest = body.rest(character.shape)
    still = torch.eye(3).to(rest).expand(len(body.names), 3, 3)
    vertices = body.skin(still, rest[rig.skeleton.root], character.shape).double().numpy()
    places, turns = rest.double().numpy(), _still(len(body.names))
    return Skin(vertices, body.faces.numpy(), body.weights.double().numpy(), places, turns)


def _still(joints: int) -> Floats:
    """The quaternions (J, 4) of joints that are not turned."""
    return np.tile([1.0, 0, 0, 0], (joints, 1))


def pose(session: Session) -> tuple[Floats, Floats]:
    """Places (J, 3) and turns (J, 4) of the joints in the world: quaternions, w first."""
    places, turned = session.world()
    return places.double().numpy(), quaternions(turned.double().numpy())


def quaternions(turned: Floats) -> Floats:
    """Unit quaternions (..., 4), w first, of rotations (..., 3, 3)."""
    return rotations.to_quaternion(torch.from_numpy(np.ascontiguousarray(turned))).numpy()


def turn_of(target: tuple[float, float, float]) -> Floats:
    """The quaternion (4,) of axis times angle."""
    return quaternions(exponential(np.array(target))[0])


def axis_angle(quaternion: Floats) -> Floats:
    """Axis times angle (3,) of a quaternion (4,) of any length but zero."""
    return logarithm(rotations.from_quaternion(torch.from_numpy(np.asarray(quaternion, np.float64))).numpy())


def shades(spread: Floats) -> NDArray[np.uint8]:
    """A colour (J, 3) for the uncertainty (J,) of each joint in metres: blue is sure, orange 15 cm or more."""
    part = np.clip(np.nan_to_num(spread, nan=VAGUE) / VAGUE, 0, 1)[:, None]
    return np.rint(KNOWN + part * (UNKNOWN - KNOWN)).astype(np.uint8)


def threads(session: Session, places: Floats) -> Floats:
    """Lines (N, 2, 3): from joints to what they look at, and to places that they do not reach."""
    found = []
    for grip in session.state.grips:
        here = places[session.character.rig.skeleton.index(grip.joint)]
        away = grip.kind == "position" and np.linalg.norm(here - grip.target) > MISSED
        if grip.kind == "look-at" or away:
            found.append(np.stack([here, np.array(grip.target)]))
    return np.stack(found) if found else np.zeros((0, 2, 3))


def _sticks(places: Floats, parents: tuple[int, ...]) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Octahedra (6 B, 3) along the bones, their faces (8 B, 3), and the joint that each vertex belongs to."""
    bones = [(parent, joint) for joint, parent in enumerate(parents) if parent >= 0]
    begins, ends = (places[[bone[end] for bone in bones]] for end in (0, 1))
    along = ends - begins
    side = cross(along, np.where(np.abs(unit(along)[:, 1:2]) < 0.9, IDENTITY[1], IDENTITY[0]))
    wide = THICK * np.linalg.norm(along, axis=1, keepdims=True)
    first, belly = wide * unit(side), begins + BELLY * along
    second = wide * unit(cross(along, side))
    ring = [belly + first, belly + second, belly - first, belly - second]
    vertices = np.stack([begins, *ring, ends], 1).reshape(-1, 3)
    turns = [(1 + i, 1 + (i + 1) % 4) for i in range(4)]
    one = np.array([(0, b, a) for a, b in turns] + [(5, a, b) for a, b in turns])
    faces = (one + 6 * np.arange(len(bones))[:, None, None]).reshape(-1, 3)
    return vertices, faces, np.repeat([bone[0] for bone in bones], 6)


def ball(radius: float) -> tuple[Floats, NDArray[np.int64]]:
    """A small ball: vertices (30, 3) and faces (32, 3), an octahedron divided once."""
    corners = np.concatenate([IDENTITY, -IDENTITY])
    points, faces = list(corners), []  # corners of odd signs are taken the other way round, to face outwards
    for x in (0, 3):
        for y in (1, 4):
            for z in (2, 5):
                a, b, c = (x, z, y) if (x > 0) ^ (y > 1) ^ (z > 2) else (x, y, z)
                middles = [len(points) + number for number in range(3)]
                points += [corners[p] + corners[q] for p, q in ((a, b), (b, c), (c, a))]
                d, e, f = middles
                faces += [(a, d, f), (b, e, d), (c, f, e), (d, e, f)]
    return radius * unit(np.array(points)), np.array(faces)
