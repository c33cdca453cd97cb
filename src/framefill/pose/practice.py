"""Poses to learn from: clips worn by framefill's body, and varied so that what is learnt from them holds beyond them.

A row is a frame, drawn so that a clip counts with the root of its length; often with the upper body of another frame;
mirrored half of the time; moved by noise of the habit's Gaussian of a random strength, and brought into its limits;
turned to head along z, give or take HEADING radians: who need not learn which way is which learns more from few clips,
and the way is known once handles are met. What the clips lack (collars, hands, toes) turns at random, as `OURS` says.
Shape and gender are drawn too. A row is a pure function of its seed.

Published instead (facts 001, section 3.2): frames as they are, turned about the vertical by any angle.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.pose import amass_splits, deepmimic, retarget
from framefill.pose.body import COMPONENTS, GENDERS, NAMES
from framefill.pose.files import amass, arrays, asf, bvh
from framefill.pose.habits import OPPOSITE, manner
from framefill.pose.human import human
from framefill.pose.motion import Motion
from framefill.pose.retarget import Rig
from framefill.pose.turning import Floats, exponential, logarithm

WANTED = {
    split: f"give an .npz of DeepMimic, .bvh files{more}, or AMASS's {', '.join(amass_splits.SPLITS[split])}"
    for split, more in (("train", ""), ("validation", " with names of held-out clips"), ("test", " with such names"))
}
MOST = 1000  # frames of one clip: neighbours are nearly alike
JOINTS, UP = len(NAMES), np.array([0.0, 1.0, 0.0])
# Ours: standard deviations in radians of axis times angle in the T pose; the forearm's twist is given to the wrist.
OURS = {
    "head": (0.12, 0.12, 0.10), "collar": (0.06, 0.08, 0.10), "wrist": (0.35, 0.15, 0.25), "hand": (0.0, 0.0, 0.08),
    "foot": (0.12, 0.0, 0.0),
}  # fmt: skip
SPREADS = np.array([OURS.get(name.rpartition("_")[2], (0.0, 0.0, 0.0)) for name in NAMES])
ABOVE = np.array([name.startswith(("spine", "neck", "head")) or name.endswith(
    ("collar", "shoulder", "elbow", "wrist", "hand")) for name in NAMES])  # fmt: skip
HEADING = 0.4
MIXED, NOISE, TILT = 0.3, 0.8, 0.1  # share of rows of two frames; most noise, in habits; radians


@dataclass(frozen=True)
class Poses:
    """Frames as axis-angle vectors (N, 24, 3), the root's turn in the world among them, and how often each is drawn.

    note: a line on what of the data was left out; else nothing.
    """

    vectors: Floats = field(compare=False)
    share: Floats = field(compare=False)
    varied: bool = True
    note: str = ""

    @classmethod
    def open(cls, data: Path, split: str, *, varied: bool = True) -> "Poses":
        """Clips of a split in an .npz of DeepMimic, or in a folder of such, of .bvh and .amc, and of AMASS's.

        split: "train", "validation" or "test". What `deepmimic.held_out` names is never trained on, and is both of the
        others; AMASS's data sets, each in a folder of its name, are split as published (`amass_splits`), and those that
        are in no split left out. Raises BadInput where there are none.
        """
        strange: Counter[str] = Counter()
        clips = [_worn(motion) for motion in _motions(data, split, strange)]
        note = amass_splits.left_out(strange)
        if not clips:
            raise BadInput(f"{data} has no clip for {split}; {WANTED[split]}{'; ' * bool(note)}{note}")
        share = np.concatenate([np.full(len(clip), len(clip) ** -0.5) for clip in clips])
        return cls(np.concatenate(clips), np.cumsum(share / share.sum()), varied, note)

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Local rotations (B, 24, 3, 3), shape (B, 10), gender (B,), float32 and int64; one row per seed."""
        rng = Rng(seeds)
        chance = rng.uniform((8,)).double().numpy()
        noise = rng.normal((2, 3 * JOINTS)).double().numpy()
        vectors = self.vectors[self._which(chance[:, 0])]
        if self.varied:
            other = self.vectors[self._which(chance[:, 1])]
            vectors = np.where((chance[:, 2] < MIXED)[:, None, None] & ABOVE[:, None], other, vectors)
            vectors = np.where((chance[:, 3] < 0.5)[:, None, None], mirrored(vectors), vectors)
            vectors = _moved(vectors, NOISE * np.square(chance[:, 4]), noise)
        local = exponential(vectors)[0]
        way = HEADING * noise[:, 1, 4] - heading(local[:, 0]) if self.varied else 2 * np.pi * chance[:, 5]
        local[:, 0] = exponential(way[:, None] * UP)[0] @ local[:, 0]
        gender = torch.from_numpy((len(GENDERS) * chance[:, 6]).astype(np.int64))
        return torch.from_numpy(local).float(), rng.normal((COMPONENTS,)), gender

    def _which(self, chance: Floats) -> np.ndarray:
        return np.searchsorted(self.share, chance).clip(max=len(self.share) - 1)


