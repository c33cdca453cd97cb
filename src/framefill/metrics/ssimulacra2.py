"""SSIMULACRA2, version 2.1: how alike two pictures look, from 100 (equal) down through 0 (bad) without end.

Both pictures become XYB, a colour space near what the eye's cones pass on. At six scales, each half the size of the one
before, three maps of errors are made for every channel: lost structure, edges that were added (ringing, blocks), edges
that were lost (blur). A weighted sum of the means and of the 4-norms of these maps is bent into a score.

Sneyers 2022 and 2023, the program `ssimulacra2` of libjxl. Its filter, made for recursion (Charalampidis 2016,
"Recursive implementation of the Gaussian filter using truncated cosine functions"), is equal to nine taps, which is how
it is done here; outside of a picture it sees zeros. The scores are libjxl's to 0.01, but where a large part of a photo
is flat and bright: there libjxl's recursion in float32 makes noise, and its score is up to 0.7 lower. The package
`ssimulacra2` of PyPI is a translation with other taps, other edges and one scale less for some sizes. Its scores of
photos of 768 x 512 are up to 4 away, so a score is only worth something with the name of its program: `LIBJXL`, `PYPI`.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from framefill.errors import BadInput

SCALES = 6
SMALLEST = 8  # pixels along a side
FLOOR = 0.0009  # keeps the structure of flat areas from being 0 / 0
BIAS = 0.0037930732552754493
CONES = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.55180986650955360),
)  # fmt: skip
# A row for each of the channels X, Y, B - Y at each of six scales. In a row: structure, edges added, edges lost, first
# for their means, then for their 4-norms.
WEIGHTS = (
    (0, 0.00073766067, 0, 0, 0.00077934817, 0),
    (0, 0.00043711557, 0, 1.1041726, 0.00066284834, 0.00015231633),
    (0, 0.0016406437, 0, 1.8422456, 11.441173, 0),
    (0.00079891094, 0.00017681644, 0, 1.8787595, 10.94907, 0),
    (0.0007289347, 0.96779371, 0, 0.00014003424, 0.9981767, 0.00031949756),
    (0.00045509921, 0, 0, 0.0013648766, 0, 0),
    (0, 0, 0, 7.4668903, 0, 17.445834),
    (0.00062356016, 0, 0, 6.6836781, 0.00037724408, 1.0278899),
    (225.20515, 0, 0, 19.213238, 0.0011401525, 0.0012377556),
    (176.39318, 0, 0, 24.43301, 0.28520803, 0.00044854369),
    (0, 0, 0, 34.779063, 44.835625, 0),
    (0, 0, 0, 0, 0, 0),
    (0, 0.00086805566, 0, 0, 0, 0),
    (0, 0.00053131919, 0, 0.00016533814, 0, 0),
    (0, 0, 0, 0.00041791718, 0.0017290828, 0),
    (0.0020827006, 0, 0, 8.8269828, 23.192433, 0),
    (95.10805, 0.9863978, 0.98343828, 0.0012286405, 171.26673, 0.98078589),
    (0, 0, 0, 0.00051300646, 0, 0.00010854058),
)  # fmt: skip


@dataclass(frozen=True)
class Program:
    """What programs differ in: the blur's taps, whether it mirrors the upper and lower edge (zeros else), and the sides
    that are still halved once more.
    """

    taps: tuple[float, ...]
    mirrored: bool
    halved: int


def truncated_cosines(sigma: float) -> tuple[float, ...]:
    """Taps of the filter: three cosines over -N..N that are zero at both ends, with the sum, the variance and, at the
    highest of the three frequencies, nearly the spectrum of a Gaussian (Charalampidis 2016, equations 33 to 57).
    """
    radius = round(3.2795 * sigma + 0.2546)
    omega = torch.tensor([1.0, 3.0, 5.0], dtype=torch.float64) * math.pi / (2 * radius)
    sign = omega.new_tensor([1.0, -1.0, 1.0])
    sums = sign / torch.tan(omega / 2)
    moments = sign * sums.square() / torch.sin(omega)
    heights = torch.exp(-(sigma**2) / 2 * omega.square()) / radius
    across = torch.linalg.cross(sums, moments)
    across = across / across[2]
    wanted = torch.stack([omega.new_tensor(1.0), omega.new_tensor(radius**2 - sigma**2), across @ heights])
    amounts = torch.linalg.solve(torch.stack([sums, moments, across]), wanted)
    places = torch.arange(1 - radius, radius, dtype=torch.float64)
    return tuple((amounts @ torch.cos(omega[:, None] * places)).tolist())


def _sampled(sigma: float, radius: int) -> tuple[float, ...]:
    """Taps of a Gaussian that is cut off."""
    heights = [math.exp(-0.5 * (place / sigma) ** 2) for place in range(-radius, radius + 1)]
    return tuple(height / sum(heights) for height in heights)


LIBJXL = Program(truncated_cosines(1.5), mirrored=False, halved=8)
PYPI = Program(_sampled(1.5, 5), mirrored=True, halved=15)


def ssimulacra2(made: Tensor, truth: Tensor, *, program: Program = LIBJXL) -> Tensor:
    """The score of every picture (B,), float32; 90 is hard to tell from the truth, 50 medium, 10 very low quality.

    Pictures are (B, 3, H, W), sRGB in [-1, 1], 8 pixels or more along each side; values outside the range are not cut.
    Gradients are finite everywhere. Below 113 pixels along a side there are fewer scales than weights, and the program
    then gives weights of one channel to another; so does this function, but not `ssimulacra2_distance`. BadInput for
    other shapes.
    """
    norms = _norms(made, truth, program)
    used = made.new_tensor(WEIGHTS, dtype=torch.float32).flatten()[: norms[0].numel()]
    x = 0.9562382616834844 * (norms.flatten(1) * used).sum(dim=1)
    x = 2.326765642916932 * x - 0.020884521182843837 * x.square() + 6.248496625763138e-05 * x**3
    return 100 - 10 * x.clamp_min(1e-10) ** 0.6276336467831387


def ssimulacra2_distance(made: Tensor, truth: Tensor) -> Tensor:
    """The weighted sum of errors (B,) behind the score, 0 for equal pictures: the form to train with.

    The score falls as this rises, but with a slope that is infinite at a score of 100 and all but zero near -64. Where
    a picture is too small for all scales, their weights are left out. Arguments as in `ssimulacra2`.
    """
    norms = _norms(made, truth, LIBJXL)
    weights = made.new_tensor(WEIGHTS, dtype=torch.float32).reshape(3, SCALES, 6)
    return (norms * weights[:, : norms.shape[2]]).sum(dim=(1, 2, 3))


def _norms(made: Tensor, truth: Tensor, program: Program) -> Tensor:
    """Norms of all maps of errors, (B, channels, scales, 6), in the order of WEIGHTS."""
    if made.shape != truth.shape or made.ndim != 4 or made.shape[1] != 3 or min(made.shape[2:]) < SMALLEST:
        raise BadInput(
            f"pictures have shapes {tuple(made.shape)} and {tuple(truth.shape)}; give (B, 3, H, W) twice, "
            f"with H and W from {SMALLEST} on"
        )
    rows = []
    with torch.autocast(made.device.type, enabled=False):  # differences of squares: half precision has too few digits
        x, y = _linear(made.float()), _linear(truth.float())
        rows.append(_maps(_colours(x), _colours(y), program))
        while len(rows) < SCALES and min(x.shape[2:]) >= program.halved:
            x, y = (F.avg_pool2d(light, 2, ceil_mode=True) for light in (x, y))
            rows.append(_maps(_colours(x), _colours(y), program))
    return torch.stack(rows, dim=2)


def _maps(x: Tensor, y: Tensor, program: Program) -> Tensor:
    """Norms of the three maps of one scale, (B, 3, 6)."""
    planes = torch.cat([x, y, x * x + y * y, (x - y).square()], dim=1)
    mx, my, squares, apart = _blur(planes, program).chunk(4, dim=1)
    # 1 - (1 - shift) (2 cov + FLOOR) / (var + var + FLOOR), by var(x - y) = var + var - 2 cov: it keeps more digits.
    shift, spread = (mx - my).square(), squares - mx * mx - my * my
    structure = shift + (1 - shift) * (apart - shift) / (spread.relu() + FLOOR)
    edges = (1 + (x - mx).abs()) / (1 + (y - my).abs()) - 1
    maps = torch.stack([structure.relu(), edges.relu(), (-edges).relu()], dim=2)
    return torch.cat([maps.mean(dim=(3, 4)), _norm4(maps)], dim=2)


def _norm4(x: Tensor) -> Tensor:
    """Fourth root of the mean of x^4 over the last two axes, x >= 0.

    Divided by its largest value nothing is too small for float32, and an area of zeros has gradients of zero.
    """
    largest = x.detach().amax(dim=(-2, -1), keepdim=True).clamp_min(1e-20)
    mean = (x / largest).square().square().mean(dim=(-2, -1))
    return largest[..., 0, 0] * mean.clamp_min(1e-14).sqrt().sqrt()


def _linear(x: Tensor) -> Tensor:
    """Light (0 to 1) from sRGB values in [-1, 1]; the straight piece goes on below."""
    x = (x + 1) / 2
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def _colours(light: Tensor) -> Tensor:
    """X, Y and B - Y of light (B, 3, H, W), each in about 0 to 1."""
    cones = torch.einsum("dc,bchw->bdhw", light.new_tensor(CONES), light) + BIAS
    # A cube root, and its tangent where values below black would give it no slope.
    root = BIAS ** (1 / 3)
    long, middle, short = (
        cones.clamp_min(BIAS) ** (1 / 3) - root + (cones.clamp_max(BIAS) - BIAS) / (3 * root * root)
    ).unbind(dim=1)
    bright = (long + middle) / 2
    return torch.stack([7 * (long - middle) + 0.42, bright + 0.01, short - bright + 0.55], dim=1)


def _blur(x: Tensor, program: Program) -> Tensor:
    """The Gaussian of the program over the last two axes."""
    channels, radius = x.shape[1], len(program.taps) // 2
    kernel = x.new_tensor(program.taps).expand(channels, 1, 1, -1)
    x, beyond = F.conv2d(x, kernel, padding=(0, radius), groups=channels), radius
    if program.mirrored:
        x, beyond = torch.cat([x[..., :radius, :].flip(-2), x, x[..., -radius:, :].flip(-2)], dim=-2), 0
    return F.conv2d(x, kernel.mT, padding=(beyond, 0), groups=channels)
