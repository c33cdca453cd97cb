"""Small hindcasts of known quality, for the tests of verification."""

import numpy as np

from framefill.climate.grid import grid_of
from framefill.climate.verification import Hindcasts

REGION = grid_of(np.arange(30.0, 54, 4), np.arange(10.0, 45, 5))  # 6x7 cells
GLOBE = grid_of(np.arange(-75.0, 90, 30), np.arange(0.0, 360, 30))  # 6x12 cells


def gaussian(rng, *, starts=40, members=9, leads=(1, 2, 3, 4), grid=REGION, shift=0.0, spread=1.0, **changes):
    """Truth and members drawn around one known mean; the model's have that mean plus `shift` and another spread.

    The baseline "far" knows nothing of the mean.
    """
    shape = (starts, len(leads), *grid.shape)
    mean = 280 + 3 * rng.normal(size=shape)
    happened = mean + rng.normal(size=shape)
    draws = rng.normal(size=(2, starts, members, *shape[1:]))
    made = {"model": mean[:, None] + shift + spread * draws[0], "far": 280 + np.sqrt(10) * draws[1]}
    fields = {
        "name": "air_temperature", "unit": "K", "grid": grid, "starts": tuple(str(2000 + i) for i in range(starts)),
        "leads": leads, "time_unit": "years", "happened": happened, "made": made, "spacing": 4,
    }  # fmt: skip
    return Hindcasts(**(fields | changes))
