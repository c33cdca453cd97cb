"""Whole numbers come back exactly, whatever they are; smooth ones in few bits; damage is named."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import second_planes
from framefill.codec import laws, order, residues
from framefill.codec.coder import Decoder, Encoder
from framefill.codec.header import Limits, varint
from framefill.codec.planes import Axis, decode_planes, encode_planes
from framefill.codec.tables import TOTAL
from framefill.errors import BadInput, CodecError


def smooth(shape: tuple[int, int, int], seed: int = 0, scale: float = 100) -> np.ndarray:
    """A few waves that drift, and a little noise."""
    rng = np.random.default_rng(seed)
    t, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    total = rng.normal(0, 0.01, shape)
    for _ in range(4):
        total += np.sin(x * rng.normal(0, 0.1) + y * rng.normal(0, 0.1) + t * 0.2 + rng.uniform(0, 6))
    return np.round(total * scale).astype(np.int64)


kinds = st.sampled_from(["noise", "smooth", "two", "few", "steps", "one odd"])


def drawn(kind: str, shape: tuple[int, int, int], span: int, low: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    match kind:
        case "noise":
            return low + rng.integers(0, span, shape)
        case "smooth":
            return low + np.clip(smooth(shape, seed, span / 8), -span, span)
        case "two":
            return np.where(rng.random(shape) < 0.3, low, low + span)
        case "few":
            return low + span // 7 * rng.integers(0, 6, shape)
        case "steps":
            return low + np.cumsum(rng.integers(0, 3, shape), 2)
        case _:
            found = np.full(shape, low)
            found.flat[rng.integers(found.size)] += span
            return found


@settings(max_examples=30, deadline=None)
@given(
    kinds, st.tuples(st.integers(1, 6), st.integers(1, 20), st.integers(1, 40)), st.integers(1, 61),
    st.integers(-(2**61), 2**61), st.integers(0, 99), st.sampled_from(Axis), st.booleans(),
)  # fmt: skip
def test_numbers_come_back_exactly(kind, shape, bits, low, seed, axis, holes):
    values = drawn(kind, shape, 2**bits, low, seed)
    missing = np.random.default_rng(seed).random(shape) < 0.4 if holes else None
    found = decode_planes(encode_planes(values, axis=axis, missing=missing), missing=missing)
    assert found.dtype == np.int64
    assert np.array_equal(found, values if missing is None else np.where(missing, 0, values))


def test_the_ends_of_64_bits_come_back():
    values = np.array([[[-(2**63), 2**63 - 1, 0, -1, 5, 2**62]]])
    assert np.array_equal(decode_planes(encode_planes(values)), values)
    for low in (-(2**63), 2**63 - 10):  # few values, which are sent as a list
        for values in (np.full((1, 2, 3), low), np.array([[[low, low + 9, low, low + 9]]])):
            assert np.array_equal(decode_planes(encode_planes(values)), values)
    for edge in (2**31 - 1, 2**31, 2**32):
        values = np.array([[[0, edge, 1, edge - 1]]]) - edge // 2
        assert np.array_equal(decode_planes(encode_planes(values)), values)


def test_what_is_missing_costs_nothing_and_cannot_matter():
    values = smooth((4, 40, 50))
    missing = np.zeros(values.shape, bool)
    missing[:, 5:30, 10:35] = True
    other = np.where(missing, np.random.default_rng(0).integers(-(2**60), 2**60, values.shape), values)
    first = encode_planes(values, axis=Axis.TIMES, missing=missing)
    assert first == encode_planes(other, axis=Axis.TIMES, missing=missing)
    assert len(first) < 0.85 * len(encode_planes(values, axis=Axis.TIMES))
    nothing = np.ones_like(missing)
    assert len(encode_planes(values, missing=nothing)) < 16
    assert not decode_planes(encode_planes(values, missing=nothing), missing=nothing).any()


def test_flat_and_simple_planes_are_cheap():
    assert len(encode_planes(np.full((1, 1000, 1000), 255))) < 16
    y, x = np.mgrid[:300, :300]
    disc = 255 * ((x - 150) ** 2 + (y - 150) ** 2 < 100**2)[None]
    assert len(encode_planes(disc)) < 800
    again = np.repeat(smooth((1, 64, 64)), 20, 0)
    assert len(encode_planes(again, axis=Axis.TIMES)) < len(encode_planes(again[:1])) + 1600


def test_noise_costs_what_it_must_and_smooth_numbers_less():
    rng = np.random.default_rng(0)
    normal = np.round(rng.normal(0, 20, (1, 256, 256))).astype(np.int64)
    entropy = np.log2(20 * np.sqrt(2 * np.pi * np.e))
    assert len(encode_planes(normal)) * 8 / normal.size < 1.02 * entropy + 0.05
    waves = smooth((1, 256, 256))
    spread = np.std(np.random.default_rng(0).normal(0, 1, waves.shape))  # the noise in it, in steps
    assert len(encode_planes(waves)) * 8 / waves.size < np.log2(spread * np.sqrt(2 * np.pi * np.e)) + 1.1


def test_channels_and_times_that_follow_each_other_help():
    one = smooth((1, 128, 128)) + np.random.default_rng(0).integers(-50, 50, (1, 128, 128))
    alike = np.concatenate([one, one + 3, 2 * one])
    assert len(encode_planes(alike)) < 1.5 * len(encode_planes(one))
    film = smooth((32, 64, 64)) + np.random.default_rng(0).integers(-50, 50, (1, 64, 64))
    assert len(encode_planes(film, axis=Axis.TIMES)) < 0.9 * 32 * len(encode_planes(film[:1]))


def test_every_position_is_coded_once_after_what_it_looks_at():
    for height, width in ((1, 1), (1, 9), (7, 1), (2, 2), (33, 47), (64, 64)):
        seen = np.zeros((1, height, width), int)
        order.seeds(seen)[...] += 1
        for own in order.passes(height, width):
            if min(height, width) > 4 * own.stride:
                window = [*order.around(seen.astype(float), own)]
                assert all(known.min() == 1 for known in window[:-1])
                assert window[-1].max() == 0
            order.sites(seen, own)[...] += 1
        assert np.all(seen == 1)


@pytest.mark.parametrize("batches", [order.channels, order.times, order.series])
def test_every_slice_is_coded_once_after_those_it_sees(batches):
    for count in (1, 2, 3, 4, 7, 31, 32, 33):
        known: set[int] = set()
        for batch in batches(count):
            assert {*batch.seen.ravel().tolist()} <= known
            assert not known & {*batch.slices.tolist()}
            known |= {*batch.slices.tolist()}
        assert known == {*range(count)}


def test_rows_are_distributions_around_their_mean():
    table = residues.tables()
    for shape, width, fraction in ((0, 0, 0), (1, 20, 5), (2, 31, 12), (3, 47, 0)):
        row = residues.row(shape, width, fraction)
        symbols = np.arange(len(row)) - residues.REACH[shape] * residues.gaussian.radius(width)
        assert row.sum() == TOTAL
        assert row.min() >= 1
        mean = (row[:-1] * symbols[:-1]).sum() / row[:-1].sum()
        assert abs(mean - fraction / 16) < 0.06
    for mean in range(-40, 40):
        for width in (0, 24, 32, 40, 47, 48, 70):
            which, base, bits = residues.law(*(np.array([v]) for v in (1, width, mean)))
            step = 1 << max(min(width, 47) // 8 - 2, 0)
            fraction = 16 * base[0] + 0.0 - mean
            assert 0 <= which[0] < len(table)
            assert abs(fraction) <= 16 + step
            assert bits[0] == max(width // 8 - 5, 0)


def test_low_bits_come_back():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 20, 500)
    low = rng.integers(0, 2**20, 500) & ((1 << bits) - 1)
    assert np.array_equal(residues.unpack(residues.pack(low, bits), bits), low)


def test_octaves_are_the_same_in_both_floats():
    sizes = np.concatenate([np.arange(1, 5000), 2 ** np.arange(23) + 1]).astype(np.float64)
    expected = [8 * (b := int(s).bit_length() - 1) + (int(s) * 8 >> b) - 8 for s in sizes]
    assert laws.indices(sizes).tolist() == expected
    assert laws.indices(sizes.astype(np.float32)).tolist() == expected


def test_laws_that_mean_nothing_are_refused():
    law = laws.plain(12, 5)
    for bad in (
        laws.Law(law.weights, law.scales - 12 - 20, law.shapes, law.shifts),
        laws.Law(law.weights, law.scales, law.shapes + 3, law.shifts),
        laws.Law(law.weights, law.scales, law.shapes, law.shifts + 600),
        laws.Law(law.weights + (1 << 16), law.scales, law.shapes, law.shifts),
    ):
        coder = Encoder()
        laws.write([bad], coder)
        with pytest.raises(CodecError, match="no meaning"):
            laws.read([(12, 5)], Decoder(coder.message()))
    heavy = laws.Law(np.zeros((1, 16), np.int64), np.full(11, 96), law.shapes, law.shifts)
    assert laws.container([heavy], 2**20) == np.float64
    with pytest.raises(CodecError, match="too large"):
        laws.container([heavy], 2**31 - 1)


def test_arrays_that_are_no_planes_are_refused():
    for bad in (np.zeros((3, 3), int), np.zeros((0, 3, 3), int), np.zeros((1, 3, 3))):
        with pytest.raises(BadInput, match="whole numbers"):
            encode_planes(bad)
    with pytest.raises(BadInput, match="one truth value"):
        encode_planes(np.zeros((1, 3, 3), int), missing=np.zeros((1, 3, 4), bool))
    with pytest.raises(BadInput, match="64 bits"):
        encode_planes(np.full((1, 2, 2), 2**63, np.uint64))
    data = encode_planes(np.arange(9).reshape(1, 3, 3))
    with pytest.raises(CodecError, match="different files"):
        decode_planes(data, missing=np.zeros((1, 3, 4), bool))


def test_absurd_claims_are_refused_before_anything_is_made():
    data = encode_planes(smooth((2, 10, 10)))
    start = time.process_time()
    for sides in ((1, 2**40, 2**40), (2**40, 10, 10), (9, 10**4, 10**4)):
        claim = data[:2] + b"".join(map(varint, sides)) + data[5:]
        with pytest.raises(CodecError, match="raise Limits"):
            decode_planes(claim)
    with pytest.raises(CodecError, match="raise Limits"):
        decode_planes(data, Limits(pixels=99))
    with pytest.raises(CodecError, match="later version"):
        decode_planes(b"\x03" + data[1:])
    assert time.process_time() - start < 0.2


def damaged(sources, count):
    """Payloads with their missing places, changed and cut in `count` ways: CodecError or numbers, often the first."""
    limits, refused = Limits(pixels=1000, samples=5000), 0
    for seed in range(count):
        rng = np.random.default_rng(seed)
        data, missing = sources[seed % len(sources)]
        bad = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            bad[int(rng.integers(len(bad) if seed % 3 else 8))] = int(rng.integers(256))
        if seed % 2:
            del bad[int(rng.integers(len(bad))) :]
        try:
            assert decode_planes(bytes(bad), limits, missing=missing).dtype == np.int64
        except CodecError:
            refused += 1
    assert refused > count / 3


@pytest.mark.parametrize("count", [150, pytest.param(5000, marks=pytest.mark.slow)])
def test_damaged_payloads_give_an_error_or_numbers_and_nothing_else(count):
    """Checksums are the container's; here someone has computed them."""
    holes = np.random.default_rng(1).random((3, 12, 17)) < 0.3
    sources = [
        (encode_planes(smooth((3, 12, 17))), None),
        (encode_planes(smooth((3, 12, 17)) << 40, axis=Axis.TIMES, missing=holes), holes),
        (encode_planes(smooth((3, 12, 17)) // 50 * 1000), None),
    ]
    damaged(sources, count)


@pytest.mark.parametrize("axis", Axis)
def test_a_second_decoder_in_plain_python_reads_the_same(axis):
    rng = np.random.default_rng(5)
    waves = smooth((4, 21, 30), 1, 300) + rng.integers(-20, 20, (1, 21, 30))
    holes = rng.random(waves.shape) < 0.2
    for values, missing in ((waves, None), (waves, holes), (waves << 14, None), ((waves > 0) * 255, None)):
        data = encode_planes(values, axis=axis, missing=missing)
        plain = second_planes.Planes(data, None if missing is None else missing.tolist()).decode()
        assert plain == decode_planes(data, missing=missing).tolist()
