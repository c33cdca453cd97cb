"""What tests run in processes of their own: forked from one that has imported everything, a run costs no import."""

import dataclasses
import json
import multiprocessing
import os
import socket
import sys
import time
from multiprocessing import forkserver
from pathlib import Path
from typing import ClassVar

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as `framefill train` does before it imports torch

import torch
import torch._dynamo  # every optimiser imports it
import torch.distributed.fsdp
import torch.distributed.tensor

import offline
from framefill import cli, training
from framefill.arrays import derive
from framefill.checkpoint import Card
from framefill.distributed import Ranks, joined, spread
from framefill.recipes.mcvd import MCVD
from framefill.recipes.recipe import to_fields
from framefill.video.digits import MovingDigits

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["children"])


class Poisoned(MCVD):
    """The losses of some rows of some steps, `bad`, are not numbers."""

    bad: ClassVar[frozenset[tuple[int, int]]] = frozenset({(1, 1)})

    def loss(self, model, batch, rng):
        poison = {derive(3, training.NOISE, step, row) for step, row in self.bad}
        sick = torch.tensor([seed in poison for seed in rng.seeds])
        return super().loss(model, batch, rng).masked_fill(sick, float("nan"))


def wait_until(happened, seconds: float = 60.0):
    """Polls until `happened()` gives something true, which it returns."""
    end = time.monotonic() + seconds
    while not (result := happened()):
        assert time.monotonic() < end, f"nothing happened in {seconds} s"
        time.sleep(0.005)
    return result


def start(target, *arguments, log: Path, environment: dict[str, str] | None = None):
    """Runs target(*arguments) in a child whose words go to the file `log`."""
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), before]))
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as `framefill train` says to itself before it loads torch
    forkserver.ensure_running()  # imports this module by that path, once
    os.environ["PYTHONPATH"] = before
    child = context.Process(target=_begin, args=(target, arguments, str(log), environment or {}))
    child.start()
    return child


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_all(world: int, target, *arguments, log: Path):
    """The same in `world` children that know of each other as torchrun would tell them; logs are log.0, log.1, ..."""
    port = str(free_port())
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    return [
        start(
            target,
            *arguments,
            log=log.with_suffix(f".{rank}"),
            environment=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(world)
    ]


def ended(children, seconds: float = 120.0) -> list[int]:
    """Exit codes."""
    for child in children:
        child.join(seconds)
        assert child.exitcode is not None, "still running"
    return [child.exitcode for child in children]


def _begin(target, arguments, log: str, environment: dict[str, str]) -> None:
    torch.set_num_threads(1)
    offline.stay()
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    target(*arguments)


def command(*words) -> None:
    """`framefill WORDS`."""
    sys.argv = ["framefill", *map(str, words)]
    cli.main()


def learn(recipe: MCVD, out: Path, options: dict, threads: int = 1) -> None:
    """A training in float32; process 0 prints step, loss and gradient of every step."""
    torch.set_num_threads(threads)
    training.bf16_pays = lambda device: False
    card = Card("mcvd", "tiny", to_fields(recipe), seed=3, about={"data": "digits"})
    steps = [dataclasses.asdict(p) for p in training.train(recipe, MovingDigits("train"), out, card=card, **options)]
    if Ranks.here().main:
        print(json.dumps([{k: s[k] for k in ("step", "steps", "loss", "gradient", "skipped")} for s in steps]))


def leave_often(ports: list[int]) -> None:
    """Joins the others at every port in turn, learns a step as trainings do, and leaves; the replica goes last."""
    for port in ports:
        os.environ["MASTER_PORT"] = str(port)
        with joined() as ranks:
            replica = spread(torch.nn.Linear(200, 200), ranks, "cpu", shard=False)
            for _ in range(2):
                replica(torch.ones(2, 200)).sum().backward()
                ranks.sum(1.0)
        del replica
