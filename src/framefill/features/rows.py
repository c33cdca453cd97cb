"""The one contract of feature networks: 8-bit frames in, one row of numbers per clip or picture out.

A figure such as FVD means nothing without its protocol, so a `Features` says of itself what a protocol card must: its
name, the sha256 of its weights and how it resizes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.errors import BadInput, Failed


@dataclass(frozen=True)
class Features:
    """A feature network with its preparation of frames; call it.

    `name` as it should be printed; `dimension` D, numbers per row; `sha256` of the file of weights; `resize` in words;
    `frames` the least length of a clip, or 0 where every frame is a picture by itself; `extract` takes uint8 tensors
    (B, T, 3, H, W), or (B, 3, H, W) for pictures, to (B, D); `batch` clips or pictures are taken at a time.
    """

    name: str
    dimension: int
    sha256: str
    resize: str
    frames: int
    extract: Callable[[Tensor], Tensor]
    device: str = "cpu"
    batch: int = 4

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Rows for uint8 `frames` with C = 1 (grey, repeated) or 3.

        Clips (N, T, H, W, C) give (N, D) or, where every frame is a picture, (N, T, D); pictures (N, H, W, C) give
        (N, D). A row does not depend on the others, up to rounding. Raises BadInput for frames of another shape or
        type, and clips that are too short; Failed where the network answers with something else than finite rows.
        """
        self._check(frames)
        ahead = frames.shape[:-3] if self.frames == 0 else frames.shape[:1]
        each = frames.reshape(-1, *frames.shape[len(ahead) :])
        rows = [self._rows(each[i : i + self.batch]) for i in range(0, len(each), self.batch)]
        return np.concatenate(rows).reshape(*ahead, self.dimension)

    def _check(self, frames: NDArray[np.uint8]) -> None:
        given = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
        axes = (5,) if self.frames else (4, 5)
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim not in axes:
            shapes = "(N, T, H, W, C)" if self.frames else "(N, H, W, C) or (N, T, H, W, C)"
            raise BadInput(f"{self.name}: frames are {given}; give a uint8 array {shapes}")
        if frames.size == 0 or frames.shape[-1] not in (1, 3):
            raise BadInput(f"{self.name}: frames have shape {frames.shape}; give nothing empty, and 1 or 3 channels")
        if self.frames > frames.shape[1]:
            raise BadInput(
                f"{self.name} needs clips of at least {self.frames} frames, got {frames.shape[1]}; "
                "give longer clips, or keep the known frames in them"
            )

    def _rows(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        levels = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).to(self.device)
        if levels.shape[-3] == 1:
            levels = levels.expand(*levels.shape[:-3], 3, *levels.shape[-2:])
        # without cuDNN's 19-bit floats: with them a row depends on the machine in its third digit
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            rows = self.extract(levels)
        if rows.shape != (len(frames), self.dimension) or not rows.isfinite().all():
            raise Failed(
                f"{self.name} gave {tuple(rows.shape)} for {len(frames)} inputs, or NaN; "
                f"finite rows ({len(frames)}, {self.dimension}) are needed"
            )
        return rows.double().cpu().numpy()
