"""Red, green and blue as luma and colour differences, in floats: exact to the rounding of the last step.

      Y = kr R + (1 - kr - kb) G + kb B         Cb = (B - Y) / (2 - 2 kb)         Cr = (R - Y) / (2 - 2 kr)

swscale is fast, and to 8 bits of limited range true to a twentieth of a level. Its 16-bit red, green and blue come out
half a level too bright at 10 bits, and its full range is a level off.
"""

import av
import numpy as np
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from framefill.video.clip import DEPTHS
from framefill.video.tags import LUMA, MATRICES, Tags

Plane = NDArray[np.float32]


def stored(colour: NDArray[np.uint8] | NDArray[np.uint16], pixel_format: str, tags: Tags) -> av.VideoFrame:
    """uint8 or uint16 (H, W, 3) as a frame of `pixel_format`, yuv420p or yuv444p of 8 or 10 bits."""
    halved, bits = "420" in pixel_format, 10 if "10" in pixel_format else 8
    frame = av.VideoFrame(colour.shape[1], colour.shape[0], pixel_format)
    frame.color_range = ColorRange.JPEG if tags.full else ColorRange.MPEG
    frame.colorspace = MATRICES[tags.matrix]
    luma, *differences = _parts(np.multiply(colour, 1 / DEPTHS[colour.dtype], dtype=np.float32), tags.matrix)
    kinds = [(luma, 0.0 if tags.full else 16.0, 255.0 if tags.full else 219.0)]
    kinds += [(_halved(part) if halved else part, 128.0, 255.0 if tags.full else 224.0) for part in differences]
    for plane, (part, zero, span) in zip(frame.planes, kinds, strict=True):
        # full range ends at the highest number, limited range and the middle of colour are multiples of 8 bits' own
        unit = 2 ** (bits - 8)
        top = (2**bits - 1) / 255 if tags.full else unit
        _fill(plane, np.clip(part * np.float32(span * top) + np.float32(zero * unit), 0, 2**bits - 1).round(), bits)
    return frame


def _parts(levels: NDArray[np.float32], matrix: int) -> tuple[Plane, Plane, Plane]:
    kr, kb = LUMA[matrix]
    luma = levels @ np.array([kr, 1 - kr - kb, kb], np.float32)
    return luma, (levels[..., 2] - luma) / np.float32(2 - 2 * kb), (levels[..., 0] - luma) / np.float32(2 - 2 * kr)


def _halved(part: Plane) -> Plane:
    """Means of squares of four; the last row and column count twice where there is an odd number."""
    height, width = part.shape
    even = np.pad(part, ((0, height % 2), (0, width % 2)), mode="edge") if height % 2 or width % 2 else part
    rows = even[::2] + even[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)


def _fill(plane: av.video.plane.VideoPlane, levels: Plane, bits: int) -> None:
    kind = np.dtype(np.uint8 if bits == 8 else "<u2")
    rows = np.zeros((plane.height, plane.line_size // kind.itemsize), kind)
    rows[:, : levels.shape[1]] = levels
    plane.update(rows.tobytes())
