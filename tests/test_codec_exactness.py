"""The same symbols and the same bytes whatever the instruction set, thread count, library or container."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

import codec_worker

HERE = Path(__file__).parent


def under(folder: Path, capability: str, threads: int, onednn: int) -> dict:
    """The worker's words under these settings."""
    import framefill

    isa = {"default": "SSE41", "avx2": "AVX2", "avx512": "DEFAULT"}[capability]
    settings = {
        "ATEN_CPU_CAPABILITY": capability, "DNNL_MAX_CPU_ISA": isa, "FRAMEFILL_TEST_ONEDNN": str(onednn),
        "MKL_CBWR": "COMPATIBLE" if capability == "default" else "AUTO", "MKL_NUM_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": os.pathsep.join([str(Path(framefill.__file__).parents[1]), str(HERE)]),
    }  # fmt: skip
    made = subprocess.run(
        [sys.executable, str(HERE / "codec_worker.py"), str(folder)],
        env=os.environ | settings, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-2000:]
    return json.loads(made.stdout)


def test_another_instruction_set_and_thread_count_decode_the_same(tmp_path):
    codec_worker.reference(tmp_path, batches=4, samples=2)
    found = under(tmp_path, "default", 2, 0)
    assert (found["same"], found["total"]) == (8, 8)
    assert found["capability"].lower() in ("default", "no avx")


@pytest.mark.slow
def test_500_pairs_under_18_settings_agree(tmp_path):
    """And an ordinary float network does not: the settings are different indeed."""
    codec_worker.reference(tmp_path, batches=14, samples=2)
    settings = list(product(("default", "avx2", "avx512"), (1, 2, 4), (0, 1)))
    found = [under(tmp_path, *setting) for setting in settings]
    pairs, same = sum(f["total"] for f in found), sum(f["same"] for f in found)
    kinds = len({f["floats"] for f in found})
    print(f"{same} of {pairs} pairs agree; {kinds} different results of a float network")
    assert same == pairs >= 500
    assert kinds > 1
