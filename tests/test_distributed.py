"""Several processes are one: the same steps, the same checkpoints, and an end with words when one of them dies."""

import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from itertools import chain
from pathlib import Path

import pytest
import torch

from children import Poisoned, command, ended, free_port, learn, leave_often, start_all, wait_until
from framefill import checkpoint, training
from framefill.distributed import Ranks, joined
from framefill.errors import BadInput, Failed
from framefill.recipes.recipe import to_fields
from framefill.training import Trainer, train
from framefill.video.digits import MovingDigits

EVERY = {"save_every": 3, "steps": 6}


@pytest.fixture
def plain(small):
    """Without dropout, whose masks belong to processes, not to examples; and as small as it gets."""
    return dataclasses.replace(small, dropout=0.0, motion=False, patch=8, multipliers=(1,), attention=(False,))


def together(world: int, recipe, out: Path, **options) -> list[dict]:
    """The steps of a training by `world` processes."""
    log = out.with_suffix(".log")
    assert ended(start_all(world, learn, recipe, out, EVERY | options, log=log)) == [0] * world, said(log)
    return json.loads(said(log).splitlines()[-1])


def said(log: Path, rank: int = 0) -> str:
    return log.with_suffix(f".{rank}").read_text()


def saved(out: Path, step: int) -> dict[str, torch.Tensor]:
    return checkpoint.read(out / "checkpoints" / f"step-{step:08d}.safetensors")[0]


def gap(a: dict, b: dict) -> float:
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def without_the_end(out: Path, copy: Path) -> Path:
    shutil.copytree(out, copy)
    (copy / "checkpoints" / "step-00000006.safetensors").unlink()
    return copy


@pytest.fixture
def alone(plain, tmp_path):
    """The run of one process."""
    return together(1, plain, tmp_path / "alone"), tmp_path / "alone"


# What differs is the order of sums in float32, 1e-7 of a loss near 1; Adam divides by the root of squared gradients,
# so of a gradient of 1e-8 it may make a step of the learning rate, 1e-3, of either sign.
@pytest.mark.parametrize(
    ("world", "options"), [(3, {}), (2, {"accumulate": 2}), (2, {"shard": True})], ids=["ddp", "accumulate", "fsdp"]
)
def test_several_processes_take_the_steps_of_one_and_resume_to_the_bit(plain, alone, tmp_path, world, options):
    """Of three processes one has more rows than the others, and the order of their sums matters."""
    one, out = alone
    two = together(world, plain, tmp_path / "two", **options)
    for a, b in zip(one, two, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert b["gradient"] == pytest.approx(a["gradient"], rel=1e-4)
    moved = gap(saved(out, 6), saved(out, 3))
    assert gap(saved(out, 6), saved(tmp_path / "two", 6)) < 0.02 * moved

    again = together(world, plain, without_the_end(tmp_path / "two", tmp_path / "again"), **options)
    assert again == two[3:]
    assert gap(saved(tmp_path / "again", 6), saved(tmp_path / "two", 6)) == 0


def test_taking_leave_never_hangs(tmp_path):
    """A replica that is freed after its group has been left once waited for ever, every tenth time."""
    children = start_all(2, leave_often, [free_port() for _ in range(50)], log=tmp_path / "log")
    assert ended(children, 60) == [0, 0]


def test_a_run_goes_on_with_another_number_of_processes(plain, alone, tmp_path):
    one, out = alone
    for world, options in ((2, {"shard": True}), (3, {})):
        copy = without_the_end(out, tmp_path / f"to-{world}")
        rest = together(world, plain, copy, **options)
        assert [p["loss"] for p in rest] == pytest.approx([p["loss"] for p in one[3:]], rel=1e-5)
    back = together(1, plain, without_the_end(copy, tmp_path / "back"))
    assert back[-1]["loss"] == pytest.approx(one[-1]["loss"], rel=1e-5)


def test_dropout_differs_between_processes(small, card, monkeypatch):
    """The same rows, learnt as process 0 and as process 1 of two, meet other masks; the same process the same ones."""
    small = dataclasses.replace(small, dropout=0.5)
    norms = []
    for rank in (0, 1, 1):
        trainer = Trainer(small, card, device="cpu")
        with torch.no_grad():
            for p in trainer.named.values():
                p.add_(0.1)  # the last layers start at zero and would hide what the first ones do
        trainer.ranks = Ranks(rank, 2, rank)
        monkeypatch.setattr(Ranks, "sum", lambda self, *numbers: list(numbers))
        monkeypatch.setattr(Trainer, "rows", [0, 1, 2, 3])
        norms.append(trainer.update(small.batch(MovingDigits("train"), range(4)), 8, 1)[1])
    assert norms[0] != norms[1] == norms[2]


def test_a_step_that_is_not_finite_in_one_process_is_skipped_in_all(plain, tmp_path):
    poisoned = Poisoned(**to_fields(plain))
    one, two = (together(n, poisoned, tmp_path / str(n), save_every=1, steps=4) for n in (1, 2))
    assert [p["skipped"] for p in one] == [p["skipped"] for p in two] == [0, 1, 1, 1]
    assert [p["loss"] for p in two[2:]] == pytest.approx([p["loss"] for p in one[2:]], rel=1e-5)
    assert all(t.isfinite().all() for t in saved(tmp_path / "2", 4).values())


def test_the_first_process_plans_for_all(plain, tmp_path):
    steps = together(2, plain, tmp_path / "run", steps=None, budget=1.0, save_every=1000)
    assert steps[-1]["step"] == steps[-1]["steps"] < training.UNPLANNED
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == steps[-1]["steps"]


def stop_in_the_second(recipe, out: Path) -> None:
    """A training in which only process 1 is asked to stop, during its third step."""
    asked = iter([False, False, True])
    learn(recipe, out, EVERY | {"stop": (lambda: next(asked)) if Ranks.here().rank else bool})


def test_a_stop_in_one_process_is_a_stop_of_all(plain, tmp_path):
    log = tmp_path / "log"
    assert ended(start_all(2, stop_in_the_second, plain, tmp_path / "run", log=log)) == [0, 0]
    assert [p["step"] for p in json.loads(said(log).splitlines()[-1])] == [1, 2, 3]
    assert (tmp_path / "run" / "checkpoints" / "step-00000003.safetensors").exists()


WORDS = ("train", "mcvd", "digits", "--set", "features=4", "--set", "multipliers=1,2", "--set", "attention=false,true",
         "--set", "head_width=4", "--set", "patch=4", "--set", "batch_size=2", "--set", "residual=0.0")  # fmt: skip


def test_only_the_first_process_writes_and_prints(tmp_path):
    words = (*WORDS, "-o", tmp_path / "run", "--steps", 2)
    assert ended(start_all(2, command, *words, log=tmp_path / "log")) == [0, 0]
    assert "model.safetensors" in said(tmp_path / "log")
    assert said(tmp_path / "log", 1) == ""
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "patience"),
    [
        pytest.param(signal.SIGKILL, 600, id="dies"),
        pytest.param(signal.SIGSTOP, 2, id="hangs", marks=pytest.mark.slow),
    ],
)
def test_when_one_dies_the_others_end_with_a_line(tmp_path, monkeypatch, number, patience):
    monkeypatch.setenv("FRAMEFILL_PATIENCE", str(patience))
    words = (*WORDS, "-o", tmp_path / "run", "--steps", 100000, "--save-every", 100000)
    log = tmp_path / "log"
    left, lost = start_all(2, say_and_command, str(patience), *words, log=log)
    try:
        wait_until(lambda: (tmp_path / "run" / "metrics.jsonl").exists())
        os.kill(lost.pid, number)
        begin = time.monotonic()
        assert ended([left], 30) == [1], said(log)
        assert time.monotonic() - begin < 15
        last = said(log).splitlines()[-1]
        assert last.startswith("framefill: process 0 of 2 lost the others ("), said(log)
        assert "run again to go on" in last
        assert "Traceback" not in said(log)
    finally:
        lost.kill()
        lost.join()


