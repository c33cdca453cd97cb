"""`FlowModel`: how likely pictures are, pictures from nothing, and finer ones that average to a coarse one. Verbs.

A likelihood is one of continuous values, so every picture is spread over the bins of its levels, once, at its own
size; the mean over pictures is then an upper bound of the bits that a code made from the model would need.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.arrays import Rng, derive
from framefill.density import bits_per_dimension, dequantise
from framefill.errors import BadInput
from framefill.flows.cnf import CNF
from framefill.flows.flow import Apart, Flow, normal_log_density, telling
from framefill.flows.multires import MultiRes
from framefill.flows.ode import Solver
from framefill.flows.trace import Rademacher, Trace
from framefill.video.clip import check_frames, fit, levels, tensor, with_channels
from framefill.video.images.drawing import Pictures, streams
from framefill.video.images.rounding import averaging_to

WIDTH = 2 / 255
"""The bin of one of 256 levels on [-1, 1]."""


class Bits(NamedTuple):
    """Bits per dimension of pictures and their standard errors, (N,) each, and the most evaluations that one took.

    The error is that of the mean over `draws` places in the bins and over the probes of the trace; nan where there was
    a single one of both, which cannot tell.
    """

    bits: NDArray[np.float64]
    error: NDArray[np.float64]
    evaluations: int


@dataclass(frozen=True)
class FlowModel:
    """A trained flow of pictures of `height` x `width` pixels, and what can be asked of it.

    Same seed, same answer. The solver steps for a batch at once, so a picture's answer depends on its neighbours by as
    much as `tolerance`; with `alone` every picture is solved for itself, and then not at all.
    """

    model: MultiRes
    channels: int
    height: int
    width: int
    tolerance: float = 1e-5
    alone: bool = False
    device: str = "cpu"
    card: Any = None

    # ---- densities ---------------------------------------------------------------------------------------------

    def bits(
        self, pictures: Pictures, *, draws: int = 1, probes: int = 8, seed: int = 0, batch: int = 64,
        trace: Trace | None = None,
    ) -> Bits:  # fmt: skip
        """Bits per dimension of pictures (N, height, width, C), each with its standard error.

        The mean of `draws` places in the bins, `probes` random signs each, or another `trace` such as `Exact()`.
        Raises BadInput for pictures of another size (see `fitted`) or depth, Stiff where the solver must give up: its
        `sample` is the number of the picture.
        """
        _positive(draws=draws, probes=probes, batch=batch)
        flow = self._set(trace or Rademacher(probes))
        x = tensor(self._given(pictures))
        parts = [self._bits(flow, part, range(i * batch, i * batch + len(part)), draws, seed) for i, part in
                 enumerate(x.split(batch))]  # fmt: skip
        bits, errors, evaluations = zip(*parts, strict=True)
        return Bits(np.concatenate(bits), np.concatenate(errors), max(evaluations))

    def log_prob(self, pictures: Pictures, *, probes: int = 8, seed: int = 0, trace: Trace | None = None) -> Bits:
        """The same as nats of whole pictures: log p of their levels from one draw, with its standard error."""
        found = self.bits(pictures, probes=probes, seed=seed, trace=trace)
        nats = np.log(2) * self.channels * self.height * self.width
        return Bits(-found.bits * nats, found.error * nats, found.evaluations)

    def _bits(self, flow: Flow, x: Tensor, numbers: range, draws: int, seed: int) -> tuple[Any, Any, int]:
        """Bits and errors of some pictures (B, C, H, W), whose streams are those of their numbers."""
        means, errors, evaluations = [], [], 0
        for draw in range(draws):
            rng = Rng([derive(seed, number, draw) for number in numbers])
            with torch.no_grad(), telling(first=numbers[0]):
                end = flow.follow(dequantise(x.to(self.device), WIDTH, rng), rng=rng)
            size = x[0].numel()
            means.append(bits_per_dimension(normal_log_density(end.z) + end.log_det, size, WIDTH).double().cpu())
            errors.append((end.error / (size * math.log(2))).double().cpu())
            evaluations = max(evaluations, end.evaluations)
        bits = torch.stack(means)
        error = bits.std(0) / draws**0.5 if draws > 1 else errors[0]
        return bits.mean(0).numpy(), error.numpy(), evaluations

    # ---- pictures ----------------------------------------------------------------------------------------------

    def generate(self, count: int = 1, *, seed: int = 0, temperature: float = 1.0, batch: int = 64) -> Pictures:
        """`count` pictures (count, H, W, C) from nothing; noise is scaled by `temperature`."""
        return np.concatenate(list(self.stream(count, seed=seed, temperature=temperature, batch=batch)))

    def stream(
        self, count: int, *, seed: int = 0, temperature: float = 1.0, batch: int = 64
    ) -> Iterator[Pictures]:  # fmt: skip
        """The same, `batch` after batch (n, H, W, C), so that any number fits into memory."""
        flow, shape = self._set(Rademacher(1)), (self.channels, self.height, self.width)
        for number, rng in enumerate(streams(seed, count, batch)):
            with torch.no_grad(), telling(first=number * batch):
                drawn = levels(flow.sample(shape, rng, temperature=temperature))
            yield drawn

    def upscale(
        self, pictures: Pictures, times: int = 1, *, seed: int = 0, temperature: float = 1.0
    ) -> Pictures:  # fmt: skip
        """Pictures (N, h, w, C) made 2^times larger: the mean of every block of pixels is the level it came from.

        Exactly so in 8 bits too, see `averaging_to`. The model has learnt this for pictures of its own size divided by
        2^times; others are taken, as its networks see neighbourhoods only. BadInput for another depth or more times
        than the flow has scales.
        """
        given = self._of_channels(pictures)
        finer = self.finer(tensor(given).to(self.device), times, seed=seed, temperature=temperature)
        return averaging_to(given, finer.cpu())

    def finer(self, coarse: Tensor, times: int = 1, *, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """The same for tensors (N, C, h, w) in [-1, 1], not rounded: its averages are `coarse` to float precision."""
        if not temperature >= 0:
            raise BadInput(f"a temperature must be at least 0, got {temperature}")
        self._set(Rademacher(1))
        with torch.no_grad():
            return self.model.upscale(coarse, Rng.batch(seed, len(coarse)), times=times, temperature=temperature)

    def fitted(self, picture: Pictures) -> Pictures:
        """A picture (H', W', C') as the model takes it: resized to cover its size, cropped, its channels."""
        return fit(with_channels(picture, self.channels)[None], self.height, self.width)[0]

    def together(self, others: "Sequence[FlowModel]") -> "FlowModel":
        """This model, with the scales that `others` were trained for put in place of its own.

        Each of the others is of a run with `--set scale=K`; together they are what a joint run would be. The card of
        the result is this model's, with scale = 0.
        """
        model = copy.deepcopy(self.model)
        for other in others:
            fields = getattr(other.card, "fields", {})
            scale = fields.get("scale", 0)
            if not scale or len(other.model.flows) != len(model.flows):
                raise BadInput("put together models of one scale each (runs with --set scale=1, 2, ...), of one layout")
            place = len(model.flows) - scale
            mine, its = model.flows[place].state_dict(), other.model.flows[place].state_dict()
            if {k: v.shape for k, v in mine.items()} != {k: v.shape for k, v in its.items()}:
                raise BadInput(f"scale {scale} of the other model has another layout; train all with the same preset")
            model.flows[place].load_state_dict(its)
        card = self.card and replace(self.card, fields=self.card.fields | {"scale": 0})
        return replace(self, model=model, card=card)

    # ---- how ---------------------------------------------------------------------------------------------------

    def _set(self, trace: Trace) -> Flow:
        """The flow, solving to the tolerance with this trace."""
        for part in self.model.modules():
            if isinstance(part, CNF):
                part.trace = trace
                part.solver = Solver("dopri5", rtol=self.tolerance, atol=self.tolerance, first=1.0)
        return Apart(self.model) if self.alone else self.model

    def _of_channels(self, pictures: Pictures) -> Pictures:
        given = np.asarray(pictures)
        check_frames(given)
        if given.dtype != np.uint8:
            raise BadInput(f"a flow knows pictures of 8 bits, got {given.dtype}; save them with 8 bits")
        return with_channels(given, self.channels)

    def _given(self, pictures: Pictures) -> Pictures:
        given = self._of_channels(pictures)
        if given.shape[1:3] != (self.height, self.width):
            raise BadInput(
                f"pictures of {given.shape[2]}x{given.shape[1]} pixels; this model knows those of "
                f"{self.width}x{self.height}: see `fitted`, and mind that resizing changes a likelihood"
            )
        return given


def averaged(pictures: Pictures, times: int = 1) -> Pictures:
    """Pictures (N, H, W, C) as rounded means of blocks of 2^times pixels a side; BadInput where they do not fit."""
    n, (N, H, W, C) = 2**times, pictures.shape
    if H % n or W % n:
        raise BadInput(f"pictures of {W}x{H} pixels have no blocks of {n}x{n}; crop them to multiples of {n}")
    means = pictures.reshape(N, H // n, n, W // n, n, C).mean((2, 4))
    return np.round(means).astype(np.uint8)


def _positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise BadInput(f"{name} must be at least 1, got {value}")
