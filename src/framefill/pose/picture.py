"""A pose as a picture: its bones from the front and from its left, handles as crosses; Pillow alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from framefill.atomic import replacing
from framefill.pose.skeleton import Skeleton
from framefill.pose.turning import Floats

SIDE, FINE, MARGIN = 480, 3, 0.15  # pixels of a view; drawn this much larger, then made small; metres around the body
COLOURS = {"left": (33, 102, 172), "right": (178, 24, 43), "": (64, 64, 64)}
DOT = 4  # pixels around a point that was seen
PAPER, GROUND, HANDLE = (255, 255, 255), (200, 200, 200), (0, 140, 60)


def draw(skeleton: Skeleton, positions: Tensor, handles: Sequence[Tensor] = ()) -> Image.Image:
    """Joints (B, J, 3) as a picture 480 high: for each of the first eight poses x and y seen from in front (the body's
    left is on the right), then z and y seen from its left. All poses and both views have one scale."""
    poses = positions.detach().double().numpy()[:8]
    everything = np.concatenate([poses.reshape(-1, 3), *(h.double().numpy().reshape(-1, 3) for h in handles)])
    low, high = everything.min(0) - MARGIN, everything.max(0) + MARGIN
    scale = FINE * SIDE / float((high - low).max())
    views = [_view(skeleton, pose, handles, number, axes, (low + high) / 2, scale)
             for number, pose in enumerate(poses) for axes in ((0, 1), (2, 1))]  # fmt: skip
    sheet = np.concatenate([np.asarray(view) for view in views], 1)
    return Image.fromarray(sheet)


def write(path: Path, skeleton: Skeleton, positions: Tensor, handles: Sequence[Tensor] = ()) -> None:
    """Writes the picture as PNG. Raises Failed where it cannot be written."""
    with replacing(path) as part:
        draw(skeleton, positions, handles).save(part, format="PNG")


def beside(photo: Image.Image, drawing: Image.Image, points: Sequence[Tensor] = ()) -> Image.Image:
    """A photo with what was seen in it (2,) marked, as high as the drawing, and the drawing on its right."""
    scale = drawing.height / photo.height
    small = photo.resize((max(1, round(scale * photo.width)), drawing.height), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(small)
    for x, y in (scale * point.double().numpy() for point in points):
        pen.ellipse([x - DOT, y - DOT, x + DOT, y + DOT], HANDLE, PAPER)
    return Image.fromarray(np.concatenate([np.asarray(small), np.asarray(drawing)], 1))


def _view(
    skeleton: Skeleton,
    pose: Floats,
    handles: Sequence[Tensor],
    number: int,
    axes: tuple[int, int],
    centre: Floats,
    scale: float,
) -> Image.Image:
    size = FINE * SIDE
    picture = Image.new("RGB", (size, size), PAPER)
    pen = ImageDraw.Draw(picture)

    def at(point: Floats) -> tuple[float, float]:
        across, up = (scale * (point[axis] - centre[axis]) for axis in axes)
        return size / 2 + float(across), size / 2 - float(up)

    pen.line([(0, at(np.zeros(3))[1]), (size, at(np.zeros(3))[1])], GROUND, FINE)
    for joint, parent in enumerate(skeleton.parents):
        name = skeleton.names[joint].lower()
        colour = COLOURS[next((side for side in ("left", "right") if side in name), "")]
        if parent >= 0:
            pen.line([at(pose[parent]), at(pose[joint])], colour, 4 * FINE)
        x, y = at(pose[joint])
        pen.ellipse([x - 4 * FINE, y - 4 * FINE, x + 4 * FINE, y + 4 * FINE], colour)
    for handle in handles:
        x, y = at(handle.double().numpy().reshape(-1, 3)[min(number, handle.numel() // 3 - 1)])
        for dx, dy in ((1, 1), (1, -1)):
            pen.line([(x - 8 * FINE * dx, y - 8 * FINE * dy), (x + 8 * FINE * dx, y + 8 * FINE * dy)], HANDLE, 2 * FINE)
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
