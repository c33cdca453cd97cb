"""The picture codec with steps and laws of its own for every band of video: `Compressor`, told the kind of a band.

      setting = kind Q + quality,     kind 0 a picture, 1 to 3 low bands, 4 to 6 differences (`codec.groups`)

A picture is the band of kind 0, so this model codes pictures too. It begins as a picture codec's copy in every kind.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from framefill.codec import haar
from framefill.codec.model import Compressor, Sizes

KINDS = 2 * haar.DEEPEST + 1
TOLD = ("first.weight", "line.weight")  # of an exact network: what has a column for every setting, at its end


class TemporalCompressor(Compressor):
    """Pictures and bands of video at one of several qualities; `steps` (Q,) to begin with, and `temperature`, as in
    `Compressor`."""

    temporal = True

    def __init__(self, sizes: Sizes, steps: Sequence[float], *, temperature: float = 1.0):
        super().__init__(sizes, [*steps] * KINDS, temperature=temperature)

    @property
    def qualities(self) -> int:
        """How many there are."""
        return len(self.log_steps) // KINDS

    def setting(self, quality: int, kind: int) -> int:
        """What `steps`, `values` and the entropy model are told for a band."""
        return kind * self.qualities + quality


def widened(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a picture codec as those of a model of video that codes every band as it coded pictures."""
    count = len(tensors["log_steps"])
    found = dict(tensors) | {"log_steps": tensors["log_steps"].repeat(KINDS, 1)}
    for name, tensor in tensors.items():
        if name.startswith("entropy.") and name.endswith(TOLD):
            found[name] = torch.cat([tensor[:, :-count], tensor[:, -count:].repeat(1, KINDS)], 1)
    return found
