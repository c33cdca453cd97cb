"""An archive larger than memory: made block by block, then read by random windows as training reads it.

    python benchmarks/big_archive.py /tmp/big.zarr --gigabytes 20 --windows 2000

The store is Zarr, float32 and not compressed, so that it is on disk as large as it says: hourly fields of four
travelling waves plus white noise on 64x64 cells, the same numbers every time. Making and reading are two processes, and
each prints the most memory it ever held (VmHWM; getrusage would count what the process had before it became Python).
"""

import argparse
import json
import shutil
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

HOURS = 64  # fields in a chunk: 1 MB, so that a window of ten reads little that it does not want
BLOCK = 16 * HOURS
WAVES = ((1, 2, 40.0), (3, 1, -25.0), (5, 7, 11.0), (9, 4, -6.5))  # along x and y per region; period in hours


def peak():
    """The most memory this process ever held, in MB."""
    line = next(text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def block(first, count, rows, columns):
    """Fields `first` to `first + count - 1`, (count, rows, columns): waves of amplitude 1 and noise of 0.1."""
    hours = np.arange(first, first + count)
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    noise = np.random.default_rng([7, first]).standard_normal((count, rows * columns), dtype=np.float32)
    fields = np.multiply(noise, np.float32(0.1), out=noise)
    for along, up, period in WAVES:
        turn = 2 * np.pi * hours / period
        place = 2 * np.pi * (along * x / columns + up * y / rows)
        in_time = np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)
        fields += in_time @ np.stack([np.cos(place), np.sin(place)]).astype(np.float32)
    return fields.reshape(count, rows, columns)


def make(place, gigabytes, rows=64, columns=64):
    """Writes the store, whole chunks of it, at least `gigabytes` large. Gives the number of fields."""
    import zarr

    blocks = max(1, round(gigabytes * 1e9 / (BLOCK * rows * columns * 4)))
    group = zarr.create_group(str(place), zarr_format=3)
    wave = group.create_array("wave", shape=(blocks * BLOCK, rows, columns), chunks=(HOURS, rows, columns),
                              dtype="float32", compressors=None, fill_value=float("nan"),
                              dimension_names=("time", "latitude", "longitude"), attributes={"units": "1"})  # fmt: skip
    for i in range(blocks):
        wave[i * BLOCK : (i + 1) * BLOCK] = block(i * BLOCK, BLOCK, rows, columns)
    axes = {
        "time": (np.arange(blocks * BLOCK), {"units": "hours since 1900-01-01", "calendar": "360_day"}),
        "latitude": (np.linspace(45, 60, rows), {"units": "degrees_north"}),
        "longitude": (np.linspace(-10, 5, columns), {"units": "degrees_east"}),
    }
    for name, (values, about) in axes.items():
        group.create_array(name, data=values, dimension_names=(name,), attributes=about)
    return blocks * BLOCK


def read(place, windows, length):
    """Random windows through `open_archive`: what it found, how fast, and how much memory it took."""
    from framefill.climate.archive import open_archive

    imported, begin = peak(), time.perf_counter()
    archive = open_archive(place, ["wave"])
    starts = archive.starts(length)
    opened, rng = time.perf_counter() - begin, np.random.default_rng(0)
    archive.read(starts[0], length)
    ready, begin = peak(), time.perf_counter()
    square = 0.0
    for start in rng.choice(starts, windows):
        square += float(archive.read(int(start), length).values.square().mean()) / windows
    seconds = time.perf_counter() - begin
    return {"fields": len(archive), "mean_square": round(square, 3), "seconds_to_open": round(opened, 2),
            "windows_per_second": round(windows / seconds, 1), "peak_mb_imports": round(imported),
            "peak_mb_opened": round(ready), "peak_mb": round(peak())}  # fmt: skip


def process(what, queue, *inputs):
    begin = time.perf_counter()
    found = what(*inputs)
    queue.put({"found": found, "seconds": round(time.perf_counter() - begin, 1), "peak_mb": round(peak())})


def apart(what, *inputs):
    """What a function gives in a process of its own."""
    context = get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=process, args=(what, queue, *inputs))
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"{what.__name__} ended with {child.exitcode}")
    return queue.get()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("place", type=Path, help="the store; read if it is there, made and removed if it is not")
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--windows", type=int, default=2000)
    parser.add_argument("--length", type=int, default=10, help="fields of a window")
    parser.add_argument("--keep", action="store_true", help="leave the store")
    options = parser.parse_args()
    made = not options.place.exists()
    if made:
        print(json.dumps({"made": apart(make, options.place, options.gigabytes)}))
    print(json.dumps({"read": apart(read, options.place, options.windows, options.length)}))
    if made and not options.keep:
        shutil.rmtree(options.place)


if __name__ == "__main__":
    main()
