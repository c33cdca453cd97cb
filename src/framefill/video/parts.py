"""A long result made in parts, so that an interrupted job goes on where it was and gives the same bytes.

Every part is `LENGTH` frames, a finished file of each result in a hidden folder beside the target: of a film a film
that needs no other part, else an array. Whatever interrupts the work costs the part that was under way. At the end the
parts are joined, films packet for packet and the rest frame by frame, and the folder goes. A part that is there is not
made again, and as pixels are made only when they are asked for, it costs next to nothing.
"""

import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from framefill.errors import BadInput, NotWritten
from framefill.video.between.engine import Shown
from framefill.video.clip import visible
from framefill.video.colour import on_screen
from framefill.video.deliver import SHOWN, Target, previews
from framefill.video.files import Writer, read, writing
from framefill.video.filled import Filled
from framefill.video.joining import join
from framefill.video.journal import lock
from framefill.video.passengers import Passengers
from framefill.video.sheet import heat
from framefill.video.sinks import USUAL, Plan, is_film
from framefill.video.tags import Tags

LENGTH = 60  # frames of a part: seconds to minutes of work, and a film may begin anew so often
SMALL = 320  # pixels of the longer side of a preview
BRIGHTEST = 8.0  # levels of spread that are shown brightest: drawings between two known frames differ little

Frames = NDArray[Any]
"""uint8 or uint16 (N, H, W, C), one frame of every sample."""


@dataclass(frozen=True)
class Strand:
    """One file of the result: its `name`, where it goes (`goal`), how it is written, and what it shows of a frame."""

    name: str
    goal: Path | None
    plan: Plan
    view: Callable[[Frames], NDArray[Any]]

    @property
    def film(self) -> bool:
        """Whether its parts are films."""
        return self.goal is not None and is_film(self.goal.suffix)

    def part(self, folder: Path, number: int) -> Path:
        """The file of a part."""
        suffix = (".mkv" if self.plan.codec == "ffv1" else ".mp4") if self.film else ".npy"
        return folder / f"{number:06d}-{self.name}{suffix}"

    def writer(self, folder: Path, number: int) -> Writer:
        """Writes a part, which begins at zero."""
        codec = self.plan.codec or (USUAL[self.goal.suffix.lower()] if self.film and self.goal else "")
        bits = self.plan.bits if self.film or self.plan.bits == 8 else 16
        plan = replace(self.plan, codec=codec if self.film else "", bits=bits, carry=None)
        return Writer(self.part(folder, number), plan, overwrite=True)


