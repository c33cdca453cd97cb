"""Numbers of cases on disk, one file each: an evaluation can stop at any moment, and many processes can share it.

A part belongs to a plan (model, data, protocol, seed), named in its metadata; a part of another plan, or one whose
checksum fails, is measured again.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from framefill.atomic import replacing

Numbers = dict[str, NDArray[np.float64]]


def collect(
    folder: Path, plan: str, indices: Iterable[int], measure: Callable[[int], Numbers], each: Callable[[], None]
) -> None:
    """Measures the cases `indices` that are not in `folder` yet; calls `each` after every one."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in indices:
        path = _path(folder, index)
        if read(path, plan) is None:
            write(path, plan, measure(index))
        each()


def gathered(folder: Path, plan: str, count: int) -> tuple[list[Numbers], list[int]]:
    """The numbers of cases 0..count - 1 that are there, and the indices of those that are not."""
    found = [read(_path(folder, index), plan) for index in range(count)]
    return [n for n in found if n is not None], [i for i, n in enumerate(found) if n is None]


def write(path: Path, plan: str, numbers: Numbers) -> None:
    """Writes one part, whole or not at all."""
    arrays = {name: np.array(value, np.float32, order="C") for name, value in numbers.items()}
    with replacing(path) as part:
        save_file(arrays, part, {"plan": plan, "sha256": _digest(arrays)})


def read(path: Path, plan: str) -> Numbers | None:
    """One part; None if it is not there, damaged, or of another plan."""
    try:
        with safe_open(path, "numpy") as file:
            words = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no dict
    except (OSError, SafetensorError):
        return None
    if words.get("plan") != plan or words.get("sha256") != _digest(arrays):
        return None
    return {name: value.astype(np.float64) for name, value in arrays.items()}


def _digest(arrays: dict[str, NDArray]) -> str:
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(f"{name}|{arrays[name].shape}|".encode() + arrays[name].tobytes())
    return total.hexdigest()


def _path(folder: Path, index: int) -> Path:
    return folder / f"case-{index:06d}.safetensors"
