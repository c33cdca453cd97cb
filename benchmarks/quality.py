"""The shipped models on held-out clips against holding the last frame and linear blending.

    python benchmarks/quality.py --model digits --clips 200
    python benchmarks/quality.py --model natural --clips 100 --data folder_of_clips

Digits come from the test split. With --data, windows are drawn from every clip of the folder.
"""

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path

import framefill
from framefill.recipes.mcvd import Crops
from framefill.video.digits import MovingDigits
from framefill.video.folder import Clips, Windows
from framefill.video.report import scores


def held_out(model, data, stride):
    if data == "digits":
        return MovingDigits("test")
    clips = Clips.open(data, height=72, width=128, channels=model.channels, cache=Path("runs/cache"))
    windows = Windows([run for source in clips.sources for run in source.runs()])
    return Strided(Crops(windows, (model.height, model.width), False), stride)


class Strided:
    def __init__(self, source, stride):
        self.source, self.stride = source, stride

    def sample(self, seed, *, length, strides):
        return self.source.sample(seed, length=length, strides=(self.stride,))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="digits")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--stride", type=int, default=1, help="take every n-th frame of the clips")
    parser.add_argument("--strength", type=float, help="by default the model's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    model = framefill.load(words.model)
    if words.strength:
        model = replace(model, sampler=replace(model.sampler, strength=words.strength))
    start = time.monotonic()
    table = scores(
        model, held_out(model, words.data, words.stride), clips=words.clips, samples=words.samples, seed=words.seed
    )
    spent = time.monotonic() - start
    print(f"{words.model}, step {model.card.step}, {model.sampler}; {words.clips} clips of {words.data}, stride "
          f"{words.stride}, {words.samples} sample(s), seed {words.seed}; {platform.machine()}, "
          f"{spent:.0f} s")  # fmt: skip
    for task, methods in table.items():
        for method, metrics in methods.items():
            cells = [f"{name} {mean:.3f} ± {half:.3f}" for name, (mean, half) in metrics.items()]
            print(f"{task:12s}{method:10s}" + "   ".join(cells))
    if words.json:
        words.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
