"""Outlines of things: ellipses and bars, polygons, and blobs cut from smooth noise."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from framefill.video.between.flow import opencv

Mask = NDArray[np.uint8]
"""(side, side): 255 inside, 0 outside."""

THINNEST = 0.08  # of an ellipse: short axis by long one
FINE = 4  # binary digits of a fraction of a pixel that OpenCV draws with


def drawn(side: int, margin: int, rng: np.random.Generator) -> Mask:
    """A shape of any kind in a square of `side` pixels that keeps `margin` away from its border."""
    kinds: tuple[Callable[[int, float, np.random.Generator], Mask], ...] = (ellipse, polygon, blob)
    mask = kinds[int(rng.integers(len(kinds)))](side, side / 2 - margin, rng)
    mask[:margin] = mask[-margin:] = mask[:, :margin] = mask[:, -margin:] = 0
    return mask


def ellipse(side: int, radius: float, rng: np.random.Generator) -> Mask:
    """One with a long axis of `radius`, from a disc to nearly a line."""
    mask, unit = np.zeros((side, side), np.uint8), 2**FINE
    short = max(1.0, radius * float(np.exp(rng.uniform(np.log(THINNEST), 0))))
    axes, middle = (round(radius * unit), round(short * unit)), round((side - 1) / 2 * unit)
    angle = float(rng.uniform(0, 180))
    opencv().ellipse(mask, (middle, middle), axes, angle, 0, 360, 255, -1, shift=FINE)
    return mask


def polygon(side: int, radius: float, rng: np.random.Generator) -> Mask:
    """One of 3 to 9 corners, each in a direction of its own and at least a third of `radius` away."""
    mask, count = np.zeros((side, side), np.uint8), int(rng.integers(3, 10))
    angles = (np.arange(count) + rng.uniform(0.1, 0.9, count)) * (2 * np.pi / count) + rng.uniform(0, 2 * np.pi)
    ways = np.stack([np.cos(angles), np.sin(angles)], 1)
    corners = (side - 1) / 2 + rng.uniform(radius / 3, radius, (count, 1)) * ways
    opencv().fillPoly(mask, [(corners * 2**FINE).round().astype(np.int32)], 255, shift=FINE)
    return mask


def blob(side: int, radius: float, rng: np.random.Generator) -> Mask:
    """Where a dome of `radius` with smooth noise on it stands out of the water: often in several pieces, with holes."""
    cv2, count = opencv(), int(rng.integers(4, 9))
    rough = rng.standard_normal((count, count), np.float32)
    noise = cv2.resize(rough, (side, side), interpolation=cv2.INTER_CUBIC)
    way = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / np.float32(radius)
    dome = 1 - 2 * (way[:, None] ** 2 + way**2)
    return np.where(dome + 0.8 * noise > 0, np.uint8(255), np.uint8(0))
