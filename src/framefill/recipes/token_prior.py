"""Priors over the tokens of a trained tokenizer: ImageGPT and VideoGPT, MaskGit and Phenaki (paper 000, tables 8, 9).

Training begins with a run of the recipe `tokenizer` (`--from`), whose tokenizer is frozen and travels with the prior.
With `classes`, the class of a picture is told, but withheld from a share of the pictures: so guidance at sampling has
both answers to weigh (in the published program labels are never withheld, so its guidance has nothing to go by: facts,
section 1.3).

Paper: the rate falls as a cosine, linearly here.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.latents.priors.autoregressive import Autoregressive
from framefill.latents.priors.masked import Criticised, Masked
from framefill.latents.priors.prior import TokenPrior as Prior
from framefill.latents.priors.spoken import Spoken
from framefill.nets.tokens import CausalTokens, Grid, MaskedTokens
from framefill.recipes.pseudo import Pseudo
from framefill.recipes.recipe import following
from framefill.recipes.tokenizer import PRESETS as TOKENIZERS
from framefill.recipes.tokenizer import Coding
from framefill.video.clip import levels
from framefill.video.images.tokens import ImageGenerator
from framefill.video.sheet import contact_sheet

# what a prior must have from its tokenizer: how that codes, and which clips
SHARED = (*(field.name for field in fields(Coding)), "channels", "height", "width", "pseudo")


@dataclass(frozen=True)
class TokenPrior(Coding, Pseudo):
    """Every hyperparameter of a prior and its training; the defaults are the paper's VideoGPT (table 8).

    The fields of the tokenizer and the size of its clips follow from the run that training begins with. `masked` says
    which of the two priors; `critic` puts a network of as many layers beside a masked one. `calls` draw a clip then.
    `guidance` is the default at sampling, where a class is asked for.
    """

    masked: bool = False
    critic: bool = False
    depth: int = 8
    prior_width: int = 144
    prior_heads: int = 4
    prior_head_width: int = 64
    dropout: float = 0.2
    withheld: float = 0.1
    calls: int = 18
    guidance: float = 1.0
    batch_size: int = 64
    learning_rate: float = 1e-4
    warmup: int = 0
    cooldown: float = 1.0
    ema: float = 0.999
    clip: float = 1.0
    steps: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.depth, self.calls) < 1:
            raise BadInput(f"a prior of {self.depth} layers that draws in {self.calls} calls; give at least 1 of both")

    def prior(self, vocabulary: int, grid: Grid) -> Prior:
        """The prior over such tokens, freshly initialised."""
        if self.critic and not self.masked:
            raise BadInput("an autoregressive prior has no critic; set masked=true, or critic=false")
        if not self.masked:
            network = CausalTokens(
                vocabulary, grid, classes=self.classes, width=self.prior_width, layers=self.depth,
                heads=self.prior_heads, dropout=self.dropout,
            )  # fmt: skip
            return Autoregressive(network, withheld=self.withheld)
        if self.critic:
            critic = self._masked(vocabulary, grid, outputs=1)
            return Criticised(self._masked(vocabulary, grid), critic, withheld=self.withheld)
        return Masked(self._masked(vocabulary, grid), withheld=self.withheld)

    def _masked(self, vocabulary: int, grid: Grid, *, outputs: int = 0) -> MaskedTokens:
        return MaskedTokens(
            vocabulary, grid, classes=self.classes, width=self.prior_width, layers=self.depth, heads=self.prior_heads,
            head_width=self.prior_head_width, outputs=outputs,
        )  # fmt: skip

    def model(self) -> Spoken:
        """The frozen tokenizer and the prior."""
        tokenizer = self.network(self.channels, self.frames)
        grid = tokenizer.grid(self.frames, self.height, self.width)
        return Spoken(tokenizer, self.prior(tokenizer.vocabulary, grid))

    def loss(self, model: Spoken, batch: Tensor, rng: Rng) -> Tensor:
        """Nats per predicted token, per clip (B,)."""
        clips, labels = self.unpacked(batch)
        return model.loss(clips, labels, rng)

    # ---- training begins with a tokenizer ----------------------------------------------------------------------

    @property
    def follows(self) -> bool:
        """Whether a training run must begin from another one: that of the tokenizer."""
        return True

    def after(self, said: dict[str, Any]) -> "TokenPrior":
        """This recipe over the tokenizer of a run whose recipe had the fields `said`; BadInput if there was none."""
        return following(self, said, {name: name for name in SHARED}, "tokenizer")

    def taken(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tokenizer's weights, which may be beside those of its adversary."""
        prefix = "autoencoder."
        beside = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        return {f"tokenizer.{name}": tensor for name, tensor in (beside or tensors).items()}

    # ---- what comes of it --------------------------------------------------------------------------------------

    def product(self, model: nn.Module, *, card: Any = None, device: str = "cpu") -> ImageGenerator:
        """The trained model with its verbs."""
        assert isinstance(model, Spoken)
        return ImageGenerator(
            model, self.kind, self.frames, self.height, self.width, calls=self.calls, guidance=self.guidance,
            device=device, card=card,
        )  # fmt: skip

    def suited(self, data: str | Path) -> "TokenPrior":
        """The recipe for `data`: this one, pictures are cut to its size."""
        return self

    def sheet(self, product: ImageGenerator, source: Any) -> Image.Image:
        """Held-out pictures, what the tokenizer leaves of them, and drawn ones, one of them frame by frame."""
        clips = np.asarray(levels(self.clips(source, range(12))))
        rows = [("held out", clips[:, -1]), ("there and back", product.reconstruct(clips)[:, -1])]
        made = next(product.films(12))
        rows.append(("from nothing", made[:, -1]))
        for label in range(min(self.classes, 4)):
            rows.append((self._called(product, label), product.generate(12, label=label)))
        return contact_sheet(rows + ([("one of them", made[0])] if self.frames > 1 else []))

    def _called(self, product: ImageGenerator, label: int) -> str:
        names = product.card.about.get("classes", []) if product.card else []
        return str(names[label]) if label < len(names) else f"class {label}"


