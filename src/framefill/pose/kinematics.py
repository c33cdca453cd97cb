"""Where joints are, from how they are turned: G_root = R_root, G_j = G_parent R_j, p_j = p_parent + G_parent o_j.

Every joint is composed with its ancestors by doubling: with its parent, then with what those two reach, and so on, so
that a human body takes four small steps whatever the batch.
"""

import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose.skeleton import Skeleton


def forward(skeleton: Skeleton, local: Tensor, root: Tensor, *, offsets: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """World positions (..., J, 3) and global rotations (..., J, 3, 3); differentiable in everything.

    local: rotations (..., J, 3, 3), the root's relative to the world. root: world position (..., 3) of the root joint.
    offsets: (..., J, 3) in place of the skeleton's own, for bodies of different shape.
    Raises BadInput where the number of joints is not the skeleton's.
    """
    _check_joints(skeleton, local)
    bones = (skeleton.offsets.to(local) if offsets is None else offsets).expand(*local.shape[:-2], 3)
    is_root = torch.arange(len(skeleton), device=local.device)[:, None] == skeleton.root
    shift = torch.where(is_root, root[..., None, :], bones)
    still = torch.eye(3).to(local).expand(*local.shape[:-3], 1, 3, 3)
    turn, shift = torch.cat([local, still], -3), torch.cat([shift, torch.zeros_like(shift[..., :1, :])], -2)
    for above in skeleton.jumps:
        above = above.to(local.device)
        base = turn.index_select(-3, above)
        shift = shift.index_select(-2, above) + (base @ shift[..., None])[..., 0]
        turn = base @ turn
    return shift[..., :-1, :], turn[..., :-1, :, :]


def local_from_global(skeleton: Skeleton, rotations: Tensor) -> Tensor:
    """Local rotations (..., J, 3, 3) of global ones: the inverse of what `forward` does to rotations."""
    _check_joints(skeleton, rotations)
    parents = [skeleton.parents[j] if skeleton.parents[j] >= 0 else j for j in range(len(skeleton))]
    local = rotations[..., parents, :, :].transpose(-1, -2) @ rotations
    is_root = torch.tensor([parent < 0 for parent in skeleton.parents], device=rotations.device)
    return torch.where(is_root[:, None, None], rotations, local)


def rest(skeleton: Skeleton) -> Tensor:
    """Joint positions (J, 3) with no joint turned and the root at the origin."""
    identity = torch.eye(3).to(skeleton.offsets).expand(len(skeleton), 3, 3)
    return forward(skeleton, identity, torch.zeros(3).to(skeleton.offsets))[0]


def _check_joints(skeleton: Skeleton, rotations: Tensor) -> None:
    if rotations.ndim < 3 or rotations.shape[-3:] != (len(skeleton), 3, 3):
        raise BadInput(
            f"rotations {tuple(rotations.shape)} for {len(skeleton)} joints; give (..., {len(skeleton)}, 3, 3)"
        )
