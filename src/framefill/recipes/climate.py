"""Continuous-time diffusion of fields (paper 003): an ensemble of the next fields, of those between, of all from a few.

`published=True` is the paper's model as its author finished it: windows of fields drawn from nothing, and whatever is
known brought in while drawing, by reconstruction guidance and replacement. `published=False` is ours: the network is
shown the cells that are known, any of them, at any time, with a plane that says which, so forecasts, states between
two, and fields from a few stations are one call of one network each, without gradients. With `trend`, what is modelled
is not the fields but what they are beside a straight line through those before: errors of that line as a forecast,
which grow with time as real ones do, together with what was left over last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from framefill.arrays import Rng, derive
from framefill.climate.archive import Archive, open_archive, open_dataset
from framefill.climate.emulator import Emulator, Fill
from framefill.climate.fields import Variable, fields_in
from framefill.climate.learned import Learned
from framefill.climate.samples import HADCM3, LICENSE, place_of
from framefill.climate.statistics import Statistics, variables_of
from framefill.climate.transforms import Identity
from framefill.climate.ukcp18 import open_ukcp18
from framefill.climate.windows import Begins, FieldWindows, by_season, by_year, gather
from framefill.diffusion.denoiser import Denoiser, Model
from framefill.diffusion.noise import GaussianFreeField, Noise, White
from framefill.diffusion.observe import MomentMatched, Observation, Reconstruction, Replacement
from framefill.diffusion.sample import DDPM, DPMSolver, Sampler
from framefill.diffusion.schedule import cosine, uniform_times
from framefill.diffusion.target import V
from framefill.diffusion.weight import velocity
from framefill.errors import BadInput
from framefill.nets.spacetime import SpaceTimeUNet

UKCP18 = "ukcp18"


@dataclass(frozen=True)
class Climate:
    """Every hyperparameter; the defaults are the paper's model of hourly rain (facts, section 4).

    `variables` are names in the file with their transforms, such as "tas,pr:sqrt"; `channels` says how many. With
    `height` 0 the grid, and with no names the variables, are those of the data (`suited`). Training sees the years up
    to `until` (0: 80 % of the record).
    """

    # fields
    variables: str = ""
    channels: int = 1
    height: int = 64
    width: int = 64
    periodic: bool = False
    until: int = 0
    # windows, in steps of the record
    past: int = 5
    current: int = 5
    trend: int = 0
    mix: bool = False
    # network
    features: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    blocks: int = 2
    heads: int = 8
    head_width: int = 32
    patch: int = 1
    # process, guidance and training
    published: bool = True
    lowest: float = -20.0
    highest: float = 20.0
    noise_power: float = 0.0
    guidance: float = 2.5
    above: float = -0.99974
    calls: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-4
    warmup: int = 0
    cooldown: float = 0.0
    ema: float = 0.9995
    clip: float = 1.0
    steps: int = 200_000

    def model(self) -> Learned:
        """The denoiser of whole windows, and the transforms it learns (Monotone) for variables that ask for them."""
        network = SpaceTimeUNet(
            self.channels,
            0 if self.published else self.channels + 1,
            width=self.features,
            multipliers=self.multipliers,
            blocks=self.blocks,
            heads=self.heads,
            head_width=self.head_width,
            patch=self.patch,
            periodic=self.periodic,
        )
        noise: Noise = GaussianFreeField(self.noise_power) if self.noise_power else White()
        return Learned(Denoiser(network, cosine(self.lowest, self.highest), V(), noise=noise), self._learned)

    @property
    def _before(self) -> int:
        """Fields that a window has before the current ones: those of the line, or the past."""
        return max(self.trend, self.past)

    @property
    def _learned(self) -> list[int]:
        return [i for i, (_, transform) in enumerate(variables_of(self.variables)) if transform is None]

    def source(
        self,
        data: str | Path,
        split: str,
        *,
        cache: Path | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> FieldWindows:
        """Windows of a split of `data`: a NetCDF file, a Zarr store, a folder of files, or "hadcm3".

        "hadcm3" is the annual temperature of `climate.samples`; ukcp18:FOLDER are the files of UKCP18 local as they
        are distributed, or what `open_ukcp18` made of them as Zarr, split as the paper does. All others are split by
        year, see `years_of`.
        """
        archive = self._record(data)
        published = str(data).startswith(f"{UKCP18}:")
        found = (len(archive.spec.variables), *archive.spec.grid.shape)
        if found != (self.channels, self.height, self.width):
            raise BadInput(
                f"{data} has {found[0]} variable(s) on {found[1]}x{found[2]} cells, the recipe {self.channels} on "
                f"{self.height}x{self.width}; say so: --set channels={found[0]} --set height={found[1]} "
                f"--set width={found[2]}"
            )
        if archive.spec.grid.periodic and not self.periodic:
            raise BadInput(f"{data} goes around the globe; say so: --set periodic=true")

        def begins(split: str) -> Begins:
            return by_season(archive, split) if published else by_year(archive, split, self.until, before=self._before)

        learned = self._learned
        statistics = gather(
            archive, begins("train"), trend=self.trend, progress=progress,
            in_range=[self.published or i in learned for i in range(self.channels)],
        )  # fmt: skip
        if str(data) == HADCM3:
            statistics = replace(statistics, source=HADCM3, license=LICENSE)
        source = FieldWindows(archive, begins(split), statistics)
        source.sample(0, length=self._before + self.current)  # a record too short for it is told now
        return source

    def suited(self, data: str | Path) -> "Climate":
        """The recipe for the fields of `data`: with `height` 0 on their grid, and of all variables if none is named."""
        if self.height:
            return self
        with self._record(data) as archive:
            grid, found = archive.spec.grid, archive.spec.variables
        names = self.variables or ",".join(v.name for v in found)
        return replace(
            self, variables=names, channels=len(found), height=grid.shape[0], width=grid.shape[1],
            periodic=grid.periodic,
        )  # fmt: skip

    def _record(self, data: str | Path) -> Archive:
        kind, _, folder = str(data).partition(":")
        if kind != UKCP18 or not folder:
            return self._open(place_of(data))
        return (
            self._open(folder) if Path(folder, "zarr.json").exists() else open_ukcp18(folder, cells=self.height or 64)
        )

    def _open(self, place: str | Path) -> Archive:
        named = variables_of(self.variables)
        if not named:
            with open_dataset(place) as dataset:
                named = tuple((name, None) for name in fields_in(dataset))
        return open_archive(place, [Variable(name, "", transform or Identity()) for name, transform in named])

    def about(self, source: FieldWindows) -> dict[str, Any]:
        """What must be known of the data to use the model."""
        return {"fields": source.statistics.to_json()}

    def batch(self, source: FieldWindows, seeds: Sequence[int]) -> Tensor:
        """Windows (B, past + current, C, H, W) as the network takes them, one per seed, NaN where values are missing.

        With `mix` each is a rotation of two, cos a u + sin a v: what is left of a line has no sign and is close to
        Gaussian, for which rotations keep mean and covariance, so a few windows make many. Paper: nothing of the kind.
        """
        windows = self._windows(source, seeds)
        if not self.mix:
            return windows
        others = self._windows(source, [derive(s, 1) for s in seeds])
        angle = 2 * torch.pi * Rng([derive(s, 2) for s in seeds]).uniform((1, 1, 1, 1))
        return angle.cos() * windows + angle.sin() * others

    def _windows(self, source: FieldWindows, seeds: Sequence[int]) -> Tensor:
        length = self._before + self.current
        x = torch.stack([torch.from_numpy(source.sample(s, length=length)) for s in seeds])
        return source.statistics.encode(x, self.trend, self.past)[0]

    def known(self, rng: Rng, shape: Sequence[int]) -> Tensor:
        """Cells (B, T, 1, H, W) that training shows, for windows of `shape` (T, H, W).

        The past is shown in four windows of five, one time in eight only its last fields; in one of five some current
        fields are, and in three of ten some cells of all that is hidden, half of the time at places that stay: a share
        of up to a half of them, small ones more often.
        """
        T, H, W = shape
        u = rng.uniform((8,))
        place = torch.arange(T)
        depth = torch.where(u[:, 1] < 0.125, 1 + (u[:, 2] * max(self.past - 1, 1)).floor(), torch.tensor(float(T)))
        past = (u[:, 0] < 0.8)[:, None] & (place < self.past) & (place >= self.past - depth[:, None])
        inner = (place >= self.past) & (u[:, 3] < 0.2)[:, None] & (rng.uniform((T,)) < u[:, 4:5])
        frames = (past | (inner & ~inner[:, self.past :].all(1, keepdim=True)))[:, :, None, None, None]
        share = torch.where(u[:, 5] < 0.3, 0.5 * u[:, 6] ** 3, torch.tensor(0.0))[:, None, None, None, None]
        cells = rng.uniform((T, 1, H, W))
        stay = (u[:, 7] < 0.5)[:, None, None, None, None]
        return frames | (torch.where(stay, cells[:, :1], cells) < share)

    def loss(self, model: Learned, batch: Tensor, rng: Rng) -> Tensor:
        """The mean squared error of v per sample (B,) on cells that are there and not shown.

        A learned transform adds what keeps it from flattening the values (`Monotone.stretch`).
        """
        there = ~batch.isnan()
        raw = batch.nan_to_num(0.0)
        x = model.bend(raw)
        t = uniform_times(rng).to(batch.device)
        counted, cond = there, None
        if not self.published:
            known = self.known(rng, (batch.shape[1], *batch.shape[-2:])).to(batch.device) & there.all(2, keepdim=True)
            counted, cond = there & ~known, shown(x, known)
        loss = model.model.loss(x, t, cond, velocity, rng, counted=counted.to(x.dtype))
        return loss + model.stretch(raw, self.above)

    def draw(
        self, model: Learned, sampler: Sampler, x: Tensor, known: Tensor, rng: Rng, coarse: Observation | None = None
    ) -> Tensor:
        """Whole windows (B, T, C, H, W): x where `known` (B, T, 1, H, W), drawn elsewhere; the numbers of `encode`.

        `coarse` is an observation of the windows, brought in by moment matching.
        """
        x = model.bend(x)
        guided: Model = model
        cond = None if self.published else shown(x, known)
        if self.published and known.any():
            seen = Observation(torch.where(known.expand_as(x), x, torch.nan))
            guided = Replacement(Reconstruction(model, seen, self.guidance), seen)
        if coarse is not None:
            guided = MomentMatched(guided, coarse)
        return model.unbend(torch.where(known, x, sampler(guided, x, cond, rng)))

    def sheet(self, product: Emulator, source: FieldWindows) -> Image.Image:
        """A forecast from the first window of `source`: what happened, and three members, beside what is known."""
        x = torch.from_numpy(source.sample(0, length=self._before + self.current))
        made = product.members(torch.cat([x[: -self.current], torch.full_like(x[-self.current :], torch.nan)]), 3)
        rows = product.statistics.encode(torch.cat([x[None], made]), self.trend, self.past)[0][:, :, 0]
        return Image.fromarray(tiles(rows.flip(2)))

    def product(self, model: Learned, *, card: Any = None, device: str = "cpu") -> Emulator:
        """The trained model with its verbs."""
        statistics = Statistics.from_json((card.about if card else {}).get("fields"))
        sampler: Sampler = DDPM(self.calls) if self.published else DPMSolver(self.calls)
        fill: Fill = partial(self.draw, model)
        return Emulator(model, fill, statistics, self.past, self.current, self.trend, sampler, device, card)


def shown(x: Tensor, known: Tensor) -> Tensor:
    """What the network is told: (B, T, C + 1, H, W), values where they are known, and where that is."""
    return torch.cat([x * known, known.to(x.dtype)], 2)


def tiles(rows: Tensor, *, gap: int = 2) -> NDArray[np.uint8]:
    """Fields (N, T, H, W) beside each other, below zero blue, above it red, three standard deviations at the full."""
    share = (rows / 3).clamp(-1, 1).nan_to_num(0.0)
    colours = 1 - torch.stack([(-share).clamp(min=0), share.abs(), share.clamp(min=0)], -1)
    framed = F.pad(colours, (0, 0, 0, gap, 0, gap), value=1.0)
    return (framed.permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1) * 255).round().byte().numpy()


HADCM3_TINY = Climate(
    variables="air_temperature", height=37, width=49, until=1999, current=10, trend=31, mix=True,
    past=3, features=32, multipliers=(1, 2), blocks=1, heads=2, head_width=24, patch=2, published=False, lowest=-12.0,
    highest=10.0, noise_power=1.0, calls=10, batch_size=8, learning_rate=1e-3, warmup=100, cooldown=0.4, ema=0.998,
    steps=2200,
)  # fmt: skip

PRESETS: dict[str, tuple[Climate, str, str | None]] = {
    "tiny": (
        replace(HADCM3_TINY, until=0, trend=0, mix=False, variables="", height=0, width=0), "a record of fields", None,
    ),
    "hadcm3": (HADCM3_TINY, HADCM3, None),
    "ukcp18": (Climate(variables="pr"), "UKCP18 local hourly rain, 64x64", "no score; qualitative"),
    "ukcp18-sqrt": (Climate(variables="pr:sqrt"), "UKCP18 local hourly rain, 64x64", "PSD -50 %, R2 0.31"),
    "ukcp18-learned": (Climate(variables="pr:learned"), "UKCP18 local hourly rain, 64x64", "PSD -45 %, R2 0.59"),
}  # fmt: skip