VIDEOGPT = TokenPrior(flip=False)
PHENAKI = replace(
    VIDEOGPT, masked=True, depth=6, prior_width=512, prior_heads=8, dropout=0.0, steps=200_000,
)  # fmt: skip
# Ours: for one CPU core, over any tokenizer.
TINY = replace(
    VIDEOGPT, codes=256, code_width=8, features=64, heads=2, head_width=32, spatial=2, temporal=1, pseudo="blur-4",
    depth=4, prior_width=96, dropout=0.0, batch_size=16, learning_rate=1e-3, warmup=50, cooldown=0.4, ema=0.998,
    steps=2000,
)  # fmt: skip
TINY_MASKED = replace(TINY, masked=True, prior_heads=4, prior_head_width=32, calls=12)
DIGITS: dict[str, Any] = {"channels": 1, "codes": 64, "classes": 10}

_OVER = "with --from a run of tokenizer"
_DATA = {"cifar10": "CIFAR-10", "celeba": "CelebA at 64x64"}
# table 2: FID of 50,000 pictures with 1, 8 and 18 frames
_SCORES = {
    ("videogpt", "cifar10"): (91.65, 54.60, 69.23), ("phenaki", "cifar10"): (89.78, 35.50, 47.65),
    ("videogpt", "celeba"): (32.98, 30.19, 28.08), ("phenaki", "celeba"): (27.34, 16.87, 16.66),
}  # fmt: skip


def _papers() -> dict[str, tuple[TokenPrior, str, str | None]]:
    """The presets of table 2, each over the tokenizer's preset of that data and number of frames.

    With 1 frame they are the paper's ImageGPT and MaskGit.
    """
    made: dict[str, tuple[TokenPrior, str, str | None]] = {}
    for (kind, data), scores in _SCORES.items():
        for frames, score in zip((1, 8, 18), scores, strict=True):
            coding, base = TOKENIZERS[f"{data}-{frames}"][0], PHENAKI if kind == "phenaki" else VIDEOGPT
            recipe = replace(base, **{name: getattr(coding, name) for name in SHARED})
            over = f"{_DATA[data]}, {_OVER} {data}-{frames}"
            made[f"{kind}-{data}-{frames}"] = recipe, over, f"FID {score:.2f}"
    return made


# name -> (recipe, data, the paper's score with the tokenizer that is named)
PRESETS: dict[str, tuple[TokenPrior, str, str | None]] = {
    "videogpt": (VIDEOGPT, f"the tokenizer's pictures, {_OVER}", None),
    "phenaki": (PHENAKI, f"the tokenizer's pictures, {_OVER}", None),
    "phenaki-critic": (replace(PHENAKI, critic=True), f"the tokenizer's pictures, {_OVER}", None),
    **_papers(),
    "tiny": (TINY, f"the tokenizer's pictures, {_OVER} tiny", None),
    "tiny-masked": (TINY_MASKED, f"the tokenizer's pictures, {_OVER} tiny", None),
    "tiny-digits": (replace(TINY, **DIGITS), f"digits, {_OVER} tiny-digits", None),
    "tiny-digits-masked": (replace(TINY_MASKED, **DIGITS), f"digits, {_OVER} tiny-digits", None),
}
