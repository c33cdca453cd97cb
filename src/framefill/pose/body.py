"""A human body of 24 joints: a rest pose that is linear in ten numbers of shape, and a skin that follows the joints.

Joint tree, joint order and axes are SMPL's (x to the body's left, y up, z forward; the rest pose is a T), so that its
poses can be worn by either body; no number of this module's own body comes from SMPL.

    joints(shape)  = joints + joint_shapes shape
    skin(pose)     = sum_j weight_j (G_j (vertex(shape) - joint_j(shape)) + p_j)          (linear blend skinning)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose import kinematics
from framefill.pose.skeleton import Skeleton

NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
COMPONENTS = 10
GENDERS = ("male", "female", "neutral")  # in the published network's order: 0, 1, 2


@dataclass(frozen=True)
class Body:
    """A rest pose, its ten directions of change, and a skin.

    joints (J, 3) and vertices (V, 3) in metres; joint_shapes (J, 3, K) and vertex_shapes (V, 3, K) in metres per unit;
    weights (V, J), rows of which add up to 1; faces (F, 3) of vertex numbers, counter-clockwise from outside;
    pose_shapes (V, 3, 9 (J - 1)) or none: what SMPL adds for every entry of the rotations minus the identity.
    Raises BadInput for parts that do not fit each other.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    joints: Tensor = field(compare=False)
    joint_shapes: Tensor = field(compare=False)
    vertices: Tensor = field(compare=False)
    vertex_shapes: Tensor = field(compare=False)
    weights: Tensor = field(compare=False)
    faces: Tensor = field(compare=False)
    pose_shapes: Tensor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _check(self)

    def rest(self, shape: Tensor | Sequence[float] = ()) -> Tensor:
        """Joint positions (..., J, 3) of the rest pose; shape (..., up to K), missing numbers are 0."""
        return self.joints + torch.einsum("jck,...k->...jc", self.joint_shapes, self._whole(shape))

    def offsets(self, shape: Tensor | Sequence[float] = ()) -> Tensor:
        """Bones (..., J, 3) for `kinematics.forward`; the root's is zero."""
        joints = self.rest(shape)
        root = self.parents.index(-1)
        return joints - joints[..., [root if p < 0 else p for p in self.parents], :]

    @cached_property
    def tree(self) -> Skeleton:
        """The hierarchy at shape 0."""
        return self.skeleton()

    def skeleton(self, shape: Tensor | Sequence[float] = ()) -> Skeleton:
        """The hierarchy of one body shape (up to K,)."""
        return Skeleton(self.names, self.parents, self.offsets(shape))

    def pose(self, local: Tensor, root: Tensor, shape: Tensor | Sequence[float] = ()) -> tuple[Tensor, Tensor]:
        """World positions (..., J, 3) and global rotations (..., J, 3, 3) of a body in a pose."""
        return kinematics.forward(self.tree, local, root, offsets=self.offsets(shape))

    def skin(self, local: Tensor, root: Tensor, shape: Tensor | Sequence[float] = ()) -> Tensor:
        """Vertices (..., V, 3) in the world, by linear blend skinning (Loper et al. 2015, eq. 2 and 6)."""
        positions, turned = self.pose(local, root, shape)
        vertices = self.vertices + torch.einsum("vck,...k->...vc", self.vertex_shapes, self._whole(shape))
        if self.pose_shapes is not None:
            bent = (local[..., 1:, :, :] - torch.eye(3).to(local)).flatten(-3)
            vertices = vertices + torch.einsum("vcn,...n->...vc", self.pose_shapes, bent)
        moved = positions - (turned @ self.rest(shape)[..., None])[..., 0]
        turn = torch.einsum("vj,...jab->...vab", self.weights, turned)
        return (turn @ vertices[..., None])[..., 0] + self.weights @ moved

    def root_of(self, translation: Tensor, shape: Tensor | Sequence[float] = ()) -> Tensor:
        """Where the root joint is (..., 3) under SMPL's `transl`, which is added to the joint's place at rest."""
        return translation + self.rest(shape)[..., self.parents.index(-1), :]

    def _whole(self, shape: Tensor | Sequence[float]) -> Tensor:
        """`shape` (..., K), filled up with zeros. Raises BadInput for more numbers than there are, or none."""
        given = torch.as_tensor(shape, dtype=self.joints.dtype, device=self.joints.device)
        room = self.joint_shapes.shape[-1] - given.shape[-1]
        if room < 0 or not torch.isfinite(given).all():
            raise BadInput(f"a shape of {given.shape[-1]} numbers; give up to {given.shape[-1] + room} finite ones")
        return torch.nn.functional.pad(given, (0, room))


def _check(body: Body) -> None:
    joints, vertices, components = len(body.names), len(body.vertices), body.joint_shapes.shape[-1]
    wanted = {
        "joints": (joints, 3), "joint_shapes": (joints, 3, components), "vertices": (vertices, 3),
        "vertex_shapes": (vertices, 3, components), "weights": (vertices, joints), "faces": (len(body.faces), 3),
    }  # fmt: skip
    if body.pose_shapes is not None:
        wanted["pose_shapes"] = (vertices, 3, 9 * (joints - 1))
    for name, shape in wanted.items():
        part = getattr(body, name)
        if part.shape != shape or not torch.isfinite(part).all():
            raise BadInput(f"the body's {name} are {tuple(part.shape)} or not finite; this body needs finite {shape}")
    if body.faces.numel() and not 0 <= int(body.faces.min()) <= int(body.faces.max()) < vertices:
        raise BadInput(f"the body's faces name vertices that are not among its {vertices}; take another copy")
    body.skeleton()  # refuses what is no tree
