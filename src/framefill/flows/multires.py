"""Multi-resolution flows (thesis 001, chapter 4): a coarse image, then the detail that each finer one adds.

    log p(x) = log p(x_S) + sum over s of [log p(y_s | x_s+1) + log |det split|],     (y_s, x_s+1) = split(x_s)

Every 2 x 2 block becomes one coarse value and three details. Only details are drawn when an image grows, so a finer
image averages to the coarser one exactly. Data is dequantised once, at the finest scale; the coarser ones are averages
of it. (Paper: the released program adds fresh noise at every scale, which is not a likelihood; facts, section 2.3.)
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.flows.cnf import CNF
from framefill.flows.flow import Encoded, Flow, telling

SIGNS = ((1, 1, -1, -1), (1, -1, 1, -1), (1, -1, -1, 1))
"""Signs of the details: rows of eq. 4.3.4. Paper: its last row is misprinted, with determinant 1/2 (facts, errata)."""

SCALES = {"unimodular": (2 ** (-2 / 3), 0.25), "haar": (0.5, 0.5)}
"""Factors of the details and of the sum, by kind; both have |det| = 1: (2 a)^3 (2 b) for factors a and b."""


def split(x: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Details y (B, 3 C, ..., H/2, W/2) and coarse image (B, C, ..., H/2, W/2) of x (B, C, ..., H, W); log |det| = 0.

    "unimodular" (eq. 4.3.4): the coarse image is the average, in the range of x. "haar": orthogonal, twice the average.
    Paper: section 4.3.2 says that the orthogonal one does not preserve volume; it does, but not the range.
    """
    detail, total = _factors(kind)
    if x.ndim < 4 or x.shape[-1] % 2 or x.shape[-2] % 2:
        raise BadInput(f"a split needs (B, C, ..., H, W) with even H and W, got {tuple(x.shape)}; crop or pad by one")
    blocks = x.unfold(-2, 2, 2).unfold(-2, 2, 2).flatten(-2)
    signs = torch.tensor(SIGNS, dtype=x.dtype, device=x.device) * detail
    y = torch.einsum("bc...k,jk->bjc...", blocks, signs)
    return y.flatten(1, 2), total * blocks.sum(-1)


def merge(y: Tensor, coarse: Tensor, kind: str) -> Tensor:
    """The image (B, C, ..., H, W) whose `split` is (y, coarse): the inverse, with log |det| = 0."""
    detail, total = _factors(kind)
    C = coarse.shape[1]
    if coarse.ndim < 4 or y.shape != (len(coarse), 3 * C, *coarse.shape[2:]):
        raise BadInput(
            f"details of a coarse image {tuple(coarse.shape)} have three times its channels, got {tuple(y.shape)}"
        )
    signs = torch.tensor(SIGNS, dtype=y.dtype, device=y.device) / (4 * detail)
    blocks = torch.einsum("bjc...,jk->bc...k", y.unflatten(1, (3, C)), signs) + coarse[..., None] / (4 * total)
    rows = blocks.unflatten(-1, (2, 2)).transpose(-2, -3)  # (B, C, ..., H/2, 2, W/2, 2)
    return rows.flatten(-2).flatten(-3, -2)


def gain(kind: str) -> float:
    """The coarse value of a constant image of ones: 1, or 2 for "haar"."""
    return 4 * _factors(kind)[1]


def average(x: Tensor, times: int = 1) -> Tensor:
    """x (B, C, ..., H, W) as means of blocks of 2^times pixels a side."""
    for _ in range(times):
        x = split(x, "unimodular")[1]
    return x


def _factors(kind: str) -> tuple[float, float]:
    if kind not in SCALES:
        raise BadInput(f"no pyramid {kind!r}; there are {' and '.join(SCALES)}")
    return SCALES[kind]


