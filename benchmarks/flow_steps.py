"""What a training step costs: python benchmarks/flow_steps.py PICTURES [--steps 30].

Trains `mrcnf tiny` on a folder or .zip of pictures for a few steps, then times the same step of it with other solvers
and first steps, one thread, and prints CPU-seconds, evaluations of the fields and nats per dimension; `exact` is
dopri5 at 1e-6. Then a step of `ode-video tiny` on moving digits, its narrow layers in the usual layout and with
channels last.
"""

import argparse
import time
from dataclasses import replace

import torch

from framefill.arrays import Rng
from framefill.flows.cnf import CNF
from framefill.flows.ode import Solver
from framefill.nets import ode_video as nets
from framefill.recipes import mrcnf, ode_video

SOLVERS = {
    "bosh3, first step guessed": Solver("bosh3", rtol=1e-3, atol=1e-3),
    "bosh3, whole span first": Solver("bosh3", rtol=1e-3, atol=1e-3, first=1.0),
    "dopri5, first step guessed": Solver("dopri5", rtol=1e-3, atol=1e-3),
    "dopri5, whole span first": Solver("dopri5", rtol=1e-3, atol=1e-3, first=1.0),
    "adaptive_heun, whole span first": Solver("adaptive_heun", rtol=1e-3, atol=1e-3, first=1.0),
    "exact": Solver("dopri5", rtol=1e-6, atol=1e-6),
}


def step(recipe, model, batch, seed):
    model.zero_grad()
    recipe.loss(model, batch, Rng.batch(0, len(batch), seed)).mean().backward()


def cost(act, times):
    act()
    start = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - start) / times


def flow(data, steps, times):
    recipe = replace(mrcnf.TINY, batch_size=8)
    source, model = recipe.source(data, "train"), recipe.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for number in range(steps):
        step(recipe, model, recipe.batch(source, range(8 * number, 8 * number + 8)), number)
        optimizer.step()
    batch = recipe.batch(source, range(8 * steps, 8 * steps + 8))
    for name, solver in SOLVERS.items():
        for part in model.modules():
            if isinstance(part, CNF):
                part.solver = solver
        spent = cost(lambda: step(recipe, model, batch, 0), times)
        noted = recipe.notes(model)
        print(f"| {name} | {spent:.2f} | {noted['evaluations']:.0f} | {noted['nats']:.6f} |", flush=True)


def video(times):
    recipe = ode_video.TINY
    model, batch = recipe.model(), recipe.batch(recipe.source("digits", "train"), range(16))
    narrow = nets._narrow
    for name, layer in (("usual layout", lambda layer, x: layer(x)), ("channels last", narrow)):
        nets._narrow = layer
        print(f"| ode-video, {name} | {cost(lambda: step(recipe, model, batch, 0), times):.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--times", type=int, default=3)
    told = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    video(told.times)
    flow(told.data, told.steps, told.times)


if __name__ == "__main__":
    main()
