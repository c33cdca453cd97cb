"""Correct what the past shows to be wrong with an ensemble: its mean at each lead, and its spread about the mean.

x -> m + shift + inflation (x - m), with m the ensemble mean. Both are closed forms: the shift takes away the mean
error, and the inflation makes the adjusted spread as large as what is left of the error of the mean, so that spread
over skill is 1 on the hindcasts it is fitted to. For an ensemble of N from N(mu, s^2) and a truth from N(mu, S^2) that
is inflation^2 = (S^2 + s^2 / N) / (s^2 + s^2 / N). What the hindcasts cannot tell from no correction is not corrected.
Fit it on hindcasts of the training period, never on those that are verified.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.climate.scores import Floats, Forecast, score
from framefill.climate.verification import Hindcasts
from framefill.errors import BadInput


@dataclass(frozen=True)
class Recalibration:
    """Shift, in units of the data, and inflation at every lead; results below `lowest` become it (0 for amounts)."""

    leads: tuple[int, ...]
    shifts: tuple[float, ...]
    inflations: tuple[float, ...]
    lowest: float | None = None

    def __call__(self, made: NDArray, leads: Sequence[int]) -> Floats:
        """Forecasts (..., members, leads, H, W) at `leads`, corrected. Raises BadInput for a lead that it has not."""
        unknown = [lead for lead in leads if lead not in self.leads]
        if unknown:
            raise BadInput(f"no correction for lead {unknown[0]}; it was fitted to {list(self.leads)}")
        at = [self.leads.index(lead) for lead in leads]
        shift, inflation = (np.asarray(z)[at][:, None, None] for z in (self.shifts, self.inflations))
        x = np.asarray(made, np.float64)
        mean = x.mean(axis=-4, keepdims=True)
        fixed = mean + shift + inflation * (x - mean)
        return fixed if self.lowest is None else np.maximum(fixed, self.lowest)

    def to_json(self) -> dict[str, Any]:
        """Ready for json.dumps."""
        return asdict(self)

    @classmethod
    def from_json(cls, words: Mapping[str, Any]) -> "Recalibration":
        """The same again. Raises BadInput where `words` is not what `to_json` gives."""
        try:
            leads, shifts, inflations = (tuple(words[name]) for name in ("leads", "shifts", "inflations"))
            made = cls(tuple(map(int, leads)), tuple(map(float, shifts)), tuple(map(float, inflations)),
                       None if words.get("lowest") is None else float(words["lowest"]))  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"no recalibration: {type(error).__name__} {error}; fit it again") from error
        numbers = (*made.shifts, *made.inflations)
        if not len(made.leads) == len(made.shifts) == len(made.inflations) or not all(map(math.isfinite, numbers)):
            raise BadInput("a recalibration has one finite shift and one inflation for every lead; fit it again")
        if min(made.inflations, default=1.0) <= 0:
            raise BadInput(f"inflation of {min(made.inflations)}; it is above 0: fit it again")
        return made


@dataclass(frozen=True)
class Recalibrated:
    """A forecast, and the correction of what it makes."""

    forecast: Forecast
    correction: Recalibration

    def __call__(self, history: NDArray, leads: Sequence[int], members: int, rng: np.random.Generator) -> NDArray:
        """The corrected ensemble (members, leads, H, W) after the history (T, H, W)."""
        return self.correction(self.forecast(history, leads, members, rng), leads)


def recalibrate(hindcasts: Hindcasts, *, lowest: float | None = None) -> Recalibration:
    """The correction of the model of `hindcasts`, one pair of numbers for every lead, area-weighted.

    A shift stays 0 and an inflation 1 where the 95 % interval over starts holds that. Raises BadInput for one member,
    and for members that are all equal.
    """
    h = hindcasts.common()
    made = h.made[h.model]
    if made.shape[1] < 2:
        raise BadInput(f"{h.model} has 1 member, which has no spread to correct; draw 2 or more")
    pairs = [_fit(h, made[:, :, i], i) for i in range(len(h.leads))]
    shifts, inflations = zip(*pairs, strict=True)
    return Recalibration(h.leads, shifts, inflations, lowest)


def _fit(h: Hindcasts, made: NDArray, i: int) -> tuple[float, float]:
    found = score(made, h.happened[:, i], h.leads[i], h.grid.weights, spacing=h.spacing, rounds=300)
    shift = 0.0 if found.bias.low <= 0 <= found.bias.high else -found.bias.value
    left = score(made + shift, h.happened[:, i], h.leads[i], h.grid.weights, spacing=h.spacing, rounds=300).spread_skill
    if not left.value > 0 or math.isinf(left.value):
        raise BadInput(
            f"{h.model} has members that are all equal, or without error, {h.leads[i]} {h.time_unit} ahead; there is "
            "no inflation for that"
        )
    return shift, 1.0 if left.low <= 1 <= left.high else 1 / left.value
