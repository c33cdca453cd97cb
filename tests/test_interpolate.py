"""`framefill interpolate` as a video job: times, sound, depth, colours, interruptions, and what cannot be done."""

import json
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange
from PIL import Image

from framefill.video.files import Plan, clock, probe, read
from framefill.video.tags import BT709, Tags
from test_cli import refused
from test_doors import UNEVEN, film, packets
from test_video_files import array, encode, psnr, scene, write


def times(path) -> list[Fraction]:
    return sorted(time for time, _ in packets(path, "video"))


def length(path) -> Fraction:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.duration * stream.time_base


def made(call, *words):
    code, text, err = call("interpolate", *words, "--json")
    assert code == 0, err
    return json.loads(text)


# Times and sound


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001)])
@pytest.mark.parametrize("count", [2, 3])
def test_times_are_exact_and_so_is_the_duration(call, tmp_path, fps, count):
    path = write(tmp_path / "a.mp4", scene(7), fps)
    result = made(call, path, "--times", count, "-o", tmp_path / "b.mp4")
    assert (result["frames"], result["made"]) == (7 * count, 6 * (count - 1))
    assert times(tmp_path / "b.mp4") == [k / fps / count for k in range(7 * count)]
    assert length(tmp_path / "b.mp4") == length(path) == 7 / fps
    assert probe(tmp_path / "b.mp4").fps == fps * count
    assert len(array(tmp_path / "b.mp4")) == 7 * count


def test_another_rate_is_even_over_the_same_duration(call, tmp_path):
    path = write(tmp_path / "a.mp4", scene(12), Fraction(24))
    made(call, path, "--fps", "60000/1001", "-o", tmp_path / "b.mp4")
    assert times(tmp_path / "b.mp4") == [k * Fraction(1001, 60000) for k in range(30)]
    assert 0 <= length(tmp_path / "b.mp4") - Fraction(1, 2) < Fraction(1001, 60000)
    assert probe(tmp_path / "b.mp4").fps == Fraction(60000, 1001)


def test_uneven_clocks_and_sound_are_kept(call, tmp_path):
    path = film(tmp_path / "a.mp4", UNEVEN, sound=18)
    result = made(call, path, "--times", 2, "-o", tmp_path / "b.mp4")
    assert result["copied"] == ["audio aac"]
    assert packets(tmp_path / "b.mp4", "audio") == packets(path, "audio")
    there = times(tmp_path / "b.mp4")
    assert there[::2] == [Fraction(t, 1000) for t in UNEVEN]
    assert there[1:-1:2] == [Fraction(a + b, 2000) for a, b in pairwise(UNEVEN)]
    assert length(tmp_path / "b.mp4") == length(path)
    made(call, path, "--at", "0.25,1/3", "-o", tmp_path / "c.mp4")
    ends = [*UNEVEN, UNEVEN[-1] + 40]
    parts = (Fraction(0), Fraction(1, 4), Fraction(1, 3))
    assert times(tmp_path / "c.mp4") == [(a + (b - a) * part) / 1000 for a, b in pairwise(ends) for part in parts]
    made(call, path, "--fps", 50, "-o", tmp_path / "d.mp4")
    assert times(tmp_path / "d.mp4") == [Fraction(k, 50) for k in range(22)]
    assert clock(tmp_path / "d.mp4").even


# Depth, colour, size


def deep_film(path, length=6, bits=10):
    frames = (
        scene(length, 32, 48).astype(np.uint16) * 257 + np.arange(0, 64 * length, 64)[:, None, None, None]
    ).astype(np.uint16)
    return write(path, frames, Plan(Fraction(25), bits=bits, codec="h264"))


