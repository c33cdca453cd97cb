"""Tokenizers: clips to tokens, whole numbers on a grid of time, rows and columns, and back.

      z = A f(clips),   token = index of the code nearest to z,   clips' = g(B code)

f and g are a network that knows clips (`nets.clips.ClipTransformer`, C-ViViT; `nets.convolved.ClipConvolutions`, a
VQ-VAE), A and B the linear maps to and from the width of the codes, and the quantiser is any of `Quantiser`,
`LookupFree` and `FiniteScalar`. With patches of one frame it is a tokenizer of images.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.latents.distance import Distance
from framefill.latents.quantiser import Quantised, Quantising
from framefill.nets.tokens import Grid
from framefill.nets.transformer import start


class Tokenizer(nn.Module):
    """The contract of autoencoders, for clips (B, T, channels, H, W) in [-1, 1] and a `network` that reads them.

    Latents are (B, D, t, h, w), as they are before they are quantised; `decode` quantises first.
    """

    def __init__(self, network: Any, quantiser: Quantising):
        super().__init__()
        self.network, self.quantiser = network, quantiser
        self.to_codes = nn.Linear(network.width, quantiser.width)
        self.from_codes = nn.Linear(quantiser.width, network.width)
        for layer in (self.to_codes, self.from_codes):
            start(layer)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return self.quantiser.size

    def grid(self, frames: int, height: int, width: int) -> Grid:
        """The grid of tokens of such a clip; BadInput where patches do not divide it."""
        return self.network.patches.grid(frames, height, width)

    def bits(self, frames: int, height: int, width: int) -> float:
        """What a clip's tokens cost when all are alike likely: for comparisons at the same rate."""
        return math.prod(self.grid(frames, height, width)) * math.log2(self.vocabulary)

    def encode(self, clips: Tensor) -> Tensor:
        """Clips (B, T, channels, H, W) to latents (B, D, t, h, w)."""
        return self.to_codes(self.network.encode(clips)).permute(0, 4, 1, 2, 3)

    def decode(self, z: Tensor) -> Tensor:
        """The clips of latents (B, D, t, h, w), which are quantised first; not clipped."""
        return self._clips(self.latents(self.indices(z)))

    def indices(self, z: Tensor) -> Tensor:
        """The tokens (B, t, h, w) of latents (B, D, t, h, w)."""
        if z.ndim != 5:
            raise BadInput(f"latents of clips are (B, {self.quantiser.width}, t, h, w), got shape {tuple(z.shape)}")
        return self.quantiser.indices(z.flatten(2, 3)).view(len(z), *z.shape[2:])

    def latents(self, indices: Tensor) -> Tensor:
        """The codes (B, D, t, h, w) of tokens (B, t, h, w); BadInput for tokens that are not in the vocabulary."""
        if indices.ndim != 4:
            raise BadInput(f"tokens of clips are (B, t, h, w), got shape {tuple(indices.shape)}")
        return self.quantiser.codes(indices.flatten(1, 2)).unflatten(2, indices.shape[1:3])

    def tokens(self, clips: Tensor) -> Tensor:
        """The tokens (B, t, h, w) of clips (B, T, channels, H, W), int64."""
        return self.indices(self.encode(clips))

    def clips(self, tokens: Tensor) -> Tensor:
        """The clips (B, T, channels, H, W) of tokens (B, t, h, w), not clipped."""
        return self._clips(self.latents(tokens))

    def loss(self, x: Tensor, rng: Rng, distance: Distance) -> Tensor:
        """`distance` of the reconstruction, a distance of clips, plus the quantiser's penalty: per clip (B,)."""
        made, penalty = self.reconstruct(x, rng)
        return distance(made, x) + penalty

    def reconstruct(self, x: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """The clips as training sees them come back, and the penalty (B,)."""
        z = self.encode(x)
        found: Quantised = self.quantiser(z.flatten(2, 3))
        return self._clips(found.codes.view(z.shape)), found.penalty

    def last_layer(self) -> Tensor:
        """The weight that every pixel of a reconstruction passes last."""
        return self.network.last_layer()

    def notes(self) -> dict[str, float]:
        """Perplexity and use of the codes."""
        return self.quantiser.notes()

    def _clips(self, codes: Tensor) -> Tensor:
        rows = codes.permute(0, 2, 3, 4, 1).to(self.from_codes.weight.dtype)
        return self.network.decode(self.from_codes(rows))


def together(tokenizer: Tokenizer, vocabulary: int, grid: Grid, frames: int, height: int, width: int) -> None:
    """BadInput unless a prior of a `vocabulary` and `grid` speaks of what the tokenizer makes of such clips."""
    made = tokenizer.grid(frames, height, width)
    if tokenizer.vocabulary != vocabulary or tuple(made) != tuple(grid):
        raise BadInput(
            f"the tokenizer has {tokenizer.vocabulary} codes and a grid of {made}, the prior {vocabulary} and "
            f"{tuple(grid)}; take the prior that was trained on this tokenizer"
        )


@torch.no_grad()
def draw(tokenizer: Tokenizer, tokens: Tensor) -> Tensor:
    """The clips of a prior's tokens in [-1, 1]."""
    return tokenizer.clips(tokens).clamp(-1, 1)
