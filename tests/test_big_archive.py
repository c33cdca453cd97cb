"""A record larger than memory: what random windows of it cost does not grow with it."""

import resource
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("zarr", reason="the climate extra is not installed")

from children import context

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import big_archive

LIMIT = 2_000_000_000  # bytes of data that the reading process may have


def read_all(places, queue):
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    queue.put([big_archive.read(place, 30, 10) for place in places])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured by Linux's /proc")
def test_memory_does_not_grow_with_the_archive(tmp_path):
    places = [tmp_path / "small.zarr", tmp_path / "large.zarr"]
    fields = [big_archive.make(place, size) for place, size in zip(places, (0.02, 0.2), strict=True)]
    assert sum(f.stat().st_size for f in places[1].rglob("*") if f.is_file()) == pytest.approx(0.2e9, rel=0.05)
    queue = context.Queue()
    reader = context.Process(target=read_all, args=(places, queue))
    reader.start()
    small, large = queue.get(timeout=120)
    reader.join()
    assert [small["fields"], large["fields"]] == fields
    assert large["peak_mb"] < small["peak_mb"] + 40  # of 180 MB more
    for found in (small, large):  # four waves of amplitude 1 and noise of 0.1
        assert found["mean_square"] == pytest.approx(4 / 2 + 0.1**2, abs=0.01)


def test_a_block_is_the_same_every_time_and_waves_go_on_across_blocks():
    whole, half = big_archive.block(0, 40, 8, 8), big_archive.block(20, 20, 8, 8)
    assert np.array_equal(big_archive.block(20, 20, 8, 8), half)
    assert (whole[20:] - half).std() == pytest.approx(0.1 * 2**0.5, rel=0.1)  # the noise alone is of the block
