"""Layers whose outputs are the same whole numbers on every machine: integer weights, integer inputs, floor shifts.

      y = floor((W x + b) / 2^shift),   W = round(64 w) in -127..127,   b whole,   x whole in -255..255

The sums are held in floats, where whole numbers below 2^53 (float64) or 2^24 (float32) are exact, so their order,
which differs with threads, instruction sets and batch sizes, does not matter; dividing by a power of two and flooring
is exact too. In training the same numbers are computed and gradients pass straight through rounding and floor (Bengio
et al. 2013), so what is trained is what is run. Autocast is off inside.
"""

import torch
from torch import Tensor, nn

from framefill.errors import BadInput

UNIT, HEAVIEST, LARGEST = 64, 127, 255
EXACT = {torch.float64: 2**53, torch.float32: 2**24}


def straight(whole: Tensor, smooth: Tensor) -> Tensor:
    """The value of `whole` with the gradient of `smooth`."""
    return whole.detach() + (smooth - smooth.detach()) if smooth.requires_grad else whole


class ExactLinear(nn.Module):
    """x (..., inputs) whole numbers in -255..255 to (..., outputs) whole numbers; `unit` is what of x stands for 1."""

    def __init__(self, inputs: int, outputs: int, *, unit: int, shift: int):
        super().__init__()
        bound = max(inputs, 1) ** -0.5
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.unit, self.shift = unit, shift

    def integers(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """W (outputs, inputs) and b (outputs,), whole numbers in floats of `dtype`, with gradients."""
        weight, bias = self.weight.to(dtype) * UNIT, self.bias.to(dtype) * (UNIT * self.unit)
        inside = weight.clamp(-HEAVIEST, HEAVIEST)
        return straight(inside.round(), inside), straight(bias.round(), bias)

    def forward(self, x: Tensor) -> Tensor:
        """Exact where `check` passes for the dtype of x."""
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.integers(x.dtype)
            shifted = (x @ weight.T + bias) * 2.0**-self.shift
            return straight(shifted.floor(), shifted)

    @torch.no_grad()
    def check(self, dtype: torch.dtype) -> None:
        """BadInput unless all sums of allowed inputs are exact in `dtype`, and all weights are numbers."""
        weight, bias = self.integers(torch.float64)
        most = float((weight.abs().sum(1) * LARGEST + bias.abs()).amax()) if len(bias) else 0.0
        if not most < EXACT.get(dtype, 0):
            raise BadInput(f"sums reach {most:g}, too large for {dtype}; use torch.float64, and weights without NaN")


class ExactNetwork(nn.Module):
    """Two hidden layers with a clipped rectifier, and a straight line beside them for the first `lines` outputs.

    Takes (..., inputs), gives (..., outputs) in sixteenths. Three products of small matrices: no convolution, whose
    fast forms (Winograd, FFT) are not exact.
    """

    def __init__(self, inputs: int, outputs: int, *, hidden: int, lines: int):
        super().__init__()
        self.first = ExactLinear(inputs, hidden, unit=1, shift=2)
        self.second = ExactLinear(hidden, hidden, unit=16, shift=6)
        self.last = ExactLinear(hidden, outputs, unit=16, shift=6)
        self.line = ExactLinear(inputs, lines, unit=1, shift=2)
        for layer in (self.last, self.line):
            nn.init.zeros_(layer.weight)
        self.lines = lines

    def forward(self, x: Tensor) -> Tensor:
        """x whole numbers; anything beyond +-255 counts as 255."""
        x = x.clamp(-LARGEST, LARGEST)
        hidden = self.second(self.first(x).clamp(0, LARGEST)).clamp(0, LARGEST)
        out, line = self.last(hidden), self.line(x)
        return torch.cat([out[..., : self.lines] + line, out[..., self.lines :]], -1)

    def check(self, dtype: torch.dtype) -> None:
        """As `ExactLinear.check`, of all layers."""
        for layer in (self.first, self.second, self.last, self.line):
            layer.check(dtype)
