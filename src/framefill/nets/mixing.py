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
    """A convolution of maps with channels last, frame by frame where there are frames."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        start(layer)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ..., H, W, C) to (B, ..., H', W', outputs)."""
        h = self.layer(x.flatten(0, -4).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()
        return h.view(*x.shape[:-3], *h.shape[1:])


def beside(features: int, size: int) -> Placed:
    """Every channel filtered by itself, over `size` x `size` pixels."""
    return Placed(nn.Conv2d(features, features, size, padding=size // 2, groups=features))


def halve(inputs: int, outputs: int) -> Placed:
    """Half the height and width: each 2x2 pixels become one. Frames, if there are any, stay as they are."""
    return Placed(nn.Conv2d(inputs, outputs, 2, 2))


def double(inputs: int, outputs: int) -> Placed:
    """Twice the height and width: each pixel becomes 2x2."""
    return Placed(nn.ConvTranspose2d(inputs, outputs, 2, 2))


class BesideFrames(nn.Module):
    """Every channel filtered by itself, over `size` x `size` pixels of a frame and the frames before and after it.

    A 3D convolution, as the sum of one of pictures for each of the three frames: on a CPU, torch's own takes 13 times
    as long for its gradient. Beyond the ends there is nothing.
    """

    def __init__(self, features: int, size: int):
        super().__init__()
        self.here, others = beside(features, size), [beside(features, size) for _ in range(2)]
        for placed in (self.here, *others):
            with torch.no_grad():
                placed.get_parameter("layer.weight").mul_(3**-0.5)
        for placed in others:
            placed.layer.register_parameter("bias", None)  # one is enough
        self.others = nn.ModuleList(others)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, H, W, C) to the same shape."""
        before, after = (F.pad(part, pad) for part, pad in (
            (self.others[0](x[:, :-1]), (0, 0, 0, 0, 0, 0, 1, 0)), (self.others[1](x[:, 1:]), (0, 0, 0, 0, 0, 0, 0, 1))
        ))  # fmt: skip
        return self.here(x) + before + after


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
        self.beside = BesideFrames(features, size) if frames else beside(features, size)
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
