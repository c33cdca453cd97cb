"""Training as a generator: one loop for every recipe, which yields after each step and can be stopped anywhere.

Nothing random is stored: data, masks, times, noise and dropout of step k are functions of (seed, k), so a run continued
from a checkpoint is the run that was never interrupted, bit for bit on a CPU. Row i of a batch is a function of
(seed, k, i) alone: several processes read their own rows, add up their gradients, and so take the same steps
as one. What a run leaves behind is in `runs`.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor, nn

from framefill import checkpoint
from framefill.arrays import Rng, derive
from framefill.checkpoint import Card
from framefill.device import bf16_pays
from framefill.distributed import Ranks, alike, joined, spread, whole
from framefill.errors import BadInput, Failed
from framefill.recipes.recipe import Follows, Notes, Recipe, Source
from framefill.runs import Run

DATA, NOISE, DROPOUT = 1, 2, 3
PATIENCE = 10
UNPLANNED = 10**9


@dataclass(frozen=True)
class Progress:
    """A run after a step: `rate` in examples per second, `left` in seconds.

    `saved` is the checkpoint if one was just written, `stopped` whether this step is the last because it was asked for.
    """

    step: int
    steps: int
    loss: float
    gradient: float
    learning_rate: float
    rate: float
    left: float
    skipped: int
    saved: Path | None = None
    stopped: bool = False

    @property
    def planned(self) -> bool:
        """Whether `steps` and `left` are known yet: with a budget they follow from the speed of the first steps."""
        return self.steps < UNPLANNED


class Lesson(nn.Module):
    """The loss of a recipe as a module, so that what wraps modules to spread them sees everything that is computed."""

    def __init__(self, recipe: Recipe, model: nn.Module):
        super().__init__()
        self.recipe, self.model = recipe, model

    def forward(self, batch: Tensor, rng: Rng) -> Tensor:
        """The loss per example (B,)."""
        return self.recipe.loss(self.model, batch, rng)


def jumping(model: nn.Module) -> list[str]:
    """Names of the parameters that are not averaged, those that modules list as `jumping`.

    A code that is revived is put elsewhere at once. A mean over its places is none of them.
    """
    parts = model.named_modules()
    return [f"{path}.{name}".lstrip(".") for path, part in parts for name in getattr(part, "jumping", ())]


class Trainer:
    """Model, running average and optimiser of a run, and their way to disk and back.

    On several processes each one has its own trainer, all of which do the same at the same time. `stop` is asked before
    every update; `stopping` says after it whether it said yes in any of them.
    """

    def __init__(
        self,
        recipe: Recipe,
        card: Card,
        *,
        device: str,
        ranks: Ranks | None = None,
        shard: bool = False,
        stop: Callable[[], bool] = bool,
    ):
        torch.manual_seed(card.seed)
        self.recipe, self.card, self.device, self.ranks = recipe, card, device, ranks or Ranks()
        self.model = recipe.model()
        self.lesson = spread(Lesson(recipe, self.model), self.ranks, device, shard=shard)
        self.named = dict(self.model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.named.items()}
        self.jumping = jumping(self.model)
        self.adam = torch.optim.Adam(self.named.values(), lr=recipe.learning_rate, fused=True)
        self.step = self.skipped = self.streak = 0
        self.learning_rate = 0.0
        self.bf16 = bf16_pays(device)
        self.stop, self.stopping = stop, False

    def rate_at(self, steps: int) -> float:
        """The learning rate of the coming step: linear warm-up, constant, linear cool-down to zero."""
        recipe, k = self.recipe, self.step + 1
        warm = min(k / max(recipe.warmup, 1), 1.0)
        cool = (steps - self.step) / (recipe.cooldown * steps) if recipe.cooldown else 1.0
        return recipe.learning_rate * min(warm, cool, 1.0)

    @property
    def rows(self) -> list[int]:
        """The rows of every batch that this process learns from."""
        return self.ranks.mine(range(self.recipe.batch_size))

    def update(self, batch: Tensor, steps: int, accumulate: int) -> tuple[float, float]:
        """One step on this process's rows of a batch; returns the loss and the gradient norm of the whole batch.

        A step that is not finite changes no weight; ten of them in a row raise Failed.
        """
        keys = (self.ranks.rank,) if self.ranks.world > 1 else ()
        torch.manual_seed(derive(self.card.seed, DROPOUT, self.step, *keys))
        self.model.train()
        total = sum(self._learn(batch, part, accumulate) for part in range(accumulate))
        total, asked = self.ranks.sum(total, float(self.stop()))
        norm = float(whole(nn.utils.clip_grad_norm_(self.named.values(), self.recipe.clip)))
        finite = norm < float("inf") and total < float("inf")
        if finite:
            self.learning_rate = self.adam.param_groups[0]["lr"] = self.rate_at(steps)
            self.adam.step()
            # Paper: the published average starts at full decay; this one forgets the untrained weights sooner.
            decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.named.values()], 1 - decay)
            for name in self.jumping:
                self.average[name].copy_(self.named[name].detach())
        self.adam.zero_grad()
        self.step, self.stopping = self.step + 1, asked > 0
        self.skipped, self.streak = self.skipped + (not finite), 0 if finite else self.streak + 1
        if self.streak >= PATIENCE:
            raise Failed(
                f"training stopped at step {self.step}: {PATIENCE} steps in a row were not finite; lower learning_rate"
            )
        return total, norm

    def _learn(self, batch: Tensor, part: int, accumulate: int) -> float:
        """Adds the gradient of one part of this process's rows to the others'; returns its share of the loss."""
        places, size = range(part, len(batch), accumulate), self.recipe.batch_size
        rng = Rng([derive(self.card.seed, NOISE, self.step, self.rows[i]) for i in places])
        with self._adding(part == accumulate - 1):
            with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.bf16):
                loss = self.lesson(batch[list(places)].to(self.device), rng).sum() / size
            # What comes back is the mean over the processes, and wanted is the sum.
            (loss * self.ranks.world if self.ranks.world > 1 else loss).backward()
        return float(loss.detach())

    def _adding(self, last: bool) -> AbstractContextManager[None]:
        """Replicas tell each other their gradients with the last part of a batch only."""
        replicated = isinstance(self.lesson, nn.parallel.DistributedDataParallel)
        return self.lesson.no_sync() if replicated and not last else nullcontext()  # type: ignore[operator]

    def notes(self) -> dict[str, float]:
        """What the recipe has to say of the last batch for the log, if anything: finite numbers."""
        said = self.recipe.notes(self.model) if isinstance(self.recipe, Notes) else {}
        return {name: value for name, value in said.items() if isfinite(value)}

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on: parameters, average, Adam's moments."""
        tensors = {f"model.{k}": v for k, v in self.named.items()} | {
            f"average.{k}": v for k, v in self.average.items()
        }
        for name, parameter in self.named.items():
            for key, value in self.adam.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        return tensors

    def gathered(self) -> dict[str, Tensor]:
        """`state`, whole and on the CPU, in process 0; every process must call this. Empty in the others."""
        state: dict[str, Tensor] = {}
        for name, value in self.state().items():
            full = whole(value)  # one after the other: no process ever holds them all
            if self.ranks.main:
                state[name] = full.detach().cpu()
        return state

    def restore(self, tensors: dict[str, Tensor], step: int, skipped: int, streak: int = 0) -> None:
        """The inverse of `gathered`: takes process 0's `tensors` to all."""
        moments: dict[str, dict[str, Tensor]] = {}
        with torch.no_grad():
            for kind, name, value in self._handed(tensors):
                if kind in ("model", "average"):
                    mine = (self.named if kind == "model" else self.average)[name]
                    mine.copy_(alike(value, mine))
                else:
                    # Adam's fused kernel walks the memory of parameter and moments together: same layout.
                    same = alike(value, self.named[name]) if value.ndim else value
                    moments.setdefault(name, {})[kind.removeprefix("adam.")] = same
        layout = {name: i for i, name in enumerate(self.named)}
        groups = self.adam.state_dict()["param_groups"]
        self.adam.load_state_dict({"state": {layout[n]: m for n, m in moments.items()}, "param_groups": groups})
        self.step, self.skipped, self.streak = step, skipped, streak

    def begin(self, tensors: dict[str, Tensor]) -> None:
        """Gives the fresh model, and its average, weights of another run; BadInput if they do not fit."""
        for name, value in tensors.items():
            mine = self.named.get(name)
            if mine is None or mine.shape != value.shape:
                wanted = "no such tensor" if mine is None else f"{tuple(mine.shape)}"
                raise BadInput(
                    f"the run to begin from does not fit: its {name} has shape {tuple(value.shape)}, this recipe has "
                    f"{wanted}; give a run of the same layout"
                )
            with torch.no_grad():
                for holder in (mine, self.average[name]):
                    holder.copy_(alike(value.to(holder.device), holder))

    def _handed(self, tensors: dict[str, Tensor]) -> Iterator[tuple[str, str, Tensor]]:
        """Kinds, names and values of process 0's `tensors` in every process, one after the other."""
        kinds = ("model", "average", "adam.exp_avg", "adam.exp_avg_sq", "adam.step")
        keys = [(kind, name) for kind in kinds for name in self.named]
        there = self.ranks.first(torch.tensor([f"{kind}.{name}" in tensors for kind, name in keys]))
        for (kind, name), here in zip(keys, there.tolist(), strict=True):
            if here:
                shape = () if kind == "adam.step" else self.named[name].shape
                value = tensors[f"{kind}.{name}"] if self.ranks.main else torch.empty(shape)
                yield kind, name, self.ranks.first(value)


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
    shard: bool = False,
    stop: Callable[[], bool] = bool,
    start: dict[str, Tensor] | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """Trains `recipe` on `source` in the run folder `out`, from where the folder left off; yields after every step.

    `card` names recipe, preset, seed and data. `steps` defaults to what the folder or the recipe says; with `budget`
    (seconds) a new run chooses them itself so that it ends in time, from the speed of its first steps. When `stop`
    says yes during a step, that step is finished, written down, and the last. `start` are weights that a new run begins
    with, by the names of its model (what a recipe that `Follows` has `taken`). Seconds are those of `now`: with
    time.process_time a budget is one of work, the same on a busy machine as on an idle one. Raises BadInput when the
    folder belongs to another run, Failed when 10 steps in a row are not finite or the disk is full.

    Started by torchrun, all processes train one model: each reads and learns from its rows of every batch, and the
    first one alone writes. `shard` shares out the model itself too (FSDP2), instead of a copy for each (DDP).
    """
    with joined(device) as ranks, ThreadPoolExecutor(1) as pool:
        device = ranks.device(device)
        _check_split(recipe.batch_size, ranks.world, accumulate)
        run = Run.open(out, card) if ranks.main else None
        trainer = Trainer(recipe, card, device=device, ranks=ranks, shard=shard, stop=stop)
        planned = _resume(trainer, run, start)
        planning = budget is not None and not planned
        steps = UNPLANNED if planning else steps or planned or recipe.steps
        clock = Clock(trainer.step, recipe.batch_size, now)
        pending = pool.submit(_batch, trainer, source, trainer.step)
        while trainer.step < steps and not trainer.stopping:
            batch = pending.result()
            pending = pool.submit(_batch, trainer, source, trainer.step + 1)
            loss, norm = trainer.update(batch, steps, accumulate)
            clock.tick(trainer.step)
            if planning and budget and clock.settled:
                planning, steps = False, _plan(trainer, run, clock, budget)
            ends = trainer.step == steps or trainer.stopping
            saved = _save(trainer, run) if trainer.step % save_every == 0 or ends else None
            left = (steps - trainer.step) * recipe.batch_size / clock.rate
            progress = Progress(
                trainer.step, steps, loss, norm, trainer.learning_rate, clock.rate, left, trainer.skipped, saved,
                trainer.stopping,
            )  # fmt: skip
            if run and (trainer.step % log_every == 0 or saved):
                run.log(asdict(progress) | {"saved": bool(saved), "seconds": clock.elapsed} | trainer.notes())
            yield progress


