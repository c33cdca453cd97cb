"""Motion as AMASS stores it: axis-angle `poses`, SMPL's `trans`, `betas`, `gender` and the frame rate, in one .npz.

AMASS stands with z up; it is kept so, for a motion is relative to the body that the file names and nothing else. Of
SMPL-H's 52 joints the first 22 are SMPL's; SMPL's two hands are then not turned (facts 001, section 3.2). `trans` is
where the body is moved as a whole: the pelvis stands at `trans` plus its place in the rest pose.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framefill.atomic import replacing
from framefill.errors import MediaError
from framefill.pose import rotations
from framefill.pose.body import COMPONENTS, GENDERS, NAMES, Body
from framefill.pose.files import arrays
from framefill.pose.motion import Motion

BODY_JOINTS = 22
MOST_FRAMES = 2_000_000


@dataclass(frozen=True)
class Take:
    """One AMASS file: rotations (T, 24, 3, 3), `transl` (T, 3) in metres, shape (10,), gender, frames per second."""

    local: Tensor = field(compare=False)
    translation: Tensor = field(compare=False)
    shape: Tensor = field(compare=False)
    gender: str
    rate: float

    def motion(self, body: Body) -> Motion:
        """The same worn by a body: the root joint is where that body's own rest pose puts it."""
        root = body.root_of(self.translation, self.shape.to(body.joints))
        return Motion(body.skeleton(self.shape), self.local, root, 1 / self.rate)


def read(path: Path) -> Take:
    """A take, float32. Raises MediaError for a file that is damaged or not of this layout."""
    found = arrays.read(path, ("poses", "trans", "betas", "gender", "mocap_framerate", "mocap_frame_rate"))
    poses = arrays.need(path, found, "poses", (None, None))
    if poses.shape[1] < 3 * BODY_JOINTS or poses.shape[1] % 3 or not 0 < len(poses) <= MOST_FRAMES:
        raise MediaError(f"{path}: poses {poses.shape}; each of 1 to {MOST_FRAMES} frames needs 66 angles or more")
    vectors = torch.zeros(len(poses), len(NAMES), 3, dtype=torch.float64)
    whole = len(NAMES) if poses.shape[1] == 3 * len(NAMES) else BODY_JOINTS
    vectors[:, :whole] = torch.from_numpy(poses).unflatten(1, (-1, 3))[:, :whole]
    shape = np.zeros(COMPONENTS)
    if "betas" in found:
        betas = arrays.need(path, found, "betas", (None,))[:COMPONENTS]
        shape[: len(betas)] = betas
    return Take(
        rotations.from_axis_angle(vectors).float(),
        torch.from_numpy(arrays.need(path, found, "trans", (len(poses), 3))).float(),
        torch.from_numpy(shape).float(),
        _gender(path, found),
        _rate(path, found),
    )


def write(path: Path, take: Take) -> None:
    """Writes a take whose joints are SMPL's. Raises Failed where the file cannot be written."""
    poses = rotations.to_axis_angle(take.local.double()).flatten(1)
    with replacing(path) as part, part.open("wb") as file:
        np.savez(
            file,
            poses=poses.numpy(),
            trans=take.translation.double().numpy(),
            betas=take.shape.double().numpy(),
            gender=np.array(take.gender),
            mocap_framerate=np.array(take.rate),
        )


def take(motion: Motion, body: Body, shape: Tensor, gender: str) -> Take:
    """A motion of `body` as a take: the inverse of `Take.motion`."""
    return Take(motion.local, motion.root - body.root_of(torch.zeros(3), shape), shape, gender, 1 / motion.seconds)


def _gender(path: Path, found: dict) -> str:
    value = found.get("gender", np.array("neutral"))
    text = value.item() if value.size == 1 else ""
    gender = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
    if gender not in GENDERS:
        raise MediaError(f"{path}: gender {gender[:20]!r}; AMASS files say one of {', '.join(GENDERS)}")
    return gender


def _rate(path: Path, found: dict) -> float:
    name = "mocap_framerate" if "mocap_framerate" in found else "mocap_frame_rate"
    rate = float(arrays.need(path, found, name, ()))
    if not 0 < rate < 1e6:
        raise MediaError(f"{path}: {rate} frames per second; a rate above 0 is needed")
    return rate
