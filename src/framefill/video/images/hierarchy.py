"""Hierarchical autoencoders, their states given by the heat equation or learned (paper 000, section 2.2; facts 2.4).

      q(x_t | x_0) = N(m_t(x_0), s_t^2),  t = 1..T           p(x_{t-1} | x_t) = N(x_t + f(x_t, t), d_t^2)

      -log p(x_0) <= -log p(x_0 | x_1) + sum_t KL(q(x_{t-1} | x_0) | p(x_{t-1} | x_t)) + KL(q(x_T | x_0) | p(x_T))

Given the image its states are independent, so a term needs two of them. `Heat` has m_t = what is left of the image at
time t and s = 0.01 of its range; `Learned` says both with a network, from the same decoder's point of view the only
difference. A picture is drawn from the top, without noise in the last step. Of `classes` the decoder is told one, or
none; guidance leaves the means of none behind, as in `latents.priors.prior`.

Paper: what is corrected. The level T is trained too (the published program of Rissanen et al. never does, but starts
there); steps are drawn with d = 1.25 s; the top of `Heat` is not N(0, 1) but what training images look like so blurred.
They have then but a few numbers left, so a Gaussian of those stands for the images, which need not travel along.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from framefill.arrays import Rng, expand
from framefill.errors import BadInput
from framefill.latents.together import follow
from framefill.video.clip import levels
from framefill.video.images.drawing import Films, LastFrames
from framefill.video.pseudo.heat import HeatEquation, cosines

LEFT = 4  # cosines along an axis that blurred images still have
SMALL = 1e-8


class States(nn.Module, ABC):
    """q(x_t | x_0) and p(x_T), for pictures (B, C, H, W) in [-1, 1]."""

    @abstractmethod
    def moments(self, x: Tensor, t: Tensor, names: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of x_t for t (B,) in 1..T, both like x; `names` (B,) are the classes told."""

    @abstractmethod
    def top(self, rng: Rng, like: Tensor, names: Tensor | None = None) -> Tensor:
        """Draws of x_T, (B, C, H, W) like `like`, of the classes `names` (B,)."""

    def surprise(self, x: Tensor) -> Tensor:
        """KL(q(x_T | x_0) | p(x_T)) per number, (B,); 0 where nothing in it can be learned."""
        return x.new_zeros(len(x))


