"""Statistics of a batch that several processes share: they hear of each other, and so act as one.

Gradients are added up by what wraps the model; what a forward pass counts or draws has to be shared here.
"""

import torch
from torch import Tensor

FOLLOW = 0.01  # share of a new batch in running statistics


def processes() -> int:
    """How many processes train this model."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def from_first(value: Tensor) -> None:
    """Makes `value` what it is in process 0."""
    if processes() > 1:
        torch.distributed.broadcast(value, 0)


def add_up(value: Tensor) -> None:
    """Makes `value` its sum over all processes."""
    if processes() > 1:
        torch.distributed.all_reduce(value)


@torch.no_grad()
def follow(running: Tensor, batch: Tensor) -> None:
    """Moves `running` statistics a little to the mean over all processes of those of a batch, if they are numbers."""
    seen = batch.float() / processes()
    add_up(seen)
    if bool(seen.isfinite().all()):
        running.lerp_(seen, FOLLOW)
