"""Films through the codec as a user meets them: files there and back, clocks, sound, damage, length."""

import io
import json
import tracemalloc
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch

from codec_double import Double, codec
from framefill import codecs, films
from framefill.codec.container import PartLost
from framefill.codec.film_codec import FilmCodec, bits_of, depth_of
from framefill.codec.header import Depth
from framefill.codec.picture_codec import PictureCodec
from framefill.codec.pictures import Picture
from framefill.codec.pictures import write as save
from framefill.codec.stamps import Stamps
from framefill.codec.stream import Chunks, opened
from framefill.errors import BadInput, CodecError
from framefill.films import Wish, compress, decompress
from framefill.video.files import Plan, Writer, clock, probe
from test_cli import refused
from test_doors import UNEVEN, film, packets
from test_video_files import array, psnr, scene, write

RATE = Fraction(25)


@pytest.fixture
def double(monkeypatch) -> PictureCodec:
    made = codec()
    monkeypatch.setattr(codecs, "codec", lambda model="", *, device="cpu": made)
    return made


def coded(frames, *, steps=0, seed=0, quality=3, start_at=Fraction(0)) -> bytes:
    """The compressed file of frames, by the stand-in."""
    file, made = io.BytesIO(), FilmCodec(codec())
    with Chunks() as chunks:
        start = made.header(quality, depth=Depth.BITS_8, steps=steps, seed=seed)
        chunks.write(file, made.compress(frames, Stamps(RATE, start_at), start, chunks))
    return file.getvalue()


def shown(data: bytes, **options) -> list[np.ndarray]:
    return [frame.pixels for frame in FilmCodec(codec()).frames(opened(data), **options)]


def flipped(data: bytes, group: int) -> bytes:
    """The file with one bit of a group changed."""
    file, bad = opened(data), bytearray(data)
    bad[file.places[group] + 5] ^= 4
    return bytes(bad)


@pytest.mark.parametrize(("size", "channels", "length"), [((48, 64), 3, 12), ((9, 13), 1, 1), ((20, 30), 3, 17)])
def test_frames_come_back(size, channels, length):
    frames = scene(length, *size, channels)
    back = shown(coded(frames))
    assert np.stack(back).shape == frames.shape
    assert psnr(np.stack(back), frames) > 35


