"""Training as a generator: one loop for every recipe, which yields after each step and can be stopped anywhere.

Nothing random is stored: data, masks, times, noise and dropout of step k are functions of (seed, k), so a run continued
from a checkpoint is the run that was never interrupted, bit for bit on a CPU. A run folder only ever grows:

    config.json         recipe, fields, seed, data       metrics.jsonl     one line per logged step, appended
    checkpoints/        full state, the newest two       model.safetensors the averaged weights, ready to use
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from framefill import checkpoint
from framefill.arrays import Rng, derive
from framefill.atomic import replacing
from framefill.checkpoint import Card
from framefill.device import bf16_pays
from framefill.errors import BadInput, Failed
from framefill.recipes.recipe import Recipe, Source

DATA, NOISE, DROPOUT = 1, 2, 3
PATIENCE = 10
UNPLANNED = 10**9


@dataclass(frozen=True)
class Progress:
    """A run after a step: `rate` in examples per second, `left` in seconds, `saved` if it was just checkpointed."""

    step: int
    steps: int
    loss: float
    gradient: float
    learning_rate: float
    rate: float
    left: float
    skipped: int
    saved: Path | None = None


class Trainer:
    """Model, running average and optimiser of a run, and their way to disk and back."""

    def __init__(self, recipe: Recipe, card: Card, *, device: str):
        torch.manual_seed(card.seed)
        self.recipe, self.card, self.device = recipe, card, device
        self.model = recipe.model().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.named = dict(self.model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.named.items()}
        self.adam = torch.optim.Adam(self.named.values(), lr=recipe.learning_rate, fused=True)
        self.step = self.skipped = self.streak = 0
        self.learning_rate = 0.0
        self.bf16 = bf16_pays(device)

    def rate_at(self, steps: int) -> float:
        """The learning rate of the coming step: linear warm-up, constant, linear cool-down to zero."""
        recipe, k = self.recipe, self.step + 1
        warm = min(k / max(recipe.warmup, 1), 1.0)
        cool = (steps - self.step) / (recipe.cooldown * steps) if recipe.cooldown else 1.0
        return recipe.learning_rate * min(warm, cool, 1.0)

    def update(self, batch: Tensor, steps: int, accumulate: int) -> tuple[float, float]:
        """One step on `batch`; returns its loss and gradient norm.

        A step that is not finite changes no weight; ten of them in a row raise Failed.
        """
        torch.manual_seed(derive(self.card.seed, DROPOUT, self.step))
        self.model.train()
        total, size = 0.0, len(batch)
        rng = Rng.batch(self.card.seed, size, NOISE, self.step)
        for part in range(accumulate):
            rows = list(range(part, size, accumulate))
            with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.bf16):
                loss = self.recipe.loss(self.model, batch[rows].to(self.device), rng.pick(rows)).sum() / size
            loss.backward()
            total += float(loss.detach())
        norm = float(nn.utils.clip_grad_norm_(self.named.values(), self.recipe.clip))
        finite = norm < float("inf") and total < float("inf")
        if finite:
            self.learning_rate = self.adam.param_groups[0]["lr"] = self.rate_at(steps)
            self.adam.step()
            # Paper: the published average starts at full decay; this one forgets the untrained weights sooner.
            decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.named.values()], 1 - decay)
        self.adam.zero_grad()
        self.step += 1
        self.skipped, self.streak = self.skipped + (not finite), 0 if finite else self.streak + 1
        if self.streak >= PATIENCE:
            raise Failed(
                f"training stopped at step {self.step}: {PATIENCE} steps in a row were not finite; lower learning_rate"
            )
        return total, norm

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on: parameters, average, Adam's moments."""
        tensors = {f"model.{k}": v for k, v in self.named.items()} | {
            f"average.{k}": v for k, v in self.average.items()
        }
        for name, parameter in self.named.items():
            for key, value in self.adam.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        return tensors

    def restore(self, tensors: dict[str, Tensor], step: int, skipped: int) -> None:
        """The inverse of `state`."""
        moments: dict[str, dict[str, Tensor]] = {}
        with torch.no_grad():
            for key, value in tensors.items():
                kind, name = key.split(".", 1)
                if kind == "adam":
                    moment, name = name.split(".", 1)
                    # Adam's fused kernel walks the memory of parameter and moments together: same layout.
                    same = value if value.ndim == 0 else torch.empty_like(self.named[name]).copy_(value)
                    moments.setdefault(name, {})[moment] = same
                else:
                    (self.named if kind == "model" else self.average)[name].copy_(value)
        layout = {name: i for i, name in enumerate(self.named)}
        groups = self.adam.state_dict()["param_groups"]
        self.adam.load_state_dict({"state": {layout[n]: m for n, m in moments.items()}, "param_groups": groups})
        self.step, self.skipped = step, skipped


