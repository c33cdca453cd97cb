"""Training on one and two processes: speed, what communication costs, and what that says of more processes.

    python benchmarks/scale.py --preset tiny --steps 20

The global batch is the same on one process and on two; every process has one thread. Communication is measured alone
too, as the all-reduce (gloo, this machine's loopback) of one number and of as many as the model has parameters. From
these, for P processes that add up n bytes of gradient around a ring, each learning from as many rows as here:

    latency = t2(one number) / 2      bandwidth = n / (t2(gradient) - t2(one number))
    t(P) = 2 (P - 1) latency + 2 (P - 1) / P  n / bandwidth
    efficiency(P) = compute / (compute + t(P))          if nothing overlaps, so a lower bound

where compute is the time of a step without communication, measured while both processes compute. The same for another
network: give --latency and --bandwidth. Then, on one process: what channels last and torch.compile pay, taking turns.
"""

import argparse
import os
import socket
import statistics
import time
from dataclasses import replace
from multiprocessing import get_context

import torch

from framefill import recipes
from framefill.arrays import derive
from framefill.checkpoint import Card
from framefill.device import bf16_pays
from framefill.distributed import joined
from framefill.recipes.recipe import override
from framefill.training import Trainer
from framefill.video.digits import MovingDigits

WARM = 3


def trainer_of(recipe, **options):
    return Trainer(recipe, Card("mcvd", "benchmark", {}), device="cpu", **options)


def step(trainer, accumulate=1):
    """Seconds of reading a batch and learning from it."""
    begin = time.perf_counter()
    seeds = [derive(0, trainer.step, row) for row in trainer.rows]
    trainer.update(trainer.recipe.batch(MovingDigits("train"), seeds), 10**6, accumulate)
    return time.perf_counter() - begin


def steps(trainer, count):
    """Median seconds of a step, after some to warm up."""
    return statistics.median([step(trainer) for _ in range(WARM + count)][WARM:])


def all_reduce(numbers, repeats):
    """Median seconds to add up a vector over all processes."""
    vector, seconds = torch.zeros(numbers), []
    for _ in range(WARM + repeats):
        torch.distributed.barrier()
        begin = time.perf_counter()
        torch.distributed.all_reduce(vector)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[WARM:])


def process(rank, world, port, recipe, count, queue):
    """One of `world` processes; the first one puts its measurements into `queue`."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    found = {}
    with joined() as ranks:
        share = replace(recipe, batch_size=recipe.batch_size // world)
        found["compute"] = steps(trainer_of(share), count)
        ranks.barrier()
        found["step"] = steps(trainer_of(recipe, ranks=ranks), count)
        if world > 1:
            found["one"], found["gradient"] = all_reduce(1, 10 * count), all_reduce(recipes.parameters(recipe), count)
            ranks.barrier()
            found["sharded"] = steps(trainer_of(recipe, ranks=ranks, shard=True), count)
    if rank == 0:
        queue.put(found)


def variants(recipe, count, compiling, queue):
    """Seconds of a step as shipped, channels first, and compiled; and of the compilation."""
    torch.set_num_threads(1)
    trainers = {name: trainer_of(recipe) for name in ("shipped", "channels first")}
    trainers["channels first"].model.to(memory_format=torch.contiguous_format)
    found = {}
    if compiling:
        trainers["compiled"] = trainer_of(recipe)
        trainers["compiled"].model.compile()
        found["compilation"] = step(trainers["compiled"])
    seconds = {name: [] for name in trainers}
    for _ in range(WARM + count):
        for name, trainer in trainers.items():
            seconds[name].append(step(trainer))
    queue.put(found | {name: statistics.median(s[WARM:]) for name, s in seconds.items()})


def run(target, world, *arguments):
    """What the first of `world` processes finds."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # before a child loads torch
    context = get_context("spawn")
    queue = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    heads = [(rank, world, port) for rank in range(world)] if target is process else [()]
    children = [context.Process(target=target, args=(*head, *arguments, queue), daemon=True) for head in heads]
    for child in children:
        child.start()
    while queue.empty():
        if any(child.exitcode for child in children):
            raise SystemExit("a process failed; see above")
        time.sleep(0.1)
    found = queue.get()
    for child in children:
        child.join()
    return found


def prediction(compute, size, latency, bandwidth, processes):
    """Seconds of communication and efficiency, by the formulas above."""
    spoken = 2 * (processes - 1) * latency + 2 * (processes - 1) / processes * size / bandwidth
    return spoken, compute / (compute + spoken)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a field of the preset")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--latency", type=float, help="seconds of one message, instead of what is measured")
    parser.add_argument("--bandwidth", type=float, help="bytes per second, instead of what is measured")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    args = parser.parse_args()
    recipe = override(recipes.find("mcvd", args.preset).recipe, args.set)
    size, kind = 4 * recipes.parameters(recipe), "bfloat16" if bf16_pays("cpu") else "float32"
    print(f"mcvd {args.preset} {' '.join(args.set)}: {size / 4e6:.2f} M parameters, global batch {recipe.batch_size}")
    print(
        f"{os.cpu_count()} cores, one thread per process, torch {torch.__version__}, {kind}; median of {args.steps}\n"
    )

    one, two = run(process, 1, recipe, args.steps), run(process, 2, recipe, args.steps)
    print("processes   step s   clips/s   of it compute s   all-reduce alone s")
    for count, found in ((1, one), (2, two)):
        spoken = f"{found['gradient']:18.4f}" if count > 1 else f"{'-':>18}"
        rate = recipe.batch_size / found["step"]
        print(f"{count:9} {found['step']:8.3f} {rate:9.2f} {found['compute']:17.3f}   {spoken}")
    print(f"speed of two over one: {one['step'] / two['step']:.2f}; with --shard: {one['step'] / two['sharded']:.2f}\n")

    measured = max(two["gradient"] - two["one"], 1e-9)
    latency, bandwidth = args.latency or two["one"] / 2, args.bandwidth or size / measured
    rows = recipe.batch_size // 2
    print(f"latency {latency * 1e6:.0f} us, bandwidth {bandwidth / 1e6:.0f} MB/s, gradient {size / 1e6:.1f} MB")
    print(f"predicted, {rows} rows per process, {two['compute']:.3f} s of compute, nothing overlapping:")
    for count in (2, 8, 64):
        spoken, efficiency = prediction(two["compute"], size, latency, bandwidth, count)
        print(f"  {count:3} processes: communication {spoken:.4f} s, efficiency {100 * efficiency:.1f} %")

    found = run(variants, 1, recipe, args.steps, not args.no_compile)
    print(f"\none process, shipped (channels last, not compiled): {found['shipped']:.3f} s a step")
    print(f"  channels first takes {found['channels first'] / found['shipped']:.2f} of that")
    if "compiled" in found:
        ratio = found["compiled"] / found["shipped"]
        print(f"  torch.compile takes {ratio:.2f} of that, after {found['compilation']:.0f} s for the first step")


if __name__ == "__main__":
    main()
