"""Strangers among pictures: what a flow says of them, what is left once their complexity is taken off, and how usual.

Three scores, each higher for stranger pictures: `bits` per dimension, `S` = bits - complexity, and `atypical`, the
distance from the bits of a known set (thesis 001, section 4.7). And a probe: with its patches shuffled a picture means
nothing any more; a model that finds it as likely as before looks at textures only (section 4.7.1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput
from framefill.metrics.detection import Area, auroc, untypical, untypical_of_itself
from framefill.video.images.complexity import CODECS, Codec, complexity
from framefill.video.images.flow_model import FlowModel, Pictures


@dataclass(frozen=True, eq=False)
class Judged:
    """Bits per dimension of pictures with their standard errors, and the complexity of each, (N,) all."""

    bits: NDArray[np.float64]
    error: NDArray[np.float64]
    complexity: NDArray[np.float64]

    @property
    def corrected(self) -> NDArray[np.float64]:
        """S = bits - complexity."""
        return self.bits - self.complexity


def judge(
    model: FlowModel,
    pictures: Pictures,
    *,
    draws: int = 1,
    probes: int = 8,
    seed: int = 0,
    codecs: Mapping[str, Codec] = CODECS,
) -> Judged:
    """What `model` and the `codecs` say of pictures (N, height, width, C); errors as of `FlowModel.bits`."""
    found = model.bits(pictures, draws=draws, probes=probes, seed=seed)
    return Judged(found.bits, found.error, complexity(pictures, codecs))


def areas(known: Judged, strange: Judged) -> dict[str, Area]:
    """How well each score tells `strange` pictures from `known` ones of the same kind as the model learnt."""
    return {
        "bits": auroc(known.bits, strange.bits),
        "S": auroc(known.corrected, strange.corrected),
        "atypical": auroc(untypical_of_itself(known.bits), untypical(strange.bits, known.bits)),
    }


def shuffled(pictures: Pictures, patch: int, *, seed: int = 0) -> Pictures:
    """Pictures (N, H, W, C) with their patches of `patch` x `patch` pixels in an order that is drawn for each.

    Picture i is the same alone or among many. BadInput where patches do not fill a picture.
    """
    N, H, W, C = pictures.shape
    if patch < 1 or H % patch or W % patch:
        raise BadInput(f"patches of {patch}x{patch} pixels do not fill pictures of {W}x{H}; take a common divisor")
    rows, columns = H // patch, W // patch
    patches = pictures.reshape(N, rows, patch, columns, patch, C).transpose(0, 1, 3, 2, 4, 5)
    patches = patches.reshape(N, rows * columns, patch, patch, C)
    mixed = [part[np.random.default_rng([seed, i]).permutation(len(part))] for i, part in enumerate(patches)]
    back = np.stack(mixed).reshape(N, rows, columns, patch, patch, C).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(back.reshape(N, H, W, C))


def probe(
    model: FlowModel, pictures: Pictures, patches: Sequence[int], *, probes: int = 8, seed: int = 0
) -> dict[int, NDArray[np.float64]]:
    """Bits per dimension (N,) of the pictures shuffled in patches of each size; the picture itself is one patch."""
    return {p: model.bits(shuffled(pictures, p, seed=seed), probes=probes, seed=seed).bits for p in patches}
