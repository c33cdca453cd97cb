"""TFRecord files without TensorFlow: records with their checksums, and the byte strings of a tf.train.Example.

    record = length (uint64) | crc(length) | data | crc(data)          little endian; crc is a masked CRC-32C
    Example = 1: Features = 1: map entry {1: key, 2: Feature {1: BytesList {1: value}}}       protocol buffers

A length is believed after its checksum is right and the file is long enough for it, never before.
"""

from collections.abc import Container, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from framefill.errors import MediaError

Words = NDArray[np.uint32]
LARGEST_RECORD = 1 << 26  # bytes; a robot-pushing record of BAIR has about 750,000
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_LANE = 256  # bytes, a power of two: long data is checked in lanes of this length, all at once


def records(path: Path) -> Iterator[bytes]:
    """The records of a file in order; MediaError where one is cut off, too long or fails its checksum."""
    size = path.stat().st_size
    with path.open("rb") as file:
        number = 0
        while head := file.read(12):
            if len(head) < 12 or masked_crc(head[:8]) != int.from_bytes(head[8:], "little"):
                raise MediaError(f"{path}: the length of record {number} is damaged; fetch the file again")
            length = int.from_bytes(head[:8], "little")
            if length > min(LARGEST_RECORD, size - file.tell() - 4):
                raise MediaError(f"{path}: record {number} claims {length} bytes, more than there are; fetch it again")
            data, check = file.read(length), file.read(4)
            if len(check) < 4 or masked_crc(data) != int.from_bytes(check, "little"):
                raise MediaError(f"{path}: record {number} fails its checksum; fetch the file again")
            yield data
            number += 1


def byte_strings(example: bytes, wanted: Container[str]) -> dict[str, bytes]:
    """The first byte string of each feature of a tf.train.Example whose key is `wanted`; ValueError if malformed."""
    found: dict[str, bytes] = {}
    for features in _parts(memoryview(example), 1):
        for entry in _parts(features, 1):
            key = b"".join(_parts(entry, 1)).decode("utf-8", "replace")
            if key in wanted:
                lists = (several for feature in _parts(entry, 2) for several in _parts(feature, 1))
                found[key] = next((bytes(value) for several in lists for value in _parts(several, 1)), b"")
    return found


def _parts(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The length-delimited fields with number `wanted` of a message; the others are passed over."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            _, place = _varint(message, place)
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"a field of wire type {kind}")
        length, place = _varint(message, place) if kind == 2 else ({1: 8, 5: 4}[kind], place)
        if length > len(message) - place:
            raise ValueError(f"a field claims {length} bytes of {len(message) - place}")
        if kind == 2 and tag >> 3 == wanted:
            yield message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and the place after it."""
    value = 0
    for shift, byte in enumerate(message[place : place + 10]):
        value |= (byte & 127) << (7 * shift)
        if byte < 128:
            return value, place + shift + 1
    raise ValueError("a number without end")


def masked_crc(data: bytes) -> int:
    """The CRC-32C of `data`, rotated right by 15 bits plus a constant, as TFRecord stores it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of `data`.

    The register after data A and then n bytes is Z_n(register after A), exclusive-or the register after the n bytes
    alone, where Z_n takes it past n zero bytes and is linear. So lanes are checked side by side, byte by byte, and then
    joined two by two: a megabyte takes milliseconds instead of the seconds of a loop over bytes.
    """
    lanes = 1
    while lanes * _LANE < len(data):
        lanes *= 2
    padded = bytes(lanes * _LANE - len(data)) + data  # zeros in front leave an empty register empty
    columns = np.frombuffer(padded, np.uint8).reshape(lanes, _LANE).T
    register: Words = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(columns):
        register = register >> 8 ^ _table()[(register ^ column) & 255]
    power = _LANE.bit_length() - 1
    while len(register) > 1:
        register = _apply(_zeros(power), register[::2]) ^ register[1::2]
        power += 1
    start = np.array([0xFFFFFFFF], np.uint32)
    for bit in range(len(data).bit_length()):
        if len(data) >> bit & 1:
            start = _apply(_zeros(bit), start)
    return int(start[0] ^ register[0]) ^ 0xFFFFFFFF


@cache
def _table() -> Words:
    """The register after each single byte."""
    register: Words = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        register = np.where(register & 1, register >> 1 ^ _POLYNOMIAL, register >> 1).astype(np.uint32)
    return register


@cache
def _zeros(power: int) -> Words:
    """Z for 2^power zero bytes: what becomes of each of the 32 bits of the register."""
    if power:
        half = _zeros(power - 1)
        return _apply(half, half)
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    return bits >> 8 ^ _table()[bits & 255]


def _apply(columns: Words, registers: Words) -> Words:
    """A linear map, given by what it makes of each bit, of every register."""
    result = np.zeros_like(registers)
    for bit, column in enumerate(columns):
        result ^= (registers >> np.uint32(bit) & 1) * column
    return result
