"""Interpolation as long work: kills, full disks, memory, previews, several samples."""

import json
import time
import tracemalloc
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from children import command, ended, start, wait_until
from framefill.errors import BadInput, NotWritten
from framefill.video import parts
from framefill.video.between.engine import Drawing, Known
from framefill.video.between.policies import Blend, Hold
from framefill.video.between.timeline import times
from framefill.video.clock import Clock
from framefill.video.deliver import Target
from framefill.video.files import Plan, probe, read_clip
from test_cli import refused
from test_doors import film, packets
from test_interpolate import left, made
from test_survival import own_disk
from test_video_files import array, scene, write


def same(folder: Path, other: Path) -> None:
    """Two folders hold the same files, byte for byte, and nothing hidden."""
    here, there = (
        {p.relative_to(one): p.read_bytes() for p in one.rglob("*") if p.is_file()} for one in (folder, other)
    )
    assert here == there
    assert not [name for name in left(folder) if name.startswith(".")]


# Interruptions


def job(source: Path, out: Path, length: int = 5, wait: float = 0.0) -> None:
    """The command with short parts, so that there are many, and a rest after each."""
    parts.LENGTH, parts.SHOWN = length, 4 * length
    make, join = parts.Parts._make, parts.join
    parts.Parts._make = lambda *words: (make(*words), time.sleep(wait))
    parts.join = lambda *words: (join(*words), time.sleep(wait))[0]
    command("interpolate", source, "--times", 3, "-o", out)


SLOW = pytest.mark.slow


JOINED = ".*/whole.mp4"
MOMENTS = (".*/000000-1.*", ".*/000004-1.*", ".*/*7-1.*")


@pytest.mark.parametrize(
    ("name", "moments"),
    [
        ("b.mp4", MOMENTS[1:2]),
        pytest.param("b.mp4", (*MOMENTS, JOINED), marks=SLOW),
        pytest.param("b.npy", MOMENTS, marks=SLOW),
        pytest.param("b.png", MOMENTS, marks=SLOW),
    ],
)
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path, name, moments):
    source, out, log = film(tmp_path / "a.mp4", range(0, 800, 40), sound=30), tmp_path / "out", tmp_path / "log"
    assert ended([start(job, source, tmp_path / "whole" / name, log=log)]) == [0]
    for there in moments:
        child = start(job, source, out / name, 5, 0.3, log=log)
        wait_until(lambda there=there, child=child: list(out.glob(there)) or child.exitcode is not None)
        child.kill()
        child.join()
        assert child.exitcode == -9, log.read_text()
        assert not (out / name).exists()
    assert ended([start(job, source, out / name, log=log)]) == [0], log.read_text()
    assert "went on from" in log.read_text()
    same(out, tmp_path / "whole")


def test_parts_that_are_there_are_not_made_again(tmp_path, monkeypatch):
    """Stopped in its third part, a job makes two frames of what it had and not one of the first parts."""
    monkeypatch.setattr(parts, "LENGTH", 4)
    monkeypatch.setattr(parts, "SHOWN", 16)
    frames, asked = scene(6), []

    def shown(stop=None):
        timeline = times(Clock(Fraction(25)), 2)
        known = (Known(frame, timeline.gap(number)) for number, frame in enumerate(frames))
        for number, one in enumerate(Drawing(Blend(), Hold()).stream(known)):

            def pixels(number=number, one=one):
                asked.append(number)
                if number == stop:
                    raise KeyboardInterrupt
                return one.pixels()

            yield one.__class__(one.time, one.given, pixels)  # fmt: skip

    def run(name, stop=None):
        target = Target(tmp_path / name, "b")
        target.folder.mkdir(exist_ok=True)
        with parts.kept(target.folder / ".b.parts") as folder:
            work = parts.Parts(folder, target, Plan(Fraction(50), Fraction(1, 50)), 1)
            work.make(shown(stop), lambda: None)
            return work.finish(Fraction(12, 50)), work.found

    with pytest.raises(KeyboardInterrupt):
        run("out", 9)
    assert {p.name for p in (tmp_path / "out" / ".b.parts").glob("*.mp4")} == {"000000-1.mp4", "000001-1.mp4"}
    asked.clear()
    result, found = run("out")
    assert (found, asked, result["frames"], result["made"]) == (2, [8, 9, 10, 11], 12, 5)
    run("whole")
    same(tmp_path / "out", tmp_path / "whole")


