"""Series: stacks that lean on the mean of what is known, and may be turned: exact, and shorter where it helps."""

import numpy as np
import pytest

import second_planes
from framefill.codec import order, planes
from framefill.codec.header import Limits, Reader, varint
from framefill.codec.planes import Axis, decode_planes, encode_planes
from framefill.codec.walk import Mean
from framefill.errors import CodecError
from test_codec_planes import damaged

SHAPE = (7, 9, 12)


def climate(shape: tuple[int, int, int] = SHAPE, seed: int = 0, rough: float = 60, weather: float = 20) -> np.ndarray:
    """A rough land that stays, and smooth weather that does not."""
    rng = np.random.default_rng(seed)
    land = rng.normal(0, rough, (1, *shape[1:]))
    y, x = np.mgrid[: shape[1], : shape[2]]
    waves = [np.sin(y * rng.normal(0, 0.2) + x * rng.normal(0, 0.2) + rng.uniform(0, 6)) for _ in range(shape[0])]
    return np.round(land + weather * np.stack(waves) + rng.normal(0, 1, shape)).astype(np.int64)


def holes() -> np.ndarray:
    return np.random.default_rng(3).random(SHAPE) < 0.3


def packed(values: np.ndarray, turn: int | None, missing: np.ndarray | None = None) -> bytes:
    return planes._packed(values, missing, Axis.TIMES, turn)


@pytest.mark.parametrize("turn", [0, 1, 2])
@pytest.mark.parametrize("missing", [None, holes()], ids=["whole", "holes"])
@pytest.mark.parametrize("scale", [1, 2**20, 2**40])
def test_turned_series_come_back_exactly(turn, missing, scale):
    values = climate() * scale + climate(seed=1)
    found = decode_planes(packed(values, turn, missing), missing=missing)
    assert np.array_equal(found, values if missing is None else np.where(missing, 0, values))


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_a_second_decoder_reads_series(turn):
    for missing in (None, holes()):
        data = packed(climate(), turn, missing)
        assert data[:2] == bytes([planes.SERIES, turn])
        plain = second_planes.Planes(data, None if missing is None else missing.tolist()).decode()
        assert plain == decode_planes(data, missing=missing).tolist()


def test_slices_look_at_two_known_times_on_either_side_and_at_the_mean():
    held = {int(t): (batch, i) for batch in order.series(17) for i, t in enumerate(batch.slices)}
    for time, seen in ((5, [4, 6, 2, 8]), (6, [4, 8, 0, 12]), (1, [0, 2, 0, 4]), (15, [14, 16, 12, 16])):
        batch, i = held[time]
        assert batch.seen[:, i].tolist() == seen
        assert batch.mean
        assert batch.sees == 5
    assert held[0][0].sees == 0


def test_the_mean_is_rounded_to_the_nearest_half_up():
    mean = Mean((5, 1, 3))
    mean.add(np.array([[[0.0, 1, 2**30]]]), np.array([[[0.0, 16, 3]]]))
    mean.add(np.array([[[1.0, 1, 2**30 + 1]], [[1.0, 2, 2**30]]]), np.zeros((2, 1, 3)))
    values, errors = mean.slices(2, np.dtype(np.float64))
    assert values.tolist() == [[[1, 1, 2**30]]] * 2
    assert errors.tolist() == [[[0, 5, 1]]] * 2
    mean.add(np.array([[[0.0, 2, 0]]]), np.zeros((1, 1, 3)))
    assert mean.slices(1, np.dtype(np.float64))[0][0, 0, :2].tolist() == [1, 2]  # 2 / 4 and 6 / 4


def test_what_stays_is_paid_for_once():
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(0, 60, (1, 24, 30)) + rng.normal(0, 8, (33, 24, 30))).astype(np.int64)
    plain, series = len(packed(values, None)), len(packed(values, 0))
    assert series < 0.99 * plain
    assert len(encode_planes(values, axis=Axis.TIMES)) == series


def test_narrow_planes_are_turned():
    y, x = np.mgrid[:40, :50]
    parts = [300 * np.sin((0.05 + 0.03 * k) * y + (0.2 - 0.04 * k) * x + k * k) for k in range(4)]
    values = np.round(np.stack(parts, -1)).astype(np.int64)  # the last side counts things that are not alike
    data = encode_planes(values, axis=Axis.TIMES)
    assert data[:5] == bytes([planes.SERIES, 2, 4, 40, 50])
    assert len(data) < 0.75 * len(packed(values, None))
    assert np.array_equal(decode_planes(data), values)


def test_the_shorter_way_is_taken_and_channels_are_as_ever():
    rng = np.random.default_rng(0)
    for values in (rng.integers(0, 99, (3, 8, 9)), climate((1, 20, 20)), climate((5, 3, 30)), climate((2, 20, 6))):
        ways = [packed(values, turn) for turn in planes._turns(Axis.TIMES, values.shape)]
        assert len(encode_planes(values, axis=Axis.TIMES)) == min(map(len, ways)) <= len(packed(values, None))
        assert encode_planes(values)[0] == planes.FIRST
    assert planes._turns(Axis.TIMES, (300, 40, 50)) == [0]  # large ones are not tried twice
    assert planes._turns(Axis.TIMES, (1 << 20, 1, 1)) == [None]


def test_turns_and_sides_that_are_none_are_refused():
    data = packed(climate(), 0)
    for claim in (bytes([2, 3]) + data[2:], data[:2] + varint(1 << 20) + bytes([1, 1]) + data[5:], data[:3] + b"\0"):
        with pytest.raises(CodecError, match=r"no meaning|end"):
            decode_planes(claim)


def test_limits_count_the_sides_before_turning():
    depth, height, width = SHAPE
    for turn in (0, 1, 2):
        data = packed(climate(), turn)
        assert decode_planes(data, Limits(pixels=height * width * 2, pictures=depth)).shape == SHAPE
        for limits in (Limits(pixels=height * width - 1), Limits(pictures=depth - 1), Limits(samples=755)):
            with pytest.raises(CodecError, match="over the limits"):
                planes._read(Reader(data), limits)


@pytest.mark.parametrize("count", [60, pytest.param(5000, marks=pytest.mark.slow)])
def test_damaged_series_give_an_error_or_numbers(count):
    sources = [(packed(climate(), turn, missing), missing) for turn in (0, 2) for missing in (None, holes())]
    damaged(sources, count)


def test_every_cut_is_refused():
    data = packed(climate(), 1)
    for end in range(len(data)):
        with pytest.raises(CodecError):
            decode_planes(data[:end])
