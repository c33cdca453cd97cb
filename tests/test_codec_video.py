"""Video in the symbol domain: the transform along time, the law of differences, groups, stamps, streamed files."""

import io
import zlib
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch

from codec_double import Double
from framefill.codec import container, gaussian, groups, haar, quiet
from framefill.codec.coder import BYTES, Encoder
from framefill.codec.container import Extra, pack
from framefill.codec.header import Header, Kind, varint
from framefill.codec.stamps import Stamps, taken, unit_of
from framefill.codec.stream import Chunks, opened
from framefill.errors import BadInput, CodecError

HEADER = Header(Kind.VIDEO, b"abcd", 16, 16, pictures=20, rate=(25, 1))


def shadows(frames: int, speed: float, size: int = 4, seed: int = 0) -> torch.Tensor:
    """Latents (T, 30, size, size) that change at a speed."""
    rng = torch.Generator().manual_seed(seed)
    still = torch.randn(1, 30, size, size, generator=rng) * 4
    return still + speed * torch.randn(frames, 30, size, size, generator=rng).cumsum(0)


@pytest.mark.parametrize("frames", [1, 2, 4, 8])
def test_the_transform_is_orthonormal_and_inverted(frames):
    matrix = torch.cat([band.flatten(1) for band in haar.forward(torch.eye(frames, dtype=torch.float64))])
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(frames, dtype=torch.float64))
    x = torch.randn(frames, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(haar.inverse(haar.forward(x)), x)
    still = haar.forward(torch.ones(frames, 2))
    assert torch.allclose(still[0], torch.full((1, 2), frames**0.5))
    assert all(not band.abs().max() > 1e-6 for band in still[1:])


@pytest.mark.parametrize("frames", [0, 3, 5, 16])
def test_other_lengths_are_refused(frames):
    with pytest.raises(BadInput, match="takes 1, 2, 4 or 8 frames"):
        haar.forward(torch.zeros(frames, 2))


def test_bands_are_named_by_their_level():
    assert groups.kinds(1) == [0]
    assert groups.kinds(4) == [3, 6, 5, 4]  # the low one of three levels, then coarse to fine


@pytest.mark.parametrize(("size", "covered"), [*product([(1, 1), (3, 5), (9, 8)], [False, True])])
def test_the_law_looks_at_what_is_known_only(size, covered):
    rng = torch.Generator().manual_seed(1)
    band = (torch.randn(6, *size, generator=rng) * 2).round().long()
    covering = (torch.randn(6, *size, generator=rng) * 3).round().long() if covered else None
    seen, laws = torch.zeros(size, dtype=torch.bool), []

    def honest(places, rows):
        assert not seen.view(-1)[places].any()
        seen.view(-1)[places] = True
        laws.append(rows.clone())
        assert ((rows >= 0) & (rows < 1024) & (rows % gaussian.FRACTIONS == 0)).all()
        return band.flatten(1)[:, places]

    torch.testing.assert_close(quiet.passes(size, 6, covering, quiet.level(band), honest), band)
    assert seen.all()
    again = iter(laws)

    def decoding(places, rows):  # as a decoder: the rows must be the same before the symbols are there
        assert torch.equal(rows, next(again))
        return band.flatten(1)[:, places]

    quiet.passes(size, 6, covering, quiet.level(band), decoding)


def test_widths_follow_the_neighbours():
    """By hand: pass 4 of 2 x 2 has the positions 1 and 2, beside both known ones."""
    rows = {}

    def code(places, found):
        rows[len(rows)] = found
        return torch.full((1, len(places)), 3 if len(rows) == 1 else 1)

    quiet.passes((2, 2), 1, None, 0, code)
    bias, mean = [(weights[6] << 4) + (weights[5] * 8 >> 4) for weights in quiet.ALONE], 16 * (3 + 1) // 2
    w = quiet.ALONE
    expected = [bias[0], bias[3] + (w[3][0] + w[3][1] + w[3][4]) * 48, bias[4] + (w[4][0] + w[4][1] + w[4][4]) * mean]
    for found, total in zip(rows.values(), expected, strict=True):
        index = int(found.flatten()[0]) // gaussian.FRACTIONS
        assert gaussian.width(index) <= total >> 4 < gaussian.width(index + 1)
    assert quiet.smoothed(torch.tensor([[[16]]])).item() == 64
    assert quiet.smoothed(torch.ones(1, 3, 3, dtype=torch.long))[0, 1, 1] == 16


def test_levels_are_means():
    assert quiet.level(torch.zeros(2, 3, 3, dtype=torch.long)) == 0
    assert gaussian.width(quiet.level(torch.full((2, 3, 3), -4))) == 1024
    assert quiet.level(torch.full((2, 3, 3), 10**6)) == 63


@pytest.mark.parametrize("frames", [1, 3, 5, 8])
@pytest.mark.parametrize("speed", [0.0, 0.3, 40.0])
def test_groups_come_back_symbol_for_symbol(frames, speed):
    model = Double()
    runs = groups.chosen(model, shadows(frames, speed), 1)
    assert sum(len(haar.inverse([b.float() for b in run])) for run in runs) == frames
    message = groups.encode(model, runs, 1)
    back = groups.decode(model, message, frames, (4, 4), 1)
    assert [len(run) for run in back] == [len(run) for run in runs]
    assert all(
        torch.equal(a, b) for mine, other in zip(back, runs, strict=True) for a, b in zip(mine, other, strict=True)
    )
    assert message == groups.encode(model, runs, 1)


def test_what_stands_still_costs_seven_bytes_more_than_a_picture():
    model, still = Double(), shadows(1, 0.0, size=12)
    one = groups.encode(model, [groups.rounded(model, still, 1)], 1)
    low = groups.rounded(model, still * 8**0.5, 1)
    eight = groups.encode(model, groups.chosen(model, still.expand(8, -1, -1, -1), 1), 1)
    assert len(eight) <= len(groups.encode(model, [low], 1)) + 8
    assert len(eight) < 8 * len(one) / 3


def test_little_that_moves_costs_little():
    model = Double()
    x = shadows(1, 0.0, size=12).repeat(8, 1, 1, 1)
    still = len(groups.encode(model, groups.chosen(model, x, 1), 1))
    x[4:, :2, 5:7, 5:7] += 9
    assert len(groups.encode(model, groups.chosen(model, x, 1), 1)) < still + 60


def test_a_cut_begins_a_run():
    model = Double()
    x = torch.cat([shadows(3, 0.0, seed=1), shadows(5, 0.0, seed=2)])
    assert [2 ** (len(run) - 1) for run in groups.chosen(model, x, 2)] in (
        [2, 1, 4, 1],
        [1, 2, 4, 1],
        [2, 1, 1, 4],
        [1, 2, 1, 4],
    )
    restless = shadows(8, 60.0)
    assert len(groups.chosen(model, restless, 2)) > 2


def test_an_error_of_rounding_is_as_large_in_pictures_as_in_bands():
    model = Double()
    x = shadows(8, 3.0, size=8).double()
    bands = groups.rounded(model, x, 2)
    back = haar.inverse([model.values(band, torch.tensor([2])).double() for band in bands])
    step = float(model.steps(torch.tensor([2])))
    expected = 1 / 12 + 7 / 8 * (0.5 - groups.ROUNDING) ** 2  # seven of eight bands lean towards zero
    assert float((back - x).square().mean()) == pytest.approx(step**2 * expected, rel=0.05)


def test_learned_laws_are_used_where_they_are_shorter():
    model, x = Double(), shadows(8, 0.5)
    runs = [groups.rounded(model, x, 1)]
    plain = groups.encode(model, runs, 1)
    model.temporal = True
    model.entropy.bits = lambda symbols, settings: torch.zeros(1)
    learned = groups.encode(model, runs, 1)
    assert learned != plain
    back = groups.decode(model, learned, 8, (4, 4), 1)
    assert all(torch.equal(a, b) for a, b in zip(back[0], runs[0], strict=True))


def test_messages_that_cannot_be_are_refused():
    model = Double()
    for numbers, words in (([4], "longer than their group"), ([3], "longer than their group")):
        writer = Encoder()
        for number in numbers:
            writer.write(np.array([number]), np.zeros(1, np.int64), BYTES)
        with pytest.raises(CodecError, match=words):
            groups.decode(model, writer.message(), 4, (2, 2), 1)
    run = groups.rounded(model, shadows(2, 0.0), 1)
    writer = Encoder()
    writer.write(np.array([1]), np.zeros(1, np.int64), BYTES)
    groups._write_learned(writer, model, run[0][0], 1)
    writer.write(np.array([99]), np.zeros(1, np.int64), BYTES)
    with pytest.raises(CodecError, match="of a kind that there is not"):
        groups.decode(model, writer.message(), 2, (4, 4), 1)
    with pytest.raises(BadInput, match="cannot be coded"):
        groups.rounded(model, shadows(1, 0.0) * float("nan"), 1)


# Stamps


def test_stamps_say_no_more_than_they_must():
    rate = Fraction(30000, 1001)
    assert Stamps(rate).of(8, 8) == b"\0"
    assert taken(b"\0rest", 8, 2, rate) == ([8 / rate, 9 / rate], b"rest")
    assert unit_of(b"\0rest") is None
    for start in (Fraction(7, 5), Fraction(-1, 50)):
        late = Stamps(Fraction(25), start).of(3, 2)
        assert taken(late + b"rest", 3, 2, Fraction(25)) == ([start + Fraction(n, 25) for n in (3, 4)], b"rest")
    uneven = Stamps(rate, stamps=np.array([-5, 0, 40, 95, 2**40]), base=Fraction(1, 1000))
    payload = uneven.of(0, 3) + b"rest"
    assert taken(payload, 0, 3, rate) == ([Fraction(n, 1000) for n in (-5, 0, 40)], b"rest")
    assert taken(uneven.of(3, 2), 3, 2, rate)[0] == [Fraction(95, 1000), Fraction(2**40, 1000)]
    assert unit_of(payload) == Fraction(1, 1000)
    with pytest.raises(BadInput, match="there are 5 time stamps"):
        uneven.of(3, 3)


@pytest.mark.parametrize("payload", [b"\3", b"\1\0\1\0", b"\1\1\0\0", b"\2\1\1\0", b""])
def test_damaged_stamps_are_refused(payload):
    with pytest.raises(CodecError):
        taken(payload, 0, 3, Fraction(25))


# Streams


@pytest.mark.parametrize("extras", [[], [(3, b"sound" * 999), (99, b"")]])
def test_streamed_files_are_those_of_the_container(extras):
    payloads = [bytes([n]) * n * 57 for n in range(5)]
    file = io.BytesIO()
    with Chunks() as chunks:
        for payload in payloads:
            chunks.add(payload)
        assert (chunks.count, chunks.size) == (5, sum(map(len, payloads)) + 20)
        chunks.write(file, HEADER, [(kind, io.BytesIO(data)) for kind, data in extras])
    data = file.getvalue()
    assert data == pack(HEADER, [[p] for p in payloads], [Extra(*extra) for extra in extras])
    found = opened(data)
    assert (found.header, found.chunks, found.arrived()) == (HEADER, 5, 5)
    assert [found.chunk(i) for i in range(5)] == payloads
    assert [(kind, b"".join(found.pieces(i))) for kind, i in found.extras()] == extras
    with Chunks() as none, pytest.raises(BadInput, match="nothing to write"):
        none.write(file, HEADER)


def test_damage_and_cuts_in_streams(tmp_path):
    payloads = [np.random.default_rng(n).bytes(200) for n in range(5)]
    data = pack(HEADER, [[p] for p in payloads], [Extra(3, b"s" * 50)])
    for number in range(5):
        bad = bytearray(data)
        bad[data.index(payloads[number]) + 99] ^= 1
        assert [opened(bytes(bad)).chunk(i) for i in range(5)] == [
            p if i != number else None for i, p in enumerate(payloads)
        ]
    short = opened(data[: data.index(payloads[3]) + 150])
    assert short.arrived() == 3
    assert [short.chunk(i) for i in range(5)] == [*payloads[:3], None, None]
    assert not list(short.extras())
    bare = pack(HEADER, [[p] for p in payloads])
    assert [opened(bare[:-n]).arrived() for n in (1, 150, 250)] == [4, 4, 3]  # the last one's length is not written
    bad = bytearray(data)
    bad[-9] ^= 1
    found = opened(bytes(bad))
    with pytest.raises(CodecError, match="what travels along"):
        list(found.pieces(next(found.extras())[1]))
    assert container.check(0, 1, b"x") == zlib.crc32(b"x", zlib.crc32(varint(1)))
