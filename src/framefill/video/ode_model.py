"""`ODEVideoModel`: frames of a clip at any instant, before it, within it, after it. Verbs, no mathematics.

Time is counted in frames of the given clip from its first one, and may be any real number; frames given may stand at
any rising times too. Code and path are found from `past` frames around the instants that are asked for.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from framefill.arrays import Rng
from framefill.diffusion.complete import Window
from framefill.diffusion.sample import Sampler
from framefill.errors import BadInput
from framefill.nets.ode_video import LatentODE
from framefill.video.clip import Clip, fit, levels, tensor, with_channels
from framefill.video.filled import Filled
from framefill.video.model import VideoModel
from framefill.video.sheet import contact_sheet

Frames = NDArray[Any]
"""uint8 or uint16 (..., H, W, C)."""


@dataclass(frozen=True)
class ODEVideoModel:
    """A trained latent ODE of frames of `height` x `width` pixels, which sees `past` frames at a time.

    Same seed, same frames: sample i is the same alone or among many. One sample is the path of the mean code, unless
    `seed` is given; several are drawn.
    """

    model: LatentODE
    past: int
    channels: int
    height: int
    width: int
    device: str = "cpu"
    card: Any = None

    # ---- verbs -------------------------------------------------------------------------------------------------

    def at(
        self, clip: Clip, times: Sequence[float], *, stamps: Sequence[float] | None = None, samples: int = 1,
        seed: int | None = None,
    ) -> Frames:  # fmt: skip
        """Frames (samples, len(times), H, W, C) of the clip at `times`, in frames from its first, in any order.

        `stamps` says when the frames of the clip are shown, in the same unit, rising; by default 0, 1, 2 and so on.
        BadInput for other stamps, and for uneven ones where the model was not trained with `timed`.
        """
        place = self._stamps(len(clip), stamps)
        wanted = [float(t) for t in times]
        if not wanted or samples < 1 or not np.isfinite(wanted).all():
            raise BadInput(f"give one finite time or more, and one sample or more; got {len(wanted)} and {samples}")
        given = self.fitted(clip)
        made = np.zeros((samples, len(wanted), *given.shape[1:]), given.dtype)
        for start, mine in _blocks(place, wanted, self.past).items():
            part = slice(start, start + self.past)
            path = self._path(given[part], place[part], [wanted[i] for i in mine], samples, seed)
            with torch.inference_mode():
                made[:, mine] = levels(self.model.decode(path), given.dtype)
        return made

    def predict(self, clip: Clip, frames: int = 10, *, samples: int = 1, seed: int | None = None) -> Filled:
        """The clip and the `frames` after it."""
        return self._with(clip, range(len(clip), len(clip) + _count(frames)), clip.fps, samples, seed)

    def predict_past(self, clip: Clip, frames: int = 10, *, samples: int = 1, seed: int | None = None) -> Filled:
        """The clip and the `frames` before it: the path followed backwards."""
        return self._with(clip, range(-_count(frames), 0), clip.fps, samples, seed)

    def interpolate(self, clip: Clip, times: int = 2, *, samples: int = 1, seed: int | None = None) -> Filled:
        """The clip at `times` its frame rate: times - 1 new frames between every two."""
        if times < 2 or len(clip) < 2:
            raise BadInput(
                f"interpolation needs times >= 2 and a clip of 2 frames or more, got {times} and {len(clip)}"
            )
        between = [i / times for i in range((len(clip) - 1) * times) if i % times]
        return self._with(clip, between, clip.fps * times, samples, seed)

    def retimed(
        self,
        frames: Iterable[Frames],
        step: Fraction,
        *,
        place: Callable[[int], Fraction] = Fraction,
        samples: int = 1,
        seed: int | None = None,
    ) -> Iterator[tuple[Frames, bool]]:
        """A clip of any length at another rate: frames (N, H, W, C) every `step`, from 0 on, and if each was given.

        See `retold`. The result lasts as long as the clip: what lies beyond the last frame is predicted.
        """
        if not step > 0:
            raise BadInput(f"the step from frame to frame must be positive, got {step}")
        yield from self.retold(frames, (i * step for i in count()), place=place, samples=samples, seed=seed)

    def retold(
        self,
        frames: Iterable[Frames],
        times: Iterable[Fraction],
        *,
        place: Callable[[int], Fraction] = Fraction,
        samples: int = 1,
        seed: int | None = None,
    ) -> Iterator[tuple[Frames, bool]]:
        """A clip of any length at rising `times`, as far as it lasts: frames (N, H, W, C), and if each was given.

        Frames (H, W, C) come one after another, and no more than twice `past` of them are held. `place` is when frame
        number i is shown, by default at i; what it says of the frame after the last is when the clip ends.
        """
        held: list[Frames] = []
        first, source, coming = 0, iter(frames), iter(times)
        ahead = next(coming, math.inf)
        while True:
            more = list(islice(source, self.past))
            held += more
            shown = [place(first + i) for i in range(len(held))]
            ended = len(more) < self.past
            # until it has ended, what comes may show the gap after the last frame
            end = place(first + len(held)) if ended else shown[-1]
            wanted = []
            while held and ahead < end:
                wanted.append(Fraction(ahead))
                ahead = next(coming, math.inf)
            yield from self._told(held, shown, wanted, samples, seed)
            if ended:
                return
            first, held = first + len(held) - self.past, held[-self.past :]

    def trajectory(
        self, clip: Clip, times: Sequence[float], *, stamps: Sequence[float] | None = None
    ) -> NDArray[np.float32]:
        """The mean path (len(times), D) in the latent space, from the first `past` frames of the clip."""
        place = self._stamps(len(clip), stamps)
        given = self.fitted(clip)[: self.past]
        return self._path(given, place[: self.past], list(times), 1, None)[0].cpu().numpy()

    def windows(self) -> VideoModel:
        """The same as a model of windows, for all that can be done with those: `past` frames seen, as many drawn.

        Where no frame is known, a variational model draws the code from N(0, I).
        """

        def draw(sampler: Sampler, frames: Tensor, known: Tensor, rng: Rng) -> Tensor:
            with torch.autocast(frames.device.type, enabled=False):  # a solver needs its digits
                return self._window(frames.float(), known, rng)

        window = Window(self.past, self.past, 0)
        model: Any = self.model  # is carried along; what draws is `draw`
        return VideoModel(
            model, draw, window, self.channels, self.height, self.width, None, device=self.device,
            card=self.card,
        )  # fmt: skip

    # ---- how ---------------------------------------------------------------------------------------------------

    def fitted(self, clip: Clip) -> Frames:
        """The clip's frames (T, H, W, C) as the model sees them: resized to cover its size, cropped, its channels."""
        return fit(with_channels(clip.frames, self.channels), self.height, self.width)

    def _stamps(self, frames: int, stamps: Sequence[float] | None) -> NDArray[np.float64]:
        place = np.arange(frames, dtype=np.float64) if stamps is None else np.array(stamps, np.float64)
        if place.shape != (frames,) or not np.isfinite(place).all() or (np.diff(place) <= 0).any():
            raise BadInput(f"stamps are one finite time for each of {frames} frames, each later than the one before")
        if not self.model.timed and not np.allclose(np.diff(place), 1, atol=1e-6):
            raise BadInput("this model was trained on an even clock; train one with --set timed=true for uneven ones")
        return place

    def _path(
        self, given: Frames, place: NDArray[np.float64], times: list[float], samples: int, seed: int | None
    ) -> Tensor:  # fmt: skip
        """Codes (samples, T, D) at `times` from frames given at `place`."""
        x = tensor(given).to(self.device)[None]
        stamps = torch.from_numpy(place - place[0])[None].to(x)
        with torch.inference_mode():
            code = self.model.code(x, stamps)
            z = code.mean.expand(samples, -1)
            if self.model.variational and (samples > 1 or seed is not None):
                noise = Rng.batch(seed or 0, samples).normal(z.shape[1:], z)
                z = z + (code.log_variance / 2).exp() * noise
            return self.model.path(z, [t - float(place[0]) for t in times])

    def _with(self, clip: Clip, times: Sequence[float], fps: Fraction, samples: int, seed: int | None) -> Filled:
        """The clip's own frames and those at `times`, in order."""
        made = self.at(clip, times, samples=samples, seed=seed)
        given = np.broadcast_to(self.fitted(clip), (samples, len(clip), *made.shape[2:]))
        place = np.concatenate([np.arange(len(clip)), np.asarray(times, np.float64)])
        order = np.argsort(place, kind="stable")
        known = np.arange(len(place)) < len(clip)
        return Filled(np.concatenate([given, made], 1)[:, order], known[order], fps)

    def _told(
        self, held: list[Frames], shown: list[Fraction], wanted: list[Fraction], samples: int, seed: int | None
    ) -> Iterator[tuple[Frames, bool]]:
        """Frames at `wanted` of those held; those that are there come back as they are."""
        if not wanted:
            return
        clip, there = Clip(np.stack(held), Fraction(1)), {t: i for i, t in enumerate(shown)}
        kept = self.fitted(clip)
        fresh = [float(t - shown[0]) for t in wanted if t not in there]
        stamps = [float(t - shown[0]) for t in shown]
        made = iter(self.at(clip, fresh, stamps=stamps, samples=samples, seed=seed).swapaxes(0, 1) if fresh else ())
        for t in wanted:
            given = t in there
            yield (np.broadcast_to(kept[there[t]], (samples, *kept.shape[1:])) if given else next(made)), given

    def _window(self, frames: Tensor, known: Tensor, rng: Rng) -> Tensor:
        """The current frames of windows (B, length, C, H, W), all with the same known frames."""
        seen = known[0].nonzero()[:, 0].tolist()[-self.past :]
        drawn = range(self.past, 2 * self.past)
        like = frames.new_zeros(len(frames), self.model.layout.latent)
        noise = rng.normal(like.shape[1:], like)
        if not seen:
            if not self.model.variational:
                raise BadInput("this model sets off from a frame and makes nothing from nothing; give it a clip")
            return self.model.decode(self.model.path(noise, [t - self.past for t in drawn]))
        if not self.model.timed and seen != list(range(seen[0], seen[-1] + 1)):
            raise BadInput("this model was trained on an even clock: known frames must follow each other")
        times = torch.tensor(seen, device=frames.device).to(frames) - seen[0]
        code = self.model.code(frames[:, seen], times.expand(len(frames), -1))
        z = code.mean + (code.log_variance / 2).exp() * noise if self.model.variational else code.mean
        return self.model.decode(self.model.path(z, [t - seen[0] for t in drawn]))


