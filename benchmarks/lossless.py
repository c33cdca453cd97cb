"""Bytes of photographs without loss: `framefill compress --max-error 0`, PNG, WebP and JPEG XL, each read back.

    pip install imagecodecs                       # for JPEG XL; without it: "not installed"
    python benchmarks/lossless.py --pictures kodak

PNG: Pillow's, optimised, level 9. WebP: Pillow's, method 6, exact. JPEG XL: libjxl through imagecodecs at effort 7, one
thread. Ours: a file of the default quality with the residual that a bound of 0 asks for, counted whole, and that of the
lowest quality: the symbols of the network are in it too, though lossless files do not lean on them. CPU-s/Mpx: there
and back. What is not the same picture again ends the run.
"""

import argparse
import io
import platform
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image

from framefill import codecs
from framefill.codec.pictures import Picture

SUFFIXES = (".png", ".webp", ".bmp", ".tif")


def pillow(kind, **options):
    def code(picture):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, kind, **options)
        return file.tell(), np.asarray(Image.open(file).convert("RGB"))

    return code


def jpeg_xl(picture):
    imagecodecs = import_module("imagecodecs")
    stream = imagecodecs.jpegxl_encode(picture, lossless=True, effort=7, numthreads=1)
    return len(stream), imagecodecs.jpegxl_decode(stream)


def ours(name, quality=None):
    codec = codecs.codec(name)

    def code(picture):
        data = codec.compress(Picture(picture), quality=quality, max_error=0)
        return len(data), codec.decompress(data).pixels

    return code


def measured(code, pictures):
    """Bytes of all pictures and CPU seconds for a megapixel; SystemExit where one comes back otherwise."""
    total, start = 0, time.process_time()
    for number, picture in enumerate(pictures):
        size, back = code(picture)
        if not np.array_equal(back, picture):
            raise SystemExit(f"picture {number} did not come back the same")
        total += size
    return total, (time.process_time() - start) / sum(p.shape[0] * p.shape[1] for p in pictures) * 1e6


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--pictures", type=Path, required=True)
    words.add_argument("--codec", default="photos")
    words.add_argument("--limit", type=int, help="the first so many pictures only")
    given = words.parse_args()
    torch.set_num_threads(1)
    paths = sorted(p for p in given.pictures.iterdir() if p.suffix.lower() in SUFFIXES)[: given.limit]
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    samples = sum(picture.size for picture in pictures)
    ways = {
        "PNG": pillow("png", optimize=True, compress_level=9),
        "WebP": pillow("webp", lossless=True, method=6, quality=100, exact=True),
        "JPEG XL": jpeg_xl,
        "ours, default quality": ours(given.codec),
        "ours, quality 0": ours(given.codec, 0),
    }
    print(f"{platform.machine()}, 1 thread, Pillow {PIL.__version__}; {len(pictures)} pictures of {given.pictures}, "
          f"{samples / 3e6:.2f} Mpx\n\n| codec | bytes | bits per sample | CPU-s/Mpx |\n|---|---|---|---|")  # fmt: skip
    for name, code in ways.items():
        try:
            total, seconds = measured(code, pictures)
        except ImportError:
            print(f"| {name} | not installed | | |")
            continue
        print(f"| {name} | {total:,} | {8 * total / samples:.3f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
