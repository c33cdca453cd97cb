"""The pseudo-videos of paper 000, by name; levels of images are in [-1, 1].

A name is KIND-FRAMES, of any number of frames; the paper's own are in a table. Names with a + between them are a
mixture: every image becomes a clip of one of these kinds, each as likely as it is often named.
"""

from collections.abc import Callable

from framefill.errors import BadInput
from framefill.video.pseudo.blocks import Blocks
from framefill.video.pseudo.blur import Blur
from framefill.video.pseudo.heat import HeatEquation
from framefill.video.pseudo.kind import PseudoVideo, Still, high_order
from framefill.video.pseudo.mixture import Mixture, Noisy
from framefill.video.pseudo.noise import Noise

PAPER: dict[str, PseudoVideo] = {
    "still": Still(),
    "blur-8": Blur(8, rate=0.05),  # section 3
    "blur-18": Blur(18, rate=0.01),
    "first-order-4": Noise(4),  # section 4.2
    "first-order-8": Noise(8),
    "high-order-4": Noise(4, history=high_order),
    "high-order-8": Noise(8, history=high_order),
    "high-order-blur-4": Blur(4, history=high_order),  # table 5. Paper: no rate is given; that of 8 frames is taken
    "high-order-blur-8": Blur(8, history=high_order),
    "heat-18": Noisy(HeatEquation(18), 0.02),  # section 2.2; their 0.01 is for levels in [0, 1]
}

LONG = 18  # frames from which on a blur grows as slowly as the paper's of 18


def _blur(frames: int, *, wrap: bool = False) -> Blur:
    return Blur(frames, rate=0.05 if frames < LONG else 0.01, wrap=wrap)


KINDS: dict[str, Callable[[int], PseudoVideo]] = {
    "blur": _blur,
    "blur-wrap": lambda frames: _blur(frames, wrap=True),
    "first-order": Noise,
    "high-order": lambda frames: Noise(frames, history=high_order),
    "high-order-blur": lambda frames: Blur(frames, history=high_order),
    "heat": lambda frames: Noisy(HeatEquation(frames), 0.02),
    "blocks": Blocks,
}


def named(name: str) -> PseudoVideo:
    """The pseudo-video `name`, such as blur-8, still, or blur-8+blocks-8; BadInput for an unknown one."""
    if "+" in name:
        return Mixture(tuple(named(part) for part in name.split("+")))
    kind, _, frames = name.rpartition("-")
    if name in PAPER:
        return PAPER[name]
    if kind not in KINDS or not frames.isdecimal() or len(frames) > 3:
        raise BadInput(
            f"unknown pseudo-video {name!r}; write still, or KIND-FRAMES such as blur-8 with one of {', '.join(KINDS)}"
        )
    return KINDS[kind](int(frames))
