"""Carrying known frames along their motion to where an unknown frame is: a first guess, and a hint for networks.

The displacement between two frames is found in three steps: the shift of every 2x2 block that makes its surroundings
agree best (exhaustive search), one more search of single pixels around it, and two rounds of Lucas and Kanade's least
squares (1981) for the fraction. Flat surroundings say nothing of motion, so every average here is weighted by local
contrast. A frame is carried by splatting: each pixel lands where its displacement, scaled to the time wanted, takes it.

Everything is batched tensor arithmetic in float32 and runs on any device; box averages are products with banded
matrices, many times faster on a CPU than pooling.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from framefill.nets.warp import fetch, places

AGREE, REFINE, LEAST_SQUARES, SMOOTH, CONTRAST = 7, 9, 7, 9, 11  # sides of the boxes averaged over, in pixels
FLAT = 1e-4  # contrast (variance of pixels in [-1, 1]) that a perfectly flat area is taken to have
STAY = 0.01  # what a pixel of displacement must gain in mean absolute difference
DAMPING = 0.01


def displacement(a: Tensor, b: Tensor, *, reach: int = 8) -> Tensor:
    """Where the pixels of frames `a` (N, C, H, W) have gone in `b`: (N, 2, H, W), x then y, in pixels.

    Pixels are in [-1, 1]; motion of more than `reach` pixels (rounded up to an even number) is not found.
    """
    coarse = _best_shift(_halved(a), _halved(b), (reach + 1) // 2, AGREE)
    moved = 2 * F.interpolate(coarse, size=a.shape[-2:], mode="nearest")
    moved = moved + _best_shift(a, fetch(b, moved), 1, REFINE)
    contrast = _contrast(a, 5)
    moved = _box(moved * contrast, SMOOTH) / _box(contrast, SMOOTH)
    return _least_squares(a, b, moved)


def carry(x: Tensor, moved: Tensor) -> Tensor:
    """Frames `x` (N, C, H, W) with every pixel moved by `moved` (N, 2, H, W).

    Where several land, they are averaged by contrast; where none does, its neighbourhood is taken, or what was there.
    """
    C, H, W = x.shape[1:]
    target = places(x) + moved
    corner = target.floor()
    part = target - corner
    values = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    landing = values * _contrast(x, CONTRAST)
    landed = torch.zeros_like(values).flatten(2)
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = corner[:, 0] + dx, corner[:, 1] + dy
            share = (part[:, 0] if dx else 1 - part[:, 0]) * (part[:, 1] if dy else 1 - part[:, 1])
            share = share * ((column >= 0) & (column < W) & (row >= 0) & (row < H))
            index = (row.clamp(0, H - 1) * W + column.clamp(0, W - 1)).long().flatten(1)
            landed.scatter_add_(2, index[:, None].expand(-1, C + 1, -1), (landing * share[:, None]).flatten(2))
    landed = landed.reshape(values.shape)
    landed = landed + 1e-3 * _box(landed, 15) + 1e-6 * _box(landed, 31) + 1e-9 * values
    return landed[:, :C] / landed[:, C:]


def carried(frames: Tensor, known: Tensor, wanted: slice) -> tuple[Tensor, Tensor]:
    """For the `wanted` frames of `frames` (B, T, C, H, W): the nearest known one before each, and after, carried there.

    `known` is (B, T) bool. Motion is that between the two nearest known frames of the side, or, where a side has but
    one, between the nearest ones of both; a single known frame stays as it is. Returns two tensors
    (B, wanted, C, H, W), zero where there is no known frame on that side.
    """
    T = known.shape[1]
    nearest, second = _neighbours(known)
    later, latest = (torch.where(n < 0, n, T - 1 - n).flip(1) for n in _neighbours(known.flip(1)))
    with torch.autocast(frames.device.type, enabled=False):
        return (
            _carried(frames.float(), nearest[:, wanted], torch.where(second < 0, later, second)[:, wanted], wanted),
            _carried(frames.float(), later[:, wanted], torch.where(latest < 0, nearest, latest)[:, wanted], wanted),
        )


def guess(frames: Tensor, known: Tensor, wanted: slice) -> Tensor:
    """The `wanted` frames (B, wanted, C, H, W) without a model: carried from both sides and mixed.

    The weights are the inverse squares of the times to either side. Known frames come back as they are; where nothing
    is known the guess is zero.
    """
    return mixed(*carried(frames, known, wanted), frames, known, wanted)


def mixed(before: Tensor, after: Tensor, frames: Tensor, known: Tensor, wanted: slice) -> Tensor:
    """The guess from what `carried` gave."""
    T = known.shape[1]
    place = torch.arange(T, device=known.device)
    left, right = _neighbours(known)[0], T - 1 - _neighbours(known.flip(1))[0].flip(1)
    # Errors of the two sides grow with distance, so their best mean weighs by the inverse square of it.
    early, late = (place - left).float().square(), (right - place).float().square()
    share = (early / (early + late)).masked_fill(left < 0, 1.0).masked_fill(right == T, 0.0)
    flags, share = (v[:, wanted, None, None, None] for v in (known, share))
    return torch.where(flags, frames[:, wanted], torch.lerp(before, after, share.to(before.dtype)))


def _neighbours(known: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest known frame before each of (B, T), and the nearest before that one; -1 where there is none."""
    place = torch.arange(known.shape[1], device=known.device).expand_as(known)
    nearest = F.pad(torch.where(known, place, -1).cummax(1).values, (1, 0), value=-1)[:, :-1]
    return nearest, nearest.gather(1, nearest.clamp(min=0)).masked_fill(nearest < 0, -1)


