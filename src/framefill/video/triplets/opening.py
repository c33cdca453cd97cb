"""From what a user names to a supply of triplets: film, published data sets, photographs, or several of them."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from framefill.errors import BadInput
from framefill.video import datasets, sources
from framefill.video.folder import Clips, Tell, split
from framefill.video.images.album import Album
from framefill.video.triplets.film import Box, Film
from framefill.video.triplets.stills import Stills
from framefill.video.triplets.triplet import Mixture, Source
from framefill.video.windows import Run

LINES = 540  # at which clips are kept, of their shorter side
SIDE = 512  # at which pictures are kept, or that of the frames where it is larger
SIZES = {"vimeo90k": (256, 448), "ucf101": (240, 320), "cityscapes": (512, 1024)}
STILLS = "stills:"
DARK = 24  # levels: what never gets lighter is a bar beside the picture
GLANCES = 16  # frames of a clip that are looked at for its bars
COMPARED = 8  # pictures of a folder whose sizes tell photographs from the frames of a clip


def opened(
    data: Path | str,
    part: str,
    *,
    size: tuple[int, int],
    context: int = 1,
    cache: Path | None = None,
    progress: Tell | None = None,
) -> Source:
    """Triplets of `size` (height, width) of a part, "train", "val" or "test", of `data`; film is varied for training.

    `data` is a folder of clips, or one, each kept in its own size up to 540 lines; a published data set as NAME:FOLDER;
    photographs, whose motion is made up: a .zip, a folder of pictures of different sizes, or any folder of them as
    stills:FOLDER; or several of these, with a comma between them, in equal shares or as in "clips=2,photos.zip=1".

    What was decoded is kept in `cache`. Raises MediaError or BadInput if it cannot be used.
    """
    named = _several(str(data))
    found = [_opened(one, part, size, context, cache, progress) for one, _ in named]
    return found[0] if len(found) == 1 else Mixture(found, [share for _, share in named])


def _several(data: str) -> list[tuple[str, float]]:
    """What is named, each with its share; a path that exists is one, whatever it is called."""
    parts = [data] if Path(data).exists() else data.split(",")
    return [_shared(part, data) for part in parts]


def _shared(part: str, data: str) -> tuple[str, float]:
    name, equals, share = part.rpartition("=")
    if not equals or Path(part).exists():
        return part, 1.0
    try:
        return name, float(share)
    except ValueError as error:
        raise BadInput(f"cannot read the share {share!r} of {name!r}; write it as in clips=2,photos.zip=1") from error


def _opened(
    data: str, part: str, size: tuple[int, int], context: int, cache: Path | None, progress: Tell | None
) -> Source:
    path = Path(data.removeprefix(STILLS))
    if data.startswith(STILLS) or path.suffix.lower() == ".zip" or _are_photographs(path, cache):
        side = max(SIDE, *size)
        album = Album.open(path, part, height=side, width=side, channels=3, cache=cache, progress=progress)
        return Stills([album.run], size, context)
    published = datasets.named(data)
    if published:
        runs = _published(published, part, cache, progress)
        return Film(runs, size, context=context, varied=part == "train")
    clips = Clips.open_unfitted(path, lines=LINES, smallest=size, channels=3, cache=cache, progress=progress)
    boxes = {source.path: _inside_bars(np.load(source.path, mmap_mode="r"), size) for source in clips.sources}
    return Film(split(clips)[part], size, context=context, varied=part == "train", boxes=boxes)


def _published(
    data: datasets.Dataset | datasets.SMMNIST, part: str, cache: Path | None, progress: Tell | None
) -> list[Run]:
    name = data.about.name
    if isinstance(data, datasets.SMMNIST) or name not in SIZES:
        raise BadInput(f"{name} is no film to learn interpolation from; choose one of {', '.join(SIZES)}, or a folder")
    height, width = SIZES[name]
    return datasets.runs(data, part, height=height, width=width, channels=3, cache=cache, progress=progress)


def _are_photographs(path: Path, cache: Path | None) -> bool:
    """Whether a folder holds pictures only, and they cannot be the frames of a clip: those have one size."""
    clips = sources.clips_in(path, but=cache)
    if not clips or not all(map(os.path.isdir, clips)):
        return False
    sizes = set()
    for picture in sources.pictures(clips[0])[:COMPARED]:
        try:
            with Image.open(picture) as image:
                sizes.add(image.size)
        except OSError:
            continue
    return len(sizes) > 1


def _inside_bars(frames: np.ndarray, size: tuple[int, int]) -> Box:
    """Top, bottom, left and right of what is not always dark in frames (T, H, W, C); all if that is below `size`."""
    numbers = np.linspace(0, len(frames) - 1, GLANCES).round().astype(int)
    light = np.max([frames[number].max(-1) for number in numbers], 0) > DARK
    # A bar is dark but for specks, so a line of the picture is one of which a tenth is light.
    rows, columns = (np.flatnonzero(light.mean(axis) > 0.1) for axis in (1, 0))
    whole = (0, frames.shape[1], 0, frames.shape[2])
    if not len(rows) or not len(columns):
        return whole
    box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    return box if box[1] - box[0] >= size[0] and box[3] - box[2] >= size[1] else whole
