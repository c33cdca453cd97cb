"""Pictures of clips for people: a sheet of frames, clips side by side, a map of spread.

Rows share one time axis: a frame stands under the frame of the same number, and its border tells whether it
was given or filled in. Long clips go on below like music, all rows together in each stave.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from framefill.errors import BadInput
from framefill.video.clip import check_frames, with_channels

Rows = Sequence[tuple[str, np.ndarray]]  # a label and frames, uint8 (T, H, W, C)
Known = Sequence[np.ndarray | None]  # for each row: which frames were given, bool (T,); None: leave it open

_WIDTH = 1600  # of a sheet in pixels, about
_SHEET, _PANEL, _MOST = 64, 128, 320  # height of small frames on a sheet and in a panel; width of large ones
_MARGIN, _GAP, _BORDER, _LINE = 12, 6, 3, 20
_GROUND, _TEXT, _FAINT = (18, 20, 26), (232, 234, 238), (128, 134, 146)
_GIVEN, _FILLED = (150, 156, 168), (46, 204, 113)
# Nine colours along matplotlib's magma, whose equal steps look equally large.
_MAGMA = np.array(
    [
        *[(0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129)],
        *[(181, 54, 122), (229, 80, 100), (251, 135, 97), (254, 194, 135), (252, 253, 191)],
    ]
)


def contact_sheet(
    rows: Rows, *, known: Known | None = None, scale: int | None = None, numbers: Sequence[int] | None = None
) -> Image.Image:
    """One picture of all `rows`, each a label and frames uint8 (T, H, W, C), on a dark ground.

    `known` has for each row which frames were given, bool (T,): those get a grey border, frames filled in a
    green one. None instead, for one row or all, draws no border. `scale` enlarges frames by a whole factor
    without smoothing; None chooses one so that small frames can be seen and large ones are reduced. `numbers`
    are written above the columns, where frames are some of a longer clip; None counts from 0. A sheet is at
    most about 1600 pixels wide. Raises BadInput if there are no rows, for frames or marks of another kind,
    and for fewer numbers than columns.
    """
    marks = _marks(rows, known)
    tiles = [[_tile(frame, scale, _SHEET) for frame in frames] for _, frames in rows]
    layout = _layout([label for label, _ in rows], tiles)
    numbers = range(layout.frames) if numbers is None else numbers
    if len(numbers) != layout.frames:
        raise BadInput(f"{len(numbers)} numbers for {layout.frames} columns of frames; give one for each, or None")
    marked = any(mark is not None for mark in marks)
    sheet = Image.new("RGB", (layout.width, layout.height + marked * (_LINE + _GAP)), _GROUND)
    _write_axes(ImageDraw.Draw(sheet), layout, [label for label, _ in rows], numbers)
    for row, number in product(range(len(rows)), range(layout.frames)):
        if number < len(tiles[row]):
            _place(
                sheet,
                tiles[row][number],
                layout.corner(row, number),
                layout.cell,
                _colour(marks[row], number),
            )
    if marked:
        _write_legend(ImageDraw.Draw(sheet), layout.left, layout.height + _LINE // 2)
    return sheet


def side_by_side(rows: Rows, *, known: Known | None = None, scale: int | None = None) -> np.ndarray:
    """One clip of all `rows` next to each other under their labels: uint8 (T, H', W', 3), H' and W' even.

    A clip shorter than the longest stays on its last frame. `known`, `scale` and errors as in
    `contact_sheet`.
    """
    marks = _marks(rows, known)
    length = max(len(frames) for _, frames in rows)
    return np.stack([_panel(rows, marks, scale, number) for number in range(length)])


def heat(spread: np.ndarray, *, top: float | None = None) -> np.ndarray:
    """Colours uint8 (T, H, W, 3) of per-pixel `spread`, float (T, H, W): black for 0, pale yellow for `top`.

    `top` is the value of the brightest colour, in the units of `spread`; None takes the largest there is, so
    give one to compare clips. Raises BadInput for another shape, or values that are negative, NaN or
    infinite.
    """
    if spread.ndim != 3 or not (np.isfinite(spread) & (spread >= 0)).all():
        raise BadInput(f"a spread of shape {spread.shape}; give (T, H, W), finite and not negative")
    place = np.clip(spread / (top or spread.max() or 1.0), 0, 1) * (len(_MAGMA) - 1)
    channels = [np.interp(place, range(len(_MAGMA)), channel) for channel in _MAGMA.T]
    return np.stack(channels, -1).round().astype(np.uint8)


@dataclass(frozen=True)
class _Layout:
    """Where things stand: staves of all rows, `columns` frames wide, in cells (width, height)."""

    left: int
    cell: tuple[int, int]
    rows: int
    columns: int
    frames: int

    @property
    def stave(self) -> int:
        return _LINE + self.rows * self.cell[1] + 2 * _GAP

    @property
    def width(self) -> int:
        return self.left + self.columns * self.cell[0] - _GAP + _MARGIN

    @property
    def height(self) -> int:
        return _GAP + -(-self.frames // self.columns) * self.stave

    def corner(self, row: int, number: int) -> tuple[int, int]:
        line, column = divmod(number, self.columns)
        return self.left + column * self.cell[0], _GAP + line * self.stave + _LINE + row * self.cell[1]


def _layout(labels: list[str], tiles: list[list[Image.Image]]) -> _Layout:
    left = 2 * _MARGIN + max(_length(label) for label in labels)
    cell = _cell([tile for row in tiles for tile in row])
    frames = max(map(len, tiles))
    most = max(1, (_WIDTH - left) // cell[0])
    staves = -(-frames // most)
    return _Layout(left, cell, len(tiles), -(-frames // staves), frames)  # staves of equal length look better


def _cell(tiles: list[Image.Image]) -> tuple[int, int]:
    around = 2 * _BORDER + _GAP
    return max(tile.width for tile in tiles) + around, max(tile.height for tile in tiles) + around


def _marks(rows: Rows, known: Known | None) -> Known:
    if not rows:
        raise BadInput("there are no clips to show; give at least one")
    for _, frames in rows:
        check_frames(frames)
    marks = [None] * len(rows) if known is None else list(known)
    if len(marks) != len(rows):
        raise BadInput(f"{len(marks)} lists of known frames for {len(rows)} clips; give one for each, or None")
    for mark, (label, frames) in zip(marks, rows, strict=True):
        if mark is not None and np.shape(mark) != (len(frames),):
            raise BadInput(f"{label}: known has shape {np.shape(mark)}; give one bool for each of {len(frames)} frames")
    return marks


def _colour(mark: np.ndarray | None, number: int) -> tuple[int, int, int]:
    return _GROUND if mark is None else _GIVEN if mark[number] else _FILLED


def _tile(frame: np.ndarray, scale: int | None, least: int) -> Image.Image:
    picture = Image.fromarray(with_channels(frame, 3))
    if scale is None and picture.width > _MOST:
        return picture.reduce(-(-picture.width // _MOST))
    factor = scale or max(1, -(-least // picture.height))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _place(
    sheet: Image.Image,
    tile: Image.Image,
    corner: tuple[int, int],
    cell: tuple[int, int],
    colour: tuple[int, int, int],
) -> None:
    x = corner[0] + (cell[0] - _GAP - tile.width) // 2
    y = corner[1] + (cell[1] - _GAP - tile.height) // 2
    border = (x - _BORDER, y - _BORDER, x + tile.width + _BORDER, y + tile.height + _BORDER)
    sheet.paste(colour, border)
    sheet.paste(tile, (x, y))


def _panel(rows: Rows, marks: Known, scale: int | None, number: int) -> np.ndarray:
    numbers = [min(number, len(frames) - 1) for _, frames in rows]
    tiles = [_tile(frames[shown], scale, _PANEL) for (_, frames), shown in zip(rows, numbers, strict=True)]
    cell = _cell(tiles)
    cell = max(cell[0], *(_length(label) + 2 * _GAP for label, _ in rows)), cell[1]
    size = _GAP + len(rows) * cell[0], _GAP + _LINE + cell[1]
    panel = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), _GROUND)
    draw = ImageDraw.Draw(panel)
    for index, (label, _) in enumerate(rows):
        x = _GAP + index * cell[0]
        draw.text((x + (cell[0] - _GAP) // 2, _GAP + _LINE // 2), label, _TEXT, _font(), anchor="mm")
        _place(panel, tiles[index], (x, _LINE + _GAP), cell, _colour(marks[index], numbers[index]))
    return np.array(panel)


def _write_axes(draw: ImageDraw.ImageDraw, layout: _Layout, labels: list[str], numbers: Sequence[int]) -> None:
    middle = (layout.cell[0] - _GAP) // 2, (layout.cell[1] - _GAP) // 2
    for column, number in enumerate(numbers):
        x, y = layout.corner(0, column)
        draw.text((x + middle[0], y - _LINE // 2), str(number), _FAINT, _font(), anchor="mm")
    for (row, label), first in product(enumerate(labels), range(0, layout.frames, layout.columns)):
        y = layout.corner(row, first)[1] + middle[1]
        draw.text((layout.left - _MARGIN, y), label, _TEXT, _font(), anchor="rm")


def _write_legend(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    for colour, text in ((_GIVEN, "given"), (_FILLED, "filled in")):
        draw.rectangle((x, y - 5, x + 10, y + 5), fill=colour)
        draw.text((x + 18, y), text, _TEXT, _font(), anchor="lm")
        x += 18 + _length(text) + 4 * _GAP


@cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(14)


def _length(text: str) -> int:
    return round(_font().getlength(text))
