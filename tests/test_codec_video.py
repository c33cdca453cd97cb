"""Video in the symbol domain: the transform along time, the law of differences, groups, stamps, streamed files."""

import hashlib
import io
import zlib
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch

from codec_double import Double
from framefill.codec import container, gaussian, groups, haar, quiet
from framefill.codec.coder import BYTES, Encoder
from framefill.codec.container import Extra, pack
from framefill.codec.film_codec import FilmCodec
from framefill.codec.header import Depth, Header, Kind, varint
from framefill.codec.picture_codec import PictureCodec
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


def test_the_painter_is_told_a_higher_quality_for_longer_runs():
    assert [groups.told(Double(), q, bands) for q, bands in ((0, 1), (1, 3), (2, 4))] == [0, 3, 3]
    seen = []

    class Listening(Double):
        def mean(self, values, quality):
            seen.append(int(quality))
            return super().mean(values, quality)

    film = FilmCodec(PictureCodec(Listening()))
    header = replace(film.header(0, depth=Depth.BITS_8), width=16, height=16, pictures=8, rate=(25, 1))
    frames = np.full((8, 16, 16, 3), 99, np.uint8)
    payload = b"\0" + film.message(list(frames), 0)
    assert len(list(film.group(payload, 0, header))) == 8
    assert seen == [3] * 8


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


ROWS = {
    False: "0 0 0 0 0 55 11 | 46 9 0 0 17 3 10 | 47 12 0 0 13 3 9 | 47 11 0 0 12 3 10 | 53 16 0 0 10 3 9",
    True: "0 0 31 6 4 4 9 | 9 3 29 6 6 3 8 | 26 5 23 4 5 3 9 | 25 6 21 4 5 3 9 | 38 9 14 3 4 2 9",
}
AROUND = {1: (2, True), 2: (2, False), 3: (1, True), 4: (1, False)}  # distance, and whether diagonal


def pass_of(y: int, x: int) -> int:
    """As the table of docs/bitstream.md has the passes."""
    if y % 2 or x % 2:
        return 3 if y % 2 and x % 2 else 4
    return {(0, 0): 0, (2, 2): 1}.get((y % 4, x % 4), 2)


def by_the_document(band, covering, mean, c, y, x) -> int:
    """The row of one symbol, in plain Python from docs/bitstream.md."""
    C, H, W = len(band), len(band[0]), len(band[0][0])
    number = pass_of(y, x)
    w = [int(n) for n in ROWS[covering is not None].split(" | ")[number].split()]
    known = [(v, u) for v in range(H) for u in range(W) if pass_of(v, u) < number]

    def beside(k):
        far, diagonal = AROUND[number]
        near = [(v, u) for v, u in known if sorted((abs(v - y), abs(u - x))) == [far * diagonal, far]]
        return 16 * sum(abs(band[k][v][u]) for v, u in near) // max(len(near), 1)

    def coarser(k, v, u):
        places = [(a, b) for a in range(v - 1, v + 2) for b in range(u - 1, u + 2) if 0 <= a < H and 0 <= b < W]
        return sum((2 - abs(a - v)) * (2 - abs(b - u)) * abs(covering[k][a][b]) for a, b in places)

    total = 16 * w[6] + (w[5] * gaussian.width(mean) >> 4)
    if number:
        B = [beside(k) for k in range(C)]
        total += (
            w[0] * B[c] + w[1] * sum(B) // C + w[4] * (16 * sum(abs(band[c][v][u]) for v, u in known) // len(known))
        )
    if covering is not None:
        total += w[2] * coarser(c, y, x) + w[3] * sum(coarser(k, y, x) for k in range(C)) // C
        if not number:
            total += w[4] * (sum(coarser(c, v, u) for v in range(H) for u in range(W)) // (H * W))
    return 16 * max(i for i in range(64) if i == 0 or gaussian.width(i) <= total >> 4)


@pytest.mark.parametrize("covered", [False, True])
@pytest.mark.parametrize("scale", [0.3, 20.0])
def test_widths_are_those_of_the_document(covered, scale):
    rng = torch.Generator().manual_seed(5)
    band, covering = ((torch.randn(3, 6, 9, generator=rng) * s).round().long() for s in (scale, 2 * scale))
    mean = quiet.level(band)

    def code(places, rows):
        for i, place in enumerate(places.tolist()):
            for c in range(3):
                y, x = divmod(place, 9)
                held = covering.tolist() if covered else None
                assert rows[c, i] == by_the_document(band.tolist(), held, mean, c, y, x), (c, y, x)
        return band.flatten(1)[:, places]

    quiet.passes((6, 9), 3, covering if covered else None, mean, code)


def test_the_bytes_of_a_band_are_what_they_were():
    """A file that is read tomorrow was written today; see docs/bitstream.md, What is promised."""
    words = np.arange(3 * 6 * 9, dtype=np.int64) * 2654435761 % 2**32
    band = torch.from_numpy((words % 7 - 3) * (words % 5 == 0) + 900 * (words % 97 == 0)).view(3, 6, 9)
    messages = []
    for covering in (None, band.flip(2)):
        writer = Encoder()
        groups._write_high(writer, Double(), band, covering, 0)
        messages.append(writer.message())
    assert [hashlib.sha256(message).hexdigest()[:16] for message in messages] == [
        "1029f669db3bd28a",
        "e3c3a0b6c121e88c",
    ]


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
    if payload[1:3] in (b"\0\1", b"\1\0"):
        with pytest.raises(CodecError, match="unit of nothing"):
            unit_of(payload)


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
