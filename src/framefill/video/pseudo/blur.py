"""Blur: every frame is blurred by a Gaussian, a little wider each time (Bansal et al. 2023; paper 000, section 3).

      x_{T-t} = g_t * h_t,   g_t(j) ~ exp(-j^2 / 2 s_t^2) for |j| <= 5,   s_t = exp(rate (t - 1)),   t = 1..T-1

h_t is the latest frame or the mean of all so far. Kernels are separable, so blurring is a matrix from each side, and
the borders are in the matrices. Waves are the eigenvectors where the borders wrap round; where they reflect (without
repeating the border pixel), the cosines cos(pi k n / (N - 1)) are. The eigenvalue is the kernel's Fourier sum in both.

Paper: says neither which padding nor where the exponent starts; the published program of Bansal et al. reflects in its
deblurring and wraps in its generation, and starts with a standard deviation of 1 pixel (facts, section 1.1).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.video.pseudo.kind import History, PseudoVideo, first_order


@dataclass(frozen=True)
class Blur(PseudoVideo):
    """Blurred clips; `taps` is the width of the kernel, `rate` its growth, `wrap` whether borders wrap or reflect."""

    rate: float = 0.05
    taps: int = 11
    wrap: bool = False
    history: History = first_order

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.taps < 1 or self.taps % 2 == 0 or not math.isfinite(self.rate):
            raise BadInput(f"a blur takes an odd number of taps and a finite rate, got {self.taps} and {self.rate}")

    @property
    def widths(self) -> tuple[float, ...]:
        """The standard deviations of the kernels in pixels, the first applied first."""
        return tuple(math.exp(self.rate * i) for i in range(self.frames - 1))

    def corrupted(self, images: Tensor, rng: Rng) -> list[Tensor]:
        """As in `PseudoVideo`; nothing is drawn."""
        rows, columns = (self._matrices(length).to(images) for length in images.shape[-2:])
        frames = [images]
        for down, across in zip(rows, columns, strict=True):
            frames.append(down @ self.history(frames) @ across.T)
        return frames[1:]

    def attenuation(self, height: int, width: int) -> Tensor:
        """What is left of every frequency in every frame of the clip: (frames, height, width), float64.

        Entry (i, k, l) belongs to the cosine, or with `wrap` the wave, of k along the height and l along the width.
        """
        factors = [torch.ones(height, width, dtype=torch.float64)]
        for down, across in zip(self._factors(height), self._factors(width), strict=True):
            factors.append(torch.outer(down, across) * self.history(factors))
        return torch.stack(factors[::-1])

    def _factors(self, length: int) -> Tensor:
        """Eigenvalues (frames - 1, length) of the kernels along an axis."""
        step = 2 * math.pi / length if self.wrap else math.pi / max(length - 1, 1)
        angles = step * torch.arange(length, dtype=torch.float64)[:, None] * _offsets(self.taps)
        return torch.stack([(angles.cos() * kernel(width, self.taps)).sum(1) for width in self.widths])

    def _matrices(self, length: int) -> Tensor:
        if not self.wrap and length <= self.taps // 2:
            raise BadInput(
                f"{length} pixels are too few to reflect {self.taps // 2} of them; take larger images, fewer taps, or "
                f"wrap round"
            )
        return _matrices(self.widths, self.taps, self.wrap, length)


def _offsets(taps: int) -> Tensor:
    return torch.arange(taps, dtype=torch.float64) - taps // 2


def kernel(width: float, taps: int) -> Tensor:
    """The Gaussian of standard deviation `width` at whole pixels, (taps,), with sum 1; float64."""
    values = (-(_offsets(taps) ** 2) / (2 * width**2)).exp()
    return values / values.sum()


@lru_cache(maxsize=8)
def _matrices(widths: tuple[float, ...], taps: int, wrap: bool, length: int) -> Tensor:
    """Every kernel with its borders, (len(widths), length, length), float64."""
    place = torch.arange(length)[:, None] + _offsets(taps).long()
    last = length - 1
    source = place % length if wrap else last - (last - place.abs()).abs()
    values = torch.stack([kernel(width, taps) for width in widths])
    made = torch.zeros(len(widths), length, length, dtype=torch.float64)
    return made.scatter_add_(2, source.expand(len(widths), -1, -1), values[:, None].expand(-1, length, -1).contiguous())