def test_coding_is_determined():
    frames = scene(9)
    assert coded(frames, seed=3, steps=2) == coded(frames, seed=3, steps=2)
    data = coded(frames)
    for one, other in zip(shown(data, steps=2, seed=3), shown(coded(frames, seed=3, steps=2)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_drawn_stands_still_where_the_film_does():
    still = scene(1).repeat(9, 0)
    drawn = shown(coded(still), steps=1, seed=5)
    apart = [np.abs(frame.astype(int) - drawn[0]).mean() for frame in drawn[1:8]]
    assert max(apart) <= 1
    assert np.abs(drawn[0].astype(int) - shown(coded(still))[0]).mean() > 5
    assert np.abs(drawn[0].astype(int) - shown(coded(still), steps=1, seed=6)[0]).mean() > 5


def test_a_still_film_is_little_more_than_a_picture():
    still = scene(1).repeat(8, 0)
    assert len(coded(still, quality=1)) < 1.6 * len(coded(still[:1], quality=1))
    assert len(coded(scene(8), quality=1)) > len(coded(still, quality=1)) + 100


def test_a_flipped_bit_touches_one_group():
    frames = scene(30)
    data = coded(frames)
    whole = shown(data)
    with pytest.warns(PartLost, match="1 of 4 groups are damaged, their frames stand still"):
        back = shown(flipped(data, 1))
    assert len(back) == 30
    for i, frame in enumerate(back):
        np.testing.assert_array_equal(frame, whole[7] if 8 <= i < 16 else whole[i])
    with pytest.warns(PartLost):
        first = shown(flipped(data, 0))
    for i, frame in enumerate(first):
        np.testing.assert_array_equal(frame, whole[8] if i < 8 else whole[i])
    with pytest.raises(CodecError, match="not one of its parts"):
        shown(flipped(coded(frames[:3]), 0))


@pytest.mark.parametrize("lost", [(0,), (1,), (1, 2), (0, 1)])
def test_lost_groups_keep_their_place_in_time(lost):
    data = coded(scene(26, 9, 13), start_at=Fraction(5))
    for group in lost:
        data = flipped(data, group)
    with pytest.warns(PartLost):
        times = [frame.time for frame in FilmCodec(codec()).frames(opened(data))]
    assert times == [5 + i / RATE for i in range(26)]


def test_a_cut_file_has_the_frames_before():
    data = coded(scene(30))
    whole, file = shown(data), opened(data)
    with pytest.warns(PartLost, match="cut off behind frame 16 of 30"):
        back = shown(data[: file.places[2] + 20])
    assert len(back) == 16
    for one, other in zip(back, whole, strict=False):
        np.testing.assert_array_equal(one, other)
    for place in range(0, file.places[0], 7):
        with pytest.raises(CodecError):
            shown(data[:place])


def test_files_of_other_kinds_are_refused():
    with pytest.raises(CodecError, match="holds no film"):
        shown(codec().compress(films_picture(), quality=3))
    with pytest.raises(CodecError, match="which is not here"):
        list(FilmCodec(codec(seed=9)).frames(opened(coded(scene(3)))))

    class Still(Double):
        latents = property()

    with pytest.raises(CodecError, match="for pictures only"):
        FilmCodec(PictureCodec(Still())).message(list(scene(2)), 1)
    with pytest.raises(BadInput, match="one, \\(H, W, 1 or 3\\)"):
        coded([*scene(2), scene(1, 20, 20)[0]])
    with pytest.raises(BadInput, match="not one frame"):
        coded([])
    for quality, steps in ((9, 0), (1, 32)):
        with pytest.raises(BadInput, match="qualities 0"):
            coded(scene(1), quality=quality, steps=steps)


def films_picture():
    return Picture(scene(1)[0])


@pytest.mark.slow
def test_memory_does_not_grow_with_length():
    """The most that Python holds while 300 frames pass is what 40 frames need, but for a list of lengths."""

    def most(length: int) -> int:
        frames = (scene(1, 16, 16)[0] for _ in range(length))
        tracemalloc.start()
        data = coded(frames, quality=0)
        for _ in FilmCodec(codec()).frames(opened(data)):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    most(8)
    assert most(300) < most(40) + 150_000


def test_depths():
    assert [bits_of(depth_of(bits)) for bits in (8, 10, 12, 16, 9)] == [8, 10, 12, 16, 16]


# Files


@pytest.mark.parametrize(
    ("suffix", "stamps", "shift"), [(".mp4", UNEVEN, 0), (".mkv", UNEVEN, 1400), (".mp4", range(0, 400, 40), 0)]
)
def test_stamps_and_sound_come_back(tmp_path, suffix, stamps, shift):
    path, small, back = tmp_path / f"a{suffix}", tmp_path / "a.ffc", tmp_path / f"b{suffix}"
    film(path, stamps, sound=20, shift=shift)
    report = compress(path, small, codec(), Wish(quality=3))
    assert (report.frames, report.bytes, report.left) == (len(stamps), small.stat().st_size, [])
    done = decompress(small, back, codec())
    assert (done.frames, done.width, done.height, done.left) == (len(stamps), 64, 48, [])
    assert done.bytes == report.bytes
    given, kept = (clock(p, keep_start=True) for p in (path, back))
    assert [kept.at(i) for i in range(len(stamps))] == [given.at(i) for i in range(len(stamps))]
    assert packets(back, "audio") == packets(path, "audio")
    assert psnr(array(back), array(path)) > 30


def test_damaged_sound_is_left_and_the_film_is_whole(tmp_path, monkeypatch):
    film(tmp_path / "a.mp4", UNEVEN, sound=20)
    real, held = films.luggage, []
    monkeypatch.setattr(films, "luggage", lambda *given: held.append(real(*given)) or held[-1])
    compress(tmp_path / "a.mp4", tmp_path / "a.ffc", codec())
    assert held[0][0].closed  # or its folder could not go, on some machines
    data = bytearray((tmp_path / "a.ffc").read_bytes())
    data[-40] ^= 1
    for number, held in enumerate((bytes(data), bytes(data[:-40]))):
        done = decompress(held, tmp_path / f"b{number}.mp4", codec())
        assert (done.frames, done.left) == (9, ["sound and subtitles, which are damaged"])


def test_ten_bits_stay_ten_bits(tmp_path):
    ramp = (np.arange(64) * 300 + 20000).astype(np.uint16)[None, :, None].repeat(48, 0).repeat(3, 2)
    with Writer(tmp_path / "a.mp4", Plan(RATE, bits=10)) as writer:
        for _ in range(3):
            writer.write(ramp)
    compress(tmp_path / "a.mp4", tmp_path / "a.ffc", codec(), Wish(quality=3))
    assert opened((tmp_path / "a.ffc").read_bytes()).header.depth == Depth.BITS_10
    for suffix, bits in ((".mp4", 10), (".npy", 16)):
        decompress(tmp_path / "a.ffc", tmp_path / f"b{suffix}", codec())
        assert probe(tmp_path / f"b{suffix}").bits == bits
    given, back = (array(tmp_path / name, deep=True).astype(float) for name in ("a.mp4", "b.npy"))
    assert np.abs(back - given).mean() < 65535 / 255


def test_sizes_are_kept(tmp_path):
    path = write(tmp_path / "a.mp4", scene(5, 24, 32))
    sizes = [compress(path, tmp_path / "a.ffc", codec(), Wish(quality=q)).bytes for q in range(4)]
    assert sizes == sorted(set(sizes))
    for wish in (Wish(size=sizes[2] + 5), Wish(bpp=8 * (sizes[2] + 5) / (5 * 24 * 32))):
        assert compress(path, tmp_path / "a.ffc", codec(), wish).bytes == sizes[2]
    with pytest.raises(BadInput, match=f"has {sizes[0]} bytes, 100 are allowed"):
        compress(path, tmp_path / "b.ffc", codec(), Wish(size=100))
    assert not (tmp_path / "b.ffc").exists()


# Verbs


def test_verbs(call, tmp_path, double, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "a.mp4", UNEVEN, sound=20)
    code, out, err = call("compress", "a.mp4", "-q", 2, "--json")
    assert code == 0, err
    assert json.loads(out)["frames"] == 9
    refused(call("compress", "a.mp4"), "a.ffc is there already")
    refused(call("compress", "a.mp4", "-y", "--max-error", 1), "--max-error is for pictures")
    refused(call("decompress", "a.ffc", "--invented", "map.png", "-o", "x.mp4"), "--invented maps one picture")
    refused(call("decompress", "a.ffc"), "a.mp4 is there already")
    code, out, _ = call("decompress", "a.ffc", "-o", "b.mkv", "--json")
    assert (code, json.loads(out)["frames"], json.loads(out)["pixels"]) == (0, 9, "64x48")
    assert clock(tmp_path / "b.mkv").at(8) == Fraction(2, 5)
    about = json.loads(call("info", "a.ffc", "--json")[1])
    assert (about["kind"], about["frames"], about["size"], about["groups"]) == ("video", 9, "64x48", "2 of 8 frames")
    assert about["extras"].startswith("SOUND ")
    assert (about["lost"], about["model"]) == ("nothing", double.marks[2].hex())
    (tmp_path / "bad.ffc").write_bytes(flipped((tmp_path / "a.ffc").read_bytes(), 1))
    assert json.loads(call("info", "bad.ffc", "--json")[1])["lost"] == "groups 1"
    code, out, err = call("decompress", "bad.ffc", "-o", "c.mp4")
    assert code == 0
    assert "1 of 2 groups are damaged" in err


def test_folders_hold_both(call, tmp_path, double):
    source = tmp_path / "in"
    source.mkdir()
    save(films_picture(), source / "one.png")
    write(source / "two.mp4", scene(3))
    write(source / "three.gif", scene(3))
    code, _, err = call("compress", source, "-o", tmp_path / "out")
    assert (code, sorted(p.name for p in (tmp_path / "out").iterdir())) == (0, ["one.ffc", "three.ffc", "two.ffc"]), err
    code, _, err = call("decompress", tmp_path / "out", "-o", tmp_path / "back")
    names = sorted(p.name for p in (tmp_path / "back").iterdir())
    assert (code, names) == (0, ["one.png", "three.mp4", "two.mp4"]), err


def test_what_is_a_film(tmp_path):
    write(tmp_path / "a.gif", scene(3))
    write(tmp_path / "b.gif", scene(1))
    assert [films.is_moving(tmp_path / name) for name in ("a.gif", "b.gif", "c.MP4", "d.png", "e.gif")] == [
        True, False, True, False, False,
    ]  # fmt: skip
    data = coded(scene(1))
    assert films.holds_film(data[:4])
    assert not films.holds_film(codec().compress(films_picture())[:4])
    assert not films.holds_film(data[:3])
    with pytest.raises(CodecError, match="cannot read"), films.mapped(tmp_path / "none"):
        pass


def test_undamaged_films_give_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown(coded(scene(9)))


def test_frames_are_painted_in_tiles():
    frames = scene(3, 130, 70)
    data = coded(frames)
    small = FilmCodec(PictureCodec(Double().eval(), tile=11, halo=2, fade=2))
    back = [frame.pixels for frame in small.frames(opened(data))]
    assert np.abs(np.stack(back).astype(int) - np.stack(shown(data))).max() <= 1
    assert small.pictures.model.largest <= (8 * 11) ** 2
    with torch.inference_mode():
        assert small.message(list(frames), 3) == FilmCodec(codec()).message(list(frames), 3)
