"""The demo: what ships, on clips that training never saw, and a page with what came out."""

import html
import sys
import time
from fractions import Fraction
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from framefill import checkpoint
from framefill.atomic import replacing
from framefill.metrics.image import psnr
from framefill.video.between.interpolator import Interpolator
from framefill.video.clip import Clip
from framefill.video.deliver import Target, deliver
from framefill.video.digits import MovingDigits
from framefill.video.files import Plan, read_clip
from framefill.video.filled import Filled
from framefill.video.model import VideoModel
from framefill.video.report import guesses

WORDS = {
    "filled": "A gap in the middle, filled in",
    "continued": "The beginning, continued three ways",
    "between": "Every second frame, made from its neighbours at full size",
}


def run(output: Path, *, seed: int) -> None:
    """Writes videos, sheets and `index.html` to `output`; results of an earlier demo there are replaced."""
    start = time.monotonic()
    sections = []
    for name, title, clip in (
        ("digits", "Moving digits", _digits()),
        ("natural", "A hand moves a cup", _cup(limit=24, start=4, stride=2)),
    ):
        print(f"demo: {title.lower()}", file=sys.stderr)
        model = checkpoint.load(name)
        sections.append(_section(model, clip, Target(output, name), title, seed))
    print("demo: slow motion", file=sys.stderr)
    sections.append(_slow(_cup(limit=31), Target(output, "slow"), seed))
    page = output / "index.html"
    with replacing(page) as part:
        part.write_text(_page(sections, time.monotonic() - start))
    for section in sections:
        for path in section["files"]:
            print(path)
    print(page)


def _digits() -> Clip:
    return Clip(MovingDigits("test").sample(7, length=15, strides=(1,)), Fraction(10))


def _cup(**which: int) -> Clip:
    with as_file(files("framefill").joinpath("data/cup.mp4")) as path:
        return read_clip(path, **which)  # type: ignore[arg-type]


def _section(model: VideoModel, clip: Clip, target: Target, title: str, seed: int) -> dict[str, Any]:
    """A gap filled and a beginning continued, written beside each other, with their scores."""
    window = model.window
    length = window.length
    given = Clip(clip.frames[:length], clip.fps)
    index = np.arange(length)
    gap = (index < window.past) | (index >= window.past + window.current)
    results = {
        "filled": model.complete(given, gap, seed=seed),
        "continued": model.predict(
            Clip(clip.frames[: window.past], clip.fps), 2 * window.current, samples=3, seed=seed
        ),
    }
    made: list[Path] = []
    scores: dict[str, dict[str, float]] = {}
    for verb, filled in results.items():
        place = Target(target.folder, f"{target.stem}-{verb}", target.suffix)
        frames = ((filled.frames[:, t], bool(known)) for t, known in enumerate(filled.known))
        written = deliver(frames, place, Plan(filled.fps), samples=len(filled.frames), overwrite=True)
        made += [Path(p) for p in (*written["videos"], written["sheet"], written["preview"]) if p]
        scores[verb] = _scores(model, filled, clip)
    return {"title": title, "files": made, "scores": scores, "stem": target.stem}


def _slow(clip: Clip, target: Target, seed: int) -> dict[str, Any]:
    """Every second frame left out, and made again at the film's own size."""
    known = np.arange(len(clip)) % 2 == 0
    balanced = Interpolator(checkpoint.load("balanced"))
    filled = balanced.interpolate(Clip(clip.frames[known], clip.fps / 2), times=2, seed=seed)
    place = Target(target.folder, f"{target.stem}-between", target.suffix)
    frames = ((filled.frames[:, t], bool(given)) for t, given in enumerate(filled.known))
    written = deliver(frames, place, Plan(filled.fps), samples=1, overwrite=True)
    ends = clip.frames[known].astype(np.float32)
    ways = {"framefill": filled.frames[0, ~known], "blend": (ends[:-1] + ends[1:]) / 2, "hold": ends[:-1]}
    scores = {name: float(psnr(video, clip.frames[~known], axes=3).mean()) for name, video in ways.items()}
    files = [Path(p) for p in (*written["videos"], written["sheet"], written["preview"])]
    return {"title": "Slow motion", "files": files, "scores": {"between": scores}, "stem": target.stem}


def _scores(model: VideoModel, filled: Filled, clip: Clip) -> dict[str, float]:
    """PSNR of the made frames (mean over samples), and of what can be had without a model, on the model's own size."""
    truth = model.fitted(clip)[: filled.frames.shape[1]]
    made = ~filled.known
    simple = {name: frames[None] for name, frames in guesses(truth, filled.known).items()}
    videos = {"framefill": filled.frames, **simple}
    return {name: float(psnr(v[:, made], truth[made], axes=4).mean()) for name, v in videos.items()}


def _page(sections: list[dict[str, Any]], seconds: float) -> str:
    body = []
    for section in sections:
        body.append(f"<h2>{html.escape(section['title'])}</h2>")
        for verb, made in section["scores"].items():
            stem = f"{section['stem']}-{verb}"
            scores = ", ".join(f"{name} {value:.1f} dB" for name, value in made.items())
            body.append(f"<h3>{WORDS[verb]}</h3><p>PSNR of the made frames: {scores}</p>")
            body.append(
                f'<img src="{stem}-preview.gif" alt="animation"><br><img src="{stem}-sheet.png" alt="all frames">'
            )
    return (
        "<!doctype html><meta charset=utf-8><title>framefill demo</title><style>body{background:#111318;color:#e6e8ee;"
        "font:16px system-ui;max-width:1240px;margin:2em auto;padding:0 1em}img{max-width:100%;margin:.4em 0}</style>"
        f"<h1>framefill demo</h1><p>Grey border: given. Green border: made. No clip was seen in training. "
        f"{seconds:.0f} seconds on this machine.</p>{''.join(body)}"
    )
