"""The doors of video: deep levels, many channels, codecs, clocks, sound that travels, interrupted jobs."""

import hashlib
import os
import tracemalloc
from fractions import Fraction
from itertools import pairwise

import av
import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from framefill.arrays import Rng
from framefill.diffusion.sample import DDIM
from framefill.errors import BadInput, MediaError, NotWritten
from framefill.video import files
from framefill.video.clip import Clip, fit, from_tensor, to_bytes, to_tensor, to_words, visible
from framefill.video.files import Plan, Writer, clock, probe, read, read_clip
from framefill.video.journal import journal
from test_video_files import FPS, array, encode, psnr, scene, write


def deep_scene(length=6, height=48, width=64):
    noise = np.random.default_rng(0).integers(0, 257, (length, height, width, 3))
    return (scene(length, height, width).astype(int) * 256 + noise).clip(0, 65535).astype(np.uint16)


# Depth and channels


def test_sixteen_bits_survive_the_tensor_and_eight_come_back():
    words = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256, 1)
    assert (from_tensor(to_tensor(Clip(words, FPS))[0], FPS, dtype=np.uint16).frames == words).all()
    levels = np.arange(256, dtype=np.uint8)
    assert (to_bytes(to_words(levels)) == levels).all()
    assert (to_bytes(words).ravel() == np.rint(words.ravel() / 257)).all()


def test_fit_of_deep_frames_is_that_of_eight_bits_but_finer():
    frames = scene(1, 60, 80)
    deep = fit(to_words(frames), 24, 32)
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - fit(frames, 24, 32)).max() < 1.1
    many = np.concatenate([frames, frames[..., :2]], -1)
    assert (np.abs(fit(many, 24, 32)[..., :3].astype(int) - fit(frames, 24, 32)) <= 1).all()


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_arrays_hold_any_channels_exactly(tmp_path, suffix, bits, channels):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 2**bits, (7, 5, 6, channels)).astype(np.uint8 if bits == 8 else np.uint16)
    path = write(tmp_path / f"a{suffix}", frames, Plan(FPS, bits=bits))
    assert (array(path, deep=bits > 8) == frames).all()
    assert probe(path).bits == bits
    assert (array(path) == to_bytes(frames)).all()


def test_a_file_of_several_arrays_is_asked_for_one(tmp_path):
    one, two = np.full((3, 4, 5), 7, np.uint8), np.full((2, 4, 5, 3), 9, np.uint8)
    np.savez_compressed(tmp_path / "a.npz", one=one, two=two)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"], file["group/two"], file["table"] = one, two, np.zeros(5)
    assert (array(f"{tmp_path}/a.npz::two") == two).all()
    assert (array(f"{tmp_path}/a.h5::group/two") == two).all()
    assert probe(f"{tmp_path}/a.h5::one").frames == 3
    for name in ("a.npz", "a.h5", "a.npz::three"):
        with pytest.raises(MediaError, match="which array"):
            array(tmp_path / name)
    with pytest.raises(MediaError, match="without a name"):
        array(f"{write(tmp_path / 'a.npy', two)}::one")


def test_hdf5_reads_nothing_outside_its_file(tmp_path):
    write(tmp_path / "secret.npy", np.full((2, 4, 4, 1), 5, np.uint8))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["frames"] = np.zeros((2, 4, 4), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("other.h5", "frames")
        file.create_dataset("raw", (1, 4, 4), "u1", external=[(str(tmp_path / "secret.npy"), 0, 16)])
        layout = h5py.VirtualLayout((2, 4, 4), "u1")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "frames", (2, 4, 4))
        file.create_virtual_dataset("virtual", layout)
    for name in ("link", "raw", "virtual"):
        with pytest.raises(MediaError, match="which array"):
            array(f"{tmp_path}/a.h5::{name}")


