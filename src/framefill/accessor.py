"""`ds.framefill`: the verbs of an emulator on the dataset at hand. Import this module once, and every dataset has it.

import framefill.accessor
ensemble = ds.framefill.forecast("hadcm3", steps=10, members=20)
"""

from pathlib import Path
from typing import TYPE_CHECKING

from framefill.checkpoint import load
from framefill.climate.emulator import Emulator
from framefill.climate.extra import need
from framefill.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr

Model = Emulator | str | Path
"""An emulator, or what `framefill.load` takes."""


@need("xarray").register_dataset_accessor("framefill")
class Fields:
    """The dataset, and what a model makes of it: see the verbs of `Emulator`."""

    def __init__(self, dataset: "xr.Dataset") -> None:
        self._dataset = dataset

    def forecast(self, model: Model, steps: int = 10, *, members: int = 20, seed: int = 0) -> "xr.Dataset":
        """The fields after the last."""
        return emulator(model).forecast(self._dataset, steps, members=members, seed=seed)

    def interpolate(self, model: Model, *, members: int = 20, seed: int = 0) -> "xr.Dataset":
        """The fields that it leaves out."""
        return emulator(model).interpolate(self._dataset, members=members, seed=seed)

    def complete(self, model: Model, *, members: int = 20, seed: int = 0) -> "xr.Dataset":
        """All cells, from those that are not NaN."""
        return emulator(model).complete(self._dataset, members=members, seed=seed)

    def super_resolve(self, model: Model, like: "xr.Dataset", *, members: int = 20, seed: int = 0) -> "xr.Dataset":
        """The model's grid, of which it has means over blocks; `like` has that grid."""
        return emulator(model).super_resolve(self._dataset, like, members=members, seed=seed)


def emulator(model: Model) -> Emulator:
    """The emulator meant. Raises BadInput for a model of something else."""
    made = model if isinstance(model, Emulator) else load(model)
    if not isinstance(made, Emulator):
        raise BadInput(f"{model} is not a model of fields; `framefill info {model}` says what it is")
    return made
