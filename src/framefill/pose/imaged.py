"""From someone in a picture to a posed character: shape from bones, pose from points, motion onto the user's rig.

The way of thesis 001, figure 5.2: an estimator gives points (`estimator`), the bones between them the body's shape
(SMPL-SI), the points the handles of a pose on that body (SMPL-IK), and another character wears it by `retarget`. How
large anybody is a picture does not say: points are brought to the size of the body, and the lowest joint to the ground.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from framefill.pose import characters, flat, inversion, keypoints, retarget
from framefill.pose.body import Body
from framefill.pose.characters import Character
from framefill.pose.estimator import Person
from framefill.pose.human import human
from framefill.pose.motion import Motion

TOLERANCE, DEPTH = 0.03, 0.05  # metres by which estimated points are wrong across the picture, and besides in depth
SEEN = (*keypoints.BONES, *((f"left_{part}", f"right_{part}") for part in ("hip", "shoulder")))
LIKELY = 2.5  # standard deviations: an estimate of shape beyond this is an error of the estimate


def bones(points: Mapping[str, Tensor]) -> dict[tuple[str, str], float]:
    """Metres between the ends of rigid parts that were seen, of left and right limbs the mean."""
    lengths: dict[tuple[str, str], float] = {}
    for a, b in SEEN:
        sides = [(a, b)] if a.startswith("left_") else [(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right")]
        whole = [pair for pair in sides if set(pair) <= points.keys()]
        if whole:
            lengths[whole[0]] = sum((points[a] - points[b]).norm().item() for a, b in whole) / len(whole)
    return lengths


def shape(points: Mapping[str, Tensor], body: Body) -> tuple[float, ...]:
    """The shape whose bones are in the proportion of these points (3,); the mean one where fewer than four are seen."""
    lengths = bones(points)
    if len(lengths) < 4:
        return ()
    found, _ = inversion.by_lengths(lengths, body)
    return tuple(min(max(value, -LIKELY), LIKELY) for value in found)


def pose(person: Person, character: Character) -> Motion:
    """One frame of the character as the person stands; without places in space, from the picture alone (`flat`).

    Raises BadInput where too few points lie at joints.
    """
    if person.space:
        size = keypoints.scale(person.space, character)
        points = {name: size * point for name, point in person.space.items()}
        handles = keypoints.handles(points, character, TOLERANCE, depth=DEPTH)
    else:
        handles = keypoints.handles(flat.lifted(person.picture, character), character, TOLERANCE, depth=flat.OPEN)
    return grounded(character.motion(character.solve(handles)), character)


def worn(person: Person, rig: Character | None, gender: str = "neutral") -> tuple[Character, Motion]:
    """The person's own body and pose; or those of a rig that wears the pose."""
    body = human(gender)
    own = characters.wearing(body, shape(person.space, body) if person.space else (), gender)
    posed = pose(person, own)
    if rig is None:
        return own, posed
    return rig, grounded(retarget.retarget(posed, own.rig, rig.rig), rig)


def grounded(motion: Motion, character: Character) -> Motion:
    """The motion from x = z = 0, raised so that its lowest joint is as high as the character's lowest at rest."""
    world = motion.world()[0]
    height = character.stands[:, 1].min().item() - world[..., 1].min().item()
    begin = motion.root[0]
    shift = torch.tensor([-begin[0].item(), height, -begin[2].item()], dtype=motion.root.dtype)
    return Motion(motion.skeleton, motion.local, motion.root + shift, motion.seconds)