def test_ten_bits_stay_ten_bits_unless_told_otherwise(call, tmp_path):
    path = deep_film(tmp_path / "a.mp4")
    made(call, path, "-o", tmp_path / "b.mp4")
    assert probe(tmp_path / "b.mp4").bits == 10
    made(call, path, "-o", tmp_path / "c.mp4", "--bits", 8)
    assert probe(tmp_path / "c.mp4").bits == 8
    made(call, path, "-o", tmp_path / "d.npy")
    assert np.load(tmp_path / "d.npy").dtype == np.uint16
    assert (np.load(tmp_path / "d.npy")[::2] == array(path, deep=True)).all()
    made(call, path, "-o", tmp_path / "e.webm")  # VP9 here has 8
    assert probe(tmp_path / "e.webm").bits == 8


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_size_colours_and_tags(call, tmp_path, suffix):
    """An odd size in BT.601 comes out at that size, tagged as what it then is, with the colours it had."""
    path = tmp_path / "a.mkv"
    frames = scene(5, 45, 63)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 45, 63, "yuv444p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format="yuv444p", dst_colorspace="ITU601")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    out = tmp_path / f"b{suffix}"
    made(call, path, "-o", out)
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        tags = (context.width, context.height, context.color_primaries, context.color_trc, context.colorspace)
    assert tags == (63, 45, 1, 1, 1)
    back = array(out)[::2]
    assert psnr(back, frames) > 34
    assert np.abs((back.astype(float) - frames).mean(axis=(0, 1, 2))).max() < 0.6


def tagged_film(path, tags, bits):
    """A grey ramp and colours, stored as `tags` say, in H.264 of so many bits."""
    frames = scene(3, 32, 48).astype(np.uint16) * 257
    return write(path, frames, Plan(Fraction(25), bits=bits, codec="h264", tags=tags))


def tags_of(path):
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        full = context.color_range == ColorRange.JPEG
        return Tags(context.color_primaries, context.color_trc, context.colorspace, full)


@pytest.mark.parametrize(("tags", "bits"), [
    (Tags(9, 16, 9), 10),  # PQ
    (Tags(9, 18, 9), 10),  # HLG
    (Tags(5, 6, 5), 8),  # PAL
    (Tags(2, 2, 6), 8),
    (Tags(1, 1, 1, full=True), 8),
])  # fmt: skip
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_colour_tags_are_kept_and_levels_are_those_of_the_source(call, tmp_path, tags, bits, suffix):
    """What is stored of a known frame is what was stored: no way through other primaries, no change of brightness."""
    path, out = tagged_film(tmp_path / f"a{suffix}", tags, bits), tmp_path / f"b{suffix}"
    assert tags_of(path) == tags
    made(call, path, "-o", out)
    assert tags_of(out) == tags
    before, after = (np.stack(list(read(p, deep=True, own=True))) / 65535 for p in (path, out))
    assert psnr(after[::2] * 255, before * 255) > 38
    assert np.abs((after[::2] - before).mean(axis=(1, 2))).max() < 0.6 / 255  # what H.264 does to small pictures


def test_wide_colours_are_brought_to_bt709_where_their_tags_cannot_go(call, tmp_path):
    """In an array, in red, green and blue, and in fewer bits than bright films need."""
    path = tagged_film(tmp_path / "a.mp4", Tags(9, 16, 9), 10)
    made(call, path, "-o", tmp_path / "b.npy")
    assert (np.load(tmp_path / "b.npy")[::2] == array(path, deep=True)).all()
    made(call, path, "-o", tmp_path / "c.mp4", "--bits", 8)
    assert tags_of(tmp_path / "c.mp4") == BT709
    made(call, path, "-o", tmp_path / "d.mkv", "--codec", "ffv1")
    assert np.abs(array(tmp_path / "d.mkv")[::2].astype(int) - array(path)).max() <= 1


