"""A picture codec that draws in one to four steps: its painter, distilled to be consistent along the teacher's paths.

Training begins with a run or model of `compression` (--from). Analysis, quantisation steps and entropy model stay as
they are, so files keep their sizes and symbols; the painter alone learns, from a frozen copy of itself (see
diffusion/consistency.py). A share `noisy` of the pictures teaches drawing, the others the faithful decode, with the
distance that taught it, so that this stays what it was.

A fingerprint covers all tensors: a distilled codec is another model, which cannot open the files of its teacher nor
the teacher its files, even though their symbols are the same. What comes of a run is a codec of `compression`, marked
`few`; the run's own model file also has the teacher, to go on from.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.codec import counter
from framefill.codec.model import Compressor
from framefill.codec.picture_codec import PictureCodec
from framefill.diffusion.consistency import Consistency, distillation, second_order
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.schedule import CLEAN
from framefill.errors import BadInput
from framefill.recipes.compression import EVEN, SMALL, TINY, Compression
from framefill.recipes.recipe import following, to_fields
from framefill.video.clip import levels
from framefill.video.sheet import contact_sheet

KEPT = (
    "qualities", "lowest", "highest", "luma", "chroma", "encoder", "encoder_blocks", "widths", "down", "up", "groups",
    "hidden",
)  # fmt: skip
SHOWN = (1, 2, 4)


class Taught(nn.Module):
    """A codec whose painter learns, and the frozen painter that it learns from."""

    def __init__(self, codec: Compressor, teacher: Denoiser):
        super().__init__()
        self.codec = codec.requires_grad_(False)
        self.codec.denoiser.requires_grad_(True)
        self.teacher = teacher.requires_grad_(False)


@dataclass(frozen=True)
class Distilled(Compression):
    """Every hyperparameter of the distillation; those of the codec are its own (`after`).

    The teacher takes `pieces` steps of Heun from noise to picture: the best that can be learnt is what it makes in so
    many. `denoising` weighs the error of consistency, `noisy` is the share of the pictures that it is measured on.
    """

    pieces: int = 16
    noisy: float = 0.75
    few: bool = True
    learning_rate: float = 3e-4
    steps: int = 5000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pieces < 1 or self.noisy >= 1 or not self.few:
            raise BadInput(
                f"{self.pieces} pieces, a share of {self.noisy} noisy, few {self.few}; give 1 or more, less than 1 "
                "(the faithful decode needs its share), and leave few as it is"
            )

    def model(self) -> Taught:  # type: ignore[override]
        """Student and teacher, freshly initialised."""
        return Taught(super().model(), super().model().denoiser)

    # ---- training ----------------------------------------------------------------------------------------------

    def loss(self, model: Taught, batch: Tensor, rng: Rng) -> Tensor:  # type: ignore[override]
        """Per picture (B,), at a quality drawn for each: of drawing, or of the faithful decode."""
        codec = model.codec
        quality = rng.integers(self.qualities).to(batch.device)
        with torch.no_grad():
            values = codec.values(codec.symbols(batch, quality), quality)
        drawn = rng.uniform() < self.noisy
        lost = batch.new_zeros(len(batch))
        for part, share, measure in ((drawn, self.noisy, self._drawing), (~drawn, 1 - self.noisy, self._faithful)):
            rows = part.nonzero()[:, 0]
            if len(rows):
                here = rows.to(batch.device)
                found = measure(model, batch[here], values[here], quality[here], rng.pick(rows.tolist()))
                lost = lost.index_add(0, here, found.to(lost.dtype) / share)
        return lost / self.meant(quality) ** EVEN

    def _faithful(self, model: Taught, x: Tensor, values: Tensor, quality: Tensor, rng: Rng) -> Tensor:
        return self.distance(model.codec.mean(values, quality), x, quality)

    def _drawing(self, model: Taught, x: Tensor, values: Tensor, quality: Tensor, rng: Rng) -> Tensor:
        """Squared speeds of f along the teacher's paths: from piece to piece its changes add up, so steps count."""
        student, plain = Consistency(model.codec.denoiser, CLEAN), replace(self, similarity=0.0)
        apart = distillation(
            student, student, model.teacher, x, model.codec.condition(values, quality), rng, steps=self.pieces,
            solver=second_order, distance=lambda made, goal: plain.distance(made, goal, quality),
        )  # fmt: skip
        return self.denoising * self.pieces**2 * apart

    # ---- it begins with a trained codec ------------------------------------------------------------------------

    @property
    def follows(self) -> bool:
        """A training run must begin from another one."""
        return True

    def after(self, fields: dict[str, Any]) -> "Distilled":
        """This recipe with the codec of a run of `compression` whose recipe had `fields`."""
        if fields.get("few", False):
            raise BadInput("the run to begin from is distilled already; give one of the recipe compression with --from")
        return following(self, fields, {name: name for name in KEPT}, "compression")

    def taken(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a codec that this one begins with: all of them, and its painter's once more."""
        teacher = {n: t for n, t in tensors.items() if n.startswith("denoiser.")}
        return {f"codec.{name}": t for name, t in tensors.items()} | {
            f"teacher.{name.removeprefix('denoiser.')}": t for name, t in teacher.items()
        }

    # ---- what comes of it --------------------------------------------------------------------------------------

    def codec(self) -> Compression:
        """The recipe of the codec that is made."""
        return Compression(**{f.name: getattr(self, f.name) for f in fields(Compression)})

    def product(self, model: Taught, *, card: Any = None, device: str = "cpu") -> PictureCodec:  # type: ignore[override]
        """What compresses pictures, with a card of `compression`: saved, it is without its teacher."""
        own = self.codec()
        card = card and replace(card, recipe="compression", fields=to_fields(own))
        return own.product(model.codec, card=card, device=device)

    def sheet(self, product: PictureCodec, source: Any) -> Image.Image:
        """Held-out pieces, the faithful decode at a middle quality, and what is drawn in 1, 2 and 4 steps."""
        x, model = self.batch(source, range(6)), product.model
        quality = torch.full((len(x),), self.qualities // 2)
        with torch.inference_mode():
            values = model.values(model.symbols(x, quality), quality)
            rows = [("held out", x), ("faithful", model.mean(values, quality))]
            for steps in SHOWN:
                made = model.sample(values, quality, lambda k: noise(k, x), steps)
                rows.append((f"steps: {steps}", made))
        return contact_sheet([(name, levels(pictures)) for name, pictures in rows])

    def suited(self, data: str | Path) -> "Distilled":
        """The recipe for `data`: this one, pictures are cut to its size."""
        return self


def noise(draw: int, like: Tensor) -> Tensor:
    """Draw 0, 1, ... for pictures (B, 3, H, W), each with noise of its own."""
    drawn = [counter.normal(like.shape[1:], seed=seed, stream=draw) for seed in range(len(like))]
    return torch.stack([torch.from_numpy(n) for n in drawn]).to(like)


def _of(recipe: Compression) -> Distilled:
    """With the pictures and the codec of another recipe."""
    own = {f.name: getattr(recipe, f.name) for f in fields(Compression)}
    return Distilled(**own | {"noisy": 0.75, "few": True, "learning_rate": 3e-4, "steps": recipe.steps // 4})


# name -> (recipe, data, the paper's score)
PRESETS: dict[str, tuple[Distilled, str, str | None]] = {
    "small": (_of(SMALL), "photographs of 256x256 pixels or more, with --from a run of compression", None),
    "tiny": (_of(TINY), "any pictures, at 64x64, with --from a run of compression", None),
}
