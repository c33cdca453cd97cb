"""Pieces of pictures for training: anywhere in them, at any scale, so that a few hundred pictures show many textures.

A piece covers s times the wanted size, log s uniform between 0 and what the picture allows, and is resized to it: a
network that has seen a wall from near and from far need not have seen every wall. Nor need it have seen every colour,
if now and then red, green and blue change places.
"""

import math
from dataclasses import dataclass

import numpy as np

from framefill.errors import BadInput
from framefill.video.clip import fit
from framefill.video.images.album import Album

PLACE = 1  # its draws must not follow those that choose the picture


@dataclass(frozen=True)
class Crops:
    """Pieces of `height` x `width` pixels of an album's pictures; BadInput where those are smaller.

    With `recolour`, the channels of half of them stand in an order that is drawn.
    """

    album: Album
    height: int
    width: int
    recolour: bool = False

    def __post_init__(self) -> None:
        whole = self.album.pictures().shape[1:3]
        if self.height > whole[0] or self.width > whole[1]:
            raise BadInput(
                f"pieces of {self.width}x{self.height} pixels do not fit into pictures of {whole[1]}x{whole[0]}; "
                "ask for smaller pieces or larger pictures"
            )

    def __len__(self) -> int:
        return len(self.album)

    def sample(self, seed: int, *, length: int = 1, strides: tuple[int, ...] = (1,)) -> np.ndarray:
        """One piece as a clip uint8 (1, H, W, C): a pure function of `seed`."""
        picture = self.album.sample(seed)
        rng = np.random.default_rng([seed, PLACE])
        H, W = picture.shape[1:3]
        largest = min(H / self.height, W / self.width)
        scale = math.exp(rng.uniform(0, math.log(largest)))
        h, w = min(round(scale * self.height), H), min(round(scale * self.width), W)
        top, left = rng.integers((H - h + 1, W - w + 1))
        piece = fit(picture[:, top : top + h, left : left + w], self.height, self.width)
        mixed = self.recolour and rng.random() < 0.5
        return piece[..., rng.permutation(piece.shape[3])] if mixed else piece
