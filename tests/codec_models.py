"""Entropy models and symbols that are whole-number functions of a seed: the same on every machine."""

import numpy as np
import torch

from framefill.codec import counter
from framefill.codec.context import Contextual
from framefill.codec.entropy import Factorised


def drawn(model: Contextual, seed: int = 1) -> Contextual:
    """Weights of -24..24 in 64ths and biases in sixteenths from the counter."""
    for stream, (name, parameter) in enumerate(model.named_parameters()):
        words = counter.words(seed, stream, 0, parameter.numel()).astype(np.int64)
        values = (words % 49 - 24) / 64 if name.endswith("weight") else (words % 33 - 16) / 16
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values).view(parameter.shape))
            if name.endswith("last.bias"):
                parameter[len(parameter) // 2 :] += 1.5
    return model


def contextual(channels: int = 6, seed: int = 1, **options) -> Contextual:
    return drawn(Contextual(channels, **({"groups": 2, "hidden": 24} | options)), seed)


def factorised(channels: int = 6, reach: int = 9) -> Factorised:
    model = Factorised(channels, reach)
    words = counter.words(3, 0, 0, channels * (2 * reach + 1)).astype(np.int64)
    with torch.no_grad():
        model.counts.copy_(torch.from_numpy(words % 1000).view(channels, -1))
    return model


def symbols(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth fields of different widths per channel with a few outliers, int64 (B, C, h, w)."""
    z = counter.normal(shape, seed=seed).astype(np.float64)
    smooth = (z + np.roll(z, 1, 2) + np.roll(z, 1, 3) + np.roll(z, (1, 1), (2, 3))) / 2
    whole = np.floor(smooth * np.geomspace(0.2, 12, shape[1])[:, None, None] + 0.5).astype(np.int64)
    wild = counter.words(seed, 1, 0, whole.size).reshape(whole.shape) % 997
    whole[wild == 0], whole[wild == 1] = 2**31 - 70000, -300
    return torch.from_numpy(whole)
