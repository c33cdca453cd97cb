"""Which joint of a skeleton is the knee: roles, named as framefill's own body names its joints, found by name or place.

Names say side and limb ("mixamorig:LeftForeArm", "upper_arm.L", "lfemur"); what a joint is within its limb its bones
say, for one rig's shoulder is another's collar: hip, knee and ankle, or shoulder, elbow and wrist, are the three whose
two bones are longest. Where names say nothing, legs end lowest and arms widest, and feet point forward.
"""

import re
from collections.abc import Mapping

import numpy as np

from framefill.errors import BadInput
from framefill.pose import kinematics
from framefill.pose.skeleton import Skeleton
from framefill.pose.turning import Floats, unit

LEG = frozenset({
    "hip", "hipjoint", "leg", "upleg", "thigh", "femur", "knee", "shin", "calf", "tibia", "lowleg", "ankle", "foot",
    "toe", "toes", "toebase", "ball",
})  # fmt: skip
ARM = frozenset({
    "collar", "clavicle", "shoulder", "arm", "humerus", "elbow", "forearm", "radius", "wrist", "hand",
})  # fmt: skip
OTHER = frozenset({
    "finger", "fingers", "thumb", "index", "middle", "ring", "pinky", "end", "nub", "site", "twist", "roll", "eye",
    "jaw", "ik", "pole", "weapon", "prop", "heel",
})  # fmt: skip
SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
ROLES = {"leg": ("hip", "knee", "ankle", "foot"), "arm": ("shoulder", "elbow", "wrist", "hand")}
UP = np.array([0.0, 1.0, 0.0])
Chains = dict[tuple[str, str], list[int]]


def roles(skeleton: Skeleton) -> dict[str, int]:
    """The joint of every role that was found: framefill's joint names ("left_knee") to places in the skeleton.

    A body without two legs or two arms that can be told apart has fewer roles, or none.
    """
    rest = kinematics.rest(skeleton).double().numpy()
    names = [words(name) for name in skeleton.names]
    chains = _by_name(skeleton, names)
    if len(chains) < 4:
        chains = _by_place(skeleton, rest) | chains
    found: dict[str, int] = {}
    for (side, limb), chain in chains.items():
        _name_limb(found, rest, chain, side, limb)
    _name_trunk(found, skeleton, names)
    return found


def need(skeleton: Skeleton, wanted: tuple[str, ...]) -> list[int]:
    """The joints of some roles. Raises BadInput that names the parts the rig lacks."""
    found = roles(skeleton)
    missing = [role for role in wanted if role not in found]
    if missing:
        raise BadInput(
            f"no joint of this rig could be taken for {', '.join(missing)}; it has {', '.join(skeleton.names[:8])}: "
            "name its joints by side and limb, such as left_knee"
        )
    return [found[role] for role in wanted]


def frame(rest: Floats, found: Mapping[str, int]) -> Floats:
    """Where left, up and forward are, as columns (3, 3), of joints at rest (J, 3); the axes themselves without hips."""
    pair = next((p for p in ("hip", "shoulder") if {f"left_{p}", f"right_{p}"} <= found.keys()), None)
    if pair is None:
        return np.eye(3)
    left = rest[found[f"left_{pair}"]] - rest[found[f"right_{pair}"]]
    left = unit(left - left[1] * UP)
    return np.stack([left, UP, np.cross(left, UP)], 1) if left.any() else np.eye(3)


def words(name: str) -> set[str]:
    """A joint's name as small words: prefixes, digits and joining letters gone, one side as left or right."""
    name = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3_\2\4", name.rpartition(":")[2])
    parts = {part for part in re.split(r"[^a-z]+", name.lower()) if part}
    for part in tuple(parts):
        for side, whole in SIDES.items():
            inner = part.removeprefix(side)
            if inner != part and inner in LEG | ARM | OTHER:
                parts = parts - {part} | {whole, inner}
    return {SIDES.get(part, part) for part in parts}


