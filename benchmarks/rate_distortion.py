"""What codecs spend on pictures and what is left of them: the same pictures in one run, rates from the sizes of files.

    python benchmarks/rate_distortion.py --pictures kodak --vqgan runs/vq-f8 --codec photos -o rate-distortion

JPEG, WebP, AVIF (Pillow), JPEG XL (cjxl and djxl, where they are installed), PNG, the classical VQ of the paper, our
VQGANs, our codec, and any function that makes bytes and a picture of a picture: `--plug FILE.py:NAME` calls NAME() for
a list of objects with `name`, `settings` and `code(picture, setting) -> (bytes, picture)`, uint8 (H, W, 3).

Bits per pixel: of all files over all pixels. PSNR of a picture (dB), MS-SSIM, SSIMULACRA2 (higher is better; libjxl's,
then the one of the package on PyPI, which differs) and the 3-norm of Butteraugli (lower is better; butteraugli_main of
libjxl, where it is installed): means over pictures.
FD (--features): squared Frechet distance of EfficientNet-Lite0 features of crops of 128 x 128, original against coded.
Marks: where the curve of the means passes them, by straight lines in log2 of the rate; nothing beyond its ends.
Seconds: of the wall, there and back, per million pixels, one thread where a codec can be told so.
"""

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import PIL
import torch
from PIL import Image, ImageDraw
from rate_distortion_codecs import classical, ours, plugged, vector_quantised, vqgan

from framefill.atomic import replacing
from framefill.metrics.distribution import frechet_distance, too_small
from framefill.metrics.image import ms_ssim, psnr
from framefill.metrics.rates import bits_per_pixel, rate_at
from framefill.metrics.ssimulacra2 import LIBJXL, PYPI, ssimulacra2

SUFFIXES = (".png", ".jpg", ".webp", ".bmp", ".tif")
CROP = 128
# Column, digits, whether more is better, and the qualities at which rates are compared.
COLUMNS = {
    "psnr": ("PSNR, dB", 2, True, (28.0, 32.0)),
    "ms_ssim": ("MS-SSIM", 4, True, (0.95,)),
    "ssimulacra2": ("SSIMULACRA2", 2, True, (20.0, 50.0)),
    "ssimulacra2_pypi": ("the same of PyPI", 2, True, (20.0,)),
    "butteraugli": ("Butteraugli, 3-norm", 3, False, (3.0,)),
    "fd": ("FD, crops", 2, False, ()),
}


@dataclass(frozen=True)
class Point:
    """A codec at one setting: bits per pixel and scores by picture, seconds per Mpx, and the pictures themselves."""

    codec: str
    setting: str
    bits: float
    scores: dict
    seconds: float
    made: list

    def mean(self, key):
        return float(np.mean(self.scores[key])) if key in self.scores else None


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--pictures", type=Path, required=True)
    words.add_argument("--vqgan", nargs="*", default=[], help="run folders or model files")
    words.add_argument("--codec", nargs="*", default=[], help="codecs of recipe compression: names, runs, model files")
    words.add_argument("--steps", type=int, nargs="*", default=[0], help="of their decode; 0 is the faithful one")
    words.add_argument("--plug", nargs="*", default=[], help="FILE.py:NAME, a function that returns ways")
    words.add_argument("--qualities", type=int, nargs="*", help="instead of each classical codec's own")
    words.add_argument("--features", action="store_true", help="Frechet distances too (slow)")
    words.add_argument("--only", nargs="*", help="codecs whose names begin with one of these")
    words.add_argument("--limit", type=int, help="the first so many pictures only")
    words.add_argument("--rate", type=float, default=0.25, help="bits per pixel of the sheet")
    words.add_argument("-o", "--output", type=Path)
    given = words.parse_args()
    torch.set_num_threads(1)
    paths = sorted(p for p in given.pictures.iterdir() if p.suffix.lower() in SUFFIXES)[: given.limit]
    truth = [np.asarray(Image.open(p).convert("RGB")) for p in paths]
    ways = [*classical(tuple(given.qualities or ())), vector_quantised()]
    ways += [ours(model, steps) for model in given.codec for steps in given.steps]
    ways += [vqgan(path, truth) for path in given.vqgan] + [way for word in given.plug for way in plugged(word)]
    ways = [w for w in ways if not given.only or w.name.startswith(tuple(given.only))]
    if not shutil.which("butteraugli_main"):
        print("without Butteraugli: butteraugli_main is not here (Debian: apt-get install libjxl-devtools)")
    real = features_of(truth) if given.features else None
    if real is not None and too_small(*real.shape):
        print(f"FD: {too_small(*real.shape)}")
    points = []
    for codec, setting in ((way, setting) for way in ways for setting in way.settings):
        points.append(measured(codec, setting, truth, real))
        print(f"{codec.name} {points[-1].setting}: {points[-1].bits:.4f} bits/px", file=sys.stderr)
    head = f"{platform.machine()}, torch {torch.__version__}, Pillow {PIL.__version__}, {tool_versions()}"
    text = f"{head}; {len(truth)} pictures of {given.pictures}\n\n{table(points)}\n\n{marks_table(points)}"
    print(text)
    if given.output:
        written(given.output, text, points, [p.name for p in paths], truth, given.rate)


