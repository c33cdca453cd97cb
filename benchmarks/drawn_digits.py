"""Are drawn digits digits, and the ones that were asked for? python benchmarks/drawn_digits.py MODEL... -o drawn

Each MODEL (a run folder, file or shipped name) is a token prior with classes, over digits. Of every class as many are
drawn, without guidance and with it, and shown to the judge of benchmarks/hierarchies.py, a small network that is
trained on the training digits (a minute) and asked how often it is right on held-out ones.

Columns: `asked for`, the share that the judge takes for the class that was asked for, with its 95 % interval (Wilson);
DS, its Inception score (bootstrap), next to that of held-out digits; copies, the share nearer to a training digit than
to a held-out one, as if there were as many of both (a half: nothing is remembered); seconds of processor time a
picture. Of the tokenizer: PSNR of held-out digits there and back (the last frame), the share of codes in use, their
perplexity.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hierarchies import classifier, score, shares

import framefill
from framefill.metrics.copies import copies
from framefill.metrics.image import psnr
from framefill.video.images.stills import Stills
from framefill.video.sheet import contact_sheet

DIGITS = 10
HELD_OUT = 500  # digits that go through the tokenizer


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("models", nargs="+")
    words.add_argument("-o", "--output", type=Path, default=Path("drawn_digits"))
    words.add_argument("--each", type=int, default=40, help="pictures of each class")
    words.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0, 3.0])
    words.add_argument("--threads", type=int, default=1)
    given = words.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    judge, accuracy = classifier(given)
    learnt, real = (Stills.open("digits", split, height=32, width=32, channels=1, classes=DIGITS) for split in
                    ("train", "test"))  # fmt: skip
    held = score(judge, real.pixels)
    print(f"the judge is right on {100 * accuracy:.1f} % of {len(real)} held-out digits; DS of these {told(held)}; "
          f"{given.each} drawn of each class, seed 0")  # fmt: skip
    rows, sheet = {}, []
    for name in given.models:
        model = framefill.load(name)
        rows[name] = {"tokenizer": there_and_back(model, real.pixels[:HELD_OUT])}
        print(f"\n{name}: {rows[name]['tokenizer']}\n")
        print("| guidance | asked for | DS | copies | CPU-s |\n|---|---|---|---|---|")
        for guidance in given.guidance:
            start = time.process_time()
            made = drawn(replace(model, guidance=guidance), given.each)
            seconds = (time.process_time() - start) / len(made)
            row = {
                "asked for": asked(judge, made, given.each), **score(judge, made),
                "copies": copies(made, learnt.pixels, real.pixels), "seconds": seconds,
            }  # fmt: skip
            rows[name][f"guidance {guidance:g}"] = row
            share, low, high = (100 * value for value in row["asked for"])
            print(f"| {guidance:g} | {share:.1f} % [{low:.1f}, {high:.1f}] | {told(row)} | {row['copies']:.2f} | "
                  f"{seconds:.2f} |", flush=True)  # fmt: skip
            sheet.append((f"{Path(name).name}, {guidance:g}", made[:: given.each]))
    what = (
        f"{given.each} drawn digits of each class, judged by a network right on {100 * accuracy:.1f} % of held-out ones"
    )
    (given.output / "scores.json").write_text(json.dumps({"what": what, "held out": held, "models": rows}, indent=1))
    contact_sheet(sheet).save(given.output / "drawn.png")


def drawn(model, each):
    """Of class 0, then 1, ...: `each` of each."""
    return np.concatenate([model.generate(each, label=label) for label in range(DIGITS)])


def asked(judge, made, each):
    """The share that is what was asked for, and Wilson's 95 % interval."""
    found = shares(judge, np.where(made > 127, 255, 0).astype(np.uint8)).argmax(1)
    n, share, z = len(made), float((found == np.repeat(np.arange(DIGITS), each)).mean()), 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return [share, float(middle - half), float(middle + half)]


def there_and_back(model, pictures):
    coder = model.coder
    films = coder.pseudo(pictures)
    health = coder.health(coder.tokens(films))
    back = coder.reconstruct(films)[:, -1]
    return {"PSNR": round(float(psnr(back, pictures).mean()), 2), **{k: round(v, 3) for k, v in health.items()}}


def told(row):
    return f"{row['DS']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


if __name__ == "__main__":
    main()
