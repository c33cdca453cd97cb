"""A stand-in for the learned codec: the first cosines of 8x8 blocks, quantised more finely the higher the quality."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from framefill.codec import container
from framefill.codec.context import Contextual
from framefill.codec.entropy import Factorised
from framefill.codec.picture_codec import PictureCodec

SIDE, KEPT = 8, [(v, u) for v in range(4) for u in range(4) if v + u < 4]
STEPS = (1.5, 0.5, 0.1, 0.02)


def cosines() -> Tensor:
    k, n = torch.arange(SIDE, dtype=torch.float64)[:, None], torch.arange(SIDE, dtype=torch.float64)
    basis = torch.cos(math.pi * k * (2 * n + 1) / (2 * SIDE)) * math.sqrt(2 / SIDE)
    basis[0] /= math.sqrt(2)
    return torch.stack([basis[v][:, None] * basis[u] for v, u in KEPT]).flatten(1)  # (K, 64)


class Double(nn.Module):
    """Keeps the contract of codec/model.py. What it sees at once is counted in `largest`, in pixels."""

    stride, qualities = SIDE, len(STEPS)

    def __init__(
        self, *, layers: int = 3, seed: int = 0, plain: bool = False, spread: float = 0.2, renoised: bool = False
    ):
        super().__init__()
        self.basis = nn.Parameter(cosines().float(), requires_grad=False)
        channels = 3 * len(KEPT)
        self.entropy = (
            Factorised(channels)
            if plain
            else Contextual(channels, groups=2, hidden=8, layers=layers, settings=len(STEPS))
        )
        self.spread, self.largest, self.renoised = spread, 0, renoised
        with torch.no_grad():
            for name, parameter in self.entropy.named_parameters():
                if "last.bias" not in name and not plain:
                    parameter.zero_()
            if plain:
                self.entropy.counts[:, self.entropy.reach] += 99 + seed
            else:
                self.entropy.networks[0].first.bias[0] = seed  # another model, another fingerprint

    def symbols(self, x: Tensor, quality: Tensor) -> Tensor:
        return (self.latents(x) / self.steps(quality)).round().long()

    def latents(self, x: Tensor) -> Tensor:
        self.largest = max(self.largest, x.shape[2] * x.shape[3])
        B, _, H, W = x.shape
        blocks = x.double().reshape(B, 3, H // SIDE, SIDE, W // SIDE, SIDE).permute(0, 1, 2, 4, 3, 5).flatten(4)
        return torch.einsum("bchwp,kp->bckhw", blocks, cosines()).flatten(1, 2)

    def setting(self, quality: int, kind: int) -> int:
        return quality

    def values(self, symbols: Tensor, quality: Tensor) -> Tensor:
        return (symbols * self.steps(quality)).float()

    def mean(self, values: Tensor, quality: Tensor) -> Tensor:
        self.largest = max(self.largest, SIDE * values.shape[2] * SIDE * values.shape[3])
        B, _, h, w = values.shape
        found = torch.einsum("bckhw,kp->bchwp", values.double().reshape(B, 3, -1, h, w), cosines())
        found = found.reshape(B, 3, h, w, SIDE, SIDE).permute(0, 1, 2, 4, 3, 5)
        return found.reshape(B, 3, SIDE * h, SIDE * w).float()

    def sample(self, values: Tensor, quality: Tensor, noise: Callable[[int], Tensor], steps: int) -> Tensor:
        noise = noise(steps - 1 if self.renoised else 0)
        assert noise.shape[2:] == (SIDE * values.shape[2], SIDE * values.shape[3])
        return self.mean(values, quality) + self.spread / steps * noise

    def fingerprint(self, quality: int) -> bytes:
        tensors = {name: tensor.numpy() for name, tensor in self.state_dict().items()}
        return container.fingerprint(tensors | {"quality": np.array([quality])})

    def steps(self, quality: Tensor) -> Tensor:
        return torch.tensor(STEPS, dtype=torch.float64)[quality][:, None, None, None]


class Blurred(Double):
    """Sees two pixels to every side, so that tiles need their margin."""

    def mean(self, values: Tensor, quality: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(super().mean(values, quality), 5, 1, 2, count_include_pad=False)


def codec(joined: int = 0, **options) -> PictureCodec:
    """Layers stay apart, however small the picture, unless it is said how small."""
    return PictureCodec(Double(**options).eval(), joined=joined)
