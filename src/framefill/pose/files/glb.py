"""glTF 2.0 in one binary file: a skinned body and its motion out, the joints and the motion of a rig in and back.

glTF is in metres with y up, as framefill is. Rotations are quaternions with w last; a joint's node stands at its offset
from its parent, and the root's translation is animated. What comes in may have been written by anyone: the file's own
lengths, counts and offsets only ever choose within the bytes that are there.
"""

import json
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.atomic import replacing
from framefill.errors import BadInput, MediaError
from framefill.pose import rotations
from framefill.pose.axes import Axes
from framefill.pose.body import Body
from framefill.pose.motion import Motion
from framefill.pose.skeleton import MOST_JOINTS, Skeleton

LARGEST = 2**28  # bytes of a file
FLOAT, WORD, BYTE = 5126, 5125, 5121
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
TYPES = {FLOAT: np.dtype("<f4"), WORD: np.dtype("<u4"), BYTE: np.dtype("u1")}


class _Writer:
    """Arrays in one buffer, and the accessors that name them."""

    def __init__(self) -> None:
        self.data, self.views, self.accessors = bytearray(), [], []  # type: ignore[var-annotated]

    def add(self, values: NDArray, kind: str, *, bounds: bool = False) -> int:
        """The accessor of an array (n,) or (n, width)."""
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": values.nbytes})
        self.data += values.tobytes() + b"\0" * (-values.nbytes % 4)
        code = next(code for code, dtype in TYPES.items() if dtype == values.dtype)
        accessor = {"bufferView": len(self.views) - 1, "componentType": code, "count": len(values), "type": kind}
        if bounds:
            rows = values.reshape(len(values), -1)
            accessor |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def write(path: Path, motion: Motion, body: Body, shape: Any = ()) -> None:
    """Writes a body, its skin and its motion, at most four joints per vertex, in float32.

    Raises BadInput where the motion is of another hierarchy than the body, Failed where the file cannot be written.
    """
    if (motion.skeleton.names, motion.skeleton.parents) != (body.names, body.parents):
        raise BadInput("the motion and the body have different joints; retarget the motion first")
    out = _Writer()
    rest = body.rest(shape).double()
    identity = torch.eye(3).to(body.joints).expand(len(body.names), 3, 3)
    skin = body.skin(identity, body.rest(shape)[motion.skeleton.root], shape)
    mesh = _mesh(out, body, skin.numpy().astype("<f4"))
    inverse = torch.eye(4).expand(len(rest), 4, 4).clone()
    inverse[:, 3, :3] = -rest.float()  # column by column, as glTF stores matrices
    bind = out.add(inverse.flatten(1).numpy().astype("<f4"), "MAT4")
    offsets = body.offsets(shape).double()
    offsets[motion.skeleton.root] = rest[motion.skeleton.root]
    nodes: list[dict[str, Any]] = [
        {"name": name, "translation": offsets[j].tolist()}
        | ({"children": motion.skeleton.children(j)} if motion.skeleton.children(j) else {})
        for j, name in enumerate(body.names)
    ]
    nodes.append({"name": "body", "mesh": 0, "skin": 0})
    content = {
        "asset": {"version": "2.0", "generator": "framefill"},
        "scene": 0,
        "scenes": [{"nodes": [motion.skeleton.root, len(rest)]}],
        "nodes": nodes,
        "meshes": [mesh],
        "skins": [{"joints": list(range(len(rest))), "inverseBindMatrices": bind, "skeleton": motion.skeleton.root}],
        "animations": [_animation(out, motion)],
        "accessors": out.accessors,
        "bufferViews": out.views,
        "buffers": [{"byteLength": len(out.data)}],
    }
    _save(path, content, bytes(out.data))


def _save(path: Path, content: Any, data: bytes) -> None:
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    with replacing(path) as part, part.open("wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(data)))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", len(data), b"BIN\0") + data)


def _mesh(out: _Writer, body: Body, vertices: NDArray) -> dict[str, Any]:
    weights, joints = body.weights.topk(min(4, body.weights.shape[1]), dim=1)
    weights = weights / weights.sum(1, keepdim=True)
    attributes = {
        "POSITION": out.add(vertices, "VEC3", bounds=True),
        "JOINTS_0": out.add(joints.numpy().astype("u1"), "VEC4"),
        "WEIGHTS_0": out.add(weights.numpy().astype("<f4"), "VEC4"),
    }
    return {
        "primitives": [
            {"attributes": attributes, "indices": out.add(body.faces.flatten().numpy().astype("<u4"), "SCALAR")}
        ]
    }


