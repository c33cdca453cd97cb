"""Motion of the DeepMimic project: 44 numbers a frame, for a humanoid of 15 joints.

Peng et al., DeepMimic, SIGGRAPH 2018; the clips are under the MIT licence, copyright 2018 Xue Bin Peng. A frame is its
duration in seconds, the root's place, the root's quaternion (w first), then in this order chest, neck, right hip, knee,
ankle, shoulder, elbow, and the same on the left: quaternions, but single angles for knees and elbows, which are hinges
about z. The body looks along x, y is up, z is to its right. tests/test_pose_deepmimic.py checks the order by walking.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.errors import BadInput, MediaError
from framefill.pose import rotations
from framefill.pose.files import arrays
from framefill.pose.limits import Limits
from framefill.pose.motion import Motion
from framefill.pose.skeleton import Skeleton

LARGEST = 2**26  # bytes of a clip file
NUMBERS = 44
# Never trained on: the test clips of issue 9 and of shared/design/data.md.
HELD_OUT = (
    "spinkick", "cartwheel", "dance_b", "getup_faceup", "punch", "crawl", "stealthy_walk*", "kick*", "jump*",
)  # fmt: skip

NAMES = (
    "root", "chest", "neck", "right_hip", "right_knee", "right_ankle", "right_shoulder", "right_elbow", "right_wrist",
    "left_hip", "left_knee", "left_ankle", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
PARENTS = (-1, 0, 1, 0, 3, 4, 1, 6, 7, 0, 9, 10, 1, 12, 13)
HANDLES = ("root", "neck", "right_wrist", "left_wrist", "right_ankle", "left_ankle")  # the protocol of issue 9
HINGES = ("right_knee", "right_elbow", "left_knee", "left_elbow")
LEG = ((0.0, 0.0, 0.084887), (0.0, -0.421546, 0.0), (0.0, -0.409870, 0.0))
ARM = ((-0.024050, 0.243500, 0.183110), (0.0, -0.274788, 0.0), (0.0, -0.258947, 0.0))
TRUNK = ((0.0, 0.0, 0.0), (0.0, 0.236151, 0.0), (0.0, 0.223894, 0.0))
SPAN = 1.311  # metres from ankles to shoulders at rest


def humanoid() -> Skeleton:
    """The skeleton, float64 metres: DeepMimic's humanoid, arms hanging at rest."""
    left = tuple((x, y, -z) for x, y, z in (*LEG, *ARM))
    return Skeleton(NAMES, PARENTS, torch.tensor([*TRUNK, *LEG, *ARM, *left], dtype=torch.float64))


def held_out(name: str) -> bool:
    """Whether a clip, such as "humanoid3d_jump", "long_humanoid3d_stealthy_walk0" or its mirror, is for tests only."""
    short = name.rpartition("humanoid3d_")[2].removeprefix("long_").removesuffix("_mirror")
    return any(fnmatchcase(short, pattern) for pattern in HELD_OUT)


@dataclass(frozen=True)
class Clips:
    """The clips of one archive: an .npz with one array (T, 44) per clip."""

    path: Path

    def names(self, split: str) -> list[str]:
        """The clips of "train" or "test", sorted. Raises BadInput for another split."""
        if split not in ("train", "test"):
            raise BadInput(f"split {split!r}; DeepMimic has train and test")
        return [name for name in arrays.names(self.path) if held_out(name) == (split == "test")]

    def read(self, name: str) -> Motion:
        """One clip. Raises MediaError where there is none of that name, or it is damaged."""
        table = arrays.need(self.path, arrays.read(self.path, [name]), name, (None, NUMBERS))
        return motion(f"{self.path}, {name}", table)

    def motions(self, split: str) -> Iterator[tuple[str, Motion]]:
        """Name and motion of every clip of a split."""
        for name in self.names(split):
            yield name, self.read(name)

    def alike(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        """About `count` poses, as many of every clip of a split: an hour of walking then counts as a roll does."""
        clips = [clip for _, clip in self.motions(split)]
        if not clips or count < len(clips):
            raise BadInput(f"{count} poses of {len(clips)} clips; ask for one of each at least")
        which = [torch.linspace(0, len(clip) - 1, count // len(clips)).round().long() for clip in clips]
        pairs = list(zip(clips, which, strict=True))
        return torch.cat([c.local[w] for c, w in pairs]), torch.cat([c.root[w] for c, w in pairs])

    def poses(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        """`count` poses, evenly spaced over all frames of a split: rotations (N, 15, 3, 3), root (N, 3)."""
        found = [clip for _, clip in self.motions(split)]
        if not found:
            raise BadInput(f"{self.path} has no clip of the {split} split; give DeepMimic's, such as humanoid3d_jump")
        local, root = torch.cat([clip.local for clip in found]), torch.cat([clip.root for clip in found])
        if not 0 < count <= len(root):
            raise BadInput(f"{count} poses of a split of {len(root)}; ask for 1 to {len(root)}")
        which = torch.linspace(0, len(root) - 1, count).round().long()
        return local[which], root[which]


def read(path: Path) -> Motion:
    """One clip from a text file of DeepMimic or pybullet: {"Loop": ..., "Frames": [[44 numbers], ...]}.

    Raises MediaError for a file that is damaged or of another skeleton.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ValueError(f"it is longer than {LARGEST} bytes")
        frames = json.loads(data)["Frames"]
        table = np.array(frames, dtype=np.float64)
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MediaError(f"{path} is no DeepMimic clip ({reason}); it needs Frames of {NUMBERS} numbers") from error
    return motion(str(path), table)


def motion(source: str, table: NDArray[np.float64]) -> Motion:
    """Frames (T, 44) as a motion, float64; `source` is for the error. Raises MediaError for other numbers."""
    if table.ndim != 2 or table.shape[1] != NUMBERS or not len(table) or not np.isfinite(table).all():
        raise MediaError(f"{source}: frames {table.shape}; a clip has finite numbers (T, {NUMBERS})")
    if not table[0, 0] > 0:
        raise MediaError(f"{source}: a frame of {table[0, 0]} seconds; a time above 0 is needed")
    return Motion(
        humanoid(), _local(torch.from_numpy(table[:, 4:])), torch.from_numpy(table[:, 1:4]), table[0, 0].item()
    )


def _local(values: Tensor) -> Tensor:
    local = torch.eye(3).double().expand(len(values), len(NAMES), 3, 3).clone()
    column = 0
    for joint, name in enumerate(NAMES):
        if name in HINGES:
            about_z = torch.zeros(len(values), 3).double()
            about_z[:, 2] = values[:, column]
            local[:, joint] = rotations.from_axis_angle(about_z)
            column += 1
        elif not name.endswith("wrist"):
            local[:, joint] = rotations.from_quaternion(values[:, column : column + 4])
            column += 4
    return local


def limits(local: Tensor) -> Limits:
    """What joints did in rotations (N, 15, 3, 3), and 0.2 radians more; knees only bend back and elbows only forth."""
    found = Limits.of(local, margin=0.2)
    low, high = found.low.clone(), found.high.clone()
    for name in HINGES:
        (high if name.endswith("knee") else low)[NAMES.index(name), 2] = 0
    return Limits(low, high)


def turning() -> Sequence[str]:
    """The joints that turn: all but the wrists, which only end the arms. GE is the mean over these."""
    return [name for name in NAMES if not name.endswith("wrist")]
