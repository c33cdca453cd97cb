"""benchmarks/rate_distortion.py: rates are those of files, codecs are undone exactly, marks lie on the curves."""

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from framefill import features
from framefill.latents.autoencoder import Layout
from framefill.latents.pictures import PictureCoder
from framefill.latents.vqgan import VQGAN

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import rate_distortion as bench
import rate_distortion_codecs as codecs
import rate_distortion_video as video

SIDE = 176


def picture(seed=0, height=SIDE, width=SIDE):
    """A smooth picture with some grain, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / (9 + seed) + c) * np.cos(y / (7 + c)) for c in range(3)], -1)
    return np.clip(128 + 90 * waves + rng.normal(0, 6, waves.shape), 0, 255).round().astype(np.uint8)


def fixed(size, error):
    """A codec whose files have `size` bytes times the setting, and whose pictures are off by error / setting."""
    return codecs.Way("fixed", (1, 2, 4), lambda p, s: (b"x" * (size * s), np.clip(p, 8, 247) + np.uint8(error // s)))


@pytest.fixture(autouse=True)
def _without_butteraugli(monkeypatch, request):
    if "butteraugli" not in request.node.name:
        real = shutil.which
        monkeypatch.setattr(bench.shutil, "which", lambda name: None if name == "butteraugli_main" else real(name))


def test_rates_are_bytes_of_all_files_over_all_pixels():
    truth = [np.clip(picture(), 8, 247), np.clip(picture(1, SIDE, 2 * SIDE), 8, 247)]
    points = [bench.measured(fixed(1000, 8), setting, truth) for setting in (1, 2, 4)]
    assert [p.bits for p in points] == pytest.approx([s * 16000 / (3 * SIDE**2) for s in (1, 2, 4)])
    assert points[0].scores["bits"] == pytest.approx([8000 / SIDE**2, 4000 / SIDE**2])
    # An error of 8, 4, 2 levels everywhere is a PSNR in closed form.
    assert [p.mean("psnr") for p in points] == pytest.approx([20 * math.log10(255 / e) for e in (8, 4, 2)])
    assert "butteraugli" not in points[0].scores


def test_marks_lie_on_the_curve_of_the_means():
    truth = [np.clip(picture(), 8, 247)]
    points = [bench.measured(fixed(1000, 8), setting, truth) for setting in (1, 2, 4)]
    found = bench.marks(points)["fixed"]
    # PSNR rises by 6.02 dB with every doubling of the rate, so the curve is straight and its crossing known.
    share = (32 - 20 * math.log10(255 / 8)) / (20 * math.log10(2))
    assert found["PSNR, dB = 32"] == pytest.approx(8000 / SIDE**2 * 2**share)
    assert math.isnan(found["PSNR, dB = 28"])
    assert "| fixed |" in bench.marks_table(points)


def test_classical_codecs_pass_and_png_loses_nothing(monkeypatch):
    monkeypatch.setattr(codecs.shutil, "which", lambda name: None)
    truth = picture()
    ways = {way.name: way for way in codecs.classical((10, 80))}
    assert {"JPEG", "WebP", "PNG"} <= ways.keys()
    assert "JPEG XL" not in ways
    for name in ways.keys() - {"PNG"}:
        (small, rough), (large, fine) = (ways[name].code(truth, quality) for quality in (10, 80))
        assert len(small) < len(large)
        assert bench.psnr(rough, truth) < bench.psnr(fine, truth)
    file, back = ways["PNG"].code(truth, 9)
    assert np.array_equal(back, truth)
    assert np.array_equal(codecs.opened(codecs.BytesIO(file)), truth)


def test_vector_quantisation_is_exact_where_blocks_repeat_and_counts_its_codebook():
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (4, 4, 4, 3)).astype(np.uint8)
    order = rng.integers(0, 4, (8, 10))
    truth = tiles[order].swapaxes(1, 2).reshape(32, 40, 3)[:31, :38]  # edges that do not fill a block
    inner = truth[:28, :36]
    file, back = codecs.blocks_coded(inner, (4, 64))
    assert np.array_equal(back, inner)
    assert len(file) == 64 * 4 * 4 * 3 + math.ceil(7 * 9 * 6 / 8)
    assert codecs.blocks_coded(truth, (4, 16))[1].shape == truth.shape


def test_lloyd_finds_means():
    points = np.array([[0.0], [2.0], [100.0], [104.0]], np.float32)
    assert sorted(codecs.clustered(points, 2).ravel().tolist()) == [1, 102]
    # Every round lowers the distance, or leaves it.
    spread = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    far = [
        torch.cdist(torch.from_numpy(spread), torch.from_numpy(codecs.clustered(spread, 8, rounds=n)))
        for n in (0, 1, 4)
    ]
    far = [float(d.min(1).values.square().sum()) for d in far]
    assert far[0] > far[1] > far[2]


def test_words_cost_their_entropy_under_the_counts_of_others():
    counts = np.array([700, 200, 99, 1, 0])
    words = np.random.default_rng(0).choice(5, (1, 20, 30), p=counts / 1000)
    words[0, 0, 0] = 4  # never seen by the others, still coded
    reach, model = codecs.laws(counts)
    symbols = torch.from_numpy(words - reach)[:, None]
    (file,) = model.encode(symbols)[0]
    assert torch.equal(model.decode([[file]], (20, 30)).symbols, symbols)
    seen = words[words < 4]
    assert len(file) * 8 == pytest.approx(-np.log2(counts[seen] / 1000).sum() + 16, abs=24)


def test_a_vqgan_is_decoded_from_its_file_alone(monkeypatch):
    torch.manual_seed(0)
    layout = Layout(
        latent_channels=3, hidden=5, width=8, multipliers=(1, 2), blocks=1, attention=(False,) * 2, groups=4
    )
    coder = PictureCoder(VQGAN(layout, codes=5).eval())
    monkeypatch.setattr(codecs.framefill, "load", lambda path: coder)
    truth = [picture(0, 24, 40), picture(1, 32, 24)]
    way = codecs.vqgan("runs/own", truth)
    file, back = way.code(truth[0], "")
    assert np.array_equal(back, coder.reconstruct(truth[0][None])[0])
    assert way.name == "VQGAN own"
    # The other picture's counts are the law: what the second never used costs the least frequency there is.
    counts = np.bincount(coder.words(truth[1][None]).ravel(), minlength=5)
    _, model = codecs.laws(counts)
    costs = model.tables().costs[:5]
    assert len(file) * 8 == pytest.approx(costs[coder.words(truth[0][None]).ravel()].sum() + 16, abs=24)


def test_a_codec_of_ones_own_plugs_in(tmp_path):
    source = "from types import SimpleNamespace\n\ndef ways():\n    code = lambda picture, s: (b'12' * s, picture)\n"
    (tmp_path / "own.py").write_text(source + "    return [SimpleNamespace(name='own', settings=[1, 3], code=code)]\n")
    (way,) = codecs.plugged(f"{tmp_path / 'own.py'}:ways")
    assert (way.name, way.settings) == ("own", (1, 3))
    point = bench.measured(way, 3, [picture()])
    assert point.bits == 48 / SIDE**2
    assert point.mean("ssimulacra2") == pytest.approx(100, abs=1e-3)


def test_a_codec_that_changes_the_size_is_found_out():
    with pytest.raises(AssertionError, match="short"):
        bench.measured(codecs.Way("short", (1,), lambda p, s: (b"", p[:-1])), 1, [picture()])


def test_what_is_written_can_be_read(tmp_path):
    truth = [picture()]
    points = [bench.measured(fixed(1000, 8), setting, truth) for setting in (1, 2, 4)]
    points.append(bench.measured(codecs.Way("once", ("",), lambda p, s: (b"y" * 500, p)), "", truth))
    bench.written(tmp_path, "text", points, ["a.png"], truth, 0.2)
    held = json.loads((tmp_path / "points.json").read_text())
    assert [row["rate"] for row in held["points"]] == [p.bits for p in points]
    assert held["points"][1]["bits"] == points[1].scores["bits"]
    assert held["marks"]["once"]["PSNR, dB = 32"] is None
    page = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert page.shape == (14 + 256, 3 * 256, 3)  # the original and two codecs
    assert np.array_equal(page[14 : 14 + SIDE, :SIDE], truth[0])
    assert np.array_equal(page[14 : 14 + SIDE, 512 : 512 + SIDE], truth[0])


def test_crops_tile_the_picture_from_the_corner():
    whole = picture(0, 300, 400)
    parts = bench.crops(whole)
    assert parts.shape == (6, 128, 128, 3)
    assert np.array_equal(parts[4], whole[128:256, 128:256])


def test_the_frechet_distance_is_of_features_of_crops(monkeypatch):
    monkeypatch.setattr(features, "efficientnet_lite0", lambda: lambda crops: crops.mean(axis=(1, 2)) / 10)
    truth = [np.clip(picture(i, 256, 384), 0, 247) for i in range(2)]
    real = bench.features_of(truth)
    assert real.shape == (12, 3)
    point = bench.measured(codecs.Way("brighter", ("",), lambda p, s: (b"", p + np.uint8(8))), "", truth, real)
    assert point.mean("fd") == pytest.approx(3 * 0.8**2)  # the means move by 0.8 in each of three features
    assert "FD, crops" in bench.table([point])


@pytest.mark.skipif(shutil.which("butteraugli_main") is None, reason="butteraugli_main is not installed")
def test_butteraugli_is_zero_for_equal_pictures_and_rises():
    truth = picture()
    rough, fine = (codecs.pillow("jpeg")(truth, quality)[1] for quality in (10, 90))
    assert bench.butteraugli(truth, truth) == 0
    assert 0 < bench.butteraugli(fine, truth) < bench.butteraugli(rough, truth)


def moving(frames=6):
    return np.stack([picture(0, 64, 82 + frames)[:, t : t + 81] for t in range(frames)])


@pytest.mark.parametrize("name", list(video.ENCODERS))
def test_video_encoders_there_and_back(name):
    ways = {way.name: way for way in video.classical()}
    if name not in ways:
        pytest.skip(f"this PyAV has no {name}")
    clip = video.even(moving())
    assert clip.shape == (6, 64, 80, 3)
    low, high = ways[name].settings[-1], ways[name].settings[0]
    points = [video.measured(ways[name], crf, [clip], 2) for crf in (low, high)]
    assert points[0].bits < points[1].bits
    assert points[0].mean("psnr") < points[1].mean("psnr")
    assert points[1].mean("psnr") > 30  # so the frames are these, in this order
    assert points[0].mean("ssimulacra2") < points[1].mean("ssimulacra2")


def test_rates_of_video_count_every_frame():
    clip = video.even(moving())
    point = video.measured(codecs.Way("plain", (0,), lambda f, s: (b"z" * 480, f)), 0, [clip], 3)
    assert point.bits == pytest.approx(480 * 8 / (6 * 64 * 80))
    assert point.mean("psnr") == 99
