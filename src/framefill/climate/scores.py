"""A forecast against what happened, and against the forecasts that need no network, on the same starts.

Every figure is a mean over starts with a bootstrap interval. Starts that lie closer together than the lead share what
happened, so they are resampled in blocks as long as that.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput
from framefill.metrics.distribution import Interval, bootstrap
from framefill.metrics.forecast import average, bias, crps, energy_score, rank_histogram, spread_and_error

Floats = NDArray[np.float64]


class Forecast(Protocol):
    """What can be scored: a `Baseline`, or a model behind the same call."""

    def __call__(self, history: NDArray, leads: Sequence[int], members: int, rng: np.random.Generator) -> NDArray:
        """Ensemble (members, leads, ...) after the history (T, ...)."""
        ...


@dataclass(frozen=True)
class Score:
    """Scores of one forecast at one lead, in units of the data, with 95 % intervals over `starts` forecasts.

    `ranks` (members + 1,) are the shares of `rank_histogram`. Spread over skill is NaN for one member.
    """

    lead: int
    starts: int
    crps: Interval
    energy: Interval
    rmse: Interval
    bias: Interval
    spread_skill: Interval
    ranks: tuple[float, ...]


def hindcast(
    forecast: Forecast, record: NDArray, starts: Sequence[int], leads: Sequence[int], *, members: int, seed: int = 0
) -> Floats:
    """Forecasts (starts, members, leads, ...) of `record` (T, ...), each from record[: start + 1] alone.

    A start draws the same numbers whatever the other starts are. Raises BadInput where the truth would be missing.
    """
    last = len(record) - 1 - max(leads)
    wrong = [s for s in starts if not 0 <= s <= last]
    if wrong or not starts:
        raise BadInput(f"forecasts from {wrong[:3]}; with leads up to {max(leads)} the record allows 0..{last}")
    return np.stack([forecast(record[: s + 1], leads, members, np.random.default_rng([seed, s])) for s in starts])


def truth(record: NDArray, starts: Sequence[int], leads: Sequence[int]) -> NDArray:
    """What happened, (starts, leads, ...)."""
    return record[np.add.outer(np.asarray(starts), np.asarray(leads))]


def score(
    made: NDArray, happened: NDArray, lead: int, weights: NDArray, *, spacing: int = 1, rounds: int = 1000
) -> Score:
    """Scores at one lead of forecasts `made` (starts, members, ..., H, W) of `happened` (starts, ..., H, W).

    `weights` (H, W) are the cells' areas; `spacing` is how many steps lie between starts.
    """
    block = block_of(lead, spacing, len(made))

    def over_starts(statistic: "Statistic", *parts: Floats) -> Interval:
        return bootstrap(statistic, *parts, rounds=rounds, paired=True, block=block)

    pairs = list(zip(made, happened, strict=True))
    members = made.shape[1]
    spread = [spread_and_error(x, y) if members > 1 else (np.full(y.shape, np.nan),) * 2 for x, y in pairs]
    variance, error = (_per_start(part, weights) for part in zip(*spread, strict=True))
    square = _per_start(np.square(made.mean(axis=1, dtype=np.float64) - happened), weights)
    energy = np.asarray([_energy(x, y, weights) for x, y in pairs])
    return Score(
        lead, len(made),
        over_starts(_mean, crps_of_starts(made, happened, weights)),
        over_starts(_mean, energy),
        over_starts(_root, square),
        over_starts(_mean, np.asarray([bias(x, y, weights).mean() for x, y in pairs])),
        over_starts(_ratio, variance, error),
        tuple(rank_histogram(np.moveaxis(made, 1, 0), happened, weights).tolist()),
    )  # fmt: skip


def crps_of_starts(made: NDArray, happened: NDArray, weights: NDArray) -> Floats:
    """Fair CRPS of every start's forecast, its mean over the cells by area, (starts,); arguments as of `score`."""
    return _per_start([crps(x, y) for x, y in zip(made, happened, strict=True)], weights)


def block_of(lead: int, spacing: int, starts: int) -> int:
    """How many starts in a row share what happened: those that lie closer together than the lead; at most half."""
    return max(1, min(-(-lead // spacing), starts // 2))


class Statistic(Protocol):
    """A number from samples."""

    def __call__(self, *parts: Floats) -> float:
        """Of paired samples."""
        ...


def _mean(*parts: Floats) -> float:
    return float(parts[0].mean())


def _root(*parts: Floats) -> float:
    return float(np.sqrt(parts[0].mean()))


def _ratio(*parts: Floats) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.sqrt(parts[0].mean() / parts[1].mean()))


def _per_start(values: Iterable[NDArray], weights: NDArray) -> Floats:
    return np.asarray([average(v, weights).mean() for v in values])


def _energy(x: NDArray, y: NDArray, weights: NDArray) -> float:
    """A single member's energy score is its distance."""
    return energy_score(x, y, weights) if len(x) > 1 else float(np.sqrt(average(np.square(x[0] - y), weights).mean()))
