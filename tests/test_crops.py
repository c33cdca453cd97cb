"""Pieces of pictures: pure functions of their seed, everywhere in the picture, at every scale, and never distorted."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from framefill.errors import BadInput
from framefill.recipes.autoencoder import PRESETS, TINY
from framefill.video.images.album import Album
from framefill.video.images.crops import Crops

SIDE = 64


@pytest.fixture
def album(tmp_path):
    """One picture whose red is the column and whose green is the row, four levels a pixel."""
    place = tmp_path / "pictures" / "train" / "ramp.png"
    place.parent.mkdir(parents=True)
    columns, rows = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    Image.fromarray(np.stack([3 * columns, 3 * rows, 0 * rows], -1).astype(np.uint8)).save(place)
    (place.parents[1] / "val").mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(place.parents[1] / "val" / "black.png")
    return Album.open(tmp_path / "pictures", "train", height=SIDE, width=SIDE, channels=3, cache=tmp_path / "cache")


def test_a_piece_is_a_function_of_its_seed_and_says_where_it_lay(album):
    crops = Crops(album, 16, 16)
    assert len(crops) == 1
    slopes, lefts, tops = [], [], []
    for seed in range(300):
        piece = crops.sample(seed)
        assert piece.shape == (1, 16, 16, 3)
        assert piece.dtype == np.uint8
        if seed < 5:
            assert np.array_equal(piece, crops.sample(seed, length=9, strides=(2,)))
        inside = piece[0, 4:12, 4:12].astype(float)
        across, down = np.diff(inside[..., 0], axis=1).mean(), np.diff(inside[..., 1], axis=0).mean()
        assert across == pytest.approx(down, abs=0.3)  # as tall as wide
        slopes.append(across / 3)
        lefts.append(piece[0, :, 0, 0].min() / 3)
        tops.append(piece[0, 0, :, 1].min() / 3)
    # log scale uniform in [0, log 4]: a quarter of the draws in each of four equal parts
    share = np.histogram(np.log(slopes) / np.log(4), bins=4, range=(-0.05, 1.05))[0] / 300
    assert np.abs(share - 0.25).max() < 0.1
    small = np.array(slopes) < 1.2
    assert np.ptp(np.array(lefts)[small]) > 35
    assert np.ptp(np.array(tops)[small]) > 35
    assert abs(np.corrcoef(lefts, tops)[0, 1]) < 0.9


def test_a_piece_as_large_as_the_picture_is_the_picture(album):
    assert np.array_equal(Crops(album, SIDE, SIDE).sample(3)[0], album.pictures()[0])
    wide = Crops(album, 8, SIDE).sample(4)[0].astype(int)
    assert np.array_equal(wide[0, :, 0], 3 * np.arange(SIDE))


def test_half_of_the_pieces_change_their_colours_and_nothing_else(album):
    plain, mixed = Crops(album, 16, 16), Crops(album, 16, 16, recolour=True)
    orders = []
    for seed in range(200):
        before, after = plain.sample(seed)[0], mixed.sample(seed)[0]
        columns = [next(i for i in range(3) if np.array_equal(after[..., j], before[..., i])) for j in range(3)]
        orders.append(tuple(columns))
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert len(set(orders)) == 6
    assert 0.45 < orders.count((0, 1, 2)) / 200 < 0.72  # 1/2 and, of the other half, 1/6


def test_pieces_larger_than_the_pictures_are_refused(album):
    with pytest.raises(BadInput, match="pieces of 16x65 pixels do not fit into pictures of 64x64"):
        Crops(album, 65, 16)


def test_the_recipe_trains_on_pieces_where_it_keeps_more(album, tmp_path):
    folder = tmp_path / "pictures"
    recipe = replace(TINY, height=16, width=16, kept=SIDE, flip=False)
    source = recipe.source(folder, "train", cache=tmp_path / "cache")
    assert isinstance(source, Crops)
    assert isinstance(replace(recipe, kept=0).source(folder, "train", cache=tmp_path / "cache"), Album)
    assert recipe.batch(source, [1, 2, 3]).shape == (3, 3, 16, 16)
    assert not source.recolour
    assert replace(recipe, recolour=True).source(folder, "train", cache=tmp_path / "cache").recolour
    assert not replace(recipe, recolour=True).source(folder, "val", cache=tmp_path / "cache").recolour
    assert all(PRESETS[name][0].kept > PRESETS[name][0].height for name in PRESETS if name.startswith("photos"))
