"""Colour of decoded frames: matrix, range, depth, primaries and transfer against the standards' own numbers."""

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from framefill.video import colour, luma, sinks
from framefill.video.tags import Tags

# ITU-R BT.2087: light for BT.709 primaries as light for BT.2020 primaries.
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}


def planes(frame, *arrays):
    for plane, array in zip(frame.planes, arrays, strict=True):
        rows = np.zeros((plane.height, plane.line_size // array.itemsize), array.dtype)
        rows[:, : array.shape[1]] = array
        plane.update(rows)
    return frame


def stored(rgb, matrix, *, full, bits, tagged=True):
    """A 4:4:4 frame of colours (H, W, 3) in [0, 1], by the formulas of ITU-R BT.709, section 3."""
    kr, kb = LUMA[matrix]
    r, g, b = np.moveaxis(rgb, -1, 0)
    luma = kr * r + (1 - kr - kb) * g + kb * b
    blue, red = (b - luma) / (2 * (1 - kb)), (r - luma) / (2 * (1 - kr))
    scale, top = 2 ** (bits - 8), 2**bits - 1
    kind = np.uint8 if bits == 8 else np.uint16
    if full:
        values = [luma * top, blue * top + 128 * scale, red * top + 128 * scale]
    else:
        values = [(219 * luma + 16) * scale, (224 * blue + 128) * scale, (224 * red + 128) * scale]
    arrays = [v.round().clip(0, top).astype(kind) for v in values]
    frame = planes(av.VideoFrame(rgb.shape[1], rgb.shape[0], "yuv444p" if bits == 8 else "yuv444p10le"), *arrays)
    frame.color_range = ColorRange.JPEG if full else ColorRange.MPEG
    if tagged:
        frame.colorspace = matrix
    return frame


def patches(height=16, seed=0):
    """Colours that stay inside the range of every coding, in blocks of 16 columns."""
    return np.repeat(np.random.default_rng(seed).uniform(0.1, 0.9, (1, 24, 3)), 16, 1).repeat(height, 0)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", sorted(LUMA))
def test_matrix_range_and_depth_are_those_of_the_file(matrix, full, bits):
    wanted = patches()
    frame = stored(wanted, matrix, full=full, bits=bits)
    assert np.abs(colour.rgb(frame) / 255 - wanted).max() < (2.6 if bits == 8 else 1.6) / 255
    deep = colour.rgb(frame, deep=True)
    assert deep.dtype == np.uint16
    assert np.abs(deep / 65535 - wanted).max() < 1.6 / (255 if bits == 8 else 1023)


@pytest.mark.parametrize(("height", "matrix"), [(480, 5), (576, 5), (720, 1)])
@pytest.mark.parametrize("deep", [False, True])
def test_an_unsaid_matrix_is_that_of_the_size(height, matrix, deep):
    wanted = patches(height)
    frame = stored(wanted, matrix, full=False, bits=8, tagged=False)
    assert np.abs(colour.rgb(frame, deep=deep) / (65535 if deep else 255) - wanted).max() < 2.6 / 255


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("deep", [False, True])
def test_decoding_neither_darkens_nor_brightens(bits, deep):
    """The mean of many levels comes back to a fiftieth of a level."""
    scale, kind = 2 ** (bits - 8), np.uint8 if bits == 8 else np.uint16
    luma = np.random.default_rng(0).integers(16 * scale, 235 * scale + 1, (512, 512)).astype(kind)
    grey = np.full_like(luma, 128 * scale)
    frame = planes(av.VideoFrame(512, 512, "yuv444p" if bits == 8 else "yuv444p10le"), luma, grey, grey)
    frame.color_range, frame.colorspace = ColorRange.MPEG, 1
    wanted = (luma.astype(float) - 16 * scale) / (219 * scale) * 255
    found = colour.rgb(frame, deep=deep) / (257 if deep else 1)
    assert abs((found.mean(-1) - wanted).mean()) < 0.02


@pytest.mark.parametrize(("name", "bits"), [("gray", 8), ("gray10le", 10)])
@pytest.mark.parametrize("full", [False, True])
def test_grey_of_any_depth(name, bits, full):
    top, scale = 2**bits - 1, 2 ** (bits - 8)
    levels = np.arange(16 * scale, 235 * scale + 1).astype(np.uint8 if bits == 8 else np.uint16)[None].repeat(4, 0)
    frame = planes(av.VideoFrame(levels.shape[1], 4, name), levels)
    frame.color_range = ColorRange.JPEG if full else ColorRange.MPEG
    wanted = levels / top if full else (levels / scale - 16) / 219
    for deep, unit in ((False, 255), (True, 65535)):
        found = colour.rgb(frame, deep=deep)[..., 0] / unit
        assert np.abs(found - wanted).max() < 0.51 / 255 if not deep else np.abs(found - wanted).max() < 1 / top


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p", "yuv420p10le", "yuv444p10le"])
@pytest.mark.parametrize("tags", [Tags(), Tags(9, 16, 9), Tags(5, 6, 5), Tags(7, 7, 7), Tags(full=True)])
def test_encoding_neither_darkens_nor_brightens(tags, name):
    """What is written is what the standards say, in the mean to a twentieth of a level (a fiftieth but for swscale)."""
    bits = 10 if name.endswith("10le") else 8
    top, kind = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    picture = np.random.default_rng(0).integers(top // 8, top * 7 // 8, (96, 96, 3)).repeat(2, 0).repeat(2, 1)
    frame = sinks._converted(picture.astype(kind), name, bits, tags)
    wanted = stored(picture / top, tags.matrix, full=tags.full, bits=bits)
    mine = [numbers(frame, i, kind) for i in range(3)]
    theirs = [numbers(wanted, i, kind) for i in range(3)]
    step = 2 if "420" in name else 1
    theirs = [theirs[0], *(part[::step, ::step] for part in theirs[1:])]
    for written, wanted_ in zip(mine, theirs, strict=True):
        off = (written.astype(float) - wanted_) / 2 ** (bits - 8)
        assert abs(off.mean()) < (0.05 if bits == 8 and not tags.full else 0.02)
        assert np.abs(off).max() <= (1 if bits == 8 else 0.25)


def test_odd_sizes_are_halved_with_their_last_row_and_column_twice():
    """A picture whose last row and column are of another colour keeps that colour where nothing else is near."""
    picture = np.full((5, 7, 3), 100, np.uint8)
    picture[-1], picture[:, -1] = (200, 40, 90), (200, 40, 90)
    frame = luma.stored(picture, "yuv420p", Tags(full=True))
    alone = luma.stored(picture[-1:, -1:], "yuv444p", Tags(full=True))
    assert numbers(frame, 1, np.uint8).shape == (3, 4)
    for plane in (1, 2):
        assert numbers(frame, plane, np.uint8)[-1, -1] == numbers(alone, plane, np.uint8)[0, 0]


def numbers(frame, plane, kind):
    """What is stored in a plane (H, W)."""
    one = frame.planes[plane]
    rows = np.frombuffer(bytes(one), kind).reshape(one.height, -1)
    return rows[:, : one.width]


def test_bt2020_primaries_come_to_bt709():
    wanted = patches()
    wide = (wanted**2.4 @ TO_2020.T) ** (1 / 2.4)
    frame = stored(wide, 9, full=False, bits=10)
    frame.color_primaries = 9
    # The matrix of BT.2087 is printed with four digits, and dark levels are steep.
    assert np.abs(colour.rgb(frame, deep=True) / 65535 - wanted).max() < 0.008
    assert np.abs(colour.rgb(frame) / 255 - wanted).max() < 0.010
    frame.color_primaries = 1
    assert np.abs(colour.rgb(frame) / 255 - wanted).max() > 0.03  # without it the colours are plainly others


@pytest.mark.parametrize("primaries", [1, 5, 6, 9, 12])
def test_white_is_white_on_every_screen(primaries):
    grey = np.linspace(0, 1, 12, dtype=np.float32)[None, :, None].repeat(3, -1)
    assert np.abs(colour.to_bt709(grey, primaries) - grey).max() < 1e-4


def test_pq_is_its_published_curve():
    assert colour.pq_light(np.float32([0, 0.5806888, 0.7518271, 1])) == pytest.approx(
        [0, 203, 1000, 10_000], rel=2e-3, abs=1e-4
    )


def test_highlights_are_rolled_off_not_cut():
    ramp = np.linspace(0.02, 1, 200, dtype=np.float32)[None, :, None].repeat(3, -1)
    shown = colour.to_bt709(ramp, 9, pq=True)[0, :, 0]
    assert (np.diff(shown) > 0).all()
    assert shown[-1] < 1
    half_white = np.float32([[[0.50972]] * 3]).reshape(1, 1, 3)  # 101.5 candela: below the knee nothing is bent
    assert colour.pq_light(half_white).flat[0] == pytest.approx(101.5, rel=0.005)
    assert colour.to_bt709(half_white, 9, pq=True).flat[0] == pytest.approx(0.5 ** (1 / 2.4), rel=0.01)
