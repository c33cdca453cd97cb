"""Film that is made up: a smooth texture that moves as a whole, different for every seed."""

import numpy as np

from framefill.video.triplets.triplet import Triplet


class Moving:
    """Triplets of `size` pixels a side; with a `context`, more known frames. Times are 1/2 unless `times` says else."""

    def __init__(self, size: int, *, context: int = 1, times: tuple[float, ...] = (0.5,)):
        self.size, self.context, self.times = size, context, times

    def triplet(self, seed: int) -> Triplet:
        """A pure function of `seed`."""
        rng = np.random.default_rng(seed)
        wave = rng.uniform(0.05, 0.4, (6, 2)) * rng.choice([-1, 1], (6, 2))
        phase, colour = rng.uniform(0, 6.28, 6), rng.uniform(-20, 20, (6, 3))
        velocity, time = rng.uniform(-3, 3, 2), float(rng.choice(self.times))
        at = [float(i) for i in range(1 - self.context, 1)] + [time] + [float(i) for i in range(1, self.context + 1)]
        return Triplet(np.stack([self._frame(wave, phase, colour, velocity * t) for t in at]), time)

    def _frame(self, wave: np.ndarray, phase: np.ndarray, colour: np.ndarray, moved: np.ndarray) -> np.ndarray:
        y, x = np.meshgrid(np.arange(self.size) - moved[0], np.arange(self.size) - moved[1], indexing="ij")
        shade = sum(np.sin(w[0] * y + w[1] * x + p)[..., None] * c for w, p, c in zip(wave, phase, colour, strict=True))
        return (128 + shade).clip(0, 255).round().astype(np.uint8)
