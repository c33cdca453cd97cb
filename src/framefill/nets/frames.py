"""The U-Net of improved DDPM for sets of frames (Nichol and Dhariwal 2021; Harvey et al. 2022, "FDM"; facts, 2.1).

Frames go through the network of pictures side by side; where it attends, every place first attends to itself in the
other frames, and then every frame to its places. What a frame of the set is, is said by its number in the video: the
distance of two frames, signed and on a logarithmic scale, adds to queries, keys and values.

      score(i, j) = q_i (k_j + r_ij) + k_j r'_ij,   h_i = sum_j share_ij (v_j + r''_ij),   r = R(log distance, level)

With single frames there is nothing to attend to, and the layers are left out: 39,625,603 parameters with the paper's
settings, 49,065,987 with them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.layers import Double, Dropout, GroupNorm, NoiseLevel, attend, check_size, conv, linear

SPANS = 3  # numbers that say how far apart two frames are


class Shifted(nn.Module):
    """Two convolutions around a shortcut; the noise level scales and shifts between them."""

    def __init__(self, inputs: int, outputs: int, *, embedding: int, dropout: float):
        super().__init__()
        self.norm_0 = GroupNorm(inputs)
        self.conv_0 = conv(inputs, outputs)
        self.level = linear(embedding, 2 * outputs)
        self.norm_1 = GroupNorm(outputs)
        self.dropout = Dropout(dropout)
        self.conv_1 = conv(outputs, outputs, scale=0.0)
        self.shortcut = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """x (N, inputs, H, W), level (N, embedding) to (N, outputs, H, W)."""
        h = self.conv_0(F.silu(self.norm_0(x)))
        scale, shift = self.level(level)[:, :, None, None].chunk(2, 1)
        h = F.silu(torch.addcmul(shift, self.norm_1(h), 1 + scale))
        return self.shortcut(x) + self.conv_1(self.dropout(h))


class Places(nn.Module):
    """Attention among the places of each frame."""

    def __init__(self, features: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(features)
        self.qkv = linear(features, 3 * features)
        self.out = linear(features, features)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) to the same shape."""
        H, W = x.shape[2:]
        rows = self.norm(x).flatten(2).mT
        q, k, v = self.qkv(rows).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        h = self.out(attend(q, k, v).transpose(1, 2).flatten(2))
        return x + h.mT.unflatten(2, (H, W))


class Spans(nn.Module):
    """A vector per head for every two frames, by how far apart they are and the noise level; at first zero."""

    def __init__(self, features: int, heads: int, embedding: int):
        super().__init__()
        self.heads = heads
        self.spans, self.level = linear(SPANS, features), linear(embedding, features)
        self.out = linear(features, features)
        nn.init.zeros_(self.out.weight)

    def forward(self, spans: Tensor, level: Tensor) -> Tensor:
        """spans (B, T, T, SPANS), level (B, embedding) to (B, heads, T, T, features / heads)."""
        h = F.silu(self.spans(spans) + self.level(level)[:, None, None])
        return self.out(h).unflatten(3, (self.heads, -1)).permute(0, 3, 1, 2, 4)


class Times(nn.Module):
    """Attention of every place among the frames that are there."""

    def __init__(self, features: int, heads: int, embedding: int):
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(features)
        self.qkv = linear(features, 3 * features)
        self.out = linear(features, features)
        nn.init.zeros_(self.out.weight)
        self.relations = nn.ModuleList([Spans(features, heads, embedding) for _ in range(3)])

    def forward(self, x: Tensor, level: Tensor, spans: Tensor, hidden: Tensor) -> Tensor:
        """x (B, T, C, H, W), level (B, E), spans (B, T, T, SPANS); `hidden` (B, T, T) is added to the scores."""
        B, T, _, H, W = x.shape
        rows = self.norm(x.flatten(0, 1)).unflatten(0, (B, T)).flatten(3).permute(0, 3, 1, 2)  # (B, places, T, C)
        rows = rows.contiguous()  # else `linear` copies its weights once for every place
        q, k, v = self.qkv(rows).unflatten(3, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5).unbind()
        to_key, to_query, to_value = (relation(spans, level) for relation in self.relations)
        scores = q @ k.mT + torch.einsum("bphtd,bhtsd->bphts", q, to_key)
        scores = scores + torch.einsum("bphsd,bhtsd->bphts", k, to_query)
        shares = (scores * q.shape[-1] ** -0.5 + hidden[:, None, None]).softmax(-1).to(v.dtype)
        h = shares @ v + torch.einsum("bphts,bhtsd->bphtd", shares, to_value)
        h = self.out(h.transpose(2, 3).flatten(3))
        return x + h.permute(0, 2, 3, 1).unflatten(3, (H, W))


