"""Forecasts without a network on the HadCM3 temperatures of iris-sample-data: the figures a network has to beat.

    pip install --no-deps iris-sample-data==2.5.2
    python benchmarks/climate_baselines.py

Annual mean air temperature over North America, 37x49 cells, years of 360 days. A1B and E1 are one run until 1999, so
training ends there. Forecasts start from 2000, 2003, ..., 2087, all that have a truth ten years later, each from the
years up to its start; 30 members. Scores are weighted by the areas of the cells. The file has no bounds: the cells'
edges are midway between centres. The reference figures are those of scenario A1B. "30-year trend" is a line through 31
fields, which span thirty years.
"""

import argparse
from pathlib import Path

from framefill.climate.archive import open_archive
from framefill.climate.baselines import BASELINES
from framefill.climate.samples import A1B, E1
from framefill.climate.scores import hindcast, score, truth

LEADS = (1, 5, 10)
REFERENCE = {
    "persistence": ((0.436, 0.500, 0.551), None),
    "trend with AR(1)": ((0.362, 0.407, 0.443), None),
    "trend with residual bootstrap": ((0.367, 0.398, 0.439), (0.482, 0.527, 0.568)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the two files are, if the package is not installed")
    parser.add_argument("--members", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, file in (("A1B", A1B), ("E1", E1)):
        place = file.find(options.folder and options.folder / Path(file.inside).name)
        archive = open_archive(place, ["air_temperature"])
        record = archive.read(0, len(archive)).values[0, :, 0].double().numpy()
        first = archive.times[0].year
        report(name, record, [y - first for y in range(2000, 2090, 3)], archive.spec.grid.weights, options)


def report(name, record, starts, weights, options):
    print(f"{name}: {len(starts)} starts, {options.members} members, fair CRPS and energy score in K, 95 % interval")
    happened = truth(record, starts, LEADS)
    for method, baseline in BASELINES.items():
        made = hindcast(baseline, record, starts, LEADS, members=options.members, seed=options.seed)
        scores = [score(made[:, :, i], happened[:, i], lead, weights, spacing=3) for i, lead in enumerate(LEADS)]
        print(f"  {method}")
        for kind in ("crps", "energy", "rmse", "bias", "spread_skill"):
            values = [getattr(s, kind) for s in scores]
            print(f"    {kind:13}", "   ".join(f"{v.value:6.3f} ({v.low:.3f}..{v.high:.3f})" for v in values))
        for kind, wanted in zip(("crps", "energy"), REFERENCE.get(method, (None, None)), strict=True):
            if wanted and name == "A1B":
                off = [getattr(s, kind).value - w for s, w in zip(scores, wanted, strict=True)]
                print(f"    {kind} less the reference", " ".join(f"{d:+.4f}" for d in off))


if __name__ == "__main__":
    main()
