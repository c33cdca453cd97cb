"""`Emulator`: the next fields, those between, all from a few stations, a finer grid. Datasets in, datasets out.

Everything is one act: a record (T, C, H, W) with unknown cells is filled, for each member, by windows that go forward
in time; each sees what is known and what was drawn before it. A dataset that comes back has a `member` axis.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.arrays import Rng
from framefill.climate import calendars
from framefill.climate.calendars import Step, Time, following
from framefill.climate.fields import FieldSpec, Layout, describe, times_of, to_dataset, to_tensor
from framefill.climate.grid import Grid
from framefill.climate.statistics import Statistics
from framefill.climate.transforms import Identity
from framefill.device import bf16_pays
from framefill.diffusion.observe import Observation
from framefill.diffusion.sample import Sampler
from framefill.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr

AT_ONCE = 8  # members drawn together


class Fill(Protocol):
    """How a model fills windows (B, T, C, H, W): see `recipes.climate.Climate.draw`."""

    def __call__(self, sampler: Sampler, x: Tensor, known: Tensor, rng: Rng, coarse: Observation | None) -> Tensor:
        """x where `known` (B, T, 1, H, W), drawn elsewhere."""
        ...


@dataclass(frozen=True, eq=False)
class Emulator:
    """A trained model of fields. Windows have `past` fields before the `current` ones; `trend` fields make a line.

    Same seed, same fields: member i is the same alone or among many.
    """

    model: Any
    draw: Fill
    statistics: Statistics
    past: int
    current: int
    trend: int
    sampler: Sampler
    device: str = "cpu"
    card: Any = None

    @property
    def spec(self) -> FieldSpec:
        """What input has to be."""
        return self.statistics.spec

    # ---- verbs -------------------------------------------------------------------------------------------------

    def forecast(self, fields: "xr.Dataset", steps: int = 10, *, members: int = 20, seed: int = 0) -> "xr.Dataset":
        """The `steps` fields after the last of `fields`, as an ensemble. Of a long record only the end is read."""
        values, times, layout = self._read(self.recent(fields))
        times = [*times, *following(times[-1], self.spec.step, _count(steps, "steps"))]
        return self._filled(_extended(values, steps), times, layout, members, seed, keep=slice(-steps, None))

    def interpolate(self, fields: "xr.Dataset", *, members: int = 20, seed: int = 0) -> "xr.Dataset":
        """The fields at all steps of the model from the first to the last of `fields`, which leaves some out."""
        return self._between(*self._read(fields, gaps=True), members, seed)

    def complete(self, fields: "xr.Dataset", *, members: int = 20, seed: int = 0) -> "xr.Dataset":
        """The same from values at some cells only: NaN is what is not known, at any cell and time.

        Cells that had no values in training (land, for the sea) have none in the result.
        """
        return self._between(*self._read(fields, gaps=True, sparse=True), members, seed)

    def climatology(self, like: "xr.Dataset", steps: int = 10, *, members: int = 20, seed: int = 0) -> "xr.Dataset":
        """`steps` fields from nothing, dated from the first time of `like`, which gives coordinates only.

        A model of what is beside a trend has none without one; it raises BadInput.
        """
        if self.trend:
            raise BadInput("this model draws what is beside a trend, and from nothing there is none; use forecast")
        values, times, layout = self._read(like)
        times = [times[0], *following(times[0], self.spec.step, _count(steps, "steps") - 1)]
        return self._filled(values.new_full((steps, *values.shape[1:]), torch.nan), times, layout, members, seed)

    def super_resolve(
        self, coarse: "xr.Dataset", like: "xr.Dataset", *, members: int = 20, seed: int = 0
    ) -> "xr.Dataset":
        """Fields on the model's grid whose means over blocks of cells, weighted by area, are those of `coarse`.

        The cells of `coarse` have to be blocks of whole cells of this grid. `like` has this grid and, for a model with
        a trend, the fields before the first of `coarse`.
        """
        given, layout = describe(coarse, self.spec.variables)
        times = times_of(coarse[layout.time])
        before, past, fine = self._read(like)
        early = [i for i, t in enumerate(past) if t < times[0]]
        self._follows([*(past[i] for i in early), times[0]])
        values = torch.cat([before[early], before.new_full((len(times), *before.shape[1:]), torch.nan)])
        seen = Coarse(to_tensor(coarse, given, layout)[0][0], len(early), given.grid, self.statistics)
        made = [*(past[i] for i in early), *times]
        return self._filled(values, made, fine, members, seed, keep=slice(len(early), None), coarse=seen)

    def ahead(self, values: Tensor, leads: Sequence[int], members: int, *, seed: int = 0) -> NDArray[np.float32]:
        """Fields (members, leads, C, H, W), `leads` steps after the last of `values` (T, C, H, W), in units."""
        made = self.members(_extended(values, max(leads)), members, seed=seed)
        return made[:, [len(values) - 1 + lead for lead in leads]].numpy()

    def arrays(self, fields: "xr.Dataset") -> NDArray[np.float32]:
        """The values of a dataset (members, T, C, H, W), latitudes rising, NaN where missing."""
        given, layout = describe(fields, self.spec.variables)
        return to_tensor(fields, given, layout, sparse=True)[0].numpy()

    def labels(self, fields: "xr.Dataset") -> list[str]:
        """The times of a dataset, as short as its steps allow."""
        step = self.spec.step
        form = "%Y" if step.unit == "years" else "%Y-%m-%d %H:%M" if step.seconds % 86400 else "%Y-%m-%d"
        return [t.strftime(form) for t in times_of(fields[describe(fields, self.spec.variables)[1].time])]

    def recent(self, fields: "xr.Dataset", *, at_least: int = 0) -> "xr.Dataset":
        """The last fields of a dataset, as many as a forecast looks at, unread."""
        count = max(self.trend, self.past, at_least, 2)  # two say how far apart fields are
        return fields.isel({describe(fields, self.spec.variables)[1].time: slice(-count, None)})

    # ---- how ---------------------------------------------------------------------------------------------------

    def _read(
        self, fields: "xr.Dataset", *, gaps: bool = False, sparse: bool = False
    ) -> tuple[Tensor, list[Time], Layout]:
        """Values (T, C, H, W) with NaN where missing, their times, and how the file has them."""
        given, layout = describe(fields, self.spec.variables)
        self.spec.check(replace(given, step=self.spec.step) if gaps else given)
        values, _ = to_tensor(fields, given, layout, sparse=sparse)
        if len(values) > 1:
            raise BadInput(f"the input has {len(values)} members; choose one: ds.isel({layout.member}=0)")
        times = times_of(fields[layout.time])
        if not gaps:
            self._follows(times)
        return values[0], times, layout

    def _follows(self, times: Sequence[Time]) -> None:
        """BadInput where a time is missing."""
        holes = calendars.gaps(times, self.spec.step)
        if holes:
            raise BadInput(
                f"time has a gap: {times[holes[0]]} is followed by {times[holes[0] + 1]}, the model's steps are "
                f"{self.spec.step}; fill it in first: complete(...)"
            )

    def _between(self, values: Tensor, times: list[Time], layout: Layout, members: int, seed: int) -> "xr.Dataset":
        """Every step from the first time to the last, and every cell."""
        places = _places(times, self.spec.step)
        every = [times[0], *following(times[0], self.spec.step, places[-1])]
        whole = values.new_full((places[-1] + 1, *values.shape[1:]), torch.nan)
        whole[places] = values
        return self._filled(whole, every, layout, members, seed)

    def _filled(
        self, values: Tensor, times: Sequence[Time], layout: Layout, members: int, seed: int,
        *, keep: slice = slice(None), coarse: "Coarse | None" = None,
    ) -> "xr.Dataset":  # fmt: skip
        made = self.members(values, _count(members, "members"), seed=seed, coarse=coarse)
        return to_dataset(made[:, keep], list(times)[keep], self.spec, layout)

    def members(self, values: Tensor, members: int, *, seed: int = 0, coarse: "Coarse | None" = None) -> Tensor:
        """All cells of `values` (T, C, H, W), of which NaN are unknown, for each member: (members, T, C, H, W)."""
        rng = Rng.batch(seed, members)
        parts = [range(i, min(i + AT_ONCE, members)) for i in range(0, members, AT_ONCE)]
        return torch.cat([self._some(values, rng.pick(part), coarse) for part in parts])

    def _some(self, values: Tensor, rng: Rng, coarse: "Coarse | None") -> Tensor:
        x = values.expand(len(rng), *values.shape).to(self.device)
        for start in self._starts(values):
            drawn = self._window(x, start, rng, coarse)
            now = slice(start, start + drawn.shape[1])
            x = torch.cat([x[:, :start], torch.where(x[:, now].isnan(), drawn, x[:, now]), x[:, now.stop :]], 1)
        return x.masked_fill(self.statistics.never.to(x.device), torch.nan).cpu()

    def _starts(self, values: Tensor) -> Iterator[int]:
        """Where the current fields of each window begin: at the first field that is not whole, then block by block."""
        unknown = (values.isnan() & ~self.statistics.never).flatten(1).any(1).nonzero()[:, 0].tolist()
        if unknown and unknown[0] < self.trend:
            raise BadInput(
                f"this model puts a line through {self.trend} whole fields before what it draws; here only "
                f"{unknown[0]} are, so give more of the record"
            )
        end = 0
        for place in unknown:
            if place >= end:
                end = place + self.current
                yield place

    def _window(self, x: Tensor, start: int, rng: Rng, coarse: "Coarse | None") -> Tensor:
        """The current fields from `start` on, as many as x (B, T, C, H, W) has; outside of it nothing is known."""
        B, T, *shape = x.shape
        before, behind = max(self.trend, self.past) - start, start + self.current - T
        part = x[:, max(-before, 0) : start + self.current]
        outside = [x.new_full((B, max(n, 0), *shape), torch.nan) for n in (before, behind)]
        encoded, line = self.statistics.encode(torch.cat([outside[0], part, outside[1]], 1), self.trend, self.past)
        known = ~encoded.isnan().any(2, keepdim=True)
        seen = coarse.seen(line, start - self.past) if coarse else None
        bf16 = bf16_pays(self.device)
        with torch.inference_mode(), torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=bf16):
            drawn = self.draw(self.sampler, encoded.nan_to_num(0.0), known, rng, seen)
        return self.statistics.decode(drawn.float(), line)[:, self.past :][:, : T - start]


class Coarse:
    """Means of blocks of cells, (T, C, h, w) on a coarser grid, as an observation of windows.

    They are those of the fields from index `first` of the record on. Raises BadInput where the coarse cells are not
    blocks of whole cells of the model's grid, or a variable has a transform, of which a mean is none of the values.
    """

    def __init__(self, means: Tensor, first: int, grid: Grid, statistics: Statistics):
        bent = [v.name for v in statistics.spec.variables if v.transform != Identity()]
        if bent:
            raise BadInput(f"{bent[0]} has a transform, so means of it are not seen; train a model without one")
        fine = statistics.spec.grid
        self.means, self.first, self.statistics = means, first, statistics
        pairs = (("latitude", grid.latitude_edges, fine.latitude_edges),
                 ("longitude", grid.longitude_edges, fine.longitude_edges))  # fmt: skip
        self.rows, self.columns = (_blocks(name, np.array(c), np.array(f)) for name, c, f in pairs)
        self.areas = torch.from_numpy(fine.areas).float()

    def seen(self, line: Tensor, start: int) -> Observation:
        """Of windows beside `line` (B, T, C, H, W), whose first field has the index `start` in the record."""
        zero = self.pooled(self.statistics.decode(torch.zeros_like(line), line))
        y = torch.full_like(zero, torch.nan)
        for i in range(y.shape[1]):
            place = start + i - self.first
            if 0 <= place < len(self.means):
                y[:, i] = self.means[place] - zero[:, i]
        scale = self.statistics.decode(torch.ones_like(line[:1]), line[:1]) - self.statistics.decode(
            torch.zeros_like(line[:1]), line[:1]
        )
        return Observation(y, operator=lambda x: self.pooled(x * scale.to(x)))

    def pooled(self, x: Tensor) -> Tensor:
        """Means of x (B, T, C, H, W) over the blocks, weighted by area."""
        areas = self.areas.to(x)
        weighted, total = (_summed(v, self.rows, self.columns) for v in (x * areas, areas))
        return weighted / total


def _summed(x: Tensor, rows: tuple[int, int, int], columns: tuple[int, int, int]) -> Tensor:
    for axis, (first, size, count) in ((-2, rows), (-1, columns)):
        x = x.narrow(axis, first, size * count).unflatten(axis, (count, size)).sum(axis)
    return x


def _blocks(name: str, coarse: NDArray, fine: NDArray) -> tuple[int, int, int]:
    """First fine cell, fine cells per coarse one, and coarse cells, along one axis of edges in degrees."""
    size = round((len(fine) - 1) * (coarse[1] - coarse[0]) / (fine[-1] - fine[0]))
    first = int(np.abs(fine - coarse[0]).argmin())
    count = len(coarse) - 1
    within = size >= 1 and first + size * count < len(fine)
    edges = fine[first : first + size * count + 1 : size] if within else np.empty(0)
    if not within or np.abs(edges - coarse).max() > 0.01 * np.abs(np.diff(fine)).min():
        raise BadInput(
            f"the coarse cells are not blocks of whole cells of the model's grid along {name}; make them so: "
            f"ds.coarsen({name}=2).mean()"
        )
    return first, size, count


def _extended(values: Tensor, steps: int) -> Tensor:
    return torch.cat([values, values.new_full((steps, *values.shape[1:]), torch.nan)])


def _places(times: Sequence[Time], step: Step) -> list[int]:
    """How many steps each time is after the first."""
    found = [step.between(times[0], t) for t in times]
    for time, place in zip(times, found, strict=True):
        if abs(place - round(place)) > 1e-2:
            raise BadInput(f"{time} is not a whole number of steps ({step}) after {times[0]}; resample the input")
    return [round(place) for place in found]


def _count(value: int, name: str) -> int:
    if value < 1:
        raise BadInput(f"{name} must be at least 1, got {value}")
    return value
