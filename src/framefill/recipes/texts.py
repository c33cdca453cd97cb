"""Pictures that each have a text: embeddings the user has computed, as an array beside an album."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.arrays import derive
from framefill.errors import BadInput, MediaError
from framefill.video.images.album import Album


@dataclass(frozen=True)
class Texts:
    """A source of the album's pictures that knows the text of each: `embeddings` (N, L, D), in the album's order."""

    album: Album
    embeddings: NDArray[np.floating]

    @classmethod
    def open(cls, folder: Path, album: Album, split: str, shape: tuple[int, int]) -> "Texts":
        """With SPLIT.npy of `folder`, memory-mapped. MediaError if it cannot be read, BadInput for another shape."""
        place = folder / f"{split}.npy"
        try:
            found = np.load(place, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise MediaError(f"{place} cannot be read as an array: {str(error).splitlines()[0]}") from error
        wanted = (len(album), *shape)
        if found.shape != wanted or found.dtype.kind != "f":
            raise BadInput(f"{place} is {found.dtype} {found.shape}; give floats of shape {wanted}")
        return cls(album, found)

    def sample(self, seed: int, *, length: int = 1, strides: tuple[int, ...] = (1,)) -> NDArray[np.uint8]:
        """One picture, every one equally likely, as a clip uint8 (1, H, W, C); half are mirrored if the album's are."""
        picture = self.album.pictures()[self._index(seed)][None]
        mirrored = self.album.flip and derive(seed, 1) % 2 == 1
        return np.ascontiguousarray(picture[:, :, ::-1] if mirrored else picture)

    def text(self, seed: int) -> Tensor:
        """The embedding (L, D) of the picture that `sample` gives for the same seed, float32."""
        return torch.from_numpy(np.array(self.embeddings[self._index(seed)], dtype=np.float32))

    def _index(self, seed: int) -> int:
        return derive(seed, 0) % len(self.embeddings)
