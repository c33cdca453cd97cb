"""The published MCVD network in plain torch, with the names and the layout of its authors' state dict.

Written from the facts (section 1.2) as an independent opposite of `framefill.nets.unet`: resampling is a convolution,
attention an explicit softmax, normalisation torch's own. `test_convert.py` holds it against the recorded outputs.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def group_norm(channels, eps, affine):
    groups = max(g for g in range(1, 33) if g <= max(channels // 4, 1) and channels % g == 0)
    return nn.GroupNorm(groups, channels, eps=eps, affine=affine)


def resample(x, factor):
    tap = torch.tensor([1.0, 3, 3, 1], dtype=x.dtype)
    kernel = torch.outer(tap, tap)[None, None].expand(x.shape[1], 1, 4, 4) / 64
    if factor > 1:
        return F.conv_transpose2d(x, 4 * kernel, stride=2, padding=1, groups=x.shape[1])
    return F.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


class NIN(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.W, self.b = nn.Parameter(torch.randn(channels, channels) / 3), nn.Parameter(torch.randn(channels) / 9)

    def forward(self, x):
        return torch.einsum("bihw,io->bohw", x, self.W) + self.b[:, None, None]


class SpadeNorm(nn.Module):
    def __init__(self, channels, cond_channels, hidden):
        super().__init__()
        self.free = group_norm(channels, 1e-6, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(cond_channels, hidden, 3, padding=1), nn.SiLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x, cond):
        h = self.mlp_shared(F.interpolate(cond, x.shape[-2:]))
        return self.free(x) * (1 + self.mlp_gamma(h)) + self.mlp_beta(h)


class ActNorm(nn.Module):
    def __init__(self, channels, embedding, spade):
        super().__init__()
        if embedding:
            self.Dense_0 = nn.Linear(embedding, 2 * channels)
        self.Norm_0 = SpadeNorm(channels, *spade) if spade else group_norm(channels, 1e-5, affine=not embedding)

    def forward(self, x, level, cond):
        h = self.Norm_0(x, cond) if isinstance(self.Norm_0, SpadeNorm) else self.Norm_0(x)
        if level is not None:
            scale, shift = self.Dense_0(F.silu(level))[..., None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        return F.silu(h)


class Block(nn.Module):
    def __init__(self, inputs, outputs, embedding, spade, factor=1.0):
        super().__init__()
        self.factor = factor
        self.actnorm0 = ActNorm(inputs, embedding, spade)
        self.Conv_0 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.actnorm1 = ActNorm(outputs, embedding, spade)
        self.Conv_1 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs or factor != 1:
            self.Conv_2 = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, level, cond):
        h = self.actnorm0(x, level, cond)
        if self.factor != 1:
            h, x = resample(h, self.factor), resample(x, self.factor)
        h = self.Conv_1(self.actnorm1(self.Conv_0(h), level, cond))
        return ((self.Conv_2(x) if hasattr(self, "Conv_2") else x) + h) / math.sqrt(2)


class Attend(nn.Module):
    def __init__(self, channels, head):
        super().__init__()
        self.heads = max(channels // head, 1)
        self.GroupNorm_0 = group_norm(channels, 1e-6, affine=True)
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (NIN(channels) for _ in range(4))

    def forward(self, x):
        h = self.GroupNorm_0(x)
        q, k, v = (
            nin(h).reshape(len(x) * self.heads, -1, h[0, 0].numel()) for nin in (self.NIN_0, self.NIN_1, self.NIN_2)
        )
        scores = torch.softmax(q.mT @ k / math.sqrt(q.shape[1]), -1)
        return (x + self.NIN_3((v @ scores.mT).reshape(x.shape))) / math.sqrt(2)


class Inner(nn.Module):
    """`all_modules` in the order of the authors; `plan` says how each is used."""

    def __init__(self, channels, cond_channels, *, width, multipliers, blocks, attention, head, spade=0):
        super().__init__()
        self.width, self.spade = width, spade
        embedding, kinds = 4 * width, (cond_channels, spade) if spade else None
        modules, self.plan = [nn.Linear(width, embedding), nn.Linear(embedding, embedding)], []

        def add(use, module):
            modules.append(module)
            self.plan.append(use)

        add("stem", nn.Conv2d(channels + (0 if spade else cond_channels), width, 3, padding=1))
        skips, here = [width], width
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                add("down", Block(here, width * multiplier, embedding, kinds))
                here = width * multiplier
                if attention[level]:
                    add("attend", Attend(here, head))
                skips.append(here)
                self.plan.append("keep")
            if level < len(multipliers) - 1:
                add("down", Block(here, here, embedding, kinds, 0.5))
                skips.append(here)
                self.plan.append("keep")
        add("down", Block(here, here, embedding, kinds))
        add("attend", Attend(here, head))
        add("down", Block(here, here, embedding, kinds))
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for _ in range(blocks + 1):
                add("join", Block(here + skips.pop(), width * multiplier, embedding, kinds))
                here = width * multiplier
            if attention[level]:
                add("attend", Attend(here, head))
            if level:
                add("down", Block(here, here, embedding, kinds, 2.0))
        add("norm", ActNorm(here, 0, kinds))
        add("stem", nn.Conv2d(here, channels, 3, padding=1))
        self.all_modules = nn.ModuleList(modules)

    def forward(self, x, label, cond):
        rates = torch.exp(-math.log(10000) * torch.arange(self.width // 2) / (self.width // 2 - 1))
        angle = label[:, None].float() * rates
        level = torch.cat([angle.sin(), angle.cos()], 1).to(x.dtype)
        modules = iter(self.all_modules)
        level = next(modules)(level)
        level = next(modules)(F.silu(level))
        h, kept = x if self.spade else torch.cat([x, cond], 1), []
        for use in self.plan:
            if use == "keep":
                kept.append(h)
            elif use in ("stem", "attend"):
                h = next(modules)(h)
                kept = kept or [h]
            elif use == "norm":
                h = next(modules)(h, None, cond)
            else:
                h = next(modules)(torch.cat([h, kept.pop()], 1) if use == "join" else h, level, cond)
        return h


class Published(nn.Module):
    """The network with the noise table its authors save beside it, most noise first."""

    def __init__(self, *sizes, **options):
        super().__init__()
        self.unet = Inner(*sizes, **options)
        self.register_buffer("betas", torch.linspace(1e-4, 0.02, 1000).flip(0))
        self.register_buffer("alphas", torch.cumprod(1 - self.betas.flip(0), 0).flip(0))
        self.unet.register_buffer("sigmas", self.betas.clone())

    def forward(self, x, label, cond):
        return self.unet(x, label, cond)


def save(network, path, *, step=700_000, average=None):
    """A checkpoint as their runner writes it; the weights in training differ from their running average."""
    shadow = {name: value.detach().clone() for name, value in network.named_parameters()}
    weights = {f"module.{name}": value + 0.25 for name, value in network.state_dict().items()}
    weights |= {f"module.{name}": value for name, value in network.named_buffers()}
    optimizer = torch.optim.Adam(network.parameters())
    torch.save([weights, optimizer.state_dict(), 12, step, shadow if average is None else average(shadow)], path)
