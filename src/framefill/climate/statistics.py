"""What a model has to know of the fields it was trained on, so that it can be used on others: it travels in its card.

Between units and network lie three steps, all of them affine once the transform is done: a variable's own transform and
scale (`Scaling`), then, where the model asks for it, a straight line through the fields before the window, and the
spread that each cell has around such lines. A model of what is left of a trend learns from a record of a century; one
of temperatures would learn the century.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framefill.climate.calendars import Step
from framefill.climate.fields import FieldSpec, Variable
from framefill.climate.grid import Grid
from framefill.climate.transforms import Identity, Log1p, Scaling, Sqrt, Transform
from framefill.errors import BadInput, CheckpointError

LARGEST = 100_000  # cells whose spread fits into a card
TRANSFORMS: dict[str, type] = {"identity": Identity, "sqrt": Sqrt, "log1p": Log1p}


@dataclass(frozen=True)
class Statistics:
    """What the fields were, their scaling, and the spread (C, H, W) of the cells around a line, empty without one.

    `absent` has one bit for each cell that never has a value, as base64, empty if all have. `source` names the record
    and `years` are the first and the last that training saw.
    """

    spec: FieldSpec
    scaling: Scaling
    spread: tuple[float, ...] = ()
    absent: str = ""
    source: str = ""
    years: tuple[int, int] = (0, 0)
    license: str = field(default="", kw_only=True)

    @cached_property
    def cells(self) -> Tensor:
        """The spread of the cells, (C, H, W), or 1."""
        shape = (len(self.spec.variables), *self.spec.grid.shape)
        return torch.tensor(self.spread).view(shape) if self.spread else torch.ones(1, 1, 1)

    @cached_property
    def never(self) -> Tensor:
        """Cells (C, H, W) that have no value at any time: land, for a field of the sea."""
        shape = (len(self.spec.variables), *self.spec.grid.shape)
        if not self.absent:
            return torch.zeros(shape, dtype=torch.bool)
        bits = np.unpackbits(np.frombuffer(base64.b64decode(self.absent, validate=True), np.uint8))
        return torch.from_numpy(bits[: math.prod(shape)].astype(bool)).view(shape)

    def encode(self, x: Tensor, trend: int, past: int) -> tuple[Tensor, Tensor]:
        """Windows in units (B, T, C, H, W) as the network takes them (NaN stays), and the lines they were taken off.

        With `trend` > 0 the line is that of the first `trend` fields, and what comes before the last `past` of those
        is left out: (B, T - trend + past, C, H, W).
        """
        scaled = self.scaling.encode(x).masked_fill(x.isnan(), torch.nan)
        if not trend:
            return scaled, torch.zeros_like(scaled)
        line = lines(scaled[:, :trend], scaled.shape[1] - trend + past, first=trend - past)
        return (scaled[:, trend - past :] - line) / self.cells.to(x), line

    def decode(self, y: Tensor, line: Tensor) -> Tensor:
        """The inverse of `encode`."""
        return self.scaling.decode(y * self.cells.to(y) + line)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        grid, step = self.spec.grid, self.spec.step
        return {
            "variables": [[v.name, v.unit, *_words(v.transform)] for v in self.spec.variables],
            "latitude": [grid.latitude, grid.latitude_edges],
            "longitude": [grid.longitude, grid.longitude_edges],
            "axes": [grid.unit, grid.frame],
            "calendar": self.spec.calendar,
            "step": [step.months, step.seconds],
            "mean": self.scaling.mean,
            "std": self.scaling.std,
            "spread": self.spread,
            "absent": self.absent,
            "source": self.source,
            "years": self.years,
            "license": self.license,
        }

    @classmethod
    def from_json(cls, words: Any) -> "Statistics":
        """The inverse of `to_json`. Raises CheckpointError for values that are none."""
        try:
            variables = tuple(
                Variable(str(name), str(unit), TRANSFORMS[kind](*map(float, rest)))
                for name, unit, kind, *rest in words["variables"]
            )
            (north, north_edges), (east, east_edges) = words["latitude"], words["longitude"]
            rows, columns, row_edges, column_edges = (
                tuple(map(float, x)) for x in (north, east, north_edges, east_edges)
            )
            grid = Grid(rows, columns, row_edges, column_edges, *map(str, words.get("axes", ())))
            step = Step(int(words["step"][0]), float(words["step"][1]))
            spec = FieldSpec(variables, grid, str(words["calendar"]), step)
            mean, std, spread = (tuple(map(float, words[k])) for k in ("mean", "std", "spread"))
            scaling = Scaling(tuple(v.transform for v in variables), mean, std)
            years = (int(words["years"][0]), int(words["years"][1]))
            made = cls(
                spec, scaling, spread, str(words["absent"]), str(words["source"]), years, license=str(words["license"])
            )
            cells = made.never.numel()
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(f"the model's card does not say what its fields are ({error!r})") from error
        sizes = {len(variables), len(mean), len(std)}
        if len(sizes) != 1 or len(spread) not in (0, cells) or not all(s > 0 for s in (*std, *spread)):
            raise CheckpointError("the model's card does not say what its fields are: its numbers do not fit its grid")
        return made


def lines(x: Tensor, length: int, *, first: int) -> Tensor:
    """Least squares through fields x (B, N, ...) in time: its values at times `first`, first + 1, ... (B, length, ...).

    Where a field is missing (NaN) at a cell, the line goes through the others; a cell with fewer than two has none.
    """
    there = ~x.isnan()
    full = x.nan_to_num(0.0)
    weight = there.to(x.dtype)
    time = torch.arange(x.shape[1], dtype=x.dtype, device=x.device).view(-1, *[1] * (x.ndim - 2))
    count = weight.sum(1, keepdim=True)
    centre = (weight * time).sum(1, keepdim=True) / count
    mean = full.sum(1, keepdim=True) / count
    apart = weight * (time - centre)
    slope = (apart * full).sum(1, keepdim=True) / apart.square().sum(1, keepdim=True)
    wanted = first + torch.arange(length, dtype=x.dtype, device=x.device).view(-1, *[1] * (x.ndim - 2))
    return mean + slope * (wanted - centre)


def variables_of(text: str) -> tuple[tuple[str, Transform | None], ...]:
    """Names and transforms from words such as "tas,pr:sqrt,hus:log1p/0.001,pr:learned"; None is a learned one.

    Raises BadInput for a transform that does not exist.
    """
    found = []
    for word in filter(None, text.replace(" ", "").split(",")):
        name, _, how = word.partition(":")
        kind, _, number = how.partition("/")
        if kind and kind not in (*TRANSFORMS, "learned"):
            raise BadInput(f"{word}: unknown transform {kind!r}; choose one of {', '.join(TRANSFORMS)}, learned")
        found.append((name, None if kind == "learned" else _transform(kind or "identity", number)))
    return tuple(found)


def _transform(kind: str, number: str) -> Transform:
    try:
        made: Transform = TRANSFORMS[kind](*([float(number)] if number else []))
    except (TypeError, ValueError) as error:
        raise BadInput(f"{kind}/{number}: only log1p takes a number, its scale: log1p/0.1") from error
    return made


def _words(transform: Transform) -> Sequence[Any]:
    kind = next(name for name, cls in TRANSFORMS.items() if type(transform) is cls)
    return [kind, transform.scale] if isinstance(transform, Log1p) else [kind]
