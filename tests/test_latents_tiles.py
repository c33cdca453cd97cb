"""Tiles: exact where the network is local, without an edge where it is not, for every size."""

import pytest
import torch
import torch.nn.functional as F

from framefill.errors import BadInput
from framefill.latents.autoencoder import Layout
from framefill.latents.kl import KLVAE
from framefill.latents.tiles import Tiled, ramp, spans

torch.manual_seed(0)
WEIGHT = torch.randn(3, 3, 5, 5)


class Local:
    """A linear autoencoder of stride 2: a decoder that sees 2 latents to every side."""

    stride = 2
    largest = 0

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        self.largest = max(self.largest, x.shape[2] * x.shape[3])
        return F.avg_pool2d(F.conv2d(x, WEIGHT, padding=2), 2)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        self.largest = max(self.largest, z.shape[2] * z.shape[3])
        return F.interpolate(F.conv2d(z, WEIGHT, padding=2), scale_factor=2)


class Offset(Local):
    """Every call is brighter than the one before: the worst that a decoder that sees the whole tile could do."""

    def __init__(self):
        self.calls = 0

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.full((len(z), 1, 2 * z.shape[2], 2 * z.shape[3]), float(self.calls % 2))


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (31, 40), (33, 64), (40, 97), (128, 71)])
def test_a_local_network_is_reproduced_exactly_at_any_size(size):
    whole, x = Local(), torch.randn(2, 3, *size)
    tiled = Tiled(whole, tile=16, halo=2, fade=3)
    padded = F.pad(x, (0, size[1] % 2, 0, size[0] % 2), mode="replicate")
    z = tiled.encode(x)
    torch.testing.assert_close(z, Local().encode(padded), rtol=1e-4, atol=1e-4)
    back = tiled.decode(z, size)
    assert back.shape == x.shape
    torch.testing.assert_close(back, Local().decode(z)[..., : size[0], : size[1]], rtol=1e-4, atol=1e-4)
    assert whole.largest <= 32 * 32  # never more than a tile at once


def test_without_its_halo_it_would_not_be():
    z = torch.randn(1, 3, 40, 40)
    short = Tiled(Local(), tile=16, halo=1, fade=3).decode(z)
    apart = (short - Local().decode(z)).abs().amax((0, 1))
    assert float(apart.max()) > 0.1
    assert float(apart[:20, :20].max()) < 1e-4  # the middle of the first tile is right all the same


def test_tiles_of_different_brightness_fade_without_an_edge():
    made = Tiled(Offset(), tile=16, halo=2, fade=4).decode(torch.zeros(1, 3, 16, 90))
    steps = (made[..., 1:] - made[..., :-1]).abs()
    assert float(made.min()) == 0
    assert float(made.max()) == 1  # the tiles do differ
    assert float(steps.max()) <= 1 / (2 * 4) + 1e-6  # from one to the other over 8 pixels, evenly


@pytest.mark.parametrize("length", range(1, 120, 7))
def test_spans_cover_and_their_weights_add_up(length):
    found = spans(length, tile=20, halo=3, fade=4)
    assert found[0].start == 0
    assert found[-1].stop == length
    total = torch.zeros(2 * length)
    for span in found:
        assert span.stop - span.start == min(length, 20)
        weight = ramp(span, fade=4, scale=2)
        assert float(weight.min()) >= 0
        assert float(weight.max()) <= 1
        assert not weight[: 2 * span.before].any()
        total[2 * span.start : 2 * span.stop] += weight
    assert float(total.min()) >= 1 - 1e-6  # every place is somebody's
    if len(found) > 2:
        even = total[: 2 * found[-1].start]
        torch.testing.assert_close(even, torch.ones_like(even))


def test_a_whole_network_in_one_tile_is_itself_and_in_many_is_near():
    torch.manual_seed(0)
    small = Layout(width=8, multipliers=(1, 2), blocks=1, attention=(False, False), groups=4)
    model = KLVAE(small).eval()
    with torch.no_grad():
        x = torch.rand(1, 3, 64, 96) * 2 - 1
        z = model.encode(x)
        assert torch.equal(Tiled(model).encode(x), z)
        assert torch.equal(Tiled(model).decode(z), model.decode(z))
        tiled = Tiled(model, tile=24, halo=4, fade=6)
        torch.testing.assert_close(tiled.encode(x), z, rtol=0, atol=0.5 * float(z.std()))
        gap = (tiled.decode(z) - model.decode(z)).abs().mean()
        assert float(gap) < 0.1 * float(model.decode(z).std())


@pytest.mark.parametrize("words", [
    lambda: Tiled(Local(), tile=10, halo=2, fade=3), lambda: Tiled(Local(), halo=0), lambda: Tiled(Local(), fade=0),
    lambda: Tiled(Local()).encode(torch.zeros(1, 3, 0, 8)),
    lambda: Tiled(Local()).decode(torch.zeros(1, 3, 4, 4), (9, 8)),
    lambda: Tiled(Local()).decode(torch.zeros(1, 3, 4, 4), (6, 8)),
])  # fmt: skip
def test_what_is_refused(words):
    with pytest.raises(BadInput):
        words()