def _animation(out: _Writer, motion: Motion) -> dict[str, Any]:
    times = out.add((np.arange(len(motion)) * motion.seconds).astype("<f4"), "SCALAR", bounds=True)
    quaternions = rotations.to_quaternion(motion.local.double()).roll(-1, -1)
    flips = (quaternions[1:] * quaternions[:-1]).sum(-1).sign()  # viewers interpolate the short way
    quaternions[1:] *= torch.where(flips < 0, -1.0, 1.0).cumprod(0)[..., None]
    tracks = [
        (j, "rotation", out.add(quaternions[:, j].numpy().astype("<f4"), "VEC4")) for j in range(len(motion.skeleton))
    ]
    tracks.append((motion.skeleton.root, "translation", out.add(motion.root.numpy().astype("<f4"), "VEC3")))
    samplers = [{"input": times, "output": accessor, "interpolation": "LINEAR"} for _, _, accessor in tracks]
    channels = [{"sampler": i, "target": {"node": j, "path": path}} for i, (j, path, _) in enumerate(tracks)]
    return {"samplers": samplers, "channels": channels}


def read(path: Path, *, still: bool = False) -> Motion:
    """The joints of the first skin with the first animation (one still frame without any), float64.

    Joints are turned since rest, which is how the nodes stand, along the world's axes then (`axes`), whatever axes the
    file gives them.
    still: the one frame in which the nodes stand, whatever the animation does; else frames are those of the animation,
    evenly spaced. Raises MediaError for a file that is damaged, is no binary glTF, or holds what framefill's joints
    cannot do (scaled or sheared joints, joints moved by the animation); BadInput for hierarchies that are refused.
    """
    with _refusing(path):
        content, data = _chunks(path)
        return _motion(_Reader(content | {"animations": []} if still else content, data))


def axes(path: Path) -> Axes:
    """How the joints' own axes in a file lie at rest. Raises MediaError as `read` does."""
    with _refusing(path):
        content, data = _chunks(path)
        return RigNodes(_Reader(content | {"animations": []}, data)).axes


