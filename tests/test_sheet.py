"""Pictures for people: what stands where, in which colour, and that it can be told apart."""

import numpy as np
import pytest
from PIL import Image

from framefill.errors import BadInput
from framefill.video.sheet import contact_sheet, heat, side_by_side

GROUND, GIVEN, FILLED = (18, 20, 26), (150, 156, 168), (46, 204, 113)
LUMA = np.array([0.2126, 0.7152, 0.0722])


def clip(length, level=0, size=(16, 16), channels=3):
    """Frames of one colour each, which no other frame of the test has."""
    frames = np.empty((length, *size, channels), np.uint8)
    frames[:] = 255 - level
    frames[..., 0] = np.arange(length)[:, None, None] * 2 + level
    return frames


def areas(picture, colour):
    """Rows and columns that hold `colour` exactly."""
    return np.nonzero(np.asarray(picture, np.uint32) @ [65536, 256, 1] == np.uint32(colour) @ [65536, 256, 1])


def box(picture, colour):
    rows, columns = areas(picture, colour)
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


def around(picture, colour, distance):
    """The colour just outside the area of `colour`, on all four sides."""
    top, left, bottom, right = box(picture, colour)
    pixels = np.asarray(picture)
    sides = [pixels[top - distance, left], pixels[bottom - 1 + distance, left]]
    sides += [pixels[top, left - distance], pixels[top, right - 1 + distance]]
    assert all((side == sides[0]).all() for side in sides)
    return tuple(int(level) for level in sides[0])


def test_frames_stand_in_rows_and_columns():
    sheet = contact_sheet([("one", clip(5)), ("two", clip(3, 40))])
    boxes = {(row, t): box(sheet, c[t, 0, 0]) for row, c in enumerate([clip(5), clip(3, 40)]) for t in range(len(c))}
    assert len({b[1] for (row, t), b in boxes.items() if t == 1}) == 1  # the same time, the same column
    assert len({b[0] for (row, t), b in boxes.items() if row == 1}) == 1
    lefts = [boxes[0, t][1] for t in range(5)]
    assert len(set(np.diff(lefts))) == 1
    assert boxes[0, 0][0] < boxes[1, 0][0]
    assert all((bottom - top, right - left) == (64, 64) for top, left, bottom, right in boxes.values())
    assert sheet.getpixel((0, 0)) == GROUND


def test_small_frames_are_enlarged_without_smoothing_and_scale_is_obeyed():
    checks = (np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)[None, ..., None]
    for scale, factor in ((None, 4), (7, 7)):
        pixels = np.asarray(contact_sheet([("", checks)], scale=scale))
        blocks = np.kron(checks[0, ..., 0], np.ones((factor, factor), np.uint8))
        side = 16 * factor
        height, width = pixels.shape[:2]
        found = [
            (y, x) for y in range(height - side) for x in range(width - side)
            if pixels[y, x, 0] == blocks[0, 0] and (pixels[y : y + side, x : x + side, 0] == blocks).all()
        ]  # fmt: skip
        assert len(found) == 1


def test_large_frames_are_reduced():
    sheet = contact_sheet([("", clip(2, size=(400, 1000)))])
    top, left, bottom, right = box(sheet, clip(2)[1, 0, 0])
    assert (bottom - top, right - left) == (100, 250)


def test_borders_tell_given_from_filled_in():
    known = np.array([True, False, True])
    rows = [("truth", clip(3, 40)), ("sample", clip(3))]
    sheet = contact_sheet(rows, known=[None, known])
    assert [around(sheet, clip(3)[t, 0, 0], 2) for t in range(3)] == [GIVEN, FILLED, GIVEN]
    assert [around(sheet, clip(3)[t, 0, 0], 5) for t in range(3)] == [GROUND] * 3
    assert [around(sheet, clip(3, 40)[t, 0, 0], 2) for t in range(3)] == [GROUND] * 3
    plain = contact_sheet(rows)
    assert sheet.height > plain.height  # the legend
    assert len(areas(sheet.crop((0, plain.height, *sheet.size)), GIVEN)[0]) > 50
    assert len(areas(sheet.crop((0, plain.height, *sheet.size)), FILLED)[0]) > 50
    assert not len(areas(plain, GIVEN)[0])


def test_long_clips_go_on_below_with_their_rows_together():
    rows = [("one", clip(50)), ("two", clip(40, 5))]
    sheet = contact_sheet(rows)
    assert sheet.width <= 1600
    boxes = {row: [box(sheet, frame[0, 0]) for frame in frames] for row, (_, frames) in enumerate(rows)}
    tops = {row: [place[0] for place in places] for row, places in boxes.items()}
    lefts = {row: [place[1] for place in places] for row, places in boxes.items()}
    assert lefts[0][:40] == lefts[1]
    assert len(set(tops[0])) == 3
    assert max(tops[0][:17]) < min(tops[1][:17]) < min(tops[0][17:34]) < min(tops[1][17:34])
    assert len(set(lefts[0])) == 17  # three staves of equal length


def ink(picture, area):
    return int((np.asarray(picture.crop(area)).max(-1) > 200).sum())


