"""Real fields that a package on PyPI carries: annual air temperature of HadCM3 over North America, 1860 to 2099.

Two scenarios of emissions, A1B and E1, on 37x49 cells in a calendar of 360 days (Met Office, Open Government Licence).
Until 1999 they are one and the same run, bit for bit.
"""

from pathlib import Path

from framefill.features.packages import DataFile


def _scenario(name: str, sha256: str) -> DataFile:
    inside = f"iris_sample_data/sample_data/{name}_north_america.nc"
    return DataFile(f"The temperatures of scenario {name}", "iris-sample-data", "2.5.2", inside, sha256)


A1B = _scenario("A1B", "5f728a78bfc2d2503e26ab6faab82c23313eefd56bfae244ccc04b9d41b71816")
E1 = _scenario("E1", "f6124a1a745dfc016a383cb1b95b74378f078664edc86cd2a67672c2b49e9567")
LICENSE = "Open Government Licence; Met Office, HadCM3, through iris-sample-data 2.5.2"
HADCM3 = "hadcm3"


def place_of(data: str | Path) -> str | Path:
    """Where a record is: the word "hadcm3" is scenario A1B in its package, everything else a place."""
    return A1B.find() if str(data) == HADCM3 else data
