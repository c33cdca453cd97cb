"""EfficientNet-Lite0: the mobile network of inverted bottlenecks, without squeeze-and-excitation, with ReLU6.

Tan and Le 2019; the Lite variant and its figures are of TensorFlow's program. 4.65 million parameters; trained on
ImageNet its 1280 pooled features describe what is in a picture. Padding is TensorFlow's.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.same import pad_same

SIZE = 224
CLASSES, WIDTH = 1000, 1280

# blocks, kernel, stride of the first block, expansion, channels out
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
          (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))  # fmt: skip


class Convolution(nn.Module):
    """Convolution with "SAME" padding and batch normalisation; `groups` as in nn.Conv2d."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, *, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to ceil of its size over the stride."""
        return self.norm(self.conv(pad_same(x, self.conv.kernel_size, self.conv.stride)))


class Bottleneck(nn.Module):
    """Widen, filter every channel by itself, narrow; added to the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int, expansion: int):
        super().__init__()
        width = inputs * expansion
        self.widen = Convolution(inputs, width) if expansion > 1 else None
        self.filter = Convolution(width, width, size, stride=stride, groups=width)
        self.narrow = Convolution(width, outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """x (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        h = x if self.widen is None else F.relu6(self.widen(x))
        h = self.narrow(F.relu6(self.filter(h)))
        return h + x if self.adds else h


class EfficientNetLite0(nn.Module):
    """Pictures to 1280 pooled features and the logits of 1000 kinds of thing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, 3, stride=2)
        self.blocks = nn.ModuleList()
        features = 32
        for count, size, stride, expansion, outputs in STAGES:
            for i in range(count):
                step = stride if i == 0 else 1
                self.blocks.append(Bottleneck(features, outputs, size, stride=step, expansion=expansion))
                features = outputs
        self.head = Convolution(features, WIDTH)
        self.logits = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures x (B, 3, H, W), normalised as ImageNet is, to features (B, 1280) and logits (B, 1000).

        Trained at 224x224; any size of at least 32x32 runs. Raises BadInput for another shape.
        """
        h = self.maps(x)[-1]
        features = F.relu6(self.head(h)).mean((2, 3))
        return features, self.logits(features)

    def maps(self, x: Tensor) -> list[Tensor]:
        """What the stages say of x: maps (B, C, h, w) of 16, 24, 40, 80, 112, 192 and 320 channels."""
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < 32:
            raise BadInput(f"EfficientNet-Lite0 takes pictures (B, 3, H, W) of at least 32x32, got {tuple(x.shape)}")
        h, last, found = F.relu6(self.stem(x)), 0, []
        for count, *_ in STAGES:
            for block in self.blocks[last : last + count]:
                h = block(h)
            last += count
            found.append(h)
        return found
