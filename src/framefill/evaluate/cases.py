"""What is judged: clips with their truth, and what every method made of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.arrays import derive
from framefill.errors import BadInput
from framefill.evaluate.protocol import Question
from framefill.video import sources
from framefill.video.clip import Clip, visible
from framefill.video.files import read_clip
from framefill.video.model import VideoModel
from framefill.video.report import guesses

RATE = Fraction(10)  # of windows, which have none


@dataclass(frozen=True)
class Case:
    """One clip: `truth` uint8 (T, H, W, C), which frames are `known` (T,), and `made`: method -> (N, T, H, W, C).

    `paired` says whether what was made is an answer to this truth, or a clip from nothing.
    """

    name: str
    truth: NDArray[np.uint8]
    known: NDArray[np.bool_]
    made: dict[str, NDArray[np.uint8]]
    paired: bool = True


@dataclass(frozen=True)
class Cases:
    """`count` cases; `make(i)` gives one, a pure function of i. `methods` are in the order of the table."""

    count: int
    methods: tuple[str, ...]
    make: Callable[[int], Case]


def drawn(
    model: VideoModel, source: Any, question: Question, *, clips: int, samples: int, seed: int, baselines: bool = True
) -> Cases:
    """Held-out windows of `source` and `samples` drawings of each, beside holding and carrying the known frames."""
    given = question.known.any()
    simple = ("hold", "carried") if baselines and given else ()

    def make(index: int) -> Case:
        truth = source.sample(derive(seed, 0, index), length=len(question.known), strides=(1,))
        draw = derive(seed, 1, index)
        if given:
            videos = model.complete(Clip(truth, RATE), question.known, samples=samples, seed=draw).frames
        else:
            videos = model.generate(len(truth), samples=samples, seed=draw).frames
        made = {"model": videos}
        if simple:
            made |= {name: guess[None] for name, guess in guesses(truth, question.known).items() if name in simple}
        return Case(f"window {index}", truth, question.known, made, paired=bool(given))

    return Cases(clips, ("model", *simple), make)


def files(real: Path, made: Sequence[Path], *, limit: int = 10_000) -> Cases:
    """The clips of the folder `real`, and in each folder of `made` a sample of every one, under the same name.

    Suffixes may differ. Nothing counts as known. Raises BadInput where names or shapes do not match.
    """
    truths, samples = _clips(real), [_clips(folder) for folder in made]
    for folder, found in zip(made, samples, strict=True):
        missing, extra = sorted(truths.keys() - found.keys()), sorted(found.keys() - truths.keys())
        if missing or extra:
            what = f"lacks {missing[0]}" if missing else f"has {extra[0]} too"
            raise BadInput(
                f"{folder} {what}: {len(missing)} clips of {real} are missing in it and {len(extra)} are extra; "
                "give sets of the same names"
            )
    names = sorted(truths)

    def make(index: int) -> Case:
        name = names[index]
        truth = visible(read_clip(truths[name], limit=limit).frames)
        videos = [visible(read_clip(found[name], limit=limit).frames) for found in samples]
        for video in videos:
            if video.shape != truth.shape:
                raise BadInput(f"{name}: was made as {video.shape} and is {truth.shape} in truth; give the same shape")
        return Case(name, truth, np.zeros(len(truth), bool), {"made": np.stack(videos)})

    return Cases(len(names), ("made",), make)


def _clips(folder: Path) -> dict[str, Path]:
    """Every clip under a folder by its path without suffix: files, and folders of pictures."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; give a folder of clips")
    found: dict[str, Path] = {}
    for path in sources.clips_in(folder):
        name = path.relative_to(folder).with_suffix("" if path.is_file() else path.suffix).as_posix()
        if name in found:
            raise BadInput(f"{folder}: {found[name].name} and {path.name} have one name; remove one of them")
        found[name] = path
    if not found:
        raise BadInput(f"{folder}: holds no clips; framefill reads {sources.READABLE}")
    return found
