"""Regularised against plain continuous flows at equal time: python benchmarks/flow_regularised.py DATA MINUTES.

DATA is the file digits.csv.gz of scikit-learn (as for flow_digits.py) or the word "squares": a chessboard in two
dimensions, which no straight path makes of a Gaussian. The same field from the same weights on the same batches, with
the papers' weights of the regularisers (RNODE) and without (FFJORD), each for so many minutes of this process's CPU
time, on one thread. Prints, at a quarter, at half and at the end, nats per dimension of held-out samples and
evaluations of the field, solved to 1e-5 with the exact trace, all of them in one batch; for digits, bits too.
"""

import json
import math
import sys
import time

import torch
from flow_digits import digits

from framefill.arrays import Rng
from framefill.density import dequantise
from framefill.flows.cnf import CNF
from framefill.flows.flow import JACOBIAN, KINETIC
from framefill.flows.maps import Marginals
from framefill.flows.ode import Solver
from framefill.flows.trace import Exact, Rademacher
from framefill.nets.fields import DenseField

BATCH, RATE, PLACES = 128, 1e-3, (0.25, 0.5, 1.0)
WEIGHTS = {"regularised": (KINETIC, JACOBIAN), "plain": (0.0, 0.0)}


class Digits:
    """Levels 0 to 16 of 64 pixels, dequantised, each pixel made normal."""

    def __init__(self, path):
        self.fit, _, self.held = digits(path)
        self.before, self.size, self.hidden = Marginals.fit(self.fit, 17), 64, (128, 128)

    def batch(self, step):
        draw = torch.Generator().manual_seed(step)
        rows = self.fit[torch.randint(len(self.fit), (BATCH,), generator=draw)]
        return dequantise(rows, 1.0, Rng.batch(1, BATCH, step))

    def test(self):
        return dequantise(self.held, 1.0, Rng.batch(0, len(self.held)))


class Squares:
    """The eight dark fields of a chessboard of 4 x 4 over [-2, 2]^2."""

    before, size, hidden = None, 2, (64, 64, 64)

    def batch(self, step, count=BATCH):
        draw = torch.Generator().manual_seed(step)
        column, row = torch.randint(4, (count,), generator=draw), torch.randint(2, (count,), generator=draw)
        corner = torch.stack([column, 2 * row + column % 2], 1) - 2
        return corner + torch.rand(count, 2, generator=draw)

    def test(self):
        return self.batch(-1, 1000)


def measured(flow, data):
    """Nats per dimension with standard error, and evaluations."""
    trace, solver = flow.trace, flow.solver
    flow.trace, flow.solver = Exact(), Solver(rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        nats = flow.loss(data.test(), kinetic=0.0, jacobian=0.0)
    flow.trace, flow.solver = trace, solver
    found = {"nats": nats.mean().item(), "error": nats.std().item() / len(nats) ** 0.5}
    bits = {"bits": found["nats"] / math.log(2)} if isinstance(data, Digits) else {}
    return {name: round(value, 4) for name, value in (found | bits).items()} | {
        "evaluations, 1e-5": int(flow.noted["evaluations"])
    }


def row(data, kinetic, jacobian, seconds):
    torch.manual_seed(0)
    solver, trace = Solver(rtol=1e-3, atol=1e-3), Rademacher(1)
    flow = CNF([DenseField(data.size, hidden=data.hidden)], before=data.before, trace=trace, solver=solver)
    optimizer = torch.optim.Adam(flow.fields.parameters(), lr=RATE)
    step, spent, counts, due = 0, 0.0, [], list(PLACES)
    while due:
        begun = time.process_time()
        optimizer.zero_grad()
        rng = Rng.batch(2, BATCH, step)
        flow.loss(data.batch(step), rng=rng, kinetic=kinetic, jacobian=jacobian).mean().backward()
        optimizer.step()
        step, spent = step + 1, spent + time.process_time() - begun
        counts = [*counts[-19:], flow.noted["evaluations"]]
        if spent >= due[0] * seconds:
            due.pop(0)
            yield {"CPU-s": round(spent), "steps": step, "evaluations, training": sum(counts) / len(counts)} | measured(
                flow, data
            )


def main(name, minutes):
    torch.set_num_threads(1)
    data = Squares() if name == "squares" else Digits(name)
    for kind, (kinetic, jacobian) in WEIGHTS.items():
        for found in row(data, kinetic, jacobian, 60 * minutes):
            print(json.dumps({"row": kind} | found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
