"""SMPL's published .pkl files, as Python 2 wrote them: the same body as from .npz, and nothing in them is run."""

import contextlib
import os
import pickle
import random
import struct
import sys
import types

import numpy as np
import pytest
import torch

from framefill import unpickle
from framefill.errors import BadInput, MediaError
from framefill.pose import characters
from framefill.pose.files import smpl
from test_pose_body import smpl_parts
from test_unpickle import Calls


class Object:
    """What is pickled as an object of `module`.`name` with a state."""

    def __init__(self, module, name, **state):
        self.module, self.name, self.state = module, name, state


def chumpy(array):
    return Object("chumpy.ch", "Ch", x=array, _dirty_vars=set(), _itr=None)


def sparse(dense):
    columns, rows = np.nonzero(dense.T)
    starts = np.searchsorted(columns, np.arange(dense.shape[1] + 1))
    return Object(
        "scipy.sparse.csc", "csc_matrix", _shape=dense.shape, maxprint=50, data=dense.T[columns, rows],
        indices=rows.astype("i4"), indptr=starts.astype("i4"),
    )  # fmt: skip


def name(module, inside):
    return f"c{module}\n{inside}\n".encode()


def binary(value):
    """Bytes of protocol 2 as Python 2 wrote them, where text is bytes."""
    if isinstance(value, dict):
        return b"}(" + b"".join(binary(k) + binary(v) for k, v in value.items()) + b"u"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(binary, value)) + b"t"
    if isinstance(value, (str, bytes)):
        data = value.encode() if isinstance(value, str) else value
        return b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + struct.pack("<i", len(data)) + data
    if isinstance(value, set):
        return name("__builtin__", "set") + b"]\x85R"
    if isinstance(value, np.dtype):
        state = (3, value.byteorder.replace("=", "<"), None, None, None, -1, -1, 0)
        return name("numpy", "dtype") + binary((value.str[1:], 0, 1)) + b"R" + binary(state) + b"b"
    if isinstance(value, np.ndarray):
        made = (
            name("numpy.core.multiarray", "_reconstruct") + b"(" + name("numpy", "ndarray") + binary((0,)) + b"U\x01btR"
        )
        return made + binary((1, value.shape, value.dtype, False, value.tobytes())) + b"b"
    if isinstance(value, Object):
        return name(value.module, value.name) + b")\x81" + binary(value.state) + b"b"
    return {"None": b"N", "False": b"\x89"}.get(str(value)) or b"J" + struct.pack("<i", value)


def text(value):
    """The same of protocol 0."""
    if isinstance(value, dict):
        return b"(d" + b"".join(text(k) + text(v) + b"s" for k, v in value.items())
    if isinstance(value, tuple):
        return b"(" + b"".join(map(text, value)) + b"t"
    if isinstance(value, (str, bytes)):
        data = value.encode() if isinstance(value, str) else value
        return b"S" + repr(data)[1:].encode() + b"\np%d\n" % (len(data) % 1000)
    if isinstance(value, set):
        return name("__builtin__", "set") + b"((ltR"
    if isinstance(value, np.dtype):
        state = (3, value.byteorder.replace("=", "<"), None, None, None, -1, -1, 0)
        return name("numpy", "dtype") + text((value.str[1:], 0, 1)) + b"R" + text(state) + b"b"
    if isinstance(value, np.ndarray):
        made = (
            name("numpy.core.multiarray", "_reconstruct") + b"(" + name("numpy", "ndarray") + text((0,)) + b"S'b'\ntR"
        )
        return made + text((1, value.shape, value.dtype, False, value.tobytes())) + b"b"
    if isinstance(value, Object):
        made = name("copy_reg", "_reconstructor") + b"(" + name(value.module, value.name)
        return made + name("__builtin__", "object") + b"NtR" + text(value.state) + b"b"
    return {"None": b"N", "False": b"I00\n"}.get(str(value)) or (b"L%dL\n" if value > 999 else b"I%d\n") % value


def parts(**changes):
    """The keys of a published file, with what is chumpy's and sparse in it."""
    found = smpl_parts()
    wrapped = {"shapedirs": chumpy(found["shapedirs"][..., :12]), "J_regressor": sparse(found["J_regressor"])}
    others = {"bs_style": "lbs", "J": found["v_template"][:24], "pose_training_info": {"a": (1, None)}}
    return (
        found
        | {"posedirs": found["posedirs"].astype("f4"), "v_template": found["v_template"]}
        | wrapped
        | others
        | changes
    )


def dumped(value):
    return b"\x80\x02" + binary(value) + b"."


@pytest.fixture
def path(tmp_path):
    return tmp_path / "SMPL_NEUTRAL.pkl"


