"""What a picture codec costs: seconds, bytes of format, how well lengths are foretold, and memory at any size.

    python benchmarks/codec_costs.py --codec photos --pictures kodak
    python benchmarks/codec_costs.py --codec photos --pictures kodak --large 8000

Pictures are cut to 512x512 about their middle. Seconds: the third call on the first of them, wall and, beside it, CPU
(the wall says little where other work runs), by threads. Lengths: what the entropy model says that the symbols cost,
against the messages in the file; bytes of format are the rest of the file. `--large N`: a picture of N x N made of the
pictures at twice their size, compressed and decompressed by the command line in processes of their own, one thread;
each tells the most memory it ever held (VmHWM, as in big_archive.py) and its CPU seconds. Seams: how far the error
jumps from one column or row to the next, in levels, mean over both: where tiles melt, elsewhere, and at the edges of
8x8 blocks; the first two without these edges.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from big_archive import peak
from distillation import SUFFIXES, middle
from PIL import Image
from rate_distortion import signed

from framefill import codecs
from framefill.cli import main as command
from framefill.codec import coder
from framefill.codec.container import unpack
from framefill.codec.header import Limits
from framefill.codec.pictures import Picture
from framefill.latents.tiles import spans

SIDE = 512
CALLS = 3
ENLARGED = 1536, 1024


def main():
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--codec", default="photos")
    words.add_argument("--pictures", type=Path, required=True)
    words.add_argument("--limit", type=int, help="the first so many pictures only")
    words.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    words.add_argument("--quality", type=int, default=3, help="of what is timed, and of the large picture")
    words.add_argument("--qualities", type=int, nargs="+", default=(1, 4), help="of the files whose length is compared")
    words.add_argument("--large", type=int, help="sides of a large picture, instead of all else")
    given = words.parse_args()
    paths = sorted(p for p in given.pictures.iterdir() if p.suffix.lower() in SUFFIXES)[: given.limit]
    codec = codecs.codec(given.codec)
    engine = "constriction" if coder.native() else "Python"
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, entropy coding by {engine}; "
          f"codec {given.codec}, {len(paths)} pictures of {given.pictures}\n")  # fmt: skip
    if given.large:
        large(codec, given.codec, paths, given.large, given.quality)
        return
    pictures = [middle(np.asarray(Image.open(path).convert("RGB")), SIDE) for path in paths]
    print(speed_table(codec, pictures[0], given.quality, given.threads), flush=True)
    torch.set_num_threads(1)
    print("\n" + lengths_table([lengths(codec, p, q) for q in given.qualities for p in pictures]))


def timed(work):
    """What the third call gives, its seconds of the wall and of the CPU."""
    for _ in range(CALLS):
        wall, busy = time.perf_counter(), time.process_time()
        found = work()
        spent = time.perf_counter() - wall, time.process_time() - busy
    return found, *spent


def speed_table(codec, picture, quality, threads):
    size = "x".join(map(str, picture.shape[:2]))
    lines = [f"| {size}, quality {quality}, wall (CPU) s | compress | faithful | 4 steps |", "|---|---|---|---|"]
    for count in threads:
        torch.set_num_threads(count)
        file, *compressed = timed(partial(codec.compress, Picture(picture), quality=quality))
        cells = [compressed, *(timed(partial(codec.decompress, file, steps=steps))[1:] for steps in (0, 4))]
        lines.append(f"| {count} thread(s) | " + " | ".join(f"{wall:.2f} ({busy:.2f})" for wall, busy in cells) + " |")
    return "\n".join(lines)


@torch.inference_mode()
def lengths(codec, picture, quality):
    """Quality, estimated bits, bits of the messages, bytes of the file; a picture of one tile and one part."""
    told = torch.tensor([quality])
    file = codec.compress(Picture(picture), quality=quality)
    chunks = unpack(file, limits=Limits()).chunks
    symbols = codec.model.symbols(signed(picture), told)
    entropy = codec.model.entropy
    if list(chunks) not in (entropy.encode(symbols, told)[0], entropy.joined().encode(symbols, told)[0]):
        raise SystemExit(f"the file has other symbols: cut pictures to one tile, not {picture.shape[:2]}")
    return quality, float(entropy.bits(symbols, told)), 8 * sum(map(len, chunks)), len(file)


def lengths_table(rows):
    head = "| quality | files | bytes of a file | estimated bits | written bits | longer | bytes of format |"
    lines = [head, "|---" * 7 + "|"]
    qualities = sorted({row[0] for row in rows})
    for name, own in [*((str(q), [r for r in rows if r[0] == q]) for q in qualities), ("all", rows)]:
        estimated, written, size = (sum(row[k] for row in own) for k in (1, 2, 3))
        lines.append(
            f"| {name} | {len(own)} | {size / len(own):,.0f} | {estimated:,.0f} | {written:,} | "
            f"{100 * (written / estimated - 1):+.3f} % | {(size - written / 8) / len(own):.1f} |"
        )
    return "\n".join(lines)


def child(words):
    """One verb of the command line; the last line printed is the process's peak and CPU seconds."""
    sys.argv = ["framefill", *words]
    try:
        command()
    except SystemExit as error:
        if error.code:
            raise
    print(json.dumps({"MB": peak(), "seconds": time.process_time()}))


