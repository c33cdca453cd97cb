"""Two frames carried along their motion to a time between them, and how far each place of the result can be trusted.

With f the motion from the first frame to the last, and g back, there are two guesses of the motion v at time t:

      v(y + t f(y)) = f(y)          v(y + (1 - t) g(y)) = -g(y)

found by iterating x = y + t f(y) for y. Along either, both frames are read where the pixel comes from and goes to:
a(x - t v) and b(x + (1 - t) v). A guess is trusted where f and g undo each other and both readings agree; covered and
uncovered places fail both tests for the guess that is wrong there. All of this works at half the resolution, the
readings at the whole.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framefill.video.between.flow import Floats, flow, grey, opencv

ROUNDS = 3  # of the iteration
UNDONE = 1.0  # pixels of half resolution by which f and g may fail to undo each other, before trust is halved
AGREED = 8 / 255  # of the range from -1 to 1: difference of both readings that halves trust
LEAST = 1e-6
MOST_CHANNELS = 4  # that OpenCV reads at a time


@dataclass(frozen=True, eq=False)
class Guess:
    """One guess: `before` and `after`, the two frames (H, W, C) carried to the time wanted along `motion` (H, W, 2).

    Motion is that from the first frame to the last, in pixels. `trust` (H, W) lies in (0, 1].
    """

    before: Floats
    after: Floats
    motion: Floats
    trust: Floats


@dataclass(frozen=True, eq=False)
class Motion:
    """The motion between two frames of (H, W): `forth` and `back`, (h, w, 2) at half resolution, in its pixels."""

    forth: Floats
    back: Floats

    @classmethod
    def between(cls, first: Floats, last: Floats) -> "Motion":
        """That of two frames (H, W, C) with pixels in [-1, 1]."""
        a, b = grey(first), grey(last)
        return cls(halved(flow(a, b)) / 2, halved(flow(b, a)) / 2)

    def guesses(self, first: Floats, last: Floats, time: float) -> tuple[Guess, Guess]:
        """Both guesses of the frame at `time` in (0, 1) between `first` and `last`, (H, W, C)."""
        small = halved(first), halved(last)
        return (
            _guess(first, last, small, self.forth, self.back, time),
            _mirrored(_guess(last, first, small[::-1], self.back, self.forth, 1 - time)),
        )


def fused(guesses: tuple[Guess, Guess], time: float) -> Floats:
    """The frame (H, W, C) that both guesses make: the nearer frame counts more, and so does the guess that is trusted."""
    one, other = guesses
    share = (one.trust / (one.trust + other.trust))[..., None]
    first, second = (g.before * np.float32(1 - time) + g.after * np.float32(time) for g in guesses)
    return second + share * (first - second)


def seen(first: Floats, last: Floats, guesses: tuple[Guess, Guess], time: float) -> Floats:
    """All of it for a network, (6C + 7, H, W): see `nets.repair.Seen`."""
    one, other = guesses
    clock = np.full((*first.shape[:2], 1), time, np.float32)
    parts = (
        first, last, one.before, one.after, other.before, other.after, one.motion, other.motion, one.trust[..., None],
        other.trust[..., None], clock,
    )  # fmt: skip
    return np.ascontiguousarray(np.concatenate(parts, -1).transpose(2, 0, 1))


def read(x: Floats, place: Floats) -> Floats:
    """`x` (H, W, C) read at `place` (h, w, 2), x then y, in its pixels; linear, and the border repeats."""
    cv2 = opencv()
    parts = [
        cv2.remap(x[..., i : i + MOST_CHANNELS], place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for i in range(0, x.shape[-1], MOST_CHANNELS)
    ]
    return np.concatenate([part.reshape(*place.shape[:2], -1) for part in parts], -1) if len(parts) > 1 else (
        parts[0].reshape(*place.shape[:2], -1)
    )


def halved(x: Floats) -> Floats:
    """`x` (H, W, C) at half the resolution, rounded up."""
    return _resized(x, ((x.shape[0] + 1) // 2, (x.shape[1] + 1) // 2))


# ---- how -----------------------------------------------------------------------------------------------------------


def _guess(
    first: Floats, last: Floats, small: tuple[Floats, ...], forth: Floats, back: Floats, time: float
) -> Guess:
    """The guess that starts from the motion of the first frame."""
    grid = places(forth.shape[:2])
    undone = np.square(forth + read(back, grid + forth)).sum(-1, keepdims=True)
    shift = -time * forth
    for _ in range(ROUNDS - 1):
        shift = -time * read(forth, grid + shift)
    rest = read(undone, grid + shift)[..., 0]
    motion = shift / -time
    apart = np.abs(read(small[0], grid + shift) - read(small[1], grid + (1 - time) * motion)).mean(-1)
    apart = opencv().blur(apart, (3, 3))
    trust = 1 / ((1 + rest / UNDONE**2) * (1 + (apart / (2 * AGREED)) ** 2)) + LEAST
    size = first.shape[:2]
    whole, grid = 2 * _resized(motion, size), places(size)
    return Guess(
        read(first, grid - np.float32(time) * whole),
        read(last, grid + np.float32(1 - time) * whole),
        whole,
        _resized(trust.astype(np.float32), size),
    )


def _mirrored(guess: Guess) -> Guess:
    """The guess made with time running backwards, told forwards."""
    return Guess(guess.after, guess.before, -guess.motion, guess.trust)


def places(size: tuple[int, ...]) -> Floats:
    """The place (H, W, 2) of every pixel, x then y."""
    return np.dstack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in size[::-1])))


def _resized(x: Floats, size: tuple[int, ...]) -> Floats:
    cv2 = opencv()
    way = cv2.INTER_AREA if size < x.shape[:2] else cv2.INTER_LINEAR
    made = [
        cv2.resize(x[..., i : i + MOST_CHANNELS] if x.ndim == 3 else x, size[::-1], interpolation=way)
        for i in range(0, x.shape[-1] if x.ndim == 3 else 1, MOST_CHANNELS)
    ]
    return np.concatenate([m.reshape(*size, -1) for m in made], -1) if x.ndim == 3 else made[0]
