"""Points in a picture to places in space: what a camera saw without depth, for a body of known size.

The camera is taken as weak-perspective, that is, far away and looking level along -z: a point (x, y, z) in metres is
seen s (x, -y) + t pixels to the right and down, and z is not seen at all. s follows from the bones: a bone that turns
towards the camera looks shorter and never longer, so the metres of a pixel are such that hardly any looks too long.
Depth is left open in every handle (`Place.depth`); bones, limits and habit decide it, and so it is a guess: a limb
towards the camera and one away from it can look the same.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose.characters import Character
from framefill.pose.keypoints import BONES

OPEN = 3.0  # metres: depth is as good as unknown
LONG = 0.9  # the share of bones that may look no longer than they are
ACROSS = (("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"), ("left_hip", "left_shoulder"),
          ("right_hip", "right_shoulder"))  # fmt: skip


def lifted(seen: Mapping[str, Tensor], character: Character) -> dict[str, Tensor]:
    """Pixels (2,), x right and y down, as places (3,) in metres with z = 0, the mean of all at the origin.

    Raises BadInput where no bone has both ends in the picture.
    """
    metres = pixel(seen, character)
    flat = torch.stack(list(seen.values())).double() * torch.tensor([metres, -metres])
    flat = torch.nn.functional.pad(flat - flat.mean(0), (0, 1))
    return dict(zip(seen, flat, strict=True))


def pixel(seen: Mapping[str, Tensor], character: Character) -> float:
    """How many metres a pixel is at the person's distance."""
    roles, rest = character.rig.roles, character.stands
    pairs = [(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in BONES]
    ratios = [
        (seen[a] - seen[b]).norm().item() / max((rest[roles[a]] - rest[roles[b]]).norm().item(), 1e-6)
        for a, b in (*pairs, *ACROSS)
        if {a, b} <= seen.keys() and {a, b} <= roles.keys()
    ]
    if not ratios or max(ratios) < 1e-6:
        raise BadInput("no bone has both its ends in the picture; give two neighbours, such as a hip and its knee")
    return 1 / float(np.quantile(ratios, LONG))
