"""From what a user names to a supply of triplets."""

from collections.abc import Callable
from pathlib import Path

from framefill.errors import BadInput
from framefill.video import datasets
from framefill.video.folder import Clips, split
from framefill.video.triplets.film import Film
from framefill.video.triplets.triplet import Source
from framefill.video.windows import Run

LINES = 540  # at which clips are kept, of their shorter side
SIZES = {"vimeo90k": (256, 448), "ucf101": (240, 320), "cityscapes": (512, 1024)}

Tell = Callable[[int, int, str], None]
"""How reading reports: (done, total, name)."""


def opened(
    data: Path | str,
    part: str,
    *,
    size: tuple[int, int],
    context: int = 1,
    cache: Path | None = None,
    progress: Tell | None = None,
) -> Source:
    """Triplets of `size` (height, width) of a part, "train", "val" or "test", of `data`; varied for training only.

    `data` is a folder of clips (or one clip), each kept in its own size up to 540 lines, or a published data set as
    NAME:FOLDER. What was decoded is kept in `cache`. Raises MediaError or BadInput if it cannot be used.
    """
    published = datasets.named(str(data))
    if published:
        runs = _published(published, part, cache, progress)
    else:
        runs = split(
            Clips.open_unfitted(Path(data), lines=LINES, smallest=size, channels=3, cache=cache, progress=progress)
        )[part]
    return Film(runs, size, context=context, varied=part == "train")


def _published(
    data: datasets.Dataset | datasets.SMMNIST, part: str, cache: Path | None, progress: Tell | None
) -> list[Run]:
    name = data.about.name
    if isinstance(data, datasets.SMMNIST) or name not in SIZES:
        raise BadInput(f"{name} is no film to learn interpolation from; choose one of {', '.join(SIZES)}, or a folder")
    height, width = SIZES[name]
    return datasets.runs(data, part, height=height, width=width, channels=3, cache=cache, progress=progress)