def tool_versions():
    if not shutil.which("cjxl"):
        return "no cjxl"
    said = subprocess.run(["cjxl", "--version"], capture_output=True, text=True)
    return (said.stdout or said.stderr).splitlines()[0].split("[")[0].strip()


def measured(way, setting, truth, real=None):
    """One codec at one setting on all pictures; `real` are the features of these, for a Frechet distance."""
    start = time.perf_counter()
    coded = [way.code(picture, setting) for picture in truth]
    spent = time.perf_counter() - start
    sizes = [picture.shape[0] * picture.shape[1] for picture in truth]
    made = [picture for _, picture in coded]
    for before, after in zip(truth, made, strict=True):
        assert after.shape == before.shape, (way.name, after.shape)
        assert after.dtype == np.uint8, (way.name, after.dtype)
    scores = {"bits": [bits_per_pixel(len(file), n) for (file, _), n in zip(coded, sizes, strict=True)]}
    scores |= compared(made, truth)
    if real is not None:
        scores["fd"] = [frechet_distance(real, features_of(made))]
    said = "/".join(str(s) for s in setting) if isinstance(setting, tuple) else str(setting)
    rate = bits_per_pixel(sum(len(file) for file, _ in coded), sum(sizes))
    return Point(way.name, said, rate, scores, spent / sum(sizes) * 1e6, made)


def compared(made, truth):
    """Scores by picture."""
    pairs = list(zip(made, truth, strict=True))
    with np.errstate(divide="ignore"):
        scores = {"psnr": [min(float(psnr(*pair)), 99.0) for pair in pairs]}
    scores["ms_ssim"] = [float(ms_ssim(*pair)) for pair in pairs]
    with torch.inference_mode():
        for key, program in {"ssimulacra2": LIBJXL, "ssimulacra2_pypi": PYPI}.items():
            scores[key] = [float(ssimulacra2(signed(a), signed(b), program=program)[0]) for a, b in pairs]
    if shutil.which("butteraugli_main"):
        scores["butteraugli"] = [butteraugli(*pair) for pair in pairs]
    return scores


def signed(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1


def butteraugli(made, truth):
    """The 3-norm that libjxl's program prints, at its own brightness of 80 nits."""
    with TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("truth.png", "made.png")]
        for picture, file in zip((truth, made), files, strict=True):
            Image.fromarray(picture).save(file, compress_level=1)
        said = subprocess.run(["butteraugli_main", *files, "--pnorm", "3"], check=True, capture_output=True, text=True)
    return float(re.search(r"3-norm: ([\d.eE+-]+)", said.stdout + said.stderr)[1])


def features_of(pictures):
    """Features (n, 1280) of the crops of all pictures."""
    from framefill.features import efficientnet_lite0

    network = efficientnet_lite0()
    return np.concatenate([network(crops(picture)) for picture in pictures])


