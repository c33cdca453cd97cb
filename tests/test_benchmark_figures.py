"""The benchmarks behind docs/compression.md: bounds are checked, losses are told, seams lie where tiles meet."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import codec_costs
import drawing
import fields
import lossless
import rate_distortion


def smooth(seed=0):
    """A field (6, 12, 16) of float32 about 280."""
    rng = np.random.default_rng(seed)
    return (280 + rng.normal(size=(6, 12, 16)).cumsum(1).cumsum(2)).astype(np.float32)


@pytest.mark.parametrize("bound", [0.001, 0.1])
def test_fields_come_back_within_the_bound_and_a_tighter_one_costs_more(bound):
    pytest.importorskip("h5netcdf")
    values = smooth()
    values[:, :2] = np.nan
    coded = fields.ours(values, bound)
    assert fields.largest_error(coded.made, values) <= bound
    assert coded.size > fields.ours(values, 10 * bound).size


def test_an_error_over_the_bound_is_said_in_the_table(monkeypatch):
    values = smooth()
    made = values.copy()
    made[3, 4, 5] += 0.5
    monkeypatch.setitem(fields.CODECS, "off", lambda values, bound: fields.Coded(1234, made))
    assert fields.cell("off", values, 0.25) == "1,234 (over: 0.5)"
    assert fields.cell("off", values, 0.5) == "1,234"
    made[0, 0, 0] = np.nan
    assert fields.cell("off", values, 0.5) == "1,234 (over: inf)"


def test_other_codecs_get_the_mean_where_values_are_missing_and_ours_gets_the_field(monkeypatch):
    values = smooth()
    values[0, :3] = np.nan
    seen = {}
    for name in ("ours", "other"):
        work = lambda given, bound, name=name: fields.Coded(1, seen.setdefault(name, given))  # noqa: E731
        monkeypatch.setitem(fields.CODECS, name, work)
        fields.cell(name, values, 0.1)
    assert np.array_equal(seen["ours"], values, equal_nan=True)
    assert np.allclose(seen["other"][0, :3], np.nanmean(values))
    assert np.array_equal(seen["other"][1:], values[1:])


def test_jpeg_xl_and_zfp_are_given_what_keeps_the_bound(monkeypatch):
    # A stand-in that stores frames as they are, and a zfp that is off by a quarter of the tolerance it was given.
    stand_in = SimpleNamespace(
        jpegxl_encode=lambda frame, **_: frame.tobytes() + bytes(7),
        jpegxl_decode=lambda stream: np.frombuffer(stream[:-7], np.uint16),
        zfp_encode=lambda values, level, **_: np.float64([level]).tobytes() + bytes(int(10 / level)),
        zfp_decode=lambda stream: values + np.float32(np.frombuffer(stream[:8])[0] / 4),
    )
    monkeypatch.setattr(fields, "codecs", lambda: stand_in)
    values = smooth()
    coded = fields.jpeg_xl(values, 0.01)
    assert 0.009 < fields.largest_error(coded.made, values) <= 0.01
    assert coded.size == 2 * values.size + 7  # one tall picture: six frames would have six ends
    assert fields.jpeg_xl(values, 1e-5) is None  # float32 does not hold such steps at 280
    assert fields.loosest_zfp(values, 0.25).size == 8 + 10  # 4 times the bound is just within it, 8 times is not


def test_without_imagecodecs_rows_say_so(monkeypatch):
    def absent():
        raise ImportError

    monkeypatch.setattr(fields, "codecs", absent)
    assert [fields.cell(name, smooth(), 0.1) for name in ("JPEG XL, 16 bits", "SZ3", "zfp")] == ["not installed"] * 3
    assert "no imagecodecs" in fields.versions()


def test_lossless_ends_where_a_picture_comes_back_otherwise():
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    for way in (
        lossless.pillow("png", optimize=True),
        lossless.pillow("webp", lossless=True, exact=True),
        lossless.ours("photos", 0),
    ):
        assert lossless.measured(way, [picture, picture])[0] == 2 * way(picture)[0]
    answers = iter([picture, picture ^ 1])
    with pytest.raises(SystemExit, match="picture 1 "):
        lossless.measured(lambda _: (9, next(answers)), [picture, picture])


def test_lengths_are_those_of_the_file():
    codec = codec_costs.codecs.codec("photos")
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    quality, estimated, written, size = codec_costs.lengths(codec, picture, 2)
    assert quality == 2
    assert 0 <= written - estimated < 8 * 3 * 4  # three messages, whose ends cost bytes
    assert size == len(codec.compress(codec_costs.Picture(picture), quality=2)) > written / 8
    assert "| all | 2 | " in codec_costs.lengths_table([(2, estimated, written, size)] * 2)


def test_an_error_that_jumps_at_one_column_is_found_in_its_kind():
    codec = SimpleNamespace(model=SimpleNamespace(stride=8), tile=12, halo=1, fade=2)
    width, height = 8 * 20, 8 * 9  # across two tiles 0-12 and 8-20, which melt from latent 9 to 11; down one
    kinds = codec_costs.places(codec, width)
    assert sum(kinds.values()).tolist() == [1] * (width - 1)
    melting = np.flatnonzero(kinds["where tiles melt"]) + 1
    assert melting.min() == 8 * 9 + 1
    assert melting.max() == 8 * 11 - 1
    truth = np.full((height, width, 3), 100, np.uint8)
    for x, kind in ((8 * 9 + 4, "where tiles melt"), (8 * 3 + 4, "elsewhere"), (8 * 5, "at edges of blocks")):
        made = truth.copy()
        made[:, x:] += 3
        jumps = codec_costs.jumps(truth, made, rows=10)
        assert np.flatnonzero(jumps).tolist() == [x - 1]
        assert jumps[x - 1] == pytest.approx(3)
        assert {name for name, size in codec_costs.seams(codec, truth, made).items() if size} == {kind}


def test_a_child_tells_its_own_peak(capsys, monkeypatch):
    monkeypatch.setattr(codec_costs, "command", lambda: None)
    codec_costs.child(["info"])
    told = codec_costs.json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 10 < told["MB"] < 1e5
    assert told["seconds"] > 0


def test_rows_of_steps_share_their_file_and_say_how_far_they_are_from_the_most_steps(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(drawing, "features_of", lambda made: np.concatenate([p.reshape(8, -1)[:, :4] for p in made]))
    truth = [rng.integers(60, 190, (176, 176, 3)).astype(np.uint8) for _ in range(4)]
    files = []

    def decompress(file, steps, seed):
        files.append((file, seed))
        return SimpleNamespace(pixels=truth[seed] + np.uint8(8 if steps < 4 else 4))

    codec = SimpleNamespace(compress=lambda picture, quality: bytes(121 * (quality + 1)), decompress=decompress)
    rows = drawing.measured(codec, truth, drawing.features_of(truth), 3, [0, 4, 30])
    assert [row["rate"] for row in rows] == [8 * 484 / 176**2] * 3
    assert files == [(bytes(484), seed) for _ in range(3) for seed in range(4)]
    # An error of 8 and 4 levels everywhere: PSNR in closed form, and a shift of features whose square is 4 times.
    assert [row["psnr"][0] for row in rows] == pytest.approx(20 * np.log10([255 / 8, 255 / 4, 255 / 4]))
    assert [row["frechet"] for row in rows] == pytest.approx([4 * 64, 4 * 16, 4 * 16])
    assert [row["excess"][0] for row in rows] == pytest.approx([300, 0, 0], abs=1e-6)
    assert rows[0]["excess"] == pytest.approx([300, 300, 300])
    assert drawing.line("photos", 3, rows[1]).startswith("| photos, 3 | 0.125 | 4 | 36.09 [36.09, 36.09] |")


def test_squares_of_a_picture_tile_it():
    picture = np.arange(2 * 3).repeat(128 * 128).reshape(2, 3, 128, 128).swapaxes(1, 2).reshape(256, 384, 1)
    parts = rate_distortion.crops(np.pad(picture.repeat(3, 2), ((0, 40), (0, 9), (0, 0))))
    assert parts.shape == (6, 128, 128, 3)
    assert [int(part.min()) for part in parts] == [int(part.max()) for part in parts] == list(range(6))