def refused(path, data, words):
    path.write_bytes(data)
    with pytest.raises(MediaError, match=words) as caught:
        smpl.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def same(a, b):
    for part in ("joints", "joint_shapes", "vertices", "vertex_shapes", "weights", "faces", "pose_shapes"):
        torch.testing.assert_close(getattr(a, part), getattr(b, part), atol=0, rtol=0)


@pytest.mark.parametrize("data", [dumped(parts()), text(parts()) + b"."], ids=["protocol 2", "protocol 0"])
def test_a_published_pickle_is_the_body_of_the_same_npz(path, tmp_path, data):
    path.write_bytes(data)
    np.savez(tmp_path / "smpl.npz", **smpl_parts())
    same(smpl.read(path), smpl.read(tmp_path / "smpl.npz"))
    assert characters.load(path).body is not None


@pytest.mark.parametrize("data", [dumped(parts()), text(parts()) + b"."], ids=["protocol 2", "protocol 0"])
def test_python_reads_these_pickles_alike(monkeypatch, data):
    """What this file writes by hand is what the real libraries' classes would come from."""
    for module, inside in (("chumpy.ch", "Ch"), ("scipy.sparse.csc", "csc_matrix")):
        monkeypatch.setitem(sys.modules, module.rpartition(".")[0], types.ModuleType(module.rpartition(".")[0]))
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        setattr(sys.modules[module], inside, type(inside, (), {"__module__": module}))
    found, wanted = pickle.loads(data, encoding="latin1"), smpl_parts()
    assert (found["shapedirs"].x == wanted["shapedirs"][..., :12]).all()
    assert (found["weights"] == wanted["weights"]).all()
    assert found["J_regressor"]._shape == wanted["J_regressor"].shape


def test_one_saved_again_by_python_3_is_read_too(path):
    path.write_bytes(dumped(parts()))
    body = smpl.read(path)
    for protocol in (2, 3, 4):
        path.write_bytes(pickle.dumps(smpl_parts(), protocol=protocol))
        same(smpl.read(path), body)


def test_a_sparse_matrix_adds_up_what_is_given_twice(path):
    dense = np.random.default_rng(0).normal(size=(24, len(smpl_parts()["v_template"])))
    dense[np.random.default_rng(1).random(dense.shape) < 0.9] = 0
    given = sparse(dense)
    for key in ("data", "indices"):
        given.state[key] = np.repeat(given.state[key], 2)
    given.state["data"] = given.state["data"] / 2
    given.state["indptr"] = given.state["indptr"] * 2
    path.write_bytes(dumped(parts(J_regressor=given)))
    expected = torch.from_numpy(dense @ smpl_parts()["v_template"].astype(float)).float()
    torch.testing.assert_close(smpl.read(path).joints, expected, atol=1e-6, rtol=1e-6)


def test_programs_are_refused_and_not_run(path, tmp_path):
    mark = tmp_path / "mark"
    for protocol in (0, 1, 2, 4):
        for call in (
            Calls(os.system, f"touch {mark}"),
            Calls(eval, f"open({str(mark)!r}, 'w')"),
            Calls(os.mkdir, str(mark)),
        ):
            refused(path, pickle.dumps({"v_template": call}, protocol=protocol), r"it asks for .*get SMPL_NEUTRAL\.pkl")
    for data in (
        b"cos\nsystem\n(S'touch %s'\ntR." % bytes(mark),
        dumped(parts(f=Object("os", "environ", a=1))),
        dumped(parts(f=Object("chumpy.ch", "system", a=1))),
        dumped(parts(f=Object("numpy.lib.npyio", "load", a=1))),
        name("__builtin__", "eval") + b"(S'1'\ntR.",
    ):
        refused(path, data, "it asks for")
    refused(path, b"(S'touch %s'\nios\nsystem\n." % bytes(mark), "the instruction INST")
    assert not mark.exists()


def test_stand_ins_are_not_changed_and_make_nothing_else(path):
    kinds = [name("chumpy.ch", "Ch"), name("scipy.sparse.csc", "csc_matrix")]
    for kind in kinds:
        before = dict(vars(unpickle.SMPL.names[tuple(kind[1:].decode().split())]))
        refused(path, b"\x80\x02" + kind + b"}U\x01aK\x01sb.", "argument")  # the state of the class itself
        refused(path, b"\x80\x02" + kind + b"N}U\x05valueK\x01s\x86b.", "argument")
        refused(path, b"\x80\x02" + kind + b".", "neither numbers nor containers")
        refused(path, b"\x80\x02" + kind + b")\x81.", "neither numbers nor containers")
        refused(path, b"\x80\x02" + kind + b")\x81}b.", "without its")
        assert vars(unpickle.SMPL.names[tuple(kind[1:].decode().split())]) == before
    make = name("copy_reg", "_reconstructor") + b"("
    for other in (name("numpy", "ndarray"), name("__builtin__", "set"), b"S'a'\n"):
        refused(path, make + other + name("__builtin__", "object") + b"NtR.", "another class")
    refused(path, name("_codecs", "encode") + b"(S'a'\nS'hex'\ntR.", "not text in latin1")
    own = b"\x80\x02" + name("chumpy.ch", "Ch") + b")\x81q\x00}(U\x01xh\x00ub."  # an array that holds itself
    refused(path, own, "without its array 'x'")


