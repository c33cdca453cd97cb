"""What a time limit buys: of all tiers and numbers of calls the best that is done in time on this machine.

data/tiers.json has what each costs, in seconds for a million pixels of one made frame, and how good it is, as measured
on one machine. Another machine is about equally faster or slower at all of them; how much is found by timing the
cheapest on two frames of the film.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from framefill.errors import BadInput


@dataclass(frozen=True)
class Choice:
    """A `tier` with so many network `calls` (0: it has none to choose): its cost and quality.

    `seconds` are for a million pixels of one frame, where the table was measured; of `quality` more is better.
    """

    tier: str
    calls: int
    seconds: float
    quality: float

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise BadInput(f"{self.tier} cannot take {self.seconds} seconds; give what was measured")


def measured() -> list[Choice]:
    """What was measured, the cheapest first."""
    rows = json.loads(files("framefill").joinpath("data/tiers.json").read_text())["choices"]
    return sorted((Choice(**row) for row in rows), key=lambda choice: choice.seconds)


def affordable(choices: Sequence[Choice], limit: float, megapixels: float, slowness: float) -> Choice:
    """The best choice that makes `megapixels` within `limit` seconds; the cheapest if none does.

    `slowness` is how many times longer than in the table the work takes here.
    """
    in_time = [choice for choice in choices if choice.seconds * megapixels * slowness <= limit]
    cheapest = min(choices, key=lambda choice: choice.seconds)
    return max(in_time, key=lambda choice: (choice.quality, -choice.seconds), default=cheapest)
