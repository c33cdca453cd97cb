"""Levels to bytes by the likelihood of a flow: local bits-back coding (Ho, Lohn and Abbeel 2019), losslessly.

A flow knows densities of continuous values. A code needs probabilities of cells, so everything lives on two grids of
2^11 cells, equally likely under N(0, 1): y, the quantiles of the levels, whose cells are shared out among an element's
levels, and z, the noise. With y = g(z) the flow's decoder and s a small width, bits are

      taken off the stack for   y within its level,   z ~ q(z | y) = N(m, (I + K^T K / s^2)^-1),   K = dg/dz
      put on the stack for      y ~ N(g(z), s^2),     z ~ N(0, I)

so that on average an image costs -log p(image) of the flow, blurred by s, and what q misses by g being curved. The
bits that the first image takes off are those of a few images sent before by the histograms alone: nothing is assumed
to be there already, and all is in the file. g need not be exactly invertible: m is one Gauss-Newton step from where
`encode` puts y, and what is off costs bits, never exactness.

Both ends compute g and K in float64, and must get the same numbers, bit by bit: the same machine, libraries and number
of threads. Elsewhere they may not. A checksum over model and levels tells: nothing is ever decoded to something else.
"""

import copy
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.arrays import Rng
from framefill.codec.coder import PRECISION
from framefill.codec.header import Limits, Reader, varint
from framefill.codec.stack import WHOLE, Stack, even
from framefill.codec.tables import Ints, normalise
from framefill.errors import BadInput, CodecError
from framefill.flows.cnf import CNF
from framefill.flows.flow import Flow
from framefill.flows.maps import Marginals
from framefill.flows.ode import Solver
from framefill.flows.trace import Rademacher