@pytest.mark.parametrize("values", [np.zeros((2, 4, 4), np.int32), np.asfortranarray(np.zeros((2, 4, 4, 3), np.uint8))])
def test_npz_of_other_kinds_is_one_clear_line(tmp_path, values):
    np.savez(tmp_path / "a.npz", values)
    with pytest.raises(MediaError, match=r"give uint8|column by column"):
        array(tmp_path / "a.npz")


def test_npz_that_claims_more_than_it_holds(tmp_path):
    np.savez(tmp_path / "a.npz", frames=np.zeros((4, 8, 8), np.uint8))
    data = (tmp_path / "a.npz").read_bytes().replace(b"(4, 8, 8)", b"(9, 8, 8)")
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.npz"):
        array(tmp_path / "a.npz")


def test_tiff_stacks_and_sixteen_bits(tmp_path):
    words = np.random.default_rng(0).integers(0, 65536, (4, 9, 7)).astype(np.uint16)
    pages = [Image.fromarray(page) for page in words]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    assert (array(tmp_path / "stack.tif", deep=True)[..., 0] == words).all()
    assert (array(tmp_path / "stack.tif")[..., 0] == to_bytes(words)).all()
    assert probe(tmp_path / "stack.tif").frames == 4


def test_what_can_be_seen_of_channels():
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 5)).astype(np.uint8)
    assert (visible(frames) == frames[..., :3]).all()
    assert (visible(frames[..., :2]) == frames[..., :1]).all()
    assert (visible(to_words(frames)) == frames[..., :3]).all()


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ""])
def test_films_and_pictures_refuse_other_channels(tmp_path, suffix):
    with pytest.raises(MediaError, match=r"not 5; give .npy or .h5"):
        write(tmp_path / f"a{suffix}", np.zeros((2, 16, 16, 5), np.uint8))
    assert not list(tmp_path.iterdir())


# Codecs


def test_ffv1_and_deep_pictures_are_exact(tmp_path):
    frames, deep = scene(4), deep_scene(4)
    assert (array(write(tmp_path / "a.mkv", frames, Plan(FPS, codec="ffv1"))) == frames).all()
    assert (array(write(tmp_path / "b.mkv", deep, Plan(FPS, codec="ffv1", bits=16)), deep=True) == deep).all()
    write(tmp_path / "c", deep, Plan(FPS, bits=16))
    with av.open(str(tmp_path / "c" / "000001.png")) as container:  # Pillow would drop the lower half
        back = next(container.decode(video=0)).to_ndarray(format="rgb48le")
    assert (back == deep[1]).all()


@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mp4"), ("av1", ".mp4"), ("av1", ".webm"), ("vp9", ".webm")])
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_lossy_codecs_are_near(tmp_path, codec, suffix, size):
    frames = scene(8, *size)
    path = write(tmp_path / f"a{suffix}", frames, Plan(FPS, codec=codec))
    back = array(path)
    assert back.shape == frames.shape
    assert psnr(back, frames) > 35
    assert abs((back.astype(float) - frames).mean()) < 0.5


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_ten_bits_are_finer_than_eight(tmp_path, codec):
    """A slow ramp: with 8 bits it has steps, with 10 bits steps a quarter as high."""
    ramp = np.linspace(20_000, 24_000, 256)[None, None, :, None].repeat(64, 1).repeat(3, -1).repeat(4, 0)
    ramp = ramp.astype(np.uint16)
    steps = []
    for bits in (8, 10):
        path = write(tmp_path / f"{bits}.mp4", ramp, Plan(FPS, codec=codec, bits=bits))
        assert probe(path).bits == bits
        back = array(path, deep=True)
        steps.append(len(np.unique(back[0, 32, :, 1])))
        assert np.abs(back.astype(float) - ramp).max() < 3 * 257
    assert steps[1] > 2 * steps[0]


