"""BAIR robot pushing: 44,000 clips of a robot arm, 30 frames of 64x64 each, as TFRecord files of 256 clips."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framefill.errors import MediaError
from framefill.video.clip import fit, with_channels
from framefill.video.datasets.dataset import About, present
from framefill.video.datasets.tfrecord import byte_strings, records
from framefill.video.shelf import Entry, stamps

LENGTH, SIDE = 30, 64
KEYS = [f"{number}/image_aux1/encoded" for number in range(LENGTH)]


@dataclass(frozen=True)
class Trajectories:
    """The clips of one TFRecord file, a run each, seen by the second camera (aux1), which all papers use."""

    name: str
    path: Path

    @property
    def fps(self) -> Fraction:
        """The data set states no rate; 10 frames per second look natural."""
        return Fraction(10)

    @property
    def identity(self) -> tuple[str, list[Any], Any]:
        """The file."""
        return os.path.abspath(self.path), stamps([self.path]), "aux1"

    def frames(self, height: int, width: int, channels: int) -> Iterator[np.ndarray]:
        """The 30 frames of each record in turn; MediaError for a record that does not hold them."""
        for number, record in enumerate(records(self.path)):
            try:
                pictures = byte_strings(record, set(KEYS))
            except ValueError as error:
                raise MediaError(f"{self.path}: record {number} is no tf.train.Example: {error}") from error
            for key in KEYS:
                pixels = pictures.get(key, b"")
                if len(pixels) != SIDE * SIDE * 3:
                    raise MediaError(f"{self.path}: record {number} has {len(pixels)} bytes of {key}, not 64x64x3")
                frame = np.frombuffer(pixels, np.uint8).reshape(1, SIDE, SIDE, 3)
                yield fit(with_channels(frame, channels), height, width)[0]

    def cuts(self, frames: np.ndarray) -> list[int]:
        """Every 30 frames."""
        return list(range(LENGTH, len(frames), LENGTH))


@dataclass(frozen=True)
class BAIR:
    """BAIR robot pushing: the train folder of 43,264 clips and the test folder of 256, on which all papers report.

    The last twentieth of the training files is for validation. Paper: trains on these too, chooses by the test split.
    """

    root: Path
    about: ClassVar[About] = About(
        "bair",
        "BAIR robot pushing",
        "bair_robot_pushing_dataset_v0.tar",
        "http://rail.eecs.berkeley.edu/datasets/bair_robot_pushing_dataset_v0.tar",
        "30 GB",
        "no licence stated",
        "softmotion30_44k/train/traj_0_to_255.tfrecords and so on, and softmotion30_44k/test/traj_0_to_255.tfrecords",
    )

    def entries(self, split: str) -> list[Entry]:
        """The files of a split."""
        top = self.root / "softmotion30_44k"
        present(self.about, self.root, [top / "train", top / "test"], Path.is_dir)
        files = sorted((top / ("test" if split == "test" else "train")).glob("traj_*.tfrecords"), key=_first)
        if split != "test":
            held_out = max(1, len(files) // 20)
            files = files[-held_out:] if split == "val" else files[:-held_out]
        return [Trajectories(f"{file.parent.name}/{file.name}", file) for file in files]


def _first(file: Path) -> tuple[int, str]:
    """The number of the first clip in a file, then its name: 256 comes before 1024."""
    number = re.match(r"traj_(\d{1,9})", file.name)
    return int(number[1]) if number else 0, file.name
