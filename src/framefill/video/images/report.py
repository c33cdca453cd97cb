"""What a trained image model does: a sheet of pictures it has not seen, of its own, and of one it completed."""

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from framefill.diffusion.sample import DDPM
from framefill.video.images.model import ImageModel
from framefill.video.sheet import contact_sheet


def sample_sheet(model: ImageModel, source: Any, *, pictures: int = 12, seed: int = 0) -> Image.Image:
    """Held-out `pictures` of `source`, as many from nothing, and the first with its right half drawn as many times.

    In 20 ancestral steps whatever the model's sampler, since a sheet is drawn at every checkpoint. Their noise matters:
    a young model of eps errs most in the first steps, and DDIM would keep that error to the end.
    """
    quick = replace(model, sampler=DDPM(20))
    real = np.concatenate([source.sample(seed + i) for i in range(pictures)])
    known = np.zeros((model.height, model.width), bool)
    known[:, : model.width // 2] = True
    filled = quick.complete(real[0], known, samples=pictures, seed=seed)
    return contact_sheet(
        [("held out", real), ("from nothing", quick.generate(pictures, seed=seed)), ("right half drawn", filled)]
    )