def test_small_pictures_of_a_film_for_other_screens_are_for_ordinary_ones(call, tmp_path):
    path = tagged_film(tmp_path / "a.mp4", Tags(9, 16, 9), 10)
    made(call, path, "-o", tmp_path / "b.mp4")
    seen = array(tmp_path / "b-preview.gif").astype(float)[0]
    shown = array(path)[0].astype(float)
    levels = np.array([seen[..., i].max() for i in range(3)])
    assert np.abs(levels - [shown[..., i].max() for i in range(3)]).max() < 40


@pytest.mark.parametrize("channels", [1, 2, 4, 16])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_arrays_of_any_channels_keep_what_is_known(call, tmp_path, channels, kind):
    frames = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (3, 33, 40, channels)).astype(kind)
    np.save(tmp_path / "a.npy", frames)
    made(call, tmp_path / "a.npy", "--times", 3, "-o", tmp_path / "b.npy")
    after = np.load(tmp_path / "b.npy")
    assert after.dtype == kind
    assert after.shape == (7, 33, 40, channels)
    assert (after[::3] == frames).all()


def test_no_flicker(call, tmp_path):
    """Between two equal frames of noise every made one has the same mean: nothing is lost in rounding, at any depth."""
    for kind in (np.uint8, np.uint16):
        noise = np.random.default_rng(1).integers(0, np.iinfo(kind).max, (1, 64, 64, 3)).astype(kind)
        np.save(tmp_path / "a.npy", noise.repeat(2, 0))
        made(call, tmp_path / "a.npy", "--times", 8, "-o", tmp_path / "b.npy", "-y")
        means = np.load(tmp_path / "b.npy").mean(axis=(1, 2)) / (1 if kind == np.uint8 else 257)
        assert np.abs(means - means[0]).max() < 0.02


# Bad input


def left(folder) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_what_cannot_be_asked_for(call, tmp_path):
    path, out = write(tmp_path / "a.mp4", scene(3)), ("-o", tmp_path / "o.mp4")
    for words, told in [
        (("--times", 1), "--times must be 2 or more"),
        (("--times", 2000), "at most 1000"),
        (("--fps", 24), "lower than the source's 25 frames per second"),
        (("--fps", "soon"), "cannot read --fps"),
        (("--fps", 30000), "more than 1000 times"),
        (("--at", "0.5,0.25"), "fractions that increase"),
        (("--at", "0,0.5"), "fractions that increase"),
        (("--at", "half"), "cannot read --at"),
        (("--at", "1/0"), "cannot read --at"),
        (("--fps", 50, "--times", 2), "give one of them"),
        (("--source-fps", "x"), "cannot read --source-fps"),
        (("--preview", "soon"), "cannot read --preview"),
        (("--preview", "-2s"), "--preview must be more than 0"),
        (("--cuts", tmp_path / "no.txt"), "cannot read the list of cuts"),
        (("--save-cuts", tmp_path / "no" / "cuts.txt"), "a folder that exists"),
        (("--save-cuts", path), "a name of its own"),
        (("--save-cuts", path, "-y"), "a name of its own"),
        (("--save-cuts", tmp_path / "o.mp4"), "a name of its own"),
        (("--save-cuts", tmp_path / "o-sheet.png"), "a name of its own"),
        (("--time", "1s", "--calls", 4), "leave --calls away"),
        (("--samples", 0), "--samples must be at least 1"),
        (("--calls", 0), "--calls must be at least 1"),
        (("--codec", "ffv1"), "give h264, av1, vp9"),
        (("--bits", 16), "8 or 10 bits"),
    ]:
        refused(call("interpolate", path, *words, *out), told)
    (tmp_path / "there.txt").write_text("12")
    refused(call("interpolate", path, "--save-cuts", tmp_path / "there.txt", *out), "is there already")
    (tmp_path / "there.txt").unlink()
    refused(call("interpolate", path, "-o", tmp_path / "no" / "x.doc"), "suffix")
    refused(call("interpolate", path, "-o", path / "b.mp4"), "choose another place")
    refused(call("interpolate", path, "-o", path), "exists")
    assert left(tmp_path) == {"a.mp4"}


