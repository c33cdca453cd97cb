"""Networks that read tokens, whole numbers on a grid (time, rows, columns), in raster order, and say what is where.

`CausalTokens` says of every token how likely it is given those before it (VideoGPT; ImageGPT for one frame),
`MaskedTokens` how likely it is given all that are not masked (Phenaki; MaskGit for one frame).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.layers import check_dropout
from framefill.nets.transformer import Memory, Near, Norm, OffsetBias, cosine_block, plain_block, start

Grid = tuple[int, int, int]
SMALL = 0.02


class Inputs(nn.Module):
    """Tokens, places and labels as vectors.

    Places are sums of one learned vector per axis. There are `classes` labels and one more that stands for none.
    """

    def __init__(self, tokens: int, grid: Grid, classes: int, width: int):
        super().__init__()
        if len(grid) != 3 or min(grid) < 1 or tokens < 2 or classes < 0:
            raise BadInput(f"tokens of {tokens} kinds on a grid {grid} with {classes} classes; give positive numbers")
        self.token = nn.Embedding(tokens, width)
        self.label = nn.Embedding(classes + 1, width)
        self.axes = nn.ParameterList([SMALL * torch.randn(n, width) for n in grid])
        nn.init.normal_(self.token.weight, std=SMALL)
        nn.init.zeros_(self.label.weight)

    def places(self, shape: Grid) -> Tensor:
        """One vector per place of the first (T, H, W) of the grid: (T H W, width)."""
        t, h, w = (axis[:n] for axis, n in zip(self.axes, shape, strict=True))
        return (t[:, None, None] + h[:, None] + w).flatten(0, 2)


class CausalTokens(nn.Module):
    """Tokens (B, T, H, W) to logits (B, N, vocabulary): those at n depend on the tokens before n only.

    Defaults are the paper's. Paper: VideoGPT reads the codes themselves, this one learns a vector per token; it has a
    vector for every place along each third of the width, here they are added.
    """

    def __init__(
        self, vocabulary: int, grid: Grid, *, classes: int = 0, width: int = 144, layers: int = 8, heads: int = 4,
        dropout: float = 0.2,
    ):  # fmt: skip
        super().__init__()
        self.vocabulary, self.grid, self.classes = vocabulary, tuple(grid), classes
        self.inputs = Inputs(vocabulary, grid, classes, width)
        self.first = nn.Parameter(SMALL * torch.randn(width))
        self.dropout = nn.Dropout(check_dropout(dropout))
        self.blocks = nn.ModuleList([plain_block(width, heads, dropout=dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Tokens (B, T, H, W), labels (B,) in 0..classes, where `classes` is none."""
        before = self.inputs.token(tokens.flatten(1)[:, :-1])
        first = self.first.expand(len(tokens), 1, -1)
        h = torch.cat([first, before], 1) + self.inputs.places(_shape(tokens)) + self.inputs.label(labels)[:, None]
        return self._read(h, [None] * len(self.blocks))

    def memories(self, shape: Grid) -> list[Memory]:
        """Empty ones, for `following`."""
        return [Memory(math.prod(shape)) for _ in self.blocks]

    def following(
        self, last: Tensor | None, labels: Tensor, shape: Grid, place: int, memories: Sequence[Memory]
    ) -> Tensor:
        """The logits (B, vocabulary) at a `place` of a grid of `shape`, given the token before (B,), at first none.

        What came before that is in `memories`.
        """
        before = self.first.expand(len(labels), -1) if last is None else self.inputs.token(last)
        h = (before + self.inputs.places(shape)[place] + self.inputs.label(labels))[:, None]
        return self._read(h, memories)[:, 0]

    def _read(self, h: Tensor, memories: Sequence[Memory | None]) -> Tensor:
        h = self.dropout(h)
        for block, memory in zip(self.blocks, memories, strict=True):
            h = block(h, causal=True, memory=memory)
        return self.head(self.norm(h))


class MaskedTokens(nn.Module):
    """Tokens (B, T, H, W), some of them `mask`, to logits (B, N, outputs): all see all that is not masked.

    `outputs` is the vocabulary unless given; the mask is not in it. Defaults are the paper's.
    """

    def __init__(
        self, vocabulary: int, grid: Grid, *, classes: int = 0, width: int = 512, layers: int = 6, heads: int = 8,
        head_width: int = 64, outputs: int = 0,
    ):  # fmt: skip
        super().__init__()
        self.vocabulary, self.grid, self.classes, self.mask = vocabulary, tuple(grid), classes, vocabulary
        self.inputs = Inputs(vocabulary + 1, grid, classes, width)
        self.near = nn.ModuleList([Near(width, causal=False) for _ in range(layers)])
        self.blocks = nn.ModuleList([cosine_block(width, heads, head_width) for _ in range(layers)])
        self.offsets = OffsetBias(3, heads, 64)
        self.norm = Norm(width)
        self.head = nn.Linear(width, outputs or vocabulary)
        start(self.head)

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Tokens (B, T, H, W) in 0..vocabulary, labels (B,) in 0..classes, where `classes` is none."""
        shape = _shape(tokens)
        h = self.inputs.token(tokens.flatten(1)) + self.inputs.places(shape) + self.inputs.label(labels)[:, None]
        bias = self.offsets(*shape)
        for near, block in zip(self.near, self.blocks, strict=True):
            h = h + near(h.unflatten(1, shape)).flatten(1, 3)
            h = block(h, bias)
        return self.head(self.norm(h))


def _shape(tokens: Tensor) -> Grid:
    t, h, w = tokens.shape[1:]
    return t, h, w
