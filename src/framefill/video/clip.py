"""A clip: 8-bit frames with a rate, and its two faces.

At the door pixels are bytes u in 0..255 with colour last; inside the house they are floats x = u / 127.5 - 1
in [-1, 1], shaped (B, T, C, H, W). Going out rounds, u = round(127.5 (x + 1)): truncation would darken every
frame by half a level, and a rollout would feed that loss back to itself.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from framefill.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

# Luma of ITU-R BT.601 in parts of 65536, which they sum to exactly, so that grey keeps its level.
_LUMA = np.array([19595, 38470, 7471], np.uint32)


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames and their rate.

    `frames` is uint8 (T, H, W, C) with C = 1 (grey) or 3 (red, green, blue) and no empty axis; `fps` is the
    rate in frames per second, a positive Fraction so that 30000/1001 stays what it is. BadInput for anything
    else.
    """

    frames: np.ndarray
    fps: Fraction

    def __post_init__(self) -> None:
        check_frames(self.frames)
        if not isinstance(self.fps, Fraction) or self.fps <= 0:
            raise BadInput(f"a clip's fps is {self.fps!r}; give a positive Fraction such as Fraction(25)")

    def __len__(self) -> int:
        return len(self.frames)


def to_tensor(clip: Clip) -> "Tensor":
    """Float32 tensor (1, T, C, H, W) in [-1, 1]; 0 becomes -1, 255 becomes 1."""
    import torch  # here, so that reading and writing files needs no torch

    levels = torch.from_numpy(np.array(clip.frames)).permute(0, 3, 1, 2)
    return (levels.float() / 127.5 - 1)[None].contiguous()


def from_tensor(x: "Tensor", fps: Fraction) -> Clip:
    """Clip from a float tensor (T, C, H, W) in [-1, 1], clamped, at `fps` frames per second.

    Raises BadInput for another shape, and for NaN or infinity: those are a failed model, not a dark picture.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise BadInput(f"a clip tensor has shape {tuple(x.shape)}; give (T, C, H, W) with C = 1 or 3")
    if not x.isfinite().all():
        raise BadInput("a clip tensor holds NaN or infinite values; give numbers in [-1, 1]")
    levels = ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round()
    return Clip(levels.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8), fps)


def fit(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 (T, H, W, C) to cover `height` x `width` pixels, aspect kept, and crop the centre.

    Returns uint8 (T, height, width, C). Frames that have the size already come back unchanged. Raises
    BadInput for a size below one pixel, or an array that is not frames.
    """
    check_frames(frames)
    if height < 1 or width < 1:
        raise BadInput(f"a frame of {width}x{height} pixels; give a width and height of at least 1")
    if frames.shape[1:3] == (height, width):
        return frames
    box = _centre(frames.shape[2], frames.shape[1], width / height)
    return np.stack([_resized(frame, (width, height), box) for frame in frames])


def stretch(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 (T, H, W, C) to `height` x `width` pixels whatever becomes of the aspect; errors as in `fit`."""
    check_frames(frames)
    if height < 1 or width < 1:
        raise BadInput(f"a frame of {width}x{height} pixels; give a width and height of at least 1")
    if frames.shape[1:3] == (height, width):
        return frames
    box = (0, 0, frames.shape[2], frames.shape[1])
    return np.stack([_resized(frame, (width, height), box) for frame in frames])


def with_channels(frames: np.ndarray, channels: int) -> np.ndarray:
    """Convert uint8 (..., C) to `channels` = 1 or 3; a no-op where it has them already, else BadInput.

    Colour becomes the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, rounded; grey is repeated.
    """
    given = frames.shape[-1]
    if given not in (1, 3) or channels not in (1, 3):
        raise BadInput(f"cannot turn {given} channels into {channels}; both are 1 (grey) or 3 (colour)")
    if given == channels:
        return frames
    if channels == 3:
        return np.repeat(frames, 3, axis=-1)
    return ((frames @ _LUMA + 32768) >> 16).astype(np.uint8)[..., None]


def check_frames(frames: np.ndarray) -> None:
    """Raise BadInput unless `frames` is uint8 (T, H, W, C) with C = 1 or 3 and no empty axis."""
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4:
        given = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise BadInput(f"frames are {given}; give a uint8 array (T, H, W, C)")
    if 0 in frames.shape or frames.shape[3] not in (1, 3):
        raise BadInput(f"frames have shape {frames.shape}; give (T, H, W, C), nothing empty, C = 1 or 3")


def _centre(width: int, height: int, aspect: float) -> tuple[float, float, float, float]:
    """The largest centred box (left, top, right, bottom) with width : height = `aspect` in a picture."""
    w, h = min(width, height * aspect), min(height, width / aspect)
    return (width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2


def _resized(frame: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    # One resampling does both steps, so the crop may begin between pixels. The gap lets a much larger
    # picture be shrunk by whole factors first: several times faster, and no difference to see.
    picture = Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)
    resized = picture.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    return np.asarray(resized).reshape(size[1], size[0], -1)
