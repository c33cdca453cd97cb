"""TFRecord files for tests, written without the code that reads them."""

import struct


def shifted(register):
    """A register after eight bits of zero, as the definition of the CRC says it."""
    for _ in range(8):
        register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register


AFTER = [shifted(byte) for byte in range(256)]


def bytewise(data):
    """CRC-32C, one byte after another."""
    register = 0xFFFFFFFF
    for byte in data:
        register = (register >> 8) ^ AFTER[(register ^ byte) & 255]
    return register ^ 0xFFFFFFFF


def masked(data):
    crc = bytewise(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


def record(data):
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked(head)) + data + struct.pack("<I", masked(data))


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def field(number, data):
    return varint(number * 8 + 2) + varint(len(data)) + data


def example(features, also=False):
    """A serialized tf.train.Example with one byte string per feature, and numbers beside them if `also`."""
    entries = [field(1, key.encode()) + field(2, field(1, field(1, value))) for key, value in features.items()]
    if also:
        entries.insert(0, field(1, b"0/action") + field(2, field(2, field(1, struct.pack("<4f", 1, 2, 3, 4)))))
        entries.append(field(1, b"count") + field(2, field(3, varint(8) + varint(300))))
    return field(1, b"".join(field(1, entry) for entry in entries))