def _check_split(batch_size: int, world: int, accumulate: int) -> None:
    if not 1 <= accumulate <= batch_size // world:
        raise BadInput(
            f"a batch of {batch_size} cannot be split over {world} process(es) with accumulate={accumulate}; each "
            "process needs one example per part: take fewer, or a larger batch with --set batch_size=..."
        )


def _batch(trainer: Trainer, source: Source, step: int) -> Tensor:
    return trainer.recipe.batch(source, [derive(trainer.card.seed, DATA, step, i) for i in trainer.rows])


def _plan(trainer: Trainer, run: Run | None, clock: "Clock", budget: float) -> int:
    """The steps that fit into the budget, as process 0 sees it."""
    more = max(int((budget - clock.elapsed) * clock.rate / trainer.recipe.batch_size), 1)
    steps = int(trainer.ranks.first(torch.tensor(trainer.step + more)))
    if run:
        run.plan(steps)
    return steps


def _save(trainer: Trainer, run: Run | None) -> Path | None:
    tensors = trainer.gathered()
    card = checkpoint.at_step(trainer.card, trainer.step)
    return run.keep(tensors, card, {"skipped": trainer.skipped, "streak": trainer.streak}) if run else None


def _resume(trainer: Trainer, run: Run | None, start: dict[str, Tensor] | None) -> int:
    """Continues from the newest checkpoint that is whole, or begins; returns the steps that were planned, or 0."""
    found = None
    if run:
        run.check_space(sum(4 * p.numel() * p.element_size() for p in trainer.named.values()))
        found = run.newest()
    tensors, card = found or ({}, trainer.card)
    said = (card.step, card.about.get("skipped", 0), card.about.get("streak", 0), (run and run.steps) or 0)
    step, skipped, streak, planned = trainer.ranks.first(torch.tensor(said)).tolist()
    if step:
        trainer.restore(tensors, step, skipped, streak)
    elif start is not None:
        trainer.begin(start)
    elif isinstance(trainer.recipe, Follows) and trainer.recipe.follows:
        raise BadInput("this training begins with the weights of another run; name its folder with --from")
    return planned


class Clock:
    """How fast a run goes: examples per second since its third step (the first two pay for warming up)."""

    def __init__(self, first: int, batch_size: int, now: Callable[[], float] = time.monotonic):
        self.first, self.batch_size, self.now = first, batch_size, now
        self.start = self.since = now()
        self.done = 0

    def tick(self, step: int) -> None:
        """A step has ended."""
        self.done = step - self.first
        if self.done == 2:
            self.since = self.now()

    @property
    def elapsed(self) -> float:
        """Seconds since the run was started or continued."""
        return self.now() - self.start

    @property
    def settled(self) -> bool:
        """Whether enough steps have been seen to plan by."""
        return self.done >= 12

    @property
    def rate(self) -> float:
        """Examples per second."""
        counted, since = (self.done - 2, self.since) if self.done > 2 else (self.done, self.start)
        return counted * self.batch_size / max(self.now() - since, 1e-9)
