"""Words true in mean colour: against the textbook's loop, in closed form, and where there is nothing to hand on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from framefill.errors import BadInput
from framefill.latents.autoencoder import Layout
from framefill.latents.handing import handed_on
from framefill.latents.pictures import PictureCoder
from framefill.latents.quantiser import nearest
from framefill.latents.vqgan import VQGAN

BLACK_WHITE = torch.tensor([[-1.0], [1.0]])
CORNERS = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
LAYOUT = Layout(
    latent_channels=3, width=8, multipliers=(1, 2), blocks=1, attention=(False,) * 2, groups=4, straight=True
)


def pixel_by_pixel(z: np.ndarray, codes: np.ndarray, limit: float) -> np.ndarray:
    """Floyd and Steinberg's loop over z (h, w, D); at the edge the neighbours that are there share everything."""
    h, w, _ = z.shape
    z, words = z.copy(), np.zeros((h, w), int)
    for i in range(h):
        for j in range(w):
            words[i, j] = ((z[i, j] - codes) ** 2).sum(1).argmin()
            left = np.clip(z[i, j] - codes[words[i, j]], -limit, limit)
            shares = {(i, j + 1): 7, (i + 1, j - 1): 3, (i + 1, j): 5, (i + 1, j + 1): 1}
            shares = {(a, b): s for (a, b), s in shares.items() if a < h and 0 <= b < w}
            for place, share in shares.items():
                z[place] += left * share / sum(shares.values())
    return words


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 12), (13, 5)])
def test_it_is_floyd_and_steinbergs_loop(size):
    rng = np.random.default_rng(3)
    z, codes = rng.uniform(-1, 1, (2, *size, 3)), rng.uniform(-1, 1, (9, 3))
    found = handed_on(torch.tensor(z).movedim(3, 1), torch.tensor(codes), channels=3, limit=0.4)
    assert np.array_equal(found.numpy(), [pixel_by_pixel(one, codes, 0.4) for one in z])


@pytest.mark.parametrize("level", [-0.9, -0.5, 0.1, 0.77])
def test_the_mean_is_kept_up_to_what_the_last_latent_has_left(level):
    z = torch.full((1, 1, 12, 17), level)
    words = handed_on(z, BLACK_WHITE, channels=1, limit=2.0)
    total = float(BLACK_WHITE[words].sum())
    assert abs(total - level * 12 * 17) <= 1.001  # one code is at most 1 off, here that of one latent in 204
    plain = float(BLACK_WHITE[nearest(z.reshape(-1, 1), BLACK_WHITE)].sum())
    assert abs(plain - level * 12 * 17) > 15


def test_other_channels_keep_what_they_lost():
    z = torch.full((1, 3, 8, 8), 0.3)
    words = handed_on(z, CORNERS, channels=1, limit=2.0)
    means = CORNERS[words].mean((0, 1, 2))
    assert abs(float(means[0]) - 0.3) < 0.02
    assert means[1:].tolist() == [1, 1]


def test_codes_are_given_themselves_and_what_no_code_has_does_not_pile_up():
    words = torch.randint(8, (2, 9, 11), generator=torch.Generator().manual_seed(0))
    assert torch.equal(handed_on(CORNERS[words].movedim(3, 1), CORNERS, channels=3), words)
    z = torch.zeros(1, 1, 4, 40)
    z[..., :20] = 50.0
    found = BLACK_WHITE[handed_on(z, BLACK_WHITE, channels=1)][0, :, 21:, 0]
    assert abs(float(found.mean())) < 0.2  # unlimited, all of it would be white


def test_a_coder_whose_colours_go_straight_keeps_mean_colours():
    torch.manual_seed(0)
    model = VQGAN(LAYOUT, codes=8).eval()  # its networks have nothing to add yet: the pictures are the codes
    with torch.no_grad():
        model.quantiser.codebook.copy_(0.22 * CORNERS)
    coder = PictureCoder(model, tile=30)
    levels = np.full((1, 96, 96, 3), (110, 128, 143), np.uint8)
    words = coder.words(levels)
    assert words.shape == (1, 48, 48)
    assert set(words.ravel()) <= set(range(8))
    made = coder.reconstruct(levels)
    assert np.abs(made.mean((0, 1, 2)) - levels.mean((0, 1, 2))).max() < 0.5
    assert np.array_equal(made, coder.decode(model.latents(torch.from_numpy(words)).detach()))  # words say it all
    assert np.array_equal(made, coder.reconstruct(levels))
    with torch.no_grad():
        plain = model.decode(coder.encode(levels))
    assert float((plain.mean((0, 2, 3)) * 127.5 + 127.5 - torch.tensor([110, 128, 143])).abs().max()) > 10


def test_a_decoder_that_tints_is_met_by_other_words():
    torch.manual_seed(0)
    model = VQGAN(LAYOUT, codes=8).eval()
    with torch.no_grad():
        model.quantiser.codebook.copy_(0.22 * CORNERS)
        model.decoder.head.bias.copy_(torch.tensor([0.03, 0.0, -0.05]))  # 3.8 and -6.4 levels
    levels = np.full((2, 96, 96, 3), (110, 128, 143), np.uint8)
    levels[1] += 4  # each picture has a tint of its own

    def tint(rounds):
        made = PictureCoder(model, rounds=rounds).reconstruct(levels)
        return np.abs((made.astype(float) - levels).mean((1, 2))).max(1)

    assert tint(0).min() > 3
    assert tint(2).max() < 0.3


def test_without_a_straight_way_words_are_the_nearest_codes():
    torch.manual_seed(0)
    model = VQGAN(replace(LAYOUT, straight=False), codes=8).eval()
    z = torch.randn(2, 3, 6, 7)
    assert torch.equal(model.true_words(z), model.indices(z))


@pytest.mark.parametrize("straight", [True, False])
def test_other_latents_are_refused(straight):
    model = VQGAN(replace(LAYOUT, straight=straight), codes=8).eval()
    for wrong in (torch.zeros(1, 4, 6, 6), torch.zeros(3, 6, 6)):
        with pytest.raises(BadInput, match="latents have shape"):
            model.true_words(wrong)
        with pytest.raises(BadInput, match="latents have shape"):
            PictureCoder(model).decode(wrong)
