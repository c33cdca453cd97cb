"""Groups of frames as one message each: how they are cut along time, and every band under the law that is shortest.

A group is cut into runs of 1, 2, 4 or 8 frames, wherever that is estimated to be cheapest: at cuts, and where too much
moves. A run is the bands of `codec.haar`, rounded. Its low band is a picture, and is coded as one; a band of
differences is nothing at all, or under `codec.quiet`, or as the model has learned to, whichever is shortest.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from framefill.codec import cut, gaussian, haar, quiet
from framefill.codec.coder import BYTES, Decoder, Encoder
from framefill.codec.entropy import EXACT, EntropyModel
from framefill.codec.learned import Learned
from framefill.codec.tables import LARGEST
from framefill.errors import BadInput, CodecError

LENGTH = 8  # frames of a group
RUNS = (1, 2, 4, 8)
NOTHING, LEARNED, QUIET = 0, 1, 2  # how a band of differences is coded; QUIET + its level
LOW_COST, HIGH_COST, RUN_COST = 2.2, 4.2, 24.0  # bits for each doubling of 1 + |symbol|, bits of a run
ROUNDING = 0.45  # of differences: what is less than 1 - 0.45 steps from zero becomes zero
Run = list[Tensor]
"""Bands as `haar.forward` gives them, whole numbers (n, C, h, w) on the CPU."""


class Temporal(Learned, Protocol):
    """What video needs of a model beside what pictures do. A kind is a band: 0 to 3 a low one, after so many levels;
    4 to 6 differences of one, two, three levels."""

    def latents(self, x: Tensor) -> Tensor:
        """What is rounded, (B, C, h, w), of pictures x (B, 3, H, W) in [-1, 1]."""
        ...

    def steps(self, settings: Tensor) -> Tensor:
        """How finely, (B, C or 1, 1, 1), at settings (B,)."""
        ...

    def setting(self, quality: int, kind: int) -> int:
        """The number that `steps`, `values` and the entropy model are told for a quality and a kind."""
        ...


def kinds(bands: int) -> list[int]:
    """Of the bands of a run, as `haar.forward` orders them."""
    depth = bands - 1
    return [depth, *(haar.DEEPEST + level for level in range(depth, 0, -1))]


def told(model: Learned, quality: int, bands: int) -> int:
    """The quality that the painter is told for the frames of a run: one higher for each level of the transform.

    The low band of T frames is as a picture coded sqrt(T) times as finely, and what stands still is little else.
    """
    return min(quality + bands - 1, model.qualities - 1)


def rounded(model: Temporal, latents: Tensor, quality: int) -> Run:
    """The symbols of a run of latents (T, C, h, w)."""
    made = []
    bands = haar.forward(latents)
    for kind, band in zip(kinds(len(bands)), bands, strict=True):
        scaled = band / model.steps(torch.tensor([model.setting(quality, kind)], device=band.device))
        whole = (scaled.abs() + ROUNDING).floor() * scaled.sign() if kind > haar.DEEPEST else scaled.round()
        if not bool((whole.abs() <= LARGEST).all()):
            raise BadInput("the film has values that cannot be coded; NaN, or far outside the range of pictures")
        made.append(whole.long().cpu())
    return made


def chosen(model: Temporal, latents: Tensor, quality: int) -> list[Run]:
    """The runs of a group of latents (T, C, h, w) that are estimated to be cheapest together."""
    best: list[tuple[float, list[Run]]] = [(0.0, [])]
    for end in range(1, len(latents) + 1):
        found = []
        for length in RUNS:
            if length <= end:
                run = rounded(model, latents[end - length : end], quality)
                cost, before = best[end - length]
                found.append((cost + estimate(run), [*before, run]))
        best.append(min(found, key=lambda pair: pair[0]))
    return best[-1][1]


def estimate(run: Run) -> float:
    """About how many bits a run costs."""
    low, high = (sum(float(band.float().abs().log1p().sum()) for band in bands) for bands in (run[:1], run[1:]))
    return (LOW_COST * low + HIGH_COST * high) / float(np.log(2)) + RUN_COST


def encode(model: Temporal, runs: Sequence[Run], quality: int) -> bytes:
    """The message of a group."""
    writer = Encoder()
    for run in runs:
        _put(writer, haar.depth(_frames(run)))
    for run in runs:
        numbers = kinds(len(run))
        _write_learned(writer, model, run[0][0], model.setting(quality, numbers[0]))
        for place, kind in enumerate(numbers[1:], 1):
            for index, band in enumerate(run[place]):
                covering = run[place - 1][index // 2] if place > 1 else None
                _write_high(writer, model, band, covering, model.setting(quality, kind))
    return writer.message()


def decode(model: Temporal, message: bytes, frames: int, size: tuple[int, int], quality: int) -> list[Run]:
    """The runs of a group of so many frames. CodecError where the message cannot be one of ours."""
    reader = Decoder(message)
    depths: list[int] = []
    while (left := frames - sum(2**depth for depth in depths)) > 0:
        depths.append(_get(reader))
        if depths[-1] > haar.DEEPEST or 2 ** depths[-1] > left:
            raise CodecError("the coded symbols are damaged: runs that are longer than their group")
    return [_read_run(reader, model, depth, size, quality) for depth in depths]


def _read_run(reader: Decoder, model: Temporal, depth: int, size: tuple[int, int], quality: int) -> Run:
    numbers = kinds(depth + 1)
    run = [_read_learned(reader, model, size, model.setting(quality, numbers[0]))[None]]
    for place, kind in enumerate(numbers[1:], 1):
        setting, bands = model.setting(quality, kind), []
        for index in range(2 ** (place - 1)):
            bands.append(_read_high(reader, model, run[-1][index // 2] if place > 1 else None, size, setting))
        run.append(torch.stack(bands))
    return run


def _frames(run: Run) -> int:
    return 2 ** (len(run) - 1)


def _put(writer: Encoder, number: int) -> None:
    writer.write(np.array([number]), np.zeros(1, np.int64), BYTES)


def _get(reader: Decoder) -> int:
    return int(reader.read(np.zeros(1, np.int64), BYTES)[0])


def _write_high(writer: Encoder, model: Temporal, band: Tensor, covering: Tensor | None, setting: int) -> None:
    if not bool(band.any()):
        _put(writer, NOTHING)
        return
    mean = quiet.level(band)
    if _learned_bits(model, band, setting) < _quiet_bits(band, covering, mean):
        _put(writer, LEARNED)
        _write_learned(writer, model, band, setting)
        return
    _put(writer, QUIET + mean)

    def code(places: Tensor, rows: Tensor) -> Tensor:
        own = band.flatten(1)[:, places]
        writer.write(own.numpy().ravel(), rows.numpy().ravel(), gaussian.tables())
        return own

    quiet.passes((band.shape[1], band.shape[2]), len(band), covering, mean, code)


def _read_high(
    reader: Decoder, model: Temporal, covering: Tensor | None, size: tuple[int, int], setting: int
) -> Tensor:
    way, channels = _get(reader), model.entropy.channels
    if way == NOTHING:
        return torch.zeros(channels, *size, dtype=torch.int64)
    if way == LEARNED:
        return _read_learned(reader, model, size, setting)
    if way - QUIET >= gaussian.WIDTHS:
        raise CodecError("the coded symbols are damaged: a band of a kind that there is not")

    def code(_: Tensor, rows: Tensor) -> Tensor:
        return torch.from_numpy(reader.read(rows.numpy().ravel(), gaussian.tables())).view(rows.shape)

    return quiet.passes(size, channels, covering, way - QUIET, code)


def _quiet_bits(band: Tensor, covering: Tensor | None, mean: int) -> float:
    total = 0.0

    def code(places: Tensor, rows: Tensor) -> Tensor:
        nonlocal total
        own = band.flatten(1)[:, places]
        total += float(gaussian.tables().bits(own.numpy().ravel(), rows.numpy().ravel()).sum())
        return own

    quiet.passes((band.shape[1], band.shape[2]), len(band), covering, mean, code)
    return total


@torch.no_grad()
def _learned_bits(model: Temporal, band: Tensor, setting: int) -> float:
    """Infinite for a model that has not been taught differences: it would be far off."""
    if not getattr(model, "temporal", False):
        return float("inf")
    told = torch.tensor([setting], device=_device(model.entropy))
    return float(model.entropy.bits(band[None].to(told.device), told))


@torch.no_grad()
def _write_learned(writer: Encoder, model: Temporal, band: Tensor, setting: int) -> None:
    """Part by part, as pictures are."""
    device, tables = _device(model.entropy), model.entropy.tables()
    told = torch.tensor([setting], device=device)
    for rows, columns in cut.parts(*band.shape[1:]):
        held = band[None, :, rows, columns].to(device, EXACT)
        for first, last, sites, law, base in _laws(model.entropy, held, told):
            own = held.flatten(2)[0, first:last, sites].long() - base
            writer.write(own.cpu().numpy().ravel(), law.cpu().numpy().ravel(), tables)


@torch.no_grad()
def _read_learned(reader: Decoder, model: Temporal, size: tuple[int, int], setting: int) -> Tensor:
    device, tables = _device(model.entropy), model.entropy.tables()
    told = torch.tensor([setting], device=device)
    found = torch.zeros(model.entropy.channels, *size, dtype=torch.int64)
    for rows, columns in cut.parts(*size):
        shape = rows.stop - rows.start, columns.stop - columns.start
        held = torch.zeros(1, model.entropy.channels, *shape, dtype=EXACT, device=device)
        for first, last, sites, law, base in _laws(model.entropy, held, told):
            read = torch.from_numpy(reader.read(law.cpu().numpy().ravel(), tables)).view(law.shape)
            held.flatten(2)[0, first:last, sites] = (base + read.to(device)).to(EXACT)
        found[:, rows, columns] = held[0].long().cpu()
    return found


def _laws(model: EntropyModel, held: Tensor, told: Tensor) -> Iterator[tuple[int, int, Tensor, Tensor, Tensor]]:
    """First and last channel, positions, rows and bases of every step; `held` (1, C, h, w) may fill as it goes."""
    model.check(EXACT)
    for step in model.steps((held.shape[2], held.shape[3])):
        rows, base = model.law(step, held, told)
        yield step.first, step.last, step.sites.to(held.device), rows[0], base[0]


def _device(model: EntropyModel) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