def _blocks(place: NDArray[np.float64], times: list[float], past: int) -> dict[int, list[int]]:
    """Which times are told from which frames: the first of `past` neighbouring frames, to indices of `times`.

    Neighbouring times share their frames, but for the seam every `past` - 1 frames: no frame is told twice.
    """
    last = max(len(place) - past, 0)
    found: dict[int, list[int]] = {}
    for i, t in enumerate(times):
        before = max(int(np.searchsorted(place, t, "right")) - 1, 0)
        start = before // max(past - 1, 1) * max(past - 1, 1)
        found.setdefault(min(start, last), []).append(i)
    return found


def _count(frames: int) -> int:
    if frames < 1:
        raise BadInput(f"the number of frames must be at least 1, got {frames}")
    return frames


def sample_sheet(model: ODEVideoModel, source: Any, *, clips: int = 3) -> Image.Image:
    """Held-out clips twice as long as what the model sees: the truth, all of it from the first half, at half steps."""
    rows: list[tuple[str, NDArray[np.uint8]]] = []
    for seed in range(clips):
        truth = source.sample(seed, length=2 * model.past, strides=(1,))
        clip = Clip(truth[: model.past], Fraction(10))
        rows += [("truth", truth), ("from half", model.at(clip, range(len(truth)))[0])]
    halves = [i / 2 for i in range(2 * model.past)]
    return contact_sheet([*rows, ("half steps", model.at(clip, halves)[0])])
