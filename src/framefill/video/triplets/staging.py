"""Scenes made up from pictures: one as the ground, one to four things cut from others, and how it all moves.

How far and how wildly grows with a difficulty from 0 (slow shifts of a few things) to 1 (up to forty pixels, turning
and bending, long exposures, changing light, noise).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from framefill.video.triplets import shapes
from framefill.video.triplets.motion import STEEPEST, STRAIGHT, Motion, Waves
from framefill.video.triplets.scene import Layer, Scene

Picture = NDArray[np.uint8]
Rng = np.random.Generator

SLOWEST, SLOW, FASTEST = 0.5, 4.0, 40.0  # pixels over the gap: the least, the most at difficulty 0, the most at 1
SMALLEST, LARGEST = 6.0, 0.45  # radius of a thing: pixels, part of the frame's longer side
DENSITIES = (1.4, 2.2)  # pixels of a picture along one of the frame, where it has enough
SPARSEST = 0.5  # where the picture of the ground is smaller still, it is mirrored at its border
LENGTHS = (30.0, 120.0)  # of the waves that bend things, in pixels of the frame
LOOKED_AT = 2  # pieces of pictures, of which the one with more contrast becomes a thing: flat ones show no motion
MARGIN = 2.0  # pixels of the frame around a piece, so that what smooths it finds its surroundings


@dataclass(frozen=True)
class Stage:
    """Where scenes in frames of `size` (height, width) are made up, of what `picture` draws: uint8 (H, W, 3).

    They can be seen from `context` - 1 gaps before the one in question to as many after it.
    """

    picture: Callable[[Rng], Picture]
    size: tuple[int, int]
    context: int
    difficulty: float

    def scene(self, rng: Rng) -> Scene:
        """One scene."""
        camera = self._motion(rng)
        layers = [self._ground(camera, rng)]
        layers += [self._thing(camera, rng) for _ in range(1 + int(rng.binomial(3, 0.2 + 0.6 * self.difficulty)))]
        return Scene(
            tuple(layers),
            self.size,
            exposure=self._sometimes(0.35, 0.05, 0.3, rng),
            gain=self._sometimes(0.3, -0.2, 0.2, rng),
            offset=self._sometimes(0.3, -15.0, 15.0, rng),
            noise=self._sometimes(0.3, 0.5, 4.0, rng),
        )

    def _ground(self, camera: Motion, rng: Rng) -> Layer:
        """A picture that fills the frame at all times, as far as it is large enough."""
        picture = self.picture(rng)
        density, waves, size = float(rng.uniform(*DENSITIES)), self._waves(rng), np.array(picture.shape[1::-1])
        extent = np.ptp(self._seen(replace(camera, waves=waves)), axis=0)
        density = min(density, max(SPARSEST, float(((size - 1) / extent).min())))
        motion = replace(camera, density=density, waves=waves.at(density))
        seen = self._seen(motion)
        room = np.maximum(size - 1 - np.ptp(seen, axis=0), 0)
        anchor = rng.uniform(0, 1, 2) * room - seen.min(0)
        least = np.maximum(np.floor(anchor + seen.min(0)), 0).astype(int)
        most = np.minimum(np.ceil(anchor + seen.max(0)), size - 1).astype(int) + 1
        piece = picture[least[1] : most[1], least[0] : most[0]]
        return Layer.cut(_toned(piece, rng), None, replace(motion, anchor=_pair(anchor - least)))

    def _thing(self, camera: Motion, rng: Rng) -> Layer:
        """A piece of a picture that is in the frame in the middle of the gap, often carried along by the camera."""
        radius = np.exp(rng.uniform(np.log(SMALLEST), np.log(max(LARGEST * max(self.size), SMALLEST + 1))))
        width, density = 2 * (radius + MARGIN), float(rng.uniform(*DENSITIES))
        pieces = [_piece(self.picture(rng), width * density, rng) for _ in range(LOOKED_AT)]
        piece = max(pieces, key=lambda piece: float(piece[::4, ::4].std()))
        side = len(piece)
        density = min(density, side / width)
        own = self._motion(rng)
        carried = float(rng.random() < 0.5)
        motion = replace(
            own,
            anchor=((side - 1) / 2, (side - 1) / 2),
            centre=_pair(rng.uniform(-0.05, 1.05, 2) * self.size[::-1]),
            density=density,
            shift=_pair(np.add(own.shift, np.multiply(carried, camera.shift))),
            waves=self._waves(rng).at(density),
        )
        return Layer.cut(_toned(piece, rng), shapes.drawn(side, int(np.ceil(MARGIN * density)), rng), motion)

    def _motion(self, rng: Rng) -> Motion:
        """How something moves about the middle of the frame."""
        fastest = np.log(SLOW) + self.difficulty * (np.log(FASTEST) - np.log(SLOW))
        reach, way = np.exp(rng.uniform(np.log(SLOWEST), fastest)), rng.uniform(0, 2 * np.pi)
        turn, growth, shear = self.difficulty * rng.standard_normal(3).clip(-2, 2) * (0.12, 0.07, 0.07)
        return Motion(
            (0.0, 0.0),
            ((self.size[1] - 1) / 2, (self.size[0] - 1) / 2),
            1.0,
            (float(reach * np.cos(way)), float(reach * np.sin(way))),
            turn=float(turn),
            growth=float(growth),
            shear=float(shear),
            hurry=self._sometimes(0.2, -0.3, 0.3, rng) / (2 * self.context - 1),
        )

    def _waves(self, rng: Rng) -> Waves:
        """What bends something, in pixels of the frame."""
        if rng.random() >= 0.6 * self.difficulty:
            return STRAIGHT
        count = int(rng.integers(1, 3))
        numbers = 2 * np.pi / np.exp(rng.uniform(np.log(LENGTHS[0]), np.log(LENGTHS[1]), (count, 1)))
        amplitudes = rng.uniform(0, STEEPEST / count / self.context, (count, 1)) / numbers
        ways = rng.uniform(0, 2 * np.pi, (2, count))
        to, along = (np.stack([np.cos(way), np.sin(way)], 1) for way in ways)
        phases = rng.uniform(0, 2 * np.pi, count)
        return Waves(*(a.astype(np.float32) for a in (amplitudes * to, numbers * along, phases)))

    def _seen(self, motion: Motion) -> NDArray[np.float64]:
        """Places of a picture, before it is bent, around all that the frame shows of it at any time."""
        h, w = self.size
        far = MARGIN + motion.waves.most * self.context / motion.density
        corners = np.array([(x, y) for x in (-far, w - 1 + far) for y in (-far, h - 1 + far)])
        matrices = [motion.backward(float(time)) for time in (1 - self.context, self.context)]
        return np.concatenate([corners @ m[:, :2].T + m[:, 2] for m in matrices])

    def _sometimes(self, share: float, least: float, most: float, rng: Rng) -> float:
        """Nothing, or in a `share` of scenes something between both, less of it where things are to be easy."""
        value, luck = rng.uniform(least, most), rng.random()
        return float(value) * self.difficulty if luck < share else 0.0


def _piece(picture: Picture, side: float, rng: Rng) -> Picture:
    """A square of the picture, of `side` pixels or as many as it has."""
    whole = min(int(np.ceil(side)), *picture.shape[:2])
    top, left = (int(rng.integers(length - whole + 1)) for length in picture.shape[:2])
    return picture[top : top + whole, left : left + whole]


def _toned(piece: Picture, rng: Rng) -> Picture:
    """The piece as another picture might have it: mirrored, or with its colours exchanged."""
    order = rng.permutation(3) if rng.random() < 0.3 else np.arange(3)
    return piece[:, :: int(rng.choice((-1, 1))), order]


def _pair(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values[0]), float(values[1])
