"""Noise that is a function of (seed, stream, place): Philox-4x32-10, then normals by a fixed order of IEEE operations.

Philox (Salmon et al. 2011) turns a counter and a key into 128 random bits in whole numbers. 32 of them, u = (x + 1/2) /
2^32, become a normal number by Wichura's rational approximation of the inverse distribution function (AS 241, 1988,
relative error 1e-16). Its square root and division are rounded correctly by IEEE 754 like + and *, NumPy runs every
operation on its own, and the one logarithm is our own sum; so the bits depend on no machine, library or thread count.
Nothing is drawn in sequence: any part of any stream can be had at once.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput

Doubles = NDArray[np.float64]
LOW = np.uint64(0xFFFFFFFF)
WORD = np.uint64(32)
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
ROUNDS = 10
CHUNK = 1 << 18

CENTRE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
NEAR = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
FAR = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip
ATANH = tuple(2.0 / n for n in range(1, 22, 2))
LN2 = 0.693147180559945309417


def philox(counters: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Ten rounds on counters (4, N) of 32 bits each: 4 random words of 32 bits each, (4, N)."""
    a, b, c, d = counters
    first, second = np.uint64(key[0]), np.uint64(key[1])
    for _ in range(ROUNDS):
        one, two = MULTIPLIERS[0] * a, MULTIPLIERS[1] * c
        a, b, c, d = (two >> WORD) ^ b ^ first, two & LOW, (one >> WORD) ^ d ^ second, one & LOW
        first, second = (first + STEPS[0]) & LOW, (second + STEPS[1]) & LOW
    return np.stack([a, b, c, d])


def words(seed: int, stream: int, start: int, count: int) -> NDArray[np.uint64]:
    """Random words start .. start + count - 1 (32 bits each) of a stream: word i is word i mod 4 of block i div 4.

    The key is the seed, the counter (block, stream), both of 64 bits, low half first. BadInput unless they fit.
    """
    if not (0 <= seed < 2**64 and 0 <= stream < 2**64 and 0 <= start <= start + count <= 2**66):
        raise BadInput(
            f"seed {seed} and stream {stream} are whole numbers below 2^64, places {start} +{count} below 2^66"
        )
    first, last = start // 4, -(-(start + count) // 4)
    blocks = np.arange(last - first, dtype=np.uint64) + np.uint64(first)
    low, high = (np.full_like(blocks, half) for half in (stream & 0xFFFFFFFF, stream >> 32))
    counters = np.stack([blocks & LOW, blocks >> WORD, low, high])
    return philox(counters, (seed & 0xFFFFFFFF, seed >> 32)).T.reshape(-1)[start - 4 * first :][:count]


def _horner(coefficients: Sequence[float], x: Doubles) -> Doubles:
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


def _ratio(pair: tuple[Sequence[float], Sequence[float]], x: Doubles) -> Doubles:
    return _horner(pair[0], x) / _horner(pair[1], x)


def logarithm(x: Doubles) -> Doubles:
    """ln x for positive x: exponent times ln 2, and 2 atanh((m - 1) / (m + 1)) of the mantissa m in [0.707, 1.414)."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < 0.7071067811865476
    mantissa, exponent = np.where(small, mantissa * 2.0, mantissa), exponent - small
    s = (mantissa - 1.0) / (mantissa + 1.0)
    return s * _horner(ATANH, s * s) + exponent * LN2


def normal_of(random: NDArray[np.uint64]) -> Doubles:
    """The normal numbers of words x (N,) of 32 bits: Phi^-1((x + 1/2) / 2^32), within +-6.4."""
    centred = random.astype(np.float64) - 2147483647.5
    q = centred * 2.0**-32
    values = q * _ratio(CENTRE, 0.180625 - q * q)
    outside = np.abs(q) > 0.425
    r = np.sqrt(-logarithm(0.5 - np.abs(q[outside])))
    tail = np.where(r <= 5.0, _ratio(NEAR, r - 1.6), _ratio(FAR, r - 5.0))
    values[outside] = np.where(q[outside] < 0, -tail, tail)
    return values


def normal(shape: Sequence[int], *, seed: int, stream: int = 0, start: int = 0) -> NDArray[np.float32]:
    """Standard normal numbers start, start + 1, ... of a stream, as float32 of `shape` in row-major order."""
    count = math.prod(shape)
    made = np.empty(count, np.float32)
    for place in range(0, count, CHUNK):
        size = min(CHUNK, count - place)
        made[place : place + size] = normal_of(words(seed, stream, start + place, size))
    return made.reshape(tuple(shape))


def field(rows: slice, columns: slice, *, seed: int, channels: int = 3, first: int = 0) -> NDArray[np.float32]:
    """Standard normal numbers (channels, rows, columns) of a part of a picture, whatever its size.

    That of channel c at row y, column x is number x of stream 2^32 (first + c) + y. BadInput for negative places.
    """
    start, stop = columns.start, columns.stop
    if min(rows.start, start, first) < 0 or rows.stop >= 2**32 or not 0 <= seed < 2**64:
        raise BadInput(f"rows {rows}, columns {columns}, seed {seed}: places are 0 or more, rows below 2^32")
    blocks = np.arange(start // 4, -(-stop // 4), dtype=np.uint64)
    made = np.empty((channels, rows.stop - rows.start, stop - start), np.float32)
    lines = max(CHUNK // (4 * max(len(blocks), 1)), 1)
    for channel in range(channels):
        for top in range(rows.start, rows.stop, lines):
            low = np.arange(top, min(top + lines, rows.stop), dtype=np.uint64)
            low, block = (x.ravel() for x in np.broadcast_arrays(low[:, None], blocks))
            counters = np.stack([block & LOW, block >> WORD, low, np.full_like(low, first + channel)])
            random = philox(counters, (seed & 0xFFFFFFFF, seed >> 32)).T.reshape(-1, 4 * len(blocks))
            kept = np.ascontiguousarray(random[:, start % 4 :][:, : stop - start])
            made[channel, top - rows.start :][: len(kept)] = normal_of(kept.ravel()).reshape(kept.shape)
    return made
