"""`Interpolator`: more frames between those there are. Verbs, no mathematics."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from framefill.errors import BadInput
from framefill.video.between.cuts import Cuts, OneShot
from framefill.video.between.engine import Drawing, Frame, Known, Shown
from framefill.video.between.policies import Hold
from framefill.video.between.repeats import Repeats, kept
from framefill.video.between.tier import Between, Fast
from framefill.video.between.timeline import Timeline
from framefill.video.between.timeline import times as divided
from framefill.video.clip import Clip
from framefill.video.clock import Clock
from framefill.video.filled import Filled


@dataclass(frozen=True)
class Interpolator:
    """What fills the gaps (`maker`), what is shown where a shot ends (`at_cut`), how shots are found (`cuts`), and what
    becomes of frames that repeat the one before (`repeats`).

    Frames keep their size, depth and channels, of which there may be any number. Same seed, same frames.
    """

    maker: Between
    at_cut: Between = field(default_factory=Hold)
    cuts: Cuts = field(default_factory=OneShot)
    repeats: Repeats = kept
    device: str = "cpu"
    card: Any = None

    @classmethod
    def fast(cls, device: str = "cpu") -> "Interpolator":
        """What motion alone gives, without a network. Others: `Interpolator(framefill.load("balanced"))`."""
        return cls(Fast(), device=device)

    def interpolate(self, clip: Clip, times: int = 2, *, samples: int = 1, seed: int = 0) -> Filled:
        """The clip at `times` its frame rate: times - 1 new frames between every two."""
        if times < 2 or len(clip) < 2:
            raise BadInput(
                f"interpolation needs times >= 2 and a clip of 2 frames or more, got {times} and {len(clip)}"
            )
        shown = self.stream(clip.frames, divided(Clock(clip.fps), times), samples=samples, seed=seed, hold=False)
        frames, known = zip(*((one.pixels(), one.given) for one in shown), strict=True)
        return Filled(np.stack(frames, 1), np.array(known), clip.fps * times)

    def stream(
        self, frames: Iterable[Frame], timeline: Timeline, *, samples: int = 1, seed: int = 0, hold: bool = True
    ) -> Iterator[Shown]:
        """All frames of `timeline` from known `frames` (H, W, C), uint8 or uint16, in constant memory.

        The last frame stays as long as it is shown, as in a film; without `hold` nothing comes after it.
        """
        if samples < 1:
            raise BadInput(f"samples must be at least 1, got {samples}")
        drawing = Drawing(self.maker, self.at_cut, samples, seed, self.device)
        marked = enumerate(self.cuts(frames))
        known = (Known(pixels, timeline.gap(number), begins) for number, (pixels, begins) in marked)
        return drawing.stream(self.repeats(known, timeline.clock), hold=hold)