MAGIC = b"\xf1F1"
DEPTH = 11
CELLS = 1 << DEPTH
MOST = 1024
"""Elements of a sample: the Jacobian is a matrix, and costs as many backward passes."""
SOLVER = Solver("rk4", step=0.2)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FlowCodec:
    """Samples of whole levels to bytes and back, with a flow over their dequantised values and their histograms.

    `marginals` are those of the training data (`Marginals.fit`): they say which values the levels have, and give each
    its share of cells. `width` is s, in standard deviations of y: larger ones blur the density, which costs bits where
    it is sharp and saves some where it is sharper than the data; smaller ones meet the grids.
    Raises BadInput for samples of more than 1024 elements and more than 1024 levels.
    """

    flow: Flow
    marginals: Marginals
    width: float = 0.1

    def __post_init__(self) -> None:
        *shape, levels = self.marginals.get_buffer("share").shape
        if not (0 < self.width < 1 and np.prod(shape) <= MOST and 2 <= levels <= CELLS // 4):
            raise BadInput(
                f"a flow codes samples of at most {MOST} elements with 2 to {CELLS // 4} levels at a width between 0 "
                f"and 1; got {'x'.join(map(str, shape))} elements, {levels} levels, width {self.width}"
            )

    def encode(self, values: NDArray[np.integer]) -> bytes:
        """Levels (N, ...), from 0, as a file; BadInput for levels that the histograms do not have."""
        levels = self._levels(values)
        plain = self._plain(levels)
        stack = Stack()
        for own in levels[:plain]:
            for element, level in enumerate(own):
                stack.push(int(self.firsts[element, level]) << PRECISION - DEPTH, self._own(element, level))
        for own in levels[plain:]:
            self._push(stack, own)
        check = self._check(levels).to_bytes(4, "little")
        return MAGIC + varint(len(levels)) + varint(plain) + check + stack.message()

    def decode(self, data: bytes, limits: Limits | None = None) -> Ints:
        """The levels, of the marginals' shape; CodecError for damage, another model or arithmetic."""
        reader = Reader(data)
        if reader.take(len(MAGIC)) != MAGIC:
            raise CodecError("this is not a file of a flow codec, or one of a later version")
        count, plain, check = reader.number(), reader.number(), int.from_bytes(reader.take(4), "little")
        allowed = limits or Limits(pictures=100_000)
        if not plain <= count <= allowed.pictures or count * self.size > allowed.samples:
            raise CodecError(f"the file claims {count} samples, {plain} of them plain; that is over the limits")
        stack = Stack(data[reader.place :])
        found = [self._pop(stack) for _ in range(count - plain)] + [self._popped(stack) for _ in range(plain)]
        levels = np.array(found[::-1], np.int64).reshape(count, self.size)
        if self._check(levels) != check:
            raise CodecError(
                "the levels do not agree with their checksum: the file is damaged, or was made with another model, on "
                "another machine or with another number of threads"
            )
        stack.emptied()
        return levels.reshape(count, *self.shape)

    # ---- one sample --------------------------------------------------------------------------------------------

    def _push(self, stack: Stack, own: Ints) -> None:
        """Takes off y and z, then puts both on: what is gained is the sample's code."""
        firsts, shares = self._at(own)
        y = firsts + np.array([stack.pop(even(share)) for share in shares], np.int64)
        mean, root = self._posterior(y)
        z = np.zeros(self.size, np.int64)
        for element, starts in _backwards(mean, root, z):
            z[element] = stack.pop(starts)
        for starts, cell in zip(_starts(self._made(z), np.full(self.size, self.width)), y, strict=True):
            stack.push(int(starts[cell]), int(starts[cell + 1] - starts[cell]))
        for cell in z.tolist():
            stack.push(cell << PRECISION - DEPTH, 1 << PRECISION - DEPTH)

    def _pop(self, stack: Stack) -> Ints:
        """The inverse of `_push`, last things first."""
        z = np.array([stack.pop(_uniform()) for _ in range(self.size)], np.int64)[::-1].copy()
        every = _starts(self._made(z), np.full(self.size, self.width))
        y = np.array([stack.pop(starts) for starts in every[::-1]], np.int64)[::-1]
        mean, root = self._posterior(y)
        for element, starts in reversed(list(_backwards(mean, root, z))):
            stack.push(int(starts[z[element]]), int(starts[z[element] + 1] - starts[z[element]]))
        own = np.sum(self.firsts[:, 1:-1] <= y[:, None], 1)
        firsts, shares = self._at(own)
        for place, share in list(zip(y - firsts, shares, strict=True))[::-1]:
            starts = even(share)
            stack.push(int(starts[place]), int(starts[place + 1] - starts[place]))
        return own

    def _popped(self, stack: Stack) -> Ints:
        """A sample sent by the histograms alone."""
        return np.array([stack.pop(row << PRECISION - DEPTH) for row in self.firsts[::-1]], np.int64)[::-1]

    def _at(self, own: Ints) -> tuple[Ints, list[int]]:
        """The first cell and the number of cells of each element's level."""
        every = np.arange(self.size)
        firsts = self.firsts[every, own]
        return firsts, (self.firsts[every, own + 1] - firsts).tolist()

    def _own(self, element: int, level: int) -> int:
        return int(self.firsts[element, level + 1] - self.firsts[element, level]) << PRECISION - DEPTH

    # ---- the model ---------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample."""
        return tuple(self.marginals.get_buffer("share").shape[:-1])

    @property
    def size(self) -> int:
        """Elements of a sample."""
        return int(np.prod(self.shape))

    @cached_property
    def firsts(self) -> Ints:
        """The first cell of every level and, last, their number: (elements, levels + 1)."""
        rows = self.marginals.get_buffer("share").flatten(0, -2).cpu().numpy()
        counts = [normalise(np.round(row * 2**40).astype(np.int64), CELLS) for row in rows]
        return np.pad(np.cumsum(counts, 1), ((0, 0), (1, 0)))

    @cached_property
    def _own_marginals(self) -> Marginals:
        """The histograms that the cells stand for, rounded to them."""
        shares = torch.from_numpy(np.diff(self.firsts, axis=1)).double().unflatten(0, self.shape)
        return Marginals(shares, first=self.marginals.first, width=self.marginals.width)

    @cached_property
    def _exact(self) -> Flow:
        """The flow in float64, solved in steps that are the same for every sample."""
        flow = copy.deepcopy(self.flow).cpu().double().eval().requires_grad_(False)
        for part in flow.modules():
            if isinstance(part, CNF):
                part.trace, part.solver = Rademacher(1), SOLVER
        return flow

    def _quantiles(self, z: Tensor) -> Tensor:
        """g: z (1, D) to y (1, D). Where the flow leaves the range of the levels, their edge."""
        x = self._exact.decode(z.reshape(1, *self.shape))
        first, width, levels = self.marginals.first, self.marginals.width, self.firsts.shape[1] - 1
        inside = x.clamp(first - width / 2, first + width * (levels - 0.5))
        return self._own_marginals(inside)[0].reshape(1, -1)

    def _made(self, cells: Ints) -> Floats:
        with torch.no_grad():
            return self._quantiles(torch.from_numpy(points()[cells])[None])[0].numpy()

    def _posterior(self, cells: Ints) -> tuple[Floats, Floats]:
        """The mean of q(z | y) and the upper triangular root R of its precision, R^T R = I + K^T K / s^2."""
        y = torch.from_numpy(points()[cells])[None]
        x = self._own_marginals.inverse(y.reshape(1, *self.shape))
        with torch.no_grad():
            z = self._exact.encode(x, rng=Rng.batch(0, 1))[0].reshape(1, -1)
            missed = (y - self._quantiles(z))[0]
        K = torch.autograd.functional.jacobian(lambda v: self._quantiles(v)[0], z, vectorize=True)[:, 0]
        root = torch.linalg.qr(torch.cat([K / self.width, torch.eye(self.size, dtype=K.dtype)])).R
        root = root * root.diagonal().sign()[:, None]
        pull = (K.T @ missed / self.width**2 - z[0])[:, None]
        mean = z[0] + torch.cholesky_solve(pull, root, upper=True)[:, 0]
        if not bool(mean.isfinite().all() and root.isfinite().all()):
            raise BadInput("the flow's Jacobian is not finite at this sample; train with stronger regularisers")
        return mean.numpy(), root.numpy()

    # ---- what goes round it ------------------------------------------------------------------------------------

    def _levels(self, values: NDArray[np.integer]) -> Ints:
        levels = self.firsts.shape[1] - 1
        if values.shape[1:] != self.shape or not np.issubdtype(values.dtype, np.integer):
            raise BadInput(
                f"samples are whole levels (N, {', '.join(map(str, self.shape))}), got {values.dtype} {values.shape}"
            )
        if values.size and not 0 <= values.min() <= values.max() < levels:
            raise BadInput(f"levels go from 0 to {levels - 1}, got {values.min()} to {values.max()}")
        return values.astype(np.int64).reshape(len(values), self.size)

    def _plain(self, levels: Ints) -> int:
        """How many samples go first by the histograms alone: until their bits are as many as the next takes off."""
        if not len(levels):
            return 0
        every = np.arange(self.size)
        bits = DEPTH - np.log2(self.firsts[every, levels + 1] - self.firsts[every, levels]).sum(1) / self.size
        firsts, shares = self._at(levels[0])
        mean, root = self._posterior(firsts + np.array(shares) // 2)
        spread = np.log2(2 * np.pi * np.exp(1)) / 2 - np.log2(np.diagonal(root))
        density = -(mean**2 / 2 + np.log(2 * np.pi) / 2) / np.log(2)
        taken = DEPTH - bits[0] + np.maximum(DEPTH + spread + density, 0).mean()
        return min(int(np.searchsorted(np.cumsum(bits), taken)) + 1, len(levels))

    def _check(self, levels: Ints) -> int:
        return zlib.crc32(levels.astype("<u2").tobytes(), zlib.crc32(self._fingerprint))

    @cached_property
    def _fingerprint(self) -> bytes:
        """Of the flow, the cells and the width."""
        total = hashlib.sha256(f"{self.width!r} {self.shape}".encode() + self.firsts.tobytes())
        for tensor in self.flow.state_dict().values():
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return total.digest()


@cache
def points() -> Floats:
    """The middle of every cell, by probability: Phi^-1((k + 1/2) / 2^11)."""
    return torch.special.ndtri((torch.arange(CELLS, dtype=torch.float64) + 0.5) / CELLS).numpy()


@cache
def _edges() -> Tensor:
    return torch.special.ndtri(torch.arange(CELLS + 1, dtype=torch.float64) / CELLS)


@cache
def _uniform() -> Ints:
    return even(CELLS)


def _starts(means: Floats, deviations: Floats) -> Ints:
    """Starts (n, 2^11 + 1) of every cell under normal distributions (n,), each cell with a frequency of 1 at least."""
    mean, deviation = (torch.from_numpy(np.ascontiguousarray(v))[:, None] for v in (means, deviations))
    below = torch.special.ndtr((_edges() - mean) / deviation)
    return (below * (WHOLE - CELLS)).long().numpy() + np.arange(CELLS + 1)


def _backwards(mean: Floats, root: Floats, cells: Ints) -> Iterator[tuple[int, Ints]]:
    """Elements from the last to the first, and the starts of their cells given those after, of `cells`."""
    for element in reversed(range(len(mean))):
        after = slice(element + 1, None)
        own = root[element, element]
        off = root[element, after] @ (points()[cells[after]] - mean[after]) / own
        yield element, _starts(mean[element : element + 1] - off, np.array([1 / own]))[0]
