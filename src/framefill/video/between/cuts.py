"""Where a film begins a new shot: found while it streams by, or read from a list. No motion is looked for across a cut.

The library is PySceneDetect: its adaptive detector compares the change of hue, saturation and brightness from frame to
frame with that of the two steps before and after, and so needs to see two frames ahead, no more. It takes flashes for
cuts, and the drawings of animation on threes; what it finds is no cut here if the picture after it is like the one
before, or if every step of the film is about as large. On made-up films of real clips,
flashes, flicker and pans this finds 144 of 156 cuts between shots of 30 frames and 103 of 156 between shots of 2 to 4,
where video/shots.py, made to lose no training frame to a false alarm, finds 111 and 66. It is wrong 23 times in 5,220
frames (39 without the second look, shots.py 17), most of them in flicker; a frame then stands still for one gap.
"""

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from framefill.atomic import replacing
from framefill.errors import BadInput, NotInstalled
from framefill.video.clip import visible
from framefill.video.clock import Clock

Frame = NDArray[Any]
Cuts = Callable[[Iterable[Frame]], Iterator[tuple[Frame, bool]]]
"""Frames (H, W, C) in, each out with whether it begins a new shot."""

AHEAD = 2  # frames that the detector sees before it decides
BEHIND = 12  # frames of the past that say how a film moves
STILL = 0.3  # levels of mean difference between equal frames
LONGEST = 256  # pixels of a side of the pictures that it sees
MOST = 10**7  # cuts, and numbers of frames, in a list


@dataclass(frozen=True)
class OneShot:
    """No cuts, whatever the film shows."""

    def __call__(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
        """See `Cuts`."""
        return ((frame, False) for frame in frames)


@dataclass(frozen=True)
class Listed:
    """The shots that begin with the frames of these numbers."""

    numbers: frozenset[int]

    def __call__(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
        """See `Cuts`."""
        return ((frame, number in self.numbers) for number, frame in enumerate(frames))


@dataclass(frozen=True)
class Found:
    """The shots that PySceneDetect finds; NotInstalled without it."""

    def __call__(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
        """See `Cuts`."""
        changes, waiting = _detector(), deque[Frame]()
        near: deque[NDArray[np.uint8]] = deque(maxlen=2 * AHEAD + 1)
        steps: deque[float] = deque(maxlen=BEHIND + 1 + AHEAD)
        numbers = count()

        def begun(small: NDArray[np.uint8]) -> bool:
            steps.append(_apart(small, near[-1]) if near else 0.0)
            near.append(small)
            return changes(next(numbers), small) and not _flashes(near) and not _moves_so(steps)

        for frame in frames:
            waiting.append(frame)
            begins = begun(_small(frame))
            if len(waiting) > AHEAD:
                yield waiting.popleft(), begins
        while waiting:  # the film stands still after its end
            begins = begun(near[-1])
            yield waiting.popleft(), begins


def _flashes(near: Sequence[NDArray[np.uint8]]) -> bool:
    """Whether the middle one of small pictures begins or ends a flash: what is after it is like what was before it."""
    before, last, here, *after = near
    step = _apart(here, last)
    return min(_apart(here, before), *(_apart(later, last) for later in after)) < step / 2


def _moves_so(steps: Sequence[float]) -> bool:
    """Whether the step to the middle frame is one of many: animation that stands still in between, and is no cut."""
    moves = [step for place, step in enumerate(steps) if step > STILL and place != len(steps) - 1 - AHEAD]
    return bool(moves) and list(steps)[-1 - AHEAD] < 2.5 * min(moves[-3 - AHEAD :])


def _apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(np.subtract(one, other, dtype=np.int16)).mean())


def read_list(path: Path, clock: Clock) -> Listed:
    """The cuts listed in a file, one a line: the number of the first frame of a shot, or the time it is shown at.

    A time has a point, a colon or an s ("4.0", "1:04", "4s") and means the nearest frame; "#" begins a remark. Raises
    BadInput for a file that cannot be read, and a line that is neither or lies outside the film of `clock`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise BadInput(f"cannot read the list of cuts {path}: {error}; give a text file") from error
    found = set()
    for place, line in enumerate(lines, 1):
        word = line.partition("#")[0].strip()
        if word:
            found.add(_number(word, clock, f"{path}, line {place}"))
    return Listed(frozenset(found))


def write_list(path: Path, numbers: Iterable[int], clock: Clock) -> None:
    """Writes the numbers of frames so that `read_list` reads them, with their times for people; Failed if it cannot."""
    lines = [f"{number}  # {_words(clock.at(number) - clock.at(0))}\n" for number in numbers]
    with replacing(path) as part:
        part.write_text("# the first frame of every shot but the first\n" + "".join(lines), encoding="utf-8")


def _number(word: str, clock: Clock, place: str) -> int:
    if re.fullmatch(r"\d{1,9}", word):
        number = int(word)
    elif match := re.fullmatch(r"(?:(?:(\d{1,4}):)?(\d{1,4}):)?(\d{1,9}(?:\.\d{1,9})?)s?", word):
        hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
        number = _nearest(clock, 3600 * hours + 60 * minutes + seconds)
    else:
        raise BadInput(f"{place}: {word!r} is no cut; write the number of a frame, or a time such as 4.5s or 1:04.5")
    last = clock.frames or MOST
    if not 0 < number < last:
        raise BadInput(f"{place}: a shot cannot begin with frame {number}; cuts lie between 1 and {last - 1}")
    return number


def _nearest(clock: Clock, time: Fraction) -> int:
    """Number of the frame that is shown nearest to `time` seconds after the first."""
    time += clock.at(0)
    after = bisect_left(range(clock.frames or MOST), time, key=clock.at)
    return after - 1 if after and time - clock.at(after - 1) < clock.at(after) - time else after


def _words(time: Fraction) -> str:
    return f"{float(time):.3f} s"


def _detector() -> Callable[[int, Any], bool]:
    """Takes the number of a frame and a small picture; says whether the frame `AHEAD` before it begins a shot."""
    try:
        from scenedetect.common import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector
    except ImportError as error:
        raise NotInstalled(
            "finding cuts needs PySceneDetect; run: pip install 'framefill[interpolate]', or give --cuts none"
        ) from error
    detector = AdaptiveDetector(min_scene_len=2, window_width=AHEAD)
    return lambda number, picture: bool(detector.process_frame(FrameTimecode(number, 25.0), picture))


def _small(frame: Frame) -> NDArray[np.uint8]:
    """Blue, green and red (h, w, 3), uint8, of a frame of any depth and channels."""
    seen = visible(frame[:: max(frame.shape[0] // 1024, 1), :: max(frame.shape[1] // 1024, 1)])
    picture = Image.fromarray(seen[..., 0] if seen.shape[-1] == 1 else np.ascontiguousarray(seen)).convert("RGB")
    factor = max(max(picture.size) // LONGEST, 1)
    return np.asarray(picture.reduce(factor))[..., ::-1]
