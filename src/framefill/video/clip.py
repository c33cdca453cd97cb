"""A clip: frames of 8 or 16 bits with a rate, and its two faces.

At the door pixels are levels u in 0..top (255 or 65535) with channels last; inside the house they are floats
x = 2 u / top - 1 in [-1, 1], shaped (B, T, C, H, W). Going out rounds, u = round((x + 1) top / 2): truncation would
darken every frame by half a level, and a rollout would feed that loss back to itself.
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
DEPTHS: dict[np.dtype, int] = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
MAX_CHANNELS = 256  # a header that claims more is taken for a mistake


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames and their rate.

    `frames` is uint8 or uint16 (T, H, W, C) with no empty axis; C = 1 is grey, 3 red, green and blue, any other number
    up to 256 is channels of a camera or instrument. `fps` is the rate in frames per second, a positive Fraction so
    that 30000/1001 stays what it is. BadInput for anything else.
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
    """Float32 tensor (1, T, C, H, W) in [-1, 1]; 0 becomes -1, the highest level 1."""
    return tensor(clip.frames)[None]


def tensor(frames: np.ndarray) -> "Tensor":
    """Float32 tensor (..., C, H, W) in [-1, 1] from levels (..., H, W, C), uint8 or uint16."""
    import torch  # here, so that reading and writing files needs no torch

    top = DEPTHS[frames.dtype]
    channels_first = torch.from_numpy(np.array(frames)).movedim(-1, -3)
    return (channels_first.float() / (top / 2) - 1).contiguous()


def levels(x: "Tensor", dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """The inverse of `tensor`: (..., C, H, W) in [-1, 1] to uint8 or uint16 (..., H, W, C), clamped and rounded."""
    dtype = np.dtype(dtype)
    scaled = ((x.detach().float().clamp(-1, 1) + 1) * (DEPTHS[dtype] / 2)).round()
    return scaled.movedim(-3, -1).cpu().numpy().astype(dtype)


def from_tensor(x: "Tensor", fps: Fraction, *, dtype: np.dtype | type = np.uint8) -> Clip:
    """Clip from a float tensor (T, C, H, W) in [-1, 1], clamped, at `fps` frames per second, uint8 or uint16.

    Raises BadInput for another shape, and for NaN or infinity: those are a failed model, not a dark picture.
    """
    if x.ndim != 4:
        raise BadInput(f"a clip tensor has shape {tuple(x.shape)}; give (T, C, H, W)")
    if not x.isfinite().all():
        raise BadInput("a clip tensor holds NaN or infinite values; give numbers in [-1, 1]")
    return Clip(levels(x, dtype), fps)


def fit(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize frames (T, H, W, C) to cover `height` x `width` pixels, aspect kept, and crop the centre.

    Returns (T, height, width, C) of the same depth. Frames that have the size already come back unchanged. Raises
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
    """Frames (..., C) with `channels` channels; a no-op where they have them, and possible between 1 and 3.

    Colour becomes the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, rounded; grey is repeated. BadInput for any
    other conversion: nobody but the user knows what a fourth channel means.
    """
    given = frames.shape[-1]
    if given == channels:
        return frames
    if given not in (1, 3) or channels not in (1, 3):
        raise BadInput(
            f"cannot turn {given} channels into {channels}; only 1 (grey) and 3 (colour) convert, so give {channels}"
        )
    if channels == 3:
        return np.repeat(frames, 3, axis=-1)
    return ((frames @ _LUMA + 32768) >> 16).astype(frames.dtype)[..., None]


def to_bytes(frames: np.ndarray) -> np.ndarray:
    """Frames of either depth with 8 bits, rounded."""
    return frames if frames.dtype == np.uint8 else ((frames.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_words(frames: np.ndarray) -> np.ndarray:
    """Frames of either depth with 16 bits; `to_bytes` undoes it exactly."""
    return frames if frames.dtype == np.uint16 else frames.astype(np.uint16) * np.uint16(257)


def visible(frames: np.ndarray) -> np.ndarray:
    """What of frames (..., C) can be shown as a picture: 8 bits; of two channels the first, of more the first three."""
    return to_bytes(frames[..., :3] if frames.shape[-1] >= 3 else frames[..., :1])


def check_frames(frames: np.ndarray) -> None:
    """Raise BadInput unless `frames` is uint8 or uint16 (T, H, W, C), no axis empty, C at most 256."""
    if not isinstance(frames, np.ndarray) or frames.dtype not in DEPTHS or frames.ndim != 4:
        given = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise BadInput(f"frames are {given}; give a uint8 or uint16 array (T, H, W, C)")
    if 0 in frames.shape or frames.shape[3] > MAX_CHANNELS:
        raise BadInput(f"frames have shape {frames.shape}; give (T, H, W, C), nothing empty, C up to {MAX_CHANNELS}")


def _centre(width: int, height: int, aspect: float) -> tuple[float, float, float, float]:
    """The largest centred box (left, top, right, bottom) with width : height = `aspect` in a picture."""
    w, h = min(width, height * aspect), min(height, width / aspect)
    return (width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2


def _resized(frame: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    # Pillow knows 8-bit grey and colour; whatever else goes channel by channel, 16 bits as float.
    if frame.dtype == np.uint8 and frame.shape[-1] in (1, 3):
        return _resampled(frame[..., 0] if frame.shape[-1] == 1 else frame, size, box)
    planes = [frame[..., i].astype(np.float32) for i in range(frame.shape[-1])]
    resized = np.concatenate([_resampled(plane, size, box) for plane in planes], -1)
    return resized.round().clip(0, DEPTHS[frame.dtype]).astype(frame.dtype)


def _resampled(pixels: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    # One resampling does both steps, so the crop may begin between pixels. The gap lets a much larger
    # picture be shrunk by whole factors first: several times faster, and no difference to see.
    resized = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    return np.asarray(resized).reshape(size[1], size[0], -1)