class MultiRes(Flow):
    """One flow per scale, finest first: all but the last carry details given the coarser image, the last the coarsest.

    z has the shape of x: the noises of all scales put together by the orthogonal "haar", under which white noise
    stays white. (Paper: this is the "multi-resolution noise" of section 4.3.4, which changes no density; its
    unimodular form needs a variance for every scale, this one none.) A condition `cond` is for the coarsest scale;
    the finer ones are given the coarser image, which carries it.
    """

    def __init__(self, flows: Sequence[Flow], kind: str = "unimodular"):
        super().__init__()
        _factors(kind)
        if not flows:
            raise BadInput("a multi-resolution flow needs at least one scale")
        self.flows = nn.ModuleList(flows)
        self.kind = kind

    @property
    def scales(self) -> list[Flow]:
        """The flows, finest first."""
        return [flow for flow in self.flows if isinstance(flow, Flow)]

    def parts(self, x: Tensor, cond: Tensor | None = None) -> list[tuple[Tensor, Tensor | None]]:
        """What each flow models and what it is given, finest first: to train the scales apart, or in parallel."""
        found: list[tuple[Tensor, Tensor | None]] = []
        for _ in self.flows[:-1]:
            y, x = split(x, self.kind)
            found.append((y, x))
        return [*found, (x, cond)]

    def follow(self, x: Tensor, cond: Tensor | None = None, rng: Rng | None = None) -> Encoded:
        """All scales; log-determinants, regularisers and evaluations add up, errors in quadrature."""
        ends = []
        for place, (flow, (part, given)) in enumerate(zip(self.scales, self.parts(x, cond), strict=True)):
            with telling(self._name(place)):
                ends.append(flow.follow(part, given, rng))
        z = ends[-1].z
        for end in reversed(ends[:-1]):
            z = merge(end.z, z, "haar")
        return Encoded(
            z,
            torch.stack([end.log_det for end in ends]).sum(0),
            torch.stack([end.error for end in ends]).square().sum(0).sqrt(),
            torch.stack([end.kinetic for end in ends]).sum(0),
            torch.stack([end.jacobian for end in ends]).sum(0),
            sum(end.evaluations for end in ends),
        )

    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """From the coarsest scale up, each finer one given the image so far."""
        noises = []
        for _ in self.flows[:-1]:
            y, z = split(z, "haar")
            noises.append(y)
        with telling(self._name(len(noises))):
            x = self.scales[-1].decode(z, cond)
        return self._grow(x, noises)

    def _grow(self, x: Tensor, noises: list[Tensor]) -> Tensor:
        """x made finer, once by each of the noises (finest first) of the finest scales above it."""
        for place, noise in reversed(list(enumerate(noises))):
            with telling(self._name(place)):
                x = merge(self.scales[place].decode(noise, x), x, self.kind)
        return x

    def _name(self, place: int) -> str:
        """Of flows[place], as recipes count: scale 1 is the coarsest."""
        return f"of scale {len(self.flows) - place} of {len(self.flows)}"

    def matching(self, x: Tensor, cond: Tensor | None = None, rng: Rng | None = None) -> Tensor:
        """The flow-matching losses of all scales (B,), weighed by their shares of the dimensions; see `CNF`."""
        total = x.new_zeros(len(x))
        for flow, (part, given) in zip(self.scales, self.parts(x, cond), strict=True):
            assert isinstance(flow, CNF)
            total = total + flow.matching(part, given, rng) * (part[0].numel() / x[0].numel())
        return total

    def upscale(self, coarse: Tensor, rng: Rng, *, times: int = 1, temperature: float = 1.0) -> Tensor:
        """`coarse` (B, C, ..., h, w) of pixel averages made 2^times larger; its `average` is `coarse` again.

        Its size is that of the data divided by 2^times, as the finest `times` scales learnt it.
        """
        if not 1 <= times < len(self.flows):
            raise BadInput(f"this flow makes images finer 1 to {len(self.flows) - 1} times, got {times}")
        C, *frames, h, w = coarse.shape[1:]
        sizes = [(3 * C, *frames, h << k, w << k) for k in reversed(range(times))]
        noises = [temperature * rng.normal(size, coarse).to(coarse.dtype) for size in sizes]
        factor = gain(self.kind) ** times
        return self._grow(coarse * factor, noises) if factor != 1 else self._grow(coarse, noises)

    def grown(self, finer: Flow) -> "MultiRes":
        """This stack with one finer scale, for progressive training; the scales are shared, not copied."""
        return MultiRes([finer, *self.scales], self.kind)

    def log_det(self) -> float:
        """log |det| of all splits of one image, in nats: 0 for both kinds."""
        detail, total = _factors(self.kind)
        return math.log((2 * detail) ** 3 * 2 * total) * (len(self.flows) - 1)
