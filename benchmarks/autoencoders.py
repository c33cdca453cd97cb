"""What autoencoders keep of pictures they have not seen: one table, a sheet to look at.

    python benchmarks/autoencoders.py runs/ae-f4 runs/ae-f8 runs/ae-f16 --pictures kodak -o autoencoders

A model is a run folder, a model file, the name of a shipped one, or a folder of diffusers. Beside them: JPEG as small
as it gets, and for every stride the plain means of its blocks, 24 bits each, resized back: what needs no network.

PSNR of a picture, SSIM, and the perceptual distance that training uses (EfficientNet-Lite0, not LPIPS): means over the
pictures with 95 % intervals, bootstrap over pictures. Colour is the mean of the reconstruction less that of the truth
in grey levels: over all pictures, where signs cancel, for the channel where it is largest; then the size of it in the
worst channel of a picture, as a mean over pictures ("tint") and for the worst of them.
Codes: the share used at all, and the perplexity, over all pictures. Bits: log2 of the codes, per pixel. Seconds: of
processor time on one thread, there and back.
"""

import argparse
import json
import math
import platform
import time
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import framefill
from framefill.features.perceptual import lite0_distance
from framefill.latents import published
from framefill.latents.pictures import PictureCoder
from framefill.latents.quantiser import perplexity
from framefill.latents.vqgan import VQGAN
from framefill.metrics.distribution import bootstrap
from framefill.metrics.image import mean_colour, psnr, ssim
from framefill.video.clip import tensor

SUFFIXES = (".png", ".jpg", ".webp", ".bmp", ".tif")
ROUNDS = 1000


@dataclass(frozen=True)
class Way:
    """One way there and back: what came back of every picture, seconds in all, bits per pixel, words if it has any."""

    name: str
    made: list[np.ndarray]
    seconds: float = math.nan
    bits: float = math.nan
    counts: np.ndarray | None = None


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("models", nargs="+")
    words.add_argument("--pictures", type=Path, required=True)
    words.add_argument("-o", "--output", type=Path)
    words.add_argument("--tile", type=int, help="latents along a tile, instead of the coder's own")
    words.add_argument("--limit", type=int, help="the first so many pictures only")
    given = words.parse_args()
    torch.set_num_threads(1)
    paths = sorted(p for p in given.pictures.iterdir() if p.suffix.lower() in SUFFIXES)[: given.limit]
    truth = [np.asarray(Image.open(p).convert("RGB")) for p in paths]
    coders = {Path(name).name: coder(name, given.tile) for name in given.models}
    ways = [coded(name, made, truth) for name, made in coders.items()]
    strides = sorted({made.autoencoder.stride for made in coders.values()})
    ways += [means(truth, stride) for stride in strides] + [jpeg(truth)]
    rows = {way.name: scores(way, truth) for way in ways}
    print(f"{platform.machine()}, 1 thread, torch {torch.__version__}; {len(truth)} pictures of {given.pictures}\n")
    print(table(rows))
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
        (given.output / "table.json").write_text(json.dumps(rows, indent=1))
        sheet(truth, ways[: len(coders)]).save(given.output / "autoencoders.png", optimize=True)


def coder(name, tile):
    """The model as something that codes pictures."""
    of_diffusers = (Path(name) / published.WEIGHTS).is_file()
    found = PictureCoder(published.load(name)) if of_diffusers else framefill.load(name)
    return replace(found, tile=tile) if tile else found


def coded(name, made, truth):
    start = time.process_time()
    pictures = [made.reconstruct(picture[None])[0] for picture in truth]
    seconds = time.process_time() - start
    autoencoder = made.autoencoder
    if not isinstance(autoencoder, VQGAN):
        return Way(name, pictures, seconds)
    size = autoencoder.quantiser.size
    used = sum(np.bincount(made.words(picture[None]).ravel(), minlength=size) for picture in truth)
    return Way(name, pictures, seconds, math.log2(size) / autoencoder.stride**2, used)


def means(truth, stride):
    """The means of blocks of `stride` pixels, resized by cubic splines."""
    made = []
    for picture in truth:
        H, W = picture.shape[:2]
        small = Image.fromarray(picture).resize((-(-W // stride), -(-H // stride)), Image.Resampling.BOX)
        made.append(np.asarray(small.resize((W, H), Image.Resampling.BICUBIC)))
    return Way(f"means of {stride}x{stride}", made, bits=24 / stride**2)


def jpeg(truth, quality=1):
    made, size = [], 0
    for picture in truth:
        file = BytesIO()
        Image.fromarray(picture).save(file, "jpeg", quality=quality, optimize=True)
        size += file.tell()
        made.append(np.asarray(Image.open(file)))
    return Way(f"JPEG, quality {quality}", made, bits=8 * size / sum(p.shape[0] * p.shape[1] for p in truth))


def scores(way, truth):
    apart = lite0_distance()
    pairs = list(zip(way.made, truth, strict=True))
    with torch.inference_mode():
        seen = [float(apart(tensor(made[None]), tensor(real[None]))[0]) for made, real in pairs]
    tint = np.array([mean_colour(made) - mean_colour(real) for made, real in pairs])
    overall = int(np.abs(tint.mean(axis=0)).argmax())
    rows = {
        "psnr": interval(np.array([psnr(made, real) for made, real in pairs])),
        "ssim": interval(np.array([ssim(made, real) for made, real in pairs])),
        "perceptual": interval(np.array(seen)),
        "colour": interval(tint[:, overall]),
        "tint": interval(np.abs(tint).max(axis=1)),
        "worst colour": float(tint.flat[np.abs(tint).argmax()]),
        "colours": tint.round(3).tolist(),
        "bits": way.bits,
        "seconds": way.seconds / sum(p.shape[0] * p.shape[1] for p in truth) * 1e6,
    }
    if way.counts is not None:
        rows |= {
            "codes": len(way.counts), "used": float((way.counts > 0).mean()),
            "perplexity": float(perplexity(torch.tensor(way.counts))),
        }  # fmt: skip
    return rows


def interval(values):
    found = bootstrap(np.mean, values, rounds=ROUNDS)
    return [found.value, found.low, found.high]


def table(rows):
    lines = [
        "| | bits/px | PSNR, dB | SSIM | perceptual | colour, levels | tint of a picture | worst picture | "
        "codes used | perplexity | CPU-s/Mpx |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        found = [
            plain(row["bits"], 3), spread(row["psnr"], 2), spread(row["ssim"], 3), spread(row["perceptual"], 3),
            spread(row["colour"], 2), spread(row["tint"], 2), f"{row['worst colour']:+.2f}",
            f"{row['used']:.1%} of {row['codes']}" if "codes" in row else "",
            f"{row['perplexity']:.0f}" if "codes" in row else "", plain(row["seconds"], 2),
        ]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(found) + " |")
    return "\n".join(lines)


def spread(values, digits):
    value, low, high = (f"{v:.{digits}f}" for v in values)
    return f"{value} [{low}, {high}]"


def plain(value, digits):
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def sheet(truth, ways, *, side=256):
    """The middle of every picture beside what each model made of it."""
    rows = []
    for i, real in enumerate(truth):
        top, left = (max((n - side) // 2, 0) for n in real.shape[:2])
        rows.append([made[top : top + side, left : left + side] for made in (real, *(way.made[i] for way in ways))])
    rows += rows[-1:] * (len(rows) % 2)
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return Image.fromarray(np.concatenate([np.concatenate(left + right, axis=1) for left, right in pairs]))


if __name__ == "__main__":
    main()
