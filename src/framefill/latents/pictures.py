"""`PictureCoder`: 8-bit pictures to latents and back. Verbs, no mathematics."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.latents.adversarial import Adversarial
from framefill.latents.autoencoder import Autoencoder
from framefill.latents.tiles import Tiled
from framefill.latents.vqgan import VQGAN

Pictures = NDArray[np.uint8]
"""uint8 (N, H, W, C)."""


@dataclass(frozen=True)
class PictureCoder:
    """A trained autoencoder: `model` is one, or one with its adversary. Any size goes, tile by tile where it is large.

    `tile`, `halo` and `fade` as in `Tiled`; pictures are taken `batch` at a time. Words of a codebook are chosen for a
    whole picture, as in `VQGAN.true_words`; where the picture is known, once more after each of `rounds` of decoding
    them, with the colours moved against the tint that came back.
    """

    model: nn.Module
    device: str = "cpu"
    card: Any = None
    tile: int = 64
    halo: int = 4
    fade: int = 8
    batch: int = 8
    rounds: int = 2

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder by itself."""
        found = self.model.autoencoder if isinstance(self.model, Adversarial) else self.model
        assert isinstance(found, Autoencoder)
        return found

    def encode(self, pictures: Pictures) -> Tensor:
        """Standardised latents (N, C, h, w), float32 on the CPU; BadInput for other pictures than the model's."""
        return torch.cat([z.cpu() for z in self._encoded(pictures)])

    def decode(self, latents: Tensor, size: tuple[int, int] | None = None) -> Pictures:
        """Pictures of `size` (H, W) from standardised latents (N, C, h, w), rounded; BadInput for a wrong size."""
        vqgan = self._vqgan
        parts = (z.to(self.device) for z in latents.split(self.batch))
        codes = (vqgan.latents(vqgan.true_words(z)) for z in parts) if vqgan else parts
        return np.concatenate([self._painted(z, size) for z in codes])

    def reconstruct(self, pictures: Pictures) -> Pictures:
        """What is left of pictures after the way there and back."""
        vqgan = self._vqgan
        codes = map(vqgan.latents, self._written(vqgan, pictures)) if vqgan else self._encoded(pictures)
        return np.concatenate([self._painted(z, pictures.shape[1:3]) for z in codes])

    def words(self, pictures: Pictures) -> NDArray[np.int64]:
        """The words (N, h, w) that pictures are written with; BadInput where the model has no codebook."""
        vqgan = self._vqgan
        if vqgan is None:
            raise BadInput("this autoencoder has no codebook, so no words; take one that was trained with codes=...")
        return np.concatenate([words.cpu().numpy() for words in self._written(vqgan, pictures)])

    @property
    def _vqgan(self) -> VQGAN | None:
        return self.autoencoder if isinstance(self.autoencoder, VQGAN) else None

    def _tiled(self) -> Tiled:
        return Tiled(self.autoencoder, self.tile, self.halo, self.fade)

    def _written(self, vqgan: VQGAN, pictures: Pictures) -> Iterator[Tensor]:
        """The words (b, h, w) of each batch of pictures."""
        layout, starts = vqgan.layout, range(0, len(pictures), self.batch)
        for start, z in zip(starts, self._encoded(pictures), strict=True):
            part = pictures[start : start + self.batch]
            words, moved = vqgan.true_words(z), torch.zeros_like(z)
            for _ in range(self.rounds if layout.straight else 0):
                back = self._painted(vqgan.latents(words), part.shape[1:3])
                tint = torch.from_numpy(back.mean((1, 2)) - part.mean((1, 2))).to(z)[:, :, None, None] / 127.5
                moved[:, : layout.channels] -= tint / vqgan.std[: layout.channels]
                words = vqgan.true_words(z + moved)
            yield words

    def _encoded(self, pictures: Pictures) -> Iterator[Tensor]:
        channels = self.autoencoder.layout.channels
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or 0 in pictures.shape or pictures.shape[3] != channels:
            raise BadInput(
                f"pictures are {pictures.dtype} {pictures.shape}; this autoencoder takes uint8 (N, H, W, {channels})"
            )
        for start in range(0, len(pictures), self.batch):
            levels = torch.from_numpy(pictures[start : start + self.batch].copy()).movedim(-1, 1).to(self.device)
            with torch.inference_mode():
                yield self._tiled().encode(levels.float() / 127.5 - 1)

    def _painted(self, z: Tensor, size: tuple[int, int] | None) -> Pictures:
        """The pictures of latents as they are, rounded."""
        with torch.inference_mode():
            x = self._tiled().decode(z, size)
        return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).cpu().numpy()
