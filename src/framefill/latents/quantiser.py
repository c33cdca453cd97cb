"""Vector quantisation: every vector is replaced by the nearest of K learned codes (van den Oord et al. 2017).

      q = e_k,  k = argmin_j |z - e_j|^2         penalty |sg(z) - q|^2 + beta |z - sg(q)|^2

sg stops the gradient. The first term moves the codes to the vectors, the second, weighted by beta, holds the vectors
to their codes. The gradient of what follows passes straight through, from q to z. beta belongs to the second
term: the published program of VQGAN has it on the first unless told otherwise (facts, section 5).

Our own code: vector-quantize-pytorch takes 7 seconds to import. A test holds this against it where it is installed.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.latents.together import add_up, from_first

UNBORN = 6e4  # how long a code that has never held a vector is idle; 16-bit floats reach it
CHUNK = 2**24  # distances held at a time


@dataclass(frozen=True)
class Quantised:
    """`codes` (B, D, h, w) with the gradient of the vectors, `indices` (B, h, w), `penalty` (B,)."""

    codes: Tensor
    indices: Tensor
    penalty: Tensor


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """For vectors (N, D) the index (N,) of the nearest row of `codebook` (K, D), the first of several."""
    # in float32 whatever the precision around: 16 bits cannot tell neighbours apart
    with torch.autocast(vectors.device.type, enabled=False), torch.no_grad():
        codes = codebook.float()
        half = codes.square().sum(1) / 2
        rows = max(CHUNK // len(codes), 1)
        parts = [torch.addmm(half, part, codes.T, alpha=-1).argmin(1) for part in vectors.float().split(rows)]
    return torch.cat(parts)


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of codes chosen `counts` (K,) times: K where all are alike, 1 where there is only one."""
    shares = counts.double() / counts.sum().clamp(min=1)
    return torch.special.entr(shares).sum().exp()


class Quantising(Protocol):
    """What tokenizers ask of a quantiser; `Quantiser` learns its codes, those of lattice.py are given.

    `size` is K, `width` D.
    """

    @property
    def size(self) -> int: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    def __call__(self, z: Tensor) -> Quantised: ...  # noqa: D102

    def indices(self, z: Tensor) -> Tensor: ...  # noqa: D102

    def codes(self, indices: Tensor) -> Tensor: ...  # noqa: D102

    def notes(self) -> dict[str, float]: ...  # noqa: D102


class Counted(nn.Module):
    """K codes, how often each was chosen in the last training batch, and for how many training steps it was not.

    How long codes have been idle is a parameter without gradient, so it travels with the weights and a continued
    training is the uninterrupted one. `patience` is after how many steps a code counts as out of use.
    """

    def begin(self, codes: int, patience: int) -> None:
        """None of the codes was ever chosen. BadInput for a patience that cannot be counted to."""
        if not 0 <= patience < UNBORN:
            raise BadInput(f"patience {patience} must not be negative, and below {UNBORN:.0f}")
        self.patience = patience
        self.idle = nn.Parameter(torch.full((codes,), UNBORN), requires_grad=False)
        self.revived = 0
        self.register_buffer("counts", torch.zeros(codes), persistent=False)
        self.counts: Tensor

    @property
    def size(self) -> int:
        """K."""
        return len(self.idle)

    def notes(self) -> dict[str, float]:
        """What is worth logging of the last batch: the codes' perplexity, share in use since `patience`, revived."""
        alive = float((self.idle <= max(self.patience, 1)).float().mean())
        return {"perplexity": float(perplexity(self.counts)), "codes_in_use": alive, "codes_revived": self.revived}

    def known(self, indices: Tensor) -> Tensor:
        """The same; BadInput for others than 0..K-1."""
        if indices.is_floating_point() or (indices.numel() and not 0 <= indices.min() <= indices.max() < self.size):
            raise BadInput(f"these are not indices of {self.size} codes; give whole numbers in 0..{self.size - 1}")
        return indices

    @torch.no_grad()
    def count(self, indices: Tensor) -> None:
        """Takes note of the codes that all processes chose."""
        counts = torch.bincount(indices.flatten(), minlength=self.size).to(self.idle.dtype)
        add_up(counts)
        self.counts.copy_(counts)
        self.idle.add_(1).clamp_(max=UNBORN).masked_fill_(counts > 0, 0)


