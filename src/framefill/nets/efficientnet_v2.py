"""EfficientNetV2-S (Tan and Le 2021): pictures to maps of 1280 features at a 32nd of their height and width.

Its early stages widen and filter in one convolution, the later ones filter channel by channel with squeeze-and-excite.
Layers bear torchvision's names, so that a file of its weights fits; batch norms are those of nets/batch_norm.py. Seed
002 takes it, without its classifier, for the encoder of its codec (20,177,488 parameters).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.batch_norm import BatchNorm

WIDTH, STEM, STRIDE = 1280, 24, 32
DROPPED = 0.2  # residual branches of the last block, in training; earlier ones in proportion

# fused, blocks, stride of the first block, expansion, channels out
STAGES = (
    (True, 2, 1, 1, 24), (True, 4, 2, 4, 48), (True, 4, 2, 4, 64),
    (False, 6, 2, 4, 128), (False, 9, 1, 6, 160), (False, 15, 2, 6, 256),
)  # fmt: skip


def unit(inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1, active: bool = True) -> nn.Module:
    """Convolution, normalisation and, if `active`, SiLU."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    layers = [conv, BatchNorm(outputs, eps=1e-3)]
    return nn.Sequential(*layers, nn.SiLU()) if active else nn.Sequential(*layers)


class Squeeze(nn.Module):
    """Squeeze-and-excite: channels times gates in (0, 1), told by the means of all channels."""

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(features, hidden, 1), nn.Conv2d(hidden, features, 1)
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to the same shape."""
        return x * self.fc2(F.silu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


def fused(inputs: int, outputs: int, stride: int, expansion: int) -> nn.Sequential:
    """The early blocks: a 3x3 convolution that widens, and one that narrows; without widening, one for both."""
    if expansion == 1:
        return nn.Sequential(unit(inputs, outputs, 3, stride=stride))
    width = inputs * expansion
    return nn.Sequential(unit(inputs, width, 3, stride=stride), unit(width, outputs, 1, active=False))


def separate(inputs: int, outputs: int, stride: int, expansion: int) -> nn.Sequential:
    """The later blocks: widen, filter every channel by itself, gate, narrow."""
    width = inputs * expansion
    return nn.Sequential(
        unit(inputs, width, 1), unit(width, width, 3, stride=stride, groups=width), Squeeze(width, inputs // 4),
        unit(width, outputs, 1, active=False),
    )  # fmt: skip


class Block(nn.Module):
    """A residual block; in training its branch is left out with probability `dropped`, sample by sample."""

    def __init__(self, block: nn.Sequential, *, adds: bool, dropped: float):
        super().__init__()
        self.block, self.adds, self.dropped = block, adds, dropped

    def forward(self, x: Tensor) -> Tensor:
        """x (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        h = self.block(x)
        if not self.adds:
            return h
        if self.training and self.dropped:
            kept = torch.rand(len(h), 1, 1, 1, device=h.device) >= self.dropped
            h = h * kept.to(h.dtype) / (1 - self.dropped)
        return x + h


class EfficientNetV2S(nn.Module):
    """Features of pictures that are normalised as ImageNet is; freshly initialised. Any size of 32x32 or more."""

    def __init__(self) -> None:
        super().__init__()
        stages: list[nn.Module] = [unit(3, STEM, 3, stride=2)]
        features, done, count = STEM, 0, sum(stage[1] for stage in STAGES)
        for joint, blocks, stride, expansion, outputs in STAGES:
            row = []
            for i in range(blocks):
                step = stride if i == 0 else 1
                kind = fused if joint else separate
                adds = step == 1 and features == outputs
                row.append(Block(kind(features, outputs, step, expansion), adds=adds, dropped=DROPPED * done / count))
                features, done = outputs, done + 1
            stages.append(nn.Sequential(*row))
        self.features = nn.Sequential(*stages, unit(features, WIDTH, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) to (B, 1280, ceil(H / 32), ceil(W / 32)). BadInput for other channels or smaller pictures."""
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < STRIDE:
            raise BadInput(f"EfficientNetV2-S takes pictures (B, 3, H, W) of at least 32x32, got {tuple(x.shape)}")
        return self.features(x)

    def fill(self, state: dict[str, Tensor]) -> None:
        """Takes torchvision's weights: `features.*`; a classifier beside them is left out.

        BadInput where a layer is missing, foreign or of another shape.
        """
        ends = ("classifier.", ".num_batches_tracked")
        found = {k: v for k, v in state.items() if not (k.startswith(ends[0]) or k.endswith(ends[1]))}
        own = self.state_dict()
        wrong = sorted(set(found) ^ set(own)) or [k for k in own if found[k].shape != own[k].shape]
        if wrong:
            raise BadInput(f"these are not the weights of torchvision's efficientnet_v2_s: see {wrong[0]}")
        self.load_state_dict(found)
