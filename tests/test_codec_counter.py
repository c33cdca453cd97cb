"""The noise generator: published vectors, the standard library's quantiles, moments, and independence of the cut."""

import math
import statistics

import numpy as np
import pytest

from framefill.codec import counter
from framefill.errors import BadInput

# Random123, kat_vectors: philox4x32 10
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def hexadecimal(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("place", "key", "expected"), VECTORS)
def test_philox_gives_the_published_words(place, key, expected):
    found = counter.philox(np.array(hexadecimal(place), np.uint64)[:, None], tuple(hexadecimal(key)))
    assert found[:, 0].tolist() == hexadecimal(expected)


def test_words_are_places_in_a_stream():
    whole = counter.words(7, 3, 0, 103)
    assert np.array_equal(
        np.concatenate([counter.words(7, 3, a, b - a) for a, b in ((0, 1), (1, 50), (50, 103))]), whole
    )
    seed, stream = 0x299F31D0A4093822, 0x0370734413198A2E
    block = 0x85A308D3243F6A88
    assert counter.words(seed, stream, 4 * block, 4).tolist() == hexadecimal(VECTORS[2][2])
    assert not np.array_equal(counter.words(7, 4, 0, 103), whole)
    assert not np.array_equal(counter.words(8, 3, 0, 103), whole)


def test_normals_are_the_quantiles_of_the_words():
    words = np.concatenate([counter.words(0, 0, 0, 4000), [0, 1, 2**31 - 1, 2**31, 2**32 - 1]]).astype(np.uint64)
    words = np.concatenate([words, (2.0 ** np.arange(1, 32)).astype(np.uint64)])
    law = statistics.NormalDist()
    exact = [law.inv_cdf((int(x) + 0.5) / 2**32) for x in words]
    assert np.allclose(counter.normal_of(words), exact, rtol=2e-14, atol=1e-16)
    assert np.array_equal(counter.normal_of(np.uint64(2**32 - 1) - words), -counter.normal_of(words))


def test_the_logarithm_is_the_logarithm():
    x = np.concatenate([np.geomspace(1e-12, 8, 2000), [1.0, 0.5, 0.7071067811865475, 0.7071067811865476]])
    assert np.allclose(counter.logarithm(x), [math.log(v) for v in x], rtol=4e-16, atol=1e-16)


def test_normals_are_normal_and_do_not_depend_on_how_they_are_drawn(monkeypatch):
    x = counter.normal((100, 1000), seed=5)
    assert abs(x.mean()) < 4 / math.sqrt(x.size)
    assert abs(x.std() - 1) < 4 / math.sqrt(2 * x.size)
    assert abs((x[:, 1:] * x[:, :-1]).mean()) < 4 / math.sqrt(x.size)
    assert abs((x**4).mean() - 3) < 4 * math.sqrt(96 / x.size)
    monkeypatch.setattr(counter, "CHUNK", 999)
    assert np.array_equal(counter.normal((100, 1000), seed=5), x)
    assert np.array_equal(counter.normal((7,), seed=5, start=123), x.flat[123:130])


def test_the_bits_of_normals_never_change():
    """Golden: whole numbers in, IEEE operations in a fixed order, float32 out."""
    from hashlib import sha256

    x = counter.normal((1 << 16,), seed=2**63 + 11, stream=5)
    assert x.dtype == np.float32
    assert sha256(x.astype("<f4").tobytes()).hexdigest()[:16] == "76ee5cc38779a83b"


def test_places_that_do_not_exist_are_refused():
    for seed, stream, start, count in ((-1, 0, 0, 1), (2**64, 0, 0, 1), (0, -1, 0, 1), (0, 0, -1, 1), (0, 0, 2**66, 1)):
        with pytest.raises(BadInput, match="below 2\\^64"):
            counter.words(seed, stream, start, count)
