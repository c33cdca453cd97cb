"""`VideoModel`: the future of a clip, its past, the frames between, a clip from nothing. Verbs, no mathematics."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.arrays import Rng
from framefill.device import bf16_pays
from framefill.diffusion.complete import Order, Window, blockwise, complete, stream
from framefill.diffusion.denoiser import Model
from framefill.diffusion.sample import DPMSolver, Sampler
from framefill.errors import BadInput
from framefill.video.clip import Clip, fit, levels, tensor, with_channels
from framefill.video.filled import Filled

Frames = NDArray[Any]
"""uint8 or uint16 (..., H, W, C)."""


@dataclass(frozen=True)
class VideoModel:
    """A trained model of windows of frames, and how to draw from it.

    `draw(sampler, frames, known, rng)` gives the current frames of windows (B, length, C, H, W) in [-1, 1];
    `height` and `width` are the size it was trained at, `stride` what sizes must be multiples of, None where it
    is its own size only. Same seed, same frames: sample i is the same alone or among many.
    """

    model: Model
    draw: Callable[[Sampler, Tensor, Tensor, Rng], Tensor]
    window: Window
    channels: int
    height: int
    width: int
    stride: int | None
    sampler: Sampler = field(default_factory=lambda: DPMSolver(10))
    device: str = "cpu"
    card: Any = None

    # ---- verbs -------------------------------------------------------------------------------------------------

    def predict(self, clip: Clip, frames: int = 10, *, samples: int = 1, seed: int = 0) -> Filled:
        """The clip and the `frames` after it."""
        return self._fill(self.fitted(clip), [True] * len(clip) + [False] * _count(frames), clip.fps, samples, seed)

    def predict_past(self, clip: Clip, frames: int = 10, *, samples: int = 1, seed: int = 0) -> Filled:
        """The clip and the `frames` before it."""
        return self._fill(self.fitted(clip), [False] * _count(frames) + [True] * len(clip), clip.fps, samples, seed)

    def interpolate(self, clip: Clip, times: int = 2, *, samples: int = 1, seed: int = 0) -> Filled:
        """The clip at `times` its frame rate: times - 1 new frames between every two."""
        if times < 2 or len(clip) < 2:
            raise BadInput(
                f"interpolation needs times >= 2 and a clip of 2 frames or more, got {times} and {len(clip)}"
            )
        known = [i % times == 0 for i in range((len(clip) - 1) * times + 1)]
        return self._fill(self.fitted(clip), known, clip.fps * times, samples, seed)

    def generate(self, frames: int = 10, *, samples: int = 1, seed: int = 0, fps: Fraction = Fraction(10)) -> Filled:
        """A clip from nothing."""
        nothing = np.zeros((0, self.height, self.width, self.channels), np.uint8)
        return self._fill(nothing, [False] * _count(frames), fps, samples, seed)

    def loop(self, clip: Clip, frames: int = 5, *, samples: int = 1, seed: int = 0) -> Filled:
        """The clip and `frames` that lead from its end back to its beginning."""
        lead = min(len(clip), max(self.window.future, 1))
        given = self.fitted(clip)
        known = [True] * len(clip) + [False] * _count(frames) + [True] * lead
        filled = self._fill(np.concatenate([given, given[:lead]]), known, clip.fps, samples, seed)
        return Filled(filled.frames[:, :-lead], filled.known[:-lead], clip.fps)

    def complete(
        self,
        clip: Clip,
        known: NDArray[np.bool_],
        *,
        samples: int = 1,
        seed: int = 0,
        order: Order = blockwise,
    ) -> Filled:
        """The clip with every frame replaced where `known` (T,) is False: prediction, infilling, anything."""
        if len(known) != len(clip):
            raise BadInput(f"known needs one entry per frame ({len(clip)}), got {len(known)}")
        given = self.fitted(clip)[np.asarray(known, bool)]
        return self._fill(given, list(map(bool, known)), clip.fps, samples, seed, order=order)

    def stream(
        self, frames: Iterable[Frames | None], *, samples: int = 1, seed: int = 0
    ) -> Iterator[tuple[Frames, bool]]:
        """Fills an endless sequence in constant memory: frames (H, W, C), or None for those to make.

        Yields (N, H, W, C), of the depth of the given frames, and whether the frame was given. The first frame must be
        given.
        """
        depth: np.dtype = np.dtype(np.uint8)

        def tensors() -> Iterator[Tensor | None]:
            nonlocal depth
            for frame in frames:
                depth = depth if frame is None else frame.dtype
                yield (
                    None if frame is None else self._tensor(self.fitted(Clip(frame[None], Fraction(1))), samples)[:, 0]
                )

        with torch.inference_mode():
            for frame, given in stream(self._draw, tensors(), self.window, Rng.batch(seed, samples)):
                yield levels(frame, depth), given

    # ---- how ---------------------------------------------------------------------------------------------------

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """The size at which a clip of this height and width is worked on: its shape, the model's number of pixels.

        The model's own height and width where there is no `stride`.
        """
        if self.stride is None:
            return self.height, self.width
        scale = (self.height * self.width / (height * width)) ** 0.5
        return tuple(max(round(v * scale / self.stride), 1) * self.stride for v in (height, width))

    def fitted(self, clip: Clip) -> Frames:
        """The clip's frames (T, H, W, C) as the model sees them: its size, its channels."""
        frames = with_channels(clip.frames, self.channels)
        return fit(frames, *self.size_for(*frames.shape[1:3]))

    def _tensor(self, frames: Frames, samples: int) -> Tensor:
        pixels = tensor(frames).to(self.device)
        return pixels.expand(samples, *pixels.shape)

    def _draw(self, frames: Tensor, known: Tensor, rng: Rng) -> Tensor:
        """The current frames of windows (B, length, C, H, W)."""
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=bf16_pays(self.device)):
            return self.draw(self.sampler, frames, known, rng)

    def _fill(
        self,
        given: Frames,
        known: list[bool],
        fps: Fraction,
        samples: int,
        seed: int,
        *,
        order: Order = blockwise,
    ) -> Filled:
        """All frames, `given` (n, H, W, C) in place of the True entries of `known`, for each of N samples."""
        if samples < 1:
            raise BadInput(f"samples must be at least 1, got {samples}")
        shown = np.zeros((len(known), *given.shape[1:]), given.dtype)
        shown[known] = given
        frames = self._tensor(shown, samples)
        flags = torch.tensor(known, device=self.device).expand(samples, -1)
        with torch.inference_mode():
            rollout = complete(self._draw, frames, flags, self.window, Rng.batch(seed, samples), order=order)
            made = levels(deque(rollout, maxlen=1).pop(), given.dtype)
        made[:, known] = given
        return Filled(made, np.array(known, bool), fps)


def _count(frames: int) -> int:
    if frames < 1:
        raise BadInput(f"the number of frames must be at least 1, got {frames}")
    return frames
