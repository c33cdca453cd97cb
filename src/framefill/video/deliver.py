"""Results as files: every sample as a video, the spread as another, and the previews that people look at first."""

import os
from array import array
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.atomic import replacing
from framefill.errors import BadInput, MediaError
from framefill.metrics.image import mean_colour, sharpness
from framefill.video.clip import visible
from framefill.video.files import Plan, Writer
from framefill.video.filled import Filled, drift
from framefill.video.sheet import contact_sheet, heat, side_by_side

Frames = NDArray[np.uint8]
VIDEO = (".mp4", ".mov", ".mkv", ".webm", ".gif", ".npy", ".h5")
PICTURES = ".png"
SHOWN = 240  # frames of a preview: enough to judge, whatever the length of the video
LONGEST = 200  # bytes of a name: file systems take 255, and unfinished files have longer names
COLUMNS = 24  # frames of a contact sheet
BRIGHTEST = 64.0  # levels of spread that are shown brightest


@dataclass(frozen=True)
class Target:
    """Where results go: `folder`, the `stem` of every name, the `suffix` of the videos (none: numbered pictures)."""

    folder: Path
    stem: str
    suffix: str = ".mp4"

    @classmethod
    def named(cls, output: Path | None, default: str) -> "Target":
        """From what the user said: nothing, a file name with a video suffix, or a folder."""
        if output is None:
            return cls(Path(), default)
        if output.suffix.lower() in (*VIDEO, PICTURES):
            return cls(output.parent, output.stem, "" if output.suffix.lower() == PICTURES else output.suffix)
        if output.suffix and not output.is_dir():
            raise BadInput(
                f"cannot write {output}: its suffix must be one of {', '.join(VIDEO)}, {PICTURES} for "
                "a folder of numbered pictures, or none for a folder"
            )
        return cls(output, default)

    def video(self, sample: int, samples: int) -> Path:
        """The file of one sample."""
        return self.folder / (self.stem + (f"-{sample + 1}" if samples > 1 else "") + self.suffix)

    def beside(self, what: str) -> Path:
        """A file beside the videos: "sheet.png", "preview.gif", "spread.mp4"."""
        return self.folder / f"{self.stem}-{what}"

    def files(self, samples: int) -> list[Path]:
        """All that may be written: the files of the samples, and what is beside them."""
        beside = [self.beside(what) for what in ("sheet.png", "preview.gif", "spread.mp4")]
        return [self.video(i, samples) for i in range(samples)] + beside

    @property
    def last(self) -> Path:
        """What is written last: where it is, all results are."""
        return self.beside("sheet.png")

    def check(self, samples: int, *, overwrite: bool) -> None:
        """Refuses to start if a result is already there, or the folder cannot be made."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MediaError(
                f"cannot write to {self.folder}: {error.strerror}; choose another place with -o"
            ) from error
        paths = self.files(samples)
        if max(len(os.fsencode(p.name)) for p in paths) > LONGEST:
            raise MediaError(f"{self.stem}: is too long for the names of results; give a short one with -o NAME.mp4")
        there = [p for p in paths if p.exists()]
        if there and not overwrite:
            raise MediaError(f"{there[0]} exists; use --overwrite, or another name with -o")


def deliver(
    frames: Iterable[tuple[Frames, bool]],
    target: Target,
    plan: Plan,
    *,
    samples: int,
    keep: int | None = None,
    overwrite: bool = False,
    each: Callable[[], None] = lambda: None,
    times: Iterable[Fraction | None] = repeat(None),
) -> dict[str, Any]:
    """Writes frames as they come: (N, H, W, C) and whether they were given; memory does not grow with length.

    `keep` writes only that many samples, the most different ones; `times` are the seconds at which frames are shown,
    for a plan with a `base`. Returns what was written: "videos", "sheet", "preview", "spread" (with 2 samples or more),
    "drift", "frames", "copied" and "left_out" (sound and subtitles).
    """
    target.check(samples, overwrite=overwrite)
    shown: list[Frames] = []
    known = bytearray()
    colours, crisp = array("f"), array("f")  # a number per frame and sample: the only things that grow
    spread = target.beside("spread.mp4") if samples > 1 else None
    kept = list(range(samples))
    with ExitStack() as stack:
        writers = [
            stack.enter_context(Writer(target.video(i, samples), plan, overwrite=overwrite)) for i in range(samples)
        ]
        like = Plan(plan.fps, plan.base)
        heats = stack.enter_context(Writer(spread, like, overwrite=overwrite)) if spread else None
        for (deep, given), time in zip(frames, times):  # noqa: B905 the times do not end
            for writer, picture in zip(writers, deep, strict=True):
                writer.write(picture, time)
            frame = visible(deep)
            if heats:
                heats.write(heat(frame.std(axis=0, ddof=1).mean(axis=-1)[None], top=BRIGHTEST)[0], time)
            if len(shown) < SHOWN:
                shown.append(frame)
            known.append(given)
            colours.extend(mean_colour(frame).ravel())
            crisp.extend(sharpness(frame))
            each()
        flags = np.frombuffer(known, bool)
        filled = Filled(np.stack(shown, 1), flags[:SHOWN], plan.fps)
        if keep and keep < samples:
            kept = sorted(filled.most_different(keep))
            for i in set(range(samples)) - set(kept):
                writers[i].discard()
        aboard = writers[0].passengers
    preview, sheet = previews(filled, kept, target)
    return {
        "videos": [str(target.video(i, samples)) for i in kept],
        "preview": str(preview),
        "sheet": str(sheet),
        "spread": str(spread) if spread else None,
        "frames": len(known),
        "made": int((~flags).sum()),
        "copied": aboard.taken if aboard else [],
        "left_out": aboard.left if aboard else [],
        "drift": drift(_over_time(colours, samples, len(known)), _over_time(crisp, samples, len(known))[..., 0], flags),
    }


def _over_time(numbers: "array[float]", samples: int, frames: int) -> NDArray[np.float64]:
    """(N, T, numbers of a frame) from what was noted frame by frame."""
    return np.array(numbers).reshape(frames, samples, -1).swapaxes(0, 1)


def previews(filled: Filled, kept: list[int], target: Target, *, top: float = BRIGHTEST) -> tuple[Path, Path]:
    """An animation and a contact sheet of up to four samples and their spread; returns where they are.

    A spread of `top` levels is shown brightest.
    """
    rows = [(f"sample {i + 1}" if len(filled.frames) > 1 else "result", filled.frames[i]) for i in kept[:4]]
    marks: list[Any] = [filled.known] * len(rows)
    if len(filled.frames) > 1:
        rows.append((f"spread, 0-{top:g}", heat(filled.spread(), top=top)))
        marks.append(None)
    preview, sheet = target.beside("preview.gif"), target.last
    animation = side_by_side(rows, known=marks)
    with Writer(preview, min(filled.fps, Fraction(25)), overwrite=True) as gif:
        for picture in animation:
            gif.write(picture)
    T = len(filled.known)
    columns = np.unique(np.linspace(0, T - 1, min(T, COLUMNS)).round().astype(int))
    picked = [(label, frames[columns]) for label, frames in rows]
    picture = contact_sheet(picked, known=[m if m is None else m[columns] for m in marks], numbers=columns.tolist())
    with replacing(sheet) as part:
        picture.save(part, format="png")
    return preview, sheet
