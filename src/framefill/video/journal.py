"""What a long job has drawn, kept beside its result until it is whole, so that an interrupted job goes on.

A job is a fixed sequence of draws, and a draw is the only costly part of it. So the journal is simply their results in
order: run again, the job reads, decodes and encodes once more, but takes from the journal what is there, bit for bit.
A record is a CRC-32, where the random streams stood afterwards, and the numbers; how many there are follows from the
draw that asks, never from the file. What does not check is cut off and drawn anew.
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.atomic import not_written
from framefill.diffusion.sample import Sampler
from framefill.errors import BadInput, Failed

Draw = Callable[[Sampler, Tensor, Tensor, Rng], Tensor]


class Journal:
    """The draws of one job in `file`; `found` counts those that were there already."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.found = 0

    def remembered(self, draw: Draw, drawn: int) -> Draw:
        """`draw`, which makes `drawn` frames of a window, with the results of earlier runs in place of the work."""

        def recall(sampler: Sampler, frames: Tensor, known: Tensor, rng: Rng) -> Tensor:
            kept = self._next(rng, (len(frames), drawn, *frames.shape[2:]))
            if kept is not None:
                self.found += 1
                return kept.to(frames.device)
            made = draw(sampler, frames, known, rng).float()
            self._append(rng, made)
            return made

        return recall

    def _next(self, rng: Rng, shape: tuple[int, ...]) -> Tensor | None:
        start, streams = self._file.tell(), rng.state()
        size = streams.numel() + 4 * int(np.prod(shape))
        record = self._file.read(4 + size)
        if len(record) == 4 + size and zlib.crc32(record[4:]) == int.from_bytes(record[:4], "little"):
            state, numbers = np.split(np.frombuffer(record, np.uint8)[4:], [streams.numel()])
            rng.restore(torch.from_numpy(state.copy()).reshape(streams.shape))
            return torch.from_numpy(numbers.view("<f4").copy()).reshape(shape)
        self._file.seek(start)
        self._file.truncate()
        return None

    def _append(self, rng: Rng, made: Tensor) -> None:
        record = rng.state().numpy().tobytes() + made.cpu().contiguous().numpy().astype("<f4").tobytes()
        try:
            self._file.write(zlib.crc32(record).to_bytes(4, "little") + record)
            self._file.flush()
        except OSError as error:
            raise Failed(
                f"cannot write {self._file.name}: {error.strerror}; free some space, then run again"
            ) from error


@contextmanager
def journal(path: Path) -> Iterator[Journal]:
    """The journal at `path`, which is gone when the with-block ends well and stays when it does not.

    Raises BadInput if another process is at the same job, or where nothing can be written; Failed on a full disk.
    """
    try:
        file = path.open("r+b" if path.exists() else "x+b")
    except OSError as error:
        raise not_written(path, error) from error
    with file:
        lock(file, path)
        yield Journal(file)
        path.unlink(missing_ok=True)


def lock(file: BinaryIO, path: Path) -> None:
    """Keep `file` to this process as long as it is open; BadInput if another one has it, named as `path`."""
    try:
        import fcntl
    except ImportError:  # not on this system: two jobs at once are the user's care
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise BadInput(f"another process is making the same result ({path}); wait for it, or stop it") from error
