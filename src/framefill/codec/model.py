"""The learned part of the picture codec: a small diffusion autoencoder whose first estimate is a transform code.

      symbols = round((A x + encoder(x)) / step_q),     values = symbols step_q
      x_hat(x_t, t) = S values + painter(x_t - alpha_t S values, S values, values, t, q)

A and S begin as block cosines and back (codec/transform.py), so an untrained model is a plain transform codec, and
training only improves on it. At t = 1 without noise the painter gives the mean of what the symbols allow: the faithful
decode, one call. From noise it draws a likely picture in a few calls: the realistic one (seed 002, section 3).

Paper: seed 002 encodes to f32 features of 16 floats and paints the latents of a VQGAN. Here pixels are painted, for
a first stage would bound every rate by its own loss (docs/latents.md: 24.8 dB at f4).
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.codec.context import Contextual
from framefill.codec.entropy import EntropyModel
from framefill.codec.transform import BLOCK, analysis, synthesis
from framefill.diffusion.denoiser import Denoiser, Model, angle_label
from framefill.diffusion.guide import Wrapper
from framefill.diffusion.noise import White
from framefill.diffusion.sample import DPMSolver, Sampler
from framefill.diffusion.schedule import cosine, shifted
from framefill.diffusion.target import X
from framefill.errors import BadInput
from framefill.nets.asymmetric import AsymmetricUNet, Plan
from framefill.nets.exact import straight
from framefill.nets.mixing import Filter, dense, halve, norm

PATCH = BLOCK // 2
LESS = 0.03  # symbols are rounded up from 0.5 + this: of a trained codec 2 % fewer bits at equal SSIMULACRA2
SPREAD = 0.08  # of what is left to paint, in units of pixels in [-1, 1]

Draw = Callable[[int], Tensor]
"""Number of a draw, 0 first, to standard normal noise (B, 3, H, W): the same number, the same noise."""


@dataclass(frozen=True)
class Sizes:
    """What a compressor is made of: latent channels of luma and of each chroma, widths and blocks of both networks.

    `encoder` and `widths` start at a quarter of the picture's sides; `encoder` ends at an eighth. `groups` and `hidden`
    are the entropy model's.
    """

    luma: int = 18
    chroma: int = 6
    encoder: Sequence[int] = (32, 96)
    encoder_blocks: Sequence[int] = (1, 3)
    widths: Sequence[int] = (48, 128, 192)
    down: Sequence[int] = (1, 3, 3)
    up: Sequence[int] = (2, 3, 3)
    groups: int = 4
    hidden: int = 48

    @property
    def channels(self) -> int:
        """Of the latents."""
        return self.luma + 2 * self.chroma

    def plan(self) -> Plan:
        """Of the painter."""
        levels = len(self.widths)
        return Plan(
            widths=self.widths, heads=(0,) * levels, down=self.down, up=self.up, repeats=(1,) * levels,
            dropout=(0.0,) * levels, patch=PATCH, response=False,
        )  # fmt: skip


class Analysis(nn.Module):
    """Pictures (B, 3, H, W) to latents (B, C, H / 8, W / 8): block cosines and what a network adds to them."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.line = nn.Parameter(analysis(sizes.luma, sizes.chroma))
        wide, deep = sizes.encoder
        self.enter = dense(3 * PATCH**2, wide)
        nn.init.normal_(
            self.enter.bias, std=0.1
        )  # the norms that follow forget how large their input is; this does not
        self.fine = nn.ModuleList([Filter(wide, response=False) for _ in range(sizes.encoder_blocks[0])])
        self.halve = halve(wide, deep)
        self.coarse = nn.ModuleList([Filter(deep, response=False) for _ in range(sizes.encoder_blocks[1])])
        self.leave = dense(deep, sizes.channels)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor) -> Tensor:
        """H and W are multiples of 8."""
        h = self.enter(F.pixel_unshuffle(x, PATCH).movedim(1, -1))
        for block in self.fine:
            h = block(h)
        h = self.halve(norm(h))
        for block in self.coarse:
            h = block(h)
        with torch.autocast(x.device.type, enabled=False):  # a coefficient of 8 needs more than bfloat16's 3 digits
            return F.conv2d(x.float(), self.line, stride=BLOCK) + self.leave(norm(h).float()).movedim(-1, 1)


