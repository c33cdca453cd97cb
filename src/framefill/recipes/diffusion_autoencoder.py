"""The diffusion autoencoder (seed 002; its programs: Stable Cascade's stage B, facts, section 3).

A trained first stage (recipe `autoencoder`, frozen, taken over with --from), a small encoder of f32 to f64, and a large
U-Net that draws the first stage's latents given the code. Also for clips, and with quantised codes.

Paper: its network of "280M" is, as released, one of 699 M; names here go by the true number. Schedule and times are
the alpha-cosine between log signal-to-noise ratios of +-9.21, where the program clamps its own. AdamW there, Adam here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.codec.context import Contextual
from framefill.codec.diffusion import DiffusionAutoencoder as Model
from framefill.codec.diffusion import Lesson, Told, level
from framefill.codec.diffusion_coder import DiffusionCoder
from framefill.codec.encoder import LatentEncoder, Lite0Features, V2Features, pretrained_lite0, pretrained_v2
from framefill.codec.quantise import Codebook, FiniteScalar, LatentQuantiser, LookupFree, Uniform
from framefill.codec.times import Times
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.noise import White
from framefill.diffusion.pyramid import Pyramid
from framefill.diffusion.sample import DDPM, DPMSolver, Sampler
from framefill.diffusion.schedule import cosine, uniform_times
from framefill.diffusion.target import Eps, Target, V, X
from framefill.diffusion.weight import Weight, constant, min_snr, p2, sech, snr, velocity
from framefill.errors import BadInput
from framefill.latents.autoencoder import Autoencoder, Layout
from framefill.latents.kl import KLVAE
from framefill.latents.quantiser import Quantiser
from framefill.latents.vqgan import VQGAN
from framefill.nets.asymmetric import AsymmetricUNet, Plan
from framefill.recipes.latent_interpolation import CODER
from framefill.recipes.recipe import Source, following, stacked
from framefill.recipes.texts import Texts
from framefill.video.folder import Clips, Tell
from framefill.video.folder import split as split_clips
from framefill.video.images.album import Album
from framefill.video.sheet import contact_sheet
from framefill.video.windows import Windows

REACH = 9.2102  # log signal-to-noise ratio at both ends, of variances 1e-4 and 0.9999
ANCESTRAL = 30  # calls from which on sampling is ancestral, as theirs
TARGETS: dict[str, Target] = {"x": X(), "eps": Eps(), "v": V()}
UNITS: dict[str, Weight] = {"x": constant, "eps": snr, "v": velocity}  # the plain error of a target, as one of x


def _p2(target: str) -> Weight:
    # 1 / (1 + snr) on the error of the target, which is p2 for eps
    return p2() if target == "eps" else lambda ratio: UNITS[target](ratio) / (1 + ratio)


def _sech(target: str) -> Weight:
    # 1 / cosh(log snr / 2) on the error of the target, which is `sech` for eps
    return lambda ratio: UNITS[target](ratio) * sech(ratio) / ratio


WEIGHTS: dict[str, Callable[[str], Weight]] = {
    "constant": lambda target: UNITS[target],
    "p2": _p2,
    "min-snr": lambda target: min_snr(5.0),  # the same for all: facts, section 6
    "sech": _sech,
}


@dataclass(frozen=True)
class DiffusionAutoencoder:
    """Every hyperparameter; the defaults are the best setting of seed 002 for pictures: x0, min-SNR.

    `codes` to `coder_straight` are the first stage's, and follow from the run that training begins with. With `frames`
    it is one of clips, `shortened` along time in the code (1, 2, 4, 8), and `paired` frames are drawn together.
    `mobile` takes EfficientNet-Lite0 instead of V2-S for the encoder; `pretrained` begins with weights, those of V2-S
    from `weights`, a .safetensors of torchvision's; `frozen` leaves them so. `variable` codes are f32 to f64. Codes are
    rounded to uniform steps `step`, or `levels` (FSQ), or `signs` (LFQ), or to a codebook of `words` (VQ), or not at
    all; with a `rate`, an entropy model learns and a bit per place of the signal costs so much. `texts` is a folder
    with train.npy and val.npy (N, L, D): an embedding for every picture, in the order of their names, `text_length` L,
    `text_width` D. `dropped` of the codes and `silent` of the texts are left out. `calls` of the network draw, under
    `guidance`.
    """

    channels: int = 3
    height: int = 512
    width: int = 512
    flip: bool = True
    frames: int = 0
    shortened: int = 4
    paired: int = 2
    strides: tuple[int, ...] = (1,)
    # first stage, frozen
    codes: int = 8192
    latent_channels: int = 4
    coder_features: int = 128
    coder_multipliers: tuple[int, ...] = (1, 2, 4)
    coder_blocks: int = 2
    coder_attention: tuple[bool, ...] = (False, False, False)
    groups: int = 32
    coder_straight: bool = False
    # encoder
    mobile: bool = False
    pretrained: bool = True
    weights: str = ""
    frozen: bool = False
    code_channels: int = 16
    variable: bool = False
    step: float = 0.0
    levels: tuple[int, ...] = ()
    signs: bool = False
    words: int = 0
    rate: float = 0.0
    # network
    widths: tuple[int, ...] = (320, 576, 1152, 1152)
    heads: tuple[int, ...] = (0, 0, 18, 18)
    down: tuple[int, ...] = (2, 4, 14, 4)
    up: tuple[int, ...] = (2, 4, 14, 4)
    repeats: tuple[int, ...] = (2, 2, 2, 2)
    network_dropout: tuple[float, ...] = (0.0, 0.0, 0.1, 0.1)
    patch: int = 2
    response: bool = True
    concatenated: bool = False
    second: bool = True
    preview: int = 0
    texts: str = ""
    text_length: int = 0
    text_width: int = 0
    text_tokens: int = 4
    text_features: int = 1280
    # diffusion
    target: str = "x"
    weight: str = "min-snr"
    pyramid: bool = False
    dropped: float = 0.05
    silent: float = 0.05
    calls: int = 30
    guidance: float = 1.0
    # training
    batch_size: int = 512
    learning_rate: float = 1e-4
    warmup: int = 10_000
    cooldown: float = 0.0
    ema: float = 0.999
    clip: float = 1.0
    steps: int = 200_000

    def __post_init__(self) -> None:
        if self.target not in TARGETS or self.weight not in WEIGHTS:
            raise BadInput(
                f"target {self.target!r} and weight {self.weight!r}; the targets are {', '.join(TARGETS)}, the weights "
                f"{', '.join(WEIGHTS)}"
            )
        if sum(map(bool, (self.step, self.levels, self.signs, self.words))) > 1:
            raise BadInput("codes are rounded in one way: give one of step, levels, signs and words, or none")
        if self.levels and len(self.levels) != self.code_channels:
            raise BadInput(f"levels are one per channel of the code ({self.code_channels}), got {len(self.levels)}")
        if bool(self.text_length) != bool(self.text_width) or (self.texts and not self.text_length):
            raise BadInput("a text needs text_length and text_width, the shape of one embedding")
        if self.frames and self.text_length:
            raise BadInput("texts are of pictures; set frames=0, or text_length=0 and text_width=0")
        if self.rate and (self.words or not (self.step or self.levels or self.signs)):
            raise BadInput("a rate is that of an entropy model, for codes of step, levels or signs; set rate=0")

    # ---- parts -------------------------------------------------------------------------------------------------

    def autoencoder(self) -> Autoencoder:
        """The first stage, freshly initialised."""
        layout = Layout(
            self.channels, self.latent_channels, 0, self.coder_features, self.coder_multipliers, self.coder_blocks,
            self.coder_attention, self.groups, self.coder_straight,
        )  # fmt: skip
        return VQGAN(layout, codes=self.codes) if self.codes else KLVAE(layout)

    def features(self) -> nn.Module:
        """The image network of the encoder, freshly initialised."""
        return Lite0Features() if self.mobile else V2Features()

    def plan(self) -> Plan:
        """The shape of the U-Net."""
        return Plan(
            self.widths, self.heads, self.down, self.up, self.repeats, self.network_dropout, self.patch, self.response,
            self.concatenated, self.second, self.text_width, self.text_tokens, self.text_features, self.preview,
        )  # fmt: skip

    def network(self) -> AsymmetricUNet:
        """The U-Net."""
        channels = self.latent_channels * (self.paired if self.frames else 1)
        return AsymmetricUNet(channels, self.code_channels, self.plan(), frames=self.frames > 0)

    def quantiser(self) -> LatentQuantiser | None:
        """What rounds codes, if anything does."""
        if self.step:
            return Uniform(self.code_channels, step=self.step)
        if self.levels:
            return FiniteScalar(self.levels)
        if self.signs:
            return LookupFree(self.code_channels)
        return Codebook(Quantiser(self.words, self.code_channels)) if self.words else None

    def model(self) -> Model:
        """First stage, encoder and denoiser."""
        text, quantiser = (self.text_length, self.text_width), self.quantiser()
        denoiser = Denoiser(
            Told(self.network(), text), cosine(-REACH, REACH), TARGETS[self.target], label=level,
            noise=Pyramid() if self.pyramid else White(),
        )  # fmt: skip
        learned = self.rate and quantiser is not None and not self.words
        return Model(
            self.autoencoder(), LatentEncoder(self.features(), self.code_channels, frozen=self.frozen), denoiser,
            quantiser=quantiser, entropy=Contextual(self.code_channels) if learned else None, text=text,
            times=Times(self.code_channels, self.shortened) if self.frames else None,
            paired=self.paired if self.frames else 1,
        )  # fmt: skip

    @property
    def sampler(self) -> Sampler:
        """What draws latents."""
        return DDPM(self.calls) if self.calls >= ANCESTRAL else DPMSolver(self.calls)

    @property
    def loss_weight(self) -> Weight:
        """The weight of an error of x, for this target."""
        return WEIGHTS[self.weight](self.target)

    # ---- training ----------------------------------------------------------------------------------------------

    def source(
        self, data: str | Path, split: str, *, cache: Path | None = None, progress: Tell | None = None
    ) -> Source:
        """Pictures, or windows of clips, of a split of `data`, a folder of them; mirrored for training only.

        BadInput for a recipe with texts that does not say where they are.
        """
        if self.text_length and not self.texts:
            raise BadInput(
                "this recipe learns texts too; give them as --set texts=FOLDER, or set text_length=0 and text_width=0"
            )
        if self.frames:
            clips = Clips.open(
                Path(data), height=self.height, width=self.width, channels=self.channels, cache=cache, progress=progress
            )
            return Windows(split_clips(clips)[split])
        album = Album.open(
            data, split, height=self.height, width=self.width, channels=self.channels,
            flip=self.flip and split == "train", cache=cache, progress=progress,
        )  # fmt: skip
        if not self.texts:
            return album
        return Texts.open(Path(self.texts), album, split, (self.text_length, self.text_width))

    def batch(self, source: Any, seeds: Sequence[int]) -> Tensor:
        """Pictures (B, C, H, W) or clips (B, T, C, H, W) in [-1, 1]; with a text, rows of pixels and its numbers."""
        size = (self.channels, self.height, self.width)
        if self.frames:
            return stacked(source, seeds, size, length=self.frames, strides=self.strides)
        pictures = stacked(source, seeds, size)[:, 0]
        if not self.text_length:
            return pictures
        words = torch.stack([source.text(seed) for seed in seeds]).flatten(1)
        return torch.cat([pictures.flatten(1), words], 1)

    def loss(self, model: Model, batch: Tensor, rng: Rng) -> Tensor:
        """The weighted error of the denoiser with the costs of the code, per example (B,)."""
        text = None
        if self.text_length:
            pixels = self.channels * self.height * self.width
            batch, text = batch[:, :pixels], batch[:, pixels:].unflatten(1, (self.text_length, self.text_width))
            batch = batch.unflatten(1, (self.channels, self.height, self.width))
        share = 1 - float(rng.uniform()[0]) / 2 if self.variable else 1.0
        lesson = Lesson(
            uniform_times(rng).to(batch.device), self.loss_weight, share, self.dropped, self.silent, self.rate
        )
        return model.loss(batch, lesson, rng, text)

    @property
    def follows(self) -> bool:
        """Whether a training run must begin from another one: that of the first stage."""
        return True

    def after(self, fields: dict[str, Any]) -> "DiffusionAutoencoder":
        """This recipe over the first stage of a run whose recipe had `fields`; BadInput if there was none."""
        return following(self, {"straight": False, **fields}, CODER, "autoencoder")  # older runs do not say it

    def taken(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The first stage's weights, which may be beside those of its adversary, and the encoder's if pretrained."""
        prefix = "autoencoder."
        beside = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)} or tensors
        found = {f"first.{name}": tensor for name, tensor in beside.items()}
        seen = self._pretrained()
        return found | {f"encoder.features.{n}": v for n, v in (seen.state_dict().items() if seen else ())}

    def _pretrained(self) -> nn.Module | None:
        if not self.pretrained:
            return None
        if self.mobile:
            return pretrained_lite0()
        if not self.weights:
            raise BadInput(
                "no package carries the weights of EfficientNetV2-S; give torchvision's as --set "
                "weights=FILE.safetensors, or --set pretrained=false, or --set mobile=true for EfficientNet-Lite0"
            )
        return pretrained_v2(Path(self.weights))

    # ---- what comes of it --------------------------------------------------------------------------------------

    def product(self, model: nn.Module, *, card: Any = None, device: str = "cpu") -> DiffusionCoder:
        """The trained model with its verbs."""
        assert isinstance(model, Model)
        return DiffusionCoder(
            model, self.sampler, self.frames, self.frames // 4, guidance=self.guidance, device=device, card=card
        )

    def suited(self, data: str | Path) -> "DiffusionAutoencoder":
        """The recipe for `data`: this one, frames are cut to its size."""
        return self

    def about(self, source: Any) -> dict[str, Any]:
        """What must be known of the data to use the model: nothing, pixels are pixels."""
        return {}

    def sheet(self, product: DiffusionCoder, source: Any) -> Image.Image:
        """Held-out pictures, what the first stage leaves of them, and what is drawn given their codes."""
        length = self.frames or 1
        real = [source.sample(seed, length=length, strides=self.strides) for seed in range(1 if self.frames else 6)]
        shown = np.concatenate(real)
        quick = replace(product, sampler=DPMSolver(8))
        drawn = quick.decode(quick.encode(np.stack(real) if self.frames else shown))
        return contact_sheet([
            ("held out", shown), ("first stage", quick.staged(shown)), ("drawn", drawn.reshape(shown.shape)),
        ])  # fmt: skip


