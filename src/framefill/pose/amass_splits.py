"""Which of AMASS's data sets train, validate and test: the split that its authors recommend, by folder names.

From the README of github.com/nghorbani/amass (Mahmood et al., ICCV 2019), which calls BioMotionLab_NTroje "BML". Later
data sets of AMASS are in no published split.
"""

import difflib
from collections.abc import Mapping

from framefill.errors import BadInput

SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("CMU", "MPI_Limits", "TotalCapture", "Eyes_Japan_Dataset", "KIT", "BioMotionLab_NTroje", "EKUT",
              "TCD_handMocap", "ACCAD"),
    "validation": ("HumanEva", "MPI_HDM05", "SFU", "MPI_mosh"),
    "test": ("Transitions_mocap", "SSM_synced"),
}  # fmt: skip


def split_of(name: str) -> str:
    """The split of a data set. Raises BadInput that lists the nearest names."""
    for split, names in SPLITS.items():
        if name in names:
            return split
    known = [one for names in SPLITS.values() for one in names]
    near = difflib.get_close_matches(name, known, 3, 0.3) or known
    raise BadInput(f"AMASS's published split has no {name!r}; the nearest are {', '.join(near)}")
