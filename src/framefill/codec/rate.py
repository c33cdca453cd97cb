"""Bits estimated and bits written, side by side: what training believed a latent costs, and what its file has.

The two differ by the ends of messages (under a byte each) and the file format (`overhead`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from framefill.codec.container import Extra, pack
from framefill.codec.entropy import EntropyModel
from framefill.codec.header import Header
from framefill.errors import BadInput


@dataclass(frozen=True)
class Rate:
    """Sums over samples: how many `symbols`, bits `estimated`, bits `written` in messages, bits of `overhead`."""

    symbols: int
    estimated: float
    written: int
    overhead: int = 0

    def __add__(self, other: "Rate") -> "Rate":
        return Rate(
            self.symbols + other.symbols, self.estimated + other.estimated, self.written + other.written,
            self.overhead + other.overhead,
        )  # fmt: skip

    @property
    def gap(self) -> float:
        """Bits written over bits estimated, less 1."""
        return self.written / self.estimated - 1 if self.estimated else 0.0

    def line(self) -> str:
        """One line for a log."""
        per = 1 / max(self.symbols, 1)
        return (
            f"{self.written * per:.4f} bits a symbol written, {self.estimated * per:.4f} estimated ({self.gap:+.2%}), "
            f"{self.overhead // 8} bytes of format"
        )


@torch.no_grad()
def measure(model: EntropyModel, symbols: Tensor, header: Header | None = None, extras: tuple[Extra, ...] = ()) -> Rate:
    """The rate of symbols (B, C, h, w); with a header the samples are parts of one file.

    BadInput where the header has other layers than the model.
    """
    messages = model.encode(symbols)
    written = sum(len(layer) for sample in messages for layer in sample)
    overhead = 0
    if header is not None:
        if header.layers != model.layers:
            raise BadInput(f"the header says {header.layers} layers, the entropy model has {model.layers}")
        overhead = len(pack(header, messages, extras)) - written
    return Rate(symbols.numel(), float(model.bits(symbols).double().sum()), 8 * written, 8 * overhead)
