"""What takes seconds to answer, as plain functions of plain values, so that another process can be asked (`search`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose import estimator, imaged, plausible
from framefill.pose.characters import Character
from framefill.pose.effectors import Effector
from framefill.pose.estimator import Person
from framefill.pose.habits import Manner
from framefill.pose.motion import Motion
from framefill.pose.recover import Recovered, recover
from framefill.pose.skeleton import Skeleton

Pose = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Question:
    """One of `ANSWERS` by name, and what it is told."""

    name: str
    told: tuple[Any, ...]

    def __call__(self) -> Any:
        """Answers it here. Raises BadInput for a name that is none, and what the answer raises."""
        if self.name not in ANSWERS:
            raise BadInput(f"there is no question {self.name[:40]!r}; ask one of {', '.join(ANSWERS)}")
        return ANSWERS[self.name](*self.told)


def several(skeleton: Skeleton, effectors: list[Effector], manner: Manner, count: int, seed: int) -> list[Pose]:
    """Poses (local, root) that meet the same handles, the likeliest first."""
    found = plausible.several(skeleton, effectors, manner, count, np.random.default_rng(seed))
    return list(zip(found.local, found.root, strict=True))


def telling(skeleton: Skeleton, pose: Pose, manner: Manner, most: int, enough: float) -> Recovered:
    """The few handles that tell a pose (local, root): at most so many, none more once it is within `enough` mm."""
    return recover(skeleton, *pose, manner, most=most, enough=enough)


def pictured(pixels: NDArray[np.uint8], words: list[str], character: Character) -> Motion:
    """One frame: the character as the largest person in a picture (H, W, 3), seen by the estimator of these words."""
    person = max(estimator.people(Image.fromarray(pixels), words), key=size)
    if character.body is not None:
        return imaged.pose(person, character)
    return imaged.worn(person, character)[1]


def size(person: Person) -> float:
    """How much of the picture someone takes, in square pixels; 0 where that is not told."""
    if not person.picture:
        return 0.0
    points = torch.stack(list(person.picture.values()))
    return (points.amax(0) - points.amin(0)).prod().item()


ANSWERS: dict[str, Callable[..., Any]] = {"several": several, "telling": telling, "pictured": pictured}
