"""Motion that is known exactly, there and back: how a piece of a picture lies in the frame at any time of a gap.

At time t, with s = t + a t (t - 1) - 1/2, a place p of the frame shows the place u of the piece:

    q = anchor + L(s)^-1 (p - centre - s shift),    u = q + s D(q),    D(q) = sum of a_i sin(k_i q + phase_i)

L turns, grows and shears by amounts proportional to s. D bends the piece; where |s| sum |a_i| |k_i| <= 2/3, u
determines q, by iterating q = u - s D(q). So where u is seen at another time, and with that the flow, is known exactly.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.float32]
"""Places (..., 2), x then y, in pixels; 0, 0 is the centre of the first pixel."""

STEEPEST = 0.5  # sum of amplitude times wave number of what is seen over one gap
ROUNDS = 40  # of the iteration, each of which leaves two thirds of the distance at most


@dataclass(frozen=True, eq=False)
class Waves:
    """What bends a piece: `amplitudes` (N, 2) in its pixels, `numbers` (N, 2) in radians a pixel, `phases` (N,)."""

    amplitudes: NDArray[np.float32]
    numbers: NDArray[np.float32]
    phases: NDArray[np.float32]

    def __call__(self, places: Places) -> Places:
        """The displacement at `places`, in pixels."""
        return np.sin(places @ self.numbers.T + self.phases) @ self.amplitudes

    def at(self, density: float) -> "Waves":
        """The same bending of a piece that has `density` pixels where this one has one."""
        return Waves(self.amplitudes * np.float32(density), self.numbers / np.float32(density), self.phases)

    @property
    def most(self) -> float:
        """The largest displacement in pixels, at most."""
        return float(np.abs(self.amplitudes).sum())


STRAIGHT = Waves(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True, eq=False)
class Motion:
    """How a piece moves over a gap: by `shift` pixels of the frame, while it turns, grows, is sheared and bent.

    In the middle of the gap the piece's place `anchor` lies at `centre` of the frame, and `density` of its pixels along
    one of the frame's. `turn` is in radians, `growth` the logarithm of a factor, `hurry` (a above) in (-1, 1).
    """

    anchor: tuple[float, float]
    centre: tuple[float, float]
    density: float
    shift: tuple[float, float]
    turn: float = 0.0
    growth: float = 0.0
    shear: float = 0.0
    hurry: float = 0.0
    waves: Waves = STRAIGHT

    def sources(self, places: Places, time: float) -> Places:
        """Which places of the piece are seen at `places` of the frame."""
        matrix, s = self.backward(time), self._clock(time)
        flat = places @ matrix[:, :2].T.astype(np.float32) + matrix[:, 2].astype(np.float32)
        return flat + np.float32(s) * self.waves(flat) if self.bent else flat

    def places(self, sources: Places, time: float) -> Places:
        """Where in the frame `sources` of the piece are seen."""
        s, flat = self._clock(time), sources
        for _ in range(ROUNDS if self.bent else 0):
            flat = sources - np.float32(s) * self.waves(flat)
        moved = (flat - np.array(self.anchor)) @ self._forward(s).T + self.centre + s * np.array(self.shift)
        return moved.astype(np.float32)

    def backward(self, time: float) -> NDArray[np.float64]:
        """The matrix (2, 3) from places of the frame to those of the piece, before it is bent."""
        s = self._clock(time)
        linear = inverse(self._forward(s))
        origin = np.array(self.centre) + s * np.array(self.shift)
        return np.column_stack([linear, np.array(self.anchor) - linear @ origin])

    @property
    def bent(self) -> bool:
        """Whether it is more than affine."""
        return len(self.waves.phases) > 0

    def _clock(self, time: float) -> float:
        return time + self.hurry * time * (time - 1) - 0.5

    def _forward(self, s: float) -> NDArray[np.float64]:
        cos, sin = np.cos(s * self.turn), np.sin(s * self.turn)
        sheared = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, s * self.shear], [0, 1]])
        return sheared * np.exp(s * self.growth) / self.density


def inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """That of a matrix (2, 2); LAPACK takes ten times as long over so small a one."""
    (a, b), (c, d) = matrix
    return np.array([[d, -b], [-c, a]]) / (a * d - b * c)
