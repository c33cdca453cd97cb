"""Scores of pictures and clips against the truth, and two numbers that show a rollout drifting.

Frames are uint8 or float arrays (..., H, W, C) in 0..255; every score is a pure function.
"""

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput

Floats = NDArray[np.float64]
WINDOW = 11  # pixels
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of MS-SSIM, finest scale first


def psnr(made: NDArray, truth: NDArray, *, axes: int = 3) -> Floats:
    """Peak signal-to-noise ratio in dB, 10 log10(255^2 / mean squared error over the last `axes` axes).

    axes = 3 scores every frame, axes = 4 every clip (MCVD's choice). Identical pictures give infinity.
    """
    difference = made.astype(np.float64) - truth.astype(np.float64)
    error = np.square(difference).mean(axis=tuple(range(-axes, 0)))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255.0**2 / error)


def ssim(made: NDArray, truth: NDArray) -> Floats:
    """Structural similarity of frames (..., H, W, C), Wang et al. 2004: Gaussian window of sigma 1.5 (11x11).

    Mean over positions where the window fits, and over channels; scikit-image's gaussian_weights=True,
    use_sample_covariance=False, data_range=255. BadInput below 11 pixels along a side.
    """
    if min(made.shape[-3:-1]) < WINDOW:
        raise BadInput(f"frames of {made.shape[-2]} x {made.shape[-3]}; the window needs 11 pixels along each side")
    light, contrast = _structure(made.astype(np.float64), truth.astype(np.float64))
    return (light * contrast).mean(axis=(-3, -2, -1))


def ms_ssim(made: NDArray, truth: NDArray) -> Floats:
    """Structural similarity over five scales of frames (..., H, W, C), Wang, Simoncelli and Bovik 2003.

    Contrast and structure of every scale, and the light of the last, each a mean over positions, are raised to the
    powers SCALES and multiplied; negative means count as 0. Mean over channels. A scale is the one before averaged over
    2x2 pixels, without a last odd row or column. BadInput below 176 pixels along a side.
    """
    x, y = made.astype(np.float64), truth.astype(np.float64)
    if min(x.shape[-3:-1]) < WINDOW * 2 ** (len(SCALES) - 1):
        raise BadInput(f"frames of {x.shape[-2]} x {x.shape[-3]}; five scales need 176 pixels along each side")
    product = np.float64(1)
    for scale, power in enumerate(SCALES):
        light, contrast = _structure(x, y)
        index = light * contrast if scale == len(SCALES) - 1 else contrast
        product = product * np.maximum(index.mean(axis=(-3, -2)), 0.0) ** power
        x, y = _halved(x), _halved(y)
    return product.mean(axis=-1)


def _halved(x: Floats) -> Floats:
    x = x[..., : x.shape[-3] // 2 * 2, : x.shape[-2] // 2 * 2, :]
    return (x[..., ::2, ::2, :] + x[..., 1::2, ::2, :] + x[..., ::2, 1::2, :] + x[..., 1::2, 1::2, :]) / 4


def _structure(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Maps of how alike the light is, and contrast with structure, where the window fits."""
    blur = _gaussian_blur
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    a, b = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (2 * mx * my + a) / (mx * mx + my * my + a), (2 * cov + b) / (vx + vy + b)


def _gaussian_blur(x: Floats, *, sigma: float = 1.5, radius: int = 5) -> Floats:
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (-3, -2):
        window = np.lib.stride_tricks.sliding_window_view(x, len(taps), axis=axis)
        x = window @ taps
    return x


def mean_colour(frames: NDArray) -> Floats:
    """Mean of every channel of every frame, (..., C) in 0..255."""
    return frames.mean(axis=(-3, -2), dtype=np.float64)


def colour_error(made: NDArray, truth: NDArray) -> Floats:
    """How far the mean colour of every frame (...) is off, in grey levels: |difference| in the worst channel."""
    return np.abs(mean_colour(made) - mean_colour(truth)).max(-1)


def sharpness(frames: NDArray) -> Floats:
    """Mean absolute Laplacian of every frame (...), in grey levels: falls when a rollout blurs, rises with noise."""
    x = frames.astype(np.float64)
    inside = x[..., 1:-1, 1:-1, :]
    around = x[..., :-2, 1:-1, :] + x[..., 2:, 1:-1, :] + x[..., 1:-1, :-2, :] + x[..., 1:-1, 2:, :]
    return np.abs(around - 4 * inside).mean(axis=(-3, -2, -1))
