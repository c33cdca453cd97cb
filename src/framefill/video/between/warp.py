"""Two frames carried along their motion to a time between them, and how far each place of the result can be trusted.

With f the motion from the first frame to the last, and g back, there are two guesses of the motion v at time t:

      v(y + t f(y)) = f(y)          v(y + (1 - t) g(y)) = -g(y)

found by iterating x = y + t f(y) for y. Along either, both frames are read where the pixel comes from and goes to:
a(x - t v) and b(x + (1 - t) v). A guess is trusted where f and g undo each other and both readings agree; covered and
uncovered places fail both tests for the guess that is wrong there. All of this works at half the resolution, the
readings at the whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from framefill.video.between.flow import Floats, flow, grey, opencv

ROUNDS = 3  # of the iteration
UNDONE = 1.0  # pixels of half resolution by which f and g may fail to undo each other, before trust is halved
AGREED = 8.0  # grey levels by which both readings may differ, before trust is halved
LEAST = 1e-6
MOST_CHANNELS = 4  # that OpenCV reads at a time


@dataclass(frozen=True, eq=False)
class Guess:
    """One guess: `before` and `after`, the two frames (H, W, C) carried to the time wanted.

    At half the resolution: `motion` (h, w, 2), from the first frame to the last in pixels of that resolution, and
    `trust` (h, w) in (0, 1].
    """

    before: Floats
    after: Floats
    motion: Floats
    trust: Floats


@dataclass(frozen=True, eq=False)
class Motion:
    """The motion between the frames `first` and `last` (H, W, C), pixels in [-1, 1].

    At half the resolution: `forth` and `back`, (h, w, 2) in its pixels, and `light`, their grey levels, 0 to 255.
    """

    first: Floats
    last: Floats
    forth: Floats
    back: Floats
    light: tuple[Floats, Floats]

    @classmethod
    def between(cls, first: Floats, last: Floats) -> "Motion":
        """That of two frames."""
        a, b = grey(first), grey(last)
        light = halved(a.astype(np.float32)), halved(b.astype(np.float32))
        half = np.float32(0.5)
        return cls(first, last, half * halved(flow(a, b)), half * halved(flow(b, a)), light)

    def guesses(self, time: float) -> tuple[Guess, Guess]:
        """Both guesses of the frame at `time` in (0, 1)."""
        turned = Motion(self.last, self.first, self.back, self.forth, self.light[::-1])._guess(1 - time)
        return self._guess(time), Guess(turned.after, turned.before, -turned.motion, turned.trust)

    def _guess(self, time: float) -> Guess:
        """The guess that starts from the motion of the first frame."""
        grid = places(self.forth.shape[:2])
        undone = self.forth + read(self.back, grid + self.forth)
        shift = -time * self.forth
        for _ in range(ROUNDS - 1):
            shift = -time * read(self.forth, grid + shift)
        motion = shift / -time
        rest = read(undone, grid + shift)
        apart = read(self.light[0], grid + shift) - read(self.light[1], grid + (1 - time) * motion)
        apart = opencv().blur(np.abs(apart), (3, 3))
        far = (rest[..., 0] ** 2 + rest[..., 1] ** 2) / UNDONE**2
        trust = 1 / ((1 + far) * (1 + (apart / AGREED) ** 2)) + LEAST
        return Guess(*_carried(self.first, self.last, motion, time), motion, trust)


def fused(guesses: tuple[Guess, Guess], time: float) -> Floats:
    """The frame (H, W, C) that both guesses make: a nearer frame counts more, and so does a guess that is trusted."""
    cv2 = opencv()
    one, other = (cv2.addWeighted(guess.before, 1 - time, guess.after, time, 0) for guess in guesses)
    size = guesses[0].before.shape
    share = resized(guesses[0].trust / (guesses[0].trust + guesses[1].trust), size[:2])
    made: Floats = cv2.blendLinear(one, other, share, 1 - share)
    return made.reshape(size)


def seen(motion: Motion, guesses: tuple[Guess, Guess], time: float) -> tuple[Floats, Floats]:
    """What a network sees, channels first: (3C, H, W) and, at half the resolution, (4C + 7, h, w).

    The first and the last frame and what is `fused`; both frames halved and carried along the first guess, then along
    the second, both motions, both trusts, and the time.
    """
    whole = (motion.first, motion.last, fused(guesses, time))
    small = halved(motion.first), halved(motion.last)
    carried = [frame for guess in guesses for frame in _carried(*small, guess.motion, time)]
    motions, trusts = [guess.motion for guess in guesses], [guess.trust for guess in guesses]
    clock = np.full_like(trusts[0], time)
    return _channels_first(whole), _channels_first((*carried, *motions, *trusts, clock))


def read(x: Floats, place: Floats) -> Floats:
    """`x` (H, W, C) or (H, W) read at `place` (h, w, 2), x then y, in its pixels; linear, and the border repeats."""
    cv2 = opencv()
    return _by_four(x, lambda part: cv2.remap(part, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def halved(x: Floats) -> Floats:
    """`x` (H, W, C) or (H, W) at half the resolution, rounded up."""
    return resized(x, ((x.shape[0] + 1) // 2, (x.shape[1] + 1) // 2))


@lru_cache(4)
def places(size: tuple[int, ...]) -> Floats:
    """The place (H, W, 2) of every pixel, x then y; not to be written to."""
    return np.dstack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in size[::-1])))


def resized(x: Floats, size: tuple[int, ...]) -> Floats:
    """`x` (h, w, C) or (h, w) at another size (H, W): areas are averaged where it is smaller, else it is linear."""
    cv2 = opencv()
    way = cv2.INTER_AREA if size < x.shape[:2] else cv2.INTER_LINEAR
    return _by_four(x, lambda part: cv2.resize(part, size[::-1], interpolation=way))


# ---- how -----------------------------------------------------------------------------------------------------------


def _carried(first: Floats, last: Floats, motion: Floats, time: float) -> tuple[Floats, Floats]:
    """Both frames (H, W, C), read where `motion`, of half resolution, comes from and goes to."""
    size = first.shape[:2]
    scale = 1 if motion.shape[:2] == size else 2
    moved = resized(motion, size)
    return (
        read(first, places(size) - np.float32(time * scale) * moved),
        read(last, places(size) + np.float32((1 - time) * scale) * moved),
    )


def _channels_first(parts: Sequence[Floats]) -> Floats:
    made = np.empty((sum(1 if x.ndim == 2 else x.shape[-1] for x in parts), *parts[0].shape[:2]), np.float32)
    place = 0
    for part in parts:
        planes = part[None] if part.ndim == 2 else part.transpose(2, 0, 1)
        made[place : place + len(planes)] = planes
        place += len(planes)
    return made


def _by_four(x: Floats, work: Callable[[Floats], Floats]) -> Floats:
    """`work` done on (H, W), or on four channels of (H, W, C) at a time."""
    if x.ndim == 2:
        return work(x)
    parts = [work(x[..., i : i + MOST_CHANNELS]) for i in range(0, x.shape[-1], MOST_CHANNELS)]
    whole = [part if part.ndim == 3 else part[..., None] for part in parts]
    return whole[0] if len(whole) == 1 else np.concatenate(whole, -1)
