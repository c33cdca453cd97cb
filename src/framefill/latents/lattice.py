"""Quantisers whose codes are given, not learned: the corners of a cube, or a grid of points in it.

      lookup-free (Yu et al. 2024):       q = sign(z),                        2^D codes
      finite scalar (Mentzer et al. 2024): q = round(bounded z) / (L // 2),    L_1 L_2 .. L_D codes

There is no codebook that could fall out of use for good, so nothing is revived; what is chosen is counted all the same.
Both are the contract of `Quantiser`. Tests hold them against vector-quantize-pytorch where it is installed.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from framefill.errors import BadInput
from framefill.latents.quantiser import Counted, Quantised

MOST_CODES = 2**18
NEVER = 1e-20  # entropies have no finite slope at probability 0
LOOSE = 1e-3  # how far beyond the outermost points finite scalar values may reach


class Lattice(Counted, ABC):
    """What `LookupFree` and `FiniteScalar` share: `levels` points along each of the D axes.

    A code's index is a number whose digits, the first the least, are its places along the axes.
    """

    def __init__(self, levels: tuple[int, ...], *, patience: int = 100):
        super().__init__()
        if not levels or min(levels) < 2 or math.prod(levels) > MOST_CODES:
            raise BadInput(f"a lattice has 2 or more levels per axis and at most {MOST_CODES} codes, got {levels}")
        self.levels = tuple(levels)
        self.begin(math.prod(levels), patience)

    @property
    def width(self) -> int:
        """D."""
        return len(self.levels)

    def forward(self, z: Tensor) -> Quantised:
        """z (B, D, h, w), as in `Quantiser`."""
        z = self._checked(z)
        places = self._places(z.detach())
        indices = self._number(places)
        if self.training:
            self.count(indices)
        soft = self._soft(z)
        return Quantised(soft + (self._values(places).to(z.dtype) - soft).detach(), indices, self._penalty(z))

    def indices(self, z: Tensor) -> Tensor:
        """As in `Quantiser`."""
        return self._number(self._places(self._checked(z)))

    def codes(self, indices: Tensor) -> Tensor:
        """As in `Quantiser`; BadInput for others than 0..K-1."""
        indices, digits = self.known(indices), []
        for n in self.levels:
            digits.append(indices % n)
            indices = indices // n
        return self._values(torch.stack(digits, 1)).float()

    @abstractmethod
    def _places(self, z: Tensor) -> Tensor:
        """Where along every axis: int64 (B, D, h, w) in 0..levels-1."""

    @abstractmethod
    def _values(self, places: Tensor) -> Tensor:
        """The numbers there."""

    @abstractmethod
    def _soft(self, z: Tensor) -> Tensor:
        """What the gradient of the codes passes through."""

    @abstractmethod
    def _penalty(self, z: Tensor) -> Tensor:
        """(B,)."""

    def _checked(self, z: Tensor) -> Tensor:
        if z.ndim != 4 or z.shape[1] != self.width:
            raise BadInput(f"latents have shape {tuple(z.shape)}; this lattice takes (B, {self.width}, h, w)")
        return z.to(torch.promote_types(z.dtype, torch.float32))

    def _number(self, places: Tensor) -> Tensor:
        index = torch.zeros_like(places[:, 0])
        for axis in reversed(range(self.width)):
            index = index * self.levels[axis] + places[:, axis]
        return index


@dataclass(frozen=True)
class Scale:
    """`levels` numbers along each axis of (B, D, h, w), counted from the middle one: -(n // 2) .. (n - 1) // 2."""

    levels: tuple[int, ...]

    def bounded(self, z: Tensor) -> Tensor:
        """z by a tanh to between the outermost levels, and a little beyond."""
        reach = [(n - 1) * (1 + LOOSE) / 2 for n in self.levels]
        lower = [0.0 if n % 2 else 0.5 for n in self.levels]
        shift = [math.atanh(b / r) for b, r in zip(lower, reach, strict=True)]
        shifts, reaches, lowers = (_axes(numbers, z, z.dtype) for numbers in (shift, reach, lower))
        return (z + shifts).tanh() * reaches - lowers

    def nearest(self, levels: Tensor) -> Tensor:
        """Whole numbers of any size as levels that there are, int64."""
        return levels.long().clamp(-self.halves(levels)).minimum(_axes([(n - 1) // 2 for n in self.levels], levels))

    def halves(self, like: Tensor) -> Tensor:
        """(D, 1, 1): what levels are divided by to lie in [-1, 1], or, for even ones, just below 1."""
        return _axes([n // 2 for n in self.levels], like)


def _axes(numbers: Sequence[float], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device=like.device)[:, None, None]


class FiniteScalar(Lattice):
    """Numbers bounded by a tanh and rounded to `levels`, evenly spaced; see `Scale`."""

    @property
    def scale(self) -> Scale:
        """What is said of one number."""
        return Scale(self.levels)

    def _places(self, z: Tensor) -> Tensor:
        return self.scale.nearest(self.scale.bounded(z).round()) + self.scale.halves(z)

    def _values(self, places: Tensor) -> Tensor:
        halves = self.scale.halves(places)
        return (places - halves) / halves

    def _soft(self, z: Tensor) -> Tensor:
        return self.scale.bounded(z) / self.scale.halves(z)

    def _penalty(self, z: Tensor) -> Tensor:
        return z.new_zeros(len(z))


class LookupFree(Lattice):
    """The signs of `bits` numbers.

    The penalty, weighted by `entropy`, makes every choice sure and all codes alike in use; `commitment` weighs the
    distance to the signs:

          entropy (mean H(p) - diversity H(mean p)) + commitment |z - q|^2,       p(code | z) ~ exp(2 sharpness z code)

    Given z the bits are independent, so the first entropy is a sum over bits; the mean distribution is one product of
    matrices over two halves of the bits.
    """

    def __init__(
        self,
        bits: int,
        *,
        entropy: float = 0.1,
        diversity: float = 1.0,
        sharpness: float = 100.0,
        commitment: float = 0.25,
        patience: int = 100,
    ):
        if not 1 <= bits <= MOST_CODES.bit_length() - 1:
            raise BadInput(f"a lookup-free quantiser has 1 to {MOST_CODES.bit_length() - 1} bits, got {bits}")
        if min(entropy, diversity, commitment) < 0 or sharpness <= 0:
            raise BadInput(f"weights {entropy}, {diversity}, {commitment} or sharpness {sharpness} of the wrong sign")
        super().__init__((2,) * bits, patience=patience)
        self.entropy, self.diversity, self.sharpness, self.commitment = entropy, diversity, sharpness, commitment

    def _places(self, z: Tensor) -> Tensor:
        return (z > 0).long()

    def _values(self, places: Tensor) -> Tensor:
        return 2 * places - 1

    def _soft(self, z: Tensor) -> Tensor:
        return z

    def _penalty(self, z: Tensor) -> Tensor:
        held = (z - self._values(self._places(z))).square().mean((1, 2, 3))
        odds = 4 * self.sharpness * z  # of a bit being 1, as a logarithm
        size = odds.abs()
        sure = (F.softplus(-size) + size * (-size).sigmoid()).sum(1).mean((1, 2))  # finite where a bit is certain
        spread = torch.special.entr(self._mean_codes(odds.sigmoid()).clamp(min=NEVER)).sum()
        return self.entropy * (sure - self.diversity * spread) + self.commitment * held

    def _mean_codes(self, share: Tensor) -> Tensor:
        """The mean probability of every code over the batch, (2^a, 2^b)."""
        rows = share.movedim(1, -1).flatten(0, 2)
        halves = [_codes(part) for part in rows.tensor_split(2, 1)]
        return halves[0].T @ halves[1] / len(rows)


def _codes(share: Tensor) -> Tensor:
    """The probabilities (N, 2^n) of all values of n independent bits that are 1 with probabilities `share` (N, n)."""
    made = share.new_ones(len(share), 1)
    for bit in share.unbind(1):
        made = torch.cat([made * (1 - bit[:, None]), made * bit[:, None]], 1)
    return made