class Quantiser(Counted):
    """A codebook of `codes` vectors of `width` numbers, and its upkeep.

    A code that no vector has chosen for `patience` training steps is dead: it is moved onto a vector of the present
    batch, drawn at random. All codes of a new codebook are dead, so the first batches fill it with vectors that occur.
    With patience 0 none is ever moved. `jumping` names what training must not average, since codes are moved.
    """

    jumping = ("codebook", "idle")

    def __init__(self, codes: int, width: int, *, commitment: float = 0.25, patience: int = 100):
        super().__init__()
        if codes < 2 or width < 1:
            raise BadInput(f"a codebook has at least 2 codes of 1 number, got {codes} of {width}")
        if commitment < 0:
            raise BadInput(f"commitment {commitment} must not be negative")
        self.commitment = commitment
        self.codebook = nn.Parameter(torch.empty(codes, width).uniform_(-1 / codes, 1 / codes))
        self.begin(codes, patience)

    def forward(self, z: Tensor) -> Quantised:
        """z (B, D, h, w). In training dead codes are revived first, and `counts` says how often each was chosen."""
        z = z.to(torch.promote_types(z.dtype, torch.float32))  # 16 bits are too few for small differences
        vectors = self._rows(z)
        if self.training and self.patience:
            self._revive(vectors.detach())
        indices = nearest(vectors, self.codebook)
        if self.training:
            self.count(indices)
        picked = self.codebook[indices]
        codes = self._maps(picked, z)
        moved = (codes - z.detach()).square().mean((1, 2, 3))
        held = (z - codes.detach()).square().mean((1, 2, 3))
        through = z + (codes - z).detach()
        return Quantised(through, indices.view(len(z), *z.shape[2:]), moved + self.commitment * held)

    def indices(self, z: Tensor) -> Tensor:
        """The nearest codes (B, h, w) of z (B, D, h, w)."""
        return nearest(self._rows(z), self.codebook).view(len(z), *z.shape[2:])

    def codes(self, indices: Tensor) -> Tensor:
        """The codes (B, D, h, w) that `indices` (B, h, w) name; BadInput for others than 0..K-1."""
        return self.codebook[self.known(indices)].movedim(-1, 1)

    @property
    def width(self) -> int:
        """D."""
        return self.codebook.shape[1]

    def _rows(self, z: Tensor) -> Tensor:
        if z.ndim != 4 or z.shape[1] != self.codebook.shape[1]:
            raise BadInput(
                f"latents have shape {tuple(z.shape)}; this codebook takes (B, {self.codebook.shape[1]}, h, w)"
            )
        return z.movedim(1, -1).flatten(0, 2)

    def _maps(self, rows: Tensor, like: Tensor) -> Tensor:
        B, _, h, w = like.shape
        return rows.view(B, h, w, -1).movedim(-1, 1).to(like.dtype)

    @torch.no_grad()
    def _revive(self, vectors: Tensor) -> None:
        """Moves dead codes onto vectors, at most one each, the longest idle first; the same ones in every process."""
        chosen = vectors[torch.randperm(len(vectors), device="cpu").to(vectors.device)[: self.size]].float()
        from_first(chosen)
        order = self.idle.argsort(descending=True, stable=True)
        dead = order[self.idle[order] > self.patience][: len(chosen)]
        self.revived = len(dead) * bool(chosen.isfinite().all())
        if self.revived:
            self.codebook[dead] = chosen[: len(dead)].to(self.codebook.dtype)
            self.idle[dead] = 0