def train(
    recipe: Recipe,
    source: Source,
    out: Path,
    *,
    card: Card,
    steps: int | None = None,
    budget: float | None = None,
    device: str = "cpu",
    accumulate: int = 1,
    save_every: int = 200,
    log_every: int = 10,
) -> Iterator[Progress]:
    """Trains `recipe` on `source` in the run folder `out`, from where the folder left off; yields after every step.

    `card` names recipe, preset, seed and data. `steps` defaults to what the folder or the recipe says; with `budget`
    (seconds) a new run chooses them itself so that it ends in time, from the speed of its first steps. Raises BadInput
    when the folder belongs to another run, Failed when 10 steps in a row are not finite.
    """
    config = _open_run(out, card)
    trainer = Trainer(recipe, card, device=device)
    _resume(trainer, out)
    planning = budget is not None and "steps" not in config
    steps = UNPLANNED if planning else steps or config.get("steps") or recipe.steps
    clock = Clock(trainer.step, recipe.batch_size)
    with ThreadPoolExecutor(1) as pool, (out / "metrics.jsonl").open("a") as log:
        pending = pool.submit(_batch, recipe, source, card.seed, trainer.step)
        while trainer.step < steps:
            batch = pending.result()
            pending = pool.submit(_batch, recipe, source, card.seed, trainer.step + 1)
            loss, norm = trainer.update(batch, steps, accumulate)
            clock.tick(trainer.step)
            if planning and budget and clock.settled:
                planning = False
                steps = trainer.step + max(int((budget - clock.elapsed) * clock.rate / recipe.batch_size), 1)
                _write_json(out / "config.json", config | {"steps": steps})
            saved = _save(trainer, out) if trainer.step % save_every == 0 or trainer.step == steps else None
            left = (steps - trainer.step) * recipe.batch_size / clock.rate
            progress = Progress(
                trainer.step, steps, loss, norm, trainer.learning_rate, clock.rate, left, trainer.skipped, saved
            )
            if trainer.step % log_every == 0 or saved:
                log.write(json.dumps(asdict(progress) | {"saved": bool(saved), "seconds": clock.elapsed}) + "\n")
                log.flush()
            yield progress


def _batch(recipe: Recipe, source: Source, seed: int, step: int) -> Tensor:
    return recipe.batch(source, [derive(seed, DATA, step, i) for i in range(recipe.batch_size)])


class Clock:
    """How fast a run goes: examples per second since its third step (the first two pay for warming up)."""

    def __init__(self, first: int, batch_size: int):
        self.first, self.batch_size = first, batch_size
        self.start = self.since = time.monotonic()
        self.done = 0

    def tick(self, step: int) -> None:
        """A step has ended."""
        self.done = step - self.first
        if self.done == 2:
            self.since = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the run was started or continued."""
        return time.monotonic() - self.start

    @property
    def settled(self) -> bool:
        """Whether enough steps have been seen to plan by."""
        return self.done >= 12

    @property
    def rate(self) -> float:
        """Examples per second."""
        counted, since = (self.done - 2, self.since) if self.done > 2 else (self.done, self.start)
        return counted * self.batch_size / max(time.monotonic() - since, 1e-9)


def _open_run(out: Path, card: Card) -> dict[str, Any]:
    """The run's config, new or as it stands; BadInput when the folder holds a different run."""
    config = json.loads(json.dumps(asdict(card)))
    path = out / "config.json"
    try:
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot use {out} as a run folder: {error.strerror}; choose another with -o") from error
    if not path.exists():
        _write_json(path, config)
        return config
    found = json.loads(path.read_text())
    for key in ("recipe", "fields", "seed"):
        if found.get(key) != config[key]:
            raise BadInput(f"{out} holds another run (its {key} differs); choose another folder with -o")
    return found


def _write_json(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=1))
    return value


def _save(trainer: Trainer, out: Path) -> Path:
    card = checkpoint.at_step(trainer.card, trainer.step)
    about = {"skipped": trainer.skipped}
    path = out / "checkpoints" / f"step-{trainer.step:08d}.safetensors"
    checkpoint.write(path, trainer.state(), checkpoint.at_step(card, trainer.step, about=about))
    checkpoint.write(out / "model.safetensors", trainer.average, card)
    for old in sorted((out / "checkpoints").glob("step-*.safetensors"))[:-2]:
        old.unlink()
    return path


def _resume(trainer: Trainer, out: Path) -> None:
    """Continues from the newest checkpoint that is whole."""
    for path in sorted((out / "checkpoints").glob("step-*.safetensors"), reverse=True):
        try:
            tensors, card = checkpoint.read(path, device=trainer.device)
        except BadInput:
            continue
        trainer.restore(tensors, card.step, card.about.get("skipped", 0))
        return
