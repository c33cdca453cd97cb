"""How much of a field's variance is at which scale, in space and in time.

A spectrum is a mean of squared amplitudes over whatever else there is; its sum is the mean square of the values
(Parseval), so spectra of different records can be laid over each other. Fields that close around the globe, or that are
small parts of something even, take the Fourier transform; a region of a large pattern takes the cosine transform, which
does not mistake the step between its two ends for fine detail (Denis, Cote and Laprise 2002).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput
from framefill.metrics.forecast import average

Floats = NDArray[np.float64]


class Spectrum(NamedTuple):
    """Frequencies in cycles per cell or per step (K,), rising from 0, and the power at each (K,), in squared units."""

    frequency: NDArray
    power: Floats


def fourier_spectrum(fields: NDArray) -> Spectrum:
    """Power of fields (..., H, W) by distance from the origin of the Fourier plane, mean over leading axes.

    Rings are 1 / max(H, W) wide, and the corners beyond 1/2 belong to it. Raises BadInput for NaN.
    """
    x = _complete(fields, 2)
    H, W = x.shape[-2:]
    power = np.square(np.abs(np.fft.fft2(x))) / (H * W) ** 2
    return _rings(power, np.fft.fftfreq(H), np.fft.fftfreq(W), max(H, W))


def cosine_spectrum(fields: NDArray) -> Spectrum:
    """The same by the cosine transform: coefficient i of n has the frequency i / (2 n), so rings are half as wide."""
    x = _complete(fields, 2)
    H, W = x.shape[-2:]
    coefficients = _cosines(H) @ x @ _cosines(W).T
    return _rings(np.square(coefficients) / (H * W), np.arange(H) / (2 * H), np.arange(W) / (2 * W), 2 * max(H, W))


def temporal_spectrum(series: NDArray, weights: NDArray | None = None) -> Spectrum:
    """Power of `series` (T, ...) by frequency in cycles per step, mean over places by `weights`; T >= 2.

    One-sided: every frequency but 0 and 1/2 holds its negative too. Raises BadInput for NaN.
    """
    x = _complete(series, 1)
    T = len(x)
    power = np.square(np.abs(np.fft.rfft(x, axis=0))) / T**2
    power[1 : (T + 1) // 2] *= 2
    places = average(power, np.ones(x.shape[1:]) if weights is None else weights)
    return Spectrum(np.fft.rfftfreq(T), places.reshape(len(power), -1).mean(axis=1))


def zonal_spectrum(fields: NDArray, weights: NDArray | None = None) -> Spectrum:
    """Power along the last axis of fields (..., H, W) that close around the globe, mean over rows by `weights` (H,).

    Frequencies are in cycles per cell: the zonal wavenumber over W. Raises BadInput for NaN.
    """
    return temporal_spectrum(np.moveaxis(_complete(fields, 2), -1, 0), weights)


def _rings(power: Floats, north: NDArray, east: NDArray, n: int) -> Spectrum:
    """Sums over rings 1 / n wide: as wide as the lowest frequency, so the innermost is the mean alone."""
    ring = np.rint(np.hypot(north[:, None], east) * n).astype(np.int64)
    mean = power.reshape(-1, *power.shape[-2:]).mean(axis=0)
    sums = np.bincount(ring.ravel(), mean.ravel())
    return Spectrum(np.arange(len(sums)) / n, np.asarray(sums, np.float64))


def _cosines(n: int) -> Floats:
    """The orthonormal DCT-II as a matrix (n, n)."""
    i = np.arange(n)
    matrix = np.cos(np.pi * i[:, None] * (i + 0.5) / n) * np.sqrt(2 / n)
    matrix[0] /= np.sqrt(2)
    return matrix


def _complete(values: NDArray, axes: int) -> Floats:
    x = np.asarray(values, np.float64)
    if x.ndim < axes or not x.size or (axes == 1 and len(x) < 2):
        raise BadInput(f"values have shape {x.shape}; a spectrum needs fields (..., H, W) or a series of 2 or more")
    if not np.isfinite(x).all():
        raise BadInput("values hold NaN or infinite numbers; a spectrum needs all: choose a part without land")
    return x
