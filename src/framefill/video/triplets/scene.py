"""Pictures of moving layers at any time, and their exact flow: training data whose truth is not itself an estimate.

Layers are held at a higher resolution than the frames, smoothed to what a frame can show and then read linearly, so
that a frame is as sharp wherever between pixels a layer happens to lie.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framefill.video.between.flow import opencv
from framefill.video.between.warp import places
from framefill.video.triplets.motion import Motion, Places, inverse

SMOOTHED = 0.35  # standard deviation of what a pixel of the frame takes in, in its own size
BLURRED = 2.0  # pixels that something moves at most between the instants that motion blur is the mean of
INSTANTS = 8  # of those at most


@dataclass(frozen=True, eq=False)
class Layer:
    """A piece of a picture, `pixels` uint8 (h, w, 4) with its coverage as the fourth channel, and its `motion`.

    With three channels it is the ground, which covers all and repeats, mirrored, beyond its borders.
    """

    pixels: NDArray[np.uint8]
    motion: Motion

    @classmethod
    def cut(cls, picture: NDArray[np.uint8], mask: NDArray[np.uint8] | None, motion: Motion) -> "Layer":
        """A piece (h, w, 3) where `mask` (h, w) is 255, smoothed to the frame's resolution; None for the ground."""
        sharp = np.ascontiguousarray(picture) if mask is None else np.dstack([picture, mask])
        return cls(opencv().GaussianBlur(sharp, (0, 0), SMOOTHED * motion.density), motion)

    @property
    def ground(self) -> bool:
        """Whether it lies behind everything."""
        return self.pixels.shape[2] == 3

    def paint(self, frame: NDArray[np.float32], time: float) -> None:
        """Lays what is seen of it at `time` over `frame` (H, W, 3)."""
        left, top, right, bottom = self._bounds(frame.shape[:2], time)
        if left >= right or top >= bottom:
            return
        seen = self._read(left, top, right - left, bottom - top, time)
        below = frame[top:bottom, left:right]
        if self.ground:
            below[:] = seen
            return
        cv2 = opencv()
        colour, covered = cv2.cvtColor(seen, cv2.COLOR_BGRA2BGR), cv2.extractChannel(seen, 3)
        # NumPy is slow at spreading one plane over three.
        below += (colour - below) * (cv2.cvtColor(covered, cv2.COLOR_GRAY2BGR) * np.float32(1 / 255))

    def covers(self, where: Places, time: float) -> NDArray[np.bool_]:
        """Whether it is seen at the places `where` (H, W, 2), more than what is behind it."""
        if self.ground:
            return np.ones(where.shape[:-1], bool)
        cv2 = opencv()
        seen = cv2.remap(self.pixels[..., 3], self.motion.sources(where, time), None, cv2.INTER_LINEAR)
        return np.asarray(seen > 127)

    def _bounds(self, shape: tuple[int, ...], time: float) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the part of the frame that it can be seen in."""
        if self.ground:
            return 0, 0, shape[1], shape[0]
        h, w = self.pixels.shape[:2]
        # The waves may carry the border outwards, so it is taken to lie that much further out.
        far = self.motion.waves.most * (abs(time) + 1)
        corners = np.array([(x, y) for x in (-1 - far, w + far) for y in (-1 - far, h + far)])
        matrix = self.motion.backward(time)
        found = (corners - matrix[:, 2]) @ inverse(matrix[:, :2]).T
        least, most = np.floor(found.min(0)).astype(int), np.ceil(found.max(0)).astype(int) + 1
        return max(least[0], 0), max(least[1], 0), min(most[0], shape[1]), min(most[1], shape[0])

    def _read(self, left: int, top: int, width: int, height: int, time: float) -> NDArray[np.uint8]:
        cv2 = opencv()
        border = cv2.BORDER_REFLECT_101 if self.ground else cv2.BORDER_CONSTANT
        if self.motion.bent:
            grid = places((height, width)) + np.array((left, top), np.float32)
            return cv2.remap(self.pixels, self.motion.sources(grid, time), None, cv2.INTER_LINEAR, borderMode=border)
        matrix = self.motion.backward(time)
        matrix[:, 2] += matrix[:, :2] @ (left, top)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self.pixels, matrix, (width, height), flags=flags, borderMode=border)


@dataclass(frozen=True, eq=False)
class Scene:
    """Layers from the ground up, seen in frames of `size` (height, width).

    A frame is taken over `exposure` of the gap, in light that changes over it by the factor 1 + `gain` and by `offset`
    levels, with noise of standard deviation `noise` levels.
    """

    layers: tuple[Layer, ...]
    size: tuple[int, int]
    exposure: float = 0.0
    gain: float = 0.0
    offset: float = 0.0
    noise: float = 0.0

    def frame(self, time: float, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The frame (H, W, 3) at `time`: 0 is the beginning of the gap, 1 its end."""
        light = self.light(time) * np.float32(1 + self.gain * (time - 0.5)) + np.float32(self.offset * (time - 0.5))
        if self.noise:
            light += np.float32(self.noise) * rng.standard_normal(light.shape, np.float32)
        return light.round().clip(0, 255).astype(np.uint8)

    def light(self, time: float) -> NDArray[np.float32]:
        """The layers over the exposure, (H, W, 3) in levels."""
        count = self.instants
        ticks = time + self.exposure * ((np.arange(count) + 0.5) / count - 0.5)
        if count == 1:
            return self._instant(time)
        return np.mean([self._instant(float(tick)) for tick in ticks], 0, np.float32)

    @property
    def instants(self) -> int:
        """How many instants an exposure is the mean of."""
        moved = max(np.hypot(*layer.motion.shift) for layer in self.layers) * self.exposure
        return int(min(1 + np.ceil(moved / BLURRED), INSTANTS)) if self.exposure else 1

    def flow(self, start: float, stop: float) -> tuple[Places, NDArray[np.bool_]]:
        """Where what is seen at the time `start` has gone at `stop`, (H, W, 2) in pixels, and what of it is seen then.

        It is what is seen of instants, without the exposure.
        """
        grid = places(self.size)
        owner, goal = self._owner(grid, start), grid.copy()
        for number, layer in enumerate(self.layers):
            mine = owner == number
            goal[mine] = layer.motion.places(layer.motion.sources(grid[mine], start), stop)
        inside = ((goal >= 0) & (goal <= np.array(self.size[::-1]) - 1)).all(-1)
        return goal - grid, inside & (self._owner(goal, stop) == owner)

    def _instant(self, time: float) -> NDArray[np.float32]:
        frame = np.empty((*self.size, 3), np.float32)
        for layer in self.layers:
            layer.paint(frame, time)
        return frame

    def _owner(self, where: Places, time: float) -> NDArray[np.int64]:
        """The number of the layer that is seen at the places `where`."""
        owner = np.zeros(where.shape[:-1], np.int64)
        for number, layer in enumerate(self.layers):
            owner[layer.covers(where, time)] = number
        return owner