def heading(turn: Floats) -> Floats:
    """The angle (...) about the vertical that comes nearest to rotations (..., 3, 3)."""
    return np.arctan2(turn[..., 0, 2] - turn[..., 2, 0], turn[..., 0, 0] + turn[..., 2, 2])


def mirrored(vectors: Floats) -> Floats:
    """Axis-angle vectors (..., 24, 3) of the pose with left and right exchanged: x becomes -x."""
    return vectors[..., OPPOSITE, :] * np.array([1.0, -1.0, -1.0])


def _moved(vectors: Floats, strength: Floats, noise: Floats) -> Floats:
    """Poses moved by the habit's noise, with joints that clips lack turned at random, within the habit's limits."""
    known = manner()
    spread = np.linalg.inv(known.habit.factor.numpy())
    moves = (noise[:, 0] @ spread.T).reshape(vectors.shape)
    moves[:, 0] = TILT * noise[:, 1, :3]
    made = vectors + strength[:, None, None] * moves
    made[:, 1:] += (SPREADS * noise[:, 1].reshape(vectors.shape))[:, 1:]
    made[:, 1:] = made[:, 1:].clip(known.limits.low.numpy()[1:], known.limits.high.numpy()[1:])
    return made


def _motions(data: Path, split: str, strange: Counter[str]) -> Iterator[Motion]:
    """The clips of a split; data sets of AMASS that are in none are counted as strange."""
    files = sorted(data.rglob("*")) if data.is_dir() else [data]
    for path in files:
        if path.suffix == ".npz" and "poses" in arrays.names(path):
            its = amass_splits.split_of(name := _set_of(path))
            if its == split:
                yield _upright(amass.read(path))
            elif its is None:
                strange[name] += 1
        elif path.suffix == ".npz":
            yield from (motion for _, motion in deepmimic.Clips(path).motions("train" if split == "train" else "test"))
        elif path.suffix in (".bvh", ".amc") and deepmimic.held_out(path.stem) == (split != "train"):
            yield bvh.read(path) if path.suffix == ".bvh" else asf.read(path)


def _set_of(path: Path) -> str:
    """Which data set of AMASS a file is of: the folder above it that is called so, or else two above, DATA/PERSON/x."""
    parts = path.absolute().parts
    return next((part for part in parts if part in amass_splits.NAMES), path.absolute().parent.parent.name)


def _upright(take: amass.Take) -> Motion:
    """A take with y up: AMASS has z up."""
    motion, turn = take.motion(human(take.gender)), bvh.UP["z"].float()
    local = motion.local.clone()
    local[:, 0] = turn @ local[:, 0]
    return Motion(motion.skeleton, local, motion.root @ turn.T, motion.seconds)


def _worn(motion: Motion) -> Floats:
    """A clip on framefill's body (T, 24, 3), of long ones every few frames."""
    some = motion.frames(slice(None, None, -(-len(motion) // MOST)))
    worn = retarget.carry(some, Rig.of(some.skeleton), Rig.of(human().tree))
    return logarithm(worn.local.numpy())
