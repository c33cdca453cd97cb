"""KTH and UCF-101: people in action, one video file per clip, split by person or by group of recordings."""

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framefill.errors import BadInput, MediaError
from framefill.video.clip import fit, stretch, with_channels
from framefill.video.datasets.dataset import About, lines, listed, present
from framefill.video.files import read
from framefill.video.shelf import Entry, stamps

ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
# Paper: trains on persons 1 to 20, tests on 21 to 25 (those of SVG, not the official split) and chooses its weights by
# the test split; here the last two of the twenty choose.
PERSONS = {"train": range(1, 19), "val": range(19, 21), "test": range(21, 26)}
GROUPS_HELD_OUT = (24, 25)  # groups 24 and 25 are training groups in all three lists of UCF-101


@dataclass(frozen=True)
class Recording:
    """A video of which the `parts` (start, stop) are kept, one run each, or all of it; `squeezed` to its new shape."""

    name: str
    path: Path
    parts: tuple[tuple[int, int], ...] = ()
    squeezed: bool = False

    @property
    def fps(self) -> Fraction:
        """Both data sets have 25 frames per second."""
        return Fraction(25)

    @property
    def identity(self) -> tuple[str, list[Any], Any]:
        """The file and what is made of it."""
        return os.path.abspath(self.path), stamps([self.path]), ["recording", self.parts, self.squeezed]

    def frames(self, height: int, width: int, channels: int) -> Iterator[np.ndarray]:
        """The frames of the parts; MediaError if there are none."""
        resize, any_kept = stretch if self.squeezed else fit, False
        for number, frame in enumerate(self._decoded()):
            if not self.parts or any(start <= number < stop for start, stop in self.parts):
                any_kept = True
                yield resize(with_channels(frame, channels)[None], height, width)[0]
        if not any_kept:
            raise MediaError(f"{self.path}: none of the listed frames is in it; fetch the file again")

    def cuts(self, frames: np.ndarray) -> list[int]:
        """Where the parts meet; as distributed, some files end before their last part does."""
        return [cut for cut in accumulate(stop - start for start, stop in self.parts) if cut < len(frames)]

    def _decoded(self) -> Iterator[np.ndarray]:
        count = 0
        try:
            for frame in read(self.path, stop=self.parts[-1][1] if self.parts else None):
                yield frame
                count += 1
        except MediaError as error:
            # KTH's own person01_boxing_d4 is damaged, so damage must not stop everything.
            if not count:
                raise
            warnings.warn(f"{error} (the {count} frames before are used)", stacklevel=2)


@dataclass(frozen=True)
class KTH:
    """KTH human actions: 25 persons, six actions, 160x120 grey, squeezed to the size asked for.

    Frames are those of the sequences in 00sequences.txt, each one run, as in SVG; `whole` takes all frames of a file.
    Paper: the authors' program takes whole files, also the frames that nobody is in: `kth-whole`.
    """

    root: Path
    whole: bool = False
    about: ClassVar[About] = About(
        "kth",
        "KTH human actions",
        "the six zips and 00sequences.txt",
        "https://www.csc.kth.se/cvap/actions/",
        "1.1 GB",
        "non-commercial use",
        "boxing/person01_boxing_d1_uncomp.avi and so on for handclapping, handwaving, jogging, running, walking, and "
        "00sequences.txt",
    )

    def entries(self, split: str) -> list[Entry]:
        """The files of the persons of a split, by action and name."""
        parts = self._everything() if self.whole else self._sequences()
        present(self.about, self.root, [self._file(name) for name in parts])
        chosen = [name for name in parts if int(name[6:8]) in PERSONS[split]]
        return [
            Recording(f"{name.split('_')[1]}/{name}", self._file(name), parts[name], squeezed=True)
            for name in sorted(chosen, key=lambda name: (name.split("_")[1], name))
        ]

    def _file(self, name: str) -> Path:
        return self.root / name.split("_")[1] / f"{name}_uncomp.avi"

    def _everything(self) -> dict[str, tuple[tuple[int, int], ...]]:
        found: dict[str, tuple[tuple[int, int], ...]] = {}
        for action in ACTIONS:
            files = sorted((self.root / action).glob(f"person[0-9][0-9]_{action}_d[0-9]_uncomp.avi"))
            if not files:
                raise self.about.missing(f"{self.root} has no {action}/person01_{action}_d1_uncomp.avi", self.root)
            found |= {file.name.removesuffix("_uncomp.avi"): () for file in files}
        return found

    def _sequences(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """Name to frames (start, stop) of the list, whose ranges count from 1 and include their ends."""
        path = self.root / "00sequences.txt"
        present(self.about, self.root, [path])
        found = {}
        for line in lines(path):  # most lines say which frames, the first ones and that of a lost file are prose
            match = re.fullmatch(rf"(person\d\d_(?:{'|'.join(ACTIONS)})_d\d)\s+frames\b(.*)", line)
            if match:
                found[match[1]] = _ranges(path, match[0], match[2])
        for action in ACTIONS:
            if not any(f"_{action}_" in name for name in found):
                raise self.about.missing(f"{path} lists no frames of {action}", self.root)
        return found


def _ranges(path: Path, line: str, text: str) -> tuple[tuple[int, int], ...]:
    """Frames (start, stop) in order; where two ranges overlap, the second begins after the first."""
    ranges, end = [], 0
    for first, last in sorted((int(a), int(b)) for a, b in re.findall(r"(\d{1,6})\s*-\s*(\d{1,6})", text)):
        start, stop = max(first - 1, end), last
        if start < stop:
            ranges.append((start, stop))
            end = stop
    if not ranges:
        raise BadInput(f"{path}: there are no frames in {line[:80]!r}; take the list as distributed")
    return tuple(ranges)


@dataclass(frozen=True)
class UCF101:
    """UCF-101: 13,320 clips of 101 actions, 320x240 colour, cropped to the shape asked for.

    The train and test lists are those of `fold` 3, which the authors' converter takes; test is every tenth clip of its
    list, as theirs is (369). Clips of one group show the same person and place, so validation takes whole groups: 24
    and 25 of the training list. Paper: trains on these too and chooses its weights by the test split.
    """

    root: Path
    fold: int = 3
    about: ClassVar[About] = About(
        "ucf101",
        "UCF-101",
        "UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip",
        "https://www.crcv.ucf.edu/data/UCF101.php",
        "7 GB",
        "no licence stated",
        "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi and so on, and ucfTrainTestlist/trainlist03.txt and "
        "testlist03.txt",
    )

    def entries(self, split: str) -> list[Entry]:
        """The clips of a split in the order of its list."""
        path = self.root / "ucfTrainTestlist" / f"{'test' if split == 'test' else 'train'}list{self.fold:02d}.txt"
        present(self.about, self.root, [path])
        found = listed(path, r"(\w+/v_\w+_g(\d\d)_c\d\d)\.avi(?: \d+)?")
        present(self.about, self.root, [self._file(match[1]) for match in found])
        if split == "test":
            chosen = found[::10]
        else:
            chosen = [m for m in found if (int(m[2]) in GROUPS_HELD_OUT) == (split == "val")]
        return [Recording(match[1], self._file(match[1])) for match in chosen]

    def _file(self, name: str) -> Path:
        return self.root / "UCF-101" / f"{name}.avi"
