"""The diffusion autoencoder of seed 002: a small code of a picture, and a large decoder that draws what is lacking.

      z = first stage(x),    c = encoder(x) (f32 to f64, 16 channels),    z_hat drawn given c by diffusion

The first stage is a frozen autoencoder, whose latents are drawn instead of pixels. The code is all that is stored; it
may be quantised (codec/quantise.py). In training it is left out at times, and so is the text, if there is one: what is
learned without them is what classifier-free guidance leads away from.

Clips (B, T, 3, H, W) go frame by frame through first stage and encoder; codes are shortened along time
(codec/times.py), and `paired` frames of the first stage's latents stand beside each other as channels.
Paper: its first stage of video has a time factor of 2 and is not described; pairs of frames are that, without loss.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from framefill.arrays import Rng, expand
from framefill.codec.encoder import LatentEncoder
from framefill.codec.entropy import EntropyModel
from framefill.codec.quantise import LatentQuantiser
from framefill.codec.times import Times
from framefill.diffusion.denoiser import Denoiser, plain
from framefill.diffusion.weight import Weight
from framefill.errors import BadInput
from framefill.latents.autoencoder import Autoencoder
from framefill.nets.asymmetric import AsymmetricUNet


def level(t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """(2 / pi) atan(sigma / alpha), 0 clean to 1 noise: what the U-Net is told, as in the program."""
    return torch.atan2(sigma, alpha) * (2 / torch.pi)


class Told(nn.Module):
    """The U-Net as a network of x, a label and one condition: maps, and a text as planes of one value each."""

    def __init__(self, network: AsymmetricUNet, text: tuple[int, int] = (0, 0)):
        super().__init__()
        self.network, self.text = network, text

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None) -> Tensor:
        """x (B, C, H, W), label (B,) in [0, 1], cond (B, K + L D, h, w), text (L, D), to a like of x."""
        if cond is None:
            return self.network(x, label)
        maps = cond[:, : self.network.condition]
        if not self.text[0]:
            return self.network(x, label, maps)
        words = cond[:, self.network.condition :].flatten(2)[..., 0].unflatten(1, self.text)
        return self.network(x, label, maps, text=words)


@dataclass(frozen=True)
class Lesson:
    """How a batch is learned: at times t (B,), with `weight`, codes of pictures at `share` of their sides.

    Codes are left out with probability `dropped`, text with `silent`. A bit per place of the signal costs `rate`.
    """

    t: Tensor
    weight: Weight
    share: float = 1.0
    dropped: float = 0.1
    silent: float = 0.05
    rate: float = 0.0


class DiffusionAutoencoder(nn.Module):
    """Pictures, or with `times` clips, to codes and back. The parts are described in the module.

    `text` are length and width of text embeddings, (0, 0) for none. An `entropy` model says what symbols cost.
    """

    def __init__(
        self,
        first: Autoencoder,
        encoder: LatentEncoder,
        denoiser: Denoiser,
        *,
        quantiser: LatentQuantiser | None = None,
        entropy: EntropyModel | None = None,
        times: Times | None = None,
        paired: int = 1,
        text: tuple[int, int] = (0, 0),
    ):
        super().__init__()
        self.first, self.encoder, self.denoiser = first.requires_grad_(False), encoder, denoiser
        self.quantiser, self.entropy, self.times = quantiser, entropy, times
        self.paired, self.text = paired, text

    # ---- what is drawn -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def signal(self, x: Tensor) -> Tensor:
        """Of pictures (B, 3, H, W) in [-1, 1] the standardised latents of the first stage (B, C, H / s, W / s).

        Of clips (B, T, 3, H, W), with `paired` frames as channels, (B, paired C, T / paired, H / s, W / s).
        """
        if self.times is None:
            return self.first.encode(x).float()
        if x.ndim != 5 or x.shape[1] % self.paired:
            raise BadInput(
                f"this model takes clips (B, T, 3, H, W), T a multiple of {self.paired}; got {tuple(x.shape)}"
            )
        z = self.first.encode(x.flatten(0, 1)).float().unflatten(0, (len(x), -1, self.paired))
        return z.flatten(2, 3).transpose(1, 2)

    def picture(self, z: Tensor) -> Tensor:
        """The way back."""
        if self.times is None:
            return self.first.decode(z)
        frames = z.transpose(1, 2).unflatten(2, (self.paired, -1)).flatten(1, 2)
        return self.first.decode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    # ---- what is stored ----------------------------------------------------------------------------------------

    def codes(self, x: Tensor, share: float = 1.0) -> Tensor:
        """Standardised codes (B, K, h, w) of pictures at `share` of their sides, or (B, K, t, h, w) of clips."""
        if self.times is None:
            return self.encoder(x, share)
        raw = self.encoder.raw(x.flatten(0, 1), share).unflatten(0, x.shape[:2]).transpose(1, 2)
        return self.encoder.norm(self.times.squeeze(raw))

    def rounded(self, codes: Tensor, rng: Rng | None = None) -> tuple[Tensor, Tensor]:
        """What the decoder sees of codes, and its costs (2, B): the quantiser's penalty, bits per place of the code.

        Without a quantiser codes stay as they are and cost nothing; without an entropy model bits count as nothing.
        """
        nothing = codes.new_zeros(2, len(codes))
        if self.quantiser is None:
            return codes, nothing
        found = self.quantiser(_frames(codes), rng)
        bits = torch.zeros_like(found.penalty)
        if self.entropy is not None:
            bits = self.entropy.bits(found.symbols).to(bits.dtype) / found.symbols[0, 0].numel()
        costs = torch.stack([found.penalty, bits]).view(2, len(codes), -1).mean(2)
        return _clips(found.values, codes), costs

    def symbols(self, codes: Tensor) -> Tensor:
        """Codes as whole numbers int64; without a quantiser as they are, in float16, as seed 002 stores them."""
        if self.quantiser is None:
            return codes.half()
        return _clips(self.quantiser.symbols(_frames(codes)), codes)

    def values(self, symbols: Tensor) -> Tensor:
        """What the decoder sees of them, float32."""
        if self.quantiser is None:
            return symbols.float()
        return _clips(self.quantiser.values(_frames(symbols)), symbols)

    def condition(self, values: Tensor, text: Tensor | None = None) -> Tensor:
        """What the denoiser is told: values, at the clip's length again, and a text (B, L, D), or zeros for it."""
        maps = values if self.times is None else self.times.deflate(values)
        length, width = self.text
        if not length:
            return maps
        words = maps.new_zeros(len(maps), length, width) if text is None else text.to(maps.dtype)
        if tuple(words.shape[1:]) != self.text:
            raise BadInput(f"this model takes texts (B, {length}, {width}), got {tuple(words.shape)}")
        planes = words.flatten(1).view(len(maps), -1, *[1] * (maps.ndim - 2)).expand(-1, -1, *maps.shape[2:])
        return torch.cat([maps, planes], 1)

    def loss(self, x: Tensor, lesson: Lesson, rng: Rng, text: Tensor | None = None) -> Tensor:
        """The weighted error of the denoiser with the costs of the code, per example (B,)."""
        z = self.signal(x)
        values, (penalty, bits) = self.rounded(self.codes(x, lesson.share), rng)
        cond = self.condition(
            expand(_kept(rng, lesson.dropped, values), values) * values, self._heard(text, lesson, rng)
        )
        error = self.denoiser.loss(z, lesson.t, cond, lesson.weight, rng, space=plain)
        places = values[0, 0].numel() / z[0, 0].numel()
        return error + penalty + lesson.rate * places * bits

    def _heard(self, text: Tensor | None, lesson: Lesson, rng: Rng) -> Tensor | None:
        return None if text is None else text * expand(_kept(rng, lesson.silent, text), text)


def _kept(rng: Rng, dropped: float, like: Tensor) -> Tensor:
    """1 for samples that keep what they are told, 0 for the share `dropped` (B,)."""
    return (rng.uniform() >= dropped).to(like)


def _frames(codes: Tensor) -> Tensor:
    """Clips' codes (B, K, t, h, w) as (B t, K, h, w); those of pictures as they are."""
    return codes if codes.ndim == 4 else codes.transpose(1, 2).flatten(0, 1)


def _clips(frames: Tensor, like: Tensor) -> Tensor:
    """The way back, to as many clips as `like` has."""
    return frames if like.ndim == 4 else frames.unflatten(0, (len(like), -1)).transpose(1, 2)
