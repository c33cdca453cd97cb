"""A program, not a module of the package: the people in a picture by MediaPipe, run by an interpreter that has it.

    python -I mediapipe_people.py PICTURE MOST

MediaPipe 0.10.21 wants numpy below 2, so it lives in a virtual environment of its own and imports nothing of framefill.
What it prints is the interface of `framefill.pose.estimator`. MediaPipe finds one person at a time, and well only where
a person fills what it looks at. So it looks at the whole picture, then at squares that overlap by half; at whoever it
finds it looks again from near; who was found is painted over, and it looks again.
"""

import json
import sys
from typing import Any

LIKELY = 0.5  # MediaPipe's own threshold for a person, and ours for a point that counts as seen
NEAR, AROUND = 0.35, 0.1  # of a person's box: what is looked at and what is painted over around it
GREY = 127
MOST_SQUARES = 12
Window = tuple[int, int, int, int]  # left, top, right, bottom


def people(picture: Any, most: int) -> dict[str, Any]:
    """The people in an RGB picture (H, W, 3) of bytes: the estimator's answer for at most `most`."""
    import mediapipe

    left = picture.copy()
    found: list[dict[str, Any]] = []
    with mediapipe.solutions.pose.Pose(
        static_image_mode=True, model_complexity=1, min_detection_confidence=LIKELY
    ) as pose:
        for window in windows(picture.shape[1], picture.shape[0]):
            while len(found) < most and (far := _look(pose, left, window)):
                near = _look(pose, left, _box(far, left, NEAR)) or far
                found.append(_person(near))
                x, y, right, bottom = _box(near, left, AROUND)
                left[y:bottom, x:right] = GREY
                if right <= x or bottom <= y:
                    break
    return {"layout": "mediapipe", "people": found}


def windows(width: int, height: int) -> list[Window]:
    """Where to look: the whole, and squares."""
    side = min(width, height)
    across, down = (-(-2 * (size - side) // side) for size in (width, height))
    corners = [
        (round(i * (width - side) / max(across, 1)), round(j * (height - side) / max(down, 1)))
        for j in range(down + 1)
        for i in range(across + 1)
    ]
    squares = [(x, y, x + side, y + side) for x, y in corners[:MOST_SQUARES]]
    return [(0, 0, width, height), *(squares if len(squares) > 1 else [])]


def _look(pose: Any, picture: Any, window: Window) -> list[tuple[float, ...]]:
    """The person in a window, if any: pixels x and y of each point, metres x, y and z, and how visible it is."""
    x, y, right, bottom = window
    if right - x < 2 or bottom - y < 2:
        return []
    answer = pose.process(picture[y:bottom, x:right].copy())
    if answer.pose_landmarks is None or answer.pose_world_landmarks is None:
        return []
    return [
        (x + p.x * (right - x), y + p.y * (bottom - y), q.x, q.y, q.z, p.visibility)
        for p, q in zip(answer.pose_landmarks.landmark, answer.pose_world_landmarks.landmark, strict=True)
    ]


def _person(points: list[tuple[float, ...]]) -> dict[str, Any]:
    """World landmarks are metres around the hips, y down and z away from the camera; points unseen are null."""
    return {
        "space": [[x, -y, -z] if seen >= LIKELY else None for _, _, x, y, z, seen in points],
        "picture": [[x, y] if seen >= LIKELY else None for x, y, _, _, _, seen in points],
    }


def _box(points: list[tuple[float, ...]], picture: Any, around: float) -> Window:
    """The window around points, larger by a share of the longer side, within the picture."""
    height, width = picture.shape[:2]
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    more = around * max(max(xs) - min(xs), max(ys) - min(ys))
    left, right = (round(min(max(x, 0), width)) for x in (min(xs) - more, max(xs) + more))
    top, bottom = (round(min(max(y, 0), height)) for y in (min(ys) - more, max(ys) + more))
    return left, top, right, bottom


if __name__ == "__main__":
    import numpy
    from PIL import Image

    with Image.open(sys.argv[1]) as opened:
        print(json.dumps(people(numpy.array(opened.convert("RGB")), int(sys.argv[2]))))
