"""The asymmetric U-Net of the diffusion autoencoder (seed 002, section 3; its program: Stable Cascade's stage B, facts,
section 3.2): groups of blocks are run more often on the way up than on the way down, with the same weights.

      x -> patches -> 1x1 -> norm, + condition -> [group, halve] x levels
        -> [group, 1x1, group (again), double] x levels, with skips -> norm -> 1x1 -> pixels

A group is a row of blocks `Filter`, `Level` and, where a level has heads, `Attend` (nets/mixing.py). The condition is a
coarse map, which is resized and added, or concatenated, once at the start.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.mixing import Attend, Factorised, Filter, Level, dense, double, halve, norm, tell


@dataclass(frozen=True)
class Plan:
    """The sizes of the network; the lists have one entry per level, the largest maps first.

    `widths` are features, `heads` those of attention (0: none), `down` and `up` blocks, `repeats` how often a group on
    the way up is run, `dropout` of its blocks. `patch` x `patch` pixels are one place of the first level.
    `response` puts global response normalisation into every block; without it, and without heads, a pixel depends on
    its surroundings only. `concatenated` puts the condition beside the picture (the text) rather than adding its
    learned image (their program). `second` has the network told a second number besides the time. `text` is the
    width of text embeddings (0: none), which become `text_tokens` vectors of `text_width` each. `preview` is the
    channels of a small picture that may be given too (0: none). BadInput for an impossible plan.
    """

    widths: Sequence[int] = (320, 576, 1152, 1152)
    heads: Sequence[int] = (0, 0, 18, 18)
    down: Sequence[int] = (2, 4, 14, 4)
    up: Sequence[int] = (2, 4, 14, 4)
    repeats: Sequence[int] = (2, 2, 2, 2)
    dropout: Sequence[float] = (0.0, 0.0, 0.1, 0.1)
    patch: int = 2
    response: bool = True
    concatenated: bool = False
    second: bool = True
    text: int = 0
    text_tokens: int = 4
    text_width: int = 1280
    preview: int = 0

    def __post_init__(self) -> None:
        lists = (self.widths, self.heads, self.down, self.up, self.repeats, self.dropout)
        if len({len(values) for values in lists}) != 1 or not self.widths:
            raise BadInput(
                "widths, heads, down, up, repeats and dropout need one entry per level each, got "
                + ", ".join(str(len(values)) for values in lists)
            )
        if min(*self.widths, *self.down, *self.up, *self.repeats, self.patch) < 1 or min(self.heads) < 0:
            raise BadInput(
                f"widths {tuple(self.widths)}, blocks {tuple(self.down)} and {tuple(self.up)}, repeats "
                f"{tuple(self.repeats)}, patch {self.patch}, heads {tuple(self.heads)}: give 1 or more (heads: or 0)"
            )

    @property
    def stride(self) -> int:
        """Heights and widths are multiples of this."""
        return self.patch * 2 ** (len(self.widths) - 1)


def image(inputs: int, features: int) -> nn.Sequential:
    """Two dense layers, by which a coarse map enters."""
    layers = nn.Sequential(dense(inputs, 4 * features), nn.GELU(), dense(4 * features, features))
    for layer in (layers[0], layers[2]):
        nn.init.normal_(layer.get_parameter("weight"), std=0.02)
    return layers


class Group(nn.Module):
    """A row of blocks of one level, run `repeats` times with one set of weights."""

    def __init__(self, plan: Plan, level: int, *, up: bool, frames: bool):
        super().__init__()
        features, heads = plan.widths[level], plan.heads[level]
        text = plan.text_width if plan.text else 0
        attention = Factorised if frames else Attend
        joins = up and level < len(plan.widths) - 1
        self.filters, self.levels, self.attention = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i in range((plan.up if up else plan.down)[level]):
            skip = features if joins and i == 0 else 0
            block = Filter(features, skip=skip, response=plan.response, dropout=plan.dropout[level], frames=frames)
            with torch.no_grad():
                block.narrow.weight *= sum(plan.down) ** -0.5
            self.filters.append(block)
            self.levels.append(Level(features, 1 + plan.second))
            if heads:
                self.attention.append(attention(features, heads, text=text))
        self.again = nn.ModuleList([dense(features, features) for _ in range(plan.repeats[level] - 1 if up else 0)])

    def forward(self, x: Tensor, told: list[Tensor], text: Tensor | None, skip: Tensor | None = None) -> Tensor:
        """x (B, ..., C), the embedded numbers, the text and what comes from the way down, to the shape of x."""
        x = self._once(x, told, text, skip)
        for join in self.again:
            x = self._once(join(x), told, text, skip)
        return x

    def _once(self, x: Tensor, told: list[Tensor], text: Tensor | None, skip: Tensor | None) -> Tensor:
        for i, (filter, level) in enumerate(zip(self.filters, self.levels, strict=True)):
            x = level(filter(x, skip if i == 0 else None), told)
            if len(self.attention):
                x = self.attention[i](x, text)
        return x


class AsymmetricUNet(nn.Module):
    """Answers for x (B, channels, H, W) at times t under a coarse map of `condition` channels; see `Plan`.

    With `frames` it works on clips (B, channels, T, H, W): blocks filter over three frames too, attention is within
    frames and then along time, height and width are halved and the number of frames never.
    `answers` is the channels of the output, those of the input if not given. The output of a fresh network is zero.
    """

    def __init__(self, channels: int, condition: int, plan: Plan, *, answers: int = 0, frames: bool = False):
        super().__init__()
        self.plan, self.frames, self.condition, self.stride = plan, frames, condition, plan.stride
        first, area, last = plan.widths[0], plan.patch**2, len(plan.widths) - 1
        beside = condition if plan.concatenated else 0
        self.enter = dense(channels * area + beside, first, gain=0.02)
        self.mapper = image(condition, first) if condition and not plan.concatenated else None
        self.preview = image(plan.preview, first) if plan.preview else None
        self.text = dense(plan.text, plan.text_width * plan.text_tokens) if plan.text else None
        if self.text is not None:
            nn.init.normal_(self.text.weight, std=0.02)
        levels = range(last + 1)
        self.down = nn.ModuleList([Group(plan, i, up=False, frames=frames) for i in levels])
        self.up = nn.ModuleList([Group(plan, i, up=True, frames=frames) for i in reversed(levels)])
        pairs = list(zip(plan.widths, plan.widths[1:], strict=False))
        self.halves = nn.ModuleList([halve(a, b) for a, b in pairs])
        self.doubles = nn.ModuleList([double(b, a) for a, b in reversed(pairs)])
        self.leave = dense(first, (answers or channels) * area)
        nn.init.zeros_(self.leave.weight)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        *,
        second: Tensor | None = None,
        text: Tensor | None = None,
        preview: Tensor | None = None,
    ) -> Tensor:
        """x (B, channels, H, W) at t (B,) in [0, 1] under `condition` (B, condition, h, w) of any size to a like of x.

        `second` (B,) in [0, 1], text (B, L, text) and preview (B, preview, h, w) count as zeros if they are not given,
        and so does the condition. With frames, the maps have T before their height, of any number too.
        BadInput if H or W is no multiple of `stride`, or the condition has other channels.
        """
        self._check(x, condition)
        numbers = [t, torch.zeros_like(t) if second is None else second][: 1 + self.plan.second]
        told = [tell(number, x.dtype) for number in numbers]
        words = self._words(text, x)
        h = self._enter(x, condition, preview)
        skips = []
        for i, group in enumerate(self.down):
            h = group(h if i == 0 else self.halves[i - 1](norm(h)), told, words)
            skips.append(h)
        h = skips[-1]
        for i, group in enumerate(self.up):
            h = group(h, told, words, skips[-1 - i] if i else None)
            h = self.doubles[i](norm(h)) if i < len(self.doubles) else h
        return self._pixels(self.leave(norm(h)))

    def _check(self, x: Tensor, condition: Tensor | None) -> None:
        H, W = x.shape[-2:]
        if H % self.stride or W % self.stride or 0 in (H, W):
            raise BadInput(f"this network takes heights and widths that are multiples of {self.stride}, got {H}x{W}")
        if condition is not None and condition.shape[1] != self.condition:
            raise BadInput(f"this network takes a condition of {self.condition} channels, got {condition.shape[1]}")

    def _words(self, text: Tensor | None, x: Tensor) -> Tensor | None:
        """The text as vectors (B, L tokens, text_width)."""
        if self.text is None:
            return None
        text = x.new_zeros(len(x), 1, self.plan.text) if text is None else text
        return norm(self.text(text).view(len(x), -1, self.plan.text_width))

    def _enter(self, x: Tensor, condition: Tensor | None, preview: Tensor | None) -> Tensor:
        h = self._patches(x)
        if self.plan.concatenated and self.condition:
            h = torch.cat([h, self._resized(condition, self.condition, h)], -1)
        h = norm(self.enter(h))
        # Paper: resized so that corners meet corners, in the program; then what is here depends on how far the picture
        # goes, and tiles of it disagree. Here every value of the condition lies in the middle of its pixels.
        if self.mapper is not None:
            h = h + norm(self.mapper(self._resized(condition, self.condition, h)))
        if self.preview is not None:
            h = h + norm(self.preview(self._resized(preview, self.plan.preview, h)))
        return h

    def _resized(self, maps: Tensor | None, channels: int, h: Tensor) -> Tensor:
        """Maps (B, channels, ...) at the places of h (B, ..., C), channels last."""
        if maps is None:
            return h.new_zeros(*h.shape[:-1], channels)
        mode = "trilinear" if self.frames else "bilinear"
        return F.interpolate(maps.to(h.dtype), h.shape[1:-1], mode=mode).movedim(1, -1)

    def _patches(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) or (B, C, T, H, W) as places (B, ..., C patch patch)."""
        p = self.plan.patch
        h = x.unflatten(-1, (-1, p)).unflatten(-3, (-1, p))  # (..., H / p, p, W / p, p)
        return h.movedim(1, -1).transpose(-4, -3).flatten(-3).contiguous()

    def _pixels(self, h: Tensor) -> Tensor:
        """Places (B, ..., C patch patch) as pixels."""
        p = self.plan.patch
        h = h.unflatten(-1, (p, p, -1)).transpose(-4, -3)
        return h.movedim(-1, 1).flatten(-2).flatten(-3, -2).contiguous()


_TEXT = {"text": 1280, "preview": 3}
PUBLISHED = Plan(**_TEXT)  # type: ignore[arg-type]  # "700M"
LARGE = Plan(
    widths=(320, 640, 1280, 1280), heads=(0, 0, 20, 20), down=(2, 6, 28, 6), up=(2, 6, 28, 6), repeats=(2, 2, 3, 3),
    **_TEXT,  # type: ignore[arg-type]
)  # fmt: skip  # "3B"