def test_clips_that_have_nothing_between(call, tmp_path):
    out = ("-o", tmp_path / "o" / "b.mp4")
    write(tmp_path / "one.mp4", scene(1))
    np.save(tmp_path / "alpha.npy", np.zeros((3, 16, 16, 4), np.uint8))
    np.save(tmp_path / "many.npy", np.zeros((3, 16, 16, 16), np.uint8))
    write(tmp_path / "sizes", scene(2, 32, 32))
    write(tmp_path / "larger", scene(1, 34, 32))
    (tmp_path / "larger" / "000000.png").rename(tmp_path / "sizes" / "000002.png")
    data = bytearray(write(tmp_path / "damaged.mp4", scene(200)).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = b"\xff" * 3000
    (tmp_path / "damaged.mp4").write_bytes(data)
    for name, told in [
        ("one.mp4", "has one frame"),
        ("alpha.npy", "has 4 channels, and .mp4 can hold 1 or 3"),
        ("many.npy", "has 16 channels, and .mp4 can hold 1 or 3"),
        ("sizes", "a clip has frames of one shape"),
        ("damaged.mp4", "is damaged after frame"),
        ("absent.mp4", "no such file"),
    ]:
        refused(call("interpolate", tmp_path / name, *out), told)
        assert left(tmp_path / "o") == set() if (tmp_path / "o").exists() else True, name


def test_an_alpha_channel_is_left_out_and_said(call, tmp_path):
    frames = np.concatenate([scene(3, 32, 40), np.full((3, 32, 40, 1), 90, np.uint8)], -1)
    path = encode(tmp_path / "a.mkv", list(frames), pixel_format="bgra", given="rgba")
    (tmp_path / "b").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "b" / f"{number}.png")
    for source in (path, tmp_path / "b"):
        code, text, err = call("interpolate", source, "-o", tmp_path / "c.npy", "--json", "-y")
        assert code == 0
        assert json.loads(text)["left_out"] == ["alpha"]
        assert f"framefill: {source}: its alpha channel is left out" in err
        assert (np.load(tmp_path / "c.npy")[::2] == frames[..., :3]).all()


def test_pictures_of_sixteen_bits_stay_so(call, tmp_path):
    words = np.random.default_rng(0).integers(0, 65536, (3, 32, 40, 1)).astype(np.uint16)
    write(tmp_path / "a", words, Plan(Fraction(25), bits=16))
    made(call, tmp_path / "a", "-o", tmp_path / "b.png")
    assert (array(tmp_path / "b", deep=True)[::2] == words).all()
    assert len(array(tmp_path / "b")) == 5


def test_a_silent_film_stays_silent(call, tmp_path):
    result = made(call, write(tmp_path / "a.mp4", scene(3)), "-o", tmp_path / "b.mp4")
    assert (result["copied"], result["left_out"]) == ([], [])


def test_a_folder_of_films_one_by_one(call, tmp_path):
    write(tmp_path / "in.mp4", scene(3))
    (tmp_path / "films").mkdir()
    (tmp_path / "in.mp4").rename(tmp_path / "films" / "a.mp4")
    (tmp_path / "films" / "b.mp4").write_text("no film")
    code, _, err = call("interpolate", tmp_path / "films", "-o", tmp_path / "out")
    assert code == 2
    assert "1 of 2 clips could not be used" in err
    assert left(tmp_path / "out") == {"a.mp4-x2.mp4", "a.mp4-x2-preview.gif", "a.mp4-x2-sheet.png"}


def test_help_shows_what_it_can_be_told_and_nothing_else(call):
    code, text, _ = call("interpolate", "--help")
    assert code == 0
    for word in ("--times", "--fps", "--at", "--tier", "--time", "--cuts", "--preview", "--source-fps"):
        assert f"{word} " in text
    for word in ("--strength", "--sampler", "--keep"):
        assert word not in text
