"""`TokenCoder`: pictures and clips to tokens and back. `ImageGenerator`: new ones. Verbs, no mathematics.

Where the model was taught pseudo-videos, a picture is the last frame of a clip that the product makes itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from framefill.arrays import Rng, derive
from framefill.errors import BadInput
from framefill.latents.adversarial import Adversarial
from framefill.latents.priors.choice import PLAIN, Choice
from framefill.latents.priors.masked import Masked
from framefill.latents.priors.orders import Order
from framefill.latents.priors.spoken import Spoken
from framefill.latents.quantiser import perplexity
from framefill.latents.tokenizer import Tokenizer
from framefill.video.clip import levels, tensor
from framefill.video.images.drawing import Films, LastFrames, Pictures
from framefill.video.pseudo.kind import PseudoVideo


@dataclass(frozen=True)
class TokenCoder:
    """A trained tokenizer: `model` is one, or one with its adversary. `kind` says how pictures become clips.

    Clips are taken `batch` at a time.
    """

    model: nn.Module
    kind: PseudoVideo | None = None
    device: str = "cpu"
    card: Any = None
    batch: int = 16

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer by itself."""
        found = self.model.autoencoder if isinstance(self.model, Adversarial) else self.model
        assert isinstance(found, Tokenizer)
        return found

    def tokens(self, films: Films) -> NDArray[np.int64]:
        """The tokens (N, t, h, w) of clips (N, T, H, W, C); BadInput for clips that the model cannot cut."""
        return np.concatenate([self._tokens(part).cpu().numpy() for part in self._parts(films, 5)])

    def films(self, tokens: NDArray[np.int64]) -> Films:
        """The clips (N, T, H, W, C) of tokens (N, t, h, w)."""
        parts = torch.from_numpy(np.asarray(tokens)).to(self.device).split(self.batch)
        return np.concatenate([self._films(part) for part in parts])

    def reconstruct(self, pictures: NDArray[np.uint8], *, seed: int = 0) -> NDArray[np.uint8]:
        """What is left of pictures (N, H, W, C), or of clips (N, T, H, W, C), after the way there and back."""
        films = self.pseudo(pictures, seed=seed) if pictures.ndim == 4 else pictures
        back = np.concatenate([self._films(self._tokens(part)) for part in self._parts(films, 5)])
        return back[:, -1] if pictures.ndim == 4 else back

    def pseudo(self, pictures: Pictures, *, seed: int = 0) -> Films:
        """The clips (N, T, H, W, C) that pictures become, picture i by the random numbers of (seed, i)."""
        if self.kind is None:
            raise BadInput("this model was taught real clips; give clips (N, T, H, W, C)")
        done, made = 0, []
        for part in self._parts(pictures, 4):
            made.append(levels(self.kind(part, Rng([derive(seed, done + i) for i in range(len(part))]))))
            done += len(part)
        return np.concatenate(made)

    def health(self, tokens: NDArray[np.int64]) -> dict[str, float]:
        """How many codes `tokens` use: `codes_used`, a share; `perplexity`, as many as if all were used alike."""
        counts = np.bincount(np.asarray(tokens).reshape(-1), minlength=self.tokenizer.vocabulary)
        return {"codes_used": float((counts > 0).mean()), "perplexity": float(perplexity(torch.from_numpy(counts)))}

    def _parts(self, films: NDArray[np.uint8], axes: int) -> Iterator[Tensor]:
        channels = self.tokenizer.network.channels
        if films.dtype != np.uint8 or films.ndim != axes or 0 in films.shape or films.shape[-1] != channels:
            shape = "(N, T, H, W" if axes == 5 else "(N, H, W"
            raise BadInput(f"{films.dtype} {films.shape} for a model of uint8 {shape}, {channels})")
        for start in range(0, len(films), self.batch):
            yield tensor(films[start : start + self.batch]).to(self.device)

    def _tokens(self, films: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.tokenizer.tokens(films)

    def _films(self, tokens: Tensor) -> Films:
        with torch.inference_mode():
            return levels(self.tokenizer.clips(tokens).clamp(-1, 1))


@dataclass(frozen=True)
class ImageGenerator(LastFrames):
    """A tokenizer and a prior over its tokens: new pictures or clips, and longer ones.

    `frames`, `height` and `width` are of the clips it was taught; `calls` of the network draw a clip where the prior is
    masked, which keep what comes first in `order`, or in the prior's own; `choice` says how tokens are drawn, and
    `guidance` how much of a class there is, where one is asked for.
    Same seed, same pictures: picture i is the same alone or among many.
    """

    model: Spoken
    kind: PseudoVideo | None
    frames: int
    height: int
    width: int
    calls: int = 18
    choice: Choice = PLAIN
    order: Order | None = None
    guidance: float = 1.0
    device: str = "cpu"
    card: Any = None

    @property
    def classes(self) -> int:
        """How many there are, 0 for none."""
        return self.model.prior.classes

    @property
    def masked(self) -> bool:
        """Whether `calls` and `order` say anything: an autoregressive prior takes a call for every token."""
        return isinstance(self.model.prior, Masked)

    @property
    def coder(self) -> TokenCoder:
        """The tokenizer with its verbs."""
        return TokenCoder(self.model.tokenizer, self.kind, self.device)

    def _drawn(self, rng: Rng, label: int | None) -> Films:
        return self._films(self.model.tokenizer.grid(self.frames, self.height, self.width), rng, label)

    def reconstruct(self, pictures: NDArray[np.uint8], *, seed: int = 0) -> NDArray[np.uint8]:
        """As `TokenCoder.reconstruct`: how good pictures of this model can be at best."""
        return self.coder.reconstruct(pictures, seed=seed)

    def extend(self, films: Films, frames: int, *, seed: int = 0) -> Films:
        """Clips (N, T, H, W, C) with at least `frames` more, drawn after them: (N, T + frames, H, W, C).

        In each round the last frames that leave room for a new time are told in tokens, and the rest of the window is
        drawn. BadInput for a model of single frames, and for clips of another size, or shorter than what the model
        takes as a beginning.
        """
        patches = self.model.tokenizer.network.patches
        times = self.model.tokenizer.grid(self.frames, self.height, self.width)[0]
        seen = patches.frames(times - 1) if times > 1 else 0
        size = self.height, self.width
        if frames < 1 or not seen or films.ndim != 5 or films.shape[1] < seen or films.shape[2:4] != size:
            raise BadInput(
                f"{frames} frames after clips {films.shape}; this model goes on from {seen} frames of {self.width}x"
                f"{self.height} pixels, 0 meaning that it draws single pictures"
            )
        made, wanted = films, films.shape[1] + frames
        rng = Rng([derive(seed, i) for i in range(len(films))])
        grid = self.model.tokenizer.grid(self.frames, self.height, self.width)
        while made.shape[1] < wanted:
            start = torch.from_numpy(self.coder.tokens(made[:, -seen:])).flatten(1).to(self.device)
            made = np.concatenate([made, self._films(grid, rng, None, start)[:, seen:]], 1)
        return made[:, :wanted]

    def _films(self, grid: tuple[int, int, int], rng: Rng, label: int | None, start: Tensor | None = None) -> Films:
        labels = None if label is None else torch.full((len(rng),), label, device=self.device)
        with torch.inference_mode():
            tokens = self.model.sample(
                grid, labels, rng, choice=self.choice, guidance=1.0 if label is None else self.guidance,
                steps=self.calls, order=self.order, start=start,
            )  # fmt: skip
            return levels(self.model.tokenizer.clips(tokens).clamp(-1, 1))
