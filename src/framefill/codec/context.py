"""A learned entropy model: five passes from coarse to fine, each predicted from the ones before.

      pass 0    rows and columns 0 mod 4                          nothing known but earlier groups of channels
      pass 1    2 mod 4 both                                      their diagonal neighbours
      pass 2    0 and 2 mod 4, one of each                        neighbours on all sides
      pass 3    odd both                                          their diagonal neighbours
      pass 4    one odd, one even                                 neighbours on all sides

Every pass has its own integer network per group of channels (`nets.exact`); it looks at a window of known positions and
at the groups sent before at the same place, and gives a mean in sixteenths and one of 64 widths: a row of
`codec.gaussian`. All positions of a pass are coded at once, so decoding takes 5 groups of matrix products, whatever the
size (compare He et al. 2021, checkerboard; 2022, ELIC). Half of all symbols are in pass 4, a quarter in pass 3.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor, nn

from framefill.codec import gaussian
from framefill.codec.entropy import EntropyModel, Step, cost
from framefill.codec.tables import Tables
from framefill.errors import BadInput
from framefill.nets.exact import ExactNetwork, straight

Offsets = tuple[tuple[int, int], ...]
DIAGONAL: Offsets = tuple((y, x) for y, x in product((-3, -1, 1, 3), repeat=2))
SIDES: Offsets = tuple((y, x) for y, x in product(range(-2, 3), repeat=2) if (y + x) % 2)
COARSE = 2
# (positions modulo the period, period, window)
PASSES: tuple[tuple[Offsets, int, Offsets], ...] = (
    (((0, 0),), 4, ()),
    (((2, 2),), 4, tuple((COARSE * y, COARSE * x) for y, x in DIAGONAL)),
    (((0, 2), (2, 0)), 4, tuple((COARSE * y, COARSE * x) for y, x in SIDES)),
    (((1, 1),), 2, DIAGONAL),
    (((0, 1), (1, 0)), 2, SIDES),
)
LAYERS = {1: (0, 0, 0, 0, 0), 2: (0, 0, 0, 0, 1), 3: (0, 0, 0, 1, 2)}
MARGIN = 6
INSIDE = 16  # what a window shows for a position inside the latent
FARTHEST = 1 << 15  # of a mean, in sixteenths
MIDDLE = 24  # the width of one symbol


@lru_cache(64)
def sites(size: tuple[int, int], index: int) -> Tensor:
    """Positions (N,) of a pass in a latent (h, w), as rising indices into h w."""
    offsets, period, _ = PASSES[index]
    with torch.inference_mode(False):  # what is kept from there could never be used in training
        grid = torch.zeros(size, dtype=torch.bool)
        for y, x in offsets:
            grid[y::period, x::period] = True
        return grid.flatten().nonzero().flatten()


class Contextual(EntropyModel):
    """Symbols under Gaussians that the symbols around them predict; `groups` of channels one after the other.

    With `layers` 3 the passes 0 to 2, 3 and 4 are messages of their own; with 1 all are one, a byte or two shorter.
    With `settings` K the networks are told which of K settings, 0..K-1, a sample has.
    """

    def __init__(self, channels: int, *, groups: int = 2, hidden: int = 64, layers: int = 3, settings: int = 0):
        super().__init__(channels, layers)
        if not 1 <= groups <= channels or hidden < 1 or layers not in LAYERS or settings < 0:
            raise BadInput(
                f"{groups} groups of {channels} channels, {hidden} hidden, {layers} layers (1 to 3) and "
                f"{settings} settings"
            )
        self.settings = settings
        self.bounds = [channels * i // groups for i in range(groups + 1)]
        self.networks = nn.ModuleList()
        for (_, _, window), (first, last) in product(PASSES, zip(self.bounds, self.bounds[1:], strict=False)):
            inputs, own = len(window) * (channels + 1) + first + settings, last - first
            network = ExactNetwork(inputs, 2 * own, hidden=hidden, lines=own)
            with torch.no_grad():
                network.last.bias[own:] = MIDDLE / 16
            self.networks.append(network)

    def steps(self, size: tuple[int, int]) -> Iterable[Step]:
        """Passes, and in each the groups; passes without a position in a small latent are left out."""
        for index, layer in enumerate(LAYERS[self.layers]):
            places = sites(size, index)
            for group in range(len(self.bounds) - 1):
                number = index * (len(self.bounds) - 1) + group
                if len(places):
                    yield Step(number, layer, self.bounds[group], self.bounds[group + 1], places)

    def law(self, step: Step, symbols: Tensor, settings: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Row 16 width + fraction of the mean, base the floor of the mean."""
        mean, width = (x.long() for x in self.gaussians(step, symbols, settings))
        return width * gaussian.FRACTIONS + mean % gaussian.FRACTIONS, mean >> 4

    def gaussians(self, step: Step, symbols: Tensor, settings: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means in sixteenths and widths 0..63, whole numbers with gradients, (B, last - first, N) each."""
        window = PASSES[step.index // (len(self.bounds) - 1)][2]
        seen = torch.cat([*self._window(window, step, symbols), *self._told(step, symbols, settings)], 2)
        out = self.networks[step.index](seen).transpose(1, 2)
        own = step.last - step.first
        return out[:, :own].clamp(-FARTHEST, FARTHEST), out[:, own:].clamp(0, gaussian.WIDTHS - 1)

    def _told(self, step: Step, symbols: Tensor, settings: Tensor | None) -> list[Tensor]:
        """The settings as the network sees them (B, N, K), if it does; BadInput for none or others."""
        if not self.settings:
            return []
        if (
            settings is None
            or settings.shape != symbols.shape[:1]
            or not bool(((settings >= 0) & (settings < self.settings)).all())
        ):
            raise BadInput(f"give one setting of 0..{self.settings - 1} per sample, got {settings}")
        told = INSIDE * nn.functional.one_hot(settings, self.settings)
        return [told.to(symbols.dtype)[:, None].expand(-1, len(step.sites), -1)]

    def _window(self, window: Offsets, step: Step, symbols: Tensor) -> list[Tensor]:
        """Of what the network sees (B, N, K): window positions by channels, which are inside, earlier groups here."""
        B, _, _, w = symbols.shape
        places = step.sites.to(symbols.device)
        here = symbols.flatten(2)[:, : step.first, places].transpose(1, 2)
        if not window:
            return [here]
        padded = nn.functional.pad(symbols, [MARGIN] * 4)
        inside = nn.functional.pad(torch.full_like(symbols[:1, :1], INSIDE), [MARGIN] * 4)
        shifts = torch.tensor([y * padded.shape[3] + x for y, x in window], device=symbols.device)
        corner = (places // w + MARGIN) * padded.shape[3] + places % w + MARGIN
        index = (corner[:, None] + shifts).flatten()
        around = padded.flatten(2)[:, :, index].view(B, self.channels, len(places), len(window))
        around = around.permute(0, 2, 3, 1).flatten(2)
        edge = inside.flatten()[index].view(1, len(places), len(window)).expand(B, -1, -1)
        return [around, edge, here]

    def tables(self) -> Tables:
        """The Gaussian rows."""
        return gaussian.tables()

    def likeliest(self, rows: Tensor) -> Tensor:
        """The mean, rounded, half up."""
        return (rows % gaussian.FRACTIONS >= gaussian.FRACTIONS // 2).long()

    def bits(self, symbols: Tensor, settings: Tensor | None = None) -> Tensor:
        """Exact; the gradient is that of the Gaussian between symbol - 1/2 and symbol + 1/2."""
        self._suited(symbols)
        symbols = symbols if symbols.is_floating_point() else symbols.to(torch.float32)
        total = torch.zeros(len(symbols), dtype=torch.float32, device=symbols.device)
        for step in self.steps((symbols.shape[2], symbols.shape[3])):
            own = symbols.flatten(2)[:, step.first : step.last, step.sites.to(symbols.device)]
            mean, width = self.gaussians(step, symbols, settings)
            whole = mean.detach().long()
            rows = width.detach().long() * gaussian.FRACTIONS + whole % gaussian.FRACTIONS
            exact = cost(self.tables(), own.detach() - (whole >> 4), rows)
            total = total + straight(exact, smooth_bits(own, mean, width)).sum((1, 2))
        return total

    def check(self, dtype: torch.dtype) -> None:
        """BadInput where sums are not exact in `dtype`."""
        for network in self.networks:
            assert isinstance(network, ExactNetwork)
            network.check(dtype)


def smooth_bits(symbols: Tensor, mean: Tensor, width: Tensor) -> Tensor:
    """-log2 of the Gaussian mass within 1/2 of symbols, mean in sixteenths; a line between widths."""
    octave = (width.detach() / 8).floor()
    deviation = (8 + width - 8 * octave) * 2.0**octave / 64
    apart = (symbols - mean / 16).abs()
    upper = torch.special.log_ndtr((0.5 - apart) / deviation)
    lower = torch.special.log_ndtr((-0.5 - apart) / deviation)
    return -(upper + torch.log(-torch.expm1((lower - upper).clamp(max=-1e-5)))) / torch.log(torch.tensor(2.0))
