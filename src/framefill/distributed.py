"""Several processes that act as one: who am I, what is my share, and what do the others say.

torchrun starts every process with its number in the environment; where it did not, there is one process, no group is
made and every verb below is what it is for one. What the processes tell each other are tensors, never objects, which
would have to be unpickled. Words go over gloo, which notices at once when another process has died; gradients of
models on GPUs go over nccl.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from framefill.errors import BadInput, Failed

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")
PATIENCE = 1800.0  # seconds to wait for another process that is alive but silent
_left: Any = None  # the last group that this process has left


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `world`, and number `local_rank` on its host."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @classmethod
    def here(cls) -> "Ranks":
        """What torchrun says in RANK, WORLD_SIZE and LOCAL_RANK, or the only one; BadInput if that makes no sense."""
        words = [os.environ.get(key, default) for key, default in (("RANK", "0"), ("WORLD_SIZE", "1"))]
        words.append(os.environ.get("LOCAL_RANK", words[0]))
        try:
            rank, world, local = map(int, words)
        except ValueError:
            rank, world, local = -1, 0, 0
        if not (0 <= rank < world and local >= 0):
            raise BadInput(
                f"the environment says RANK={words[0]}, WORLD_SIZE={words[1]}, LOCAL_RANK={words[2]}; they must be "
                "whole numbers with 0 <= RANK < WORLD_SIZE: unset them, or start with torchrun, which sets them"
            )
        return cls(rank, world, local)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> list[T]:
        """This process's share: every world-th item, from number `rank` on."""
        return list(items[self.rank :: self.world])

    def device(self, name: str) -> str:
        """ "cuda" as the GPU of this process on its host; any other device as it is."""
        return f"cuda:{self.local_rank}" if name == "cuda" and self.world > 1 else name

    def sum(self, *numbers: float) -> list[float]:
        """The sums of the numbers over all processes, the same everywhere, added in double precision."""
        if self.world == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.all_reduce(total)
        return total.tolist()

    def agree(self, flag: bool) -> bool:
        """Whether any process says yes."""
        return self.sum(float(flag))[0] > 0

    def barrier(self) -> None:
        """Waits until every process is here."""
        self.sum(0.0)

    def first(self, value: Tensor) -> Tensor:
        """Process 0's `value`, a CPU tensor, everywhere; the others give one of the same shape and type."""
        if self.world > 1:
            value = value.contiguous()
            torch.distributed.broadcast(value, 0)
        return value

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Runs the block in one process of every host first, then in the others: they find its work in the cache."""
        if self.local_rank:
            self.barrier()
        yield
        if not self.local_rank:
            self.barrier()


@contextmanager
def joined(device: str = "cpu", *, patience: float | None = None) -> Iterator[Ranks]:
    """The group of processes that torchrun started; of one process, or within another such block, makes nothing.

    Raises Failed, in every process that is left, when another one dies, or is silent for `patience` seconds (default:
    FRAMEFILL_PATIENCE in the environment, or half an hour).
    """
    ranks, distributed = Ranks.here(), torch.distributed
    if ranks.world == 1 or distributed.is_initialized():
        yield ranks
        return
    lost = False
    try:
        _join(device, ranks, patience or _patience())
        yield ranks
    except (RuntimeError, ValueError) as error:
        lost = _lost(error)
        if not lost:
            raise
        reason = str(error).strip().splitlines()[0]
        raise Failed(
            f"process {ranks.rank} of {ranks.world} lost the others ({reason}); see what the one that died first says, "
            "then run again to go on"
        ) from error
    finally:
        # Taking leave of a process that hangs can take for ever.
        if distributed.is_initialized() and not lost:
            _leave()


def _patience() -> float:
    text = os.environ.get("FRAMEFILL_PATIENCE", str(PATIENCE))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e7:
        raise BadInput(f"FRAMEFILL_PATIENCE must be a number of seconds, got {text!r}")
    return seconds


def _join(device: str, ranks: Ranks, patience: float) -> None:
    backend = "cpu:gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(ranks.device(device))
        backend += ",cuda:nccl"
    torch.distributed.init_process_group(backend, timeout=timedelta(seconds=patience))


def _leave() -> None:
    # DDP's reducer, freed later, does not give up the interpreter's lock while the group's threads end, and these may
    # want it for their last words: each would wait for the other. So the reducer must not be the group's last holder.
    global _left
    _left = torch.distributed.group.WORLD
    torch.distributed.destroy_process_group()


def _lost(error: Exception) -> bool:
    """Whether an error comes from the connection to other processes."""
    known = ("gloo", "pair closure", "NCCL", "rendezvous", "clients joined")
    return isinstance(error, torch.distributed.DistError) or any(word in str(error) for word in known)


def channels_last(module: M) -> M:
    """The module, its weights of four axes in channels-last order; torch refuses where others have five, of clips."""
    for weight in module.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.to(memory_format=torch.channels_last)  # strides too, of 1x1 kernels
    return module


def spread(module: nn.Module, ranks: Ranks, device: str, *, shard: bool) -> nn.Module:
    """`module` on `device`, such that backward leaves gradients that are means over all processes.

    With `shard` its parameters become DTensors of which each process holds a part (FSDP2); they are gathered for one
    element of a ModuleList at a time, so a model that does not fit one device may fit several.
    """
    if ranks.world == 1:
        return channels_last(module.to(device))
    if shard:
        return _sharded(module, device, ranks)
    # Without looking for unused parameters DDP would deal them to buckets anew after the first step of every start,
    # and three or more processes would add in another order than a run that was not interrupted.
    return nn.parallel.DistributedDataParallel(
        channels_last(module.to(device)),
        find_unused_parameters=True,
    )


def _sharded(module: nn.Module, device: str, ranks: Ranks) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.split(":")[0], (ranks.world,))
    for outer in reversed(list(module.modules())):
        for inner in outer if isinstance(outer, nn.ModuleList) else ():
            if any(True for _ in inner.parameters()):
                fully_shard(inner, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def whole(value: Tensor) -> Tensor:
    """A tensor that may be shared out over the processes, gathered in each of them; every process must call this."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def alike(value: Tensor, like: Any) -> Tensor:
    """A whole `value` laid out, shared out and placed as `like` is, of the same shape; no process hears of another."""
    if not hasattr(like, "full_tensor"):
        return torch.empty_like(like).copy_(value)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
