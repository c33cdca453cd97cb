"""Entropy models: how likely every symbol of a latent is, in whole numbers, given those that were sent before.

A model cuts the symbols (C, h, w) into steps. The law of a step, a row of integer tables and a base per symbol, is a
function of the symbols of earlier steps alone; encoder and decoder compute it alike, to the bit. Steps belong to
layers, from coarse to fine, each one message: a decoder that has lost the fine ones fills in what is likeliest.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from framefill.codec.coder import Decoder, Encoder
from framefill.codec.tables import LARGEST, Tables, normalise
from framefill.errors import BadInput
from framefill.nets.exact import straight

EXACT = torch.float64


@dataclass(frozen=True)
class Step:
    """Channels first..last-1 of the positions `sites` (N,), indices into h w, in rising order; `index` counts laws."""

    index: int
    layer: int
    first: int
    last: int
    sites: Tensor


@dataclass(frozen=True)
class Decoded:
    """Symbols (B, C, h, w) int64, and which of them were sent (B, C, h, w); the others are predictions."""

    symbols: Tensor
    sent: Tensor


class EntropyModel(nn.Module, ABC):
    """Laws of the symbols (B, C, h, w) of `channels` C in `layers` messages each.

    Where samples come at one of several settings (qualities), `settings` (B,) int64 says which; others pass None.
    """

    def __init__(self, channels: int, layers: int = 1):
        super().__init__()
        if channels < 1 or layers < 1:
            raise BadInput(f"an entropy model has 1 channel and 1 layer or more, got {channels} and {layers}")
        self.channels, self.layers = channels, layers

    @abstractmethod
    def steps(self, size: tuple[int, int]) -> Iterable[Step]:
        """The steps of a latent of size (h, w), in order; together every symbol once, in messages 0..`layers` - 1."""

    def joined(self) -> "EntropyModel":
        """These laws and tensors with one message for all: less format, and nothing to see before all is there."""
        one = copy(self)
        one.layers = 1
        return one

    @abstractmethod
    def law(self, step: Step, symbols: Tensor, settings: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows and bases (B, last - first, N) int64, from symbols (B, C, h, w) whole numbers of dtype float64 or 32.

        May look at earlier steps only.
        """

    @abstractmethod
    def tables(self) -> Tables:
        """The rows that `law` names."""

    @abstractmethod
    def bits(self, symbols: Tensor, settings: Tensor | None = None) -> Tensor:
        """What symbols (B, C, h, w), whole numbers, cost in bits (B,), with gradients to them and to the model.

        The value is the length of the messages but for their ends, under a byte each.
        """

    def check(self, dtype: torch.dtype) -> None:
        """BadInput where the laws are not exact in `dtype`."""

    @torch.no_grad()
    def encode(
        self, symbols: Tensor, settings: Tensor | None = None, *, dtype: torch.dtype = EXACT
    ) -> list[list[bytes]]:
        """The messages of symbols (B, C, h, w) whole numbers: `layers` for every sample. BadInput for others."""
        self._suited(symbols)
        self.check(dtype)
        held, tables = symbols.to(dtype), self.tables()
        writers = [[Encoder() for _ in range(self.layers)] for _ in symbols]
        for step in self.steps((symbols.shape[2], symbols.shape[3])):
            rows, base = self.law(step, held, settings)
            sites = step.sites.to(symbols.device)
            own = (symbols.flatten(2)[:, step.first : step.last, sites].long() - base).cpu().numpy()
            for sample, (values, places) in enumerate(zip(own, rows.cpu().numpy(), strict=True)):
                writers[sample][step.layer].write(values.ravel(), places.ravel(), tables)
        return [[writer.message() for writer in sample] for sample in writers]

    @torch.no_grad()
    def decode(
        self,
        messages: Sequence[Sequence[bytes | None]],
        size: tuple[int, int],
        settings: Tensor | None = None,
        *,
        dtype: torch.dtype = EXACT,
    ) -> Decoded:
        """The symbols of size (h, w) that `messages` hold. A missing layer and all behind it are predicted.

        CodecError where a message cannot be one of ours; a damaged one may also give wrong symbols: check sums first.
        """
        if min(size) < 1 or any(len(sample) != self.layers for sample in messages):
            raise BadInput(f"give {self.layers} messages or gaps per sample, and sides of 1 or more; got {size}")
        self.check(dtype)
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        held = torch.zeros(len(messages), self.channels, *size, dtype=dtype, device=device)
        symbols, sent, tables = held.long(), torch.zeros_like(held, dtype=torch.bool), self.tables()
        readers = [_readers(sample) for sample in messages]
        for step in self.steps(size):
            rows, base = self.law(step, held, settings)
            found = base + self.likeliest(rows)
            for sample, layers in enumerate(readers):
                reader = layers[step.layer]
                if reader is not None:
                    read = reader.read(rows[sample].cpu().numpy().ravel(), tables)
                    found[sample] = base[sample] + torch.from_numpy(read).view(rows[sample].shape).to(device)
                    sent.flatten(2)[sample, step.first : step.last, step.sites.to(device)] = True
            symbols.flatten(2)[:, step.first : step.last, step.sites.to(device)] = found
            held.flatten(2)[:, step.first : step.last, step.sites.to(device)] = found.to(dtype)
        return Decoded(symbols, sent)

    def likeliest(self, rows: Tensor) -> Tensor:
        """The symbol, less its base, that a decoder assumes where none was sent."""
        tables = self.tables()
        modes = [int(tables.row(row)[:-1].argmax()) + int(tables.lows[row]) for row in range(len(tables))]
        return torch.tensor(modes, device=rows.device)[rows]

    def _suited(self, symbols: Tensor) -> None:
        if symbols.ndim != 4 or symbols.shape[1] != self.channels or symbols.numel() == 0:
            raise BadInput(f"symbols have shape {tuple(symbols.shape)}; this model takes (B, {self.channels}, h, w)")
        whole = symbols if not symbols.is_floating_point() else symbols.detach().double()
        if not bool((whole.abs() <= LARGEST).all()) or bool((whole != whole.round()).any()):
            raise BadInput(f"symbols are not whole numbers within +-{LARGEST}; quantise the latents first")


