"""Pyramid noise: white noise and coarser and coarser noise, each weaker by 3/4, added up to variance 1.

      n = (z + sum_i 0.75^i up_i(z_i)) / sqrt(1 + sum_i 0.75^(2 i)),   up_i repeats every value 2^i x 2^i times

Large shapes then drown as small ones do. Stable Cascade's stage B is trained with it (facts, section 3.1), undocumented
in seed 002. The repetitions are nested blocks, so the covariance is a sum of block means, and its root is exact:

      sqrt(Sigma) z = sum_i sqrt(lambda_i) (P_i - P_(i+1)) z,   P_i = means over blocks of 2^i x 2^i
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from framefill.diffusion.noise import Noise

DECAY = 0.75
LEVELS = 10


@dataclass(frozen=True)
class Pyramid(Noise):
    """Levels count whose maps have from `smallest` to `largest` rows or columns.

    Paper: the program takes the height for the width of its coarse maps, repeats what does not divide unevenly, and
    samples from white noise although it was trained on this. Here blocks are square and whole, so only levels count
    whose blocks divide height and width; and samplers draw what was trained on, as with any noise of this house.
    """

    smallest: int = 1
    largest: int = 16

    def _levels(self, height: int, width: int) -> list[tuple[int, bool]]:
        """Block sides, each of them twice the last, and whether noise of this size is added."""
        found = []
        for i in range(1, LEVELS):
            side = 2**i
            if height % side or width % side:
                break
            rows, columns = height // side, width // side
            found.append((side, any(self.smallest <= n <= self.largest for n in (rows, columns))))
            if min(rows, columns) == 1:
                break
        return found

    def _roots(self, height: int, width: int) -> list[float]:
        """sqrt(lambda_i): of details within the smallest blocks first, of the means over the largest ones last."""
        values, total = [1.0], 1.0
        for i, (side, counts) in enumerate(self._levels(height, width), 1):
            share = DECAY ** (2 * i) if counts else 0.0
            values.append(values[-1] + share * side * side)
            total += share
        return [(value / total) ** 0.5 for value in values]

    def _scaled(self, x: Tensor, gains: Sequence[float]) -> Tensor:
        """sum_i gains_i (P_i - P_(i+1)) x, the last without a coarser one."""
        result, means = gains[0] * x, x.flatten(0, -3)[:, None] if x.ndim > 2 else x[None, None]
        for i, gain in enumerate(gains[1:], 1):
            means = F.avg_pool2d(means, 2)
            change = F.interpolate(means, scale_factor=2**i, mode="nearest")
            result = result + (gain - gains[i - 1]) * change.view(x.shape)
        return result

    def color(self, z: Tensor) -> Tensor:
        """sqrt(Sigma) z for z (..., H, W)."""
        return self._scaled(z, self._roots(*z.shape[-2:]))

    def whiten(self, n: Tensor) -> Tensor:
        """The inverse of `color`."""
        return self._scaled(n, [1 / root for root in self._roots(*n.shape[-2:])])

    def log_det(self, shape: Sequence[int]) -> float:
        """As in `Noise`: every level has as many dimensions as it has blocks more than the next."""
        *others, height, width = shape
        counts = [height * width] + [height * width // side**2 for side, _ in self._levels(height, width)] + [0]
        own = [a - b for a, b in pairwise(counts)]
        logs = sum(n * math.log(root) for n, root in zip(own, self._roots(height, width), strict=True))
        return math.prod(others) * logs
