"""A SMPL body that the user has a licence for, from its .npz: nothing of SMPL ships with framefill.

From smpl.is.tue.mpg.de come SMPL_NEUTRAL, SMPL_MALE and SMPL_FEMALE as .pkl; as plain arrays they are the same keys in
an .npz. Pickles are not read: they are programs.
"""

from pathlib import Path

import torch

from framefill.errors import MediaError
from framefill.pose.body import COMPONENTS, NAMES, PARENTS, Body
from framefill.pose.files import arrays

WANTED = ("v_template", "shapedirs", "J_regressor", "weights", "f", "posedirs", "kintree_table")
HOW = (
    "get SMPL from smpl.is.tue.mpg.de, save v_template, shapedirs, J_regressor (dense), weights, f, posedirs and "
    "kintree_table of the .pkl with numpy.savez, and give the path of that .npz"
)


def read(path: Path) -> Body:
    """The user's SMPL body, its first 10 shape components, float32.

    Raises MediaError that says which file is needed, from where, and in which form.
    """
    if path.suffix.lower() != ".npz":
        raise MediaError(f"{path} is not an .npz; {HOW}")
    if not path.is_file():
        raise MediaError(f"there is no file {path}; {HOW}")
    found = arrays.read(path, WANTED)
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


def _check_tree(path: Path, found: dict) -> None:
    if "kintree_table" in found:
        table = arrays.need(path, found, "kintree_table", (2, len(NAMES)))
        if tuple(int(p) for p in table[0, 1:]) != PARENTS[1:]:
            raise MediaError(f"{path}: its joint tree is not SMPL's; SMPL-H and SMPL-X bodies are not taken here")
