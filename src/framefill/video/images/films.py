"""`FrameDiffusion`: pictures as the last frames of pseudo-videos that diffusion draws. Verbs, no mathematics."""

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.device import bf16_pays
from framefill.diffusion.complete import Window, complete
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.guide import ClassifierFree, Clipped
from framefill.diffusion.sample import DDPM, Sampler
from framefill.video.clip import levels
from framefill.video.frames import condition, frame_by_frame, placed, without_class
from framefill.video.images.drawing import Films, LastFrames


@dataclass(frozen=True)
class FrameDiffusion(LastFrames):
    """A trained denoiser of sets of frames, and how videos of `frames` frames are drawn with it.

    Every frame is drawn given the `context` before it, the first `context` together. `classes` it was told, 0 for none;
    `guidance` says how much of a class there is. Same seed, same pictures: picture i is the same alone or among many.
    """

    model: Denoiser
    frames: int
    context: int
    channels: int
    height: int
    width: int
    classes: int = 0
    guidance: float = 1.0
    sampler: Sampler = field(default_factory=lambda: DDPM(1000, variance=1.0))
    device: str = "cpu"
    card: Any = None

    @property
    def calls(self) -> int:
        """Network evaluations for a video: those of the sampler, for each of its runs."""
        return self.sampler.calls * (1 + self.frames - max(self.context, 1))

    def _drawn(self, rng: Rng, label: int | None) -> Films:
        nothing = torch.zeros(len(rng), self.frames, self.channels, self.height, self.width, device=self.device)
        unknown = torch.zeros(nothing.shape[:2], dtype=torch.bool, device=self.device)
        with torch.inference_mode():
            draw = partial(self._draw, self.classes if label is None else label)
            rollout = complete(draw, nothing, unknown, Window(0, self.context + 1, 0), rng, order=frame_by_frame)
            return levels(deque(rollout, maxlen=1).pop())

    def _draw(self, name: int, frames: Tensor, known: Tensor, rng: Rng) -> Tensor:
        names = torch.full((len(frames),), name, device=frames.device)
        cond, model = condition(frames, placed(known), names), Clipped(self.model)
        if name < self.classes and self.guidance != 1:
            model = Clipped(ClassifierFree(self.model, self.guidance, null=partial(without_class, self.classes)))
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=bf16_pays(self.device)):
            return self.sampler(model, frames, cond, rng)
