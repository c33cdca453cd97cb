"""One model, every task: which frames are known decides. About ten seconds."""

from fractions import Fraction

import numpy as np

import framefill
from framefill.diffusion.complete import hierarchical
from framefill.video.clip import Clip
from framefill.video.digits import MovingDigits
from framefill.video.sheet import contact_sheet

model = framefill.load("digits")
truth = MovingDigits("test").sample(2, length=15)
clip = Clip(truth, Fraction(10))

index = np.arange(15)
tasks = {
    "future": index < 5,
    "past": index >= 10,
    "gap": (index < 5) | (index >= 10),
    "every other": index % 2 == 0,
    "scattered": np.isin(index, [0, 1, 5, 9, 14]),
}
results = {name: model.complete(clip, known, seed=0) for name, known in tasks.items()}
results["coarse to fine"] = model.complete(clip, tasks["future"], seed=0, order=hierarchical)

rows = [("truth", truth)] + [(name, result.frames[0]) for name, result in results.items()]
contact_sheet(rows, known=[None] + [result.known for result in results.values()]).save("tasks.png")
print("tasks.png")