@pytest.mark.parametrize(
    ("name", "plan", "words"),
    [
        ("a.mp4", {"codec": "ffv1"}, "give h264, av1, vp9"),
        ("a.gif", {"codec": "h264"}, "give gif"),
        ("a.npy", {"codec": "h264"}, "leave it away"),
        ("a.mp4", {"bits": 16}, "8 or 10 bits"),
        ("a.webm", {"bits": 10}, "8 bits here"),
        ("a.mkv", {"bits": 12}, "give 8, 10, 16"),
    ],
)
def test_plans_that_cannot_be(tmp_path, name, plan, words):
    with pytest.raises(MediaError, match=words):
        Writer(tmp_path / name, Plan(FPS, **plan))


# Odd files


def test_transparency_is_left_out(tmp_path):
    frames = scene(3, 17, 23)
    clear = np.concatenate([frames, np.full((3, 17, 23, 1), 90, np.uint8)], -1)
    path = encode(tmp_path / "a.mkv", list(clear), pixel_format="bgra", given="rgba")
    assert (array(path) == frames).all()


def test_a_file_of_one_frame(tmp_path):
    path = write(tmp_path / "a.mp4", scene(1, 32, 32))
    assert len(array(path)) == 1
    assert clock(path).at(0) == 0


@pytest.mark.slow
def test_a_hundred_thousand_frames_take_no_more_memory_than_ten_thousand(tmp_path):
    def peak(length):
        path = write(tmp_path / f"{length}.mp4", (picture for _ in range(length)))
        tracemalloc.start()
        assert clock(path).even
        assert sum(1 for _ in read(path)) == length
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    picture = scene(1, 32, 32)[0]
    peak(100)
    small, large = peak(10_000), peak(100_000)
    assert large - small < 100 * 90_000  # the clock notes a few numbers of every packet while it looks


# Clocks