def test_lengths_that_a_file_claims_are_not_believed(path):
    refused(path, b"\x80\x02T\xff\xff\xff\x7fabc.", "expected 2147483647 bytes")
    refused(path, b"\x80\x02T\xff\xff\xff\xffabc.", "count < 0")
    refused(path, b"\x80\x02Nr\xff\xff\xff\x7f.", "noted as number 2147483647")
    refused(path, b"Np2147483647\n.", "noted as number 2147483647")
    refused(path, b"Np-1\n.", "noted as number -1")
    refused(path, b"L" + b"9" * 10_000 + b"L\n.", "limit|digits")
    refused(path, b"\x80\x02" + b"N" * 100 + b"0.", "the instruction POP")
    refused(path, b"\xfe", "unknown instruction")
    refused(path, b"", "ends before its end")
    huge = sparse(smpl_parts()["J_regressor"])
    huge.state["_shape"] = (24, 2**31 - 1)
    refused(path, dumped(parts(J_regressor=huge)), r"'J_regressor' is \(24, 2147483647\); it must be \(24, ")
    short = dumped({"v_template": np.zeros((4, 3))}).replace(b"J\x04\x00\x00\x00", b"J\xff\xff\xff\x7f")
    refused(path, short, "96 bytes for an array")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": None}, "has no weights; get SMPL_NEUTRAL"),
        ({"v_template": np.zeros((5, 2))}, "'J_regressor' is"),
        ({"shapedirs": np.zeros((7, 3, 10))}, "'shapedirs' is float64 .7, 3, 10."),
        ({"v_template": "words"}, "'J_regressor' is"),
        ({"kintree_table": np.zeros((2, 24))}, "joint tree is not SMPL's"),
    ],
)
def test_wrong_parts_are_named(path, changes, words):
    refused(path, dumped({k: v for k, v in parts(**changes).items() if v is not None}), words)


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("indptr", lambda a: a[:-1], "'indptr' is"),
        ("indptr", lambda a: a[::-1], "places that it does not have"),
        ("indptr", lambda a: a + 1, "places that it does not have"),
        ("indices", lambda a: a + 1, "places that it does not have"),
        ("indices", lambda a: a - 1, "places that it does not have"),
        ("data", lambda a: a[:-1], "'data' is"),
        ("data", lambda a: a * np.nan, "finite numbers"),
        ("_shape", lambda _: (24,), "without its two sizes"),
        ("_shape", lambda _: (24, -1), "without its two sizes"),
        ("data", lambda _: (1, 2), "without its array 'data'"),
    ],
)
def test_sparse_matrices_that_are_none_are_refused(path, key, change, words):
    given = sparse(smpl_parts()["J_regressor"])
    given.state[key] = change(given.state[key])
    refused(path, dumped(parts(J_regressor=given)), words)


def test_what_is_no_smpl_file_says_which_is_wanted(path, tmp_path):
    refused(path, dumped((1, 2)), "has no names of arrays; get SMPL_NEUTRAL")
    refused(path, b"PK\x03\x04" + bytes(50), "get SMPL_NEUTRAL")
    with pytest.raises(MediaError, match=r"neither \.pkl nor \.npz; get SMPL_NEUTRAL.*smpl\.is\.tue\.mpg\.de"):
        smpl.read(tmp_path / "body.bin")


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_truncation_is_refused_and_damage_raises_nothing_else(path):
    small = {
        "v_template": np.zeros((2, 3)),
        "shapedirs": chumpy(np.ones((2, 3, 1))),
        "J_regressor": sparse(np.eye(24, 2)),
    }
    draw = random.Random(0)
    for whole in (dumped(small), text(small) + b"."):
        for length in range(0, len(whole), 7):
            refused(path, whole[:length], "not a pickle of plain numbers")
        for _ in range(100):
            data = bytearray(whole)
            for _ in range(draw.randrange(1, 4)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            path.write_bytes(data)
            with contextlib.suppress(BadInput):
                unpickle.read(path, unpickle.SMPL)
