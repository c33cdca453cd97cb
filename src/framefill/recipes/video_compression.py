"""The codec for films: the picture codec taught on clips, with steps and laws of their own for every band of time.

      loss = (bits of all bands per pixel + distance of decoded frames + error of denoising) / r^(3/4)

as in `recipes.compression`, for runs of 1, 2, 4 or 8 frames, drawn for each clip. It is meant to begin with --from a
picture codec: its sizes and qualities are then taken over, and every band starts as pictures are coded. A run in a
file is coded as here; where `codec.quiet` needs fewer bits for a band of differences, the file has that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from framefill.arrays import Rng
from framefill.codec import groups, haar
from framefill.codec.model import Compressor, Sizes
from framefill.codec.temporal import KINDS, TemporalCompressor, widened
from framefill.errors import BadInput
from framefill.nets.exact import straight
from framefill.recipes import compression
from framefill.recipes.compression import EVEN, STEP, Compression
from framefill.recipes.mcvd import Crops
from framefill.recipes.recipe import Source, following, stacked
from framefill.video.folder import Clips, Tell, Windows
from framefill.video.folder import split as split_clips
from framefill.video.sheet import contact_sheet

SHARED = (
    "qualities", "lowest", "highest", "luma", "chroma", "encoder", "encoder_blocks", "widths", "down", "up", "groups",
    "hidden",
)  # fmt: skip


@dataclass(frozen=True)
class VideoCompression(Compression):
    """As `Compression`, for clips: kept at `kept` lines, windows of 8 frames in crops of `side` pixels.

    `painted` frames of each window are decoded and compared, all are coded; the others have much the same errors.
    """

    painted: int = 2
    batch_size: int = 2
    learning_rate: float = 3e-4
    steps: int = 5_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.few:
            raise BadInput("a codec for films is not distilled; leave few as it is")

    def model(self) -> Compressor:
        """The codec's network, freshly initialised: a transform codec, in space and time."""
        sizes = Sizes(
            self.luma, self.chroma, self.encoder, self.encoder_blocks, self.widths, self.down, self.up, self.groups,
            self.hidden,
        )  # fmt: skip
        return TemporalCompressor(sizes, [STEP * rate**-0.73 for rate in self.rates], temperature=self.temperature)

    @property
    def follows(self) -> bool:
        """It may begin afresh."""
        return False

    def after(self, fields: dict[str, Any]) -> "VideoCompression":
        """The recipe that follows a codec made with these fields; BadInput if it was none, or is distilled."""
        if fields.get("few", False):
            raise BadInput("the run to begin from is distilled, and this would undo it; give the codec that was")
        return following(self, fields, {name: name for name in SHARED}, "compression")

    def taken(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a picture codec, or of one for films, as this one's."""
        return tensors if len(tensors["log_steps"]) == KINDS * self.qualities else widened(tensors)

    def source(
        self, data: str | Path, split: str, *, cache: Path | None = None, progress: Tell | None = None
    ) -> Source:
        """Windows of the clips of a split of the folder `data`; mirrored for training only."""
        clips = Clips.open_unfitted(
            data, lines=self.kept, smallest=(self.side, self.side), channels=3, cache=cache, progress=progress
        )
        return Crops(Windows(split_clips(clips)[split]), (self.side, self.side), split == "train")

    def suited(self, data: str | Path) -> "VideoCompression":
        """The recipe for `data`: this one, small clips are enlarged."""
        return self

    def batch(self, source: Source, seeds: Sequence[int]) -> Tensor:
        """Windows (B, 8, 3, side, side) in [-1, 1], one per seed."""
        return stacked(source, seeds, (3, self.side, self.side), length=groups.LENGTH)

    def loss(self, model: Compressor, batch: Tensor, rng: Rng) -> Tensor:
        """Per clip (B,), at a quality and in runs of a length drawn for each."""
        quality = rng.integers(self.qualities).to(batch.device)
        depths = rng.integers(haar.DEEPEST + 1).tolist()
        chosen = rng.integers(batch.shape[1], (self.painted,)).to(batch.device)
        latents = model.analysis(batch.flatten(0, 1)).unflatten(0, batch.shape[:2])
        coded = [self._coded(model, z, int(q), d) for z, q, d in zip(latents, quality.tolist(), depths, strict=True)]
        bits = torch.stack([bits for bits, _ in coded]) / batch[0, :, 0].numel()
        values, truth = (
            torch.stack([clip[places] for clip, places in zip(clips, chosen, strict=True)])
            for clips in ([values for _, values in coded], batch)
        )
        shown = [groups.told(model, int(q), d + 1) for q, d in zip(quality.tolist(), depths, strict=True)]
        every = torch.tensor(shown, device=batch.device).repeat_interleave(self.painted)
        made = model.mean(values.flatten(0, 1), every)
        distance = self.distance(made, truth.flatten(0, 1), quality.repeat_interleave(self.painted))
        first = every[:: self.painted]
        drawn = self.worth(quality) * self._denoising(model, truth[:, 0], values[:, 0].detach(), first, rng)
        distance = distance.unflatten(0, (-1, self.painted)).mean(1)
        return (bits + distance + self.denoising * drawn) / self.meant(quality) ** EVEN

    def _coded(self, model: Compressor, latents: Tensor, quality: int, depth: int) -> tuple[Tensor, Tensor]:
        """Bits of latents (8, C, h, w) in runs of 2^depth, and the values (8, C, h, w) that are decoded."""
        runs = latents.unflatten(0, (-1, 2**depth)).transpose(0, 1)
        bits: list[Tensor] = []
        made = []
        for kind, band in zip(groups.kinds(depth + 1), haar.forward(runs), strict=True):
            flat = band.flatten(0, 1)
            setting = torch.full((len(flat),), model.setting(quality, kind), device=flat.device)
            scaled = flat / model.steps(setting)
            symbols = straight(scaled.round(), scaled)
            bits.append(model.entropy.bits(symbols, setting).sum())
            made.append((symbols * model.steps(setting)).unflatten(0, band.shape[:2]))
        return torch.stack(bits).sum(), haar.inverse(made).transpose(0, 1).flatten(0, 1)

    def sheet(self, product: Any, source: Any) -> Image.Image:
        """Held-out frames of one clip, and what comes back of them at the lowest, a middle and the highest quality."""
        x = self.batch(source, [0])[0]
        rows = [("held out", x)]
        for q in sorted({0, self.qualities // 2, self.qualities - 1}):
            with torch.inference_mode():
                _, values = self._coded(product.model, product.model.analysis(x), q, haar.DEEPEST)
                rows.append(
                    (
                        f"quality {q}",
                        product.model.mean(values, torch.full((len(x),), groups.told(product.model, q, 4))),
                    )
                )
        return contact_sheet([(name, compression.levels(frames)) for name, frames in rows])


SMALL = VideoCompression()
TINY = replace(SMALL, **{name: getattr(compression.TINY, name) for name in SHARED}, side=64, kept=64, steps=200)

# name -> (recipe, data, the paper's score)
PRESETS: dict[str, tuple[VideoCompression, str, str | None]] = {
    "small": (SMALL, "a folder of clips of 128 lines or more", None),
    "tiny": (TINY, "any clips, at 64x64", None),
}
