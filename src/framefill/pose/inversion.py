"""The body that has some rig's bones: its shape and size from lengths alone (SMPL-SI, thesis 001, section 5.4).

Two ways. By a kernel, as the paper has it: six lengths f of the rig's right side are compared with those of 20,000 made
bodies (shape uniform in -5 to 5, scale in 0.2 to 2), and the estimate is their mean, weighted by
exp(-|f - f_i|^2 / 2 h^2) with h = 0.02; where all weights vanish, the nearest. By optimisation: Gauss-Newton on all
bones that both have, with shapes kept likely, from the kernel's estimate if the rig has its lengths.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from framefill.errors import BadInput
from framefill.pose.body import COMPONENTS, Body
from framefill.pose.retarget import Rig
from framefill.pose.roles import need
from framefill.pose.skeleton import ALIKE, Skeleton
from framefill.pose.turning import Floats

SAMPLES, SEED, WIDTH = 20_000, 0, 0.02
SHAPES, SCALES = 5.0, (0.2, 2.0)
STEPS = 30
LIKELY = 1e-3  # metres of bone error that one standard deviation of shape is worth
ROUGH = 0.02  # the same where bones are estimates
PAIRS = (
    ("right_hip", "right_knee"), ("right_knee", "right_ankle"), ("head", "right_ankle"), ("head", "right_wrist"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
)  # fmt: skip
# Bones compared by optimisation: what two joints of a rigid part are apart, whatever lies between them.
BONES = (
    *PAIRS[:2], *PAIRS[4:], ("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"), ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"), ("pelvis", "neck"),
    ("neck", "head"), ("left_ankle", "left_foot"), ("right_ankle", "right_foot"), ("left_wrist", "left_hand"),
    ("right_wrist", "right_hand"),
)  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """Ten numbers of shape, the scale by which the body is made larger, and the mean bone error that is left, in mm."""

    shape: tuple[float, ...]
    scale: float
    error: float
    bones: dict[str, tuple[float, float]]


def by_kernel(rig: Rig, body: Body, *, samples: int = SAMPLES) -> Fit:
    """The paper's estimator. Raises BadInput that names the parts the rig lacks."""
    need(rig.skeleton, tuple(sorted({role for pair in PAIRS for role in pair})))
    rng = np.random.default_rng(SEED)
    shapes = rng.uniform(-SHAPES, SHAPES, (samples, COMPONENTS))
    scales = rng.uniform(*SCALES, (samples, 1))
    made = scales * _lengths(body, shapes, PAIRS)
    distance = np.square(made - _of(rig, PAIRS)).sum(1) / (2 * WIDTH**2)
    weight = np.exp(distance.min() - distance)  # the nearest weighs 1: never 0 / 0
    weight /= weight.sum()
    return _fit(rig, body, weight @ shapes, float(weight @ scales[:, 0]))


def by_optimisation(rig: Rig, body: Body, *, scaled: bool = True) -> Fit:
    """Least squares over all bones that both have; `scaled`: the body's size may change beyond its shape."""
    pairs = shared(rig)
    goal = _of(rig, pairs)
    shape, size = np.zeros(COMPONENTS), float((goal / _lengths(body, np.zeros((1, COMPONENTS)), pairs)[0]).mean())
    if all(role in rig.roles for pair in PAIRS for role in pair):
        begun = by_kernel(rig, body)
        shape, size = np.clip(begun.shape, -3, 3), begun.scale
    x = _descend(body, pairs, goal, np.array([*shape, size if scaled else 1.0]), COMPONENTS + scaled, LIKELY)
    return _fit(rig, body, x[:-1], float(x[-1]))


