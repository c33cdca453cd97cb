"""Video as a path in a latent space: frames are encoded, a Neural ODE moves the code, any instant is decoded.

    z(t_0) ~ q(z | frames),   dz/dt = f(z),   x(t) = decoder(z(t))      (thesis 001, chapter 3)

The deterministic encoder sees one frame. The recurrent one runs backwards over the frames and gives a Gaussian of the
code at the first of them, the latent ODE of Chen et al. 2018 (facts, section 5). Layouts and sizes are those of the
authors' program. Paper: its first norm makes the encoder blind to brightness and contrast; here it is a plain scale and
shift, of as many parameters. With `timed`, ours, the recurrent encoder is told how much time lies between frames.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.flows.ode import NeuralODE, Solver
from framefill.nets.layered import LayerDecoder, LayerEncoder

STAGES = 4
"""Halvings of the frame on the way in."""


class Code(NamedTuple):
    """A Gaussian of the code at the first frame: mean and logarithm of the variance, (B, D) each."""

    mean: Tensor
    log_variance: Tensor


class Scaled(nn.Module):
    """A learned scale and shift of every channel (N, C, H, W); pixels in [-1, 1] start at [0, 2]."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """weight x + bias."""
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class Down(nn.Module):
    """A residual block that halves its size; activation first, no biases."""

    def __init__(self, inputs: int, outputs: int, *, first: bool = False):
        super().__init__()
        self.before = Scaled(inputs) if first else _norm(inputs)
        self.short = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.between = _norm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H/2, W/2)."""
        x = F.relu(self.before(x))
        return self.short(x) + self.second(F.relu(self.between(self.first(x))))


class Up(nn.Module):
    """A residual block that doubles its size."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.before, self.between = _norm(inputs), _norm(outputs)
        self.short = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        self.first = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', 2 H, 2 W)."""
        x = F.relu(self.before(x))
        return self.short(x) + _narrow(self.second, F.relu(self.between(self.first(x))))


class Layout(NamedTuple):
    """Sizes: of a frame (channels, height, width), of the four stages, of hidden layers and of the code.

    With `layers`, ours, a clip is so many pictures that move (`nets.layered`), `moving` numbers of the code say where,
    and stages are not used.
    """

    size: tuple[int, int, int]
    stages: tuple[int, ...]
    hidden: int
    latent: int
    layers: int = 0
    moving: int = 16

    def checked(self) -> "Layout":
        """Itself; BadInput where frames cannot be halved four times or stages are not four."""
        C, H, W = self.size
        least = 2**STAGES
        if len(self.stages) != STAGES or min(C, H, W, self.hidden, self.latent, *self.stages) < 1:
            raise BadInput(f"a latent ODE has {STAGES} stages and positive sizes, got {self}")
        if H % least or W % least or min(H, W) < 2 * least:  # the norms need two pixels a side after the last stage
            raise BadInput(f"height and width must be multiples of {least} from {2 * least} on, got {H} and {W}")
        if self.layers < 0 or (self.layers and not 0 < self.moving < self.latent):
            raise BadInput(
                f"layers are 0 or more, and from 1 to latent - 1 numbers of the code move; got layers {self.layers}, "
                f"moving {self.moving} and latent {self.latent}"
            )
        return self

    @property
    def smallest(self) -> tuple[int, int, int]:
        """Channels, height and width after the last stage."""
        return self.stages[-1], self.size[1] >> STAGES, self.size[2] >> STAGES

    @property
    def flat(self) -> int:
        """Their product."""
        return self.smallest[0] * self.smallest[1] * self.smallest[2]


class Features(nn.Sequential):
    """Frames (N, C, H, W) to flat features (N, layout.flat)."""

    def __init__(self, layout: Layout):
        widths = [layout.size[0], *layout.stages]
        blocks = [Down(widths[i], widths[i + 1], first=i == 0) for i in range(STAGES)]
        super().__init__(*blocks, nn.Flatten())


class FrameEncoder(nn.Module):
    """The code of the first frame, for certain; the others and their times are not looked at."""

    def __init__(self, layout: Layout):
        super().__init__()
        self.features = Features(layout)
        self.hidden = nn.Linear(layout.flat, layout.hidden)
        self.out = nn.Linear(layout.hidden, layout.latent)

    def each(self, frames: Tensor) -> Tensor:
        """The codes (B, T, D) of frames (B, T, C, H, W), each by itself."""
        codes = self.out(self.hidden(self.features(frames.flatten(0, 1))).tanh())
        return codes.unflatten(0, frames.shape[:2])

    def forward(self, frames: Tensor, times: Tensor, shown: Tensor) -> Code:
        """Of frames (B, T, C, H, W), the first of which is always shown."""
        mean = self.each(frames[:, :1])[:, 0]
        return Code(mean, torch.full_like(mean, -torch.inf))