def write_rig(path: Path, source: Path, motion: Motion) -> None:
    """Writes the rig of `source`, its meshes, skins and materials as they are, with the motion as its one animation.

    The motion is in metres in the world; the joints get it in the units and axes of their file. Raises BadInput where
    the motion is of other joints, MediaError for a source that `read` refuses or that keeps its data elsewhere.
    """
    with _refusing(source):
        content, data = _chunks(source)
        rig = RigNodes(_Reader(content | {"animations": []}, data))
        if (rig.skeleton.names, rig.skeleton.parents) != (motion.skeleton.names, motion.skeleton.parents):
            raise BadInput(f"the motion and {source} have different joints; retarget the motion first")
        if not content.get("buffers") or "uri" in content["buffers"][0]:
            raise ValueError("its first buffer is not in the file")
        local = rig.axes.in_file(motion.local)
        local[:, rig.root] = rig.turn.T @ local[:, rig.root]
        own = Motion(motion.skeleton, local, rig.from_world(motion.root.double()), motion.seconds)
        out = _Writer()
        out.data += data + b"\0" * (-len(data) % 4)
        out.views, out.accessors = [*content.get("bufferViews", ())], [*content.get("accessors", ())]
        animation = _animation(out, own)
        for channel in animation["channels"]:
            channel["target"]["node"] = rig.joints[channel["target"]["node"]]
        parts = {"animations": [animation], "accessors": out.accessors, "bufferViews": out.views}
        buffers = [content["buffers"][0] | {"byteLength": len(out.data)}, *content["buffers"][1:]]
    _save(path, content | parts | {"buffers": buffers}, bytes(out.data))


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file as one MediaError."""
    try:
        yield
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MediaError(f"{path} is no binary glTF with a skin ({reason}); export it again as .glb") from error


def _chunks(path: Path) -> tuple[Any, bytes]:
    with path.open("rb") as file:
        whole = file.read(LARGEST + 1)
    if len(whole) > LARGEST:
        raise ValueError(f"it is longer than {LARGEST} bytes")
    if len(whole) < 20 or whole[:4] != b"glTF" or struct.unpack_from("<I", whole, 4)[0] != 2:
        raise ValueError("it does not begin as glTF 2")
    if struct.unpack_from("<I", whole, 8)[0] != len(whole):
        raise ValueError(f"it has {len(whole)} bytes and states {struct.unpack_from('<I', whole, 8)[0]}")
    found: dict[bytes, bytes] = {}
    place = 12
    while place + 8 <= len(whole):
        size, kind = struct.unpack_from("<I4s", whole, place)
        if place + 8 + size > len(whole):
            raise ValueError("a chunk ends behind the file")
        found.setdefault(kind, whole[place + 8 : place + 8 + size])
        place += 8 + size
    return json.loads(found[b"JSON"]), found.get(b"BIN\0", b"")


class _Reader:
    def __init__(self, content: Any, data: bytes):
        self.content, self.data = content, data

    def item(self, kind: str, index: Any) -> Any:
        """One entry of a list; negative and odd numbers are refused."""
        entries = self.content[kind]
        if type(index) is not int or not 0 <= index < len(entries):
            raise ValueError(f"no {kind} {index!r}")
        return entries[index]

    def array(self, index: Any, kind: str) -> NDArray:
        """Float accessor `index` as (n, width)."""
        accessor = self.item("accessors", index)
        view = self.item("bufferViews", accessor["bufferView"])
        width, count = WIDTHS[kind], accessor["count"]
        begin = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        step = view.get("byteStride", 4 * width)
        if accessor["type"] != kind or accessor["componentType"] != FLOAT or "sparse" in accessor:
            raise ValueError(f"accessor {index} is not {kind} of floats")
        if any(type(n) is not int or n < 0 for n in (count, begin, step)) or step < 4 * width or not count:
            raise ValueError(f"accessor {index} has impossible sizes")
        if begin + step * (count - 1) + 4 * width > len(self.data):
            raise ValueError(f"accessor {index} ends behind the data")
        rows = np.ndarray((count, width), "<f4", self.data, begin, (step, 4)).astype(np.float64)
        if not np.isfinite(rows).all():
            raise ValueError(f"accessor {index} has numbers that are not finite")
        return rows


def _motion(file: _Reader) -> Motion:
    rig = RigNodes(file)
    tracks = _tracks(file, rig.places)
    times = next(iter(tracks.values()))[0] if tracks else np.zeros(1)
    quaternions = rig.turns.expand(len(times), -1, 4).clone()
    root = rig.stands[rig.root].expand(len(times), 3)
    for (joint, kind), (own, values) in tracks.items():
        if len(own) != len(times) or np.abs(own - times).max() > 1e-6:
            raise ValueError("joints are animated at different times; bake the animation")
        if kind == "rotation":
            quaternions[:, joint] = torch.from_numpy(values)
        elif joint == rig.root:
            root = torch.from_numpy(values)
        elif np.abs(values - rig.stands[joint].numpy()).max() * rig.scale > 1e-4:
            raise ValueError(f"the joint {rig.skeleton.names[joint]!r} is moved, not turned")
    local = rotations.from_quaternion(quaternions.roll(1, -1))
    local[:, rig.root] = rig.turn @ local[:, rig.root]
    return Motion(rig.skeleton, rig.axes.since_rest(local), rig.to_world(root), _seconds(times))


class RigNodes:
    """The joints of a file's skins as one skeleton, and how the nodes above its root lie in the world.

    What stands above the root may turn, move and scale it as a whole (exporters convert units and axes so); nodes
    between joints may not. `turn`, `scale` and `shift` take the root's parent frame to the world. As the nodes stand,
    the joints are at rest; `axes` are theirs then.
    """

    def __init__(self, file: _Reader):
        skins = [file.item("skins", i)["joints"] for i in range(max(1, len(file.content["skins"])))]
        joints = list(dict.fromkeys(node for skin in skins for node in skin))
        nodes = [file.item("nodes", node) for node in joints]
        if not 0 < len(joints) <= MOST_JOINTS or len(skins[0]) != len(set(skins[0])):
            raise ValueError(f"a skin of {len(skins[0])} joints")
        if any("matrix" in node or not np.allclose(node.get("scale", 1), 1) for node in nodes):
            raise ValueError("joints that are scaled or given by a matrix")
        self.joints, self.places = joints, {node: i for i, node in enumerate(joints)}
        above = {child: i for i, node in enumerate(file.content["nodes"]) for child in node.get("children", ())}
        parents = tuple(self.places.get(above.get(node, -1), -1) for node in joints)
        self.stands = torch.tensor([_numbers(node, "translation", 3, 0.0) for node in nodes], dtype=torch.float64)
        self.turns = torch.tensor([_numbers(node, "rotation", 4, 1.0) for node in nodes], dtype=torch.float64)
        names = tuple(str(node.get("name", f"joint {i}")) for i, node in enumerate(nodes))
        self.root = parents.index(-1) if -1 in parents else 0
        over = _over(above, joints[self.root])
        self.scale, self.turn, self.shift = _frame(file, over)
        _check_still(file, over)
        file_own = Skeleton(names, parents, self.scale * self.stands)
        rest = rotations.from_quaternion(self.turns.roll(1, -1))
        rest[self.root] = self.turn @ rest[self.root]
        self.axes = Axes.of(file_own, rest)
        self.skeleton = self.axes.lying(file_own)

    def to_world(self, root: Tensor) -> Tensor:
        """Places (..., 3) of the root node as in the world, in metres."""
        return self.scale * root @ self.turn.T + self.shift

    def from_world(self, root: Tensor) -> Tensor:
        """Places (..., 3) in the world as the root node's translation."""
        return (root - self.shift) @ self.turn / self.scale