def large(codec, name, paths, side, quality):
    with TemporaryDirectory() as root:
        truth, packed, back = (Path(root) / file for file in ("truth.png", "packed.ffc", "back.png"))
        pasted(paths, side).save(truth, compress_level=1)
        verbs = {
            "compress": [truth, "-o", packed, "-q", quality, "-m", name],
            "decompress": [packed, "-o", back, "-m", name],
        }
        for verb, words in verbs.items():
            told = run([verb, *map(str, words)])
            print(f"{side}x{side}, {verb}: {told['MB']:.0f} MB at most, {told['seconds']:.0f} CPU-s", flush=True)
        print(f"{8 * packed.stat().st_size / side**2:.3f} bits per pixel")
        kinds = seams(codec, *(np.asarray(Image.open(file)) for file in (truth, back)))
    print("the error jumps by " + ", ".join(f"{jump:.2f} levels {kind}" for kind, jump in kinds.items()))


def run(words):
    """A verb in a process of its own."""
    command_line = [sys.executable, __file__, "--child", *words, "--device", "cpu"]
    done = subprocess.run(command_line, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"framefill {' '.join(words)} failed")
    return json.loads(done.stdout.splitlines()[-1])


def pasted(paths, side):
    """A picture of side x side, the pictures at twice their size beside and below one another."""
    pictures = [Image.open(path).convert("RGB") for path in paths]
    pictures = [p if p.width > p.height else p.rotate(90, expand=True) for p in pictures]
    page, number = Image.new("RGB", (side, side)), 0
    for top in range(0, side, ENLARGED[1]):
        for left in range(0, side, ENLARGED[0]):
            page.paste(pictures[number % len(pictures)].resize(ENLARGED), (left, top))
            number += 1
    return page


def seams(codec, truth, made):
    """Mean jumps of the error in levels, where tiles melt, elsewhere and at edges of blocks, over rows and columns."""
    found = {}
    for a, b in ((truth, made), (truth.swapaxes(0, 1), made.swapaxes(0, 1))):
        sizes = jumps(a, b)
        for kind, chosen in places(codec, a.shape[1]).items():
            found.setdefault(kind, []).extend([sizes[chosen].mean()] if chosen.any() else [])
    return {kind: float(np.mean(both)) for kind, both in found.items() if both}


def jumps(truth, made, *, rows=256):
    """Mean size (W - 1,) of the error's difference between column x and column x + 1, band by band."""
    total = np.zeros(truth.shape[1] - 1)
    for top in range(0, len(truth), rows):
        error = made[top : top + rows].astype(np.int16) - truth[top : top + rows]
        total += np.abs(np.diff(error, axis=1)).sum((0, 2))
    return total / (truth.shape[0] * truth.shape[2])


def places(codec, width):
    """Which of the jumps (width - 1,) are of what kind."""
    stride = codec.model.stride
    x = np.arange(1, width)  # of the column behind the jump
    melting = np.zeros(width - 1, bool)
    across = spans(-(-width // stride), tile=codec.tile, halo=codec.halo, fade=codec.fade)
    for one, after in pairwise(across):
        melting |= (x >= stride * (after.start + after.before)) & (x <= stride * (one.stop - one.after))
    edges = x % stride == 0
    return {"where tiles melt": melting & ~edges, "elsewhere": ~melting & ~edges, "at edges of blocks": edges}


if __name__ == "__main__":
    main()
