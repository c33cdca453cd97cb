"""The pseudo-videos of paper 000, by name; levels of images are in [-1, 1]."""

from framefill.video.pseudo.blur import Blur
from framefill.video.pseudo.heat import HeatEquation
from framefill.video.pseudo.kind import PseudoVideo, Still, high_order
from framefill.video.pseudo.mixture import Noisy
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
