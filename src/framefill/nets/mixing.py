"""The three blocks of the diffusion autoencoder's U-Net, those of Stable Cascade's stage B (facts, section 3.2).

`Filter` ("C") looks at a place's neighbours channel by channel and then mixes channels, `Level` ("T") scales and shifts
channels by numbers such as the time, `Attend` ("A") lets all places see each other and a text.

Maps have channels last, (B, H, W, C) or (B, T, H, W, C) with frames: on a CPU the dense layers, which are nearly all
of the work, are then plain matrix products, and the convolutions see torch's channels-last order without a copy.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.layers import attend, embed

EPSILON = 1e-6
TIME_WIDTH = 64
POSITIONS = 10_000  # numbers in [0, 1] are told as angles of this times the number


def norm(x: Tensor) -> Tensor:
    """x (..., C) with mean 0 and variance 1 over its channels; nothing is learned."""
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON)


def start(layer: nn.Module, gain: float = 1.0) -> None:
    """Xavier's uniform weights times `gain`, and no bias."""
    nn.init.xavier_uniform_(layer.get_parameter("weight"), gain)
    nn.init.zeros_(layer.get_parameter("bias"))


def dense(inputs: int, outputs: int, *, gain: float = 1.0) -> nn.Linear:
    """A dense layer over the last axis."""
    layer = nn.Linear(inputs, outputs)
    start(layer, gain)
    return layer


class Placed(nn.Module):
    """A convolution of maps with channels last."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        start(layer)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ..., C) to (B, ..., outputs)."""
        return self.layer(x.movedim(-1, 1)).movedim(1, -1).contiguous()


def beside(features: int, size: int, *, frames: bool) -> nn.Module:
    """Every channel filtered by itself, over `size` pixels and, with `frames`, as many frames."""
    kind = nn.Conv3d if frames else nn.Conv2d
    return Placed(kind(features, features, size, padding=size // 2, groups=features))


def halve(inputs: int, outputs: int, *, frames: bool) -> nn.Module:
    """Half the height and width: each 2x2 pixels become one. Frames stay apart."""
    if frames:
        return Placed(nn.Conv3d(inputs, outputs, (1, 2, 2), (1, 2, 2)))
    return Placed(nn.Conv2d(inputs, outputs, 2, 2))


def double(inputs: int, outputs: int, *, frames: bool) -> nn.Module:
    """Twice the height and width: each pixel becomes 2x2."""
    if frames:
        return Placed(nn.ConvTranspose3d(inputs, outputs, (1, 2, 2), (1, 2, 2)))
    return Placed(nn.ConvTranspose2d(inputs, outputs, 2, 2))


class Response(nn.Module):
    """Global response normalisation (Woo et al. 2023): channels compete by their size over all places.

        x <- x + beta + gamma x |x| / mean over channels of |x|

    It makes what is here depend on what is elsewhere in the picture, so a network for tiles goes without.
    """

    def __init__(self, features: int):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.zeros(features)), nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ..., C) to the same shape."""
        # over the places of the sample, frames included
        size = torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim - 1)), keepdim=True)
        share = size / (size.mean(-1, keepdim=True) + EPSILON)
        return torch.addcmul(self.beta.to(x.dtype), x, 1 + self.gamma * share)


class Filter(nn.Module):
    """Depthwise convolution, norm, a skip connection beside it, dense layer, GELU, response, dense layer; residual."""

    def __init__(
        self, features: int, *, skip: int = 0, size: int = 3, response: bool = True, dropout: float = 0.0,
        frames: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.beside = beside(features, size, frames=frames)
        self.widen = dense(features + skip, 4 * features)
        self.response = Response(4 * features) if response else nn.Identity()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.narrow = dense(4 * features, features)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """x (B, ..., C), skip (B, ..., skip) or none, to the shape of x."""
        h = norm(self.beside(x))
        h = self.widen(h if skip is None else torch.cat([h, skip], -1))
        return x + self.narrow(self.dropout(self.response(F.gelu(h))))


class Level(nn.Module):
    """x (1 + a) + b, where (a, b) are sums of linear functions of `conditions` embedded numbers; starts as identity."""

    def __init__(self, features: int, conditions: int = 2):
        super().__init__()
        self.mappers = nn.ModuleList([nn.Linear(TIME_WIDTH, 2 * features) for _ in range(conditions)])
        for layer in self.mappers:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, told: list[Tensor]) -> Tensor:
        """x (B, ..., C) and as many embeddings (B, 64) as there are conditions, to the shape of x."""
        both = torch.stack([mapper(e) for mapper, e in zip(self.mappers, told, strict=True)]).sum(0)
        a, b = both.view(len(x), *[1] * (x.ndim - 2), -1).to(x.dtype).chunk(2, -1)
        return torch.addcmul(b, x, 1 + a)


def tell(number: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers (B,) in [0, 1] as embeddings (B, 64)."""
    return embed(number.float() * POSITIONS, TIME_WIDTH).to(dtype)


class Attend(nn.Module):
    """Attention of all places to all places and to a text, if there is one; residual.

    Paper: torch's attention there also drops weights of attention in training; here dropout is in `Filter` only.
    """

    def __init__(self, features: int, heads: int, *, text: int = 0):
        super().__init__()
        if heads < 1 or features % heads:
            raise BadInput(f"attention over {features} features cannot have {heads} heads; give a divisor")
        self.heads = heads
        self.qkv, self.out = dense(features, 3 * features), dense(features, features)
        self.read = dense(text, features) if text else None

    def forward(self, x: Tensor, text: Tensor | None = None) -> Tensor:
        """x (B, ..., C) and text (B, L, text) or none, to the shape of x."""
        q, k, v = self.qkv(norm(x).flatten(1, -2)).chunk(3, -1)
        if self.read is not None and text is not None:
            C = x.shape[-1]
            more = F.linear(self.read(F.silu(text)), self.qkv.weight[C:], self.qkv.bias[C:])
            k, v = torch.cat([k, more[..., :C]], 1), torch.cat([v, more[..., C:]], 1)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        return x + self.out(attend(q, k, v).transpose(1, 2).flatten(2)).view(x.shape)


class Factorised(nn.Module):
    """Attention of clips (B, T, H, W, C): within each frame, then along time at each place."""

    def __init__(self, features: int, heads: int, *, text: int = 0):
        super().__init__()
        self.within = Attend(features, heads, text=text)
        self.along = Attend(features, heads)

    def forward(self, x: Tensor, text: Tensor | None = None) -> Tensor:
        """x (B, T, H, W, C) and text (B, L, text) or none, to the shape of x."""
        B, T = x.shape[:2]
        h = self.within(x.flatten(0, 1), None if text is None else text.repeat_interleave(T, 0))
        h = h.unflatten(0, (B, T)).transpose(1, 3)  # places first, frames last
        return self.along(h.reshape(-1, T, h.shape[-1])).view(h.shape).transpose(1, 3).contiguous()