F = False
# The setting of the ablations: "280M", 699 M as released.
PAPER = DiffusionAutoencoder()
TEXT = replace(
    PAPER, target="eps", weight="p2", variable=True, dropped=0.7, text_length=1, text_width=1280, preview=3,
    pyramid=True, guidance=3.0, steps=1_000_000,
)  # fmt: skip
LARGE = replace(
    TEXT, widths=(320, 640, 1280, 1280), heads=(0, 0, 20, 20), down=(2, 6, 28, 6), up=(2, 6, 28, 6),
    repeats=(2, 2, 3, 3),
)  # fmt: skip
VIDEO = replace(
    PAPER, height=384, width=576, frames=16, heads=(0, 0, 0, 0), target="eps", weight="p2", batch_size=128,
    steps=500_000,
)  # fmt: skip
# Ours: a family for one machine, over an autoencoder of any size: 28 M, 10.7 M and 3.9 M with an encoder of 3.4 M.
MIDDLE = replace(
    PAPER, height=256, width=256, mobile=True, widths=(128, 256, 480), heads=(0, 0, 0), down=(1, 3, 5), up=(1, 3, 5),
    repeats=(2, 2, 2), response=False, network_dropout=(0.0, 0.0, 0.0), second=False, target="v", weight="constant",
    calls=8, batch_size=16, learning_rate=5e-4, warmup=500, cooldown=0.4, steps=50_000,
)  # fmt: skip
SMALL = replace(MIDDLE, widths=(96, 192, 288), down=(1, 3, 3), up=(1, 3, 3), height=128, width=128)
TINY = replace(
    SMALL, height=64, width=64, widths=(48, 96), heads=(0, 0), down=(1, 2), up=(1, 2), repeats=(2, 2),
    network_dropout=(0.0, 0.0), batch_size=8, warmup=100, ema=0.998, steps=2000,
)  # fmt: skip

