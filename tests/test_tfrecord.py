"""TFRecord and tf.train.Example: checksums against a bit-by-bit one, every flipped byte seen, no length believed."""

import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefill.errors import MediaError
from framefill.video.datasets.tfrecord import LARGEST_RECORD, byte_strings, crc32c, masked_crc, records
from tfrecords import bytewise, example, field, masked, record, varint


def test_known_checksums():
    assert crc32c(b"123456789") == 0xE3069283  # the check value in the catalogue of CRCs
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@given(st.binary(max_size=1500))
def test_lanes_agree_with_one_bit_after_another(data):
    assert crc32c(data) == bytewise(data)
    assert masked_crc(data) == masked(data)


@pytest.mark.parametrize("length", [255, 256, 257, 511, 512, 513, 4095, 4097, 70_001])
def test_lengths_around_the_lanes(length):
    data = np.random.default_rng(length).bytes(length)
    assert crc32c(data) == bytewise(data)


def test_a_robot_record_takes_milliseconds():
    data = bytes(750_000)
    crc32c(data)
    start = time.perf_counter()
    crc32c(data)
    assert time.perf_counter() - start < 0.5  # about 0.01 s; one byte after another takes seconds


def test_records_come_back_in_order(tmp_path):
    contents = [b"", b"one", bytes(3000)]
    path = tmp_path / "a.tfrecords"
    path.write_bytes(b"".join(map(record, contents)))
    assert list(records(path)) == contents
    path.write_bytes(b"")
    assert list(records(path)) == []


def test_every_damaged_byte_is_seen(tmp_path):
    whole = record(b"first") + record(b"second one")
    path = tmp_path / "a.tfrecords"
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(MediaError, match="fetch the file again"):
            list(records(path))


def test_every_truncation_is_seen(tmp_path):
    whole, path = record(b"first") + record(b"second"), tmp_path / "a.tfrecords"
    for length in set(range(1, len(whole))) - {len(record(b"first"))}:
        path.write_bytes(whole[:length])
        with pytest.raises(MediaError, match=r"record [01]"):
            list(records(path))


@pytest.mark.parametrize("length", [6, LARGEST_RECORD, LARGEST_RECORD + 1, 2**63, 2**64 - 1])
def test_a_length_is_not_believed(tmp_path, length):
    head = struct.pack("<Q", length)
    path = tmp_path / "a.tfrecords"
    path.write_bytes(head + struct.pack("<I", masked(head)) + b"short" + bytes(4))
    with pytest.raises(MediaError, match=f"claims {length} bytes"):
        list(records(path))


def test_wanted_features_are_found_among_others():
    features = {"0/a": b"\x00\x01", "1/a": b"", "0/b": b"other"}
    assert byte_strings(example(features, also=True), {"0/a", "1/a", "9/a"}) == {"0/a": b"\x00\x01", "1/a": b""}


def test_a_feature_of_numbers_has_no_bytes():
    packed = field(2, field(1, struct.pack("<f", 1.5)))  # FloatList
    entry = field(1, field(1, field(1, b"key") + field(2, packed)))
    assert byte_strings(entry, {"key"}) == {"key": b""}


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",  # a length is missing
        b"\x0a\x05abc",  # too few bytes
        b"\x0a" + varint(2**60),
        b"\xff" * 11,  # a number without end
        b"\x0b",  # a group
        b"\x09\x00",  # 8 bytes announced
        b"\x0d\x00\x00",
        b"\x08",
        field(1, field(1, b"\x0a\x7f")),
    ],
)
def test_malformed_messages_are_refused(message):
    with pytest.raises(ValueError, match=r"field|number"):
        byte_strings(message, {"key"})


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_else(data):
    try:
        found = byte_strings(data, {"", "a"})
    except ValueError:
        return
    assert sum(map(len, found.values())) <= 2 * len(data)
