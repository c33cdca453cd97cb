"""MNIST in its own IDX files, and moving digits made of it, or as the well-known test file has them."""

import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput, MediaError
from framefill.video.clip import fit, with_channels
from framefill.video.datasets.dataset import About, present
from framefill.video.shelf import Entry, stamps

LARGEST_COUNT = 70_000
SIDE = 28
HELD_OUT = 5000  # the last of the 60,000 training digits are for validation


@dataclass(frozen=True)
class SMMNIST:
    """Stochastic Moving MNIST, generated from all of MNIST: 55,000 digits to train, 5,000 to validate, 10,000 to test.

    Paper: trains on all 60,000, and draws its test clips from the first 256 test digits only (facts, section 1.3).
    """

    root: Path
    about: ClassVar[About] = About(
        "smmnist",
        "Stochastic Moving MNIST",
        "train-images-idx3-ubyte.gz and t10k-images-idx3-ubyte.gz",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "11 MB",
        "CC BY-SA 3.0",
        "train-images-idx3-ubyte and t10k-images-idx3-ubyte, with or without .gz (or use `digits`, 5,000 of them that "
        "come with framefill)",
    )

    def digits(self, split: str) -> NDArray[np.uint8]:
        """The digits (n, 28, 28) of a split; BadInput if the files are missing."""
        name = "t10k-images-idx3-ubyte" if split == "test" else "train-images-idx3-ubyte"
        plain, packed = self.root / name, self.root / f"{name}.gz"
        if not plain.is_file():
            present(self.about, self.root, [packed])
        images = read_idx(plain if plain.is_file() else packed)
        if split == "test":
            return images
        if len(images) <= HELD_OUT:
            raise BadInput(f"{self.root}: {len(images)} training digits; MNIST has 60,000, fetch the file again")
        return images[-HELD_OUT:] if split == "val" else images[:-HELD_OUT]


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The images (n, 28, 28) of an IDX file, packed with gzip or not; MediaError unless it holds just that."""
    most = 16 + LARGEST_COUNT * SIDE * SIDE
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(most + 1)  # what a few packed bytes would unpack to is not known before
    except (OSError, EOFError, ValueError) as error:
        raise MediaError(f"{path}: cannot be unpacked: {error}; fetch it again") from error
    sizes = np.frombuffer(content[:16].ljust(16, b"\0"), ">u4").tolist()
    if sizes[0] != 0x00000803 or sizes[2:] != [SIDE, SIDE] or len(content) != 16 + sizes[1] * SIDE * SIDE:
        raise MediaError(f"{path}: is not the IDX file of at most {LARGEST_COUNT} digits of 28x28; fetch it again")
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, SIDE, SIDE)


@dataclass(frozen=True)
class Sequences:
    """The clips of an array (T, N, H, W), a run each."""

    name: str
    path: Path

    @property
    def fps(self) -> Fraction:
        """Drawn motion has no rate of its own."""
        return Fraction(25)

    @property
    def identity(self) -> tuple[str, list[Any], Any]:
        """The file."""
        return os.path.abspath(self.path), stamps([self.path]), "sequences"

    def frames(self, height: int, width: int, channels: int) -> Iterator[np.ndarray]:
        """Clip after clip."""
        array = self._array()
        for clip in range(array.shape[1]):
            yield from fit(with_channels(np.array(array[:, clip, :, :, None]), channels), height, width)

    def cuts(self, frames: np.ndarray) -> list[int]:
        """At the end of each clip."""
        length = len(self._array())
        return list(range(length, len(frames), length))

    def _array(self) -> np.ndarray:
        try:
            array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise MediaError(f"{self.path}: is no NumPy array ({error}); fetch it again") from error
        if array.dtype != np.uint8 or array.ndim != 4 or 0 in array.shape:
            raise MediaError(f"{self.path}: holds {array.dtype} {array.shape}; it should be uint8 (20, 10000, 64, 64)")
        return array


@dataclass(frozen=True)
class MovingMNIST:
    """The 10,000 test clips of Moving MNIST (Srivastava et al. 2015), 20 frames each: there is nothing to train on."""

    root: Path
    about: ClassVar[About] = About(
        "moving-mnist",
        "Moving MNIST",
        "mnist_test_seq.npy",
        "https://www.cs.toronto.edu/~nitish/unsupervised_video/",
        "0.8 GB",
        "no licence stated",
        "mnist_test_seq.npy",
    )

    def entries(self, split: str) -> list[Entry]:
        """All clips are for testing; BadInput for another split."""
        if split != "test":
            raise BadInput(f"moving-mnist has clips to test on only, none to {split}; train on smmnist or digits")
        present(self.about, self.root, [self.root / "mnist_test_seq.npy"])
        return [Sequences("mnist_test_seq", self.root / "mnist_test_seq.npy")]
