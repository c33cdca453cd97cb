"""Decoded frames as red, green and blue: matrix, range, primaries and transfer as the file states them.

Stored luma and colour differences become levels by the inverse of the file's matrix. Files for other screens are then
brought to those of BT.709, unless the file's own colours are asked for: levels to light, light through the 3x3
matrix between the primaries (by way of CIE XYZ), light to levels. Nothing is clipped before the end.
"""

from functools import cache

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

from framefill.video.tags import LUMA, Tags

Floats = NDArray[np.float32]

# Without the flags swscale takes half a level of light from every frame, and up to eight from coloured edges.
EXACT = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)
_PRIMARIES = {  # x and y of red, green, blue; white is D65 in all (ITU-T H.273, table 2)
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    12: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
_WHITE = (0.3127, 0.3290)
_UNSAID, _BT709, _IDENTITY, _PQ, _SD_LINES = 2, 1, 0, 16, 576
PAPER_WHITE = 203.0  # candela per square metre, ITU-R BT.2408: what white paper has in a PQ film
GAMMA = 2.4  # of a BT.1886 screen


def rgb(frame: av.VideoFrame, *, deep: bool = False, own: bool = False) -> np.ndarray:
    """Pixels of a decoded frame, uint8 (H, W, C) or, if `deep`, uint16; C = 1 for grey formats, else 3.

    A frame that does not say its matrix has that of its size: BT.601 up to 576 lines, BT.709 above. HLG is shown as it
    shows on an ordinary screen, which it was made for; PQ has its highlights rolled off above paper white. `own` leaves
    primaries and transfer as they are.
    """
    if frame.format.name.startswith("gray"):
        return _grey(frame, deep)
    if not own and _foreign(frame):
        return _rounded(to_bt709(_exact(frame), frame.color_primaries, pq=frame.color_trc == _PQ), deep)
    if deep and not _is_rgb8(frame):
        return _rounded(_exact(frame), True)
    if frame.colorspace == _UNSAID and not _is_rgb(frame):
        pixels = frame.reformat(
            format="rgb24", interpolation=EXACT, src_colorspace=_guessed(frame), dst_color_range=ColorRange.JPEG
        ).to_ndarray()
    else:
        pixels = frame.to_ndarray(format="rgb24", interpolation=EXACT)
    return pixels.astype(np.uint16) * np.uint16(257) if deep else pixels


def to_bt709(levels: Floats, primaries: int, *, pq: bool = False) -> Floats:
    """Levels (H, W, 3) in [0, 1] for other primaries (numbers of ITU-T H.273) as levels for those of BT.709."""
    light = _rolled_off(pq_light(levels) / PAPER_WHITE) if pq else np.clip(levels, 0, None) ** GAMMA
    light = light @ _to_709(primaries).T
    return (np.clip(light, 0, 1) ** (1 / GAMMA)).astype(np.float32)


def pq_light(levels: Floats) -> Floats:
    """Candela per square metre of PQ levels in [0, 1] (SMPTE ST 2084)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = np.clip(levels, 0, 1) ** (1 / m2)
    light = 10_000 * (np.clip(root - c1, 0, None) / (c2 - c3 * root)) ** (1 / m1)
    return light.astype(np.float32)


def on_screen(levels: NDArray[np.uint8], tags: Tags) -> NDArray[np.uint8]:
    """Levels (H, W, C) of a film with `tags`, for an ordinary screen; grey ones as they are."""
    if levels.shape[-1] != 3 or not (tags.transfer == _PQ or _other(tags.primaries)):
        return levels
    return _rounded(to_bt709((levels / 255).astype(np.float32), tags.primaries, pq=tags.transfer == _PQ), False)


def _rolled_off(light: Floats, *, knee: float = 0.75) -> Floats:
    """Light in which paper white is 1, kept up to the knee and bent above it to stay below 1, hue kept."""
    peak = light.max(axis=-1, keepdims=True).clip(min=1e-6)
    above = (peak - knee).clip(min=0)
    bent = np.where(peak > knee, knee + (1 - knee) * above / (above + 1 - knee), peak)
    return (light * (bent / peak)).astype(np.float32)


def _foreign(frame: av.VideoFrame) -> bool:
    return not _is_rgb(frame) and (frame.color_trc == _PQ or _other(int(frame.color_primaries)))


def _other(primaries: int) -> bool:
    return primaries != _BT709 and primaries in _PRIMARIES


def _is_rgb(frame: av.VideoFrame) -> bool:
    return frame.format.is_rgb or frame.format.name.startswith(("gbr", "pal"))


def _is_rgb8(frame: av.VideoFrame) -> bool:
    return _is_rgb(frame) and all(part.bits <= 8 for part in frame.format.components)


def _guessed(frame: av.VideoFrame) -> Colorspace:
    return Colorspace.ITU601 if frame.height <= _SD_LINES else Colorspace.ITU709


def _exact(frame: av.VideoFrame) -> Floats:
    """Levels (H, W, 3), about in [0, 1], of a frame of any format; swscale's own 16-bit RGB loses half a level."""
    if _is_rgb(frame):
        return (frame.to_ndarray(format="rgb48le") / 65535).astype(np.float32)
    words = frame.reformat(format="yuv444p16le", interpolation=EXACT).to_ndarray()
    luma, blue, red = np.moveaxis(words.astype(np.float32), -1, 0)
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    matrix = int(frame.colorspace)
    kr, kb = LUMA.get(int(_guessed(frame)) if matrix == _UNSAID else matrix, LUMA[5])
    luma = luma / 65535 if full else (luma - 16 * 256) / (219 * 256)
    blue, red = ((c - 32768) / (65535 if full else 224 * 256) for c in (blue, red))
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    return np.stack([r, (luma - kr * r - kb * b) / (1 - kr - kb), b], -1)


def _grey(frame: av.VideoFrame, deep: bool) -> np.ndarray:
    bits = frame.format.components[0].bits
    levels = frame.to_ndarray(format="gray" if bits <= 8 else "gray16le") / (255 if bits <= 8 else 65535)
    if frame.color_range == ColorRange.MPEG:  # swscale leaves it in 16..235
        black, white = (16 * 2 ** (bits - 8) / (2**bits - 1), 235 * 2 ** (bits - 8) / (2**bits - 1))
        levels = (levels - black) / (white - black)
    return _rounded(levels, deep)[..., None]


def _rounded(levels: np.ndarray, deep: bool) -> np.ndarray:
    top, kind = (65535, np.uint16) if deep else (255, np.uint8)
    return (np.clip(levels, 0, 1) * np.float32(top)).round().astype(kind)


@cache
def _to_709(primaries: int) -> Floats:
    if primaries not in _PRIMARIES:
        return np.eye(3, dtype=np.float32)
    return np.linalg.solve(_to_xyz(_BT709), _to_xyz(primaries)).astype(np.float32)


def _to_xyz(primaries: int) -> NDArray[np.float64]:
    """Linear RGB to CIE XYZ: columns are the primaries, each so bright that together they make white."""
    points = np.array([*np.reshape(_PRIMARIES[primaries], (3, 2)), _WHITE])
    colours = np.array([[x / y, 1, (1 - x - y) / y] for x, y in points]).T
    return colours[:, :3] * np.linalg.solve(colours[:, :3], colours[:, 3])