class RecurrentEncoder(nn.Module):
    """A Gaussian of the code at the first frame, from all that are shown, the last one read first."""

    def __init__(self, layout: Layout, *, timed: bool = False):
        super().__init__()
        self.timed = timed
        self.features = Features(layout)
        self.cell = nn.Linear(layout.flat + layout.hidden + timed, layout.hidden)
        self.out = nn.Linear(layout.hidden, 2 * layout.latent)

    def forward(self, frames: Tensor, times: Tensor, shown: Tensor) -> Code:
        """Of frames (B, T, C, H, W) at rising times (B, T), where shown (B, T); the first always is.

        With `timed` a step is told how long it is from this frame to the one read before it.
        """
        seen = self.features(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        h = seen.new_zeros(len(frames), self.cell.out_features)
        last = times[:, -1:]
        for i in reversed(range(frames.shape[1])):
            here, now = shown[:, i : i + 1], times[:, i : i + 1]
            gap = [(last - now).to(h)] if self.timed else []
            h = torch.where(here, self.cell(torch.cat([seen[:, i], h, *gap], 1)).tanh(), h)
            last = torch.where(here, now, last)
        mean, log_variance = self.out(h).chunk(2, 1)
        return Code(mean, log_variance)


class Decoder(nn.Module):
    """Codes (N, D) to frames (N, C, H, W) in [-1, 1]."""

    def __init__(self, layout: Layout):
        super().__init__()
        self.layout = layout
        widths = [*layout.stages[::-1], layout.size[0]]
        self.first = nn.Linear(layout.latent, layout.hidden)
        self.second = nn.Linear(layout.hidden, layout.flat)
        self.blocks = nn.Sequential(*[Up(widths[i], widths[i + 1]) for i in range(STAGES)])

    def forward(self, z: Tensor) -> Tensor:
        """The frames."""
        h = self.second(F.relu(self.first(z))).unflatten(1, self.layout.smallest)
        return self.blocks(h).tanh()


class Motion(nn.Module):
    """dz/dt of codes (B, D), the same at all times."""

    def __init__(self, latent: int, hidden: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU(), nn.Linear(hidden, latent)
        )

    def forward(self, t: Tensor, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """The velocity."""
        return self.layers(z)


class LatentODE(nn.Module):
    """Encoder, motion and decoder; times are in units of the ODE, and `rate` of them are one frame of training."""

    def __init__(
        self, layout: Layout, *, variational: bool = True, timed: bool = False, rate: float = 1 / 19,
        solver: Solver | None = None,
    ):  # fmt: skip
        super().__init__()
        layout.checked()
        self.layout, self.rate = layout, rate
        self.variational, self.still = variational, layout.latent - layout.moving if layout.layers else 0
        # Whether frames may stand at any times: the encoder is told them, or sees one frame only.
        self.timed = timed or not variational
        self.encoder: nn.Module
        self.decoder: nn.Module
        if layout.layers:
            sizes = (layout.size, layout.layers, layout.hidden, self.still, layout.moving)
            self.encoder, self.decoder = LayerEncoder(*sizes), LayerDecoder(*sizes)
        else:
            self.encoder = RecurrentEncoder(layout, timed=timed) if variational else FrameEncoder(layout)
            self.decoder = Decoder(layout)
        self.motion = NeuralODE(Motion(layout.latent - self.still, layout.hidden), solver)

    def code(self, frames: Tensor, times: Tensor, shown: Tensor | None = None) -> Code:
        """Of frames (B, T, C, H, W) in [-1, 1] at rising `times` (B, T) in frames; BadInput for another size."""
        if frames.ndim != 5 or tuple(frames.shape[2:]) != self.layout.size or not frames.shape[1]:
            raise BadInput(
                f"frames of {'x'.join(map(str, frames.shape[2:]))}; this model takes one or more of "
                f"{'x'.join(map(str, self.layout.size))} (channels, height, width)"
            )
        shown = torch.ones(times.shape, dtype=torch.bool, device=frames.device) if shown is None else shown
        return Code(*self.encoder(frames, times * self.rate, shown))

    def path(self, z: Tensor, times: Sequence[float]) -> Tensor:
        """Codes (B, T, D) at any `times`, in frames from that of z (B, D): before it, after it, in any order."""
        unique = sorted({0.0, *map(float, times)})
        zero = unique.index(0.0)
        still, moving = z[:, : self.still], z[:, self.still :]
        later = self._solved(moving, unique[zero:])
        earlier = self._solved(moving, unique[: zero + 1][::-1])
        whole = torch.cat([earlier[1:].flip(0), later])
        path = whole[[unique.index(float(t)) for t in times]].transpose(0, 1)
        return torch.cat([still[:, None].expand(-1, path.shape[1], -1), path], 2)

    def _solved(self, z: Tensor, times: list[float]) -> Tensor:
        return self.motion(z, [t * self.rate for t in times]) if len(times) > 1 else z[None]

    def decode(self, path: Tensor) -> Tensor:
        """Frames (B, T, C, H, W) in [-1, 1] of codes (B, T, D)."""
        if isinstance(self.decoder, LayerDecoder):
            return self.decoder(path)
        return self.decoder(path.flatten(0, 1)).unflatten(0, path.shape[:2])


def _narrow(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """`layer` of x, with channels last in memory: on a CPU 2 to 15 times as fast for 8 channels to 1.

    `to` of the weights, as `contiguous` leaves those of a single channel as they are, and these choose the kernel.
    """
    last = torch.channels_last
    return F.conv2d(x.to(memory_format=last), layer.weight.to(memory_format=last), padding=1)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels), channels)
