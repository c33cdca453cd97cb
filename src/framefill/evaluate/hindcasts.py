"""What a model of fields would have said in the past, beside the forecasts that need no network, from the same starts.

Every start is a file of its own, so that an evaluation that was stopped goes on; its name says what it is a forecast
of, so nothing made by another model, seed or number of members is taken for it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from framefill.atomic import replacing
from framefill.climate.archive import Archive, open_archive
from framefill.climate.baselines import BASELINES
from framefill.climate.emulator import Emulator
from framefill.climate.leakage import check_split
from framefill.climate.recalibrate import Recalibration, recalibrate
from framefill.climate.samples import place_of
from framefill.climate.scores import hindcast, truth
from framefill.climate.verification import Hindcasts
from framefill.errors import BadInput, FramefillError, MediaError


@dataclass(frozen=True)
class Plan:
    """Forecasts from every `every`-th field of the years `first` to `last`, at `leads`, of `members`."""

    leads: tuple[int, ...] = (1, 5, 10)
    members: int = 30
    every: int = 3
    first: int | None = None
    last: int | None = None
    seed: int = 0

    def starts(self, archive: Archive, emulator: Emulator) -> list[int]:
        """Indices of the last known fields. Raises BadInput where there are fewer than two."""
        trained = emulator.statistics.years[1]
        first = trained + 1 if self.first is None else self.first
        needed = max(emulator.trend, emulator.past)
        length = needed + max(self.leads)
        inside = [
            i + needed - 1
            for i in archive.starts(length)
            if first <= archive.times[i + needed - 1].year <= (self.last or 10**6)
        ]
        chosen = inside[:: self.every]
        if len(chosen) < 2:
            raise BadInput(
                f"{archive.name} allows {len(chosen)} forecast(s) from {first} on with {needed} fields before and "
                f"{max(self.leads)} after; give more of the record, shorter --leads, or fewer --every"
            )
        return chosen


def check(emulator: Emulator, archive: Archive, starts: Sequence[int]) -> str | None:
    """Whether the model may have seen what it is judged on: a warning in words, or None.

    Raises BadInput where fields of the test are found among those of training, if that record is still there.
    """
    first, last = emulator.statistics.years
    years = archive.times[starts[0] + 1].year, archive.times[-1].year
    try:
        trained = open_archive(place_of(emulator.statistics.source), [v.name for v in emulator.spec.variables])
    except (MediaError, FramefillError, OSError):
        return f"the record of training ({emulator.statistics.source}) is not here, so copies of it were not looked for"
    with trained:
        check_split(trained, archive, train_years=(first, last), test_years=years)
    return None


def made(
    emulator: Emulator, archive: Archive, plan: Plan, out: Path, *, model: str, each: Callable[[], None] = lambda: None
) -> list[Hindcasts]:
    """The model's forecasts and those of the baselines, one `Hindcasts` for every variable."""
    starts = plan.starts(archive, emulator)
    own = np.stack(list(_forecasts(emulator, archive, plan, starts, out / "parts", model, each)))
    record = archive.read(0, len(archive)).values[0].double().numpy()
    labels = tuple(f"{archive.times[s]:%Y-%m-%d}" for s in starts)
    years = [t.year <= emulator.statistics.years[1] for t in archive.times]
    return [
        Hindcasts(
            variable.name, variable.unit, archive.spec.grid, labels, plan.leads, archive.spec.step.unit,
            truth(record[:, c], starts, plan.leads),
            {model: own[:, :, :, c]} | _baselines(record[:, c], starts, plan),
            spacing=plan.every, normal=_normal(record[:, c], years),
        )
        for c, variable in enumerate(archive.spec.variables)
    ]  # fmt: skip


def corrected(hindcasts: Hindcasts, past: Hindcasts) -> tuple[Hindcasts, Recalibration]:
    """With the model recalibrated on `past` hindcasts, of training years, as a further method right after it."""
    correction = recalibrate(past)
    model = hindcasts.model
    others = {name: hindcasts.made[name] for name in hindcasts.baselines}
    fixed = correction(hindcasts.made[model], hindcasts.leads)
    return replace(hindcasts, made={model: hindcasts.made[model], f"{model}, recalibrated": fixed} | others), correction


def _forecasts(
    emulator: Emulator,
    archive: Archive,
    plan: Plan,
    starts: Sequence[int],
    parts: Path,
    model: str,
    each: Callable[[], None],
) -> Iterator[NDArray[np.float32]]:
    """(members, leads, C, H, W) for every start, from disk where it was made before."""
    parts.mkdir(parents=True, exist_ok=True)
    length = max(emulator.trend, emulator.past)
    for start in starts:
        words = [model, str(emulator.sampler), plan.leads, plan.members, plan.seed, archive.name, len(archive), start]
        name = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]
        place = parts / f"{name}.npy"
        if not place.exists():
            values = archive.read(start - length + 1, length).values[0]
            fields = emulator.ahead(values, plan.leads, plan.members, seed=plan.seed + start)
            with replacing(place) as part, part.open("wb") as file:
                np.save(file, fields, allow_pickle=False)
        yield np.load(place, allow_pickle=False)
        each()


def _baselines(record: NDArray, starts: Sequence[int], plan: Plan) -> dict[str, NDArray]:
    """Those that have enough history before the first start."""
    return {
        name: hindcast(baseline, record, starts, plan.leads, members=plan.members, seed=plan.seed).astype(np.float32)
        for name, baseline in BASELINES.items()
        if baseline.shortest <= starts[0] + 1
    }


def _normal(record: NDArray, years: Sequence[bool]) -> NDArray | None:
    """The mean field of the years of training, if the record has some."""
    seen = record[np.array(years)]
    return np.nanmean(seen, axis=0) if len(seen) > 1 and not np.isnan(seen).all(axis=0).any() else None
