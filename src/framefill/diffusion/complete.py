"""Completion of sequences: which frames are known decides the task, one window model does them all.

A window model draws `current` frames, given any known frames among its `past + current + future` neighbours. Completing
a sequence of any length is a rollout: windows are laid over it in some order, each sees what is known or already
drawn, and fills the rest of its current frames (thesis 001, sections 7.2.1 to 7.2.3 and figure 7.2).

The order is pure bookkeeping on one row of booleans and knows nothing of images, networks or noise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput

Order = Callable[["Window", Sequence[bool]], Iterator["Placement"]]
Draw = Callable[[Tensor, Tensor, Rng], Tensor]
"""(frames (B, length, ...), known (B, length) bool, rng) to current frames (B, current, ...)."""


@dataclass(frozen=True)
class Window:
    """How many frames a model sees before (`past`) and after (`future`) the `current` ones that it draws."""

    past: int
    current: int
    future: int

    def __post_init__(self) -> None:
        if self.current < 1 or self.past < 0 or self.future < 0:
            raise BadInput(f"a window needs current >= 1, past >= 0 and future >= 0, got {self}")

    @property
    def length(self) -> int:
        """All frames of the window."""
        return self.past + self.current + self.future

    @property
    def drawn(self) -> slice:
        """Where the current frames lie in the window."""
        return slice(self.past, self.past + self.current)


@dataclass(frozen=True)
class Placement:
    """A window laid on a sequence: its first current frame falls on `start`, neighbours are `stride` frames apart."""

    start: int
    stride: int = 1

    def frames(self, window: Window) -> list[int]:
        """The sequence index of every frame of the window; may lie outside the sequence."""
        return [self.start + self.stride * (i - window.past) for i in range(window.length)]


def blockwise(window: Window, known: Sequence[bool]) -> Iterator[Placement]:
    """Every gap from its known side inwards: forwards after known frames, backwards before them (figure 7.2)."""
    return _blocks(window, list(known))


def hierarchical(window: Window, known: Sequence[bool], *, stride: int = 2) -> Iterator[Placement]:
    """Every `stride`-th unknown frame first, as one coarse sequence; then the frames between, which see both sides.

    The thesis proposes this (section 7.6.1): far-apart frames are drawn together, so a long clip drifts less. A model
    must have been trained on frames that far apart (its recipe's `strides`).
    """
    if stride < 1:
        raise BadInput(f"a hierarchy needs stride >= 1, got {stride}")
    known = list(known)
    phase = _phase(known, stride)
    coarse = known[phase::stride]
    for place in _blocks(window, coarse):
        yield Placement(phase + place.start * stride, stride)
    known[phase::stride] = [True] * len(known[phase::stride])
    yield from _blocks(window, known)


def _phase(known: list[bool], stride: int) -> int:
    """The coarse grid passes through the last known frame before a gap, or else the first one after it."""
    pairs = list(pairwise(known))
    if (True, False) in pairs:
        return pairs.index((True, False)) % stride
    return (pairs.index((False, True)) + 1) % stride if (False, True) in pairs else 0


def _blocks(window: Window, known: list[bool]) -> Iterator[Placement]:
    known = list(known)
    while not all(known):
        first = known.index(False)
        end = next((i for i in range(first, len(known)) if known[i]), len(known))
        backwards = first == 0 and end < len(known)
        start = max(end - window.current, 0) if backwards else first
        yield Placement(start)
        known[start : start + window.current] = [True] * len(known[start : start + window.current])


def blend(frames: Tensor, known: Tensor) -> Tensor:
    """The simplest completion of frames (B, T, ...): linear in time between the nearest known frames, else hold.

    `known` is (B, T) bool. Where nothing is known the guess is zero; known frames come back as they are.
    """
    T = frames.shape[1]
    place = torch.arange(T, device=frames.device).expand_as(known)
    before = torch.where(known, place, -1).cummax(1).values
    after = torch.where(known, place, T).flip(1).cummin(1).values.flip(1)
    none = (before < 0) & (after >= T)
    # With one side only, that side is both neighbours.
    first = torch.where(before < 0, after, before).clamp(max=T - 1)
    last = torch.where(after >= T, first, after)
    share = (place - first).to(frames.dtype) / (last - first).clamp(min=1)
    rows = torch.arange(len(frames), device=frames.device)[:, None]
    extra = [1] * (frames.ndim - 2)
    guess = torch.lerp(frames[rows, first], frames[rows, last], share.to(frames.dtype).reshape(*share.shape, *extra))
    return guess.masked_fill(none.reshape(*none.shape, *extra), 0.0)


def lay(frames: Tensor, known: Tensor, place: Placement, window: Window) -> tuple[Tensor, Tensor]:
    """The window's view (B, length, ...) of a sequence (B, T, ...) and what is known of it; outside is unknown."""
    T = frames.shape[1]
    index = torch.tensor(place.frames(window), device=frames.device)
    inside = (index >= 0) & (index < T)
    clamped = index.clamp(0, T - 1)
    outside = ~inside.reshape(-1, *[1] * (frames.ndim - 2))
    return frames[:, clamped].masked_fill(outside, 0.0), known[:, clamped] & inside


def complete(
    draw: Draw, frames: Tensor, known: Tensor, window: Window, rng: Rng, *, order: Order = blockwise
) -> Iterator[Tensor]:
    """Fills the unknown frames of `frames` (B, T, ...) where `known` (B, T) is False; yields after every window.

    Samples with the same pattern go together; known frames come back untouched. The last tensor yielded is complete;
    if nothing is unknown, the input is yielded once.
    """
    if known.shape != frames.shape[:2]:
        raise BadInput(f"known must have shape {tuple(frames.shape[:2])}, got {tuple(known.shape)}")
    frames = frames.masked_fill(~known.reshape(*known.shape, *[1] * (frames.ndim - 2)), 0.0)
    yield frames
    for pattern in known.unique(dim=0) if known.numel() else []:
        rows = (known == pattern).all(1).nonzero()[:, 0]
        part, filled, streams = frames[rows], known[rows].clone(), rng.pick(rows.tolist())
        for place in order(window, pattern.tolist()):
            drawn = draw(*lay(part, filled, place, window), streams)
            part, filled = _accept(part, filled, drawn, place, window)
            frames = frames.index_copy(0, rows, part)
            yield frames


def _accept(frames: Tensor, filled: Tensor, drawn: Tensor, place: Placement, window: Window) -> tuple[Tensor, Tensor]:
    frames, filled = frames.clone(), filled.clone()
    for i, t in enumerate(place.frames(window)[window.drawn]):
        if 0 <= t < frames.shape[1] and not bool(filled[0, t]):
            frames[:, t] = drawn[:, i]
            filled[:, t] = True
    return frames, filled


def stream(draw: Draw, frames: Iterator[Tensor | None], window: Window, rng: Rng) -> Iterator[tuple[Tensor, bool]]:
    """`complete` in blockwise order for sequences of any length, holding no more than two windows of frames.

    Takes frames (B, ...) or None for unknown ones, the first of them a frame; yields every frame in order with whether
    it was given. Equal to `complete` as long as no gap comes before the first known frame.
    """
    behind: list[Tensor] = []
    ahead: list[tuple[Tensor | None, bool]] = []
    example, begun = None, False
    while True:
        for frame in frames:
            example = frame if example is None else example
            ahead.append((frame, frame is not None))
            if len(ahead) >= window.current + window.future:
                break
        if not ahead:
            return
        if ahead[0][0] is None:
            if example is None or not begun:
                raise BadInput("a stream must begin with a known frame; give one, or use complete for past prediction")
            ahead = _fill_ahead(draw, behind, ahead, window, rng, example)
        frame, given = ahead.pop(0)
        assert frame is not None
        begun = True
        behind = [*behind, frame][-window.past :] if window.past else []
        yield frame, given


def _fill_ahead(
    draw: Draw,
    behind: list[Tensor],
    ahead: list[tuple[Tensor | None, bool]],
    window: Window,
    rng: Rng,
    example: Tensor,
) -> list[tuple[Tensor | None, bool]]:
    """Draws the window whose current frames begin at ahead[0], and keeps what was unknown there."""
    before: list[Tensor | None] = [None] * (window.past - len(behind)) + list(behind)
    shown = before + [frame for frame, _ in ahead]
    shown += [None] * (window.length - len(shown))
    known = torch.tensor([frame is not None for frame in shown], device=example.device)
    stacked = torch.stack([torch.zeros_like(example) if frame is None else frame for frame in shown], 1)
    drawn = draw(stacked, known.expand(len(example), -1), rng)
    current = [
        (drawn[:, i], given) if frame is None else (frame, given)
        for i, (frame, given) in enumerate(ahead[: window.current])
    ]
    return [*current, *ahead[window.current :]]
