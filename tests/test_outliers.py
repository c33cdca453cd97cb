"""Strangers: areas under curves against counting pairs, codec lengths, shuffled patches, and `framefill score`."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import framefill
from framefill.codec.planes import encode_planes
from framefill.errors import BadInput
from framefill.metrics.detection import auroc, untypical, untypical_of_itself
from framefill.video.images.complexity import complexity, png, webp
from framefill.video.images.outliers import Judged, areas, judge, probe, shuffled
from test_mrcnf import SMALL, lively

pytest.importorskip("torchdiffeq", reason="pip install 'framefill[flows]'")
RNG = np.random.default_rng(0)


# ---- scores --------------------------------------------------------------------------------------------------------


def test_the_area_is_the_share_of_pairs_in_order():
    known, strange = RNG.integers(0, 9, 40), RNG.integers(2, 12, 25)
    pairs = np.mean([(s > k) + 0.5 * (s == k) for s in strange for k in known])
    found = auroc(known, strange)
    assert found.value == pytest.approx(pairs)
    assert found.low < found.value < found.high
    flipped = auroc(strange, known)
    assert flipped.value == pytest.approx(1 - pairs)
    assert (flipped.low, flipped.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_the_interval_holds_the_true_area_nineteen_times_of_twenty():
    """Two normal sets a distance d apart have the area Phi(d / sqrt 2)."""
    from statistics import NormalDist

    truth, hits = NormalDist().cdf(1 / 2**0.5), 0
    for _ in range(400):
        found = auroc(RNG.normal(0, 1, 50), RNG.normal(1, 1, 40))
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / 400 <= 0.98


def test_sets_wholly_apart_have_the_interval_of_the_rule_of_three():
    assert auroc(np.arange(10), np.arange(20, 50)) == (1.0, 0.7, 1.0)
    assert auroc(np.arange(20, 50), np.arange(10)) == (0.0, 0.0, 0.3)
    assert auroc(np.ones(5), np.ones(5)).value == 0.5
    for wrong in ([1.0], [1.0, np.nan], []):
        with pytest.raises(BadInput, match="2 finite ones"):
            auroc(np.array(wrong), np.arange(3))


def test_typicality_finds_what_is_too_likely_as_well_as_what_is_not_likely_enough():
    usual = RNG.normal(3, 0.1, 200)
    both = np.concatenate([RNG.normal(1, 0.1, 100), RNG.normal(5, 0.1, 100)])
    strange = untypical(both, usual)
    assert strange.min() > 1.5
    assert auroc(usual, both).value == pytest.approx(0.5, abs=0.02)
    assert auroc(untypical_of_itself(usual), strange).value == 1
    left_out = [abs(usual[i] - np.delete(usual, i).mean()) for i in range(5)]
    np.testing.assert_allclose(untypical_of_itself(usual)[:5], left_out, rtol=1e-9)


# ---- complexity and patches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_complexity_is_the_length_of_the_shortest_file(channels):
    noise = RNG.integers(0, 256, (1, 48, 32, channels), np.uint8)
    flat = np.full_like(noise, 77)
    found = complexity(np.concatenate([noise, flat]))
    size = noise[0].size
    assert found[0] == pytest.approx(8 * min(png(noise[0]), webp(noise[0])) / size)
    assert 8 <= found[0] < 9
    assert found[1] < 0.5
    slope = np.broadcast_to((4 * np.arange(32, dtype=np.uint8))[:, None], (1, 48, 32, channels)[1:])[None]
    assert found[1] < complexity(slope)[0] < 3
    for wrong in (noise.astype(float), noise[0], noise[..., :0]):
        with pytest.raises(BadInput, match="8-bit pictures"):
            complexity(wrong)


def test_the_codecs_lose_nothing():
    picture = RNG.integers(0, 256, (16, 24, 3), np.uint8)
    for kind, how in (("PNG", {}), ("WEBP", {"lossless": True, "quality": 100, "method": 6})):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, kind, **how)
        assert (np.asarray(Image.open(file)) == picture).all()


def test_shuffling_moves_whole_patches_and_nothing_else():
    pictures = RNG.integers(0, 256, (3, 8, 12, 2), np.uint8)
    made = shuffled(pictures, 4, seed=1)

    def patches(picture, size=4):
        return sorted(
            picture[y : y + size, x : x + size].tobytes()
            for y in range(0, 8, size) for x in range(0, 12, size)
        )  # fmt: skip

    for before, after in zip(pictures, made, strict=True):
        assert patches(before) == patches(after)
    assert not (made == pictures).all()
    assert (shuffled(pictures[:1], 4, seed=1) == made[:1]).all()
    assert (np.sort(shuffled(pictures, 1), axis=None) == np.sort(pictures, axis=None)).all()
    square = pictures[:, :, :8]
    assert (shuffled(square, 8) == square).all()
    for wrong in (0, 3, 8):
        with pytest.raises(BadInput, match="do not fill"):
            shuffled(pictures, wrong)


def test_s_sees_a_stranger_that_is_simple():
    """A likelihood finds simple strangers likelier than what it knows; less their complexity they stand out."""
    known = Judged(RNG.normal(4, 0.2, 60), np.zeros(60), RNG.normal(4.1, 0.2, 60))
    simple = Judged(RNG.normal(2, 0.2, 60), np.zeros(60), RNG.normal(1.0, 0.2, 60))
    found = areas(known, simple)
    assert found["bits"].value == 0
    assert found["S"].value > 0.99
    assert found["atypical"].value == 1


def test_judging_is_what_the_model_and_the_codecs_say():
    model = lively()
    pictures = RNG.integers(0, 256, (3, 8, 8, 1), np.uint8)
    found = judge(model, pictures, probes=4, seed=5, codecs={"none": lambda picture: picture.size})
    bits = model.bits(pictures, probes=4, seed=5)
    np.testing.assert_array_equal(found.bits, bits.bits)
    np.testing.assert_array_equal(found.error, bits.error)
    np.testing.assert_allclose(found.corrected, bits.bits - 8)
    mixed = probe(model, pictures, [2, 8], probes=4, seed=5)
    np.testing.assert_array_equal(mixed[8], bits.bits)
    assert not np.allclose(mixed[2], bits.bits, atol=1e-3)


# ---- the verb ------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path):
    framefill.save(lively(replace(SMALL, flip=False)), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def pictures(folder, arrays):
    for i, array in enumerate(arrays):
        place = folder / "some" / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(place)
    return folder


def test_a_folder_is_scored(model, tmp_path, call):
    noise = RNG.integers(0, 256, (5, 8, 8), np.uint8)
    known = pictures(tmp_path / "known", noise)
    strange = pictures(tmp_path / "strange", [np.full((8, 8), v, np.uint8) for v in (0, 90, 255)] + [noise[0]])
    Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save(strange / "large.png")
    Image.fromarray(np.full((8, 8), 1000, np.uint16)).save(strange / "deep.png")
    (strange / "broken.png").write_bytes(b"\x89PNG")
    table = tmp_path / "table.csv"
    words = ("score", strange, "-m", model, "--reference", known, "-o", table, "--shuffle", 2, 8, "--json")
    code, out, err = call(*words)
    assert code == 0, err
    said = json.loads(out)
    assert (said["pictures"], said["left_out"], said["resized"]) == (5, 2, 1)
    assert "deep.png is left out: it has 16 bits" in err
    assert "broken.png is left out" in err
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["large.png", *(f"some/{i}.png" for i in range(4))]
    assert [row["resized"] for row in rows] == ["1", "0", "0", "0", "0"]
    loaded = framefill.load(model)
    one = loaded.bits(noise[:1, ..., None]).bits[0]
    alone = call("score", known / "some" / "0.png", "-m", model, "-o", tmp_path / "one.csv", "--json")
    assert json.loads(alone[1])["bits"] == pytest.approx(one, abs=1e-4)
    for row, picture in zip(rows[1:], [*(np.full((8, 8), v, np.uint8) for v in (0, 90, 255)), noise[0]], strict=True):
        least = min(png(picture[..., None]), webp(picture[..., None]), len(encode_planes(picture[None])))
        assert float(row["complexity"]) == pytest.approx(8 * least / 64, abs=1e-5)
    for row in rows:
        assert float(row["S"]) == pytest.approx(float(row["bits"]) - float(row["complexity"]), abs=2e-5)
        wanted = abs(float(row["bits"]) - said["reference"]["bits"])
        assert float(row["atypical"]) == pytest.approx(wanted, abs=2e-4)
    assert set(said["auroc"]) == {"bits", "S", "atypical"}
    assert said["shuffled"]["8"] == pytest.approx(said["bits"], abs=1e-4)
    assert (tmp_path / "table.png").stat().st_size > 1000


def stiffens(monkeypatch, level):
    """Flows whose field explodes wherever a picture is brighter than `level`."""
    from framefill.nets.fields import ConvField

    def wild(self, t, v, cond=None):
        return 50 * v.square() * (v > level) + 0 * level

    monkeypatch.setattr(ConvField, "forward", wild)


def test_stiff_pictures_are_named_and_the_others_scored(model, tmp_path, call, monkeypatch):
    (tmp_path / "some").mkdir()
    for name, value in {"a": 90, "b": 250, "c": 80}.items():
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(tmp_path / "some" / f"{name}.png")
    stiffens(monkeypatch, 1.0)
    code, _, err = call("score", tmp_path / "some", "-m", model, "-o", tmp_path / "s.csv")
    lines = err.strip().splitlines()
    assert code == 2
    assert "b.png is left out: the ODE of scale 1 of 2, of block 1 of 1 stopped at t = 0." in lines[-2]
    assert "in sample 1" in lines[-2]
    assert "1 pictures are too stiff" in lines[-1]
    assert [row.split(",")[0] for row in (tmp_path / "s.csv").read_text().splitlines()] == ["picture", "a.png", "c.png"]
    stiffens(monkeypatch, torch.nan)
    for words in (
        ("score", tmp_path / "some", "-o", tmp_path / "t.csv"),
        ("generate", "-n", 3, "-o", tmp_path / "drawn"),
        ("upscale", tmp_path / "some", "-o", tmp_path / "finer"),
    ):
        code, _, err = call(*words, "-m", model)
        assert (code, err.strip().splitlines()[-1].startswith("framefill: ")) == (2, True), err
        assert "stiff" in err or "not finite" in err or "steps" in err
    assert not (tmp_path / "t.csv").exists()


def test_what_cannot_be_scored_is_one_line(model, tmp_path, call):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no")
    there = tmp_path / "there.csv"
    good = pictures(tmp_path / "good", RNG.integers(0, 256, (2, 8, 8), np.uint8))
    one = pictures(tmp_path / "one", RNG.integers(0, 256, (1, 8, 8), np.uint8))
    there.write_text("x")
    (tmp_path / "drawn.png").write_text("x")
    for words, said in (
        ((empty, "-m", model), "no pictures here"),
        ((tmp_path / "nowhere", "-m", model), "no pictures here"),
        ((tmp_path / "bad", "-m", model, "-o", tmp_path / "x.csv"), "none of 1 pictures can be scored"),
        ((empty, "-m", model, "-o", there), "is there already"),
        ((good, "-m", model, "--reference", good, "-o", tmp_path / "drawn.csv"), "drawn.png is there already"),
        ((empty, "-m", model, "-o", tmp_path / "x.txt"), "written as .csv"),
        ((good, "-m", model, "-o", tmp_path / "x.csv", "--shuffle", 3), "patches of 3x3 pixels do not fill"),
        ((good, "-m", model, "-o", tmp_path / "x.csv", "--probes", 0), "probes must be at least 1"),
        ((empty, "-m", "digits"), "not a model of densities"),
        ((good, "-m", model, "-o", tmp_path / "none" / "x.csv"), "there is no folder"),
        ((good, "-m", model, "--reference", one, "-o", tmp_path / "x.csv"), "has one picture"),
    ):
        code, out, err = call("score", *words)
        assert (code, out) == (2, ""), words
        assert said in err
    assert there.read_text() == (tmp_path / "drawn.png").read_text() == "x"
    assert not (tmp_path / "x.csv").exists()


def test_one_picture_is_typical_or_not_and_has_no_curve(model, tmp_path, call):
    known = pictures(tmp_path / "known", RNG.integers(0, 256, (3, 8, 8), np.uint8))
    words = ("-m", model, "--reference", known, "--probes", 2, "-o", tmp_path / "x.csv", "--json")
    code, out, err = call("score", known / "some" / "0.png", *words)
    assert (code, "auroc" in json.loads(out), (tmp_path / "x.png").exists()) == (0, False, True), err
    assert "atypical" in (tmp_path / "x.csv").read_text()
