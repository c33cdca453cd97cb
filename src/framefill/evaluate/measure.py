"""Numbers of one clip: scores of every sample, sums for ensembles, features for distributions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framefill.evaluate.cases import Case
from framefill.evaluate.parts import Numbers
from framefill.evaluate.protocol import Protocol
from framefill.features import Distance, Features
from framefill.metrics.forecast import crps, spread_and_error
from framefill.metrics.image import psnr, ssim
from framefill.video.clip import with_channels

PICTURES = 4  # frames of a clip that are judged as pictures, evenly spaced: neighbours say the same


@dataclass(frozen=True)
class Judges:
    """Networks that look at what was made: `clips` for FVD, `pictures` for FD, `distances` between pictures."""

    clips: tuple[Features, ...] = ()
    pictures: tuple[Features, ...] = ()
    distances: tuple[Distance, ...] = ()


def measured(case: Case, protocol: Protocol, judges: Judges) -> Numbers:
    """All numbers of a case, by "method/score".

    "psnr", "ssim" and distances are (N,); "crps" () in levels; "variance" and "error" (), the two halves of
    spread-skill; "clips:NAME" (N, D) and "pictures:NAME" (N, P, D) features, also of the method "truth".
    """
    numbers: Numbers = {}
    for method, videos in case.made.items():
        numbers |= {f"{method}/{name}": value for name, value in _paired(case, videos, protocol, judges).items()}
    for method, videos in {"truth": case.truth[None], **case.made}.items():
        numbers |= {f"{method}/{name}": value for name, value in _features(case, videos, protocol, judges).items()}
    return numbers


def _paired(case: Case, videos: NDArray[np.uint8], protocol: Protocol, judges: Judges) -> Numbers:
    """Scores against the truth, of the frames that were made; none where nothing was given to make them from."""
    if not case.paired:
        return {}
    made = ~case.known
    truth, videos = case.truth[made], videos[:, made]
    scores: Numbers = {
        "psnr": np.minimum(psnr(videos, truth, axes=4), 100.0),
        "ssim": ssim(*(_for_ssim(x, protocol) for x in (videos, truth))).mean(axis=1),
        "crps": crps(videos, truth).mean(),
    }
    if len(videos) > 1:
        scores["variance"], scores["error"] = (x.mean() for x in spread_and_error(videos, truth))
    for distance in judges.distances:
        scores[distance.name] = np.array([distance(video, truth).mean() for video in videos])
    return {name: np.asarray(value, np.float64) for name, value in scores.items()}


def _for_ssim(frames: NDArray[np.uint8], protocol: Protocol) -> NDArray[np.uint8]:
    if not protocol.binary:
        return frames
    if frames.shape[-1] == 3:
        return with_channels(frames, 1)
    return ((frames >= 128) * 255).astype(np.uint8)


def _features(case: Case, videos: NDArray[np.uint8], protocol: Protocol, judges: Judges) -> Numbers:
    made = np.flatnonzero(~case.known)
    seen = np.arange(len(case.known)) if protocol.known else made
    found: Numbers = {}
    for features in judges.clips:
        if len(seen) >= features.frames:
            found[f"clips:{features.name}"] = features(videos[:, seen])
    chosen = made[np.unique(np.linspace(0, len(made) - 1, min(PICTURES, len(made))).round().astype(int))]
    for features in judges.pictures:
        found[f"pictures:{features.name}"] = features(videos[:, chosen])
    return found
