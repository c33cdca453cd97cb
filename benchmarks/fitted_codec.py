"""A codec fitted to one kind of picture beside general ones: bits per pixel at equal SSIMULACRA2 and PSNR.

    framefill fit faces -o mine.safetensors --budget 20m
    python benchmarks/fitted_codec.py --pictures faces/test --codec photos mine.safetensors

Files are counted whole, with their headers: small pictures are where these weigh. Grey pictures are given as grey.
"""

import argparse
import io
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rate_distortion_codecs import jpeg_xl

from framefill import codecs
from framefill.codec.pictures import Picture
from framefill.metrics.image import psnr
from framefill.metrics.rates import bits_per_pixel, rate_at
from framefill.metrics.ssimulacra2 import ssimulacra2

QUALITIES = (1, 4, 8, 14, 22, 32, 45, 60, 75, 88)
MARKS = {"SSIMULACRA2": (60.0, 70.0, 80.0), "PSNR": (26.0, 28.0, 30.0)}


def read(path):
    """uint8 (H, W, 1) where the picture is grey, otherwise (H, W, 3)."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return pixels[..., :1] if (pixels == pixels[..., :1]).all() else pixels


def pillow(kind, **options):
    def code(picture, quality):
        file = io.BytesIO()
        Image.fromarray(picture.squeeze(-1) if picture.shape[2] == 1 else picture).save(
            file, kind, quality=quality, **options
        )
        return len(file.getvalue()), np.asarray(Image.open(file).convert("RGB"))

    return code


def ours(codec):
    def code(picture, quality):
        data = codec.compress(Picture(picture), quality=quality)
        return len(data), np.broadcast_to(codec.decompress(data).pixels, (*picture.shape[:2], 3))

    return code


def jxl(picture, quality):
    data, made = jpeg_xl(np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3))), quality)
    return len(data), made


def floats(pixels):
    return torch.from_numpy(pixels.copy()).movedim(-1, 0)[None].float() / 127.5 - 1


def curve(code, settings, pictures):
    """(bits per pixel, mean SSIMULACRA2, mean PSNR) of every setting."""
    rows = []
    for setting in settings:
        found = [code(picture, setting) for picture in pictures]
        truth = [np.broadcast_to(p, (*p.shape[:2], 3)) for p in pictures]
        similar = [float(ssimulacra2(floats(m), floats(t))) for (_, m), t in zip(found, truth, strict=True)]
        errors = [float(psnr(m[None], t[None]).mean()) for (_, m), t in zip(found, truth, strict=True)]
        pixels = sum(p.shape[0] * p.shape[1] for p in pictures)
        rows.append((bits_per_pixel(sum(n for n, _ in found), pixels), np.mean(similar), np.mean(errors)))
    return np.array(sorted(rows))


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--pictures", type=Path, required=True)
    words.add_argument("--codec", nargs="+", required=True)
    given = words.parse_args()
    torch.set_num_threads(1)
    pictures = [read(path) for path in sorted(given.pictures.iterdir()) if path.suffix.lower() in (".png", ".jpg")]
    ways = {
        "JPEG": (pillow("jpeg", optimize=True, progressive=True), QUALITIES),
        "WebP": (pillow("webp", method=6), QUALITIES),
        "AVIF": (pillow("avif", speed=4, max_threads=1), QUALITIES),
    }
    if shutil.which("cjxl"):
        ways["JPEG XL"] = jxl, QUALITIES[2:]
    for name in given.codec:
        codec = codecs.codec(name)
        ways[f"ours, {Path(name).stem}"] = ours(codec), range(codec.model.qualities)
    print(f"{len(pictures)} pictures of {given.pictures}; bits per pixel at equal mean score")
    print("| | " + " | ".join(f"{kind} {mark:g}" for kind, marks in MARKS.items() for mark in marks) + " |")
    print("|---" * (1 + sum(map(len, MARKS.values()))) + "|")
    for name, (code, settings) in ways.items():
        rows = curve(code, settings, pictures)
        cells = [
            rate_at(rows[:, 0].tolist(), rows[:, column].tolist(), mark)
            for column, marks in enumerate(MARKS.values(), 1)
            for mark in marks
        ]
        print(f"| {name} | " + " | ".join("-" if not np.isfinite(c) else f"{c:.3f}" for c in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
