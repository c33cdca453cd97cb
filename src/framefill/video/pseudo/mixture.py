"""Mixtures: clips of several kinds side by side, or noise on top of any kind."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.video.pseudo.kind import PseudoVideo


@dataclass(frozen=True)
class Mixture(PseudoVideo):
    """Every image becomes a clip of one of `kinds`, drawn with probabilities in proportion to `shares` (or alike)."""

    frames: int = field(init=False)
    kinds: tuple[PseudoVideo, ...]
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        counts = {kind.frames for kind in self.kinds}
        if len(counts) != 1:
            raise BadInput(f"the kinds of a mixture have the same number of frames, got {sorted(counts)}")
        if len(self.shares) not in (0, len(self.kinds)):
            raise BadInput(f"{len(self.shares)} shares for {len(self.kinds)} kinds; give one each, or none")
        if self.shares and not (min(self.shares) >= 0 and 0 < sum(self.shares) < math.inf):
            raise BadInput(f"shares are not negative and not all zero, got {self.shares}")
        object.__setattr__(self, "frames", counts.pop())

    def corrupted(self, images: Tensor, rng: Rng) -> list[Tensor]:
        """As in `PseudoVideo`; one number is drawn for the kind, then what the kind draws."""
        shares = torch.tensor(self.shares or (1.0,) * len(self.kinds), dtype=torch.float64)
        ends = (shares.cumsum(0) / shares.sum())[:-1]
        chosen = torch.bucketize(rng.uniform().double(), ends, right=True)
        made = images.new_empty((self.frames - 1, *images.shape))
        for i, kind in enumerate(self.kinds):
            rows = (chosen == i).nonzero().flatten()
            if len(rows):
                there = rows.to(images.device)
                made[:, there] = torch.stack(kind.corrupted(images[there], rng.pick(rows.tolist())))
        return list(made)


@dataclass(frozen=True)
class Noisy(PseudoVideo):
    """The clips of `kind`, with independent noise of standard deviation `noise` on every frame but the image."""

    frames: int = field(init=False)
    kind: PseudoVideo
    noise: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.noise < math.inf:
            raise BadInput(f"the standard deviation of noise is not negative, got {self.noise}")
        object.__setattr__(self, "frames", self.kind.frames)

    def corrupted(self, images: Tensor, rng: Rng) -> list[Tensor]:
        """As in `PseudoVideo`; what `kind` draws, then the noise."""
        frames = self.kind.corrupted(images, rng)
        drawn = rng.normal((len(frames), *images.shape[1:]), images).to(images.dtype)
        return [frame + self.noise * e for frame, e in zip(frames, drawn.unbind(1), strict=True)]
