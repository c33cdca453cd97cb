"""No number is further off than was asked, whatever the numbers; masks, infinities and bits are kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framefill.codec import bounded
from framefill.codec.bounded import decode_field, encode_field
from framefill.codec.header import Limits
from framefill.errors import BadInput, CodecError

SHAPES = {
    "waves": lambda rng, shape: np.cumsum(np.cumsum(rng.normal(0, 1, shape), 1), 2),
    "large": lambda rng, shape: 1e6 + rng.normal(0, 1e-2, shape),
    "tiny": lambda rng, shape: rng.normal(0, 1e-30, shape),
    "heavy": lambda rng, shape: rng.standard_cauchy(shape) ** 3,
    "rain": lambda rng, shape: np.maximum(rng.normal(0, 1, shape), 0) ** 3,
    "flat": lambda rng, shape: np.full(shape, rng.normal()),
    "wide": lambda rng, shape: np.exp(rng.normal(0, 30, shape)) * rng.choice([-1, 1], shape),
}


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(SHAPES)), st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from(["f2", "f4", "f8", ">f4"]), st.sampled_from([0.0, 1e-32, 1e-9, 1e-3, 0.5, 1e5]),
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_no_field_is_further_off_than_its_bound(kind, shape, dtype, bound, holes, seed):
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        values = SHAPES[kind](rng, shape).astype(dtype)
    if holes:
        odd = rng.random(shape)
        values[odd < 0.3], values[odd > 0.95], values[odd > 0.98] = np.nan, np.inf, -np.inf
    found = decode_field(encode_field(values, bound), values.dtype)
    good = np.isfinite(values)
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(found[~good], values[~good], equal_nan=True)
    apart = np.abs(found[good].astype(np.longdouble) - values[good].astype(np.longdouble))
    assert apart.max(initial=0) <= bound
    if bound == 0:
        assert found.tobytes() == values.astype(found.dtype).tobytes(), "the same bits, signs of zeros too"


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"])
def test_whole_numbers_come_back_to_the_last(dtype):
    kind = np.dtype(dtype)
    ends = [False, True] if dtype == "?" else [np.iinfo(kind).min, np.iinfo(kind).max]
    values = np.array([*ends, *ends, 0, 1] * 4, kind).reshape(2, 3, 4)
    for fills in ((), (ends[1],)):
        assert np.array_equal(decode_field(encode_field(values, 0.3, fills=fills), kind), values)


def test_fill_values_are_kept_to_the_bit_and_do_not_cost():
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(0, 1, (6, 40, 40)), 2).astype(np.float32)
    cheap = len(encode_field(values, 0.01))
    values[:, :20] = np.float32(9.96921e36)
    packed = encode_field(values, 0.01, fills=[9.96921e36])
    found = decode_field(packed, values.dtype)
    assert np.array_equal(found[:, :20], values[:, :20])
    assert np.abs(found - values).max() <= 0.01
    assert len(packed) < 0.65 * cheap


def test_simple_fields_are_cheap():
    assert len(encode_field(np.full((50, 100, 100), 3.7), 1e-9)) < 60
    assert len(encode_field(np.full((50, 100, 100), np.nan, np.float32))) < 60
    assert len(encode_field(np.zeros((50, 100, 100), np.float32))) < 60


def test_a_larger_bound_takes_fewer_bytes():
    values = np.cumsum(np.random.default_rng(0).normal(0, 1, (4, 40, 40)), 2).astype(np.float32)
    sizes = [len(encode_field(values, bound)) for bound in (0, 1e-4, 1e-2, 0.5)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 4


def test_order_is_that_of_the_numbers():
    values = np.sort(np.random.default_rng(0).normal(0, 1e3, 500).astype(np.float32))
    values = np.concatenate([[-np.inf], values[values < 0], np.float32([-0.0, 0.0]), values[values > 0], [np.inf]])
    values = values.astype(np.float32)
    assert np.all(np.diff(bounded.ordered(values)) > 0)
    assert bounded.disordered(bounded.ordered(values), values.dtype).tobytes() == values.tobytes()


def test_what_is_no_field_or_bound_is_refused():
    values = np.zeros((2, 3, 4), np.float32)
    for bound in (-1.0, np.nan, np.inf):
        with pytest.raises(BadInput, match="bound"):
            encode_field(values, bound)
    for bad in (values[0], values.astype(complex), values[:0], values.astype(np.longdouble)):
        with pytest.raises(BadInput, match="a field is"):
            encode_field(bad)
    patterns = (np.arange(100, dtype=np.int32) + 0x7FC00001).view(np.float32).reshape(1, 10, 10)
    with pytest.raises(BadInput, match="kinds of NaN"):
        encode_field(patterns)


def test_damaged_fields_give_an_error_or_numbers_and_nothing_else():
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(0, 1, (3, 12, 12)), 2).astype(np.float32)
    values[0, 3] = np.nan
    sources = [(encode_field(values, 0.01), np.float32), (encode_field(values), np.float32)]
    sources.append((encode_field((values[1:] * 1000).astype(np.int16)), np.int16))
    refused = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        data, dtype = sources[seed % 3]
        bad = bytearray(data)
        bad[int(rng.integers(len(bad) if seed % 2 else 40))] ^= 1 << int(rng.integers(8))
        if seed % 5 == 0:
            del bad[int(rng.integers(len(bad))) :]
        try:
            decode_field(bytes(bad), np.dtype(dtype), Limits(pixels=1000, samples=4000))
        except CodecError:
            refused += 1
    assert refused > 10
    for data, dtype in (
        (b"\x01" + np.float64(np.nan).tobytes() + sources[0][0][9:], "f4"), (sources[1][0], "i4"), (b"\x03", "f4"),
        (b"\x00\x41" + bytes(400), "f4"),
    ):  # fmt: skip
        with pytest.raises(CodecError):
            decode_field(data, np.dtype(dtype))