class Painter(nn.Module):
    """Clean estimates from noisy pictures; the condition is the values, and the quality in [0, 1] as one more plane.

    What noise hides of x is not x but r = x - S values, of a standard deviation near SPREAD. So r is what is denoised,
    preconditioned as in Karras et al. (2022), table 1, with sigma_data = SPREAD; a fresh painter adds nothing.
    """

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.line = nn.Parameter(synthesis(sizes.luma, sizes.chroma))
        self.network = AsymmetricUNet(6, sizes.channels, sizes.plan(), answers=3)
        nn.init.normal_(self.network.enter.bias, std=0.02)  # as in `Analysis`

    def plain(self, values: Tensor) -> Tensor:
        """S values (B, 3, H, W), float32."""
        with torch.autocast(values.device.type, enabled=False):
            return F.conv_transpose2d(values.float(), self.line, stride=BLOCK)

    def forward(self, x_t: Tensor, label: Tensor, cond: Tensor) -> Tensor:
        """x_t (B, 3, H, W), label (B,) in [0, 1000], cond (B, C + 1, H / 8, W / 8) to (B, 3, H, W)."""
        values, quality = cond[:, :-1], cond[:, -1, 0, 0]
        angle = (1 - label / 1000)[:, None, None, None] * (math.pi / 2)
        alpha, sigma, plain = angle.cos(), angle.sin(), self.plain(values)
        scale = (SPREAD**2 * alpha**2 + sigma**2).rsqrt()
        unknown = (x_t - alpha * plain) * scale
        added = self._asked(torch.cat([unknown, plain], 1), label / 1000, values, quality)
        return plain + SPREAD**2 * alpha * scale * unknown + SPREAD * sigma * scale * added

    def _asked(self, seen: Tensor, t: Tensor, values: Tensor, quality: Tensor) -> Tensor:
        """The network halves more often than latents do: their edges go on as far as it needs."""
        H, W = seen.shape[2:]
        right, below = -W % self.network.stride, -H % self.network.stride
        if right or below:
            seen = F.pad(seen, (0, right, 0, below), mode="replicate")
            values = F.pad(values, (0, right // BLOCK, 0, below // BLOCK), mode="replicate")
        return self.network(seen, t, values, second=quality)[..., :H, :W].float()


@dataclass(frozen=True)
class Given(White):
    """White noise that was drawn elsewhere, in order; whoever asks gets the next."""

    draws: Iterator[Tensor]

    def like(self, x: Tensor, rng: Rng) -> Tensor:
        """The next."""
        return next(self.draws).to(x)


class Fed(Wrapper):
    """A model whose samplers get their noise from the caller."""

    def __init__(self, model: Model, draws: Iterator[Tensor]):
        super().__init__(model)
        self.noise = Given(draws)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The model's."""
        return self.model(x_t, t, cond)


class Compressor(nn.Module):
    """Pictures to symbols and back at one of several qualities, 0 the smallest files; see the module.

    `steps` (Q,) are the quantisation steps to begin with, in units of pixels in [-1, 1]; every quality and channel
    learns its own. `sampler`, by its number of steps, draws the realistic picture: a distilled painter
    (recipes/distilled.py) goes with `Multistep`. `temperature` multiplies the noise of a realistic decode: below 1 it
    keeps nearer to the mean, which a painter of little training needs.
    """

    stride = BLOCK

    def __init__(
        self, sizes: Sizes, steps: Sequence[float], sampler: Callable[[int], Sampler] = DPMSolver,
        *, temperature: float = 1.0,
    ):  # fmt: skip
        super().__init__()
        self.sampler, self.temperature = sampler, temperature
        if not steps or min(steps) <= 0:
            raise BadInput(f"a codec has one positive step or more, one for each quality; got {tuple(steps)}")
        self.analysis = Analysis(sizes)
        start = torch.tensor(steps).log()[:, None]
        self.log_steps = nn.Parameter(start.expand(-1, sizes.channels).clone())
        self.entropy: EntropyModel = Contextual(
            sizes.channels, groups=sizes.groups, hidden=sizes.hidden, settings=len(steps)
        )
        self.denoiser = Denoiser(Painter(sizes), shifted(cosine(-10, 10), SPREAD), X(), label=angle_label)

    @property
    def qualities(self) -> int:
        """How many there are."""
        return len(self.log_steps)

    @property
    def painter(self) -> Painter:
        """The denoiser's network."""
        found = self.denoiser.network
        assert isinstance(found, Painter)
        return found

    def coded(self, x: Tensor, quality: Tensor) -> Tensor:
        """Symbols of x (B, 3, H, W), whole numbers in floats with gradients straight through the rounding."""
        scaled = self.analysis(x) / self.steps(quality)
        return straight(scaled.round(), scaled)

    def symbols(self, x: Tensor, quality: Tensor) -> Tensor:
        """Symbols int64 (B, C, H / 8, W / 8) of pictures x (B, 3, H, W) in [-1, 1] at qualities (B,).

        BadInput unless H and W are multiples of 8, the numbers finite and the qualities there.
        """
        _check(x)
        if len(quality) != len(x) or not bool(((quality >= 0) & (quality < self.qualities)).all()):
            raise BadInput(f"give one quality of 0..{self.qualities - 1} per picture, got {quality.tolist()}")
        scaled = self.latents(x) / self.steps(quality)
        return (scaled.sign() * (scaled.abs() + 0.5 - LESS).floor()).long()

    def latents(self, x: Tensor) -> Tensor:
        """What is rounded, (B, C, H / 8, W / 8), of pictures x (B, 3, H, W) in [-1, 1]; BadInput as in `symbols`."""
        _check(x)
        return self.analysis(x)

    def steps(self, quality: Tensor) -> Tensor:
        """How finely, (B, C, 1, 1), at qualities (B,)."""
        return self.log_steps[quality].exp()[:, :, None, None]

    def setting(self, quality: int, kind: int) -> int:
        """What `steps`, `values` and the entropy model are told for a band of video: the quality, whatever its kind."""
        return quality

    def values(self, symbols: Tensor, quality: Tensor) -> Tensor:
        """What the painter sees of symbols (B, C, h, w): float32, the same shape."""
        return symbols.float() * self.steps(quality)

    def mean(self, values: Tensor, quality: Tensor) -> Tensor:
        """The faithful decode (B, 3, H, W), about [-1, 1], in one call."""
        latest = torch.ones(len(values), dtype=torch.float64, device=values.device)
        alpha = self.denoiser.schedule(latest)[0].float()
        start = alpha[:, None, None, None] * self.painter.plain(values)
        return self.denoiser(start, latest, self.condition(values, quality))

    def sample(self, values: Tensor, quality: Tensor, noise: Draw, steps: int) -> Tensor:
        """A realistic decode (B, 3, H, W) in `steps` calls, from draw 0; some samplers ask for draws 1, 2, ... too."""
        draws = (self.temperature * noise(k) for k in count())
        sampler, model = self.sampler(steps), Fed(self.denoiser, draws)
        path = sampler.path(model)
        start = path[0].alpha * self.painter.plain(values) + path[0].sigma * next(draws)
        nothing = Rng([0] * len(values))
        made = sampler.trajectory(model, start, self.condition(values, quality), nothing, path=path)
        return deque(made, 1)[0]

    def condition(self, values: Tensor, quality: Tensor) -> Tensor:
        """What the painter is told: values and quality."""
        share = quality.to(values.dtype) / max(self.qualities - 1, 1)
        return torch.cat([values, share[:, None, None, None].expand(-1, 1, *values.shape[2:])], 1)

    def fingerprint(self, quality: int) -> bytes:
        """Four bytes that a file names model and quality by: of sha256(sha256 of all tensors, quality)."""
        return sha256(self.digest() + bytes([quality])).digest()[:4]

    def digest(self) -> bytes:
        """sha256 of all tensors, float32 in order of their names, each after its name."""
        whole = sha256()
        for name, tensor in sorted(self.state_dict().items()):
            whole.update(name.encode() + b"\0" + tensor.detach().cpu().float().numpy().astype("<f4").tobytes())
        return whole.digest()


def _check(x: Tensor) -> None:
    if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % BLOCK or x.shape[3] % BLOCK or not x.numel():
        raise BadInput(f"pictures of shape {tuple(x.shape)}; give (B, 3, H, W) with sides that are multiples of 8")
    if not bool(x.isfinite().all()):
        raise BadInput("the picture has NaN or infinite values; it cannot be coded")