def film(path, stamps, *, base=Fraction(1, 1000), sound=0, shift=0):
    """A film whose frames have these time stamps, with `sound` packets of sound, written without framefill."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=25, options={"bf": "0"})
        picture.height, picture.width, picture.pix_fmt = 48, 64, "yuv420p"
        picture.codec_context.time_base = base
        voice = container.add_stream("aac", rate=44100) if sound else None
        for stamp, pixels in zip(stamps, scene(len(stamps)), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = stamp + shift, base
            container.mux(picture.encode(frame))
        for number in range(sound):
            wave = np.sin(np.arange(1024) * 0.05 + number).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, 1024 * number, Fraction(1, 44100)
            container.mux(voice.encode(frame))
        for stream in (voice, picture) if voice else (picture,):
            container.mux(stream.encode(None))
    return path


UNEVEN = [0, 40, 95, 120, 190, 230, 300, 310, 400]


def test_an_uneven_clock_is_kept_and_goes_on_at_its_mean(tmp_path):
    found = clock(film(tmp_path / "a.mp4", UNEVEN))
    assert not found.even
    assert [found.at(i) for i in range(9)] == [Fraction(t, 1000) for t in UNEVEN]
    assert found.fps == 20
    assert found.at(1, Fraction(1, 2)) == Fraction(135, 2000)
    assert found.at(11) == Fraction(400, 1000) + 3 / found.fps


def test_an_even_clock_is_a_rate(tmp_path):
    for path in (
        film(tmp_path / "a.mp4", range(0, 400, 40)),
        write(tmp_path / "b.mkv", scene(), Fraction(30000, 1001)),
    ):
        assert clock(path).even
    # Matroska counts thousandths of a second, which alternate.
    assert clock(tmp_path / "b.mkv").fps == pytest.approx(30000 / 1001, rel=1e-4)


def test_the_beginning_is_kept_for_sound_only(tmp_path):
    path = film(tmp_path / "a.mkv", range(0, 400, 40), shift=1400)
    assert clock(path).even
    assert clock(path, keep_start=True).at(2) == Fraction(148, 100)


def test_written_times_are_read_again(tmp_path):
    with Writer(tmp_path / "a.mp4", Plan(Fraction(20), base=Fraction(1, 1000))) as writer:
        for frame, stamp in zip(scene(9), UNEVEN, strict=True):
            writer.write(frame, Fraction(stamp, 1000))
    found = clock(tmp_path / "a.mp4")
    assert [found.at(i) for i in range(9)] == [Fraction(t, 1000) for t in UNEVEN]


def patched(path, monkeypatch, change):
    """`path`, whose packets say what `change` makes of their stamps."""

    def opened(name, real=files.film_clock.__globals__["sources"].opened):
        container = real(name)

        class Changed:
            streams = container.streams

            def demux(self, stream):
                for number, packet in enumerate(container.demux(stream)):
                    if packet.size:
                        packet.pts, packet.dts = change(number, packet.pts, packet.dts)
                    yield packet

            def __enter__(self):
                return self

            def __getattr__(self, name):
                return getattr(container, name)

            def __exit__(self, *_):
                container.close()

        return Changed()

    monkeypatch.setattr("framefill.video.clock.sources.opened", opened)
    return path


def test_a_clock_that_runs_backwards_or_stands_still_is_said(tmp_path, monkeypatch):
    path = film(tmp_path / "a.mp4", range(0, 400, 40))
    patched(path, monkeypatch, lambda number, pts, dts: (pts, dts - 100_000 * (number > 5)))
    with pytest.raises(MediaError, match=r"backwards at frame 6.*--fps"):
        clock(path)
    monkeypatch.undo()
    patched(path, monkeypatch, lambda number, pts, dts: (0 if number == 1 else pts, dts))
    with pytest.raises(MediaError, match=r"frames 0 and 1 have the same time stamp.*--fps"):
        clock(path)
    assert clock(path, fps=Fraction(10)).even


# Sound and subtitles


def packets(path, kind):
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [(p.pts * p.time_base, hashlib.md5(bytes(p)).hexdigest()) for p in container.demux(stream) if p.size]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_sound_travels_byte_for_byte(tmp_path, suffix):
    path = film(tmp_path / "a.mp4", UNEVEN, sound=20)
    with Writer(tmp_path / f"b{suffix}", Plan(Fraction(25), carry=path)) as writer:
        for frame in scene(9):
            writer.write(frame)
        assert writer.passengers.taken == ["audio aac"]
    given, kept = packets(path, "audio"), packets(tmp_path / f"b{suffix}", "audio")
    assert [data for _, data in kept] == [data for _, data in given]
    if suffix != ".mkv":
        assert [time for time, _ in kept] == [time for time, _ in given]
        return
    # Matroska knows no time before zero, so sound and pictures move together, and counts thousandths of a second.
    moved = packets(tmp_path / "b.mkv", "video")[0][0]
    assert moved > 0
    assert all(abs(a + moved - b) <= Fraction(1, 1000) for (a, _), (b, _) in zip(given, kept, strict=True))


SUBTITLES = "1\n00:00:00,040 --> 00:00:00,200\nfirst\n\n2\n00:00:00,220 --> 00:00:00,400\nsecond\n"


def test_subtitles_travel_where_the_file_can_hold_them(tmp_path):
    (tmp_path / "a.srt").write_text(SUBTITLES)
    plain = film(tmp_path / "plain.mkv", UNEVEN)
    with (
        av.open(str(plain)) as one,
        av.open(str(tmp_path / "a.srt")) as two,
        av.open(str(tmp_path / "a.mkv"), "w") as both,
    ):
        places = {id(s): both.add_stream_from_template(s) for s in (one.streams[0], two.streams[0])}
        for container in (two, one):
            for packet in container.demux():
                if packet.dts is not None:
                    packet.stream = places[id(container.streams[0])]
                    both.mux(packet)
    for suffix, taken, left in ((".mkv", ["subtitle srt"], []), (".mp4", [], ["subtitle srt"])):
        with Writer(tmp_path / f"b{suffix}", Plan(Fraction(25), carry=tmp_path / "a.mkv")) as writer:
            for frame in scene(9):
                writer.write(frame)
            assert (writer.passengers.taken, writer.passengers.left) == (taken, left)
    assert packets(tmp_path / "b.mkv", "subtitle") == packets(tmp_path / "a.mkv", "subtitle")


# Limits and interruptions


def test_what_a_file_decodes_to_is_limited(tmp_path):
    path = write(tmp_path / "a.mp4", scene(10, 16, 16))
    assert len(array(path, most=10 * 16 * 16)) == 10
    with pytest.raises(MediaError, match="raise the limit"):
        array(path, most=10 * 16 * 16 - 1)
    with pytest.raises(MediaError, match="raise the limit"):
        read_clip(path, limit=None, most=1000)


def test_leftovers_of_dead_processes_go_and_others_stay(tmp_path):
    dead = next(number for number in range(400_000, 500_000) if not os.path.exists(f"/proc/{number}"))
    gone, alive, foreign = (tmp_path / f".a.npy.{who}.part" for who in (f"{dead}.x", "1.x", "notes"))
    for folder in (gone, alive, foreign):
        folder.mkdir()
    write(tmp_path / "a.npy", scene(2))
    assert not gone.exists()
    assert alive.exists()
    assert foreign.exists()


def draws(path, count, *, broken_after=None):
    """What a job of `count` noisy draws gives, and how many of them it had to make; may be cut short."""
    made = []

    def draw(sampler, frames, known, rng):
        if len(made) == broken_after:
            raise KeyboardInterrupt
        made.append(1)
        return frames[:, :2] + rng.normal(frames[:, :2].shape[1:])

    rng, results = Rng.batch(0, 3), []
    with journal(path) as kept:
        recall = kept.remembered(draw, 2)
        for number in range(count):
            results.append(recall(DDIM(1), torch.full((3, 4, 1, 2, 2), float(number)), None, rng))
    return torch.stack(results), len(made)


@pytest.mark.parametrize("damage", ["none", "cut", "flip", "foreign"])
def test_an_interrupted_job_goes_on_to_the_same_numbers(tmp_path, damage):
    whole, count = draws(tmp_path / "whole", 6)
    assert count == 6
    assert not (tmp_path / "whole").exists()
    with pytest.raises(KeyboardInterrupt):
        draws(tmp_path / "j", 6, broken_after=4)
    data = (tmp_path / "j").read_bytes()
    record = len(data) // 4
    kept = {"none": 4, "cut": 3, "flip": 1, "foreign": 0}[damage]
    if damage == "cut":
        (tmp_path / "j").write_bytes(data[:-7])
    if damage == "flip":
        (tmp_path / "j").write_bytes(data[: record + 90] + bytes([data[record + 90] ^ 1]) + data[record + 91 :])
    if damage == "foreign":
        (tmp_path / "j").write_bytes(b"\xff" * 10)
    again, count = draws(tmp_path / "j", 6)
    assert (again == whole).all()
    assert count == 6 - kept
    assert not (tmp_path / "j").exists()


def test_two_processes_do_not_make_the_same_result(tmp_path):
    with journal(tmp_path / "j"), pytest.raises(BadInput, match="another process"), journal(tmp_path / "j"):
        pass


def test_a_journal_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(NotWritten, match="cannot write"), journal(tmp_path / "no" / "j"):
        pass


def test_memory_of_sound_does_not_grow(tmp_path):
    """Packets are handed over as the pictures of their time come, never ahead of them."""
    path = film(tmp_path / "a.mp4", range(0, 400, 40), sound=16)
    with Writer(tmp_path / "b.mp4", Plan(Fraction(25), carry=path)) as writer:
        due = []
        for frame in scene(10):
            writer.write(frame)
            due.append(writer.passengers._next[0] if writer.passengers._next else None)
    assert all(a is None or b is None or a <= b for a, b in pairwise(due))
    assert all(time is None or time - Fraction(number, 25) < Fraction(1, 20) for number, time in enumerate(due))
