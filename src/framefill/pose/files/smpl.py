"""A SMPL body that the user has a licence for: nothing of SMPL ships with framefill.

From smpl.is.tue.mpg.de come SMPL_NEUTRAL, SMPL_MALE and SMPL_FEMALE as .pkl of Python 2, which `framefill.unpickle`
reads without running them; the same keys in an .npz are read as well.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from framefill import unpickle
from framefill.errors import BadInput, MediaError
from framefill.pose.body import COMPONENTS, NAMES, PARENTS, Body
from framefill.pose.files import arrays

WANTED = ("v_template", "shapedirs", "J_regressor", "weights", "f", "posedirs", "kintree_table")
HOW = (
    "get SMPL_NEUTRAL.pkl, SMPL_MALE.pkl or SMPL_FEMALE.pkl of SMPL (24 joints; not SMPL-H or SMPL-X) from "
    "smpl.is.tue.mpg.de, put it anywhere, and give its path; its keys in an .npz do as well"
)


def read(path: Path) -> Body:
    """The user's SMPL body in a .pkl or .npz, its first 10 shape components, float32.

    Raises MediaError that says which file is needed, from where, and in which form.
    """
    if path.suffix.lower() not in (".npz", ".pkl"):
        raise MediaError(f"{path} is neither .pkl nor .npz; {HOW}")
    if not path.is_file():
        raise MediaError(f"there is no file {path}; {HOW}")
    found = _pickled(path) if path.suffix.lower() == ".pkl" else arrays.read(path, WANTED)
    missing = [name for name in WANTED[:5] if name not in found]
    if missing:
        raise MediaError(f"{path} has no {', '.join(missing)}; {HOW}")
    template = arrays.need(path, found, "v_template", (None, 3))
    shapes = arrays.need(path, found, "shapedirs", (len(template), 3, None))[..., :COMPONENTS]
    regressor = arrays.need(path, found, "J_regressor", (len(NAMES), len(template)))
    weights = arrays.need(path, found, "weights", (len(template), len(NAMES)))
    faces = arrays.need(path, found, "f", (None, 3))
    _check_tree(path, found)
    poses = None
    if "posedirs" in found:
        poses = torch.from_numpy(arrays.need(path, found, "posedirs", (len(template), 3, 9 * (len(NAMES) - 1)))).float()
    regress = torch.from_numpy(regressor)
    vertices, directions = torch.from_numpy(template), torch.from_numpy(shapes)
    return Body(
        NAMES, PARENTS, (regress @ vertices).float(), torch.einsum("jv,vck->jck", regress, directions).float(),
        vertices.float(), directions.float(), torch.from_numpy(weights).float(), torch.from_numpy(faces).long(),
        poses,
    )  # fmt: skip


def _pickled(path: Path) -> dict[str, NDArray]:
    """The arrays among `WANTED` in a .pkl. Raises MediaError; nothing of the file is run."""
    try:
        found = unpickle.read(path, unpickle.SMPL)
    except BadInput as error:
        raise MediaError(f"{error}; {HOW}") from error
    if not isinstance(found, dict):
        raise MediaError(f"{path} has no names of arrays; {HOW}")
    template = found.get("v_template")
    vertices = len(template) if isinstance(template, np.ndarray) and template.ndim else 0
    if isinstance(regressor := found.get("J_regressor"), unpickle.Sparse):
        found["J_regressor"] = _dense(path, regressor, (len(NAMES), vertices))
    return {name: value for name, value in found.items() if name in WANTED and isinstance(value, np.ndarray)}


def _dense(path: Path, sparse: unpickle.Sparse, shape: tuple[int, int]) -> NDArray:
    """A sparse matrix written out; entries that are given twice add up. Raises MediaError."""
    parts: dict[str, Any] = {"data": sparse.data, "indices": sparse.indices, "indptr": sparse.indptr}
    if sparse.shape != shape:
        raise MediaError(f"{path}: 'J_regressor' is {sparse.shape}; it must be {shape}, joints by vertices; {HOW}")
    starts = arrays.need(path, parts, "indptr", (shape[1] + 1,))
    rows = arrays.need(path, parts, "indices", (None,))
    values = arrays.need(path, parts, "data", (len(rows),))
    counts = np.diff(starts)
    if starts[0] != 0 or starts[-1] != len(rows) or (counts < 0).any() or ((rows < 0) | (rows >= shape[0])).any():
        raise MediaError(f"{path}: the sparse 'J_regressor' names places that it does not have; take another copy")
    dense = np.zeros(shape)
    columns = np.repeat(np.arange(shape[1]), counts.astype(np.int64))
    np.add.at(dense, (rows.astype(np.int64), columns), values)
    return dense


def _check_tree(path: Path, found: dict) -> None:
    if "kintree_table" in found:
        table = arrays.need(path, found, "kintree_table", (2, len(NAMES)))
        if tuple(int(p) for p in table[0, 1:]) != PARENTS[1:]:
            raise MediaError(f"{path}: its joint tree is not SMPL's; SMPL-H and SMPL-X bodies are not taken here")