class Heat(States):
    """The states of an image that cools, from `least` to `most` pixels of blur, and noise of `sigma` on them.

    The top is known by its first two moments, for every class and for all: sums over pictures, and `share`, how many.
    """

    def __init__(
        self, steps: int, shape: tuple[int, int, int], *, least: float, most: float, sigma: float, classes: int = 0
    ):
        super().__init__()
        if not 0 < sigma < math.inf:
            raise BadInput(f"noise of {sigma} on the states of a hierarchy; give a positive number")
        C, H, W = shape
        kept = HeatEquation(steps + 1, least, most).attenuation(H, W).flip(0)
        self.register_buffer("kept", kept.float(), persistent=False)
        self.kept: Tensor
        self.sigma, self.left = sigma, (min(LEFT, H), min(LEFT, W))
        numbers = C * self.left[0] * self.left[1]
        rows = (classes + 1,) if classes else ()
        self.mean = nn.Parameter(torch.zeros(*rows, numbers), requires_grad=False)
        self.square = nn.Parameter(torch.eye(numbers).expand(*rows, -1, -1).clone(), requires_grad=False)
        self.share = nn.Parameter(torch.ones(rows), requires_grad=False) if classes else None

    def moments(self, x: Tensor, t: Tensor, names: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As in `States`."""
        rows, columns = (cosines(n).to(x) for n in x.shape[-2:])
        spectrum = rows @ x @ columns.T
        if self.training:
            self._learn(spectrum, names)
        cooled = rows.T @ (spectrum * self.kept.to(x)[t][:, None]) @ columns
        return cooled, torch.full_like(x, math.log(self.sigma))

    @torch.no_grad()
    def _learn(self, spectrum: Tensor, names: Tensor | None) -> None:
        found = (spectrum * self.kept[-1].to(spectrum))[..., : self.left[0], : self.left[1]].flatten(1).float()
        told = torch.zeros(len(found), 1 if self.share is None else len(self.share), device=found.device)
        if names is not None and self.share is not None:
            told.scatter_(1, names[:, None], 1.0)
        told[:, -1] = 1  # every picture is one of all
        if self.share is not None:
            follow(self.share, told.mean(0))
        follow(self.mean, (told.T @ found / len(found)).view_as(self.mean))
        square = torch.einsum("br,bi,bj->rij", told, found, found) / len(found)
        follow(self.square, square.view_as(self.square))

    def top(self, rng: Rng, like: Tensor, names: Tensor | None = None) -> Tensor:
        """As in `States`: Gaussian in the few cosines that are left, and noise."""
        mean, root = self._gaussians()
        rows = torch.full((len(like),), -1, device=mean.device) if names is None else names
        drawn = mean[rows] + (root[rows] @ rng.normal(mean.shape[1:], like).double()[..., None])[..., 0]
        drawn = drawn.float().to(like)
        spectrum = torch.zeros_like(like)
        spectrum[..., : self.left[0], : self.left[1]] = drawn.view(len(like), -1, *self.left)
        down, across = (cosines(n).to(like) for n in like.shape[-2:])
        return down.T @ spectrum @ across + self.sigma * rng.normal(like.shape[1:], like).to(like)

    def _gaussians(self) -> tuple[Tensor, Tensor]:
        """Means (rows, numbers) and roots of covariances (rows, numbers, numbers) of every class, and of all; float64.

        Where no picture of a class was ever told, its numbers are N(0, 1), as they were to begin with.
        """
        numbers = self.mean.shape[-1]
        mean, square = self.mean.double().view(-1, numbers), self.square.double().view(-1, numbers, numbers)
        if self.share is not None:
            share = self.share.double().clamp(min=SMALL)
            mean, square = mean / share[:, None], square / share[:, None, None]
        values, vectors = torch.linalg.eigh(square - mean[:, :, None] * mean[:, None])
        return mean, vectors * values.clamp(min=0).sqrt()[:, None]


class Learned(States):
    """States that `network`, (B, C, H, W) and a label to (B, 2 C, H, W), tells; the top is N(0, 1)."""

    def __init__(self, network: nn.Module, steps: int):
        super().__init__()
        self.network, self.steps = network, steps

    def moments(self, x: Tensor, t: Tensor, names: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As in `States`; what a picture shows says its class."""
        shift, log_spread = self.network(x, label(t, self.steps)).float().chunk(2, 1)
        return x + shift, log_spread - 1

    def top(self, rng: Rng, like: Tensor, names: Tensor | None = None) -> Tensor:
        """As in `States`."""
        return rng.normal(like.shape[1:], like).to(like)

    def surprise(self, x: Tensor) -> Tensor:
        """As in `States`."""
        mean, log_spread = self.moments(x, torch.full((len(x),), self.steps, device=x.device))
        return divergence(mean, log_spread, torch.zeros_like(mean), torch.zeros_like(mean)).mean((1, 2, 3))


def label(t: Tensor, steps: int) -> Tensor:
    """The level as networks are told it, in (0, 1000]."""
    return 1000 * t.float() / steps


def divergence(mean: Tensor, log_spread: Tensor, other: Tensor, other_log_spread: Tensor) -> Tensor:
    """KL(N(mean, spread^2) | N(other, other_spread^2)), number by number."""
    ratio = 2 * (log_spread - other_log_spread)
    return (ratio.exp() - 1 - ratio + ((mean - other) / other_log_spread.exp()).square()) / 2


class Hierarchy(nn.Module):
    """`states` and the decoder `network`, (B, C, H, W) and a label to the same: T = `steps` levels over a picture.

    `spread` is d_t to begin with; it is learned where the states are.
    """

    def __init__(self, network: nn.Module, states: States, steps: int, *, spread: float):
        super().__init__()
        if steps < 1 or not spread > 0:
            raise BadInput(f"a hierarchy of {steps} levels with a spread of {spread}; give positive numbers")
        self.network, self.states, self.steps = network, states, steps
        start = torch.full((steps + 1,), math.log(spread))
        self.log_spread = nn.Parameter(start, requires_grad=isinstance(states, Learned))

    def below(self, x: Tensor, t: Tensor, names: Tensor | None = None) -> Tensor:
        """The mean of x_{t-1} given x_t, and the classes `names` (B,) if the network knows any."""
        told = () if names is None else (names,)
        return x + self.network(x, label(t, self.steps), *told).to(x.dtype)

    def loss(self, x: Tensor, rng: Rng, names: Tensor | None = None) -> Tensor:
        """The bound on -log p(x | names), in nats per number, by one of its terms drawn at random: (B,)."""
        t = 1 + rng.integers(self.steps).to(x.device)
        return self.steps * self.term(x, t, rng, names) + self.states.surprise(x)

    def term(self, x: Tensor, t: Tensor, rng: Rng, names: Tensor | None = None) -> Tensor:
        """The term of levels t (B,), 1 for the picture itself."""
        mean, log_spread = self.states.moments(x, t, names)
        above = mean + log_spread.exp() * rng.normal(x.shape[1:], x)
        made, log_d = self.below(above, t, names), expand(self.log_spread[t], x)
        wanted, log_wanted = self.states.moments(x, (t - 1).clamp(min=1), names)
        between = divergence(wanted, log_wanted, made, log_d)
        told = ((x - made) / log_d.exp()).square() / 2 + log_d + math.log(2 * math.pi) / 2
        return torch.where(expand(t == 1, x), told, between).mean((1, 2, 3))

    @torch.no_grad()
    def sample(
        self, like: Tensor, rng: Rng, names: Tensor | None = None, *, none: Tensor | None = None, guidance: float = 1.0
    ) -> Iterator[Tensor]:
        """x_T, x_{T-1}, .., x_0, each like `like` (B, C, H, W), of the classes `names` (B,).

        With `guidance` above 1 more so than was taught; `none` is then what a class withheld is called.
        """
        x = self.states.top(rng, like, names)
        yield x
        for level in range(self.steps, 0, -1):
            t = torch.full((len(x),), level, device=x.device)
            mean = self.below(x, t, names)
            x = mean if none is None else torch.lerp(self.below(x, t, none), mean, guidance)
            if level > 1:
                x = x + self.log_spread[level].exp() * rng.normal(like.shape[1:], like)
            yield x


@dataclass(frozen=True)
class HierarchyModel(LastFrames):
    """A trained hierarchy of pictures and its verbs; its films are all T + 1 levels on the way down.

    `classes` it was told, 0 for none; `guidance` says how much of a class there is.
    """

    model: Hierarchy
    channels: int
    height: int
    width: int
    classes: int = 0
    guidance: float = 1.0
    device: str = "cpu"
    card: Any = None

    def _drawn(self, rng: Rng, label: int | None) -> Films:
        """All levels on the way down."""
        like = torch.empty(len(rng), self.channels, self.height, self.width, device=self.device)
        none = torch.full((len(rng),), self.classes, device=self.device) if self.classes else None
        if label is None or none is None:
            drawing = self.model.sample(like, rng, none)
        else:
            left = none if self.guidance != 1 else None
            drawing = self.model.sample(like, rng, torch.full_like(none, label), none=left, guidance=self.guidance)
        return np.stack([levels(x.clamp(-1, 1)) for x in drawing], 1)
