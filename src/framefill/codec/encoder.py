"""The encoder of the diffusion autoencoder: what an image network sees, narrowed to a few standardised numbers.

      z = norm(W features((x - mean) / std)),     W a 1x1 convolution without bias, norm without scale or shift

With features at a 32nd of the picture that is f32; a picture that is shrunk first gives up to f64 (seed 002, section
3; facts, section 3.2). The features are EfficientNetV2-S or Lite0, pretrained or from scratch.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from framefill.errors import BadInput, CheckpointError
from framefill.features.imagenet import load as load_lite0
from framefill.nets.batch_norm import BatchNorm, adopt
from framefill.nets.efficientnet_lite import EfficientNetLite0
from framefill.nets.efficientnet_v2 import EfficientNetV2S

STRIDE, WIDTH = 32, 1280
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for pictures in [0, 1]
SMALLEST, LARGEST = 0.5, 1.0  # how far pictures are shrunk: f64 to f32


class V2Features(nn.Module):
    """EfficientNetV2-S for pictures in [-1, 1]."""

    def __init__(self, network: EfficientNetV2S | None = None):
        super().__init__()
        self.network = network or EfficientNetV2S()

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) to (B, 1280, H / 32, W / 32)."""
        mean, std = (torch.tensor(values, device=x.device, dtype=x.dtype)[:, None, None] for values in (MEAN, STD))
        return self.network((x / 2 + 0.5 - mean) / std)


class Lite0Features(nn.Module):
    """EfficientNet-Lite0 for pictures in [-1, 1], up to its last maps."""

    def __init__(self, network: EfficientNetLite0 | None = None):
        super().__init__()
        self.network = adopt(network or EfficientNetLite0())
        del self.network.logits

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) to (B, 1280, H / 32, W / 32)."""
        maps = self.network.maps((x * 127.5 + 0.5) / 128)  # type: ignore[operator]  # (level - 127) / 128
        return F.relu6(self.network.head(maps[-1]))  # type: ignore[operator]


def pretrained_v2(path: Path) -> V2Features:
    """With the user's weights, a .safetensors of torchvision's efficientnet_v2_s.

    CheckpointError for a file that cannot be read as one, BadInput for another network's.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as .safetensors ({str(error).splitlines()[0]}); convert torchvision's "
            "efficientnet_v2_s with safetensors.torch.save_file"
        ) from error
    network = EfficientNetV2S()
    network.fill(state)
    return V2Features(network)


def pretrained_lite0(path: Path | None = None) -> Lite0Features:
    """With the weights that pip brings; errors as in `features.imagenet.load`."""
    return Lite0Features(load_lite0(path).requires_grad_(True))


class LatentEncoder(nn.Module):
    """Pictures to standardised latents of `channels`; `features` answer with 1280 maps at a 32nd of the size.

    With `frozen`, the features stay as they are, in training too. Latents have mean 0 and variance 1 per channel over
    a training batch, and nearly so afterwards.
    """

    def __init__(self, features: nn.Module, channels: int = 16, *, frozen: bool = False):
        super().__init__()
        if channels < 1:
            raise BadInput(f"latents have 1 channel or more, got {channels}")
        self.features, self.frozen, self.channels = features.requires_grad_(not frozen), frozen, channels
        for module in features.modules():
            if isinstance(module, BatchNorm):  # statistics are never learned
                module.running_mean.requires_grad_(False)
                module.running_var.requires_grad_(False)
        self.narrow = nn.Conv2d(WIDTH, channels, 1, bias=False)
        self.norm = BatchNorm(channels, affine=False)

    def train(self, mode: bool = True) -> "LatentEncoder":
        """As in torch; frozen features stay in evaluation."""
        super().train(mode)
        if self.frozen:
            self.features.eval()
        return self

    def forward(self, x: Tensor, share: float = 1.0) -> Tensor:
        """Pictures x (B, 3, H, W) in [-1, 1], shrunk to `share` of their sides, to z (B, channels, h, w).

        h = floor(share H / 32), at least 1. BadInput for a share outside [0.5, 1].
        """
        return self.norm(self.raw(x, share))

    def raw(self, x: Tensor, share: float = 1.0) -> Tensor:
        """The latents before they are standardised."""
        return self.narrow(self.features(shrunk(x, share)))


def shrunk(x: Tensor, share: float) -> Tensor:
    """Pictures at `share` of their sides, rounded down to multiples of 32: at share 1/2, 32 becomes 64.

    Paper: the program takes the nearest pixel, which aliases; here they are averaged. BadInput outside [0.5, 1].
    """
    if not SMALLEST <= share <= LARGEST:
        raise BadInput(f"pictures can be shrunk to {SMALLEST} to {LARGEST:g} of their sides, got {share}")
    sides = [max(int(side * share) // STRIDE, 1) * STRIDE for side in x.shape[2:]]
    if tuple(sides) == tuple(x.shape[2:]):
        return x
    return F.interpolate(x, sides, mode="bilinear", antialias=True)
