"""Noise: every frame is a mean of frames, shrunk, and new noise (paper 000, section 4.2).

      x_{T-t} = sqrt(1 - b_t) h_t + sqrt(b_t) e_t,     b_1..b_{T-1} from 1e-4 to 0.05 in equal steps

With h_t the latest frame this is the chain of diffusion models; with h_t the mean of all frames so far it is the
paper's high-order chain. Either way the frames are one linear map of the image and the noises, x = m x_T + L e, so the
clip is drawn in one product and its mean m and covariance L L' are known.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.video.pseudo.kind import History, PseudoVideo, first_order


@dataclass(frozen=True)
class Noise(PseudoVideo):
    """Clips of ever noisier images; of 3 frames or more, because 2 have one noise level and the schedule has two ends.

    `history` is `first_order` or `high_order`, `least` and `most` are b_1 and b_{T-1}.
    """

    least: float = 1e-4
    most: float = 0.05
    history: History = first_order

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.least < 1 or not 0 < self.most < 1:
            raise BadInput(f"noise levels lie between 0 and 1, got {self.least} and {self.most}")

    @classmethod
    def fewest(cls) -> int:
        """3."""
        return 3

    def corrupted(self, images: Tensor, rng: Rng) -> list[Tensor]:
        """As in `PseudoVideo`."""
        mean, spread = (part.to(images) for part in _map(self))
        drawn = rng.normal((self.frames - 1, *images.shape[1:]), images).to(images.dtype)
        frames = torch.einsum("ts,bs...->tb...", spread, drawn)
        return list(frames + mean.view(-1, *[1] * images.ndim) * images)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Of one pixel's frames given that it is 1 in the image: means (frames,), covariance (frames, frames).

        In the order of the clip, the image last; means are in proportion to the pixel, the covariance is the same for
        all, and pixels are independent. float64.
        """
        mean, spread = _map(self)
        mean = torch.cat([torch.ones(1, dtype=torch.float64), mean]).flip(0)
        spread = torch.cat([torch.zeros(1, self.frames - 1, dtype=torch.float64), spread]).flip(0)
        return mean, spread @ spread.T

    def unexplained(self, known: int, variance: float = 1.0) -> float:
        """The least mean squared error of predicting the image from the `known` frames before it (theorem 4.1).

        For pixels that are independent and Gaussian with `variance`. A first-order chain makes it the same for every
        `known` from 1 on; the paper's point is that a high-order one does not.
        """
        if not 1 <= known < self.frames or variance <= 0:
            raise BadInput(f"1 to {self.frames - 1} frames precede the image, got {known}; variance {variance}")
        mean, covariance = self.moments()
        joint = covariance + variance * torch.outer(mean, mean)
        before = slice(self.frames - 1 - known, self.frames - 1)
        shared = joint[before, -1]
        return float(joint[-1, -1] - shared @ torch.linalg.solve(joint[before, before], shared))


@lru_cache(maxsize=32)
def _map(noise: Noise) -> tuple[Tensor, Tensor]:
    """m (frames - 1,) and L (frames - 1, frames - 1), least corrupted first: the recursion on its own coefficients."""
    steps = noise.frames - 1
    betas = torch.linspace(noise.least, noise.most, steps, dtype=torch.float64)
    unit = torch.eye(steps + 1, dtype=torch.float64)  # the image, then the noises
    frames = [unit[0]]
    for beta, fresh in zip(betas, unit[1:], strict=True):
        frames.append((1 - beta).sqrt() * noise.history(frames) + beta.sqrt() * fresh)
    made = torch.stack(frames[1:])
    return made[:, 0], made[:, 1:]
