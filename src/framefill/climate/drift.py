"""Whether a long rollout leaves the climate it came from: its mean, and how rough its fields are.

A model that feeds on its own fields may cool or warm step by step, or grow smooth or grainy. Roughness is the mean
squared difference of neighbouring cells, of single members, never of their mean.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUGH = 1.5  # by how much roughness may differ before it is called drift


@dataclass(frozen=True)
class Drift:
    """Of one variable: area means of the ensemble at every step, in units, and roughness over that of known fields."""

    name: str
    unit: str
    known_mean: float
    means: tuple[float, ...]
    roughness: tuple[float, ...]

    @property
    def drifting(self) -> bool:
        """Whether the last quarter of the steps is rougher or smoother than what is known by more than a half."""
        last = self.roughness[-max(len(self.roughness) // 4, 1) :]
        return not 1 / ROUGH < float(np.mean(last)) < ROUGH

    def to_json(self) -> dict[str, Any]:
        """As plain values, to four digits."""
        words = asdict(self) | {"drifting": self.drifting}
        for key in ("means", "roughness"):
            words[key] = [float(f"{v:.4g}") for v in words[key]]
        return words | {"known_mean": float(f"{self.known_mean:.6g}")}


def drift(name: str, unit: str, known: NDArray, made: NDArray, weights: NDArray) -> Drift:
    """Of `made` (members, T, H, W) against `known` fields (N, H, W), NaN where missing; `weights` (H, W) are areas."""
    usual = roughness(known[-len(made[0]) :]).mean()
    means = [float(_mean(made[:, t], weights).mean()) for t in range(made.shape[1])]
    rough = [float(roughness(made[:, t]).mean() / usual) for t in range(made.shape[1])]
    return Drift(name, unit, float(_mean(known[-1:], weights)[0]), tuple(means), tuple(rough))


def roughness(fields: NDArray) -> NDArray[np.float64]:
    """The mean squared difference of neighbours in latitude and longitude, for each field (..., H, W)."""
    fields = np.asarray(fields, np.float64)
    return sum(np.nanmean(np.square(np.diff(fields, axis=axis)), axis=(-2, -1)) for axis in (-2, -1))


def _mean(fields: NDArray, weights: NDArray) -> NDArray[np.float64]:
    there = np.isfinite(fields)
    total = (np.where(there, fields, 0.0) * weights).sum((-2, -1))
    return total / (there * weights).sum((-2, -1))