def exactly(skeleton: Skeleton, body: Body) -> tuple[float, ...] | None:
    """The shape of `body` that has these very bones, to 0.1 mm, whatever the order of joints; None where none has.

    Bones are linear in shape, so this is one least-squares solution, the smallest: what bones do not tell is 0.
    """
    if skeleton.hangs != body.tree.hangs:
        return None
    base = body.offsets().double().numpy()
    slopes = (body.offsets(torch.eye(COMPONENTS)).double().numpy() - base).reshape(COMPONENTS, -1).T
    apart = skeleton.offsets.double()[[skeleton.index(name) for name in body.names]].numpy() - base
    apart[body.tree.root] = 0
    shape = np.linalg.pinv(slopes, rcond=1e-4) @ apart.ravel()
    return tuple(np.round(shape, 6).tolist()) if np.abs(apart.ravel() - slopes @ shape).max() < ALIKE else None


def by_lengths(lengths: Mapping[tuple[str, str], float], body: Body) -> tuple[tuple[float, ...], float]:
    """Shape and scale of the body that has such bones, in metres by roles of their ends, as an estimator saw them.

    Estimates are rough, so the shape stays likelier than it does for a rig. Raises BadInput for fewer than four bones.
    """
    if len(lengths) < 4 or not all(0 < length < np.inf for length in lengths.values()):
        raise BadInput(f"{len(lengths)} bones are known; a shape needs four or more, of finite lengths above 0")
    pairs, goal = tuple(lengths), np.array([*lengths.values()])
    size = float((goal / _lengths(body, np.zeros((1, COMPONENTS)), pairs)[0]).mean())
    x = _descend(body, pairs, goal / size, np.append(np.zeros(COMPONENTS), 1.0), COMPONENTS + 1, ROUGH)
    return tuple(x[:-1].tolist()), float(x[-1]) * size


def _descend(
    body: Body, pairs: tuple[tuple[str, str], ...], goal: Floats, x: Floats, free: int, likely: float
) -> Floats:
    """Shape and size (11,) of least squares; the first `free` of them change."""
    keep = np.append(np.full(COMPONENTS, likely), 0)

    def residual(x: Floats) -> Floats:
        return np.append(x[-1] * _lengths(body, x[None, :-1], pairs)[0] - goal, keep * x)

    for _ in range(STEPS):
        here = residual(x)
        slopes = np.stack([(residual(x + 1e-5 * unit) - here) / 1e-5 for unit in np.eye(len(x))[:free]], 1)
        change = np.linalg.lstsq(slopes, -here, rcond=None)[0]
        x[:free] += change * min(1, 1 / np.abs(change).max())
        if np.abs(change).max() < 1e-7:
            break
    return x


def shared(rig: Rig) -> tuple[tuple[str, str], ...]:
    """The bones of `BONES` that the rig has. Raises BadInput where they are fewer than four."""
    found = tuple(pair for pair in BONES if all(role in rig.roles for role in pair))
    if len(found) < 4:
        need(rig.skeleton, tuple(sorted({role for pair in PAIRS for role in pair})))
        raise BadInput(f"only {len(found)} bones of this rig correspond; name its joints by side and limb")
    return found


def _fit(rig: Rig, body: Body, shape: Floats, scale: float) -> Fit:
    pairs = shared(rig)
    made, true = scale * _lengths(body, shape[None], pairs)[0], _of(rig, pairs)
    bones = {f"{a}-{b}": (m, t) for (a, b), m, t in zip(pairs, made.tolist(), true.tolist(), strict=True)}
    return Fit(tuple(shape.tolist()), scale, float(1000 * np.abs(made - true).mean()), bones)


def _lengths(body: Body, shapes: Floats, pairs: tuple[tuple[str, str], ...]) -> Floats:
    """Distances (N, P) between joints at rest of bodies of shapes (N, 10)."""
    joints, directions = body.joints.double().numpy(), body.joint_shapes.double().numpy()
    a, b = ([body.names.index(pair[end]) for pair in pairs] for end in (0, 1))
    apart = (joints[a] - joints[b])[..., None] + (directions[a] - directions[b]) @ shapes.T[None]
    return np.linalg.norm(apart, axis=1).T


def _of(rig: Rig, pairs: tuple[tuple[str, str], ...]) -> Floats:
    a, b = ([rig.roles[pair[end]] for pair in pairs] for end in (0, 1))
    return np.linalg.norm(rig.positions[a] - rig.positions[b], axis=1)
