"""A model of fields together with the transforms that are learned beside it, one for each variable that asks for one.

Values arrive scaled to [-1, 1] by their range; `bend` takes them to where the network works, `unbend` brings its draws
back. Variables without a learned transform pass both unchanged.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from framefill.climate.transforms import Monotone
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.guide import Wrapper


class Learned(Wrapper):
    """The denoiser, and a `Monotone` for each of the `channels` named."""

    model: Denoiser

    def __init__(self, model: Denoiser, channels: Sequence[int] = ()):
        super().__init__(model)
        self.maps = nn.ModuleDict({str(c): Monotone(-1.0, 1.0, seed=c) for c in channels})

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The clean estimate, in the space of the network."""
        return self.model(x_t, t, cond)

    def bend(self, x: Tensor) -> Tensor:
        """x (B, T, C, H, W), scaled, to the space of the network."""
        return self._each(x, Monotone.forward)

    def unbend(self, y: Tensor) -> Tensor:
        """The inverse of `bend`."""
        return self._each(y, Monotone.inverse)

    def stretch(self, x: Tensor, above: float) -> Tensor:
        """What training adds, so that values above `above` have room: 0 without learned transforms."""
        parts = [bent.stretch(x[:, :, int(c)], above) for c, bent in self._maps()]
        return torch.stack(parts).sum() if parts else x.new_zeros(())

    def _each(self, x: Tensor, how: Callable[[Monotone, Tensor], Tensor]) -> Tensor:
        if not self.maps:
            return x
        maps = dict(self._maps())
        parts = [how(maps[str(c)], part) if str(c) in maps else part for c, part in enumerate(x.unbind(2))]
        return torch.stack(parts, 2)

    def _maps(self) -> list[tuple[str, Monotone]]:
        return [(name, bent) for name, bent in self.maps.items() if isinstance(bent, Monotone)]
