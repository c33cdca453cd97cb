"""The contract of autoencoders: pictures in [-1, 1] to standardised latents and back, and a loss.

      z = (f(x) - mean) / std          x = g(mean + std z)

mean and std, one per latent channel, are parameters without gradient: they follow the latents during training, can be
measured exactly afterwards, and travel with the weights. A diffusion model over z therefore always sees variance 1.
On request (`straight`) colours go a straight way: their means over what one latent covers are added to the first
latent channels, and those, read linearly between, to the picture. The networks then only add what is finer, and
group norms, which forget how bright a picture is, cannot tint it.
Latents have no range, so nothing may clip them: clipping them to [-1, 1] is what tinted the pictures of seed 004.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.latents.distance import Distance
from framefill.latents.together import follow
from framefill.nets.autoencoder import Decoder, Encoder
from framefill.nets.layers import conv

LEAST_STD = 1e-6
Network = TypeVar("Network", Encoder, Decoder)


@dataclass(frozen=True)
class Layout:
    """Shapes of encoder and decoder, as `nets.autoencoder` takes them; by default f8 of latent diffusion.

    `channels` of the pictures, `latent_channels` of the latents, `hidden` between the networks and the 1x1
    convolutions around the latents (0: as many as the latents have). `straight` as in the module, for which latents
    need as many channels as pictures.
    """

    channels: int = 3
    latent_channels: int = 4
    hidden: int = 0
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    blocks: int = 2
    attention: tuple[bool, ...] = (False, False, False, True)
    groups: int = 32
    straight: bool = False

    def encoder(self, outputs: int) -> Encoder:
        """The encoder, freshly initialised."""
        return self._network(Encoder, self.channels, outputs)

    def decoder(self, inputs: int) -> Decoder:
        """The decoder, freshly initialised."""
        return self._network(Decoder, inputs, self.channels)

    def _network(self, kind: type[Network], inputs: int, outputs: int) -> Network:
        return kind(
            inputs, outputs, width=self.width, multipliers=self.multipliers, blocks=self.blocks,
            attention=self.attention, groups=self.groups,
        )  # fmt: skip


class Autoencoder(nn.Module, ABC):
    """What `VQGAN` and `KLVAE` share; `per_latent` numbers of the encoder make one latent channel."""

    def __init__(self, layout: Layout, *, per_latent: int = 1):
        super().__init__()
        hidden = layout.hidden or layout.latent_channels
        if min(layout.latent_channels, hidden) < 1:
            raise BadInput(f"latents need 1 channel or more, got {layout.latent_channels} beside {hidden}")
        if layout.straight and layout.latent_channels < layout.channels:
            raise BadInput(
                f"colours need {layout.channels} latent channels to go straight, got {layout.latent_channels}; give "
                "more, or straight=false"
            )
        self.layout = layout
        self.encoder, self.decoder = layout.encoder(per_latent * hidden), layout.decoder(hidden)
        self.to_latent = conv(per_latent * hidden, per_latent * layout.latent_channels, 1)
        self.from_latent = conv(layout.latent_channels, hidden, 1)
        start = torch.tensor([[0.0], [1.0]]).expand(2, layout.latent_channels).clone()
        self.moments = nn.Parameter(start, requires_grad=False)
        if layout.straight:  # the networks begin with nothing to add
            nn.init.zeros_(self.to_latent.weight)
            nn.init.zeros_(self.decoder.head.weight)

    @property
    def stride(self) -> int:
        """Pixels per latent, along both axes."""
        return self.encoder.stride

    @property
    def mean(self) -> Tensor:
        """(C, 1, 1), of latents before they are standardised."""
        return self.moments[0][:, None, None]

    @property
    def std(self) -> Tensor:
        """(C, 1, 1), likewise."""
        variance = self.moments[1] - self.moments[0].square()
        return variance.clamp(min=LEAST_STD**2).sqrt()[:, None, None]

    def encode(self, x: Tensor) -> Tensor:
        """Pictures x (B, channels, H, W) in [-1, 1] to z (B, latent_channels, H / stride, W / stride), standardised.

        BadInput unless H and W are multiples of `stride`; `tiles.Tiled` takes any size.
        """
        return (self._code(x) - self.mean) / self.std

    def decode(self, z: Tensor) -> Tensor:
        """The pictures of standardised latents z (B, latent_channels, h, w) of any size, not clipped."""
        return self._picture(self._unscaled(z))

    def loss(self, x: Tensor, rng: Rng, distance: Distance) -> Tensor:
        """`distance` of the reconstruction plus the latents' penalty, per picture (B,)."""
        made, penalty = self.reconstruct(x, rng)
        return distance(made, x) + penalty

    @abstractmethod
    def reconstruct(self, x: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """The pictures as training sees them come back, and the penalty of their latents (B,)."""

    def last_layer(self) -> Tensor:
        """The weight that every pixel of a reconstruction passes last."""
        return self.decoder.head.weight

    def notes(self) -> dict[str, float]:
        """What is worth logging of the last training batch."""
        return {}

    @torch.no_grad()
    def measure(self, batches: Iterable[Tensor]) -> None:
        """Sets mean and std to those of the latents of all `batches` (B, channels, H, W): exact, in double precision.

        Every latent counts once. BadInput where there is none.
        """
        count, total = 0, torch.zeros(2, self.layout.latent_channels, dtype=torch.float64)
        for batch in batches:
            z = self._code(batch).double().cpu()
            total += torch.stack([z.sum((0, 2, 3)), z.square().sum((0, 2, 3))])
            count += z[:, 0].numel()
        if not count:
            raise BadInput("there are no pictures to measure latents on; give at least one batch")
        self.moments.copy_(total / count)

    @torch.no_grad()
    def state_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Sets mean and std (C,) to numbers that are known."""
        self.moments.copy_(torch.stack([mean, mean.square() + std.square()]))

    @torch.no_grad()
    def _follow(self, z: Tensor) -> None:
        """Lets the running statistics see a batch of latents that are not standardised."""
        follow(self.moments, torch.stack([z.mean((0, 2, 3)), z.square().mean((0, 2, 3))]))

    def _unscaled(self, z: Tensor) -> Tensor:
        if z.ndim != 4 or z.shape[1] != self.layout.latent_channels:
            raise BadInput(
                f"latents have shape {tuple(z.shape)}; this autoencoder takes (B, {self.layout.latent_channels}, h, w)"
            )
        return z * self.std + self.mean

    def _code(self, x: Tensor) -> Tensor:
        z: Tensor = self.to_latent(self.encoder(x))
        if self.layout.straight:
            z = z + F.pad(F.avg_pool2d(x, self.stride), (0, 0, 0, 0, 0, z.shape[1] - x.shape[1]))
        return z

    def _picture(self, z: Tensor) -> Tensor:
        made: Tensor = self.decoder(self.from_latent(z))
        if self.layout.straight:
            made = made + F.interpolate(z[:, : made.shape[1]], scale_factor=self.stride, mode="bilinear")
        return made
