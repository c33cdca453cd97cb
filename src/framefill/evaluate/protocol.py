"""What exactly is measured: a figure without its protocol can be compared with no other.

Two are named. `mcvd` is that of the paper (facts, section 1.5), so that its figures have a neighbour; it flatters: the
best sample is chosen for every score by itself, and the Frechet video distance looks at known frames too. `strict` is
ours: means over samples, one best sample for all scores, made frames only, and scores of whole ensembles.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput

Task = Literal["predict", "interpolate", "generate"]


@dataclass(frozen=True)
class Protocol:
    """How figures are taken.

    `best` is how the best of N samples is chosen: by "each" score for itself, or one sample by its "psnr"; `binary`
    rounds grey frames to black and white before SSIM, and takes the luma of colour; `known` puts the known frames into
    the clips of the Frechet video distance; `pooled` compares all samples at once with the real clips, else Frechet
    distances are means over samples, each of as many clips as there are real ones, so that methods with other numbers
    of samples compare; `says` is all that in words.
    """

    name: str
    clips: int
    samples: int
    best: Literal["each", "psnr"]
    binary: bool
    known: bool
    pooled: bool
    says: str


PROTOCOLS = {
    "mcvd": Protocol(
        "mcvd", 256, 10, "each", True, True, True,
        "best of N chosen for every score by itself; SSIM of the luma, of moving digits rounded to black and white; "
        "FVD of clips with their known frames, of all samples together and as the mean over single samples",
    ),
    "strict": Protocol(
        "strict", 256, 10, "psnr", False, False, False,
        "means over N samples; best of N is one sample, that of the best PSNR, for all scores; FVD and FD of made "
        "frames only, the mean over single samples; CRPS and spread-skill of all N",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A task on windows of a clip: `known` (T,) bool says which frames are given."""

    task: Task
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, task: Task, *, past: int, frames: int, future: int) -> "Question":
        """`frames` to make after `past` known ones and, to interpolate, before `future` more.

        Raises BadInput for no frames, and for an interpolation by a model that sees no future.
        """
        if frames < 1:
            raise BadInput(f"the number of frames to make must be at least 1, got {frames}")
        if task == "interpolate" and not future:
            raise BadInput("this model sees no frames after those it makes, so it cannot interpolate; use predict")
        before = 0 if task == "generate" else past
        after = future if task == "interpolate" else 0
        return cls(task, np.array([True] * before + [False] * frames + [True] * after))