_WITH = "with --from a run of autoencoder"
# name -> (recipe, data, the paper's score; FIDs of its tables 1, 2 and 5, FVDs of table 6)
PRESETS: dict[str, tuple[DiffusionAutoencoder, str, str | None]] = {
    "paper": (PAPER, f"pictures, {_WITH} vq-f4", "FID 10.3849"),
    "paper-x": (replace(PAPER, weight="constant"), f"pictures, {_WITH} vq-f4", "FID 13.9484"),
    "paper-eps": (replace(PAPER, target="eps", weight="p2"), f"pictures, {_WITH} vq-f4", "FID 12.0880"),
    "paper-v": (replace(PAPER, target="v", weight="sech"), f"pictures, {_WITH} vq-f4", "FID 15.6047"),
    "paper-scratch": (replace(PAPER, pretrained=F), f"pictures, {_WITH} vq-f4", "FID 57.0914"),
    "paper-700m": (TEXT, f"pictures and texts, {_WITH} vq-f4", "FID 1.5236"),
    "paper-3b": (LARGE, f"pictures and texts, {_WITH} vq-f4", "FID 1.2842"),
    "paper-1536": (replace(PAPER, words=65536), f"pictures, {_WITH} vq-f4", None),
    "video-f2": (replace(VIDEO, shortened=2), f"clips, {_WITH} vq-f4", "FVD 245.7596"),
    "video-f4": (VIDEO, f"clips, {_WITH} vq-f4", "FVD 330.7555"),
    "video-f8": (replace(VIDEO, shortened=8), f"clips, {_WITH} vq-f4", "FVD 397.1898"),
    "video-f4-attention": (replace(VIDEO, heads=PAPER.heads), f"clips, {_WITH} vq-f4", "FVD 159.2998"),
    "middle": (MIDDLE, f"pictures, {_WITH}", None),
    "small": (SMALL, f"pictures, {_WITH}", None),
    "tiny": (TINY, f"pictures, {_WITH}", None),
    "tiny-steps": (replace(TINY, step=0.5, rate=0.01), f"pictures, {_WITH}", None),
    "tiny-video": (replace(TINY, frames=8, target="eps", weight="p2", batch_size=2), f"clips, {_WITH}", None),
}