def say_and_command(patience: str, *words) -> None:
    os.environ["FRAMEFILL_PATIENCE"] = patience
    command(*words)


def test_nobody_there(monkeypatch):
    for key, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(Failed, match="process 1 of 2 lost the others"), joined(patience=1.0):
        pass


def test_other_errors_pass_through(monkeypatch):
    with pytest.raises(RuntimeError, match="a bug"), joined():
        raise RuntimeError("a bug")


@pytest.mark.parametrize(
    "environment",
    [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "-1", "WORLD_SIZE": "2"}, {"WORLD_SIZE": "many"}, {"WORLD_SIZE": "0"}],
)
def test_an_environment_that_makes_no_sense(monkeypatch, environment):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(BadInput, match=r"must be whole numbers with 0 <= RANK < WORLD_SIZE"):
        Ranks.here()


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "1e99"])
def test_patience_must_be_seconds(monkeypatch, text):
    monkeypatch.setenv("FRAMEFILL_PATIENCE", text)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match="FRAMEFILL_PATIENCE must be a number of seconds"), joined():
        pass


def test_one_process_is_its_own_group():
    with joined() as ranks:
        assert ranks == Ranks(0, 1, 0)
        assert not torch.distributed.is_initialized()
        assert (ranks.sum(1.5, 2.0), ranks.agree(True), ranks.agree(False)) == ([1.5, 2.0], True, False)
        value = torch.arange(3)
        assert ranks.first(value) is value
        with ranks.in_turn():
            ranks.barrier()
        assert ranks.device("cuda") == "cuda"


def test_shares_are_disjoint_and_complete():
    shares = [Ranks(r, 3, 0).mine(range(10)) for r in range(3)]
    assert sorted(chain(*shares)) == list(range(10))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert Ranks(1, 3, 1).device("cuda") == "cuda:1"
    assert Ranks(1, 3, 1).device("cpu") == "cpu"


@pytest.mark.parametrize("accumulate", [0, 5])
def test_a_batch_that_cannot_be_split(small, card, tmp_path, accumulate):
    with pytest.raises(BadInput, match=r"a batch of 4 cannot be split over 1 process\(es\)"):
        next(train(small, MovingDigits("train"), tmp_path, card=card, accumulate=accumulate))


@pytest.mark.slow
def test_torchrun_and_a_signal(tmp_path):
    """The command line as in docs/scale.md: torchrun passes SIGTERM on, the step is written down, the run goes on."""
    import subprocess

    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "framefill"]
    words += [*WORDS, "-o", str(tmp_path / "run")]
    first = subprocess.Popen([*words, "--steps", "100000"], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (tmp_path / "run" / "metrics.jsonl").exists())
    first.terminate()
    _, told = first.communicate(timeout=60)
    assert first.returncode != 0
    (path,) = (tmp_path / "run" / "checkpoints").glob("step-*.safetensors")
    step = checkpoint.read_card(path).step
    assert f"framefill: stopped at step {step}; run again to go on" in told
    assert subprocess.run([*words, "--steps", str(step + 2)], timeout=120).returncode == 0
    assert checkpoint.read_card(tmp_path / "run" / "model.safetensors").step == step + 2
