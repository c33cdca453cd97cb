"""`DiffusionCoder`: 8-bit pictures, or clips of any length, to codes and back. Verbs, no mathematics.

The code of a clip does not depend on how the clip is cut. It is drawn in windows that overlap, all from one field of
noise, and the overlaps fade into one another.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from framefill.arrays import Rng, derive
from framefill.codec.diffusion import DiffusionAutoencoder
from framefill.codec.encoder import STRIDE
from framefill.codec.quantise import Codebook, FiniteScalar, LatentQuantiser, LookupFree
from framefill.diffusion.denoiser import Model
from framefill.diffusion.guide import ClassifierFree
from framefill.diffusion.sample import Sampler
from framefill.diffusion.schedule import Level
from framefill.errors import BadInput
from framefill.latents.tiles import spans
from framefill.nets.asymmetric import AsymmetricUNet

Pictures = NDArray[np.uint8]
"""uint8 (N, H, W, C), or clips (N, T, H, W, C)."""
RESCALE = 0.7
HALF = 16  # bits of a number that is not quantised


@dataclass(frozen=True)
class Coded:
    """Codes of pictures (N, K, h, w), or clips (N, K, t, h, w): int64 symbols, or float16 if nothing is quantised.

    `size` is of the pictures, (H, W), or of the clips, (T, H, W).
    """

    symbols: Tensor
    size: tuple[int, ...]


@dataclass(frozen=True)
class DiffusionCoder:
    """A trained diffusion autoencoder. `sampler` draws; clips are drawn `window` frames at a time, `overlap` shared.

    `guidance` other than 1 leads away from what is drawn without the code (Ho and Salimans 2022), with spreads brought
    back by 0.7.
    """

    model: DiffusionAutoencoder
    sampler: Sampler
    window: int = 0
    overlap: int = 0
    guidance: float = 1.0
    device: str = "cpu"
    card: Any = None

    @property
    def network(self) -> AsymmetricUNet:
        """The U-Net."""
        network = self.model.denoiser.network.network
        assert isinstance(network, AsymmetricUNet)
        return network

    @property
    def multiple(self) -> int:
        """Pictures are enlarged to multiples of so many pixels, by their last row and column, and cut again."""
        return math.lcm(STRIDE, self.model.first.stride * self.network.stride)

    @property
    def step(self) -> int:
        """Clips are lengthened to multiples of so many frames, by their last one, and cut again."""
        times = self.model.times
        return math.lcm(times.factor, self.model.paired) if times else 1

    # ---- encode ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, pictures: Pictures, *, share: float = 1.0) -> Coded:
        """The codes of pictures, shrunk to `share` in [0.5, 1] of their sides first. BadInput for other pictures."""
        clips = self.model.times is not None
        shape = (4 + clips, 3)
        if pictures.dtype != np.uint8 or (pictures.ndim, pictures.shape[-1]) != shape or not pictures.size:
            wanted = "(N, T, H, W, 3)" if clips else "(N, H, W, 3)"
            raise BadInput(f"{pictures.dtype} of shape {pictures.shape}; this coder takes uint8 {wanted}")
        codes = [self._code(torch.from_numpy(one.copy()), share) for one in pictures]
        return Coded(self.model.symbols(torch.cat(codes)).cpu(), pictures.shape[1:-1])

    def _code(self, levels: Tensor, share: float) -> Tensor:
        x = self._padded(levels.movedim(-1, -3).to(self.device).float() / 127.5 - 1)
        if self.model.times is None:
            return self.model.codes(x[None], share)
        part = max(self.window // self.step, 1) * self.step
        return torch.cat([self.model.codes(piece[None], share) for piece in x.split(part)], 2)

    def _padded(self, x: Tensor) -> Tensor:
        """x (C, H, W) or (T, C, H, W) with its last row, column and frame repeated up to whole multiples."""
        right, below = (-side % self.multiple for side in (x.shape[-1], x.shape[-2]))
        frames = x if x.ndim == 4 else x[None]
        frames = F.pad(frames, (0, right, 0, below), mode="replicate")
        if x.ndim == 3:
            return frames[0]
        return torch.cat([frames, frames[-1:].expand(-len(x) % self.step, -1, -1, -1)])

    # ---- decode ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(self, coded: Coded, *, seed: int = 0, text: Tensor | None = None) -> Pictures:
        """Pictures drawn given their codes, the same for the same seed; each has a stream of its own.

        A text (N, L, D) if the model takes one. BadInput where code and size do not belong together.
        """
        made = []
        for i, symbols in enumerate(coded.symbols):
            told = None if text is None else text[i : i + 1].to(self.device)
            cond = self.model.condition(self.model.values(symbols[None].to(self.device)), told)
            z = self._drawn(cond, self._signal(cond, coded.size), Rng([derive(seed, i)]))
            made.append(self._cut(z, coded.size))
        return np.stack(made)

    def _signal(self, cond: Tensor, size: tuple[int, ...]) -> Tensor:
        """Nothing, in the shape of the first stage's latents."""
        H, W = (math.ceil(side / self.multiple) * self.multiple // self.model.first.stride for side in size[-2:])
        channels = self.model.first.layout.latent_channels * self.model.paired
        frames = (cond.shape[2] // self.model.paired,) if self.model.times else ()
        if len(size) != 2 + len(frames) or (frames and not 0 < size[0] <= cond.shape[2]) or min(size) < 1:
            raise BadInput(f"a code of shape {tuple(cond.shape)} is of no picture or clip of size {size}")
        return cond.new_zeros(1, channels, *frames, H, W)

    def _guided(self) -> Model:
        denoiser = self.model.denoiser
        return denoiser if self.guidance == 1 else ClassifierFree(denoiser, self.guidance, rescale=RESCALE)

    def _drawn(self, cond: Tensor, like: Tensor, rng: Rng) -> Tensor:
        model = self._guided()
        path = self.sampler.path(model)
        noise = path[0].sigma * model.noise.like(like, rng)
        if self.model.times is None:
            return self._last(model, noise, cond, rng, path)
        paired = self.model.paired
        tile, fade = max(self.window // paired, 1), max(self.overlap // paired, 1)
        if tile <= fade < like.shape[2]:
            raise BadInput(f"windows of {self.window} frames cannot share {self.overlap}; give fewer")
        total, weights = torch.zeros_like(like), like.new_zeros(like.shape[2])
        for span in spans(like.shape[2], tile=tile, halo=0, fade=fade):
            part = slice(span.start, span.stop)
            piece = cond[:, :, span.start * paired : span.stop * paired]
            weight = _fading(span.start > 0, span.stop < like.shape[2], span.stop - span.start, fade).to(like)
            total[:, :, part] += weight[:, None, None] * self._last(model, noise[:, :, part], piece, rng, path)
            weights[part] += weight
        return total / weights[:, None, None]

    def _last(self, model: Model, noise: Tensor, cond: Tensor, rng: Rng, path: list[Level]) -> Tensor:
        x = noise
        for x in self.sampler.trajectory(model, noise, cond, rng, path=path):  # noqa: B007
            pass
        return x.float()

    def _cut(self, z: Tensor, size: tuple[int, ...]) -> Pictures:
        x = self.model.picture(z)[0]
        x = x[: size[0]] if len(size) == 3 else x
        return _levels(x[..., : size[-2], : size[-1]])

    @torch.no_grad()
    def staged(self, frames: Pictures) -> Pictures:
        """What the first stage leaves of pictures or frames (N, H, W, 3): the best that can be drawn."""
        x = torch.from_numpy(frames.copy()).movedim(-1, 1).to(self.device).float() / 127.5 - 1
        return _levels(self.model.first.decode(self.model.first.encode(x)))

    # ---- what it costs -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def bits(self, coded: Coded) -> float:
        """What all codes take: messages of the entropy model where there is one, else all symbols alike likely.

        Floats take 16 bits each. BadInput for symbols of uniform steps without an entropy model: they have no bound.
        """
        model, symbols = self.model, coded.symbols
        if model.quantiser is None:
            return float(HALF * symbols.numel())
        maps = symbols if symbols.ndim == 4 else symbols.transpose(1, 2).flatten(0, 1)
        if model.entropy is not None:
            return float(8 * sum(len(layer) for one in model.entropy.encode(maps) for layer in one))
        return _capacity(model.quantiser) * (maps.numel() / maps.shape[1])


def _levels(x: Tensor) -> Pictures:
    """8-bit pictures (..., H, W, C) from x (..., C, H, W) in about [-1, 1]."""
    levels = ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.movedim(-3, -1).cpu().numpy()


def _capacity(quantiser: LatentQuantiser) -> float:
    """Bits of a place if all its symbols are alike likely."""
    if isinstance(quantiser, Codebook):
        return math.log2(quantiser.book.size)
    if isinstance(quantiser, FiniteScalar):
        return math.log2(math.prod(quantiser.scale.levels))
    if isinstance(quantiser, LookupFree):
        return float(quantiser.channels)
    raise BadInput("uniform steps have no bound; their bits are those of an entropy model, and this model has none")


def _fading(before: bool, after: bool, length: int, fade: int) -> Tensor:
    """Weights (length,) of a window: rising over `fade` where there is one before it, falling where one is after."""
    place = torch.arange(length) + 0.5
    weight = torch.ones(length)
    if before:
        weight *= (place / fade).clamp(max=1)
    if after:
        weight *= ((length - place) / fade).clamp(max=1)
    return weight
