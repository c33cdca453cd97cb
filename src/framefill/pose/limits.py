"""What a body can do, and what it likes to do: boxes and Gaussians over the joints' axis-angle vectors.

A limit is a box for axis times angle of the local rotation, so a hinge is a box that is flat in two directions. A habit
is a Gaussian over all of them at once; it decides what handles leave open, and is fitted to motion. A stance says how
the root leans: of where it looks a habit knows nothing.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose.turning import logarithm

WIDEST = 3.0  # radians: axis-angle vectors are unique below pi
LEAN = 0.2  # radians: ours; in the training clips of DeepMimic the median is 0.17, the root mean square 0.61


@dataclass(frozen=True)
class Limits:
    """low, high (J, 3): the least and greatest of each component of axis times angle, radians in [-3, 3].

    The root's are not looked at. Raises BadInput where low is above high or one is out of range.
    """

    low: Tensor = field(compare=False)
    high: Tensor = field(compare=False)

    def __post_init__(self) -> None:
        fits = self.low.shape == self.high.shape and self.low.ndim == 2 and self.low.shape[1] == 3
        if not fits or not (self.low <= self.high).all():
            raise BadInput(
                f"joint limits {tuple(self.low.shape)} and {tuple(self.high.shape)}; give low <= high (J, 3)"
            )
        if self.low.min() < -WIDEST or self.high.max() > WIDEST:
            raise BadInput(
                f"joint limits from {self.low.min():g} to {self.high.max():g}; angles lie in -3 to 3 radians"
            )

    @classmethod
    def none(cls, joints: int) -> "Limits":
        """Joints that turn as they like, but not through a half turn."""
        high = torch.full((joints, 3), WIDEST, dtype=torch.float64)
        return cls(-high, high)

    @classmethod
    def of(cls, local: Tensor, *, margin: float = 0.1) -> "Limits":
        """The range of rotations (N, J, 3, 3) that were seen, and a margin where there was any movement."""
        vectors = _vectors(local)
        low, high = vectors.amin(0), vectors.amax(0)
        moves = high - low > 1e-3
        low = torch.where(moves, low - margin, low).clamp(-WIDEST, WIDEST)
        return cls(low, torch.where(moves, high + margin, high).clamp(-WIDEST, WIDEST))


@dataclass(frozen=True)
class Stance:
    """How the root likes to be turned in the world: R axes is near `there`, both (3, 3) and in standard deviations.

    Columns of `axes` are directions in the root's frame divided by how far, in radians, each leans as a rule; a column
    of zeros leans as it likes.
    """

    axes: Tensor = field(compare=False)
    there: Tensor = field(compare=False)

    def __post_init__(self) -> None:
        fits = self.axes.shape == self.there.shape == (3, 3)
        if not fits or not (torch.isfinite(self.axes).all() and torch.isfinite(self.there).all()):
            raise BadInput(
                f"a stance of {tuple(self.axes.shape)} and {tuple(self.there.shape)}; give finite (3, 3) of both"
            )

    @classmethod
    def upright(cls, rest: Tensor, spread: float = LEAN) -> "Stance":
        """What points up where the root is turned by `rest` (3, 3) points up, give or take `spread` radians."""
        if not 0 < spread < float("inf"):
            raise BadInput(f"a stance with a spread of {spread} radians; give more than 0")
        up = torch.diag(torch.tensor([0.0, 1 / spread, 0.0], dtype=torch.float64))
        return cls(rest.double().mT @ up, up)


@dataclass(frozen=True)
class Habit:
    """A Gaussian over axis-angle vectors: mean (3 J,) or (B, 3 J), and a factor F (K, 3 J) of the precision F' F.

    Of the root these say nothing; `stance` may.
    """

    mean: Tensor = field(compare=False)
    factor: Tensor = field(compare=False)
    stance: Stance | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        fits = self.factor.ndim == 2 and self.mean.ndim in (1, 2) and self.mean.shape[-1] == self.factor.shape[1]
        if not fits or not (torch.isfinite(self.mean).all() and torch.isfinite(self.factor).all()):
            raise BadInput(
                f"a habit of mean {tuple(self.mean.shape)} and factor {tuple(self.factor.shape)}; give finite "
                "(3 J,) or (B, 3 J), and (K, 3 J)"
            )

    @classmethod
    def near(cls, local: Tensor, *, spread: float = 1.0) -> "Habit":
        """Stay near a pose (J, 3, 3), or one for each of a batch, within about `spread` radians in every joint."""
        if not 0 < spread < float("inf"):
            raise BadInput(f"a habit with a spread of {spread} radians; give more than 0")
        mean = _vectors(local).flatten(-2)
        return cls(mean, torch.eye(mean.shape[-1], dtype=torch.float64) / spread)

    @classmethod
    def of(cls, local: Tensor, *, floor: float = 0.1) -> "Habit":
        """Fitted to poses (N, J, 3, 3); `floor`, in radians, is added to the spread in every direction."""
        vectors = _vectors(local).flatten(1)
        mean = vectors.mean(0)
        covariance = (vectors - mean).T @ (vectors - mean) / len(vectors)
        covariance = covariance + floor**2 * torch.eye(len(mean), dtype=torch.float64)
        return cls(mean, torch.linalg.inv(torch.linalg.cholesky(covariance)))


def _vectors(local: Tensor) -> Tensor:
    """Axis times angle (..., 3), float64, of rotations (..., 3, 3)."""
    return torch.from_numpy(logarithm(local.double().numpy()))
