"""Poses and motions on their way out: BVH, GLB, NPZ, JSON or a picture, whichever the name asks for, and in again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framefill.atomic import replacing
from framefill.errors import BadInput
from framefill.pose import picture
from framefill.pose.characters import Character
from framefill.pose.effectors import Look, Place, Turn
from framefill.pose.files import amass, asf, bvh, glb
from framefill.pose.motion import Motion
from framefill.pose.solve import Solution
from framefill.pose.turning import logarithm

KINDS = {Place: "position", Turn: "rotation", Look: "look-at"}
SUFFIXES = (".bvh", ".glb", ".npz", ".json", ".png")


def check(path: Path | None, character: Character, *, replace: bool) -> None:
    """BadInput for a name that `write` cannot serve: asked before any work is done."""
    if path is None:
        return
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput(f"{path}: poses are written as {', '.join(SUFFIXES)}; choose a name that ends so")
    if character.body is None and (suffix == ".npz" or (suffix == ".glb" and character.file is None)):
        raise BadInput(f"{path}: {suffix} holds framefill's and SMPL's bodies; write this skeleton as .bvh or .json")
    if path.exists() and not replace:
        raise BadInput(f"{path} is already there; give --overwrite to replace it, or choose another name")
    if not path.absolute().parent.is_dir():
        raise BadInput(f"there is no folder {path.absolute().parent}; make it first")


def write(path: Path, character: Character, motion: Motion, handles: Sequence[Tensor] = ()) -> None:
    """Writes a motion of a character in the form that the name asks for; `handles` are drawn in pictures."""
    suffix, body = path.suffix.lower(), character.body
    if suffix == ".bvh":
        bvh.write(path, motion)
    elif suffix == ".png":
        picture.write(path, motion.skeleton, motion.world()[0], handles)
    elif suffix == ".json":
        with replacing(path) as part:
            part.write_text(json.dumps(described(motion)) + "\n")
    elif character.file is not None and suffix == ".glb":
        glb.write_rig(path, character.file, motion)
    elif body is not None and suffix == ".glb":
        glb.write(path, motion, body, character.shape)
    elif body is not None:
        shape = torch.zeros(body.joint_shapes.shape[-1])
        shape[: len(character.shape)] = torch.tensor(character.shape)
        amass.write(path, amass.take(motion, body, shape, character.gender))


def described(motion: Motion) -> dict[str, Any]:
    """A motion as plain numbers: metres, and axis times angle in radians, since rest and relative to the parent joint.

    The axes are the world's at rest, whatever axes a rig's file gives its joints (`axes`).
    """
    positions, _ = motion.world()
    turns = np.round(logarithm(motion.local.double().numpy()), 6).tolist()
    places = np.round(positions.double().numpy(), 6).tolist()
    names = motion.skeleton.names
    return {
        "joints": list(names),
        "parents": list(motion.skeleton.parents),
        "seconds": motion.seconds,
        "poses": [
            {"positions": dict(zip(names, place, strict=True)), "rotations": dict(zip(names, turn, strict=True))}
            for place, turn in zip(places, turns, strict=True)
        ],
    }


def missed(found: Solution, sample: int = 0) -> list[dict[str, Any]]:
    """How far every handle is missed: millimetres or radians, and whether that is within its tolerance."""
    rows = []
    for effector, miss in zip(found.effectors, found.misses[sample].tolist(), strict=True):
        place = isinstance(effector, Place)
        rows.append(
            {"joint": effector.joint, "kind": KINDS[type(effector)], "missed": round(1000 * miss if place else miss, 4),
             "unit": "mm" if place else "rad", "met": miss <= max(effector.tolerance, 1e-3)}
        )  # fmt: skip
    return rows


def motion_of(path: Path, character: Character | None = None) -> Motion:
    """The motion in a .bvh, .glb, .amc or (AMASS) .npz; the last is worn by `character`, or by framefill's own body."""
    suffix = path.suffix.lower()
    if suffix == ".bvh":
        return bvh.read(path)
    if suffix == ".glb":
        return glb.read(path)
    if suffix == ".npz":
        from framefill.pose.human import human

        take = amass.read(path)
        body = character.body if character and character.body else human(take.gender)
        return take.motion(body)
    if suffix == ".amc":
        return asf.read(path)
    raise BadInput(f"{path}: motion is read from .bvh, .glb, .amc and AMASS's .npz; give one of these")
