"""Interpolation as long work: kills, full disks, memory, previews, several samples."""

import json
import time
import tracemalloc
from fractions import Fraction
from pathlib import Path

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
from framefill.video.files import Plan
from test_doors import film
from test_interpolate import left
from test_survival import own_disk
from test_video_files import scene, write


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


@pytest.mark.parametrize("name", ["b.mp4", "b.npy", "b.png"])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path, name):
    source, out, log = film(tmp_path / "a.mp4", range(0, 800, 40), sound=30), tmp_path / "out", tmp_path / "log"
    assert ended([start(job, source, tmp_path / "whole" / name, log=log)]) == [0]
    late = [".*/whole.mp4"] if name == "b.mp4" else []
    for there in (".*/000000-1.*", ".*/000004-1.*", ".*/*7-1.*", *late):
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
    assert "cannot be written: No space left on device" in told[0]


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
