"""What a few stations are worth: a forecast of ten years, with and without some cells observed in each of them.

    pip install --no-deps iris-sample-data==2.5.2
    python benchmarks/climate_observed.py --share 0.05

HadCM3 annual temperatures of scenario A1B after 1999, which training of the shipped model did not see. The same random
cells are known in all ten years, without error; scores are the fair CRPS over all other cells, weighted by area, with
95 % intervals over starts (paired, in blocks as long as the window). Members of both are drawn from the same seeds.
"""

import argparse
import sys

import numpy as np
import torch

from framefill import checkpoint
from framefill.climate.archive import open_archive
from framefill.climate.samples import A1B
from framefill.metrics.distribution import bootstrap
from framefill.metrics.forecast import average, crps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="hadcm3")
    parser.add_argument("--share", type=float, default=0.05, help="of the cells that are observed")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--every", type=int, default=6, help="years from one start to the next")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    emulator = checkpoint.load(options.model)
    archive = open_archive(A1B.find(), ["air_temperature"], like=emulator.spec)
    first, ahead = archive.times[0].year, emulator.current
    starts = [y - first for y in range(2000, 2100 - ahead, options.every)]
    seen = np.random.default_rng(options.seed).random(emulator.spec.grid.shape) < options.share
    weights = np.where(seen, 0, emulator.spec.grid.weights)
    rows = []
    for i, start in enumerate(starts):
        print(f"{i + 1} of {len(starts)}", end="\r", file=sys.stderr)
        record = archive.read(start - emulator.trend + 1, emulator.trend + ahead).values[0]
        known = record.clone()
        known[emulator.trend :] = torch.nan
        observed = known.clone()
        observed[emulator.trend :, :, torch.from_numpy(seen)] = record[emulator.trend :, :, torch.from_numpy(seen)]
        truth = record[emulator.trend :, 0].numpy()
        rows.append([
            [average(crps(made[:, t], truth[t]), weights) for t in range(ahead)]
            for made in (
                emulator.members(given, options.members, seed=options.seed + start)[:, emulator.trend :, 0].numpy()
                for given in (observed, known)
            )
        ])  # fmt: skip
    scores = np.array(rows)  # starts, with or without, leads
    block = max(1, -(-ahead // options.every))
    print(f"{int(seen.sum())} of {seen.size} cells observed, {len(starts)} starts, {options.members} members, "
          f"seed {options.seed}, {emulator.sampler}")  # fmt: skip
    for name, leads in (("1 year", [0]), ("5 years", [4]), ("10 years", [9]), ("all", range(ahead))):
        with_them, without = scores[:, 0, leads].mean(1), scores[:, 1, leads].mean(1)

        def percent(a, b):
            return float(100 * (a.mean() / b.mean() - 1))

        cut = bootstrap(percent, with_them, without, rounds=2000, paired=True, block=block)
        print(f"{name:9} CRPS {with_them.mean():.3f} K with, {without.mean():.3f} K without: "
              f"{cut.value:+.1f} % [{cut.low:+.1f}, {cut.high:+.1f}]")  # fmt: skip


if __name__ == "__main__":
    main()
