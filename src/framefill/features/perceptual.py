"""Perceptual distances to train with: differentiable, frozen, and in evaluation mode whatever mode the trainer sets.

      d(a, b) = mean over stages of mean over places of |f(a) / |f(a)| - f(b) / |f(b)||^2

f are the maps of a network that knows what is in a picture, made of unit length at every place, as in LPIPS (Zhang et
al. 2018). With EfficientNet-Lite0 and without learned weights it is not LPIPS; `distance_file` takes the user's own.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from framefill.features.imagenet import load
from framefill.features.torchscript import distance_file

STAGES = slice(0, 5)  # the last two say what a picture shows, not how it looks
SMALL = 1e-4


@cache
def lite0_distance(path: Path | None = None, *, device: str = "cpu") -> Callable[[Tensor, Tensor], Tensor]:
    """A distance of pictures (B, C, H, W) in [-1, 1], C = 1 or 3, at least 32x32, to (B,); see the module.

    Errors as in `imagenet.efficientnet_lite0`. Pictures are not resized.
    """
    with torch.inference_mode(False):  # what is kept from there could never be used in training
        network = load(path).to(device)

    def maps(pictures: Tensor) -> list[Tensor]:
        levels = pictures.expand(-1, 3, -1, -1) * 127.5 + 127.5
        return [_unit(h) for h in network.maps((levels - 127) / 128)[STAGES]]

    def distance(made: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = maps(truth)
        apart = [(a - b).square().sum(1).mean((1, 2)) for a, b in zip(maps(made), wanted, strict=True)]
        return torch.stack(apart).mean(0)

    return distance


@cache
def file_distance(path: Path, *, device: str = "cpu") -> Callable[[Tensor, Tensor], Tensor]:
    """The same by a TorchScript file such as LPIPS, as `torchscript.distance_file` reads it, with its errors."""
    with torch.inference_mode(False):
        measure = distance_file(path, device=device).measure

    def distance(made: Tensor, truth: Tensor) -> Tensor:
        made, truth = (pictures.expand(-1, 3, -1, -1) * 127.5 + 127.5 for pictures in (made, truth))
        return measure(made, truth).reshape(len(made))

    return distance


def _unit(maps: Tensor) -> Tensor:
    return F.normalize(maps.float(), dim=1, eps=SMALL)
