"""The file format: round trips, every byte flipped, every truncation, claims that are absurd, and what it costs."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framefill.codec import container, header
from framefill.codec.container import Contents, Extra, ExtraKind, fingerprint, pack, truncated, unpack
from framefill.codec.header import Colour, Depth, Header, Kind, Limits, Sampler, varint
from framefill.errors import BadInput, CodecError

IMAGE = Header(Kind.IMAGE, b"mark", 768, 512, layers=3, seed=9, sampler=Sampler.DDIM, steps=4)
VIDEO = Header(Kind.VIDEO, b"mark", 64, 48, pictures=5, rate=(30000, 1001), colour=Colour.BT709, full_range=False)
FIELD = Header(Kind.FIELD, b"mark", 73, 96, pictures=12, channels=3, depth=Depth.FLOAT_32, colour=Colour.NONE)


def some_parts(parts: int, layers: int, seed: int = 0) -> list[list[bytes]]:
    rng = np.random.default_rng(seed)
    return [[rng.bytes(int(rng.integers(0, 40))) for _ in range(layers)] for _ in range(parts)]


headers = st.builds(
    Header, st.just(Kind.IMAGE), st.binary(min_size=4, max_size=4), st.integers(1, 9000), st.integers(1, 9000),
    layers=st.integers(1, 4), depth=st.sampled_from(Depth), colour=st.sampled_from(Colour), full_range=st.booleans(),
    seed=st.integers(0, 2**63 - 1), sampler=st.sampled_from(Sampler), steps=st.integers(0, 31),
)  # fmt: skip
videos = st.builds(
    Header, st.just(Kind.VIDEO), st.just(b"abcd"), st.integers(1, 999), st.integers(1, 999), st.integers(1, 9999),
    rate=st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), layers=st.integers(1, 4),
)  # fmt: skip
fields = st.builds(
    Header, st.just(Kind.FIELD), st.just(b"abcd"), st.integers(1, 999), st.integers(1, 999), st.integers(1, 9999),
    st.integers(1, 99), layers=st.integers(1, 4),
)  # fmt: skip
extras = st.lists(st.builds(Extra, st.integers(0, 300), st.binary(max_size=30)), max_size=3)


@settings(max_examples=150, deadline=None)
@given(headers | videos | fields, st.integers(1, 5), st.integers(0, 99), extras)
def test_what_goes_in_comes_out(head, parts, seed, more):
    payloads = some_parts(parts, head.layers, seed)
    found = unpack(pack(head, payloads, more))
    assert found.header == head
    assert [list(found.part(i)) for i in range(found.parts)] == payloads
    assert list(found.extras) == more
    assert found.whole


def test_the_fixed_cost_is_20_bytes_an_image_and_6_a_frame():
    image = replace(IMAGE, layers=1, width=16383, height=16383, seed=127, steps=31, sampler=Sampler.CONSISTENCY)
    assert len(pack(image, [[b"x" * 500]])) - 500 == 20
    sizes = [len(pack(VIDEO, [[b"x" * 900]] * n)) - 900 * n for n in (20, 21, 100)]
    assert (sizes[1] - sizes[0], sizes[2] - sizes[0]) == (6, 80 * 6)
    assert len(pack(VIDEO, [[b"x" * 16383]] * 2)) - len(pack(VIDEO, [[b"x" * 16383]])) == 16383 + 6


@pytest.mark.parametrize("head", [IMAGE, VIDEO, FIELD])
@pytest.mark.parametrize("more", [[], [Extra(ExtraKind.EXIF, b"exif" * 5), Extra(200, b"")]])
def test_no_flipped_byte_passes_and_at_most_one_chunk_is_lost(head, more):
    parts = some_parts(4, head.layers)
    data = pack(head, parts, more)
    whole, place = unpack(data), len(data)
    front = header.read(data, Limits())[2]
    for place in range(len(data)):
        for change in (1, 0x80, 0xFF, place % 254 + 1):
            bad = bytearray(data)
            bad[place] ^= change
            if place < front:
                with pytest.raises(CodecError):
                    unpack(bytes(bad))
                continue
            found = unpack(bytes(bad))
            assert found.header == head
            assert len(found.lost) + found.extras_lost == 1
            sound = [i for i in range(len(whole.chunks)) if i not in found.lost]
            assert all(found.chunks[i] == whole.chunks[i] for i in sound)
            assert found.extras == whole.extras or found.extras_lost


@pytest.mark.parametrize("head", [IMAGE, VIDEO, FIELD])
@pytest.mark.parametrize("more", [[], [Extra(ExtraKind.ICC, b"profile")]])
def test_a_file_cut_anywhere_is_refused_or_keeps_what_came_first(head, more):
    parts = some_parts(4, head.layers)
    data = pack(head, parts, more)
    whole, arrived = unpack(data), -1
    for size in range(len(data)):
        try:
            found = unpack(data[:size])
        except CodecError:
            assert arrived == -1, "once a chunk is there it stays there"
            continue
        sound = len(found.chunks) - len(found.lost)
        assert sound >= arrived
        assert found.chunks == whole.chunks[:sound] + (None,) * len(found.lost)
        assert not found.whole
        arrived = sound
    assert arrived == len(whole.chunks) - (0 if more else 1)
    assert unpack(data).whole
    assert not unpack(data + b"\0").whole, "something was appended"


def test_pictures_send_coarse_layers_first_and_videos_frame_by_frame():
    parts = [[b"a0", b"a1", b"a2"], [b"b0", b"b1", b"b2"]]
    assert unpack(pack(IMAGE, parts)).chunks == (b"a0", b"b0", b"a1", b"b1", b"a2", b"b2")
    film = replace(VIDEO, layers=3)
    assert unpack(pack(film, parts)).chunks == (b"a0", b"a1", b"a2", b"b0", b"b1", b"b2")
    half = unpack(truncated(pack(IMAGE, parts), 2))
    assert half.part(1) == (b"b0", b"b1", None)
    assert half.lost == (4, 5)
    assert truncated(pack(IMAGE, parts), 3) == pack(IMAGE, parts)
    with pytest.raises(BadInput, match="layers of a"):
        truncated(pack(film, parts), 1)
    with pytest.raises(BadInput, match="layers of a"):
        truncated(pack(IMAGE, parts), 4)


def test_a_chunk_passes_in_no_other_place_and_no_other_file():
    parts = [[b"same size 1"], [b"same size 2"], [b"same size 3"]]
    data = pack(replace(IMAGE, layers=1), parts)
    one, two = data.index(b"same size 1"), data.index(b"same size 2")
    swapped = data[:one] + data[two : two + 15] + data[one : one + 15] + data[two + 15 :]
    assert unpack(swapped).lost == (0, 1)
    other = pack(replace(IMAGE, layers=1, seed=8), parts)
    assert unpack(data[:two] + other[two : two + 15] + data[two + 15 :]).lost == (1,)


def forged(values: list[int], *, first: int = 1 << 4, second: int = 4, third: int = 0, tail: bytes = b"") -> bytes:
    """A file with these varints whose single checksum is right."""
    head = header.MAGIC + bytes([first, second, third]) + b"mark" + b"".join(map(varint, values))
    return head + tail + zlib.crc32(tail, zlib.crc32(b"\0", zlib.crc32(head))).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "not a framefill codec file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not a framefill codec file"),
        (b"\xf1F", "ends inside its header"),
        (forged([0, 8, 8, 1], first=2 << 4), "format version 2"),
        (forged([0, 8, 8, 1], first=0), "format version 0"),
        (forged([0, 8, 8, 1], first=1 << 4 | 3 << 2), "damaged or absurd"),
        (forged([0, 8, 8, 1], second=7 << 5), "damaged or absurd"),
        (forged([0, 0, 8, 1]), "damaged or absurd"),
        (forged([0, 20000, 20000, 1]), r"400000000 pixels.*Limits\(pixels"),
        (forged([0, 2**62, 2**62, 1]), "pixels"),
        (forged([0, 8, 8, 2**40, 1, 1, 1], first=1 << 4 | 1 << 2), "pictures"),
        (forged([0, 8, 8, 10**6, 1, 1], first=1 << 4 | 2 << 2), "channels"),
        (forged([0, 10**4, 10**4, 10**6, 1, 1, 1], first=1 << 4 | 1 << 2), "samples"),
        (forged([0, 8, 8, 10, 1, 0, 1], first=1 << 4 | 1 << 2), "damaged or absurd"),
        (forged([0, 8, 8, 0]), "0 chunks"),
        (forged([0, 8, 8, 3, 1, 1], first=1 << 4 | 1), "3 chunks in 2 layers"),
        (forged([0, 8, 8, 2**60]), "parts in a file of"),
        (forged([0, 8, 8, 1, 0, 0], second=5), "there are none"),
        (forged([0, 8, 8, 1, 0, 2**50], second=5), "parts in a file of"),
        (forged([0, 8, 8])[:12] + b"\x80\x00" + bytes(9), "shortest form"),
        (header.MAGIC + bytes([16, 4, 0]) + b"mark" + b"\xff" * 30, "shortest form"),
    ],
)
def test_what_is_no_file_of_ours_is_refused_in_words(data, word):
    with pytest.raises(CodecError, match=word):
        unpack(data)


def test_limits_and_models_can_be_given():
    big = replace(IMAGE, width=20000, height=20000)
    parts = some_parts(1, 3)
    with pytest.raises(CodecError, match="raise Limits"):
        unpack(pack(big, parts))
    assert unpack(pack(big, parts), limits=Limits(pixels=4 * 10**8)).header == big
    assert unpack(pack(IMAGE, parts), known={b"mark", b"othr"}).whole
    with pytest.raises(
        CodecError, match=r"model 6d61726b, which is not here; give its file .--model.; known are 61616161"
    ):
        unpack(pack(IMAGE, parts), known={b"aaaa"})
    with pytest.raises(CodecError, match="known are none"):
        unpack(pack(IMAGE, parts), known=())


def test_what_cannot_be_stated_is_not_written():
    for wrong in (
        {"width": 0}, {"seed": -1}, {"seed": 2**63}, {"rate": (1, 0)}, {"rate": (-1, 1)}, {"fingerprint": b"abc"},
        {"layers": 5}, {"layers": 0}, {"steps": 32}, {"steps": -1},
    ):  # fmt: skip
        with pytest.raises(BadInput, match=r"^(seed|-1 steps|32 steps|.*got Header)"):
            replace(IMAGE, **wrong)
    with pytest.raises(BadInput, match="each with 3 layers"):
        pack(IMAGE, [[b"", b""]])
    with pytest.raises(BadInput, match="at least one"):
        pack(IMAGE, [])


def test_many_chunks_take_time_in_proportion():
    """A header of 40 kB is not read again for every chunk."""
    data = pack(replace(VIDEO, pictures=20000), [[b"x" * 200]] * 20000)
    assert unpack(data).whole


def test_the_fingerprint_is_of_names_types_shapes_and_values():
    base = {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b": np.ones(2, np.float32)}
    own = fingerprint(base)
    assert own == fingerprint(dict(reversed(base.items()))) == fingerprint({**base, "a": base["a"].astype(">i4")})
    assert own == fingerprint({**base, "a": np.asfortranarray(base["a"])})
    others = [
        {**base, "a": base["a"].reshape(3, 2)}, {**base, "a": base["a"] + 1}, {**base, "a": base["a"].astype(np.int64)},
        {"c": base["a"], "b": base["b"]},
    ]  # fmt: skip
    assert own not in [fingerprint(other) for other in others]
    assert len(own) == container.CHECK


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, cut out, doubled, or put in."""
    bad = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        place, span = int(rng.integers(0, len(bad) + 1)), int(rng.integers(1, 9))
        match rng.integers(4):
            case 0:
                bad[place : place + span] = rng.bytes(span)
            case 1:
                del bad[place : place + span]
            case 2:
                bad[place:place] = rng.bytes(span)
            case _:
                bad[place:place] = bad[place : place + span]
    return bytes(bad)


@pytest.mark.parametrize("count", [600, pytest.param(30000, marks=pytest.mark.slow)])
def test_mutated_files_give_typed_errors_or_sound_chunks_only(count):
    sources = [
        pack(IMAGE, some_parts(3, 3)),
        pack(VIDEO, some_parts(5, 1), [Extra(3, b"ogg")]),
        pack(FIELD, some_parts(1, 1)),
    ]
    honest = [{*unpack(data).chunks} for data in sources]
    errors = 0
    for seed in range(count):
        rng = np.random.default_rng(seed)
        which = seed % 3
        try:
            found: Contents = unpack(mutated(sources[which], rng))
        except CodecError:
            errors += 1
            continue
        assert {*found.chunks} - {None} <= honest[which]
    assert errors > count / 10