def test_parts_of_bad_input_go_and_parts_of_a_full_disk_stay(tmp_path):
    for error, there in ((BadInput("x"), False), (NotWritten("x"), True), (KeyboardInterrupt(), True)):
        folder = tmp_path / ".parts"
        with pytest.raises(type(error)), parts.kept(folder):
            raise error
        assert folder.exists() == there
    with parts.kept(folder), pytest.raises(BadInput, match="another process"), parts.kept(folder):
        pass
    with pytest.raises(NotWritten, match="cannot be written"), parts.kept(tmp_path / "no" / ".parts"):
        pass


def on_a_small_disk(source: Path, place: Path) -> None:
    if not own_disk(place, 60_000):
        print("null")
        return
    try:
        job(source, place / "b.mp4", 60)
    except SystemExit as error:
        print(json.dumps([error.code, [p.name for p in place.iterdir() if p.suffix == ".mp4"]]))


def test_a_full_disk_is_one_line_and_no_half_film(tmp_path):
    source = write(tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3)).astype(np.uint8))
    (tmp_path / "disk").mkdir()
    assert ended([start(on_a_small_disk, source, tmp_path / "disk", log=tmp_path / "log")]) == [0]
    told = (tmp_path / "log").read_text().splitlines()
    if told[-1] == "null":
        pytest.skip("this machine lets nobody mount a disk")
    assert json.loads(told[-1]) == [2, []]
    assert [line for line in told if line.startswith("framefill: ")] == [told[0]]
    assert f"{tmp_path}/disk/b.mp4: cannot be written: No space left on device" in told[0]


# Memory


def numbers(length: int, size: tuple[int, int]):
    """A film that is made as it is read."""
    still = scene(1, *size)[0]
    return (np.roll(still, number % 7, 1) for number in range(length))


