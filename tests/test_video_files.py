"""Clips and the doors they go through: exactness, streaming, and files that are not what they say."""

import pickle
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from framefill.errors import BadInput, MediaError
from framefill.video import sources, stacks
from framefill.video.clip import Clip, fit, from_tensor, to_tensor, with_channels
from framefill.video.files import Plan, Writer, clock, probe, read, read_clip

LOSSY = [".mp4", ".mov", ".mkv", ".webm"]
ALL = [*LOSSY, ".gif", ".npy", ""]
FPS = Fraction(25)


def scene(length=12, height=48, width=64, channels=3):
    """A smooth moving scene, in which each frame differs from every other and from its mirror image."""
    y, x, t = np.mgrid[0:height, 0:width, 0:length].astype(float).transpose(0, 3, 1, 2)
    red = 130 + 90 * np.sin(x / 11 + t / 4)
    green = 120 + 80 * np.cos(y / 9 - t / 5 + x / 40)
    blue = 60 + 150 * (x + 2 * y) / (width + 2 * height)
    return np.stack([red, green, blue], -1).clip(0, 255).round().astype(np.uint8)[..., :channels]


def write(path, frames, fps=FPS, **options):
    with Writer(path, fps, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def array(path, **options):
    return np.stack(list(read(path, **options)))


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def encode(path, frames, codec="ffv1", pixel_format="gray", given="gray", setup=lambda stream: None):
    """A video written without framefill."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        setup(stream)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, given)))
        container.mux(stream.encode(None))
    return path


# Clips and tensors


def test_every_level_survives_the_tensor_and_ends_are_exact():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    x = to_tensor(Clip(levels, FPS))
    assert x.shape == (1, 1, 1, 16, 16)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (-1, 1)
    assert (from_tensor(x[0], FPS).frames == levels).all()


def test_axes_of_the_tensor():
    frames = scene(3, 5, 7)
    x = to_tensor(Clip(frames, FPS))
    assert x.shape == (1, 3, 3, 5, 7)
    assert x[0, 2, 1, 4, 6] == pytest.approx(frames[2, 4, 6, 1] / 127.5 - 1)
    assert (from_tensor(x[0], FPS).frames == frames).all()


def test_from_tensor_rounds_and_clamps():
    wanted = torch.tensor([99.6, 99.4, 0.4, 254.6, -40.0, 300.0])
    x = (wanted / 127.5 - 1).reshape(1, 1, 1, 6)
    assert from_tensor(x, FPS).frames.ravel().tolist() == [100, 99, 0, 255, 0, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_from_tensor_refuses_what_is_not_a_number(value):
    x = torch.zeros(1, 3, 4, 4)
    x[0, 1, 2, 3] = value
    with pytest.raises(BadInput, match="NaN"):
        from_tensor(x, FPS)


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 1, 3, 4, 4)])
def test_from_tensor_refuses_other_shapes(shape):
    with pytest.raises(BadInput, match="shape"):
        from_tensor(torch.zeros(shape), FPS)


@pytest.mark.parametrize(
    ("frames", "fps"),
    [
        (np.zeros((2, 4, 4, 3)), FPS),
        (np.zeros((2, 4, 4), np.uint8), FPS),
        (np.zeros((2, 4, 4, 257), np.uint8), FPS),
        (np.zeros((0, 4, 4, 3), np.uint8), FPS),
        (np.zeros((2, 4, 0, 3), np.uint8), FPS),
        ([[[[0]]]], FPS),
        (np.zeros((2, 4, 4, 3), np.uint8), 25.0),
        (np.zeros((2, 4, 4, 3), np.uint8), Fraction(0)),
        (np.zeros((2, 4, 4, 3), np.uint8), Fraction(-1)),
    ],
)
def test_a_clip_is_frames_and_a_rate(frames, fps):
    with pytest.raises(BadInput, match="give"):
        Clip(frames, fps)


def test_fit_covers_and_crops_the_centre():
    frames = np.zeros((2, 40, 100, 3), np.uint8)
    frames[:, :, 30:70] = 200  # the centred square
    frames[:, :, 30:50, 0] = 50
    fitted = fit(frames, 20, 20)
    assert fitted.shape == (2, 20, 20, 3)
    assert np.abs(fitted[:, :, 3:8].astype(int) - [50, 200, 200]).max() <= 4  # the filter rings at edges
    assert np.abs(fitted[:, :, 12:17].astype(int) - 200).max() <= 4
    tall = fit(frames.transpose(0, 2, 1, 3), 20, 20)
    assert (tall == fitted.transpose(0, 2, 1, 3)).all()


@pytest.mark.parametrize("size", [(24, 32), (96, 128), (7, 31), (50, 3), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_fit_keeps_level_symmetry_and_channels(size, channels):
    flat = np.full((1, 48, 64, channels), 77, np.uint8)
    assert (fit(flat, *size) == 77).all()
    frames = scene(2, channels=channels)
    fitted = fit(frames, *size)
    assert fitted.shape == (2, *size, channels)
    mirrored = fit(np.ascontiguousarray(frames[:, :, ::-1]), *size)[:, :, ::-1]
    assert np.abs(mirrored.astype(int) - fitted).max() <= 2


def test_fit_is_exact_where_nothing_changes_and_smooth_where_it_shrinks():
    frames = scene(2)
    assert fit(frames, 48, 64) is frames
    checks = np.indices((1, 64, 64)).sum(0)[..., None] % 2 * 255
    assert np.abs(fit(checks.astype(np.uint8), 8, 8) - 127.5).max() < 4  # no aliasing


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (-1, 4)])
def test_fit_refuses_no_pixels(size):
    with pytest.raises(BadInput, match="at least 1"):
        fit(scene(1), *size)


def test_channels_follow_itu_601_and_grey_comes_back():
    frames = np.array(list(product([0, 1, 37, 128, 254, 255], repeat=3)), np.uint8).reshape(1, 6, 36, 3)
    luma = with_channels(frames, 1)[..., 0]
    assert np.abs(luma - frames @ [0.299, 0.587, 0.114]).max() <= 0.5 + 1e-3
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert (with_channels(with_channels(grey, 3), 1) == grey).all()
    assert with_channels(frames, 3) is frames
    with pytest.raises(BadInput, match="channels"):
        with_channels(frames, 2)


# Round trips


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".npy", ""])
def test_arrays_and_pictures_are_exact(tmp_path, suffix, channels):
    frames = np.random.default_rng(0).integers(0, 256, (11, 9, 7, channels), np.uint8)
    path = write(tmp_path / f"clip{suffix}", frames)
    assert (array(path) == frames).all()
    if suffix:
        assert (np.load(path) == frames).all()
    else:
        assert sorted(entry.name for entry in path.iterdir()) == [f"{number:06d}.png" for number in range(11)]


@pytest.mark.parametrize("size", [(48, 64), (33, 47)])
@pytest.mark.parametrize("suffix", [*LOSSY, ".gif"])
def test_video_keeps_size_count_order_and_nearly_every_level(tmp_path, suffix, size):
    frames = scene(12, *size)
    back = array(write(tmp_path / f"clip{suffix}", frames))
    assert back.shape == frames.shape
    assert psnr(back, frames) > (35 if suffix == ".gif" else 42)
    assert np.abs((back.astype(float) - frames).mean((0, 1, 2))).max() < 0.3
    nearest = [np.abs(frame.astype(float) - frames).mean((1, 2, 3)).argmin() for frame in back]
    assert nearest == list(range(12))


@pytest.mark.parametrize(("suffix", "times"), [(".mp4", 25), (".webm", 3), (".gif", 3)])
def test_the_same_frames_make_the_same_file(tmp_path, suffix, times):
    frames = scene(12, 40, 40)
    made = set()
    for seed in range(times):
        np.random.default_rng(seed).integers(0, 256, 300_000, np.uint8)  # what the encoder finds in unused memory
        made.add(array(write(tmp_path / f"{seed}{suffix}", frames)).tobytes())
    assert len(made) == 1


@pytest.mark.parametrize("suffix", ALL)
def test_grey_frames(tmp_path, suffix):
    frames = scene(5, channels=1)
    back = array(write(tmp_path / f"clip{suffix}", frames))
    assert back.shape[-1] == (1 if suffix in (".npy", "") else 3)
    assert np.abs(back.astype(int) - frames).mean() < 1.2
    assert np.ptp(back, axis=-1).max() <= 2  # no tint


@pytest.mark.parametrize("channels", [1, 3])
def test_gif_is_exact_where_256_colours_are_enough(tmp_path, channels):
    rng = np.random.default_rng(1)
    colours = rng.integers(0, 256, (256, channels), np.uint8)
    frames = colours[rng.integers(0, 256, (6, 20, 30))]
    frames[3] = frames[2]  # a frame that repeats is still one
    back = array(write(tmp_path / "clip.gif", frames))
    assert (back == frames).all()
    with Image.open(tmp_path / "clip.gif") as picture:
        assert picture.info["loop"] == 0
        for number in range(picture.n_frames):
            picture.seek(number)
            assert (np.asarray(picture.convert("RGB")) == frames[number]).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (16, 2)])
@pytest.mark.parametrize("suffix", ALL)
def test_small_and_odd_sizes(tmp_path, suffix, size):
    back = array(write(tmp_path / f"clip{suffix}", np.full((3, *size, 3), 90, np.uint8)))
    assert back.shape == (3, *size, 3)
    assert np.abs(back.astype(int) - 90).max() <= 2


RATES = [
    Fraction(25),
    Fraction(30000, 1001),
    Fraction(24000, 1001),
    Fraction(15, 2),
    Fraction(1, 3),
    Fraction(60),
]


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("suffix", LOSSY)
def test_video_keeps_the_rate_exactly(tmp_path, suffix, fps):
    path = write(tmp_path / f"clip{suffix}", scene(7, 16, 16), fps)
    assert probe(path).fps == fps
    assert read_clip(path, limit=None).fps == fps
    assert len(array(path)) == 7


@pytest.mark.parametrize(
    ("fps", "kept"), [(25, 25), (30, 30), (24, 24), (10, 10), (Fraction(25, 2), Fraction(25, 2)), (60, 50)]
)
def test_gif_rates_to_hundredths_of_a_second(tmp_path, fps, kept):
    path = write(tmp_path / "clip.gif", scene(13, 8, 8), Fraction(fps))
    assert probe(path).fps == kept
    assert len(array(path)) == 13


# Colour


LEVELS = list(product([0, 64, 128, 191, 255], repeat=3))


@pytest.mark.parametrize("size", [(16, 16), (15, 15)])
@pytest.mark.parametrize("suffix", [*LOSSY, ".gif"])
def test_flat_colours_come_back(tmp_path, suffix, size):
    frames = np.stack([np.full((*size, 3), colour, np.uint8) for colour in LEVELS])
    change = array(write(tmp_path / f"clip{suffix}", frames)).astype(float) - frames
    assert np.abs(change).max() <= 3
    assert np.abs(change.mean((0, 1, 2))).max() < 0.3


@pytest.mark.parametrize("suffix", [*LOSSY, ".gif"])
def test_grey_ramps_come_back(tmp_path, suffix):
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (16, 256, 3))
    frames = np.stack([np.roll(ramp, 9 * shift, 1) for shift in range(4)])
    change = array(write(tmp_path / f"clip{suffix}", frames)).astype(float) - frames
    assert np.abs(change).max() <= 4
    assert abs(change.mean()) < 0.3


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("suffix", LOSSY)
def test_colours_stay_in_their_place(tmp_path, suffix, axis):
    frames = np.full((3, 64, 64, 3), 100, np.uint8)
    frames[..., 2] = np.arange(0, 256, 4).reshape(-1, 1) if axis else np.arange(0, 256, 4)
    change = array(write(tmp_path / f"clip{suffix}", frames)).astype(float) - frames
    assert abs(change[..., 2].mean()) < 0.6  # chroma read half a pixel away from where it was taken makes it 2


@pytest.mark.parametrize("suffix", LOSSY)
def test_video_is_bt709_in_tag_and_in_fact(tmp_path, suffix):
    colour = np.array([30, 200, 90])
    path = write(tmp_path / f"clip{suffix}", np.full((3, 16, 16, 3), colour, np.uint8))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        context = container.streams.video[0].codec_context
        assert (frame.colorspace, frame.color_range) == (1, 1)
        assert (context.color_primaries, context.color_trc) == (1, 1)
        planes = frame.to_ndarray()[:, :16]
    luma = colour @ [0.2126, 0.7152, 0.0722]
    blue, red = (colour[2] - luma) / 1.8556, (colour[0] - luma) / 1.5748
    assert planes[:16].mean() == pytest.approx(16 + luma * 219 / 255, abs=1)
    assert planes[16:20].mean() == pytest.approx(128 + blue * 224 / 255, abs=1)
    assert planes[20:24].mean() == pytest.approx(128 + red * 224 / 255, abs=1)


@pytest.mark.parametrize("tag", [0, 1, 2])
def test_grey_videos_have_one_channel_and_full_range(tmp_path, tag):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
    stored = np.round(16 + ramp * (219 / 255)).astype(np.uint8) if tag == 1 else ramp

    def setup(stream):
        stream.codec_context.color_range = tag

    back = array(encode(tmp_path / "grey.mkv", [stored] * 3, setup=setup))
    assert back.shape == (3, 8, 256, 1)
    assert np.abs(back[..., 0].astype(int) - ramp).max() <= (1 if tag == 1 else 0)
    assert probe(tmp_path / "grey.mkv").channels == 1


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_videos_are_turned_upright(tmp_path, degrees, turns):
    picture = scene(1, 32, 48)[0]
    path = encode(
        tmp_path / "turned.mp4", [picture] * 2, "libx264", "yuv444p", "rgb24",
        setup=lambda stream: stream.set_display_rotation(degrees),
    )  # fmt: skip
    upright = np.rot90(picture, turns)
    back = array(path)
    assert back.shape[1:] == upright.shape
    assert psnr(back[0], upright) > 30
    assert (probe(path).height, probe(path).width) == upright.shape[:2]


# Streams


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize(
    ("start", "stop", "stride"), [(0, None, 1), (0, 3, 1), (2, 9, 3), (5, None, 4), (8, 9, 1), (3, 99, 2)]
)
def test_ranges_are_slices(tmp_path, suffix, start, stop, stride):
    path = write(tmp_path / f"clip{suffix}", scene(10, 16, 16))
    whole = array(path)
    part = array(path, start=start, stop=stop, stride=stride)
    assert (part == whole[start:stop:stride]).all()
    assert len(whole) == 10


def test_nothing_after_the_stop_is_touched(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), np.uint8)
    path = write(tmp_path / "clip.mp4", frames)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert len(array(path, stop=3)) == 3
    with pytest.raises(MediaError, match="damaged after frame"):
        array(path)


def test_skipped_frames_are_not_converted(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mp4", scene(20, 16, 16))
    made = []
    pixels = sources._pixels
    monkeypatch.setattr(sources, "_pixels", lambda frame, *how: made.append(frame.pts) or pixels(frame, *how))
    assert len(array(path, start=6, stop=15, stride=4)) == 3
    assert len(made) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".npy", ""])
def test_memory_does_not_grow_with_the_clip(tmp_path, suffix):
    picture = scene(1, 128, 128)[0] // 32 * 32

    def peak(length):
        path = tmp_path / f"clip{length}{suffix}"
        tracemalloc.start()
        write(path, (np.roll(picture, number, 1) for number in range(length)))
        count = sum(1 for _ in read(path))
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == length
        return high

    peak(2)  # imports and caches
    assert peak(100) < peak(10) + 4 * picture.nbytes


def test_a_reader_that_stops_early_lets_go_of_the_file(tmp_path):
    path = write(tmp_path / "clip.mp4", scene(10, 16, 16))
    frames = read(path)
    next(frames)
    frames.close()
    assert not any(path.samefile(link) for link in Path("/proc/self/fd").iterdir() if link.exists())


def test_read_clip_takes_the_limit_and_the_rate(tmp_path):
    path = write(tmp_path / "clip.mp4", scene(10, 16, 16), Fraction(30))
    clip = read_clip(path, limit=3, start=1, stride=2)
    assert clip.fps == 15
    assert (clip.frames == array(path)[1:7:2]).all()
    assert len(read_clip(path, limit=99)) == len(read_clip(path, limit=None)) == 10
    assert read_clip(path, limit=1, fps=Fraction(7)).fps == 7
    with pytest.raises(BadInput, match="limit"):
        read_clip(path, limit=0)


@pytest.mark.parametrize("options", [{"start": -1}, {"stride": 0}, {"start": 3, "stop": 3}, {"stop": 0}])
def test_impossible_ranges(tmp_path, options):
    path = write(tmp_path / "clip.npy", scene(4, 4, 4))
    with pytest.raises(BadInput, match="stride"):
        read(path, **options)


def test_a_start_beyond_the_end(tmp_path):
    path = write(tmp_path / "clip.npy", scene(4, 4, 4))
    with pytest.raises(MediaError, match="no frame 4"):
        array(path, start=4)


def test_probe(tmp_path):
    info = probe(write(tmp_path / "clip.mp4", scene(9, 33, 47), Fraction(24000, 1001)))
    assert (info.width, info.height, info.channels) == (47, 33, 3)
    assert (info.fps, info.frames, info.name) == (Fraction(24000, 1001), 9, "h264")
    assert probe(write(tmp_path / "clip.mkv", scene(9, 16, 16))).frames is None
    assert probe(write(tmp_path / "clip.npy", scene(9, 16, 16, 1))).frames == 9
    assert probe(write(tmp_path / "clip", scene(9, 16, 16))).name == "png"
    assert probe(write(tmp_path / "clip.gif", scene(9, 16, 16))).name == "gif"


def test_files_need_no_torch():
    program = "import sys, framefill.video.files; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


# Pictures and arrays


def flat(level, size=(8, 8), mode="RGB"):
    return Image.new(mode, size, (level,) * 3 if mode == "RGB" else level)


def test_pictures_in_natural_order(tmp_path):
    for number in (1, 2, 10, 9, 100):
        flat(number).save(tmp_path / f"frame{number}.png")
    flat(50).save(tmp_path / ".hidden.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    assert array(tmp_path)[:, 0, 0, 0].tolist() == [1, 2, 9, 10, 100]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".bmp", ".tif", ".webp", ".ppm"])
def test_kinds_of_pictures(tmp_path, suffix):
    for number in range(3):
        flat(40 * number).save(tmp_path / f"{number}{suffix}", lossless=True)
    assert np.abs(array(tmp_path).astype(int) - np.array([0, 40, 80])[:, None, None, None]).max() <= 1
    assert array(tmp_path / f"1{suffix}").shape == (1, 8, 8, 3)


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)])
def test_modes_of_pictures(tmp_path, mode, channels):
    Image.fromarray(scene(1, 8, 8)[0]).convert(mode).save(tmp_path / "0.png")
    assert array(tmp_path).shape == (1, 8, 8, channels)


def test_16_bit_pictures_keep_their_range(tmp_path):
    Image.fromarray(np.array([[0, 257, 32768, 65535]], np.uint16)).save(tmp_path / "0.png")
    assert array(tmp_path).ravel().tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_float_arrays_are_levels_from_0_to_1(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.array([0, 0.25, 0.5, 1]).reshape(2, 1, 2).astype(dtype))
    assert array(tmp_path / "a.npy").tolist() == [[[[0], [64]]], [[[128], [255]]]]


def test_fortran_and_grey_arrays(tmp_path):
    frames = scene(3, 5, 7)
    np.save(tmp_path / "f.npy", np.asfortranarray(frames))
    np.save(tmp_path / "g.npy", frames[..., 0])
    assert (array(tmp_path / "f.npy") == frames).all()
    assert (array(tmp_path / "g.npy") == frames[..., :1]).all()


# What is not a clip


def audio(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


def pictures(path, *images):
    path.mkdir()
    for number, image in enumerate(images):
        image.save(path / f"{number}.{'tif' if image.mode == 'F' else 'png'}")


def cut_short(path, share):
    write(path, np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


BAD = {
    "missing.mp4": (lambda path: None, "no such file"),
    "missing": (lambda path: None, "no such file"),
    "empty.mp4": (lambda path: path.touch(), "cannot be read"),
    "empty.gif": (lambda path: path.touch(), "cannot be read"),
    "empty.npy": (lambda path: path.touch(), "cannot be read"),
    "empty.png": (lambda path: path.touch(), "cannot be read"),
    "text.mp4": (lambda path: path.write_text("once upon a time\n" * 500), "cannot be read"),
    "text.txt": (lambda path: path.write_text("once upon a time\n" * 500), "cannot be read"),
    "text.npy": (lambda path: path.write_text("once upon a time\n" * 500), "cannot be read"),
    "short.mp4": (lambda path: cut_short(path, 0.6), "damaged after frame"),
    "shorter.mp4": (lambda path: cut_short(path, 0.02), "cannot be read"),
    "short.gif": (lambda path: cut_short(path, 0.01), "cannot be read"),
    "short.npy": (lambda path: cut_short(path, 0.6), "cannot be read"),
    "sound.m4a": (audio, "only sound"),
    "folder": (lambda path: path.mkdir(), "no pictures"),
    "sizes": (lambda path: pictures(path, flat(1), flat(1, (9, 8))), "one shape"),
    "modes": (lambda path: pictures(path, flat(1), flat(1, mode="L")), "one shape"),
    "float": (lambda path: pictures(path, flat(1.0, mode="F")), "32-bit"),
    "int.npy": (lambda path: np.save(path, np.zeros((2, 4, 4), np.int32)), "int32"),
    "bool.npy": (lambda path: np.save(path, np.zeros((2, 4, 4), bool)), "bool"),
    "flat.npy": (lambda path: np.save(path, np.zeros((4, 4), np.uint8)), "shape"),
    "deep.npy": (lambda path: np.save(path, np.zeros((1, 2, 4, 4, 3), np.uint8)), "shape"),
    "four.npy": (lambda path: np.save(path, np.zeros((2, 4, 4, 257), np.uint8)), "shape"),
    "none.npy": (lambda path: np.save(path, np.zeros((0, 4, 4), np.uint8)), "shape"),
    "nan.npy": (lambda path: np.save(path, np.full((2, 4, 4), np.nan)), "NaN"),
    "inf.npy": (lambda path: np.save(path, np.full((2, 4, 4), np.inf)), "NaN"),
    "bytes.npy": (lambda path: np.save(path, np.full((2, 4, 4), 200.0)), "outside"),
    "pickle.npy": (lambda path: np.save(path, np.array([[[{}]]], object)), "cannot be read"),
    "zip.npy": (lambda path: np.savez(path.open("wb"), a=np.zeros((2, 4, 4))), "several"),
    "x" * 300 + ".mp4": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("door", [lambda path: list(read(path)), lambda path: read_clip(path, limit=None)])
def test_what_is_not_a_clip_is_one_clear_line(tmp_path, capfd, name, door):
    make, reason = BAD[name]
    make(tmp_path / name)
    with pytest.raises(MediaError, match=reason) as caught:
        door(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_devices_are_not_clips():
    with pytest.raises(MediaError, match="no such file"):
        read("/dev/zero")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_not_run(tmp_path):
    (tmp_path / "a.npy").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(MediaError, match="cannot be read"):
        array(tmp_path / "a.npy")
    assert not (tmp_path / "sprung").exists()


def test_titles_in_unknown_encodings_do_not_matter(tmp_path):
    def setup(stream):
        stream.container.metadata["title"] = "Xyzzy"

    path = encode(tmp_path / "a.mkv", [scene(1, 16, 16)[0, ..., 0]] * 3, setup=setup)
    assert b"Xyzzy" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"Xyzzy", b"\xff\xfe\xff\xfe\xff"))
    assert len(array(path)) == 3


def test_no_picture_that_the_decoder_calls_damaged_is_given_out(tmp_path):
    content = write(
        tmp_path / "clip.mp4", np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8)
    ).read_bytes()
    half, corrupt = len(content) // 2, 0
    path = tmp_path / "damaged.mp4"
    for seed in range(12):
        path.write_bytes(content[:half] + np.random.default_rng(seed).bytes(400) + content[half + 400 :])
        with suppress(av.FFmpegError), av.open(str(path)) as container:
            if any(frame.is_corrupt for frame in container.decode(video=0)):
                corrupt += 1
                with pytest.raises(MediaError, match="damaged after frame"):
                    array(path)
    assert corrupt


@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.txt"])
@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:1,\n{}\n", "ffconcat version 1.0\nfile '{}'\n"])
def test_a_file_that_names_another_does_not_open_it(tmp_path, name, text):
    write(tmp_path / "private.mp4", scene(3, 16, 16))
    (tmp_path / name).write_text(text.format("private.mp4"))
    with pytest.raises(MediaError, match="cannot be read"):
        array(tmp_path / name)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".npy", ""])
def test_frames_have_a_largest_size(tmp_path, monkeypatch, suffix):
    path = write(tmp_path / f"clip{suffix}", scene(2, 96, 128))
    monkeypatch.setattr(stacks, "MAX_PIXELS", 96 * 128)
    assert len(array(path)) == 2
    monkeypatch.setattr(stacks, "MAX_PIXELS", 96 * 128 - 1)
    with pytest.raises(MediaError, match="128x96 pixels"):
        array(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8200, 14000])
def test_a_small_file_with_a_huge_picture_is_not_unpacked(tmp_path, side):
    Image.new("1", (side, side)).save(tmp_path / "0.png")
    tracemalloc.start()
    with pytest.raises(MediaError, match="pixels"):
        array(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory):
    """One whole file of every kind, by its name."""
    folder = tmp_path_factory.mktemp("sound")
    frames = np.random.default_rng(0).integers(0, 256, (6, 24, 32, 3), np.uint8)
    np.save(folder / "float.npy", frames / 255)
    np.savez(folder / "a.npz", frames)
    np.savez_compressed(folder / "b.npz", frames)
    first, *others = map(Image.fromarray, frames)
    first.save(folder / "a.tif", save_all=True, append_images=others)
    first.save(folder / "a.png")
    for name in ("a.mp4", "a.mkv", "a.webm", "a.gif", "a.npy", "a.h5"):
        write(folder / name, frames)
    write(folder / "b.mkv", frames, Plan(FPS, codec="ffv1"))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def damaged(data, changes, early, keep):
    data = bytearray(data)
    reach = min(len(data) - 1, 600) if early else len(data) - 1  # headers are where the harm is
    for place, value in changes:
        data[int(place * reach)] = value
    return data[: int(keep * len(data))]


def read_or_refuse(path):
    with suppress(MediaError):
        assert all(frame.dtype == np.uint8 for frame in read(path, stop=50))
        assert all(frame.dtype == np.uint16 for frame in read(path, stop=50, deep=True))
        assert probe(path).fps > 0
        assert clock(path).fps > 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, 11),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
    early=st.booleans(),
    keep=st.just(1.0) | st.floats(0, 1),
)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_read_or_refused(tmp_path, sound_files, which, changes, early, keep):
    name = list(sound_files)[which]
    path = tmp_path / f"fuzz-{name}"
    path.write_bytes(damaged(sound_files[name], changes, early, keep))
    read_or_refuse(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_thousand_damaged_files(tmp_path, sound_files):
    rng = np.random.default_rng(0)
    for number in range(2000):
        name = list(sound_files)[number % len(sound_files)]
        changes = list(zip(rng.random(number % 13), rng.integers(0, 256, number % 13), strict=True))
        path = tmp_path / f"fuzz-{name}"
        path.write_bytes(damaged(sound_files[name], changes, rng.random() < 0.5, 1 if number % 3 else rng.random()))
        read_or_refuse(path)


# Writing


def test_an_existing_file_is_kept(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_text("precious")
    with pytest.raises(MediaError, match="exists already"):
        Writer(path, FPS)
    assert path.read_text() == "precious"
    write(path, scene(3, 16, 16), overwrite=True)
    assert len(array(path)) == 3


def test_a_folder_is_replaced_only_if_it_is_a_clip(tmp_path):
    path = write(tmp_path / "clip", scene(5, 16, 16))
    with pytest.raises(MediaError, match="exists already"):
        Writer(path, FPS)
    write(path, scene(2, 16, 16), overwrite=True)
    assert len(array(path)) == 2
    (path / "thesis.tex").write_text("precious")
    with pytest.raises(MediaError, match="more than numbered PNGs"):
        Writer(path, FPS, overwrite=True)
    assert (path / "thesis.tex").exists()
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(MediaError, match="folder"):
        Writer(tmp_path / "folder.mp4", FPS, overwrite=True)


def test_a_folder_replaces_a_file(tmp_path):
    (tmp_path / "clip").write_text("old")
    assert len(array(write(tmp_path / "clip", scene(2, 16, 16), overwrite=True))) == 2


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("after", [0, 4])
def test_a_failure_leaves_nothing_and_keeps_the_old(tmp_path, suffix, after):
    old = write(tmp_path / f"old{suffix}", scene(2, 16, 16))
    before = array(old)

    def interrupted():
        yield from scene(after, 16, 16) if after else ()
        raise KeyboardInterrupt

    for path in (old, tmp_path / f"new{suffix}"):
        with pytest.raises(KeyboardInterrupt):
            write(path, interrupted(), overwrite=True)
    assert list(tmp_path.iterdir()) == [old]
    assert (array(old) == before).all()


@pytest.mark.parametrize("suffix", ALL)
def test_a_file_appears_when_it_is_whole(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    with Writer(path, FPS) as writer:
        for frame in scene(3, 16, 16):
            writer.write(frame)
            assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ALL)
def test_no_frames_are_no_clip(tmp_path, suffix):
    with pytest.raises(MediaError, match="no frames"), Writer(tmp_path / f"clip{suffix}", FPS):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((8, 8, 3)),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 9, 3), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        None,
    ],
)
def test_frames_of_another_kind_are_refused(tmp_path, frame):
    with pytest.raises(BadInput, match="give"):
        write(tmp_path / "clip.mp4", [np.zeros((8, 8, 3), np.uint8), frame])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fps", [Fraction(0), Fraction(-1), 25.0, float("nan"), "25"])
def test_rates_that_are_none(tmp_path, fps):
    with pytest.raises(BadInput, match="fps"):
        Writer(tmp_path / "clip.mp4", fps)


@pytest.mark.parametrize("place", ["clip.xyz", "none/clip.mp4", "file/clip.mp4", "/proc/clip.mp4", "/proc/clip"])
def test_places_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(MediaError) as caught:
        write(tmp_path / place, scene(1, 16, 16))
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_a_size_that_the_format_cannot_hold(tmp_path, suffix):
    with pytest.raises(MediaError, match="cannot be written"):
        write(tmp_path / f"clip{suffix}", np.zeros((1, 2, 70_000, 3), np.uint8))
    assert not list(tmp_path.iterdir())