def crops(picture):
    """Squares of CROP pixels side by side (n, CROP, CROP, 3)."""
    down, across = (n // CROP for n in picture.shape[:2])
    parts = picture[: down * CROP, : across * CROP].reshape(down, CROP, across, CROP, 3)
    return np.ascontiguousarray(parts.swapaxes(1, 2).reshape(-1, CROP, CROP, 3))


def columns(points):
    return [key for key in COLUMNS if any(key in point.scores for point in points)]


def table(points):
    keys = columns(points)
    lines = [
        "| codec | setting | bits/px | " + " | ".join(COLUMNS[key][0] for key in keys) + " | s/Mpx |",
        "|---|---|---|" + "---|" * (len(keys) + 1),
    ]
    for p in points:
        cells = [f"{p.mean(key):.{COLUMNS[key][1]}f}" for key in keys]
        lines.append(f"| {p.codec} | {p.setting} | {p.bits:.4f} | " + " | ".join(cells) + f" | {p.seconds:.2f} |")
    return "\n".join(lines)


def curves(points):
    """Points by codec, in the order of the run."""
    found = {}
    for point in points:
        found.setdefault(point.codec, []).append(point)
    return found


def marks(points):
    """For every codec and mark the rate at which its curve passes, NaN where it does not."""
    found = {}
    for name, own in curves(points).items():
        found[name] = {}
        for key in columns(points):
            for mark in COLUMNS[key][3]:
                rates, values = [p.bits for p in own], [p.mean(key) for p in own]
                enough = len(own) > 1
                rate = rate_at(rates, values, mark, rising=COLUMNS[key][2]) if enough else float("nan")
                found[name][f"{COLUMNS[key][0]} = {mark:g}"] = rate
    return found


def marks_table(points):
    found = {name: row for name, row in marks(points).items() if np.isfinite(list(row.values())).any()}
    heads = list(next(iter(found.values()))) if found else []
    lines = ["| bits/px at | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for name, row in found.items():
        lines.append(f"| {name} | " + " | ".join(f"{v:.3f}" if np.isfinite(v) else "" for v in row.values()) + " |")
    return "\n".join(lines)


def written(folder, text, points, names, truth, rate):
    """table.md, points.json, curves.png and sheet.png."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"codec": p.codec, "setting": p.setting, "rate": p.bits, "seconds": p.seconds, **p.scores} for p in points]
    held = {name: {k: v if np.isfinite(v) else None for k, v in row.items()} for name, row in marks(points).items()}
    for name, content in {
        "table.md": text + "\n",
        "points.json": json.dumps({"pictures": names, "points": rows, "marks": held}, indent=1),
    }.items():
        with replacing(folder / name) as part:
            part.write_text(content)
    with replacing(folder / "sheet.png") as part:
        sheet(points, truth, rate).save(part, format="png", optimize=True)
    draw(points, folder / "curves.png")


def draw(points, target):
    """Scores over rate, one panel each; nothing without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    keys = columns(points)
    figure = Figure(figsize=(5 * len(keys), 4.5), layout="constrained")
    for axis, key in zip(np.atleast_1d(figure.subplots(1, len(keys))), keys, strict=True):
        for name, own in curves(points).items():
            own = sorted((p for p in own if p.bits < 4), key=lambda p: p.bits)
            if own:
                axis.plot([p.bits for p in own], [p.mean(key) for p in own], marker="o", markersize=3, label=name)
        for mark in COLUMNS[key][3]:
            axis.axhline(mark, color="#9aa4b2", linewidth=0.6, linestyle=":")
        axis.set(xlabel="bits per pixel", title=COLUMNS[key][0], xscale="log")
        axis.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    with replacing(target) as part:
        figure.savefig(part, format="png", dpi=110)


def sheet(points, truth, rate, *, side=256, rows=6, margin=14):
    """The middle of pictures beside what each codec made of it at its setting nearest to `rate` bits per pixel."""
    shown = [min(own, key=lambda p: abs(np.log(p.bits / rate))) for own in curves(points).values()]
    lines = []
    for i in range(min(rows, len(truth))):
        top, left = (max((n - side) // 2, 0) for n in truth[i].shape[:2])
        parts = [("original", truth[i]), *((f"{p.codec} {p.scores['bits'][i]:.3f}", p.made[i]) for p in shown)]
        lines.append([(said, made[top : top + side, left : left + side]) for said, made in parts])
    page = Image.new("RGB", (side * len(lines[0]), (side + margin) * len(lines)), "white")
    draw_on = ImageDraw.Draw(page)
    for row, line in enumerate(lines):
        for column, (said, made) in enumerate(line):
            draw_on.text((column * side + 2, row * (side + margin)), said, fill="black")
            page.paste(Image.fromarray(made), (column * side, row * (side + margin) + margin))
    return page


if __name__ == "__main__":
    main()
