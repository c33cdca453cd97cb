"""A joint hierarchy: names, parents, and the offset of every joint from its parent in the rest pose.

Joints may stand in any order. One root, no cycles and no bone of length zero: a skeleton that breaks this is refused
when it is made, so that everything behind it may rely on it.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from framefill.errors import BadInput

SHORTEST = 1e-6  # metres: a shorter bone has no direction
ALIKE = 1e-4  # metres by which bones that are the same may differ: files round
MOST_JOINTS = 4096


@dataclass(frozen=True)
class Skeleton:
    """Names, parents (-1 for the root) and offsets (J, 3) in metres, in the parent's frame; the root's is ignored.

    Raises BadInput for a hierarchy that is no tree with one root, for names given twice, for bones shorter than a
    thousandth of a millimetre, and for offsets that are not finite.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Tensor = field(compare=False)

    def __post_init__(self) -> None:
        _check_tree(self.names, self.parents)
        _check_offsets(self)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def root(self) -> int:
        """The place of the root joint."""
        return self.parents.index(-1)

    @cached_property
    def jumps(self) -> tuple[Tensor, ...]:
        """The ancestors (J + 1,) 1, 2, 4, 8 ... steps above every joint, while any has one; J stands for none."""
        none = len(self)
        above = (*(none if parent < 0 else parent for parent in self.parents), none)
        found = []
        while any(joint != none for joint in above):
            found.append(torch.tensor(above))
            above = tuple(above[joint] for joint in above)
        return tuple(found)

    @property
    def lengths(self) -> Tensor:
        """The bone (J,) from every joint to its parent in metres; 0 for the root."""
        lengths = self.offsets.norm(dim=-1)
        return torch.where(torch.arange(len(self), device=lengths.device) == self.root, 0, lengths)

    def above(self, joint: int) -> list[int]:
        """The ancestors of a joint, the nearest first."""
        found = []
        while (joint := self.parents[joint]) >= 0:
            found.append(joint)
        return found

    @cached_property
    def carries(self) -> Tensor:
        """Bool (J, J): whether turning joint j (column) moves joint i (row), that is, j is above i."""
        mask = torch.zeros(len(self), len(self), dtype=torch.bool)
        for joint in range(len(self)):
            mask[joint, self.above(joint)] = True
        return mask

    def children(self, joint: int) -> list[int]:
        """The joints right below a joint."""
        return [child for child, parent in enumerate(self.parents) if parent == joint]

    def index(self, name: str) -> int:
        """The place of a joint. Raises BadInput that lists the nearest names."""
        if name not in self.names:
            near = difflib.get_close_matches(name, self.names, 3, 0.3) or self.names
            raise BadInput(f"there is no joint {name!r}; the nearest are {', '.join(near)}")
        return self.names.index(name)

    @property
    def hangs(self) -> dict[str, str]:
        """Every joint's parent by name; "" above the root."""
        parents = ("" if parent < 0 else self.names[parent] for parent in self.parents)
        return dict(zip(self.names, parents, strict=True))

    def same(self, other: "Skeleton") -> bool:
        """Whether the other has the same joints in the same order, and the same bones to 0.1 mm."""
        if (self.names, self.parents) != (other.names, other.parents):
            return False
        apart = (self.offsets.double() - other.offsets.double()).norm(dim=-1)
        apart[self.root] = 0
        return bool(apart.max() < ALIKE)

    def renamed(self, names: Mapping[str, str]) -> "Skeleton":
        """The same skeleton with other names for some joints."""
        return Skeleton(tuple(names.get(name, name) for name in self.names), self.parents, self.offsets)


def _check_tree(names: Sequence[str], parents: Sequence[int]) -> None:
    if not 0 < len(names) <= MOST_JOINTS or len(names) != len(parents):
        raise BadInput(
            f"{len(names)} joint names, {len(parents)} parents; give one for each of at most {MOST_JOINTS} joints"
        )
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise BadInput(f"several joints are called {', '.join(twice[:3])}; give every joint a name of its own")
    if any(not -1 <= parent < len(names) for parent in parents):
        raise BadInput(f"joint parents {min(parents)} to {max(parents)} among {len(names)} joints; -1 marks the root")
    _check_acyclic(names, parents)  # first: a cycle often leaves what was below it without a parent, a second root
    roots = [names[i] for i, parent in enumerate(parents) if parent == -1]
    if len(roots) > 1:
        raise BadInput(f"the hierarchy has {len(roots)} roots ({', '.join(roots[:3])}); join them under one")


def _check_acyclic(names: Sequence[str], parents: Sequence[int]) -> None:
    """Every joint leads up to the root: without a root, or off the way to it, there is a cycle."""
    safe = {-1}
    for start in range(len(parents)):
        way, joint = [], start
        while joint not in safe and joint not in way:
            way.append(joint)
            joint = parents[joint]
        if joint not in safe:
            raise BadInput(
                f"the hierarchy is cyclic: the joint {names[joint]!r} is its own ancestor; make it a tree with one root"
            )
        safe.update(way)


def _check_offsets(skeleton: Skeleton) -> None:
    offsets = skeleton.offsets
    if offsets.shape != (len(skeleton), 3) or not torch.isfinite(offsets).all():
        raise BadInput(f"joint offsets {tuple(offsets.shape)}; give finite metres ({len(skeleton)}, 3)")
    lengths = skeleton.lengths
    for joint in range(len(skeleton)):
        if joint != skeleton.root and lengths[joint] < SHORTEST:
            raise BadInput(
                f"the bone from {skeleton.names[skeleton.parents[joint]]!r} to {skeleton.names[joint]!r} has length "
                "zero; give it a length or merge the two joints"
            )