def _carried(frames: Tensor, nearest: Tensor, second: Tensor, wanted: slice) -> Tensor:
    """One side of `carried`: `nearest` and `second` (B, wanted) name frames, -1 where there is none."""
    result = torch.zeros_like(frames[:, wanted])
    sample, frame = (nearest >= 0).nonzero(as_tuple=True)
    near, far = nearest[sample, frame], second[sample, frame]
    time = torch.arange(frames.shape[1], device=frames.device)[wanted][frame]
    moves = far >= 0
    moved = frames.new_zeros(len(sample), 2, *frames.shape[-2:])
    # Most wanted frames of a sample have the same two neighbours: motion is found once for each pair.
    pairs, which = torch.stack([sample, near, far], 1)[moves].unique(dim=0, return_inverse=True)
    if len(pairs):
        found = displacement(frames[pairs[:, 0], pairs[:, 1]], frames[pairs[:, 0], pairs[:, 2]])
        reach = (time - near)[moves] / (far - near)[moves]
        moved[moves] = found[which] * reach[:, None, None, None]
    if len(sample):
        result[sample, frame] = carry(frames[sample, near], moved)
    return result


def _best_shift(a: Tensor, b: Tensor, reach: int, side: int) -> Tensor:
    """The whole-pixel shift (N, 2, H, W) within `reach` at which the surroundings of each pixel of `a` agree best."""
    H, W = a.shape[-2:]
    padded = F.pad(b, [reach] * 4, mode="replicate")
    steps = range(-reach, reach + 1)
    shifts = torch.tensor([(dx, dy) for dy in steps for dx in steps], dtype=a.dtype, device=a.device)
    differences = [
        (a - padded[..., reach + dy : reach + dy + H, reach + dx : reach + dx + W]).abs().mean(1)
        for dy in steps
        for dx in steps
    ]
    cost = _box(torch.stack(differences, 1), side) + STAY * shifts.norm(dim=1)[:, None, None]
    return shifts[cost.min(1).indices].movedim(-1, 1)


def _least_squares(a: Tensor, b: Tensor, moved: Tensor, *, rounds: int = 2) -> Tensor:
    """Displacements improved by what the gradients of `a` say of the remaining difference to `b`."""

    def surroundings(x: Tensor) -> Tensor:
        return _box(_box(x.mean(1, keepdim=True), LEAST_SQUARES), LEAST_SQUARES)

    padded = F.pad(_box(a, 3), [1] * 4, mode="replicate")
    gx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    gy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    xx, xy, yy = surroundings(gx * gx) + DAMPING, surroundings(gx * gy), surroundings(gy * gy) + DAMPING
    for _ in range(rounds):
        rest = _box(a - fetch(b, moved), 3)
        rx, ry = surroundings(gx * rest), surroundings(gy * rest)
        step = torch.cat([yy * rx - xy * ry, xx * ry - xy * rx], 1) / (xx * yy - xy * xy)
        moved = moved + step.clamp(-1, 1)
    return moved


def _contrast(x: Tensor, side: int) -> Tensor:
    """The variance (N, 1, H, W) of the surroundings of every pixel, at least `FLAT`."""
    return (_box(x * x, side) - _box(x, side).square()).clamp(min=0).mean(1, keepdim=True) + FLAT


def _halved(x: Tensor) -> Tensor:
    """Means of 2x2 pixels; an odd last row or column stands for itself."""
    return F.avg_pool2d(x, 2, ceil_mode=True)


def _box(x: Tensor, side: int) -> Tensor:
    """The mean of the `side` x `side` pixels around each, of those inside the picture."""
    down, across = (_band(n, side).to(x) for n in x.shape[-2:])
    return down @ x @ across.T


@cache
def _band(n: int, side: int) -> Tensor:
    place = torch.arange(n)
    inside = ((place[:, None] - place).abs() <= side // 2).float()
    return inside / inside.sum(1, keepdim=True)
