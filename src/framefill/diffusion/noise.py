"""Gaussian noise with a covariance: n = sqrt(Sigma) z, z standard normal (thesis 001, chapter 6).

A noise is the symmetric root of its covariance. Samplers and losses only ever `color` and `whiten`, so white and
non-isotropic noise share every sampler, schedule, target and weight.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput


class Noise(ABC):
    """A zero-mean, unit-variance Gaussian over the last two axes (H, W), independent over all others."""

    @abstractmethod
    def color(self, z: Tensor) -> Tensor:
        """sqrt(Sigma) z for z (..., H, W): white noise in, this noise out."""

    @abstractmethod
    def whiten(self, n: Tensor) -> Tensor:
        """sqrt(Sigma)^-1 n for n (..., H, W): the inverse of `color`."""

    @abstractmethod
    def log_det(self, shape: Sequence[int]) -> float:
        """log |det sqrt(Sigma)| of one sample of `shape` (..., H, W), in nats."""

    def like(self, x: Tensor, rng: Rng) -> Tensor:
        """A draw of this noise with the shape (B, ...), device and dtype of `x`; sample i uses stream i of `rng`."""
        return torch.stack([self.color(z) for z in rng.normal(x.shape[1:], x).to(x.dtype)])


@dataclass(frozen=True)
class White(Noise):
    """Independent standard normal values: Sigma = I."""

    def color(self, z: Tensor) -> Tensor:
        """Unchanged."""
        return z

    def whiten(self, n: Tensor) -> Tensor:
        """Unchanged."""
        return n

    def log_det(self, shape: Sequence[int]) -> float:
        """Zero."""
        return 0.0


@dataclass(frozen=True)
class GaussianFreeField(Noise):
    """Images whose Fourier mode k is scaled by |k|^-power: larger `power`, smoother noise (thesis 001, section 6.5).

    The root of the covariance is the circulant filter g = F^-1 [c |k|^-power F z] with c such that every pixel has
    unit variance. power = 0 is white noise; power = 1 is the Gaussian free field; `power` may be negative (blue noise).

    Paper: the text normalises by sigma_N without deriving it and leaves 1/|k| infinite at k = 0. Unit variance for
    real white z gives c^-2 = mean |k|^(-2 power), and the zero mode gets |k| = 1, the smallest index beside it, so
    that Sigma stays positive definite for every size, odd and non-square ones included.
    """

    power: float = 1.0

    def _filter(self, height: int, width: int, like: Tensor) -> Tensor:
        rows = torch.fft.fftfreq(height, 1 / height, dtype=torch.float64)
        columns = torch.fft.fftfreq(width, 1 / width, dtype=torch.float64)
        index = torch.hypot(rows[:, None], columns[None, :])
        index[0, 0] = 1.0
        gain = index**-self.power
        gain = gain / gain.square().mean().sqrt()
        return gain.to(like.device)

    def _apply(self, x: Tensor, gain: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        half = gain[:, : x.shape[-1] // 2 + 1].to(dtype)
        return torch.fft.irfft2(torch.fft.rfft2(x.to(dtype)) * half, s=x.shape[-2:]).to(x.dtype)

    def color(self, z: Tensor) -> Tensor:
        """Filter by c |k|^-power."""
        return self._apply(z, self._filter(z.shape[-2], z.shape[-1], z))

    def whiten(self, n: Tensor) -> Tensor:
        """Filter by |k|^power / c."""
        return self._apply(n, 1 / self._filter(n.shape[-2], n.shape[-1], n))

    def log_det(self, shape: Sequence[int]) -> float:
        """Sum over modes of log gain: N log c - power * sum log |k|, times the number of images in the sample.

        Paper: thesis 001 section 6.5.2 puts c inside the sum once instead of N times; this is the determinant.
        """
        if len(shape) < 2:
            raise BadInput(f"a Gaussian free field needs shapes (..., H, W), got {tuple(shape)}")
        images = int(torch.tensor(tuple(shape[:-2]), dtype=torch.float64).prod())
        gain = self._filter(shape[-2], shape[-1], torch.empty(0))
        return images * float(gain.log().sum())