def test_memory_does_not_grow_with_the_film(tmp_path):
    def peak(length):
        timeline = times(Clock(Fraction(25)), 2)
        known = (Known(f, timeline.gap(i)) for i, f in enumerate(numbers(length, (90, 160))))
        target = Target(tmp_path, f"a{length}", ".npy")
        tracemalloc.start()
        with parts.kept(tmp_path / ".parts") as folder:
            work = parts.Parts(folder, target, Plan(Fraction(50), Fraction(1, 50)), 1)
            work.make(Drawing(Blend(), Hold()).stream(known), lambda: None)
            high = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return high

    peak(5)
    few, many = peak(20), peak(200)
    assert many < few + 2 * 90 * 160 * 3 * 4 + 180 * 2 * 100


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_memory_is_flat_for_three_thousand_frames_of_1080p(tmp_path):
    """Of the whole process, encoders and decoders included, from film to film; previews hold 240 frames."""
    peaks = []
    for length in (400, 3000):
        with av.open(str(tmp_path / f"{length}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
            for frame in numbers(length, (1080, 1920)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            container.mux(stream.encode(None))
        log = tmp_path / f"{length}.log"
        assert ended([start(measured, tmp_path / f"{length}.mp4", tmp_path / "out", log=log)], 3000) == [0]
        peaks.append(int(log.read_text().splitlines()[-1]))
    assert peaks[1] < 1.1 * peaks[0]


def measured(source: Path, out: Path) -> None:
    """Prints the kilobytes that making almost every frame anew takes at most, by a blend: motion would take hours."""
    import resource

    from framefill.video.between import tier

    tier.Fast.__call__ = Blend.__call__
    command("interpolate", source, "--tier", "fast", "--fps", 26, "-o", out, "-y")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


# What else is asked of a job


def shots(path: Path) -> Path:
    """A film of two shots, the second from frame 12 on."""
    return write(path, [*scene(12, 60, 80), *(255 - scene(12, 60, 80))])


@SLOW
def test_cuts_are_found_saved_read_and_held(call, tmp_path):
    path, listed = shots(tmp_path / "a.mp4"), tmp_path / "cuts.txt"
    found = made(call, path, "--save-cuts", listed, "-o", tmp_path / "b.npy")
    assert found["cuts"] == 1
    assert listed.read_text().splitlines()[1] == "12  # 0.480 s"
    frames, given = np.load(tmp_path / "b.npy"), array(path)
    assert (frames[23] == given[11]).all()
    made(call, path, "--cuts", listed, "-o", tmp_path / "c.npy")
    assert (np.load(tmp_path / "c.npy") == frames).all()


@SLOW
def test_cuts_are_blended_or_passed_over_when_asked(call, tmp_path):
    path, given = shots(tmp_path / "a.mp4"), array(tmp_path / "a.mp4")
    blended = made(call, path, "--at-cuts", "blend", "-o", tmp_path / "d.npy")
    assert blended["cuts"] == 1
    half = (given[11].astype(int) + given[12]) / 2
    assert np.abs(np.load(tmp_path / "d.npy")[23] - half).max() <= 0.5
    assert made(call, path, "--cuts", "none", "-o", tmp_path / "e.npy")["cuts"] == 0
    assert (np.load(tmp_path / "e.npy")[23] != given[11]).any()


def test_repeats_are_spread_when_asked(call, tmp_path):
    frames = scene(8, 40, 48)[::2].repeat(2, 0)
    np.save(tmp_path / "a.npy", frames)
    made(call, tmp_path / "a.npy", "-o", tmp_path / "b.npy")
    assert (np.load(tmp_path / "b.npy")[::2] == frames).all()
    made(call, tmp_path / "a.npy", "--repeats", "spread", "-o", tmp_path / "c.npy")
    after = np.load(tmp_path / "c.npy")
    assert len(after) == 15
    moved = [np.abs(b.astype(int) - a).mean() for a, b in pairwise(after)][:12]
    assert min(moved) > 0.1  # nothing stands still


def test_a_preview_is_the_beginning_under_its_own_name(call, tmp_path):
    path = film(tmp_path / "a.mp4", range(0, 2000, 40), sound=80)
    result = made(call, path, "--preview", "0.4s", "-o", tmp_path / "b.mp4")
    assert result["videos"] == [str(tmp_path / "b-first-0.4s.mp4")]
    assert result["frames"] == 20
    heard = packets(tmp_path / "b-first-0.4s.mp4", "audio")
    assert heard == [packet for packet in packets(path, "audio") if packet[0] <= Fraction(2, 5)]
    assert made(call, path, "--preview", "1s", "--dry-run", "-o", tmp_path / "c")["would_write"] == str(
        tmp_path / "c" / "a-x2-first-1s.mp4"
    )


@SLOW
def test_small_pictures_for_people(call, tmp_path):
    np.save(tmp_path / "a.npy", scene(3, 700, 1300))
    made(call, tmp_path / "a.npy", "-o", tmp_path / "b.npy")
    preview = probe(tmp_path / "b-preview.gif")
    assert max(preview.width, preview.height) < 400


def test_tiers_that_are_there(call, tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", scene(5))
    out = ("-o", tmp_path / "b.mp4")
    assert made(call, path, *out, "--tier", "fast")["tier"] == "fast"
    bought = call("interpolate", path, *out, "--time", "1h", "-y", "--json")
    assert bought[0] == 0
    assert "about 0 s for 5 frames (--time 1h)" in bought[2]
    monkeypatch.setattr("framefill.checkpoint.shipped", dict)
    for words, told in [
        (("--tier", "best"), "the tier best is not there"),
        (("--tier", "fast", "--samples", 2), "fast has one answer for every frame"),
        (("--tier", "fast", "--calls", 4), "fast has one answer for every frame"),
        (("--tier", "fast", "--time", "1s"), "give one of them"),
        (("--time", "soon"), "cannot read --time"),
        (("--model", tmp_path / "no.safetensors"), "no model file"),
    ]:
        refused(call("interpolate", path, *words, *out, "-y"), told)


def test_a_model_of_ones_own(call, tmp_path, monkeypatch):
    """A repair network works on whole films as it does through the library; in both it is the same as alone."""
    import torch

    import framefill
    from framefill.checkpoint import Card
    from framefill.nets.repair import Repair
    from framefill.video.between.tier import Balanced

    torch.manual_seed(0)
    product = Balanced(Repair(3, features=(4, 4, 4, 4)).eval())
    monkeypatch.setattr("framefill.checkpoint.read_card", lambda path: Card("interpolation", "tiny", {}))
    monkeypatch.setattr("framefill.checkpoint.load", lambda name, device: product)
    path = write(tmp_path / "a.mp4", scene(4))
    result = made(call, path, "--model", "mine", "--source-fps", 10, "-o", tmp_path / "b.npy")
    assert (result["made"], result["calls"], result["tier"]) == (3, 0, "mine")
    direct = framefill.Interpolator(product).interpolate(read_clip(path, limit=None), times=2)
    assert (direct.frames[0] == np.load(tmp_path / "b.npy")).all()
    refused(call("interpolate", path, "--model", "mine", "-n", 2, "-o", tmp_path / "c.npy"), "mine has one answer")
    monkeypatch.setattr("framefill.checkpoint.load", lambda name, device: "a model of something else")
    refused(call("interpolate", path, "--model", "mine", "-o", tmp_path / "c.npy"), "not a model of frames between two")


def test_a_video_model_still_divides_gaps(call, small, card, tmp_path):
    import framefill

    framefill.save(small.product(small.model().eval(), card=card), tmp_path / "m.safetensors")
    path = write(tmp_path / "a.mp4", scene(5, 64, 64))
    words = ("interpolate", path, "-m", tmp_path / "m.safetensors", "-o", tmp_path / "b.npy")
    refused(call(*words, "--fps", 60), "divides every gap evenly; give --times")
    for more in (("--tier", "fast"), ("--time", "5s"), ("--save-cuts", tmp_path / "cuts.txt"), ("--cuts", "none")):
        refused(call(*words, "--times", 2, *more), f"{more[0]} is for the tiers")
    assert call(*words, "--times", 2)[0] == 0
    assert len(np.load(tmp_path / "b.npy")) == 9


class Drawn(Blend):
    """A blend with noise: a tier that draws."""

    def __call__(self, frames, times, rng):
        blend = super().__call__(frames, times, rng)
        return blend + 0.1 * rng.normal(blend.shape[1:])


def test_several_samples_have_a_spread(tmp_path):
    timeline = times(Clock(Fraction(25)), 2)
    film_ = [Known(frame, timeline.gap(i)) for i, frame in enumerate(scene(4))]
    with parts.kept(tmp_path / ".parts") as folder:
        work = parts.Parts(folder, Target(tmp_path, "b"), Plan(Fraction(50), Fraction(1, 50)), 3)
        work.make(Drawing(Drawn(), Hold(), samples=3).stream(film_), lambda: None)
        result = work.finish(Fraction(8, 50))
    assert len(result["videos"]) == 3
    one, two = (array(path) for path in result["videos"][:2])
    assert np.abs(one[::2].astype(int) - two[::2]).mean() < 2 < np.abs(one[1:7:2].astype(int) - two[1:7:2]).mean()
    spread = array(result["spread"])
    assert spread[1].mean() > 10 + spread[0].mean()
    assert spread[1].max() > 150  # 0.1 of the range are more levels than are shown brightest
    assert len(spread) == 8