def test_labels_can_be_read():
    sheet = contact_sheet([("a label of some length", clip(2)), ("", clip(2, 40))])
    top, left, bottom, _ = box(sheet, clip(2)[0, 0, 0])
    assert ink(sheet, (0, top, left - 3, bottom)) > 150
    second = box(sheet, clip(2, 40)[0, 0, 0])
    assert ink(sheet, (0, second[0], left - 3, second[2])) == 0
    short = contact_sheet([("a", clip(2))])
    assert box(short, clip(2)[0, 0, 0])[1] < left - 100  # room is made for the label
    contrast = (LUMA @ (232, 234, 238)) / (LUMA @ GROUND)
    assert contrast > 10


def test_numbers_above_the_columns_are_those_of_the_frames():
    """A sheet of frames 0, 40 and 80 says so: without it they would be called 0, 1 and 2."""
    rows = [("", clip(3))]
    counted, plain = contact_sheet(rows, numbers=[0, 1, 2]), contact_sheet(rows)
    assert (np.asarray(counted) == np.asarray(plain)).all()
    sheet = contact_sheet(rows, numbers=[0, 40, 80])
    top, left, _, right = box(sheet, clip(3)[2, 0, 0])
    heads = [
        picture.crop((left, 0, right, top)).convert("L").point(lambda v: 255 * (v > 60)) for picture in (sheet, plain)
    ]
    widths = [picture.getbbox()[2] - picture.getbbox()[0] for picture in heads]
    assert widths[0] > 1.7 * widths[1]  # two figures, not one
    with pytest.raises(BadInput, match="2 numbers for 3 columns"):
        contact_sheet(rows, numbers=[0, 1])


def test_grey_and_colour_and_other_sizes_stand_together():
    grey = np.full((2, 8, 8, 1), 99, np.uint8)
    sheet = contact_sheet([("grey", grey), ("colour", clip(2, 40, (30, 50)))])
    assert len(areas(sheet, (99, 99, 99))[0]) == 2 * 64 * 64
    assert len(areas(sheet, clip(2, 40)[1, 0, 0])[0]) == 90 * 150


@pytest.mark.parametrize(
    ("rows", "known", "reason"),
    [
        ([], None, "no clips"),
        ([("a", np.zeros((2, 4, 4)))], None, "uint8"),
        ([("a", clip(2))], [], "0 lists"),
        ([("a", clip(2))], [np.ones(3, bool)], "each of 2 frames"),
    ],
)
@pytest.mark.parametrize("draw", [contact_sheet, side_by_side])
def test_what_cannot_be_drawn(draw, rows, known, reason):
    with pytest.raises(BadInput, match=reason):
        draw(rows, known=known)


def test_clips_side_by_side():
    known = np.array([True, False, False])
    panel = side_by_side([("one", clip(3)), ("two", clip(2, 40))], known=[known, None])
    assert panel.shape[0] == 3
    assert panel.dtype == np.uint8
    assert panel.shape[1] % 2 == panel.shape[2] % 2 == 0
    for number in range(3):
        left = box(panel[number], clip(3)[number, 0, 0])
        right = box(panel[number], clip(2, 40)[min(number, 1), 0, 0])  # the shorter one waits on its last frame
        assert left[0] == right[0]
        assert left[3] < right[1]
        assert left[2] - left[0] == 128
        assert around(panel[number], clip(3)[number, 0, 0], 2) == (GIVEN if known[number] else FILLED)
    top, left, _, right = box(panel[0], clip(3)[0, 0, 0])
    assert ink(Image.fromarray(panel[0]), (left, 0, right, top - 3)) > 20  # its label


def test_labels_beside_each_other_do_not_overlap():
    label = "a label longer than its clip is wide"
    one = side_by_side([(label, clip(1))])
    two = side_by_side([(label, clip(1)), (label, clip(1, 40))])
    words = [(frame[:24].max(-1) > 200).sum() for frame in (one[0], two[0])]
    assert words[1] == 2 * words[0]


def test_heat_is_monotone_and_covers_its_range():
    spread = np.linspace(0, 3, 256).reshape(1, 16, 16)
    colours = heat(spread).reshape(256, 3)
    assert heat(spread).shape == (1, 16, 16, 3)
    light = colours @ LUMA
    assert (np.diff(light) >= -0.5).all()
    assert light[0] < 2
    assert light[-1] > 240
    assert np.diff(light).max() < 4  # no step that the eye would take for an edge


def test_heat_has_a_common_top():
    spread = np.array([0.0, 0.5, 1.0]).reshape(1, 1, 3)
    assert (heat(spread * 4) == heat(spread)).all()
    assert (heat(spread, top=2.0)[0, 0, 2] == heat(spread)[0, 0, 1]).all()
    assert (heat(spread, top=0.5)[0, 0, 1:] == heat(spread)[0, 0, 2]).all()
    assert (heat(np.zeros((1, 2, 2))) == heat(spread)[0, 0, 0]).all()


@pytest.mark.parametrize(
    "spread",
    [np.zeros((2, 2)), np.full((1, 2, 2), np.nan), np.full((1, 2, 2), np.inf), np.full((1, 2, 2), -1.0)],
)
def test_spreads_that_are_none(spread):
    with pytest.raises(BadInput, match="spread"):
        heat(spread)
