"""VQGAN: an autoencoder whose latents are words of a codebook (Esser et al. 2021).

As in latent diffusion, `encode` gives the latents before they are quantised and `decode` quantises first: a model of
latents may then miss a code by a little and still hit it. `indices` and `latents` go between latents and words.

In training `bypass` is the share of pictures that reach the decoder as they are, not quantised (as in the speech codec
Mimi, Defossez et al. 2024). Paper: VQGAN has none of this, and 0 is without it.
"""

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.latents.autoencoder import Autoencoder, Layout
from framefill.latents.handing import handed_on
from framefill.latents.quantiser import Quantiser


class VQGAN(Autoencoder):
    """An autoencoder with `codes` words; `commitment` and `patience` as in `Quantiser`, `bypass` as in the module."""

    def __init__(
        self,
        layout: Layout,
        *,
        codes: int = 16384,
        commitment: float = 0.25,
        patience: int = 100,
        bypass: float = 0.0,
    ):
        super().__init__(layout)
        if not 0 <= bypass < 1:
            raise BadInput(f"the share of pictures that bypass the codebook is {bypass}; give one in [0, 1)")
        self.bypass = bypass
        self.quantiser = Quantiser(codes, layout.latent_channels, commitment=commitment, patience=patience)

    def indices(self, z: Tensor) -> Tensor:
        """The words (B, h, w), int64 in 0..codes-1, of standardised latents z."""
        return self.quantiser.indices(self._unscaled(z))

    def true_words(self, z: Tensor) -> Tensor:
        """As `indices`, but true in mean colour: what a word takes from colours that go straight, its neighbours get.

        Without `straight` these are `indices`.
        """
        if not self.layout.straight:
            return self.indices(z)
        return handed_on(self._unscaled(z), self.quantiser.codebook, channels=self.layout.channels)

    def latents(self, indices: Tensor) -> Tensor:
        """The standardised latents (B, C, h, w) of words (B, h, w); BadInput for words that are not in the codebook."""
        return (self.quantiser.codes(indices) - self.mean) / self.std

    def reconstruct(self, x: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """As in `Autoencoder`; the penalty is the quantiser's."""
        z = self._code(x)
        found = self.quantiser(z)
        codes = found.codes
        if self.training:
            self._follow(z)
        if self.training and self.bypass:
            codes = torch.where(rng.uniform((1, 1, 1), z) < self.bypass, z.to(codes.dtype), codes)
        return super()._picture(codes), found.penalty

    def notes(self) -> dict[str, float]:
        """Perplexity and use of the codebook."""
        return self.quantiser.notes()

    def _picture(self, z: Tensor) -> Tensor:
        return super()._picture(self.quantiser.codes(self.quantiser.indices(z)))
