"""Bits per dimension of a small continuous flow on the 8 x 8 digits of scikit-learn: python benchmarks/flow_digits.py.

Needs the file digits.csv.gz of scikit-learn (`sklearn/datasets/data/`), given as the first argument, and minutes of
CPU time as the second. 1500 images to train (150 of them to choose when to stop), 297 to test, seed 0, 17 levels
dequantised uniformly. Prints the histogram, the Gaussian copula and the flow behind it; then the file that the first
100 test images make by the flow's likelihood, all bytes counted, decoded and compared.
"""

import copy
import gzip
import sys
import time

import numpy as np
import torch

from framefill.arrays import Rng
from framefill.codec.flow_codec import FlowCodec
from framefill.density import dequantise
from framefill.flows.cnf import CNF
from framefill.flows.maps import Chain, Marginals, Whiten
from framefill.flows.ode import Solver
from framefill.flows.trace import Exact, Rademacher
from framefill.nets.fields import DenseField


def digits(path):
    with gzip.open(path, "rt") as lines:
        values = np.loadtxt(lines, delimiter=",")[:, :64]
    order = np.random.default_rng(0).permutation(len(values))
    rows = torch.tensor(values[order], dtype=torch.float32)
    return rows[:1350], rows[1350:1500], rows[1500:]


def bits(flow, values, draws, trace, tolerance=1e-4):
    flow.trace, flow.solver = trace, Solver(rtol=tolerance, atol=tolerance)
    found = []
    with torch.no_grad():
        for draw in range(draws):
            rng = Rng.batch(draw, len(values))
            found.append(flow.bits(dequantise(values, 1.0, rng), rng=rng, width=1.0).nats)
    each = torch.stack(found).mean(0)
    return each.mean().item(), each.std().item() / len(values) ** 0.5


def train(flow, fit, hold, minutes):
    """Flow matching for half of the time, then likelihood; the averaged weights best on `hold` are kept."""
    start, step, best, kept = time.process_time(), 0, float("inf"), copy.deepcopy(flow.fields)
    rule = torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    average = torch.optim.swa_utils.AveragedModel(flow.fields, multi_avg_fn=rule)
    optimizer = torch.optim.AdamW(flow.fields.parameters(), lr=2e-3, weight_decay=0.1)
    while (spent := (time.process_time() - start) / 60) < minutes:
        matching = spent < 0.5 * minutes
        flow.trace, flow.solver = Rademacher(1), Solver("rk4", step=0.25)
        rng = Rng.batch(1, 128, step)
        rows = dequantise(fit[torch.randint(len(fit), (128,))], 1.0, rng)
        optimizer.param_groups[0]["lr"] = 2e-3 if matching else 5e-4
        optimizer.zero_grad()
        (flow.matching(rows, rng=rng) if matching else flow.loss(rows, rng=rng)).mean().backward()
        optimizer.step()
        average.update_parameters(flow.fields)
        step += 1
        if step % (1000 if matching else 50) == 0:
            now, flow.fields = flow.fields, average.module
            value, _ = bits(flow, hold, 2, Rademacher(4), 1e-3)
            flow.fields = now
            if value < best:
                best, kept = value, copy.deepcopy(average.module)
            print(f"step {step}, {60 * spent:.0f} s: held out {value:.3f}", flush=True)
    flow.fields = kept


def coded(flow, marginals, values):
    """The size of a file against the likelihood of what is in it; what follows the first ten needs no bits to begin."""
    wanted, _ = bits(flow, values, 4, Exact(), 1e-4)
    codec, levels = FlowCodec(flow, marginals, width=0.15), values.long().numpy()
    data = codec.encode(levels)
    begun = len(codec.encode(levels[:10]))
    assert (codec.decode(data) == levels).all()
    whole, rest = 8 * len(data) / levels.size, 8 * (len(data) - begun) / levels[10:].size
    return (
        f"{len(levels)} images, flow {wanted:.3f}: file of {len(data)} bytes, {whole:.3f} bits per dimension "
        f"({100 * (whole / wanted - 1):+.1f} %), exact; from the eleventh on {rest:.3f}, where the flow has "
        f"{bits(flow, values[10:], 4, Exact(), 1e-4)[0]:.3f}"
    )


def main(path, minutes):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    fit, hold, test = digits(path)
    marginals = Marginals.fit(fit, 17)
    print("histogram {:.3f} +- {:.3f}".format(*bits(CNF([Still()], before=marginals), test, 4, Exact())))
    many = torch.cat([marginals(dequantise(fit, 1.0, Rng.batch(k, len(fit), 5)))[0] for k in range(8)])
    before = Chain([marginals, Whiten.fit(many)])
    print("Gaussian copula {:.3f} +- {:.3f}".format(*bits(CNF([Still()], before=before), test, 4, Exact())))
    flow = CNF([DenseField(64, hidden=(256, 256))], before=before)
    train(flow, fit, hold, minutes)
    print("flow {:.3f} +- {:.3f}".format(*bits(flow, test, 4, Exact(), 1e-5)), flush=True)
    print(coded(flow, marginals, test[:100]))


class Still(torch.nn.Module):
    """The field of a flow that leaves everything where it is."""

    def forward(self, t, v, cond):
        return 0 * v


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
