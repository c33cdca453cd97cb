"""What a trained video model does, on clips it has not seen: sheets to look at, and figures with their error."""

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from framefill.diffusion.complete import blend
from framefill.metrics.forecast import crps
from framefill.metrics.image import psnr, ssim
from framefill.video import motion
from framefill.video.clip import Clip, levels, tensor
from framefill.video.model import VideoModel
from framefill.video.sheet import contact_sheet

RATE = Fraction(10)


def sample_sheet(model: VideoModel, source: Any, *, clips: int = 3, seed: int = 0) -> Image.Image:
    """Truth, prediction and infilling of `clips` windows of `source`, and one clip from nothing."""
    window = model.window
    rows: list[tuple[str, NDArray[np.uint8]]] = []
    known: list[NDArray[np.bool_] | None] = []
    for i in range(clips):
        truth = source.sample(i, length=window.length, strides=(1,))
        for name, mask in _tasks(model).items():
            filled = model.complete(Clip(truth, RATE), mask, seed=seed)
            rows += [("truth", truth)] if name == "predicted" else []
            known += [None] if name == "predicted" else []
            rows.append((name, filled.frames[0]))
            known.append(filled.known)
    made = model.generate(window.length, seed=seed)
    return contact_sheet([*rows, ("from nothing", made.frames[0])], known=[*known, made.known])


def _tasks(model: VideoModel) -> dict[str, NDArray[np.bool_]]:
    """Which frames of a window are known, for prediction and, where the model sees a future, for infilling."""
    past, current = model.window.past, model.window.current
    index = np.arange(model.window.length)
    tasks = {"predicted": index < past}
    if model.window.future:
        tasks["filled in"] = (index < past) | (index >= past + current)
    return tasks


def scores(
    model: VideoModel, source: Any, *, clips: int = 64, samples: int = 1, seed: int = 0
) -> dict[str, dict[str, dict[str, tuple[float, float]]]]:
    """How near the current frames of `clips` held-out windows come to the truth, with 95 % intervals.

    task -> method -> metric -> (mean, half-width). Methods: the model, and those of `guesses`. Metrics: those of
    `measured`. The interval is 1.96 standard errors over clips.
    """
    window = model.window
    drawn, tasks = window.drawn, _tasks(model)
    collected: dict[tuple[str, str], list[dict[str, float]]] = {}
    for i in range(clips):
        truth = source.sample(1_000_000 + i, length=window.length, strides=(1,))
        for task, mask in tasks.items():
            made = model.complete(Clip(truth, RATE), mask, samples=samples, seed=seed + i).frames
            simple = {name: guess[None] for name, guess in guesses(truth, mask).items()}
            for name, videos in {"model": made, **simple}.items():
                collected.setdefault((task, name), []).append(measured(videos[:, drawn], truth[drawn]))
    result: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}
    for (task, name), rows in collected.items():
        table = {metric: np.array([row[metric] for row in rows]) for metric in rows[0]}
        result.setdefault(task, {})[name] = {
            metric: (round(float(v.mean()), 4), round(float(1.96 * v.std(ddof=1) / len(v) ** 0.5), 4))
            for metric, v in table.items()
        }
    return result


def measured(videos: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[str, float]:
    """Scores of `videos` (N, T, H, W, C) against `truth` (T, H, W, C).

    "psnr" (dB, of the whole clip, at most 100) and "ssim", means over the N; "crps" of all N together in levels, which
    for N = 1 is the mean absolute error; for N > 1 also "best psnr" and "best ssim", as papers report them.
    """
    ratios = np.minimum(psnr(videos, truth, axes=4), 100.0)
    alike = ssim(videos, truth).mean(axis=1)
    means = {"psnr": ratios.mean(), "ssim": alike.mean(), "crps": crps(videos, truth).mean()}
    best = {"best psnr": ratios.max(), "best ssim": alike.max()} if len(videos) > 1 else {}
    return {name: float(value) for name, value in (means | best).items()}


def guesses(truth: NDArray[np.uint8], known: NDArray[np.bool_]) -> dict[str, NDArray[np.uint8]]:
    """What can be had without a model, from the frames of `truth` (T, H, W, C) where `known` (T,) is set.

    "hold" (the known frame before stays), "blend" (linear between the known neighbours), and "carried" (moved along
    their motion, video/motion.py).
    """
    frames = tensor(truth)[None]
    flags = torch.from_numpy(known)[None]
    before = flags & (torch.arange(len(known)) <= int(np.argmin(known)))
    made = {
        "hold": blend(frames, before),
        "blend": blend(frames, flags),
        "carried": motion.guess(frames, flags, slice(None)),
    }
    return {name: levels(x[0]) for name, x in made.items()}
