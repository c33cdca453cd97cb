"""VQGAN: an autoencoder whose latents are words of a codebook (Esser et al. 2021).

As in latent diffusion, `encode` gives the latents before they are quantised and `decode` quantises first: a model of
latents may then miss a code by a little and still hit it. `indices` and `latents` go between latents and words.
"""

from torch import Tensor

from framefill.arrays import Rng
from framefill.latents.autoencoder import Autoencoder, Layout
from framefill.latents.quantiser import Quantiser


class VQGAN(Autoencoder):
    """An autoencoder with `codes` words; `commitment` and `patience` as in `Quantiser`."""

    def __init__(self, layout: Layout, *, codes: int = 16384, commitment: float = 0.25, patience: int = 100):
        super().__init__(layout)
        self.quantiser = Quantiser(codes, layout.latent_channels, commitment=commitment, patience=patience)

    def indices(self, z: Tensor) -> Tensor:
        """The words (B, h, w), int64 in 0..codes-1, of standardised latents z."""
        return self.quantiser.indices(z * self.std + self.mean)

    def latents(self, indices: Tensor) -> Tensor:
        """The standardised latents (B, C, h, w) of words (B, h, w); BadInput for words that are not in the codebook."""
        return (self.quantiser.codes(indices) - self.mean) / self.std

    def reconstruct(self, x: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """As in `Autoencoder`; the penalty is the quantiser's."""
        z = self._code(x)
        found = self.quantiser(z)
        if self.training:
            self._follow(z)
        return self.decoder(self.from_latent(found.codes)), found.penalty

    def notes(self) -> dict[str, float]:
        """Perplexity and use of the codebook."""
        return self.quantiser.notes()

    def _picture(self, z: Tensor) -> Tensor:
        return super()._picture(self.quantiser.codes(self.quantiser.indices(z)))
