"""Forecasts that need no network, which any network has to beat: ensembles drawn from the past of the record alone.

All are called with a history (T, ...), T fields up to and with the last known one, and give (members, leads, ...).
Places that are missing anywhere in the history are NaN. Where a method says that places vary independently, its CRPS
place by place is right, but its energy score is that of noise; the others draw whole fields.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput

Floats = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Baseline(ABC):
    """A forecast from the past of the record."""

    @property
    @abstractmethod
    def shortest(self) -> int:
        """Fields of history that it needs."""

    @abstractmethod
    def draw(self, x: Floats, lead: int, members: int, rng: Rng) -> Floats:
        """`members` fields (members, n), `lead` steps after the last of the history x (T, n), which has no NaN."""

    @final
    def __call__(self, history: NDArray, leads: Sequence[int], members: int, rng: Rng) -> Floats:
        """The ensemble (members, leads, ...) in the units of `history` (T, ...).

        Raises BadInput for a history that is too short, or leads and members that are not positive.
        """
        if members < 1 or not leads or min(leads) < 1:
            raise BadInput(f"{members} members at leads {list(leads)}; both are 1 or more")
        needed = self.shortest
        if len(history) < needed:
            raise BadInput(
                f"{type(self).__name__} needs {needed} fields of history, there are {len(history)}; begin later, or "
                "give it a shorter window"
            )
        x = np.asarray(history, np.float64).reshape(len(history), -1)
        there = np.isfinite(x).all(axis=0)
        made = np.full((members, len(leads), x.shape[1]), np.nan)
        for i, lead in enumerate(leads):
            made[:, i, there] = self.draw(x[:, there], lead, members, rng)
        return made.reshape(members, len(leads), *history.shape[1:])


@dataclass(frozen=True)
class Persistence(Baseline):
    """The last field, plus Gaussian errors as large as this forecast's over the `window` last times it could be made.

    Places vary independently. Without the errors an ensemble of equal fields is only its absolute error.
    """

    window: int = 30

    @property
    def shortest(self) -> int:
        """Two fields: one past change."""
        return 2

    def draw(self, x: Floats, lead: int, members: int, rng: Rng) -> Floats:
        """Last field and its errors; a history shorter than the lead gives the changes over all of it."""
        lead = min(lead, len(x) - 1)
        change = (x[lead:] - x[:-lead])[-self.window :]
        spread = np.sqrt(np.square(change).mean(axis=0))
        return x[-1] + spread * rng.normal(size=(members, x.shape[1]))


@dataclass(frozen=True)
class Climatology(Baseline):
    """Past fields of the same phase of a cycle of `season` steps (12 for months, 1 for none), the `years` latest.

    Whole fields, so places vary together as they did; without return while they last: the fair CRPS of some of them
    has the expectation of that of all.
    """

    season: int = 1
    years: int = 30

    @property
    def shortest(self) -> int:
        """One cycle."""
        return self.season

    def draw(self, x: Floats, lead: int, members: int, rng: Rng) -> Floats:
        """Fields of the past, none twice before all came once."""
        phase = (len(x) - 1 + lead) % self.season
        past = x[phase :: self.season][-self.years :]
        return past[_shuffled(len(past), members, rng)]


@dataclass(frozen=True)
class TrendAR1(Baseline):
    """A straight line through the `window` last fields, and what is left of it as an AR(1) process, place by place.

    x_{T+l} ~ N(line + phi^l r_T, s^2 (1 - phi^2l) / (1 - phi^2)) with phi = sum r_t r_{t-1} / sum r_t^2, not below 0,
    and s^2 the variance of the innovations with window - 3 degrees of freedom. 31 fields span thirty steps.
    """

    window: int = 31

    @property
    def shortest(self) -> int:
        """The window, of which 4 at least have to be left over."""
        return max(self.window, 5)

    def draw(self, x: Floats, lead: int, members: int, rng: Rng) -> Floats:
        """Independent draws of that Gaussian."""
        line, rest = _line(x[-self.window :], lead)
        phi = (rest[1:] * rest[:-1]).sum(axis=0) / np.maximum(np.square(rest).sum(axis=0), 1e-300)
        phi = np.clip(phi, 0, 0.99)
        innovation = np.square(rest[1:] - phi * rest[:-1]).sum(axis=0) / (self.window - 3)
        spread = np.sqrt(innovation * (1 - phi ** (2 * lead)) / (1 - phi**2))
        return line + phi**lead * rest[-1] + spread * rng.normal(size=(members, x.shape[1]))


@dataclass(frozen=True)
class Detrended(Baseline):
    """A straight line through the `window` last fields, and another forecast of what they leave over."""

    rest: Baseline
    window: int = 31

    @property
    def shortest(self) -> int:
        """The window, which has to do for the other forecast as well."""
        return max(self.window, self.rest.shortest, 3)

    def draw(self, x: Floats, lead: int, members: int, rng: Rng) -> Floats:
        """Line plus forecast."""
        line, rest = _line(x[-self.window :], lead)
        return line + self.rest.draw(rest, lead, members, rng)


@dataclass(frozen=True)
class LinearInverse(Baseline):
    """Linear inverse model (Penland and Sardeshmukh 1995): dz/dt = B z + noise, in the leading principal components.

    G = C(1) C(0)^-1 is estimated over the whole history, about its mean; z_{T+l} ~ N(G^l z_T, C(0) - G^l C(0) G^l').
    Both covariances are sums over T, which keeps G stable. The part outside the components is drawn from the past.
    """

    modes: int = 10

    @property
    def shortest(self) -> int:
        """Three fields for every component."""
        return 3 * self.modes

    def draw(self, x: Floats, lead: int, members: int, rng: Rng) -> Floats:
        """Draws of that Gaussian, and residual fields."""
        mean = x.mean(axis=0)
        _, _, patterns = np.linalg.svd(x - mean, full_matrices=False)
        patterns = patterns[: self.modes]
        z = (x - mean) @ patterns.T
        rest = x - mean - z @ patterns
        present = z.T @ z / len(z)
        step = (z[1:].T @ z[:-1] / len(z)) @ np.linalg.pinv(present, hermitian=True)
        ahead = np.linalg.matrix_power(step, lead)
        variance, axes = np.linalg.eigh(present - ahead @ present @ ahead.T)
        noise = rng.normal(size=(members, len(variance))) * np.sqrt(np.maximum(variance, 0)) @ axes.T
        return mean + (ahead @ z[-1] + noise) @ patterns + rest[_shuffled(len(rest), members, rng)]


BASELINES: dict[str, Baseline] = {
    "persistence": Persistence(),
    "climatology": Climatology(),
    "trend with AR(1)": TrendAR1(),
    "trend with residual bootstrap": Detrended(Climatology(years=31)),
    "linear inverse model": LinearInverse(),
    "trend with linear inverse model": Detrended(LinearInverse(modes=5)),
}


def _line(x: Floats, lead: int) -> tuple[Floats, Floats]:
    """Least squares through x (T, n): its value `lead` steps after the last (n,), and what is left over (T, n)."""
    t = np.arange(len(x)) - (len(x) - 1) / 2
    slope = t @ x / (t @ t)
    mean = x.mean(axis=0)
    return mean + slope * (t[-1] + lead), x - mean - t[:, None] * slope


def _shuffled(n: int, count: int, rng: Rng) -> NDArray[np.int64]:
    """`count` of 0..n-1, none twice before all came once."""
    return np.concatenate([rng.permutation(n) for _ in range(-(-count // n))])[:count]
