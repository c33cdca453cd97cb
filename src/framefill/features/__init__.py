"""What networks see in pictures and clips: features whose distributions `framefill.metrics.distribution` compares.

`i3d()` gives the 400 logits of the Frechet video distance (FVD) as published; `efficientnet_lite0()` gives 1280
features of pictures, and a Frechet distance on them is FD-EffLite0, never FID. Their weights come in packages that the
user installs. `clip_file`, `picture_file` and `distance_file` run a file of the user's own. All but the last are
`Features`: uint8 frames in, one row of numbers per clip or picture out.
"""

from framefill.features.imagenet import efficientnet_lite0
from framefill.features.kinetics import i3d, i3d_pooled
from framefill.features.rows import Features
from framefill.features.torchscript import Distance, clip_file, distance_file, picture_file

__all__ = [
    "Distance", "Features", "clip_file", "distance_file", "efficientnet_lite0", "i3d", "i3d_pooled", "picture_file",
]  # fmt: skip
