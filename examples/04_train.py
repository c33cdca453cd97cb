"""Training is a generator: stop it, look at it, go on with it. A minute, far too short for good pictures."""

from pathlib import Path
from tempfile import mkdtemp

import framefill
from framefill import recipes
from framefill.checkpoint import Card
from framefill.recipes.recipe import override, to_fields
from framefill.training import train
from framefill.video.report import sample_sheet

recipe = override(
    recipes.find("mcvd", "tiny").recipe, ["features=8", "batch_size=8", "patch=4", "warmup=20", "steps=100"]
)
digits = recipe.source("digits", "train")  # or a folder of your clips
run = Path(mkdtemp())

card = Card("mcvd", "tiny", to_fields(recipe), seed=0, about={"data": "digits"})
losses = []
for progress in train(recipe, digits, run, card=card):
    losses.append(progress.loss)  # of one small batch at random noise levels: look at means
    if progress.step % 20 == 0:
        mean = sum(losses[-20:]) / 20
        print(f"step {progress.step} of {progress.steps}: mean loss {mean:.2f}, {progress.left:.0f} s left")

model = framefill.load(run)
sample_sheet(model, recipe.source("digits", "val"), clips=1).save("training.png")
print("training.png")
