"""Where one shot ends and the next begins, and which frames only repeat the one before."""

from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image


def cuts(frames: Iterable[np.ndarray]) -> list[int]:
    """Numbers of the frames, each uint8 (H, W, C), that begin a new shot, in order; the first frame is none.

    The step between two frames is the mean difference of their small grey pictures plus that of their sorted levels
    (the Wasserstein distance of their histograms). A cut is a step of 10 grey levels or more that is over 2.5 times
    each of the two before and the two after: motion, flashes and flicker make several large steps in a row. Fades,
    and shots of one or two frames, are not found.
    """
    steps = np.array(list(_steps(frames)))
    around = np.pad(steps, 2)
    nearby = np.max([around[shift : shift + len(steps)] for shift in (0, 1, 3, 4)], axis=0)
    return [int(step) + 1 for step in np.flatnonzero((steps >= 10) & (steps > 2.5 * nearby))]


def distinct(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, each uint8 (H, W, C), without those that repeat the last one kept.

    A repeat differs by less than 0.3 grey levels on average, and by less than 12 at any place: a small thing
    that moves over a still ground changes the mean hardly at all.
    """
    kept: np.ndarray | None = None
    for frame in frames:
        if kept is None or not repeats(frame, kept):
            kept = frame
            yield frame


def repeats(frame: np.ndarray, kept: np.ndarray) -> bool:
    """Whether `frame` repeats `kept`, both uint8 or uint16 (H, W, C), but for the noise of a codec: see `distinct`."""
    change = np.abs(np.subtract(frame, kept, dtype=np.int32)) / (257 if frame.dtype == np.uint16 else 1)
    return bool(change.mean() < 0.3 and change.max() < 12)


def _steps(frames: Iterable[np.ndarray]) -> Iterator[float]:
    before: np.ndarray | None = None
    for frame in frames:
        small = _thumbnail(frame)
        if before is not None:
            yield float(np.abs(small - before).mean() + np.abs(np.sort(small) - np.sort(before)).mean())
        before = small


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame).convert("L")
    return np.asarray(picture.resize((32, 32), Image.Resampling.BOX), np.float32).ravel()
