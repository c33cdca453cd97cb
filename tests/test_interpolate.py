"""`framefill interpolate` as a video job: times, sound, depth, colours, interruptions, and what cannot be done."""

import json
from fractions import Fraction
from itertools import pairwise

import av
import pytest

from framefill.video.files import clock, probe
from test_doors import UNEVEN, film, packets
from test_video_files import array, scene, write


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
