"""The data sets of the papers, from the user's disk as their distributors give them; nothing is downloaded.

A data set is named in commands as NAME:FOLDER. It knows its layout, its split, and what to say when something is
missing; its frames go through the same cache as those of any folder.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from framefill.errors import BadInput, MediaError
from framefill.video.datasets.bair import BAIR
from framefill.video.datasets.dataset import About, Dataset
from framefill.video.datasets.mnist import SMMNIST, MovingMNIST
from framefill.video.datasets.recordings import KTH, UCF101
from framefill.video.datasets.stills import Cityscapes, Vimeo90k
from framefill.video.folder import SPLITS
from framefill.video.shelf import Shelf
from framefill.video.windows import Run

__all__ = ["DATASETS", "SMMNIST", "About", "Dataset", "find", "named", "runs"]

DATASETS: dict[str, Callable[[Path], Dataset | SMMNIST]] = {
    "smmnist": SMMNIST,
    "moving-mnist": MovingMNIST,
    "kth": KTH,
    "kth-whole": partial(KTH, whole=True),
    "bair": BAIR,
    "cityscapes": Cityscapes,
    "ucf101": UCF101,
    "vimeo90k": Vimeo90k,
    "vimeo90k-septuplet": partial(Vimeo90k, length=7),
}


def find(name: str, root: Path | str) -> Dataset | SMMNIST:
    """The data set `name` in the folder `root`; BadInput for an unknown name, or a folder that is not there."""
    if name not in DATASETS:
        raise BadInput(f"unknown data set {name!r}; choose one of {', '.join(DATASETS)}, or give a folder of clips")
    dataset = DATASETS[name](Path(root).expanduser())
    if not dataset.root.is_dir():
        raise dataset.about.missing(f"there is no folder {dataset.root}", dataset.root)
    return dataset


def named(data: str) -> Dataset | SMMNIST | None:
    """The data set that NAME:FOLDER stands for; None for what exists as a path, or has no name before a colon."""
    name, colon, root = data.partition(":")
    if not colon or len(name) < 2 or Path(data).exists():  # one letter is a drive
        return None
    return find(name, root)


def runs(
    dataset: Dataset,
    split: str,
    *,
    height: int,
    width: int,
    channels: int,
    cache: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Run]:
    """The runs of a split, "train", "val" or "test", with frames of `height` x `width` pixels in 1 or 3 channels.

    Frames are never dropped or divided anew: what the list of the data set calls a clip is a run. Only this split is
    decoded, once, into `cache` (as in `Clips.open`). After each array `progress(done, total, name)` is called.

    Raises BadInput if the layout is not there or not whole, or for an impossible split or size; MediaError if a file is
    damaged: scores on a part of a published data set could be compared with nothing.
    """
    if split not in SPLITS:
        raise BadInput(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    if height < 1 or width < 1 or channels not in (1, 3):
        raise BadInput(f"{width}x{height} pixels in {channels} channels; give at least 1x1, and 1 or 3")
    entries, shelf, found = dataset.entries(split), Shelf.at(cache, (height, width, channels)), []
    if not entries:
        raise dataset.about.missing(f"there is no {split} clip in {dataset.root}", dataset.root)
    for done, entry in enumerate(entries, 1):
        try:
            found += shelf.take(entry).runs()
        except (MediaError, OSError) as error:
            raise MediaError(f"{dataset.about.name}: {entry.name} cannot be used: {error}") from error
        if progress:
            progress(done, len(entries), entry.name)
    return found
