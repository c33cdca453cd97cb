"""Forecasts without a network on the HadCM3 temperatures of iris-sample-data: the figures a network has to beat.

    pip install --no-deps iris-sample-data==2.5.2
    python benchmarks/climate_baselines.py --pictures pictures

Annual mean air temperature over North America, 37x49 cells, years of 360 days. A1B and E1 are one run until 1999, so
training ends there. Forecasts start from 2000, 2003, ..., 2087, all that have a truth ten years later, each from the
years up to its start; 30 members. Scores are weighted by the areas of the cells. The file has no bounds: the cells'
edges are midway between centres. The reference figures are those of scenario A1B. "30-year trend" is a line through 31
fields, which span thirty years. Each baseline is verified as a model would be; the first is compared with the others.
Spectra are those of departures from the mean of 1970 to 1999.
"""

import argparse
from pathlib import Path

import torch

from framefill.climate.archive import open_archive
from framefill.climate.baselines import BASELINES
from framefill.climate.samples import A1B, E1
from framefill.climate.scores import hindcast, truth
from framefill.climate.statistics import lines
from framefill.climate.tables import as_text
from framefill.climate.verification import Hindcasts, verify
from framefill.evaluate.fields import write_report

LEADS = (1, 5, 10)
FIRST = "trend with residual bootstrap"
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
    parser.add_argument("--pictures", type=Path, help="write report.html, result.json and pictures to this folder")
    options = parser.parse_args()
    for name, file in (("A1B", A1B), ("E1", E1)):
        place = file.find(options.folder and options.folder / Path(file.inside).name)
        found = hindcasts(open_archive(place, ["air_temperature"]), options)
        verification = verify(found)
        print(f"{name}\n{as_text(verification)}\n")
        if name == "A1B":
            compare(verification)
            centuries(place)
        if options.pictures:
            card = {"scenario": name, "members": options.members, "seed": options.seed, "methods": list(found.made)}
            print(write_report(found, verification, options.pictures / name, card=card), end="\n\n")


def hindcasts(archive, options):
    record = archive.read(0, len(archive)).values[0, :, 0].double().numpy()
    first, years = archive.times[0].year, range(2000, 2090, 3)
    starts = [year - first for year in years]
    methods = {FIRST: BASELINES[FIRST], **BASELINES}
    made = {
        name: hindcast(baseline, record, starts, LEADS, members=options.members, seed=options.seed)
        for name, baseline in methods.items()
    }
    normal = record[1970 - first : 2000 - first].mean(axis=0)
    return Hindcasts("air_temperature", archive.spec.variables[0].unit, archive.spec.grid, tuple(map(str, years)),
                     LEADS, "years", truth(record, starts, LEADS), made, spacing=3, normal=normal)  # fmt: skip


def centuries(place):
    """How far a line through 31 years misses, before 2000, which training sees, and after: K, cells alike."""
    with open_archive(place, ["air_temperature"]) as archive:
        record, first = archive.read(0, len(archive)).values[0, :, 0].double(), archive.times[0].year
    for said, years in (("1890 to 1989", range(1890, 1990)), ("2000 to 2087", range(2000, 2090, 3))):
        starts = [y - first for y in years]
        past = torch.stack([record[s - 30 : s + 1] for s in starts])
        missed = torch.stack([record[s + 1 : s + 11] for s in starts]) - lines(past, 10, first=31)
        print(f"errors of the line from {said}:", " ".join(f"{missed[:, lead - 1].std():.2f}" for lead in LEADS), "K")


def compare(verification):
    for method, wanted in REFERENCE.items():
        scores = verification.methods[method].scores
        for kind, values in zip(("crps", "energy"), wanted, strict=True):
            if values:
                off = [getattr(s, kind).value - w for s, w in zip(scores, values, strict=True)]
                print(f"{method}: {kind} less the reference", " ".join(f"{d:+.4f}" for d in off))
    print()


if __name__ == "__main__":
    main()
