"""Video at any instant by latent ODEs (thesis 001, chapter 3): a frame, or several read backwards, set off a path.

`variational=False` is the model of section 3.5.1: one frame in, and its path is to meet the true frames and what the
encoder says of each (eq. 3.4.1). `variational=True` is that of section 3.5.2, a variational autoencoder of clips (eq.
3.4.2).

Paper: in the released program the latent term grows with the batch, the encoder sees no brightness, and training and
validation show the same digits (facts, section 5). Here every term is a mean over the batch, the encoder sees, and the
digits of no two splits are shared. Terms are divided by the number of pixels, which changes no balance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.flows.ode import Solver
from framefill.nets.layered import LayerDecoder, LayerEncoder, composed
from framefill.nets.ode_video import Code, FrameEncoder, LatentODE, Layout
from framefill.recipes.mcvd import MCVD, Tell
from framefill.recipes.recipe import Source, stacked
from framefill.video.digits import MovingDigits
from framefill.video.ode_model import ODEVideoModel, sample_sheet


@dataclass(frozen=True)
class ODEVideo:
    """Every hyperparameter; the defaults are the recurrent model's, whose sizes the program states and no table.

    The model sees `past` frames and learns those and `future` ones after them (0: only to reconstruct, as published).
    `frame_time` is the time of the ODE from frame to frame. `gradients` are "direct", "adjoint" (a second solve instead
    of a graph of the first), or "auto": direct but where memory is short. (Paper: adjoint; its program: direct.)
    With `timed` the encoder is told the times, and in training every frame but the first is shown with the chance
    `shown` only, so that it learns uneven clocks.

    With `layers`, ours, a clip is a background and so many pictures, drawn once, and `moving` numbers of the code say
    where these are (`nets.layered`). They are taught three things: frames where the path puts the pictures; the frames
    seen, where the encoder sees them; and that these places are one, to about `placing` (half a frame is 1).
    """

    channels: int = 1
    height: int = 64
    width: int = 64
    digits: int = 1
    past: int = 10
    future: int = 0
    strides: tuple[int, ...] = (1,)
    # network
    variational: bool = True
    timed: bool = False
    shown: float = 1.0
    stages: tuple[int, ...] = (8, 16, 32, 32)
    hidden: int = 128
    latent: int = 64
    layers: int = 0
    moving: int = 16
    frame_time: float = 1 / 19
    # Paper: 1e-7, and 1e-9 absolute, which is more than 32-bit numbers hold
    tolerance: float = 1e-5
    method: str = "dopri5"
    gradients: str = "auto"
    # loss
    sigma: float = 0.3
    divergence: float = 1.0
    matching: float = 1.0
    placing: float = 0.02
    # training
    batch_size: int = 128
    learning_rate: float = 1e-4
    warmup: int = 0
    cooldown: float = 0.0
    ema: float = 0.999
    clip: float = 1e6
    steps: int = 78_000  # 1002 epochs of 10,000 clips

    def __post_init__(self) -> None:
        if self.past < 1 or self.future < 0 or self.past + self.future < 2:
            raise BadInput(f"a latent ODE sees 1 frame or more and learns 2 or more, got {self.past} and {self.future}")
        if not (0 < self.shown <= 1 and self.sigma > 0 and self.frame_time > 0):
            raise BadInput("shown lies in (0, 1], and sigma and frame_time are positive")
        if self.shown < 1 and not self.timed:
            raise BadInput("frames can be left out (shown < 1) only where the encoder is told the times: timed=true")
        if self.timed and not self.variational:
            raise BadInput("the encoder of one frame needs no times; leave timed away")
        if self.layers and not self.variational:
            raise BadInput("layers have a code of all frames, the encoder of one frame has not; leave layers away")
        if not self.placing > 0:
            raise BadInput(f"placing is a distance and positive, got {self.placing}")
        _ = self.solver
        self.layout.checked()

    @property
    def layout(self) -> Layout:
        """The sizes of the networks."""
        return Layout(
            (self.channels, self.height, self.width), self.stages, self.hidden, self.latent, self.layers, self.moving
        )

    @property
    def solver(self) -> Solver:
        """What solves the motion; BadInput for a method, tolerance or gradients that there are not."""
        return Solver(
            self.method, rtol=self.tolerance, atol=self.tolerance,
            gradients=self.gradients,  # type: ignore[arg-type]  # looked at there
        )  # fmt: skip

    def model(self) -> LatentODE:
        """The model, freshly initialised."""
        return LatentODE(
            self.layout, variational=self.variational, timed=self.timed, rate=self.frame_time, solver=self.solver
        )

    def source(
        self, data: str | Path, split: str, *, cache: Path | None = None, progress: Tell | None = None
    ) -> Source:
        """Windows of a split of `data`: "digits", a data set as NAME:FOLDER, or a folder of clips."""
        if str(data) == "digits":
            return MovingDigits(split, count=self.digits)
        like = MCVD(channels=self.channels, height=self.height, width=self.width)
        return like.source(data, split, cache=cache, progress=progress)

    def batch(self, source: Source, seeds: Sequence[int]) -> Tensor:
        """Training windows (B, past + future, C, H, W) in [-1, 1], one per seed."""
        size, length = (self.channels, self.height, self.width), self.past + self.future
        return stacked(source, seeds, size, length=length, strides=self.strides)

    def loss(self, model: LatentODE, batch: Tensor, rng: Rng) -> Tensor:
        """The loss of each clip (B,), in nats per pixel but for a constant: eq. 3.4.1 or 3.4.2.

        In full precision: a solver cannot meet its tolerance in 16 bits.
        """
        with torch.autocast(batch.device.type, enabled=False):
            x = batch.float()
            T = x.shape[1]
            times = torch.arange(self.past, device=x.device).expand(len(x), -1).to(x.dtype)
            code = model.code(x[:, : self.past], times, self._shown(rng, x))
            z = code.mean
            if model.variational:
                z = z + (code.log_variance / 2).exp() * rng.normal((self.latent,), z).to(z.dtype)
            path = model.path(z, range(T))
            missed = self._layered(model, x, path) if self.layers else self._missed(model.decode(path), x)
            rest = self.divergence * divergence(code) if model.variational else self.matching * _apart(model, x, path)
            return (missed + rest) / x[0].numel()

    def _layered(self, model: LatentODE, x: Tensor, path: Tensor) -> Tensor:
        """What layers miss (B,): where the path puts them, where the encoder sees them, and how far apart these are."""
        assert isinstance(model.encoder, LayerEncoder)
        assert isinstance(model.decoder, LayerDecoder)
        layers = model.decoder.drawn(path[:, 0, : model.still])
        places, strength = model.decoder.places(path[..., model.still :])
        now = x[:, : self.past]
        seen = model.encoder.places(now)
        with torch.no_grad():  # what is to come is for the path to meet: attention learns from what it is shown
            later = model.encoder.places(x[:, self.past :]) if self.future else seen[:, :0]
        missed = self._missed(composed(layers, places, strength), x)
        missed = missed + self._missed(composed(layers, seen, torch.ones_like(seen[..., 0])), now)
        apart = (places - torch.cat([seen.detach(), later], 1)).square().flatten(1).sum(1)
        return missed + self.matching * apart / (2 * self.placing**2)

    def _missed(self, made: Tensor, x: Tensor) -> Tensor:
        return (made - x).square().flatten(1).sum(1) / (2 * self.sigma**2)

    def _shown(self, rng: Rng, x: Tensor) -> Tensor:
        shown = rng.uniform((self.past,), x) < self.shown
        shown[:, 0] = True
        return shown

    def notes(self, model: LatentODE) -> dict[str, float]:
        """What the log says of the last batch: evaluations of the motion; and solves that took the adjoint so far."""
        said = {"evaluations": float(model.motion.counts.forward)}
        return said | model.motion.solver.adjoints

    def product(self, model: LatentODE, *, card: Any = None, device: str = "cpu") -> ODEVideoModel:
        """The trained model with its verbs."""
        return ODEVideoModel(model, self.past, self.channels, self.height, self.width, device=device, card=card)

    def suited(self, data: str | Path) -> "ODEVideo":
        """The recipe for `data`: this one, clips are cut to its size."""
        return self

    def about(self, source: Any) -> dict[str, Any]:
        """What must be known of the data to use the model: nothing, pixels are pixels."""
        return {}

    def sheet(self, product: ODEVideoModel, source: Any) -> Image.Image:
        """Held-out clips, and the same from their first frames, reconstructed and predicted; and at half steps."""
        return sample_sheet(product, source)


def divergence(code: Code) -> Tensor:
    """The KL divergence of a code from N(0, I), in nats (B,)."""
    variance = code.log_variance.exp()
    return (variance + code.mean.square() - 1 - code.log_variance).sum(1) / 2


def _apart(model: LatentODE, x: Tensor, path: Tensor) -> Tensor:
    """The squared distance (B,) of the path from where the encoder sees each frame."""
    assert isinstance(model.encoder, FrameEncoder)
    return (model.encoder.each(x) - path).square().flatten(1).sum(1)


RECURRENT = ODEVideo()
ONE_FRAME = replace(
    RECURRENT, variational=False, stages=(16, 32, 64, 64), hidden=256, latent=128, batch_size=100, steps=100_000
)
# Ours: told the times, taught the future it is to predict, and a clip is one picture that moves before another.
TINY = replace(
    RECURRENT, timed=True, shown=0.7, future=10, strides=(1, 1, 2), batch_size=16, learning_rate=2e-3, warmup=50,
    cooldown=0.5, divergence=0.1, tolerance=1e-3, steps=4000, frame_time=0.1, layers=1, method="bosh3",
)  # fmt: skip

# name -> (recipe, data, the paper's score: it reports none)
PRESETS: dict[str, tuple[ODEVideo, str, str | None]] = {
    "one-frame": (ONE_FRAME, "moving digits, 10 -> 20", None),
    "recurrent": (RECURRENT, "moving digits, 10 -> 20", None),
    "recurrent-two": (replace(RECURRENT, digits=2), "two moving digits, 10 -> 20", None),
    "recurrent-small": (
        replace(RECURRENT, stages=(4, 8, 16, 16), latent=16), "moving digits or KTH, 10 -> 20", None,
    ),
    "tiny": (TINY, "moving digits or any clips of 64x64", None),
}  # fmt: skip
