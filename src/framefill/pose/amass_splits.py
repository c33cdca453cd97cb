"""Which of AMASS's data sets train, validate and test: the split that its authors recommend, by folder names.

From the README of github.com/nghorbani/amass (Mahmood et al., ICCV 2019), which calls BioMotionLab_NTroje "BML". Later
data sets of AMASS are in no published split.
"""

import difflib
from collections import Counter
from collections.abc import Mapping

SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("CMU", "MPI_Limits", "TotalCapture", "Eyes_Japan_Dataset", "KIT", "BioMotionLab_NTroje", "EKUT",
              "TCD_handMocap", "ACCAD"),
    "validation": ("HumanEva", "MPI_HDM05", "SFU", "MPI_mosh"),
    "test": ("Transitions_mocap", "SSM_synced"),
}  # fmt: skip


NAMES = tuple(name for names in SPLITS.values() for name in names)
TOLD = 5  # names that a line lists


def split_of(name: str) -> str | None:
    """The split of a data set; None of one that is in none."""
    return next((split for split, names in SPLITS.items() if name in names), None)


def left_out(names: Counter[str]) -> str:
    """A line on data sets that are in no split: how many files each has, and which name is near; else nothing."""
    if not names:
        return ""
    listed = [f"{_near(name)}, {count} file{'s' * (count > 1)}" for name, count in names.most_common(TOLD)]
    more = f"; and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return f"left out, for AMASS's published split has none of that name: {'; '.join(listed)}{more}"


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, NAMES, 1, 0.6)
    return f"{name[:80]!r}" + (f" (the nearest is {near[0]})" if near else "")
