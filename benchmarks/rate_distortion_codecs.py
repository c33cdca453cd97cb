"""Ways to write a picture into bytes and back, for benchmarks/rate_distortion.py: classical ones, and ours.

A way is a name, its settings from small files to large ones, and a function (picture, setting) -> (bytes, picture),
uint8 (H, W, 3) there and back. The bytes are all that a decoder gets but for what it always has: the size of the
picture and the setting where a format does not say them (VQ, VQGAN), and the model.
"""

import importlib.util
import math
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image, features

import framefill
from framefill import codecs
from framefill.codec.entropy import Factorised
from framefill.codec.pictures import Picture

Code = Callable[[np.ndarray, Any], tuple[bytes, np.ndarray]]


@dataclass(frozen=True)
class Way:
    """One codec and the settings to try."""

    name: str
    settings: tuple
    code: Code


def classical(qualities=None):
    """What is installed of JPEG, WebP, AVIF, JPEG XL and PNG; `qualities` replaces the settings of the lossy ones."""
    found = [
        Way("JPEG", qualities or (3, 6, 10, 15, 25, 40, 60, 80, 92), pillow("jpeg", optimize=True, progressive=True)),
        Way("WebP", qualities or (0, 5, 15, 30, 50, 70, 85, 95), pillow("webp", method=6)),
    ]
    if features.check("avif"):
        found.append(Way("AVIF", qualities or (5, 12, 20, 30, 42, 55, 70, 85), pillow("avif", speed=6, max_threads=1)))
    if shutil.which("cjxl") and shutil.which("djxl"):
        found.append(Way("JPEG XL", qualities or (5, 9, 14, 22, 35, 55, 75, 90), jpeg_xl))
    else:
        print("without JPEG XL: cjxl and djxl are not here (Debian: apt-get install libjxl-tools)")
    return [*found, Way("PNG", (9,), png)]


def pillow(kind, **options):
    def code(picture, quality):
        file = BytesIO()
        Image.fromarray(picture).save(file, kind, quality=quality, **options)
        return file.getvalue(), opened(file)

    return code


def opened(file):
    return np.asarray(Image.open(file).convert("RGB"))


def png(picture, level):
    file = BytesIO()
    Image.fromarray(picture).save(file, "png", compress_level=level, optimize=True)
    return file.getvalue(), opened(file)


def jpeg_xl(picture, quality):
    with TemporaryDirectory() as folder:
        source, packed, back = (Path(folder) / name for name in ("a.png", "a.jxl", "b.png"))
        Image.fromarray(picture).save(source)
        quiet = {"check": True, "capture_output": True}
        subprocess.run(["cjxl", source, packed, "-q", str(quality), "-e", "7", "--num_threads=0"], **quiet)
        subprocess.run(["djxl", packed, back, "--num_threads=0"], **quiet)
        return packed.read_bytes(), opened(back)


def vector_quantised():
    """The paper's classical baseline (section 2.2): blocks of m x m pixels, each the nearest of k centroids.

    The centroids are those of the picture itself and are part of the file, as bytes; indices take log2 k bits.
    """
    return Way("VQ", ((8, 16), (8, 64), (4, 64), (4, 256), (2, 256)), blocks_coded)


def blocks_coded(picture, setting):
    m, k = setting
    H, W = picture.shape[:2]
    blocks, grid = cut(picture, m)
    centroids = torch.from_numpy(clustered(blocks, k)).round().clamp(0, 255)
    bits = int(math.log2(k))
    nearest = torch.cdist(torch.from_numpy(blocks), centroids).argmin(1).numpy()
    indices = np.packbits((nearest[:, None] >> np.arange(bits) & 1).astype(np.uint8))
    held = centroids.to(torch.uint8).numpy().tobytes()
    file = held + indices.tobytes()
    # From here on the decoder: it knows the size, m and k.
    book = np.frombuffer(file[: len(held)], np.uint8).reshape(k, -1)
    read = np.unpackbits(np.frombuffer(file[len(held) :], np.uint8))[: len(blocks) * bits].reshape(-1, bits)
    parts = book[read @ (1 << np.arange(bits))].reshape(*grid, m, m, 3)
    return file, parts.swapaxes(1, 2).reshape(grid[0] * m, grid[1] * m, 3)[:H, :W]


def cut(picture, m):
    """Blocks (n, m m 3) float32 of a picture, its edges repeated to whole ones; how many down, how many across."""
    H, W = picture.shape[:2]
    padded = np.pad(picture, ((0, -H % m), (0, -W % m), (0, 0)), mode="edge")
    grid = padded.shape[0] // m, padded.shape[1] // m
    parts = padded.reshape(grid[0], m, grid[1], m, 3).swapaxes(1, 2)
    return parts.reshape(-1, m * m * 3).astype(np.float32), grid


def clustered(points, k, *, rounds=10, seed=0):
    """k centroids (k, D) of points (n, D) by Lloyd's algorithm; one that loses all its points moves to a random one."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(points)
    centroids = x[torch.from_numpy(rng.choice(len(points), k, replace=len(points) < k))].clone()
    for _ in range(rounds):
        nearest = torch.cdist(x, centroids).argmin(1)
        counts = torch.bincount(nearest, minlength=k)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, x)
        spare = x[torch.from_numpy(rng.integers(len(points), size=k))]
        centroids = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], spare)
    return centroids.numpy()


def vqgan(path, pictures):
    """A VQGAN of ours, its indices coded by how often each occurs in the other pictures: a reader has these counts."""
    coder = framefill.load(path)
    size = coder.autoencoder.quantiser.size
    total = sum(np.bincount(coder.words(p[None]).ravel(), minlength=size) for p in pictures)

    def code(picture, _setting):
        words = coder.words(picture[None])
        reach, model = laws(total - np.bincount(words.ravel(), minlength=size))
        file = model.encode(torch.from_numpy(words - reach)[:, None])[0][0]
        read = model.decode([[file]], words.shape[1:]).symbols[:, 0] + reach
        return file, coder.decode(coder.autoencoder.latents(read), picture.shape[:2])[0]

    return Way(f"VQGAN {Path(path).name}", ("",), code)


def laws(counts):
    """The entropy model of words 0..n-1 with these counts (n,), and what to take from a word to get its symbol."""
    reach = -(-len(counts) // 2)
    model = Factorised(1, reach)
    with torch.no_grad():
        model.counts.zero_()
        model.counts[0, : len(counts)] = torch.from_numpy(counts).float()
    return reach, model


def ours(model, steps=0):
    """Our codec at all its qualities: the faithful decode, or one drawn in `steps` steps."""
    codec = codecs.codec(model)

    def code(picture, quality):
        data = codec.compress(Picture(picture), quality=quality, steps=steps)
        return data, codec.decompress(data).pixels

    name = Path(model).stem if Path(model).suffix else Path(model).name
    return Way(f"ours {name}" + (f", {steps} steps" if steps else ""), tuple(range(codec.model.qualities)), code)


def plugged(word):
    """Ways of the user's own: FILE.py:NAME, a function that takes nothing and returns a list of `Way`."""
    file, _, name = word.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [Way(w.name, tuple(w.settings), w.code) for w in getattr(module, name)()]