def _over(above: dict[int, int], node: int) -> list[int]:
    """The nodes above a node, the nearest first."""
    found: list[int] = []
    while (node := above.get(node, -1)) >= 0:
        if node in found:
            raise ValueError(f"the hierarchy is cyclic: node {node} is its own ancestor")
        found.append(node)
    return found


def _frame(file: _Reader, over: list[int]) -> tuple[float, Tensor, Tensor]:
    """Scale, rotation (3, 3) and shift (3,) of nodes on top of each other."""
    whole = torch.eye(4).double()
    for node in reversed(over):
        whole = whole @ _matrix(file.item("nodes", node))
    turned = whole[:3, :3]
    scale = torch.linalg.det(turned).abs().item() ** (1 / 3)
    if not 1e-6 < scale < 1e6 or not torch.allclose(
        turned @ turned.T, scale**2 * torch.eye(3).double(), atol=1e-4 * scale**2
    ):
        raise ValueError("the joints stand below a node that stretches them; apply its scale")
    if torch.linalg.det(turned) < 0:
        raise ValueError("the joints stand below a node that mirrors them; apply its scale")
    return scale, turned / scale, whole[:3, 3]


def _matrix(node: Any) -> Tensor:
    """What a node does to what is below it (4, 4)."""
    if "matrix" in node:
        return torch.tensor(_numbers(node, "matrix", 16, 1.0), dtype=torch.float64).reshape(4, 4).T
    made = torch.eye(4).double()
    quaternion = torch.tensor(_numbers(node, "rotation", 4, 1.0), dtype=torch.float64)
    sizes = _numbers(node, "scale", 3, 1.0) if "scale" in node else [1.0] * 3
    made[:3, :3] = rotations.from_quaternion(quaternion.roll(1)) @ torch.diag(torch.tensor(sizes).double())
    made[:3, 3] = torch.tensor(_numbers(node, "translation", 3, 0.0))
    return made


def _check_still(file: _Reader, over: list[int]) -> None:
    """Nodes above the root are where the file has them: what an animation does to them is not read."""
    for animation in (file.content.get("animations") or ())[:1]:
        for channel in animation["channels"]:
            if channel["target"].get("node") in over:
                raise ValueError("a node above the joints is animated; bake the animation onto the joints")


def _tracks(file: _Reader, places: dict[int, int]) -> dict[tuple[int, str], tuple[NDArray, NDArray]]:
    """Times and values of what the first animation does to every joint."""
    found = {}
    animation = file.item("animations", 0) if file.content.get("animations") else {"channels": ()}
    for channel in animation["channels"]:
        joint, kind = places.get(channel["target"].get("node")), channel["target"]["path"]
        if joint is None or kind not in ("rotation", "translation"):
            continue
        sampler = animation["samplers"][channel["sampler"]]
        if sampler.get("interpolation", "LINEAR") == "CUBICSPLINE":
            raise ValueError("curves between frames; bake the animation")
        times = file.array(sampler["input"], "SCALAR")[:, 0]
        values = file.array(sampler["output"], "VEC4" if kind == "rotation" else "VEC3")
        if len(times) != len(values):
            raise ValueError(f"{len(times)} times and {len(values)} values")
        found[joint, kind] = times, values
    return found


def _seconds(times: NDArray) -> float:
    if len(times) < 2:
        return 1 / 30
    steps = np.diff(times)
    if steps.min() <= 0 or np.ptp(steps) > 0.01 * steps.mean() + 1e-5:
        raise ValueError("frames that are not evenly spaced; bake the animation")
    return float(steps.mean())


def _numbers(node: Any, name: str, count: int, last: float) -> list[float]:
    """A property of a node: zeros, `last` at the end, unless it is given."""
    values = [float(value) for value in node.get(name, [0.0] * (count - 1) + [last])]
    if len(values) != count or not all(map(math.isfinite, values)):
        raise ValueError(f"a {name} of {len(values)} numbers")
    return values
