"""Pickles of arrays come out as they went in; every other pickle is refused before anything of it runs."""

import collections
import contextlib
import os
import pickle
import random
import struct

import numpy as np
import pytest

from framefill import unpickle
from framefill.errors import BadInput


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.ckpt"


def refused(path, data, words=None):
    path.write_bytes(data)
    with pytest.raises(BadInput, match=words) as caught:
        unpickle.read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 350


WEIGHTS = {
    "params": {"Mixed/0": {"kernel": np.asfortranarray(np.random.default_rng(0).normal(size=(2, 3, 4))), "on": True}},
    "bytes": [np.arange(5, dtype=">i4"), np.array(2.5, "f2"), np.zeros((0, 3), "u1"), np.array([True, False])],
    "plain": (1, -2.5, None, "words", b"raw", 70000),
}


def same(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and (a == b).all()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b and type(a) is type(b)


def old_numpy(data):
    """The same pickle as numpy 1 wrote it: a shorter name, in one frame (bytes 3 to 10 are its length)."""
    data = data.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
    return data[:3] + struct.pack("<Q", len(data) - 11) + data[11:]


def test_arrays_and_plain_values_come_out_as_they_went_in(path):
    data = pickle.dumps(WEIGHTS, protocol=4)
    assert b"numpy._core" in data
    path.write_bytes(data)
    assert same(unpickle.read(path), WEIGHTS)
    path.write_bytes(old_numpy(data))
    assert same(unpickle.read(path), WEIGHTS)


class Calls:
    """Pickled as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_programs_are_refused_and_not_run(path, tmp_path):
    mark = tmp_path / "mark"
    for program in (
        Calls(os.system, f"touch {mark}"),
        Calls(eval, f"open({str(mark)!r}, 'w')"),
        Calls(os.mkdir, str(mark)),
        {"params": [np.zeros(3), Calls(exec, "1")]},
        Calls(np.fromfile, "/etc/hostname"),
        Calls(np.load, "x"),
        Calls(np.zeros, 10**12),
        collections.OrderedDict(a=1),
        {1, 2},
        np.float64(1.0),
        np.random.default_rng(0),
    ):
        refused(path, pickle.dumps(program, protocol=4), r"it asks for|the instruction (EMPTY_SET|NEWOBJ|LONG1)")
    assert not mark.exists()


def test_other_protocols_and_their_instructions_are_refused(path):
    for protocol in (0, 1, 2, 3):
        refused(path, pickle.dumps(WEIGHTS, protocol=protocol), "the instruction")
    refused(path, pickle.dumps(np.zeros(2000), protocol=5), "BYTEARRAY8|asks for")
    refused(path, b"cos\nsystem\n(S'true'\ntR.", "the instruction GLOBAL")
    refused(path, b"\x80\x04Pout\n.", "the instruction PERSID")
    refused(path, b"\x80\x04Nr\xff\xff\xff\x7f.", "the instruction LONG_BINPUT")  # a memo of 2^31 places


ARRAY, DTYPE = b"\x8c\x05numpy\x8c\x07ndarray\x93", b"\x8c\x05numpy\x8c\x05dtype\x93"
MAKE = b"\x8c\x15numpy.core.multiarray\x8c\x0c_reconstruct\x93"


def array(kind=b"f4", order=b"<", shape=b"K\x02\x85", data=b"C\x08" + bytes(8)):
    """A pickle of one array, by hand: every part can be false."""
    made = MAKE + ARRAY + b"K\x00\x85C\x01b\x87R"
    dtype = DTYPE + b"\x8c" + bytes([len(kind)]) + kind + b"\x89\x88\x87R" + b"(K\x03\x8c\x01" + order + b"NNNK\x00tb"
    return b"\x80\x04" + made + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb."


def test_arrays_are_made_of_bytes_in_the_file_only(path):
    path.write_bytes(array())
    assert unpickle.read(path).tolist() == [0, 0]
    refused(path, array(shape=b"J\xff\xff\xff\x7f\x85"), "8 bytes for an array")
    refused(path, array(shape=b"J\xfe\xff\xff\xff\x85"), "shape, type and bytes")
    refused(path, array(shape=b"K\x03\x85"), "8 bytes for an array")
    refused(path, array(shape=b"\x88\x85"), "shape, type and bytes")
    refused(path, array(data=b"N"), "shape, type and bytes")
    refused(path, array(data=b"B\xff\xff\xff\x7f" + bytes(8)))  # bytes that the file does not have
    for kind in (b"O8", b"V8", b"S8", b"f9", b"f4,f4", b"M8"):
        refused(path, array(kind=kind), "numbers of type")
    refused(path, array(order=b"x"), "byte order")


def test_stand_ins_keep_no_changes_and_do_not_come_out(path):
    refused(path, b"\x80\x04" + ARRAY + b".", "neither numbers nor containers")
    refused(path, b"\x80\x04" + MAKE + b")R.", "neither numbers nor containers")
    for name in (MAKE, ARRAY, DTYPE):  # BUILD with {"a": 1}, and the same as state of slots
        refused(path, b"\x80\x04" + name + b"}\x8c\x01aK\x01sb.", "attribute")
        refused(path, b"\x80\x04" + name + b"N}\x8c\x01aK\x01s\x86b.", "attribute")
    refused(path, b"\x80\x04" + ARRAY + b")R.", "not callable")
    assert not any(hasattr(stand_in, "__dict__") for stand_in in unpickle.NAMES.values())


def test_deep_wide_and_repeating_values_are_refused(path):
    refused(path, b"\x80\x04" + b"]" * 40 + b"a" * 39 + b".", "too deep")
    refused(path, b"\x80\x04" + b"]" * 90_000 + b"a" * 89_999 + b".", "too deep")
    refused(path, b"\x80\x04(" + b"K\x01" * unpickle.LONGEST + b"t.", "instructions")
    # every list holds the one before it twice: 2^30 values in 150 bytes
    doubled = b"".join(b"]\x94(h%ch%ce" % (i, i) for i in range(30))
    refused(path, b"\x80\x04]\x94" + doubled + b".", "too many")
    itself = b"\x80\x04]\x94h\x00a."
    refused(path, itself, "too deep")


def test_every_truncation_is_refused_and_random_damage_raises_nothing_else(path):
    whole = pickle.dumps(WEIGHTS, protocol=4)
    for length in range(len(whole)):
        refused(path, whole[:length])
    draw = random.Random(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data)
        with contextlib.suppress(BadInput):  # some damage is only to numbers
            unpickle.read(path)


def test_missing_and_large_files(path, monkeypatch):
    with pytest.raises(BadInput, match="No such file"):
        unpickle.read(path)
    with pytest.raises(BadInput, match="Is a directory"):
        unpickle.read(path.parent)
    monkeypatch.setattr(unpickle, "LARGEST", 10)
    refused(path, pickle.dumps(list(range(20)), protocol=4), "more than 10 bytes")
