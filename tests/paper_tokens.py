"""The tokenizers and priors of paper 000 at its sizes (tables 7 to 9), for clips of any number of frames.

1024 codes and patches of 4x4 pixels; 2 frames a patch, or for single images 1, and then 8 spatial layers in place of 4
spatial and 4 temporal ones. Paper: codes are as wide as the features; 32 numbers keep more of them in use.
"""

from framefill.errors import BadInput
from framefill.latents.priors.autoregressive import Autoregressive
from framefill.latents.priors.masked import Criticised, Masked
from framefill.latents.quantiser import Quantiser
from framefill.latents.tokenizer import Tokenizer
from framefill.nets.clips import ClipTransformer, Patches
from framefill.nets.tokens import CausalTokens, Grid, MaskedTokens

CODES, CODE_WIDTH, CRITIC_LAYERS = 1024, 32, 6


def tokenizer(frames: int, *, channels: int = 3) -> Tokenizer:
    """The paper's VQ-VAE for 1 frame, its C-ViViT for an even number, and for other odd ones one with a first frame."""
    if frames < 1:
        raise BadInput(f"clips have at least 1 frame, got {frames}")
    if frames == 1:
        network = ClipTransformer(channels, Patches(1), spatial=8, temporal=0)
    else:
        network = ClipTransformer(channels, Patches(2, first_alone=frames % 2 == 1))
    return Tokenizer(network, Quantiser(CODES, CODE_WIDTH))


def autoregressive(grid: Grid, *, classes: int = 0) -> Autoregressive:
    """ImageGPT or VideoGPT over a tokenizer's `grid`: 8 layers of width 144."""
    return Autoregressive(CausalTokens(CODES, grid, classes=classes))


def masked(grid: Grid, *, classes: int = 0) -> Masked:
    """MaskGit or Phenaki: 6 layers of width 512."""
    return Masked(MaskedTokens(CODES, grid, classes=classes))


def criticised(grid: Grid, *, classes: int = 0) -> Criticised:
    """The same with a critic of the same size."""
    critic = MaskedTokens(CODES, grid, classes=classes, layers=CRITIC_LAYERS, outputs=1)
    return Criticised(MaskedTokens(CODES, grid, classes=classes), critic)