def _readers(messages: Sequence[bytes | None]) -> list[Decoder | None]:
    """A decoder per layer up to the first gap."""
    sound = next((i for i, message in enumerate(messages) if message is None), len(messages))
    return [Decoder(message) if message is not None and i < sound else None for i, message in enumerate(messages)]


def cost(tables: Tables, symbols: Tensor, rows: Tensor) -> Tensor:
    """Bits of each symbol, less its base, under its row, as float32 of their shape and device, without gradient."""
    values, places = (x.detach().long().cpu().numpy() for x in (symbols, rows))
    return torch.from_numpy(tables.bits(values, places).astype(np.float32)).to(symbols.device)


class Factorised(EntropyModel):
    """One integer table per channel for -reach .. reach, fitted to counts; the rest escapes. One layer.

    `counts` (C, 2 reach + 1) is a parameter without gradient, so it travels with the weights; whole numbers to 2^24.
    """

    def __init__(self, channels: int, reach: int = 32):
        super().__init__(channels)
        if not 1 <= reach <= 4096:
            raise BadInput(f"a table reaches 1 to 4096 symbols to either side, got {reach}")
        self.reach = reach
        self.counts = nn.Parameter(torch.ones(channels, 2 * reach + 1), requires_grad=False)

    @torch.no_grad()
    def fit(self, symbols: Iterable[Tensor]) -> None:
        """Sets the counts to those of all batches (B, C, h, w), scaled down by halves where they pass 2^24."""
        total = torch.zeros(self.channels, 2 * self.reach + 1, dtype=torch.int64)
        for batch in symbols:
            self._suited(batch)
            places = batch.long().cpu() + self.reach
            for channel in range(self.channels):
                own = places[:, channel].flatten()
                own = own[(own >= 0) & (own <= 2 * self.reach)]
                total[channel] += torch.bincount(own, minlength=2 * self.reach + 1)
        while int(total.max()) > 2**24:
            total = (total + 1) // 2
        self.counts.copy_(total.clamp(min=0))

    def tables(self) -> Tables:
        """From the counts by whole numbers; a channel that was never seen is uniform."""
        counts = self.counts.detach().round().long().cpu().numpy()
        counts = np.where(counts.sum(1, keepdims=True) > 0, counts, 1)
        return Tables([normalise(np.append(own, 0)) for own in counts], [-self.reach] * self.channels)

    def steps(self, size: tuple[int, int]) -> Iterable[Step]:
        """One."""
        return [Step(0, 0, 0, self.channels, torch.arange(size[0] * size[1]))]

    def law(self, step: Step, symbols: Tensor, settings: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The channel's row, base 0, at any setting."""
        rows = torch.arange(self.channels, device=symbols.device)[None, :, None]
        rows = rows.expand(len(symbols), -1, len(step.sites))
        return rows, torch.zeros_like(rows)

    def bits(self, symbols: Tensor, settings: Tensor | None = None) -> Tensor:
        """Exact; the gradient is the slope of the costs between the neighbours of each symbol."""
        self._suited(symbols)
        tables, rows = self.tables(), self.law(next(iter(self.steps((1, 1)))), symbols)[0]
        rows = rows[..., None].expand(symbols.shape)
        slope = (cost(tables, symbols + 1, rows) - cost(tables, symbols - 1, rows)) / 2
        return straight(cost(tables, symbols, rows), slope * symbols).sum((1, 2, 3))
