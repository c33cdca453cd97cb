"""Noise scales and step sizes from the data (Song and Ermon 2020, propositions 1 to 3; thesis 001, 6.3.10 to 6.3.12).

The largest scale is the largest distance between two samples, so that noise can carry one onto the other; scales fall
geometrically, so that neighbours overlap; and the step of Langevin is the one that leaves each level closest to its
law. For a noise of covariance Sigma all three are the isotropic ones for whitened data.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from framefill.diffusion.langevin import Langevin
from framefill.diffusion.noise import Noise
from framefill.diffusion.schedule import Schedule, smld
from framefill.errors import BadInput


def largest_scale(x: Tensor, noise: Noise) -> float:
    """The largest distance |sqrt(Sigma)^-1 (x_i - x_j)| between samples of x (B, ...), B >= 2.

    Paper: eq. 6.3.10 writes the whitening without its factor sqrt(2 N), which makes the scale 45 times too small at
    32x32; `Noise.whiten` is the inverse of the noise of unit variance.
    """
    if len(x) < 2:
        raise BadInput(f"the largest scale is a distance between samples and needs at least 2, got {len(x)}")
    white = noise.whiten(x).flatten(1)
    return max(float(torch.cdist(part, white).max()) for part in white.split(256))


def overlap(ratio: float, dimensions: int) -> float:
    """The share of |x| at one scale that lies within three standard deviations of |x| at the next larger scale.

    `ratio` >= 1 is larger over smaller. |x| of a white Gaussian of scale sigma in D dimensions is nearly normal with
    mean sqrt(D) sigma and variance sigma^2 / 2 (proposition 2): Phi(b + 3 ratio) - Phi(b - 3 ratio), with
    b = sqrt(2 D) (ratio - 1).

    Paper: section 6.3.11 states 0.5 for ratio 1.0376 and D = 3072; the formula gives 0.566.
    """
    shift, phi = math.sqrt(2 * dimensions) * (ratio - 1), NormalDist().cdf
    return phi(shift + 3 * ratio) - phi(shift - 3 * ratio)


def scale_ratio(dimensions: int, share: float = 0.5) -> float:
    """The ratio of neighbouring scales at which they overlap by `share`, found by bisection."""
    if dimensions < 8 or not 0.01 <= share <= 0.99:
        raise BadInput(
            f"scales are chosen for at least 8 dimensions and a share in [0.01, 0.99], got {dimensions} and {share}"
        )
    low, high = 1.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if overlap(middle, dimensions) > share else (low, middle)
    return high


def relaxation(ratio: float, rate: float, repeats: int) -> float:
    """Var / sigma^2 after `repeats` Langevin updates at scale sigma, begun with variance (ratio sigma)^2, of a point.

    (ratio^2 - v) (1 - rate)^(2 repeats) + v, v = 1 / (1 - rate / 2): eq. 6.3.25 with the drift preconditioned, which
    makes P = (1 - rate) I in every mode whatever Sigma is.
    """
    settled = 1 / (1 - rate / 2)
    return (ratio**2 - settled) * (1 - rate) ** (2 * repeats) + settled


def step_size(ratio: float, repeats: int) -> float:
    """The rate of `Langevin` that brings `relaxation` closest to 1, in (0, 1)."""
    if not (ratio > 1 and repeats >= 1):
        raise BadInput(f"a step size needs ratio > 1 between scales and repeats >= 1, got {ratio} and {repeats}")
    # Both terms exceed 1, so the smallest value is the closest; it falls to one minimum and rises again.
    low, high = 0.0, 1.0
    for _ in range(100):
        third = (high - low) / 3
        left, right = low + third, high - third
        better = relaxation(ratio, left, repeats) < relaxation(ratio, right, repeats)
        low, high = (low, right) if better else (left, high)
    return (low + high) / 2


@dataclass(frozen=True)
class Scales:
    """Geometric scales and the rate that goes with them: a schedule, and a sampler whose steps are those scales."""

    sigma_min: float
    sigma_max: float
    levels: int
    rate: float
    repeats: int

    @property
    def ratio(self) -> float:
        """Larger over smaller of neighbouring scales."""
        return float((self.sigma_max / self.sigma_min) ** (1 / (self.levels - 1)))

    def schedule(self) -> Schedule:
        """The continuous `smld` through all scales."""
        return smld(self.sigma_min, self.sigma_max)

    def sampler(self) -> Langevin:
        """Langevin from the largest scale to the last but one, and onto the expected denoised sample from there."""
        return Langevin(self.levels - 1, rate=self.rate, repeats=self.repeats)


def automatic(x: Tensor, noise: Noise, *, sigma_min: float = 0.01, repeats: int = 5, share: float = 0.5) -> Scales:
    """Scales for data like x (B, ...), from `sigma_min` to the largest distance, neighbours overlapping by `share`.

    The rate is the best for a point. Wide data lag behind falling scales: with 5 repeats and a share of 0.5 their
    variance comes out 16 % too large at 32x32 and 50 % at 6x6; with 20 and 0.9 it is 5 % and 17 %.
    """
    sigma_max = largest_scale(x, noise)
    if not 0 < sigma_min < sigma_max:
        raise BadInput(f"sigma_min must lie between 0 and the largest distance {sigma_max:.4g}, got {sigma_min}")
    ratio = scale_ratio(x[0].numel(), share)
    levels = max(math.ceil(math.log(sigma_max / sigma_min) / math.log(ratio)), 1) + 1
    exact = (sigma_max / sigma_min) ** (1 / (levels - 1))
    return Scales(sigma_min, sigma_max, levels, step_size(exact, repeats), repeats)
