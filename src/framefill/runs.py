"""The folder of a training run, which only ever grows:

    config.json         recipe, fields, seed, data       metrics.jsonl     one line per logged step, appended
    checkpoints/        full state, the newest two       model.safetensors the averaged weights, ready to use

Whatever happens while it is written (a kill, a full disk, a folder that is gone), the last good checkpoint stays, and
what carries a final name is whole. One process writes it.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from framefill import checkpoint
from framefill.atomic import replacing
from framefill.checkpoint import Card
from framefill.errors import BadInput, CheckpointError, Failed, NotWritten

KEPT = 2


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except NotWritten as error:  # the folder was there when the run began: nothing that was given is wrong
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder with -o"
        ) from error


@dataclass(frozen=True)
class Run:
    """A run folder `out` and what its config.json says."""

    out: Path
    config: dict[str, Any]

    @classmethod
    def open(cls, out: Path, card: Card) -> "Run":
        """The run of `card` in `out`, new or as it stands, rid of what a killed process left half written.

        Raises BadInput when the folder cannot be used or holds a different run that got anywhere: one whose settings
        were refused must not stand in the way of the right ones.
        """
        try:
            (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"cannot use {out} as a run folder: {error.strerror}; choose another with -o") from error
        with _writing(out):
            for folder in (out, out / "checkpoints", out / "samples"):
                # .tmp*: what safetensors calls a file until it is whole
                for left in [*folder.glob(".*.part"), *folder.glob(".tmp*")]:
                    left.unlink()
        run = cls(out, json.loads(json.dumps(asdict(card))))
        path = out / "config.json"
        if not path.exists():
            run._configure(run.config)
            return run
        found = _read(path)
        other = [key for key in ("recipe", "fields", "seed") if found.get(key) != run.config[key]]
        if other and (run._saved() or (out / "metrics.jsonl").exists()):
            raise BadInput(f"{out} holds another run (its {other[0]} differs); choose another folder with -o")
        if other:
            run._configure(run.config)
        return run if other else cls(out, found)

    @property
    def steps(self) -> int | None:
        """The steps that a budget has planned, or None."""
        steps = self.config.get("steps")
        return steps if isinstance(steps, int) and steps > 0 else None

    def plan(self, steps: int) -> None:
        """Notes how many steps the run will have."""
        self._configure(self.config | {"steps": steps})

    def _configure(self, config: dict[str, Any]) -> None:
        with replacing(self.out / "config.json") as part:
            part.write_text(json.dumps(config, indent=1))

    def check_space(self, size: int) -> None:
        """Raises Failed unless checkpoints of `size` bytes can be written here: the ones kept, and one more."""
        if not os.access(self.out / "checkpoints", os.W_OK):
            raise Failed(f"{self.out} cannot be written to; allow it or choose another folder with -o")
        held = sum(path.stat().st_size for path in self._saved())
        # Beside them the averaged weights, a quarter of a checkpoint, twice.
        needed = round((KEPT + 1.5) * size) - held
        with _writing(self.out):
            free = shutil.disk_usage(self.out).free
        if free < needed:
            raise Failed(
                f"{self.out} has {free / 1e6:.1f} MB free, and this run needs {needed / 1e6:.1f} MB for its "
                "checkpoints; free some space or choose another folder with -o"
            )

    def _saved(self) -> list[Path]:
        return sorted((self.out / "checkpoints").glob("step-*.safetensors"))

    def newest(self) -> tuple[dict[str, Tensor], Card] | None:
        """The newest checkpoint that is whole; None if there is none, CheckpointError if there are only others."""
        refused = None
        for path in reversed(self._saved()):
            try:
                tensors, card = checkpoint.read(path)
                if asdict(card)["fields"] == self.config["fields"] and card.seed == self.config["seed"]:
                    return tensors, card
                refused = f"{path} is of another run"
            except CheckpointError as error:
                refused = str(error)
        if refused:
            raise CheckpointError(f"no checkpoint in {self.out} can be used: {refused}, or delete them to begin anew")
        return None

    def keep(self, tensors: dict[str, Tensor], card: Card, about: dict[str, Any]) -> Path:
        """Writes a checkpoint, of which only `about` says more than `card`, and its averaged weights; drops old ones.

        Raises Failed when it cannot be written, or a number in it is not finite; then all is as it was.
        """
        path = self.out / "checkpoints" / f"step-{card.step:08d}.safetensors"
        prefix = "average."
        average = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        with _writing(path):
            checkpoint.write(path, tensors, checkpoint.at_step(card, card.step, about=about))
            checkpoint.write(self.out / "model.safetensors", average, card)
            for old in self._saved()[:-KEPT]:
                old.unlink()
        return path

    def log(self, line: dict[str, Any]) -> None:
        """Appends a line to metrics.jsonl; a line that was cut off before is left alone, but not continued."""
        path = self.out / "metrics.jsonl"
        with _writing(path), path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            torn = size and file.read() != b"\n"
            file.write(b"\n" * bool(torn) + json.dumps(line).encode() + b"\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}); put a good copy there, or choose another with -o") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path} is not the config of a run; choose another folder with -o")
    return found