class Part(nn.Module):
    """A residual block and, where the level has it, attention over times and places."""

    def __init__(
        self, inputs: int, outputs: int, *, embedding: int, dropout: float, heads: int, attends: bool, times: bool
    ):
        super().__init__()
        self.block = Shifted(inputs, outputs, embedding=embedding, dropout=dropout)
        self.times = Times(outputs, heads, embedding) if attends and times else None
        self.places = Places(outputs, heads) if attends else None

    def forward(self, x: Tensor, level: Tensor, spans: Tensor, hidden: Tensor) -> Tensor:
        """x (B T, C, H, W), the rest as in `Times`."""
        B, T = hidden.shape[:2]
        h = self.block(x, level.repeat_interleave(T, 0))
        if self.times is not None:
            h = self.times(h.unflatten(0, (B, T)), level, spans, hidden).flatten(0, 1)
        return h if self.places is None else self.places(h)


class FrameUNet(nn.Module):
    """Predicts (B, T, answers, H, W) from x (B, T, inputs, H, W), the frames' numbers and which are there.

    With `classes` it is told one of them per video, or `classes`, which stands for none.

    Defaults are the paper's at 32x32. `times` leaves the attention over frames out. Height and width must be multiples
    of `stride`, else BadInput. `patch` > 1 works on patch x patch blocks of pixels as channels (ours, for CPUs).
    """

    def __init__(
        self,
        inputs: int,
        answers: int,
        *,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: Sequence[bool] = (False, True, True, False),
        heads: int = 4,
        dropout: float = 0.0,
        times: bool = True,
        patch: int = 1,
        classes: int = 0,
    ):
        super().__init__()
        if len(attention) != len(multipliers) or width % heads:
            raise BadInput(
                f"attention needs one entry per level ({len(multipliers)}), got {len(attention)}; a width of {width} "
                f"must be a multiple of {heads} heads"
            )
        self.patch, self.stride = patch, patch * 2 ** (len(multipliers) - 1)
        embedding = 4 * width

        def part(inputs: int, outputs: int, attends: bool) -> Part:
            return Part(
                inputs, outputs, embedding=embedding, dropout=dropout, heads=heads, attends=attends, times=times
            )

        self.embedding = NoiseLevel(width, embedding)
        self.named = nn.Embedding(classes + 1, embedding) if classes else None
        if self.named is not None:
            nn.init.zeros_(self.named.weight)
        self.stem = conv(inputs * patch**2, width)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        features, skips = width, [width]
        levels = list(zip([width * m for m in multipliers], attention, strict=True))
        for i, (outputs, here) in enumerate(levels):
            for _ in range(blocks):
                self.down.append(part(features, outputs, here))
                features = outputs
                skips.append(features)
            if i < len(levels) - 1:
                self.down.append(conv(features, features, stride=2))
                skips.append(features)
        self.middle = nn.ModuleList([part(features, features, True), part(features, features, False)])
        for i, (outputs, here) in reversed(list(enumerate(levels))):
            for _ in range(blocks + 1):
                self.up.append(part(features + skips.pop(), outputs, here))
                features = outputs
            if i > 0:
                self.up.append(Double(features))
        self.norm = GroupNorm(features)
        self.head = conv(features, answers * patch**2, scale=0.0)

    def forward(self, x: Tensor, label: Tensor, numbers: Tensor, there: Tensor, names: Tensor | None = None) -> Tensor:
        """x (B, T, inputs, H, W), label (B,) in [0, 1000], numbers (B, T), `there` (B, T) bool, classes (B,)."""
        check_size(x, self.stride)
        level = self.embedding(label, x.dtype)
        if self.named is not None and names is not None:
            level = level + self.named(names).to(x.dtype)
        given = level, spans(numbers).to(x.dtype), apart(there).to(x.dtype)
        h = self.stem(F.pixel_unshuffle(x.flatten(0, 1), self.patch))
        skips = [h]
        for part in self.down:
            h = part(h, *given) if isinstance(part, Part) else part(h)
            skips.append(h)
        for part in self.middle:
            h = part(h, *given)
        for part in self.up:
            h = part(torch.cat([h, skips.pop()], 1), *given) if isinstance(part, Part) else part(h)
        answer = F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)
        return answer.unflatten(0, x.shape[:2])


def spans(numbers: Tensor) -> Tensor:
    """log(1 + how far after), log(1 + how far before), and 1 for the same: (B, T, T, SPANS) of numbers (B, T)."""
    steps = (numbers[:, :, None] - numbers[:, None]).float()
    return torch.stack([steps.clamp(min=0).log1p(), (-steps).clamp(min=0).log1p(), (steps == 0).float()], -1)


def apart(there: Tensor) -> Tensor:
    """0 where two frames see each other, minus infinity where not: those that are there, and the others, by themselves.

    `there` (B, T) bool to (B, T, T).
    """
    alike = there[:, :, None] == there[:, None]
    return torch.zeros(alike.shape, device=there.device).masked_fill(~alike, -torch.inf)
