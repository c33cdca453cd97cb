"""The future of a clip: three possible ones, and where they differ. About ten seconds."""

from fractions import Fraction

import framefill
from framefill.video.clip import Clip
from framefill.video.digits import MovingDigits
from framefill.video.sheet import contact_sheet, heat

model = framefill.load("digits")
clip = Clip(MovingDigits("test").sample(1, length=5), Fraction(10))  # or files.read_clip("my.mp4", limit=5)

filled = model.predict(clip, frames=10, samples=3, seed=0)

rows = [(f"future {i + 1}", frames) for i, frames in enumerate(filled.frames)]
rows.append(("spread", heat(filled.spread())))
contact_sheet(rows, known=[filled.known] * 3 + [None]).save("predicted.png")
print("predicted.png, drift:", filled.drift())
