"""Cityscapes and Vimeo-90k: videos that come as numbered pictures, thousands of them in one array of the cache."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framefill.video.clip import fit, with_channels
from framefill.video.datasets.dataset import About, listed, present
from framefill.video.files import read
from framefill.video.folder import SPLITS
from framefill.video.shelf import Entry, stamps


@dataclass(frozen=True)
class Stills:
    """Runs of pictures, one run after another in one array, at `fps` frames per second."""

    name: str
    folder: Path
    groups: tuple[tuple[Path, ...], ...]
    fps: Fraction

    @property
    def identity(self) -> tuple[str, list[Any], Any]:
        """The folder and every picture in it that is taken."""
        names = [[str(picture.relative_to(self.folder)) for picture in group] for group in self.groups]
        return os.path.abspath(self.folder), stamps(self._pictures()), ["stills", names]

    def frames(self, height: int, width: int, channels: int) -> Iterator[np.ndarray]:
        """The pictures, one after another."""
        for picture in self._pictures():
            yield fit(with_channels(next(read(picture)), channels)[None], height, width)[0]

    def cuts(self, frames: np.ndarray) -> list[int]:
        """Where one run ends and the next begins."""
        return list(accumulate(map(len, self.groups)))[:-1]

    def _pictures(self) -> list[Path]:
        return [picture for group in self.groups for picture in group]


@dataclass(frozen=True)
class Cityscapes:
    """Cityscapes sequences: snippets of 30 frames, 2048x1024 at 17 frames per second; the centre square is taken.

    The splits are the distributor's: 2975, 500 and 1525 snippets of different cities. Frames of one recording whose
    numbers follow each other are one run, so snippets that meet are one.
    """

    root: Path
    about: ClassVar[About] = About(
        "cityscapes",
        "Cityscapes",
        "leftImg8bit_sequence_trainvaltest.zip",
        "https://www.cityscapes-dataset.com/downloads/",
        "324 GB, after registration",
        "non-commercial research",
        "leftImg8bit_sequence/train/aachen/aachen_000000_000000_leftImg8bit.png and so on, with val and test",
    )

    def entries(self, split: str) -> list[Entry]:
        """One entry per city."""
        top = self.root / "leftImg8bit_sequence"
        present(self.about, self.root, [top / part for part in SPLITS], Path.is_dir)
        cities = sorted(folder for folder in (top / split).iterdir() if folder.is_dir())
        found = [Stills(f"{split}/{city.name}", city, _snippets(city), Fraction(17)) for city in cities]
        return [entry for entry in found if entry.groups]


def _snippets(city: Path) -> tuple[tuple[Path, ...], ...]:
    """The pictures of a city by recording and unbroken run of frame numbers."""
    pattern = re.compile(rf"{re.escape(city.name)}_(\d{{6}})_(\d{{6}})_leftImg8bit\.png")
    matches = filter(None, map(pattern.fullmatch, os.listdir(city)))
    numbered = sorted((int(match[1]), int(match[2]), match[0]) for match in matches)
    runs = groupby(enumerate(numbered), lambda place: (place[1][0], place[1][1] - place[0]))
    return tuple(tuple(city / name for _, (_, _, name) in run) for _, run in runs)


@dataclass(frozen=True)
class Vimeo90k:
    """Vimeo-90k: 73,171 triplets, or 91,701 septuplets, of 448x256 colour frames (paper 004 uses the triplets).

    The train and test lists are the authors'. Neighbouring sequences come from the same film, so validation takes whole
    folders of the training list: 00020, 00040 and so on. Paper: 004 trains on these too.
    """

    root: Path
    length: int = 3
    about: ClassVar[About] = About(
        "vimeo90k",
        "Vimeo-90k",
        "vimeo_triplet.zip (for vimeo90k-septuplet: vimeo_septuplet.zip)",
        "http://toflow.csail.mit.edu",
        "33 GB, septuplets 82 GB",
        "no licence stated",
        "vimeo_triplet/sequences/00001/0001/im1.png and so on, vimeo_triplet/tri_trainlist.txt and tri_testlist.txt "
        "(for septuplets vimeo_septuplet and sep_...)",
    )

    def entries(self, split: str) -> list[Entry]:
        """One entry per folder of up to a thousand sequences."""
        kind = "triplet" if self.length == 3 else "septuplet"
        top = self.root / f"vimeo_{kind}"
        path = top / f"{kind[:3]}_{'test' if split == 'test' else 'train'}list.txt"
        present(self.about, self.root, [path])
        found = sorted((match[1], match[2]) for match in listed(path, r"(\d{5})/(\d{4})"))
        if split != "test":
            found = [(folder, name) for folder, name in found if (int(folder) % 20 == 0) == (split == "val")]
        entries = []
        for folder, several in groupby(found, lambda place: place[0]):
            place = top / "sequences" / folder
            groups = tuple(tuple(place / n / f"im{i + 1}.png" for i in range(self.length)) for _, n in several)
            entries.append(Stills(f"{kind}/{folder}", place, groups, Fraction(25)))
        present(self.about, self.root, [picture for entry in entries for g in entry.groups for picture in g])
        return list(entries)
