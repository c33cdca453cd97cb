"""Tensors and randomness: broadcasting per-sample numbers, and noise that belongs to a sample, not to its batch.

Every sample owns its own stream of random numbers, `Rng.seeds[i]`. Sample i therefore comes out the same alone, in a
batch of 4 or in a batch of 64, on the CPU or on a GPU (numbers are drawn on the CPU and moved).
"""

import hashlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def expand(values: Tensor, like: Tensor) -> Tensor:
    """Per-sample numbers (B,) as a tensor that broadcasts against `like` (B, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def continued(x: Tensor, stride: int) -> Tensor:
    """x (B, ..., C, H, W), continued below and on the right by its last row and column to multiples of `stride`."""
    H, W = x.shape[-2:]
    padded = F.pad(x.flatten(0, -4), (0, -W % stride, 0, -H % stride), mode="replicate")
    return padded.unflatten(0, x.shape[:-3])


def derive(seed: int, *keys: int) -> int:
    """A 63-bit seed that is a pure function of `seed` and `keys`.

    torch's generator looks at the low 32 bits only, so among n derived streams about n^2 / 2^33 pairs coincide.
    """
    text = ",".join(str(int(k)) for k in (seed, *keys)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


class Rng:
    """One independent random stream per sample of a batch.

    `normal`, `uniform` and `integers` give tensors whose first axis is the batch, drawn sample by sample.
    """

    def __init__(self, seeds: Sequence[int]):
        self.seeds = tuple(int(s) for s in seeds)
        self._streams = [torch.Generator().manual_seed(s) for s in self.seeds]

    @classmethod
    def batch(cls, seed: int, size: int, *keys: int) -> "Rng":
        """Streams for samples 0..size-1 of a batch, derived from (seed, *keys, index)."""
        return cls([derive(seed, *keys, i) for i in range(size)])

    def __len__(self) -> int:
        return len(self.seeds)

    def pick(self, index: Sequence[int]) -> "Rng":
        """The streams of some samples, shared with this object: drawing from one advances the other."""
        part = Rng([])
        part.seeds = tuple(self.seeds[i] for i in index)
        part._streams = [self._streams[i] for i in index]
        return part

    def state(self) -> Tensor:
        """Where every stream stands, uint8 (B, n)."""
        return torch.stack([g.get_state() for g in self._streams])

    def restore(self, state: Tensor) -> None:
        """Put every stream where `state` of the same batch size was taken."""
        for stream, place in zip(self._streams, state, strict=True):
            stream.set_state(place.clone())

    def normal(self, shape: Sequence[int], like: Tensor | None = None) -> Tensor:
        """Standard normal numbers (B, *shape), float32, on the device of `like`."""
        return self._stack([torch.randn(tuple(shape), generator=g) for g in self._streams], like)

    def uniform(self, shape: Sequence[int] = (), like: Tensor | None = None) -> Tensor:
        """Uniform numbers in [0, 1) of shape (B, *shape), float32, on the device of `like`."""
        return self._stack([torch.rand(tuple(shape), generator=g) for g in self._streams], like)

    def integers(self, high: int, shape: Sequence[int] = ()) -> Tensor:
        """Uniform integers in 0..high-1 of shape (B, *shape), int64, on the CPU."""
        return torch.stack([torch.randint(high, tuple(shape), generator=g) for g in self._streams])

    @staticmethod
    def _stack(draws: list[Tensor], like: Tensor | None) -> Tensor:
        stacked = torch.stack(draws)
        return stacked if like is None else stacked.to(like.device)