def _by_name(skeleton: Skeleton, names: list[set[str]]) -> Chains:
    chains: Chains = {}
    depth = [len(skeleton.above(joint)) for joint in range(len(skeleton))]
    for joint in sorted(range(len(skeleton)), key=depth.__getitem__):
        side = names[joint] & {"left", "right"}
        for limb, vocabulary in (("leg", LEG), ("arm", ARM)):
            if len(side) == 1 and names[joint] & vocabulary and not names[joint] & OTHER:
                chain = chains.setdefault((next(iter(side)), limb), [])
                if not chain or chain[-1] in skeleton.above(joint):
                    chain.append(joint)
    return {key: chain for key, chain in chains.items() if len(chain) > 2}


def _by_place(skeleton: Skeleton, rest: Floats) -> Chains:
    paths = {
        j: [*reversed(skeleton.above(j)), j]
        for j in range(len(skeleton))
        if not skeleton.children(j) and j != skeleton.root
    }
    lowest = sorted(paths, key=lambda leaf: rest[leaf, 1])
    legs = _apart(paths, lowest, 4)
    if legs is None:
        return {}
    across = rest[legs[0][0]] - rest[legs[1][0]]
    across = unit(across - across[1] * UP)
    forward = sum(rest[leg[-1]] - rest[leg[-2]] for leg in legs)
    forward = forward - forward[1] * UP - (forward @ across) * across
    forward = forward if np.linalg.norm(forward) > 0.01 else np.array([0.0, 0.0, 1.0])
    if np.cross(UP, forward) @ across < 0:
        across, legs = -across, legs[::-1]
    rest_of = [leaf for leaf in paths if not {legs[0][0], legs[1][0]} & set(paths[leaf])]
    wide = sorted(rest_of, key=lambda leaf: -(rest[leaf] @ across))
    arms = _apart(paths, [*wide[:1], *wide[:0:-1]], 3) if len(wide) > 1 else None
    found: Chains = {("left", "leg"): legs[0], ("right", "leg"): legs[1]}
    return found | ({("left", "arm"): arms[0], ("right", "arm"): arms[1]} if arms else {})


def _apart(paths: dict[int, list[int]], leaves: list[int], least: int) -> tuple[list[int], list[int]] | None:
    """The ways to the first leaf and to the next one whose way is another, from where they part."""
    for leaf in leaves[1:]:
        a, b = paths[leaves[0]], paths[leaf]
        shared = sum(1 for x, y in zip(a, b, strict=False) if x == y)
        if min(len(a), len(b)) - shared >= least - 1:
            return a[shared:], b[shared:]
    return None


def _name_limb(found: dict[str, int], rest: Floats, chain: list[int], side: str, limb: str) -> None:
    lengths = np.linalg.norm(np.diff(rest[chain], axis=0), axis=1)
    if len(chain) < 3:
        return
    first = int((lengths[:-1] + lengths[1:]).argmax())
    for role, joint in zip(ROLES[limb], chain[first:], strict=False):
        found[f"{side}_{role}"] = joint
    if limb == "arm" and first:
        found[f"{side}_collar"] = chain[first - 1]


def _name_trunk(found: dict[str, int], skeleton: Skeleton, names: list[set[str]]) -> None:
    found["pelvis"] = _meeting(skeleton, found.get("left_hip"), found.get("right_hip"), skeleton.root)
    tops = [found.get(f"{side}_collar", found.get(f"{side}_shoulder")) for side in ("left", "right")]
    chest = _meeting(skeleton, tops[0], tops[1], -1)
    if chest < 0 or found["pelvis"] not in skeleton.above(chest):
        return
    above = skeleton.above(chest)
    spine = [*reversed(above[: above.index(found["pelvis"])]), chest]
    found["spine3"] = chest
    found |= {"spine1": spine[0]} if len(spine) > 1 else {}
    if len(spine) > 2:
        found["spine2"] = spine[len(spine) // 2]
    limbs = {joint for joint in tops if joint is not None}
    for child in skeleton.children(chest):
        if child not in limbs and not names[child] & ({"left", "right"} | OTHER):
            found["neck"] = child
            head = [j for j in range(len(skeleton)) if child in skeleton.above(j) and not names[j] & OTHER]
            named = [joint for joint in head if "head" in names[joint]] or head
            found |= {"head": named[0]} if named else {}
            return


def _meeting(skeleton: Skeleton, a: int | None, b: int | None, otherwise: int) -> int:
    """The joint nearest to both among their ancestors."""
    if a is None or b is None:
        return otherwise
    above = skeleton.above(b)
    return next((joint for joint in skeleton.above(a) if joint in above), otherwise)
