"""I3D on RGB: Inception-v1 with its filters inflated through time, 400 classes of Kinetics (Carreira, Zisserman 2017).

Its answers to real and made clips are what the Frechet video distance compares. The network here is only ever run, not
trained, so batch normalisation is part of the convolutions: a weight and a bias each, 12.69 million numbers. Layers
bear DeepMind's names.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.same import pad_same

SIZE = 224
LEAST_FRAMES = 9  # three halvings of time must leave the two steps that the last pooling takes
CLASSES, WIDTH = 400, 1024

# Filters of an inception block: 1x1; 1x1 then 3x3; 1x1 then 3x3; 1x1 after pooling.
BLOCKS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


class Unit(nn.Module):
    """Convolution of `size` x `size` x `size` with "SAME" padding, then ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, *, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, size, stride)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T, H, W) to ceil of its size over the stride."""
        return F.relu(self.conv(pad_same(x, self.conv.kernel_size, self.conv.stride)), inplace=True)


class MaxPool(nn.Module):
    """Largest value in windows of (time, height, width), with "SAME" padding that never wins."""

    def __init__(self, window: tuple[int, int, int], stride: tuple[int, int, int]):
        super().__init__()
        self.window, self.stride = window, stride

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T, H, W) to ceil of its size over the stride."""
        padded = pad_same(x, self.window, self.stride, value=float("-inf"))
        return F.max_pool3d(padded, self.window, self.stride)


class Mixed(nn.Module):
    """An inception block: four branches side by side, their channels one after another."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int]):
        super().__init__()
        a, b0, b1, c0, c1, d = widths
        self.branches = nn.ModuleList(
            [
                _named({"Branch_0/Conv3d_0a_1x1": Unit(inputs, a)}),
                _named({"Branch_1/Conv3d_0a_1x1": Unit(inputs, b0), "Branch_1/Conv3d_0b_3x3": Unit(b0, b1, 3)}),
                _named({"Branch_2/Conv3d_0a_1x1": Unit(inputs, c0), "Branch_2/Conv3d_0b_3x3": Unit(c0, c1, 3)}),
                _named({"pool": MaxPool((3, 3, 3), (1, 1, 1)), "Branch_3/Conv3d_0b_1x1": Unit(inputs, d)}),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T, H, W) to the same size."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def _named(layers: dict[str, nn.Module]) -> nn.Sequential:
    chain = nn.Sequential()
    for name, layer in layers.items():
        chain.add_module(name, layer)
    return chain


class I3D(nn.Module):
    """Clips to 1024 pooled features and the logits of 400 kinds of action."""

    def __init__(self) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {
            "Conv3d_1a_7x7": Unit(3, 64, 7, stride=2),
            "MaxPool3d_2a_3x3": MaxPool((1, 3, 3), (1, 2, 2)),
            "Conv3d_2b_1x1": Unit(64, 64),
            "Conv3d_2c_3x3": Unit(64, 192, 3),
            "MaxPool3d_3a_3x3": MaxPool((1, 3, 3), (1, 2, 2)),
        }
        features = 192
        for name, widths in BLOCKS.items():
            layers[name] = Mixed(features, widths)
            features = widths[0] + widths[2] + widths[4] + widths[5]
            if name == "Mixed_3c":
                layers["MaxPool3d_4a_3x3"] = MaxPool((3, 3, 3), (2, 2, 2))
            elif name == "Mixed_4f":
                layers["MaxPool3d_5a_2x2"] = MaxPool((2, 2, 2), (2, 2, 2))
        self.body = _named(layers)
        self.logits = nn.Linear(features, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Clips x (B, T, 3, 224, 224) in [-1, 1], T >= 9, to features (B, 1024) and logits (B, 400).

        Both are means over time; the logits are linear in the features, so it does not matter which mean comes first.
        Raises BadInput for another shape.
        """
        if x.ndim != 5 or x.shape[1] < LEAST_FRAMES or x.shape[2:] != (3, SIZE, SIZE):
            raise BadInput(
                f"I3D takes clips (B, T, 3, {SIZE}, {SIZE}) of at least {LEAST_FRAMES} frames, got {tuple(x.shape)}"
            )
        h = self.body(x.transpose(1, 2))
        features = F.avg_pool3d(h, (2, 7, 7), 1).mean((2, 3, 4))
        return features, self.logits(features)
