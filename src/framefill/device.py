"""Where to compute: the device, and whether 16-bit floats pay there."""

import torch

from framefill.errors import BadInput


def choose(name: str = "auto") -> str:
    """ "cpu" or "cuda[:n]": what was asked for if it is there, for "auto" the best there is; BadInput otherwise."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not (name.split(":")[0] == "cuda" and torch.cuda.is_available()):
        raise BadInput(f"device {name!r} is not here; choose cpu{' or cuda' if torch.cuda.is_available() else ''}")
    return name


def bf16_pays(device: str) -> bool:
    """Whether mixed precision is faster here: CUDA with bf16, or a CPU with bf16 instructions."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    return device == "cpu" and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