@dataclass
class Parts:
    """The parts of one result in `folder`, of `samples` samples; `found` counts those that were there already."""

    folder: Path
    target: Target
    plan: Plan
    samples: int
    found: int = 0
    ticks: array = field(default_factory=lambda: array("q"))  # a number per frame, and a byte: all that grows
    known: bytearray = field(default_factory=bytearray)

    def make(self, frames: Iterable[Shown], each: Callable[[], None]) -> None:
        """Writes all parts that are not there; after each frame `each()` is called."""
        rest = iter(frames)
        for number, first in enumerate(rest):
            self._make(number, chain([first], islice(rest, LENGTH - 1)), each)

    def finish(self, end: Fraction) -> dict[str, Any]:
        """Joins the parts to a result that ends at `end` seconds; says what was written."""
        self.ticks.append(self._tick(end))
        aboard = [self._join(strand) for strand in self._strands() if strand.goal]
        small = [self._small(strand) for strand in self._strands(0) if strand.goal is None]
        flags = np.frombuffer(self.known, bool)
        filled = Filled(np.stack(small), flags[:SHOWN], self.plan.fps)
        preview, sheet = previews(filled, list(range(len(small))), self.target, top=BRIGHTEST)
        return {
            "videos": [str(self.target.video(i, self.samples)) for i in range(self.samples)],
            "preview": str(preview),
            "sheet": str(sheet),
            "spread": str(self.target.beside("spread.mp4")) if self.samples > 1 else None,
            "frames": len(flags),
            "made": int((~flags).sum()),
            "copied": aboard[0].taken if aboard[0] else [],
            "left_out": aboard[0].left if aboard[0] else [],
        }

    def _make(self, number: int, frames: Iterable[Shown], each: Callable[[], None]) -> None:
        strands = self._strands(number)
        there = all(strand.part(self.folder, number).exists() for strand in strands)
        self.found += there
        begin: Fraction | None = None
        with self._named(strands, number), ExitStack() as stack:
            writers = [] if there else [stack.enter_context(s.writer(self.folder, number)) for s in strands]
            for shown in frames:
                begin = shown.time if begin is None else begin
                self.ticks.append(self._tick(shown.time))
                self.known.append(shown.given)
                pixels = shown.pixels() if writers else None
                for strand, writer in zip(strands, writers):  # noqa: B905 no writers where the part is there
                    writer.write(strand.view(pixels), shown.time - begin)  # type: ignore[arg-type]
                each()

    @contextmanager
    def _named(self, strands: list[Strand], number: int) -> Iterator[None]:
        """A with-block in which what cannot be written is named as the result, not as its hidden part."""
        try:
            yield
        except NotWritten as error:
            text = str(error)
            for strand in strands:
                text = text.replace(
                    str(strand.part(self.folder, number)), str(strand.goal or self.target.video(0, self.samples))
                )
            raise NotWritten(text) from error

    def _strands(self, number: int = -1) -> list[Strand]:
        """The files of a part; the first ones have small pictures for the previews."""
        kinds = [
            Strand(str(i + 1), self.target.video(i, self.samples), self.plan, partial(_sample, i))
            for i in range(self.samples)
        ]
        plain = Plan(self.plan.fps, self.plan.base)
        if self.samples > 1:
            kinds.append(Strand("spread", self.target.beside("spread.mp4"), plain, _spread))
        if 0 <= number < -(-SHOWN // LENGTH):
            views = [partial(_small, i, self.plan.tags) for i in range(min(self.samples, 4))]
            kinds += [Strand(f"small-{i}", None, plain, view) for i, view in enumerate(views, 1)]
        return kinds

    def _files(self, strand: Strand) -> list[Path]:
        count = -(-len(self.known) // LENGTH)
        return [strand.part(self.folder, number) for number in range(count)]

    def _tick(self, time: Fraction) -> int:
        return round(time / (self.plan.base or 1 / self.plan.fps))

    def _join(self, strand: Strand) -> Passengers | None:
        goal = strand.goal
        assert goal is not None
        parts = self._files(strand)
        if strand.film:
            whole = self.folder / f"whole{goal.suffix}"
            with writing(goal):
                aboard = join(parts, whole, strand.plan, np.array(self.ticks))
                os.replace(whole, goal)
            return aboard
        pixels = chain.from_iterable(read(part, deep=strand.plan.bits > 8) for part in parts)
        with Writer(goal, strand.plan, overwrite=True) as writer:
            for frame in pixels:
                writer.write(frame)
        return None

    def _small(self, strand: Strand) -> NDArray[np.uint8]:
        parts = self._files(strand)[: -(-SHOWN // LENGTH)]
        return np.concatenate([np.load(part, allow_pickle=False) for part in parts])


@contextmanager
def kept(folder: Path) -> Iterator[Path]:
    """A with-block in which `folder` is this process's own; it is gone afterwards, and if the input was bad.

    It stays when the work is interrupted or cannot be written. Raises BadInput if another process has it.
    """
    with writing(folder.parent):
        folder.mkdir(exist_ok=True)
        file = (folder / "lock").open("ab")
    with file:
        lock(file, folder)
        try:
            yield folder
        except NotWritten:
            raise
        except BadInput:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _sample(index: int, pixels: Frames) -> NDArray[Any]:
    return pixels[index]


def _spread(pixels: Frames) -> NDArray[np.uint8]:
    return heat(visible(pixels).std(axis=0, ddof=1).mean(axis=-1)[None], top=BRIGHTEST)[0]


def _small(index: int, tags: Tags, pixels: Frames) -> NDArray[np.uint8]:
    frame = visible(pixels[index])
    factor = -(-max(frame.shape[:2]) // SMALL)
    if factor > 1:
        picture = Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else np.ascontiguousarray(frame)).reduce(factor)
        frame = np.asarray(picture).reshape(picture.height, picture.width, -1)
    return on_screen(frame, tags)
